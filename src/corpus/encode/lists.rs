//! Pages of the two columns of lists, made here because tokenizing waits for them: the Parquet library compares every level
//! and hashes every value, where a cell is two runs of levels and a value one table lookup.
//!
//! Format: <https://parquet.apache.org/docs/file-format/data-pages/encodings>.

use std::iter;
use std::ops::Range;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::{Chunk, LEVEL, zstd};

/// Tokens of a page, or those of one cell if it has more.
const PAGE_TOKENS: usize = 1 << 18;
/// Distinct values that a dictionary holds; more are stored plainly.
const MOST_DISTINCT: usize = 1 << 16;
/// Differences that are stored above the least of them.
const BLOCK: usize = 128;
/// Differences that share one bit width.
const MINIBLOCK: usize = 32;

/// Gene ids as differences, packed in as few bits as 32 of them need.
pub(super) fn genes(column: ColumnDescPtr, offsets: &[usize], genes: &[u32]) -> Result<Chunk> {
    let mut lists = Lists::new(offsets, Encoding::DELTA_BINARY_PACKED, None);
    for cells in pages(offsets) {
        lists.add(cells, |tokens, body| differences(&genes[tokens], body))?;
    }
    lists.finish(column, Compression::UNCOMPRESSED)
}

/// Values as positions in a dictionary, compressed; plainly where too many are distinct.
pub(super) fn values(column: ColumnDescPtr, offsets: &[usize], values: &[f32]) -> Result<Chunk> {
    let compressor = Some(Compressor::new(LEVEL)?);
    let mut lists;
    if let Some((distinct, positions)) = dictionary(values) {
        lists = Lists::new(offsets, Encoding::RLE_DICTIONARY, compressor);
        lists.add_dictionary(&distinct)?;
        let width = width(distinct.len().saturating_sub(1) as u64);
        for cells in pages(offsets) {
            lists.add(cells, |tokens, body| {
                packed_positions(&positions[tokens], width, body)
            })?;
        }
    } else {
        lists = Lists::new(offsets, Encoding::PLAIN, compressor);
        for cells in pages(offsets) {
            lists.add(cells, |tokens, body| plain(&values[tokens], body))?;
        }
    }
    lists.finish(column, zstd()?)
}

/// The cells of every page.
fn pages(offsets: &[usize]) -> Vec<Range<usize>> {
    let (mut pages, mut start) = (Vec::new(), 0);
    for end in 1..offsets.len() {
        let is_full = |next: &usize| next - offsets[start] > PAGE_TOKENS;
        if offsets.get(end + 1).is_none_or(is_full) {
            pages.push(start..end);
            start = end;
        }
    }
    pages
}

/// A column of lists being written.
struct Lists<'a> {
    offsets: &'a [usize],
    encoding: Encoding,
    compressor: Option<Compressor<'static>>,
    sink: TrackedWrite<Vec<u8>>,
    /// Where the data begin, behind the dictionary.
    data: usize,
    entries: usize,
    decompressed: usize,
}

impl<'a> Lists<'a> {
    fn new(
        offsets: &'a [usize],
        encoding: Encoding,
        compressor: Option<Compressor<'static>>,
    ) -> Self {
        Self {
            offsets,
            encoding,
            compressor,
            sink: TrackedWrite::new(Vec::new()),
            data: 0,
            entries: 0,
            decompressed: 0,
        }
    }

    fn add_dictionary(&mut self, distinct: &[f32]) -> Result<()> {
        let mut body = Vec::new();
        plain(distinct, &mut body);
        self.write(body, |buf| Page::DictionaryPage {
            buf,
            num_values: distinct.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
        self.data = self.sink.bytes_written();
        Ok(())
    }

    /// Adds a page of cells, whose tokens `encode` appends.
    fn add(
        &mut self,
        cells: Range<usize>,
        encode: impl FnOnce(Range<usize>, &mut Vec<u8>),
    ) -> Result<()> {
        let offsets = &self.offsets[cells.start..=cells.end];
        // A token takes a byte or two.
        let tokens = offsets[offsets.len() - 1] - offsets[0];
        let (mut body, encoding) = (Vec::with_capacity(2 * tokens), self.encoding);
        let entries = levels(offsets, &mut body);
        encode(offsets[0]..offsets[offsets.len() - 1], &mut body);
        self.entries += entries;
        self.write(body, |buf| Page::DataPage {
            buf,
            num_values: entries as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })
    }

    fn write(&mut self, body: Vec<u8>, page: impl FnOnce(Bytes) -> Page) -> Result<()> {
        let size = body.len();
        let body = match &mut self.compressor {
            Some(compressor) => compressor.compress(&body)?,
            None => body,
        };
        let page = CompressedPage::new(page(body.into()), size);
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.decompressed += written.uncompressed_size;
        Ok(())
    }

    fn finish(self, column: ColumnDescPtr, compression: Compression) -> Result<Chunk> {
        let stored = self.sink.bytes_written();
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(compression)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, self.encoding])
            .set_total_compressed_size(stored as i64)
            .set_total_uncompressed_size(self.decompressed as i64)
            .set_num_values(self.entries as i64)
            .set_dictionary_page_offset((self.data > 0).then_some(0))
            .set_data_page_offset(self.data as i64);
        let close = ColumnCloseResult {
            bytes_written: stored as u64,
            rows_written: self.offsets.len() as u64 - 1,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((self.sink.into_inner()?.into(), close))
    }
}

/// Appends the levels of cells and returns how many there are: one for each token, and one for each empty cell.
fn levels(offsets: &[usize], body: &mut Vec<u8>) -> usize {
    let tokens = || offsets.windows(2).map(|cell| cell[1] - cell[0]);
    let repetitions = tokens().flat_map(|tokens| [(0, 1), (1, tokens.max(1) - 1)]);
    runs(repetitions, body);
    runs(
        tokens().map(|tokens| (u8::from(tokens > 0), tokens.max(1))),
        body,
    );
    tokens().map(|tokens| tokens.max(1)).sum()
}

/// Appends levels given as runs, and how many bytes they take.
fn runs(levels: impl Iterator<Item = (u8, usize)>, body: &mut Vec<u8>) {
    let start = body.len();
    body.extend([0; 4]);
    let (mut level, mut length) = (0, 0);
    for (next, count) in levels
        .filter(|(_, count)| *count > 0)
        .chain(iter::once((2, 0)))
    {
        if next != level && length > 0 {
            number((length as u64) << 1, body);
            body.push(level);
            length = 0;
        }
        level = next;
        length += count;
    }
    let size = (body.len() - start - 4) as u32;
    body[start..start + 4].copy_from_slice(&size.to_le_bytes());
}

fn plain(values: &[f32], body: &mut Vec<u8>) {
    body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Distinct values in the order in which they come, and the position of every value among them. `None` if too many are.
fn dictionary(values: &[f32]) -> Option<(Vec<f32>, Vec<u32>)> {
    const SLOTS: usize = 2 * MOST_DISTINCT;
    let mut slots = vec![0_u32; SLOTS];
    let (mut distinct, mut positions) = (Vec::<f32>::new(), Vec::with_capacity(values.len()));
    for &value in values {
        let bits = value.to_bits();
        let mut slot = (bits.wrapping_mul(0x9e37_79b1) >> 15) as usize;
        // A slot holds the position behind its value; at least half of the slots stay free.
        while slots[slot] != 0 && distinct[slots[slot] as usize - 1].to_bits() != bits {
            slot = (slot + 1) % SLOTS;
        }
        if slots[slot] == 0 {
            if distinct.len() == MOST_DISTINCT {
                return None;
            }
            distinct.push(value);
            slots[slot] = distinct.len() as u32;
        }
        positions.push(slots[slot] - 1);
    }
    Some((distinct, positions))
}

/// Appends positions in a dictionary: their width, and one run of them.
fn packed_positions(positions: &[u32], width: u8, body: &mut Vec<u8>) {
    body.push(width);
    let groups = positions.len().div_ceil(8);
    number((groups as u64) << 1 | 1, body);
    let padding = iter::repeat_n(0, groups * 8 - positions.len());
    pack(
        positions
            .iter()
            .map(|&position| position.into())
            .chain(padding),
        width,
        body,
    );
}

/// Appends ids as differences from one to the next.
fn differences(ids: &[u32], body: &mut Vec<u8>) {
    number(BLOCK as u64, body);
    number((BLOCK / MINIBLOCK) as u64, body);
    number(ids.len() as u64, body);
    number(zigzag(ids.first().map_or(0, |&id| id.into())), body);
    let mut rest = ids;
    while rest.len() > 1 {
        let mut block = [0_i64; BLOCK];
        let count = BLOCK.min(rest.len() - 1);
        for (difference, pair) in block.iter_mut().zip(rest.windows(2)) {
            *difference = i64::from(pair[1]) - i64::from(pair[0]);
        }
        let least = block[..count].iter().copied().min().unwrap_or(0);
        let mut above = [0_u64; BLOCK];
        for (above, difference) in above.iter_mut().zip(&block[..count]) {
            *above = (difference - least) as u64;
        }
        number(zigzag(least), body);
        let widths = || {
            above
                .chunks(MINIBLOCK)
                .map(|miniblock| width(miniblock.iter().fold(0, |all, one| all | one)))
        };
        body.extend(widths());
        for (miniblock, width) in above
            .chunks(MINIBLOCK)
            .zip(widths())
            .take(count.div_ceil(MINIBLOCK))
        {
            pack(miniblock.iter().copied(), width, body);
        }
        rest = &rest[count..];
    }
}

/// Bits that a number needs.
fn width(number: u64) -> u8 {
    (u64::BITS - number.leading_zeros()) as u8
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// Appends a number in base 128.
fn number(mut number: u64, body: &mut Vec<u8>) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

/// Appends numbers of up to 33 bits, the lowest bit first; they fill whole bytes.
fn pack(numbers: impl Iterator<Item = u64>, width: u8, body: &mut Vec<u8>) {
    let (mut held, mut bits) = (0_u64, 0);
    for number in numbers {
        held |= number << bits;
        bits += width;
        while bits >= 32 {
            body.extend_from_slice(&(held as u32).to_le_bytes());
            held >>= 32;
            bits -= 32;
        }
    }
    body.extend_from_slice(&held.to_le_bytes()[..usize::from(bits.div_ceil(8))]);
}
