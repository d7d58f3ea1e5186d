//! Tables that programs wrote, with tabs between their columns.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Rows that are kept; tables that are longer are ranked, best first.
const MOST_ROWS: usize = 5_000;
/// Bytes that are read.
const LARGEST: u64 = 16 << 20;
/// Columns that are kept.
const MOST_COLUMNS: usize = 200;

/// A table with its first rows.
#[derive(Debug, Clone)]
pub struct Table {
    pub path: PathBuf,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Rows in the file beyond those kept, as far as that was looked at.
    pub is_cut: bool,
}

impl Table {
    /// Reads the first rows. Fails on files that are no text table.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?.take(LARGEST);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b'\t')
            .quoting(false)
            .flexible(true)
            .from_reader(file);
        let texts = |record: &csv::ByteRecord| {
            let fields = record.iter().take(MOST_COLUMNS);
            fields
                .map(|field| String::from_utf8_lossy(field).into_owned())
                .collect::<Vec<_>>()
        };
        let header = texts(reader.byte_headers().map_err(io::Error::other)?);
        let mut rows = Vec::new();
        let mut records = reader.byte_records();
        for record in records.by_ref().take(MOST_ROWS) {
            rows.push(texts(&record.map_err(io::Error::other)?));
        }
        let is_cut = records.next().is_some();
        Ok(Self {
            path: path.to_owned(),
            header,
            rows,
            is_cut,
        })
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Whether it has all these columns.
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.column(name).is_some())
    }

    /// An entry; empty if there is none.
    pub fn get<'a>(&'a self, row: &'a [String], name: &str) -> &'a str {
        self.column(name)
            .and_then(|at| row.get(at))
            .map_or("", String::as_str)
    }

    /// An entry as a finite number.
    pub fn number(&self, row: &[String], name: &str) -> Option<f64> {
        self.get(row, name)
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
    }

    /// Name of the file.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}
