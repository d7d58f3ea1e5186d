//! The long table of UMI-tools (<https://umi-tools.readthedocs.io>, `count`): a line for each gene and cell with a count.

use csv::ByteRecord;
use indexmap::IndexSet;

use super::table::Table;
use crate::formats::Error;
use crate::formats::text::TextTable;
use crate::formats::text::{Names, not_kept, number, shown};
use crate::formats::transpose_spool::Spool;

/// Positions of gene, cell and count, if that is what the header names.
pub fn columns(header: &ByteRecord) -> Option<[usize; 3]> {
    let position = |name: &str| {
        let mut fields = header.iter();
        fields.position(|field| field.eq_ignore_ascii_case(name.as_bytes()))
    };
    let columns = [position("gene")?, position("cell")?, position("count")?];
    (header.len() == columns.len()).then_some(columns)
}

/// Reads such a table; cells and genes are in the order in which they first come.
pub fn read(
    mut table: Table,
    [gene, cell, count]: [usize; 3],
    mut names: Names,
    memory: usize,
) -> Result<TextTable, Error> {
    let (mut genes, mut cells) = (IndexSet::new(), IndexSet::new());
    let mut spool = Spool::new(memory);
    while table.advance()? {
        if table.record.len() != table.header.len() {
            let found = table.record.len();
            return Err(table.wrong(format!("{found} fields were found, 3 were expected")));
        }
        let mut place = |set: &mut IndexSet<String>, column: usize| {
            let place = place(set, &table.record[column], &mut names);
            place.map_err(|problem| table.wrong(problem))
        };
        let (gene, cell) = (place(&mut genes, gene)?, place(&mut cells, cell)?);
        let value = number(&table.record[count]).ok_or_else(|| {
            let found = shown(&table.record[count]);
            table.wrong(format!(
                "column {}: `{found}` is not a finite number",
                count + 1
            ))
        })?;
        spool
            .push(cell, gene, value)
            .map_err(not_kept(table.path()))?;
    }
    Ok(TextTable {
        matrix: spool
            .finish(cells.len(), genes.len())
            .map_err(not_kept(table.path()))?,
        cell_names: cells.into_iter().collect(),
        gene_names: genes.into_iter().collect(),
        var: Vec::new(),
    })
}

/// The position of a name, new or not.
fn place(set: &mut IndexSet<String>, name: &[u8], names: &mut Names) -> Result<u32, String> {
    let known = str::from_utf8(name)
        .ok()
        .and_then(|name| set.get_index_of(name));
    let position = match known {
        Some(position) => position,
        None => set.insert_full(names.name(name)?).0,
    };
    Ok(position as u32)
}
