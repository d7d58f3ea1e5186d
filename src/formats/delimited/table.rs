//! Records of a delimited table: its header, and rows that are as wide as the first.

use std::path::Path;

use csv::ByteRecord;

use crate::formats::Error;
use crate::formats::compressed::Lines;
use crate::formats::text::{Names, number, whole};

const DELIMITERS: [u8; 3] = [b'\t', b',', b';'];

/// A table that is read row by row.
pub struct Table {
    lines: Lines,
    delimiter: u8,
    /// The names of columns; the first may be that of the rows' names.
    pub header: ByteRecord,
    /// The current row.
    pub record: ByteRecord,
    /// Whether the current row was read to know the width, and is still to be given.
    is_ahead: bool,
    width: usize,
}

impl Table {
    /// Opens a table whose lines have at most `limit` bytes.
    pub fn open(path: &Path, limit: usize) -> Result<Self, Error> {
        let (mut lines, mut comment) = (Lines::open(path, limit)?, Vec::new());
        if !next_content(&mut lines, &mut comment)? {
            return Err(Error::input(path, "it is empty, a header was expected"));
        }
        let delimiter = delimiter(lines.current()).ok_or_else(|| {
            lines.wrong("neither a tab nor a comma nor a semicolon was found to separate fields")
        })?;
        let mut table = Self {
            lines,
            delimiter,
            header: ByteRecord::new(),
            record: ByteRecord::new(),
            is_ahead: false,
            width: 0,
        };
        table.parse()?;
        table.start(&comment)?;
        Ok(table)
    }

    /// Distinguishes names from numbers in the first record, and goes to the first row.
    fn start(&mut self, comment: &[u8]) -> Result<(), Error> {
        let has_names = self
            .record
            .iter()
            .skip(1)
            .any(|name| number(name).is_none());
        if let Some(header) = self.commented(comment).filter(|_| !has_names) {
            (self.header, self.is_ahead, self.width) = (header, true, self.record.len());
            return Ok(());
        }
        std::mem::swap(&mut self.header, &mut self.record);
        self.is_ahead = next_content(&mut self.lines, &mut Vec::new())?;
        if self.is_ahead {
            self.parse()?;
        }
        self.width = if self.is_ahead {
            self.record.len()
        } else {
            self.header.len()
        };
        if has_names || self.counts_up() {
            return Ok(());
        }
        let problem = "a header with names was expected, but the first line has numbers";
        Err(self.lines.wrong(problem))
    }

    /// The header that a comment gives, if it is as wide as the first record.
    fn commented(&self, comment: &[u8]) -> Option<ByteRecord> {
        let header: ByteRecord = if comment.contains(&self.delimiter) {
            comment.split(|&byte| byte == self.delimiter).collect()
        } else {
            let words = comment.split(u8::is_ascii_whitespace);
            words.filter(|word| !word.is_empty()).collect()
        };
        let width = self.record.len();
        (header.len() == width || header.len() + 1 == width).then_some(header)
    }

    /// Fields of the header before the names of columns.
    fn corner(&self) -> usize {
        usize::from(self.header.len() == self.width)
    }

    /// Whether numbers in the header are those of columns: they count up, and there are a few or nothing names them.
    fn counts_up(&self) -> bool {
        let names = self.header.iter().skip(self.corner());
        let numbers: Option<Vec<u64>> = names.map(whole).collect();
        let is_unnamed = self.corner() == 0 || self.header[0].is_empty();
        numbers.is_some_and(|numbers| {
            (is_unnamed || numbers.len() > 3)
                && numbers.first().is_some_and(|&first| first < 2)
                && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
        })
    }

    /// The names of the columns after the first.
    pub fn columns(&self, names: &mut Names) -> Result<Vec<String>, Error> {
        let found = self.header.len();
        if found != self.width && found + 1 != self.width {
            return Err(self.wrong(format!(
                "{} fields were found, {found} or {} were expected after a header of {found}",
                self.width,
                found + 1
            )));
        }
        let columns = self.header.iter().skip(self.corner());
        columns
            .map(|name| names.name(name))
            .collect::<Result<_, _>>()
            .map_err(|problem| self.wrong(problem))
    }

    /// Goes to the next row; false at the end of the table.
    pub fn advance(&mut self) -> Result<bool, Error> {
        if !std::mem::take(&mut self.is_ahead) {
            if !next_content(&mut self.lines, &mut Vec::new())? {
                return Ok(false);
            }
            self.parse()?;
        }
        let found = self.record.len();
        if found != self.width {
            let problem = format!("{found} fields were found, {} were expected", self.width);
            return Err(self.wrong(problem));
        }
        Ok(true)
    }

    /// The name of the current row.
    pub fn name(&self, names: &mut Names) -> Result<String, Error> {
        let name = self.record.get(0).unwrap_or_default();
        names.name(name).map_err(|problem| self.wrong(problem))
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        self.lines.path()
    }

    /// An error about the current line.
    pub fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        self.lines.wrong(problem)
    }

    /// Splits the current line into fields; none continues to the next line, quoted or not.
    fn parse(&mut self) -> Result<(), Error> {
        let line = self.lines.current();
        if memchr::memchr(b'"', line).is_none() {
            self.record.clear();
            for field in line.split(|&byte| byte == self.delimiter) {
                self.record.push_field(field);
            }
            return Ok(());
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(self.delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(line);
        let parsed = reader.read_byte_record(&mut self.record);
        parsed.map(|_| ()).map_err(|error| self.wrong(error))
    }
}

/// Goes to the next line that is neither blank nor a comment, and keeps the last comment; false at the end of the file.
fn next_content(lines: &mut Lines, comment: &mut Vec<u8>) -> Result<bool, Error> {
    while let Some(line) = lines.next()? {
        if let Some(text) = line.strip_prefix(b"#") {
            let text = text.trim_ascii();
            if !text.is_empty() {
                comment.clear();
                comment.extend_from_slice(text);
            }
        } else if line.iter().any(|&byte| byte != b' ') {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The separator that is found most often outside of quotes.
fn delimiter(line: &[u8]) -> Option<u8> {
    let (mut counts, mut is_quoted) = ([0usize; DELIMITERS.len()], false);
    for &byte in line {
        if byte == b'"' {
            is_quoted = !is_quoted;
        } else if let Some(at) = DELIMITERS.iter().position(|&delimiter| delimiter == byte) {
            counts[at] += usize::from(!is_quoted);
        }
    }
    let most = *counts.iter().max().filter(|&&most| most > 0)?;
    let at = counts.iter().position(|&count| count == most)?;
    Some(DELIMITERS[at])
}
