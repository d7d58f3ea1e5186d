//! Pages of a Parquet file whose sizes are checked before anything is allocated: what a header declares is not trusted.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

/// The largest page that is read, in bytes once decompressed. Writers make pages of 1 MB.
const LARGEST_PAGE: u64 = 1 << 28;
/// The longest beginning of a page header that contains its sizes: three fields of one byte and at most ten.
const SIZES: usize = 33;

/// A file read at positions, by any number of threads.
#[derive(Clone)]
pub(super) struct Source {
    file: Arc<File>,
    length: u64,
}

impl Source {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            length,
        })
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.length
    }
}

/// A position in a file, from which reading continues.
pub(super) struct Place {
    file: Arc<File>,
    at: u64,
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl ChunkReader for Source {
    type T = BufReader<Place>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let place = Place {
            file: self.file.clone(),
            at: start,
        };
        Ok(BufReader::with_capacity(512, place))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A source that is only read page by page, and rejects a page that is too large.
struct Measured(Source);

impl Length for Measured {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for Measured {
    type T = BufReader<Place>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut header = Vec::with_capacity(SIZES);
        let mut beginning = self.0.get_read(start)?.take(SIZES as u64);
        beginning.read_to_end(&mut header)?;
        match sizes(&header) {
            Some(sizes) if sizes.iter().all(|&size| size <= LARGEST_PAGE) => self.0.get_read(start),
            Some(_) => Err(general("a page is larger than 256 MiB; write smaller ones")),
            None => Err(general("a page header is damaged")),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Sizes of a page, decompressed and as stored, from its header: the second and third field, after the type. Each is
/// the field's tag and a zigzag number in base 128.
fn sizes(mut header: &[u8]) -> Option<[u64; 2]> {
    const NEXT_I32: u8 = 0x15;
    let mut field = || {
        header = header.strip_prefix(&[NEXT_I32])?;
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let (&byte, rest) = header.split_first()?;
            header = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    };
    let [_kind, decompressed, stored] = [field()?, field()?, field()?];
    let is_negative = |number: u64| number & 1 == 1;
    (!is_negative(decompressed) && !is_negative(stored)).then_some([decompressed / 2, stored / 2])
}

fn general(problem: &str) -> ParquetError {
    ParquetError::General(problem.to_owned())
}

/// Pages of one column of a row group, which together hold no more entries than the column declares.
pub(super) struct Pages {
    pages: SerializedPageReader<Measured>,
    entries_left: i64,
    next: Option<Page>,
}

impl Pages {
    pub fn new(source: &Source, column: &ColumnChunkMetaData, rows: usize) -> Result<Self> {
        let source = Arc::new(Measured(source.clone()));
        Ok(Self {
            pages: SerializedPageReader::new(source, column, rows, None)?,
            entries_left: column.num_values(),
            next: None,
        })
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        let entries = i64::from(page.num_values());
        if !page.is_dictionary_page() {
            self.entries_left -= entries;
        } else if entries > page.buffer().len() as i64 {
            return Err(general("a dictionary is shorter than declared"));
        }
        match self.entries_left {
            0.. => Ok(()),
            _ => Err(general(
                "its pages hold more entries than the column declares",
            )),
        }
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        if let Some(page) = self.next.take() {
            return Ok(Some(page));
        }
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    /// Reads page data too, so that only headers are requested from the source.
    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.next = self.get_next_page()?;
        Ok(self.next.as_ref().map(|page| PageMetadata {
            num_rows: match page {
                Page::DataPageV2 { num_rows, .. } => Some(*num_rows as usize),
                _ => None,
            },
            num_levels: page.is_data_page().then(|| page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_beginning_of_a_header() {
        // Type 0, 300 bytes decompressed, 64 stored.
        let header = [0x15, 0, 0x15, 0xd8, 0x04, 0x15, 0x80, 0x01, 0x5c];
        assert_eq!(sizes(&header), Some([300, 64]));
        assert_eq!(sizes(&header[..7]), None);
        assert_eq!(sizes(&[0x15, 0, 0x15, 1, 0x15, 0]), None, "negative");
        assert_eq!(sizes(&[&[0x15, 0, 0x15][..], &[0xff; 30]].concat()), None);
        assert_eq!(sizes(&[0x25, 0, 0x15, 0, 0x15, 0]), None, "another field");
    }

    #[test]
    fn a_page_that_declares_too_much_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let two_gib = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 2];
        std::fs::write(file.path(), two_gib).unwrap();
        let source = Source::open(file.path()).unwrap();
        assert!(source.get_bytes(4, 7).is_err() && source.get_bytes(u64::MAX, 2).is_err());
        let error = Measured(source).get_read(0).err().unwrap().to_string();
        assert!(error.contains("larger than 256 MiB"), "{error}");
    }
}
