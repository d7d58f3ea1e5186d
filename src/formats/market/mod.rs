//! Matrix Market (<https://math.nist.gov/MatrixMarket/formats.html>) with names in further files, as 10x Genomics and others
//! write it.

mod companions;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::Error;
use super::compressed::Lines;
use super::text::TextTable;
use super::text::{longest_line, not_kept, number, shown, whole};
use super::transpose_spool::Spool;
use super::transpose_spool::Spooled;
use companions::Companions;

/// Reads a directory with one matrix: `matrix.mtx`, `barcodes.tsv` and `features.tsv` (or `genes.tsv`).
///
/// Each may be compressed and have the same prefix. Entries take up to `memory` bytes, and names as much again at most;
/// entries beyond that go to a temporary file.
pub fn open_directory(directory: &Path, memory: usize) -> Result<TextTable, Error> {
    open_file(&companions::matrix_of(directory)?, memory)
}

/// Reads a matrix with the names in the files next to it; memory as for [`open_directory`].
pub fn open_file(path: &Path, memory: usize) -> Result<TextTable, Error> {
    let companions = Companions::of_matrix(path)?;
    let mut matrix = Coordinates::open(path, memory)?;
    let names = companions.read(memory)?;
    let (n_cells, n_genes) = (names.cells.len(), names.genes.len());
    let by_cell = match (matrix.n_rows, matrix.n_columns) {
        shape if shape == (n_genes as u64, n_cells as u64) => false,
        shape if shape == (n_cells as u64, n_genes as u64) => true,
        (n_rows, n_columns) => {
            return Err(Error::input(
                path,
                format!(
                    "it has {n_rows} rows and {n_columns} columns, but `{}` names {n_genes} genes and `{}` {n_cells} cells",
                    companions.genes.display(),
                    companions.cells.display()
                ),
            ));
        }
    };
    Ok(TextTable {
        matrix: matrix.read(n_cells, n_genes, by_cell, memory)?,
        cell_names: names.cells,
        gene_names: names.genes,
        var: names.var,
    })
}

/// The entries of a matrix, after its header.
struct Coordinates {
    lines: Lines,
    has_values: bool,
    n_rows: u64,
    n_columns: u64,
    n_entries: u64,
}

impl Coordinates {
    fn open(path: &Path, memory: usize) -> Result<Self, Error> {
        let mut lines = Lines::open(path, longest_line(memory))?;
        let banner = lines.next()?.unwrap_or_default();
        let has_values = has_values(banner).map_err(|problem| lines.wrong(problem))?;
        if !next_content(&mut lines)? {
            return Err(Error::input(path, "it ends before the line of sizes"));
        }
        let [n_rows, n_columns, n_entries] = sizes(lines.current()).ok_or_else(|| {
            lines.wrong(format!(
                "`{}` was found where the numbers of rows, columns and entries were expected",
                shown(lines.current())
            ))
        })?;
        Ok(Self {
            lines,
            has_values,
            n_rows,
            n_columns,
            n_entries,
        })
    }

    fn read(
        &mut self,
        n_cells: usize,
        n_genes: usize,
        by_cell: bool,
        memory: usize,
    ) -> Result<Spooled, Error> {
        let mut spool = Spool::new(memory);
        let mut found = 0;
        while next_content(&mut self.lines)? {
            if found == self.n_entries {
                let problem = format!("there are more than the {found} entries that were declared");
                return Err(self.lines.wrong(problem));
            }
            found += 1;
            let (row, column, value) = self.entry()?;
            let (cell, gene) = if by_cell {
                (row, column)
            } else {
                (column, row)
            };
            spool
                .push(cell, gene, value)
                .map_err(not_kept(self.lines.path()))?;
        }
        if found < self.n_entries {
            return Err(self.lines.wrong(format!(
                "the file ends after {found} of {} entries: it may be cut off",
                self.n_entries
            )));
        }
        spool
            .finish(n_cells, n_genes)
            .map_err(not_kept(self.lines.path()))
    }

    /// Row, column (both from 0) and value of the current line.
    fn entry(&self) -> Result<(u32, u32, f32), Error> {
        let line = self.lines.current();
        let (row, rest) = word(line);
        let (column, rest) = word(rest);
        let (value, rest) = if self.has_values {
            word(rest)
        } else {
            (&b"1"[..], rest)
        };
        if value.is_empty() || !rest.trim_ascii_start().is_empty() {
            let expected = if self.has_values {
                "row, column and value"
            } else {
                "row and column"
            };
            let problem = format!("`{}` was found, {expected} were expected", shown(line));
            return Err(self.lines.wrong(problem));
        }
        let row = self.index(row, self.n_rows, "row")?;
        let column = self.index(column, self.n_columns, "column")?;
        let value = number(value).ok_or_else(|| {
            let problem = format!("`{}` is not a finite number", shown(value));
            self.lines.wrong(problem)
        })?;
        Ok((row, column, value))
    }

    fn index(&self, digits: &[u8], limit: u64, what: &str) -> Result<u32, Error> {
        let index = whole(digits).filter(|index| (1..=limit).contains(index));
        let position = index.and_then(|index| u32::try_from(index - 1).ok());
        position.ok_or_else(|| {
            let found = shown(digits);
            self.lines
                .wrong(format!("the {what} `{found}` is not one of 1 to {limit}"))
        })
    }
}

/// Types of entries that are read.
const FIELDS: [&[u8]; 5] = [b"integer", b"unsigned-integer", b"real", b"double", PATTERN];
/// Entries without values, each of which counts once.
const PATTERN: &[u8] = b"pattern";

/// Whether entries have values, from the first line of the file.
fn has_values(banner: &[u8]) -> Result<bool, String> {
    let banner = banner.to_ascii_lowercase();
    let words: Vec<&[u8]> = banner
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    match words[..] {
        [
            b"%%matrixmarket",
            b"matrix",
            b"coordinate",
            field,
            b"general",
        ] if FIELDS.contains(&field) => Ok(field != PATTERN),
        [b"%%matrixmarket", ref kind @ ..] => Err(format!(
            "`{}` was found, only `matrix coordinate integer general` (or `real`, `pattern`) is read",
            shown(&kind.join(&b" "[..]))
        )),
        _ => Err(format!(
            "`{}` was found, `%%MatrixMarket` was expected: is this a Matrix Market file?",
            shown(&banner)
        )),
    }
}

/// Goes to the next line that is neither empty nor a comment; false at the end of the file.
fn next_content(lines: &mut Lines) -> Result<bool, Error> {
    while let Some(line) = lines.next()? {
        let line = line.trim_ascii_start();
        if !line.is_empty() && line[0] != b'%' {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The three numbers on a line.
fn sizes(line: &[u8]) -> Option<[u64; 3]> {
    let (n_rows, rest) = word(line);
    let (n_columns, rest) = word(rest);
    let (n_entries, rest) = word(rest);
    let nothing_left = rest.trim_ascii_start().is_empty();
    nothing_left.then_some([whole(n_rows)?, whole(n_columns)?, whole(n_entries)?])
}

/// The first word of a text, maybe empty, and what comes after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace);
    text.split_at(end.unwrap_or(text.len()))
}
