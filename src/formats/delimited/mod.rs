//! Tables with commas, tabs or semicolons between fields: dense ones, and the long ones of UMI-tools.

mod long;
mod orientation;
pub(super) mod table;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::Error;
use super::text::TextTable;
use super::text::{Names, longest_line, not_kept, number, shown};
use super::transpose_spool::Spool;
pub use orientation::Orientation;
use table::Table;

/// Reads a table of numbers with a header and a first column of names, or the long table of UMI-tools.
///
/// `is_gene` recognizes the names of genes, to infer the orientation. Entries take up to `memory` bytes, names and the longest
/// line as much again at most; entries beyond that go to a temporary file.
pub fn open_file(
    path: &Path,
    orientation: Orientation,
    is_gene: Option<&dyn Fn(&str) -> bool>,
    memory: usize,
) -> Result<TextTable, Error> {
    let mut names = Names::within(memory);
    let table = Table::open(path, longest_line(memory))?;
    if let Some(columns) = long::columns(&table.header) {
        return long::read(table, columns, names, memory);
    }
    let columns = table.columns(&mut names)?;
    let by_cell = match orientation {
        Orientation::CellsByGenes => true,
        Orientation::GenesByCells => false,
        Orientation::Auto => {
            let rows = first_names(path, memory)?;
            orientation::is_by_cell(&columns, &rows, is_gene)
                .map_err(|problem| Error::input(path, problem))?
        }
    };
    read(table, columns, names, by_cell, memory)
}

/// Names of rows that are read to infer the orientation.
const SAMPLED_NAMES: usize = 10_000;

/// The names of the first rows, from a reading of their own.
fn first_names(path: &Path, memory: usize) -> Result<Vec<String>, Error> {
    if !path.is_file() {
        let problem =
            "the orientation can only be inferred from a regular file: give `--orientation`";
        return Err(Error::input(path, problem));
    }
    let (mut names, mut rows) = (Names::within(memory), Vec::new());
    let mut table = Table::open(path, longest_line(memory))?;
    while rows.len() < SAMPLED_NAMES && table.advance()? {
        rows.push(table.name(&mut names)?);
    }
    Ok(rows)
}

fn read(
    mut table: Table,
    columns: Vec<String>,
    mut names: Names,
    by_cell: bool,
    memory: usize,
) -> Result<TextTable, Error> {
    let (mut rows, mut spool) = (Vec::new(), Spool::new(memory));
    while table.advance()? {
        let row = rows.len() as u32;
        rows.push(table.name(&mut names)?);
        for (column, text) in table.record.iter().skip(1).enumerate() {
            let value = number(text).ok_or_else(|| {
                let problem = format!("`{}` is not a finite number", shown(text));
                table.wrong(format!(
                    "column {} ({}): {problem}",
                    column + 2,
                    columns[column]
                ))
            })?;
            let column = column as u32;
            let (cell, gene) = if by_cell {
                (row, column)
            } else {
                (column, row)
            };
            spool
                .push(cell, gene, value)
                .map_err(not_kept(table.path()))?;
        }
    }
    let (cell_names, gene_names) = if by_cell {
        (rows, columns)
    } else {
        (columns, rows)
    };
    Ok(TextTable {
        matrix: spool
            .finish(cell_names.len(), gene_names.len())
            .map_err(not_kept(table.path()))?,
        cell_names,
        gene_names,
        var: Vec::new(),
    })
}
