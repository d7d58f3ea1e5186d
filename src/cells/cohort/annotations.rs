//! Columns of obs of several files as one.

use std::path::PathBuf;

use indexmap::{IndexMap, IndexSet};

use super::Source;
use super::reading::Part;
use crate::cells::Error;
use crate::formats::Column;

/// The columns of obs of one file.
#[derive(Debug)]
pub(super) struct Annotations {
    path: PathBuf,
    columns: Vec<(String, Column)>,
    /// Cell of the cohort for every row.
    cells: Vec<usize>,
}

/// The annotations of the parts, in the order of the parts.
pub(super) fn of(parts: Vec<Part>, rows: &[Vec<usize>], sources: &[Source]) -> Vec<Annotations> {
    let each = parts.into_iter().zip(rows);
    each.map(|(part, rows)| Annotations {
        path: sources[part.source].path.clone(),
        columns: part.obs,
        cells: rows.clone(),
    })
    .collect()
}

/// One column as text.
pub(super) fn labels(
    annotations: &[Annotations],
    column: &str,
    n_cells: usize,
) -> Result<Vec<Option<String>>, Error> {
    let found = named(annotations, column);
    if found.is_empty() {
        return Err(missing(annotations, column));
    }
    Ok(first_of_each(&found, n_cells, Column::label))
}

/// All columns, in the order of their first appearance.
pub(super) fn merge(annotations: &[Annotations], n_cells: usize) -> Vec<(String, Column)> {
    let columns = annotations.iter().flat_map(|file| &file.columns);
    let names: IndexSet<&str> = columns.map(|(name, _)| name.as_str()).collect();
    names
        .into_iter()
        .map(|name| (name.to_owned(), join(&named(annotations, name), n_cells)))
        .collect()
}

/// A column of one file and the cells it describes.
type Found<'a> = (&'a [usize], &'a Column);

fn named<'a>(annotations: &'a [Annotations], name: &str) -> Vec<Found<'a>> {
    let of_file = |file: &'a Annotations| {
        let column = file.columns.iter().find(|(known, _)| known == name)?;
        Some((&file.cells[..], &column.1))
    };
    annotations.iter().filter_map(of_file).collect()
}

/// For every cell the entry of the first column that has one.
fn first_of_each<T>(
    found: &[Found],
    n_cells: usize,
    entry: impl Fn(&Column, usize) -> Option<T>,
) -> Vec<Option<T>> {
    let mut entries: Vec<Option<T>> = (0..n_cells).map(|_| None).collect();
    for (cells, column) in found {
        for (row, &cell) in cells.iter().enumerate() {
            if entries[cell].is_none() {
                entries[cell] = entry(column, row);
            }
        }
    }
    entries
}

/// Columns of the same type keep it, others become text.
fn join(found: &[Found], n_cells: usize) -> Column {
    let all = |is: fn(&Column) -> bool| found.iter().all(|(_, column)| is(column));
    if all(|column| matches!(column, Column::Number(_))) {
        Column::Number(first_of_each(found, n_cells, Column::number))
    } else if all(|column| matches!(column, Column::Boolean(_))) {
        Column::Boolean(first_of_each(found, n_cells, Column::flag))
    } else if all(|column| matches!(column, Column::Categorical { .. })) {
        join_categories(found, n_cells)
    } else {
        Column::Text(first_of_each(found, n_cells, Column::label))
    }
}

/// All categories in the order of their first appearance; ordered if all files have the same in the same order.
fn join_categories(found: &[Found], n_cells: usize) -> Column {
    let lists: Vec<(&Vec<String>, bool)> = found
        .iter()
        .filter_map(|(_, column)| match column {
            Column::Categorical {
                categories,
                ordered,
                ..
            } => Some((categories, *ordered)),
            _ => None,
        })
        .collect();
    let all: IndexSet<&String> = lists.iter().flat_map(|(names, _)| *names).collect();
    let code = |column: &Column, row: usize| {
        let label = column.label(row)?;
        all.get_index_of(&label).map(|code| code as u32)
    };
    Column::Categorical {
        codes: first_of_each(found, n_cells, code),
        ordered: lists.iter().all(|list| list.1 && list.0 == lists[0].0),
        categories: all.into_iter().cloned().collect(),
    }
}

fn missing(annotations: &[Annotations], column: &str) -> Error {
    let mut files: IndexMap<&PathBuf, Vec<&str>> = IndexMap::new();
    for file in annotations {
        let names = file.columns.iter().map(|(name, _)| name.as_str());
        files.entry(&file.path).or_default().extend(names);
    }
    let has = |(path, names): (&&PathBuf, &Vec<&str>)| {
        let names = match names[..] {
            [] => "none".to_owned(),
            _ => format!("`{}`", names.join("`, `")),
        };
        format!("`{}` has {names}", path.display())
    };
    let files: Vec<String> = files.iter().map(has).collect();
    Error::Cohort(format!(
        "no file has a column `{column}` in obs: {}",
        files.join("; ")
    ))
}
