//! Numbers of a one-dimensional dataset, read and unpacked outside the HDF5 library, which does one thing at a time.
//!
//! The library reports the position and filters of the chunks; their bytes are then read, inflated and converted on
//! all threads. This is done for what nearly all files have: chunks that are shuffled, deflated or plain, and contiguous
//! data. Whatever else there is, damage included, is left to the library, which reports it.
//! Source: HDF5 file format specification, sections III.C and IV.A.2.l.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use hdf5::filters::Filter;
use hdf5::types::H5Type;
use hdf5::{Container, Datatype, Location};
use libdeflater::Decompressor;
use rayon::prelude::*;

use super::node::Node;
use crate::formats::Error;

/// Elements of contiguous data that are read at once.
const PIECE: usize = 1 << 16;
/// deflate shrinks at most 1032 to 1.
const LARGEST_COMPRESSION: usize = 1100;
const ALWAYS_ALLOWED: usize = 1 << 20;

/// A number as it is stored. Conversion rounds as Rust's `as` does, but never wraps around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

/// What numbers are converted to.
pub(in crate::formats) trait Number: Copy + Default + Send + Sync {
    fn from_float(value: f64) -> Self;
    fn from_integer(value: i64) -> Self;
}

impl Number for f32 {
    fn from_float(value: f64) -> Self {
        value as Self
    }

    fn from_integer(value: i64) -> Self {
        value as Self
    }
}

/// Indices of up to 32 bits: what is no index becomes the largest number, which is none.
impl Number for u32 {
    fn from_float(_: f64) -> Self {
        Self::MAX
    }

    fn from_integer(value: i64) -> Self {
        Self::try_from(value).unwrap_or(Self::MAX)
    }
}

/// Position of a chunk.
#[derive(Debug, Clone, Copy)]
struct Stored {
    address: u64,
    size: usize,
    /// Bit i is set if filter i was dropped.
    skipped: u32,
}

/// The filters of a chunk, in the order in which they were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Shuffle,
    Deflate,
}

/// The chunks of a dataset.
pub(in crate::formats) struct Chunks {
    file: File,
    kind: Kind,
    width: usize,
    /// Elements of a chunk; the last one may be used in part.
    length: usize,
    stored: Vec<Stored>,
    steps: Vec<Step>,
}

impl Chunks {
    /// None where the dataset is stored in another way, which HDF5 then has to read itself.
    pub fn open(node: &Node) -> Result<Option<Self>, Error> {
        let damaged = |source| node.damaged(source);
        let dataset = node.dataset()?;
        let location: &Location = dataset;
        let user_block = location.file().map_err(damaged)?.userblock();
        let Some((kind, width)) = kind_of(dataset).map_err(damaged)? else {
            return Ok(None);
        };
        let [n] = node.shape()?[..] else {
            return Ok(None);
        };
        let layout = match (dataset.chunk(), steps_of(&dataset.filters())) {
            (Some(chunk), Some(steps)) => chunked(node, n, chunk[0])?.map(|s| (chunk[0], s, steps)),
            (None, Some(_)) => dataset
                .offset()
                .map(|offset| (PIECE, contiguous(offset, n, width), Vec::new())),
            _ => None,
        };
        let Some((length, stored, steps)) = layout.filter(|_| user_block == 0) else {
            return Ok(None);
        };
        let reading = |error| Error::read(node.file(), error);
        let file = File::open(node.file()).map_err(reading)?;
        let file_length = file.metadata().map_err(reading)?.len();
        let chunks = Self {
            file,
            kind,
            width,
            length,
            stored,
            steps,
        };
        Ok(Some(chunks).filter(|chunks| chunks.is_sound(file_length)))
    }

    /// Numbers `range` of the dataset, unpacked on all threads; none if that fails, or if a number is not `sound`.
    pub fn read<T: Number>(
        &self,
        range: Range<usize>,
        sound: impl Fn(&T) -> bool + Sync,
    ) -> Option<Vec<T>> {
        let mut numbers = vec![T::default(); range.len()];
        let mut parts = Vec::new();
        let (mut rest, mut at) = (&mut numbers[..], range.start);
        while at < range.end {
            let chunk = at / self.length;
            let end = ((chunk + 1) * self.length).min(range.end);
            let (part, others) = rest.split_at_mut(end - at);
            parts.push((chunk, at - chunk * self.length, part));
            (rest, at) = (others, end);
        }
        parts
            .into_par_iter()
            .map_init(Buffers::default, |buffers, (chunk, start, part)| {
                self.read_part(buffers, chunk, start, part)?;
                // No early end, so that the processor compares many numbers at once, which are still in the cache.
                let all = part.iter().fold(true, |all, number| all & sound(number));
                all.then_some(())
            })
            .collect::<Option<()>>()?;
        Some(numbers)
    }

    fn read_part<T: Number>(
        &self,
        buffers: &mut Buffers,
        chunk: usize,
        start: usize,
        part: &mut [T],
    ) -> Option<()> {
        let stored = self.stored[chunk];
        buffers.packed.resize(stored.size, 0);
        self.file
            .read_exact_at(&mut buffers.packed, stored.address)
            .ok()?;
        self.unpack(buffers, stored)?;
        let bytes = start * self.width..(start + part.len()) * self.width;
        convert(self.kind, buffers.packed.get(bytes)?, part);
        Some(())
    }

    /// Undoes the steps, last first; what comes out lies where the packed bytes were.
    fn unpack(&self, buffers: &mut Buffers, stored: Stored) -> Option<()> {
        let full = self.length * self.width;
        for (at, step) in self.steps.iter().enumerate().rev() {
            if stored.skipped & (1 << at) != 0 {
                continue;
            }
            match step {
                Step::Deflate => {
                    make_room(&mut buffers.unpacked, full)?;
                    let done = buffers
                        .inflate
                        .zlib_decompress(&buffers.packed, &mut buffers.unpacked);
                    buffers.unpacked.truncate(done.ok()?);
                }
                Step::Shuffle => {
                    make_room(&mut buffers.unpacked, buffers.packed.len())?;
                    unshuffle(&buffers.packed, self.width, &mut buffers.unpacked);
                }
            }
            std::mem::swap(&mut buffers.packed, &mut buffers.unpacked);
        }
        Some(())
    }

    /// Whether all chunks lie in the file and can be as large as they declare.
    fn is_sound(&self, file_length: u64) -> bool {
        let full = self.length.saturating_mul(self.width);
        self.stored.iter().all(|stored| {
            let end = stored.address.checked_add(stored.size as u64);
            end.is_some_and(|end| end <= file_length)
                && full
                    <= ALWAYS_ALLOWED
                        .saturating_add(stored.size.saturating_mul(LARGEST_COMPRESSION))
        })
    }
}

/// What a thread needs to unpack chunks.
struct Buffers {
    packed: Vec<u8>,
    unpacked: Vec<u8>,
    inflate: Decompressor,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            packed: Vec::new(),
            unpacked: Vec::new(),
            inflate: Decompressor::new(),
        }
    }
}

/// Whether a type is a given one.
type TypeTest = fn(&Datatype) -> hdf5::Result<bool>;

/// How the numbers of a dataset are stored; none for other types and byte orders.
fn kind_of(container: &Container) -> hdf5::Result<Option<(Kind, usize)>> {
    fn is<T: H5Type>(found: &Datatype) -> hdf5::Result<bool> {
        Ok(*found == Datatype::from_type::<T>()?)
    }
    let found = container.dtype()?;
    let kinds: [(Kind, TypeTest); 10] = [
        (Kind::F32, is::<f32>),
        (Kind::F64, is::<f64>),
        (Kind::I8, is::<i8>),
        (Kind::I16, is::<i16>),
        (Kind::I32, is::<i32>),
        (Kind::I64, is::<i64>),
        (Kind::U8, is::<u8>),
        (Kind::U16, is::<u16>),
        (Kind::U32, is::<u32>),
        (Kind::U64, is::<u64>),
    ];
    for (kind, is_kind) in kinds {
        if is_kind(&found)? {
            return Ok(Some((kind, found.size())));
        }
    }
    Ok(None)
}

/// None if a filter is among them that is not undone here.
fn steps_of(filters: &[Filter]) -> Option<Vec<Step>> {
    let step = |filter: &Filter| match filter {
        Filter::Deflate(_) => Some(Step::Deflate),
        Filter::Shuffle => Some(Step::Shuffle),
        _ => None,
    };
    filters.iter().map(step).collect()
}

/// Positions of all chunks of a dataset of `n` elements; none if some were never written.
fn chunked(node: &Node, n: usize, length: usize) -> Result<Option<Vec<Stored>>, Error> {
    if length == 0 {
        return Err(node.wrong("its chunks hold nothing"));
    }
    let dataset = node.dataset()?;
    let expected = n.div_ceil(length);
    if dataset.num_chunks() != Some(expected) {
        return Ok(None);
    }
    let mut stored: Vec<Option<Stored>> = vec![None; expected];
    let visit = |chunk: hdf5::dataset::ChunkInfoRef<'_>| {
        let place = usize::try_from(chunk.offset[0]).map(|offset| stored.get_mut(offset / length));
        if let Ok(Some(place)) = place {
            *place = Some(Stored {
                address: chunk.addr,
                size: usize::try_from(chunk.size).unwrap_or(usize::MAX),
                skipped: chunk.filter_mask,
            });
        }
        0
    };
    dataset
        .chunks_visit(visit)
        .map_err(|source| node.damaged(source))?;
    Ok(stored.into_iter().collect())
}

/// Contiguous data as if it were in plain chunks.
fn contiguous(offset: u64, n: usize, width: usize) -> Vec<Stored> {
    let starts = (0..n).step_by(PIECE);
    let piece = |start: usize| Stored {
        address: offset.saturating_add((start * width) as u64),
        size: (n - start).min(PIECE) * width,
        skipped: 0,
    };
    starts.map(piece).collect()
}

/// So many bytes; none if memory does not suffice, which HDF5 then reports.
fn make_room(bytes: &mut Vec<u8>, length: usize) -> Option<()> {
    bytes
        .try_reserve_exact(length.saturating_sub(bytes.len()))
        .ok()?;
    bytes.resize(length, 0);
    Some(())
}

/// Bytes that were grouped by their place in a number, back in their order.
fn unshuffle(bytes: &[u8], width: usize, numbers: &mut [u8]) {
    let n = bytes.len() / width;
    let (whole, rest) = numbers.split_at_mut(n * width);
    for place in 0..width {
        let plane = &bytes[place * n..(place + 1) * n];
        for (number, &byte) in whole.chunks_exact_mut(width).zip(plane) {
            number[place] = byte;
        }
    }
    rest.copy_from_slice(&bytes[n * width..]);
}

fn convert<T: Number>(kind: Kind, bytes: &[u8], numbers: &mut [T]) {
    macro_rules! each {
        ($stored:ty, $from:ident, $wide:ty) => {
            for (number, bytes) in numbers
                .iter_mut()
                .zip(bytes.chunks_exact(size_of::<$stored>()))
            {
                let stored = <$stored>::from_ne_bytes(bytes.try_into().expect("exact chunks"));
                *number = T::$from(stored as $wide);
            }
        };
    }
    match kind {
        Kind::F32 => each!(f32, from_float, f64),
        Kind::F64 => each!(f64, from_float, f64),
        Kind::I8 => each!(i8, from_integer, i64),
        Kind::I16 => each!(i16, from_integer, i64),
        Kind::I32 => each!(i32, from_integer, i64),
        Kind::I64 => each!(i64, from_integer, i64),
        Kind::U8 => each!(u8, from_integer, i64),
        Kind::U16 => each!(u16, from_integer, i64),
        Kind::U32 => each!(u32, from_integer, i64),
        Kind::U64 => {
            for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
                let stored = u64::from_ne_bytes(bytes.try_into().expect("exact chunks"));
                *number = T::from_integer(i64::try_from(stored).unwrap_or(i64::MAX));
            }
        }
    }
}
