//! Cell banks of the original implementation (`<name>.scb`): a manifest that names the main table, `gene_vocab.json`, and the
//! table as Parquet or as JSON: one object per line, as `datasets` writes it, or an array of objects. See docs/methods.md,
//! "Cell banks"; `scgpt/scbank/databank.py`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::is_plain;
use super::{EXPRESSIONS, Error, GENES, Group, Size};

/// Cells that are read at once.
const GROUP_CELLS: u64 = 1000;
/// Bytes of JSON that are read at once, and the most that a cell may have.
const GROUP_BYTES: u64 = 1 << 25;

/// The manifest of a cell bank.
#[derive(Deserialize)]
pub(super) struct Manifest {
    on_disk_format: Format,
    main_data: Option<String>,
}

/// How a bank stores its tables.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Parquet,
}

impl Manifest {
    /// Name of the vocabulary of a bank.
    pub const VOCABULARY: &str = "gene_vocab.json";

    /// Name and format of the main table.
    pub fn table(&self) -> Result<(String, Format), String> {
        let Some(name) = self.main_data.as_ref() else {
            return Err("`main_data` names no table: the bank is empty".to_owned());
        };
        let extension = match self.on_disk_format {
            Format::Json => "json",
            Format::Parquet => "parquet",
        };
        let file = format!("{name}.datatable.{extension}");
        match is_plain(&file) {
            true => Ok((file, self.on_disk_format)),
            false => Err(format!(
                "`main_data` is `{name}`, which is not the name of a table in the directory"
            )),
        }
    }
}

/// A table of cells as JSON.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    groups: Vec<ByteRange>,
}

/// Some consecutive cells of a table.
#[derive(Debug, Clone, Copy)]
struct ByteRange {
    start: u64,
    end: u64,
    cells: u64,
    first: u64,
}

#[derive(Deserialize)]
struct Cell {
    genes: Vec<u64>,
    expressions: Vec<f64>,
}

impl Table {
    /// Finds where the cells are, in one pass through the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::read(path, error))?;
        let mut finder = Finder::default();
        let mut reader = BufReader::with_capacity(1 << 18, file);
        loop {
            let bytes = reader
                .fill_buf()
                .map_err(|error| Error::read(path, error))?;
            if bytes.is_empty() {
                break;
            }
            for &byte in bytes {
                finder
                    .take(byte)
                    .map_err(|problem| Error::input(path, problem))?;
            }
            let read = bytes.len();
            reader.consume(read);
        }
        if finder.depth > 0 {
            return Err(Error::input(
                path,
                "ends within an object; it may be truncated",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            groups: finder.groups,
        })
    }

    /// Sizes of the groups; the tokens of a JSON table are known only after reading.
    pub fn sizes(&self) -> Vec<Size> {
        let size = |group: &ByteRange| Size {
            cells: group.cells,
            tokens: 0,
        };
        self.groups.iter().map(size).collect()
    }

    /// Reads one group, whose gene ids are to be below `genes`.
    pub fn read(&self, group: usize, genes: usize) -> Result<Group, Error> {
        let Some(&stretch) = self.groups.get(group) else {
            return Err(Error::input(
                &self.path,
                format!("group {group} of {}", self.groups.len()),
            ));
        };
        let json = self
            .bytes(stretch)
            .map_err(|error| Error::read(&self.path, error))?;
        let mut read = Group {
            offsets: vec![0],
            ..Group::default()
        };
        let mut rest = &json[..];
        for cell in stretch.first..stretch.first + stretch.cells {
            let problem =
                |problem: String| Error::input(&self.path, format!("cell {cell}: {problem}"));
            let start = memchr::memchr(b'{', rest).unwrap_or(rest.len());
            let mut objects =
                serde_json::Deserializer::from_slice(&rest[start..]).into_iter::<Cell>();
            let object = objects
                .next()
                .ok_or_else(|| problem("there is no object".to_owned()))?;
            let object = object.map_err(|error| {
                problem(format!("expected `{GENES}` and `{EXPRESSIONS}`: {error}"))
            })?;
            rest = &rest[start + objects.byte_offset()..];
            push(&mut read, &object, genes).map_err(problem)?;
        }
        Ok(read)
    }

    fn bytes(&self, stretch: ByteRange) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (stretch.end - stretch.start) as usize];
        File::open(&self.path)?.read_exact_at(&mut bytes, stretch.start)?;
        Ok(bytes)
    }
}

fn push(group: &mut Group, cell: &Cell, genes: usize) -> Result<(), String> {
    let (ids, values) = (&cell.genes, &cell.expressions);
    if ids.len() != values.len() {
        return Err(format!(
            "{} `{GENES}` and {} `{EXPRESSIONS}`",
            ids.len(),
            values.len()
        ));
    }
    if let Some(id) = ids.iter().find(|&&id| id >= genes as u64) {
        return Err(format!(
            "gene id {id} is not in the vocabulary, whose ids go from 0 to below {genes}"
        ));
    }
    if let Some(value) = values.iter().find(|&&value| !(value as f32).is_finite()) {
        return Err(format!("the expression {value} is not a finite number"));
    }
    group.genes.extend(ids.iter().map(|&id| id as u32));
    group
        .values
        .extend(values.iter().map(|&value| value as f32));
    group.offsets.push(group.genes.len());
    Ok(())
}

/// Finds the objects of a JSON file, byte by byte.
#[derive(Default)]
struct Finder {
    groups: Vec<ByteRange>,
    at: u64,
    cells: u64,
    start: u64,
    depth: u32,
    in_text: bool,
    is_escaped: bool,
}

impl Finder {
    fn take(&mut self, byte: u8) -> Result<(), String> {
        match (self.depth, byte) {
            (1.., _) if self.in_text => self.text(byte),
            (0, b'{') => {
                self.start = self.at;
                self.depth = 1;
            }
            (1.., b'"') => self.in_text = true,
            (1.., b'{') => self.depth = self.depth.saturating_add(1),
            (1, b'}') => self.close()?,
            (1.., b'}') => self.depth -= 1,
            (1.., _) => {}
            (0, b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n') => {}
            (0, _) => {
                return Err(format!(
                    "byte {} is outside of the objects: expected an object for each cell, in lines or an array",
                    self.at
                ));
            }
        }
        self.at += 1;
        if self.depth > 0 && self.at - self.start > GROUP_BYTES {
            return Err(format!("cell {} has more than 32 MiB of JSON", self.cells));
        }
        Ok(())
    }

    fn text(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.in_text = false,
            _ => {}
        }
    }

    /// Ends an object, which joins the last group if that has room.
    fn close(&mut self) -> Result<(), String> {
        let end = self.at + 1;
        match self.groups.last_mut() {
            Some(group) if group.cells < GROUP_CELLS && end - group.start <= GROUP_BYTES => {
                group.end = end;
                group.cells += 1;
            }
            _ => self.groups.push(ByteRange {
                start: self.start,
                end,
                cells: 1,
                first: self.cells,
            }),
        }
        self.cells += 1;
        self.depth = 0;
        Ok(())
    }
}
