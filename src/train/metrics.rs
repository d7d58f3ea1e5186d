//! Metrics as JSON lines, written while a run goes on.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file of one JSON object per line.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file and cuts off whatever a run wrote after the state it now resumes from.
    pub fn open(path: &Path, kept: u64) -> Result<Self> {
        let failed = || format!("could not write metrics to `{}`", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .with_context(failed)?;
        file.set_len(kept).with_context(failed)?;
        file.seek(SeekFrom::End(0)).with_context(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Bytes written so far.
    pub fn length(&mut self) -> Result<u64> {
        Ok(self.file.stream_position()?)
    }

    pub fn write(&mut self, record: Map<String, Value>) -> Result<()> {
        let line = format!("{}\n", Value::Object(record));
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("could not write to `{}`", self.path.display()))
    }
}
