//! A shard while it is written, under a temporary name until it is complete.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::encode::{Encoded, Genes, parquet_type, properties};
use super::{Error, Schema};
use crate::output::Pending;

/// Manifest entry of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Name in the directory.
    pub file: String,
    pub cells: u64,
    pub tokens: u64,
    /// Number of distinct genes that its cells express.
    pub genes: u64,
    /// Checksum of the file, in hexadecimal digits.
    pub sha256: String,
}

/// A shard being written. Dropped unfinished, it vanishes.
pub struct Shard {
    path: PathBuf,
    pending: Pending,
    writer: SerializedFileWriter<HashingRows>,
    cells: u64,
    tokens: u64,
    genes: Genes,
}

impl Shard {
    /// Begins the shard that will stand at `path` once it is finished.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self, Error> {
        let pending = Pending::create(path)?;
        let open = || {
            let file = HashingRows {
                file: File::create(pending.path())?,
                hash: Sha256::new(),
            };
            SerializedFileWriter::new(file, parquet_type(schema)?, properties()?)
        };
        Ok(Self {
            writer: open().map_err(Error::write(path))?,
            path: path.to_owned(),
            pending,
            cells: 0,
            tokens: 0,
            genes: Genes::default(),
        })
    }

    /// Appends cells that were encoded for the same schema, as they are.
    pub fn append(&mut self, cells: Encoded) -> Result<(), Error> {
        self.cells += cells.cells as u64;
        self.tokens += cells.tokens as u64;
        self.genes.add(&cells.genes);
        self.splice(cells).map_err(Error::write(&self.path))
    }

    fn splice(&mut self, cells: Encoded) -> Result<(), ParquetError> {
        let mut row_group = self.writer.next_row_group()?;
        for (bytes, close) in cells.columns {
            row_group.append_column(&bytes, close)?;
        }
        row_group.close()?;
        Ok(())
    }

    /// Number of cells so far.
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// Completes the file and renames it to its final path.
    pub fn finish(self) -> Result<Summary, Error> {
        let written = self.writer.into_inner();
        let sink = written.map_err(Error::write(&self.path))?;
        self.pending.finish()?;
        let file = self.path.file_name().unwrap_or_default();
        Ok(Summary {
            file: file.to_string_lossy().into_owned(),
            cells: self.cells,
            tokens: self.tokens,
            genes: self.genes.count() as u64,
            sha256: hexadecimal(sink.hash),
        })
    }
}

/// A file whose checksum is taken while it is written.
struct HashingRows {
    file: File,
    hash: Sha256,
}

impl Write for HashingRows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Checksum of a file.
pub(super) fn checksum(path: &Path) -> io::Result<String> {
    let mut sink = HashingWriter(Sha256::new());
    io::copy(&mut File::open(path)?, &mut sink)?;
    Ok(hexadecimal(sink.0))
}

struct HashingWriter(Sha256);

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hexadecimal(hash: Sha256) -> String {
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}
