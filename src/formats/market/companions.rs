//! The files with the cell and gene names of a matrix, under the names that Cell Ranger, STARsolo, kallisto and GEO give them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::formats::compressed::Lines;
use crate::formats::text::{Names, longest_line, shown};
use crate::formats::{Column, Error};

/// Ends of names, the most common first.
const COMPRESSIONS: [&str; 3] = ["", ".gz", ".zst"];
const GENES: [&str; 5] = [
    "features.tsv",
    "genes.tsv",
    "features.txt",
    "genes.txt",
    "gene_names.txt",
];
const CELLS: [&str; 4] = ["barcodes.tsv", "cells.tsv", "barcodes.txt", "cells.txt"];

/// The one matrix in a directory: if there are several, the one called `matrix.mtx`, with or without a prefix.
pub fn matrix_of(directory: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::read(directory, source);
    let mut matrices: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(failed)?;
    paths.sort();
    for path in paths {
        if let Some(stem) = stem(&path) {
            matrices.entry(stem).or_insert(path);
        }
    }
    if matrices.keys().any(|stem| stem.ends_with("matrix")) {
        matrices.retain(|stem, _| stem.ends_with("matrix"));
    }
    let found: Vec<String> = matrices
        .keys()
        .map(|stem| format!("`{stem}.mtx`"))
        .collect();
    match matrices.into_values().next() {
        Some(path) if found.len() == 1 => Ok(path),
        Some(_) => Err(Error::input(
            directory,
            format!(
                "the directory holds several matrices ({}): give one of these files as the input",
                found.join(", ")
            ),
        )),
        None => Err(Error::input(
            directory,
            "the directory holds no `matrix.mtx`, compressed (`.gz`, `.zst`) or not",
        )),
    }
}

/// The name of a matrix without `.mtx` and the extension of the compression.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let plain = ["gz", "zst"]
        .iter()
        .find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))
        .unwrap_or(name);
    plain.strip_suffix(".mtx").map(str::to_owned)
}

/// Where the names of a matrix are.
pub struct Companions {
    pub cells: PathBuf,
    pub genes: PathBuf,
}

/// The names of a matrix.
pub struct Labels {
    pub cells: Vec<String>,
    pub genes: Vec<String>,
    pub var: Vec<(String, Column)>,
}

impl Companions {
    /// The files next to a matrix with the same prefix; for a matrix not called `matrix.mtx` its own name is the prefix,
    /// or there is none.
    pub fn of_matrix(matrix: &Path) -> Result<Self, Error> {
        let name = matrix.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem(matrix).unwrap_or_else(|| name.into_owned());
        let prefixes = match stem.strip_suffix("matrix") {
            Some(prefix) => vec![prefix.to_owned()],
            None => vec![format!("{stem}."), format!("{stem}_"), String::new()],
        };
        let directory = matrix.parent().unwrap_or(Path::new(""));
        let find = |prefix: &str, names: &[&str]| {
            let names = names
                .iter()
                .flat_map(|name| COMPRESSIONS.map(|end| format!("{prefix}{name}{end}")));
            names
                .map(|name| directory.join(name))
                .find(|path| path.is_file())
        };
        let found = prefixes.iter().find_map(|prefix| {
            Some(Self {
                cells: find(prefix, &CELLS)?,
                genes: find(prefix, &GENES)?,
            })
        });
        found.ok_or_else(|| {
            let prefix = &prefixes[0];
            Error::input(
                matrix,
                format!(
                    "the names of its cells and genes are missing: `{prefix}barcodes.tsv` and `{prefix}features.tsv` \
                     (or `{prefix}genes.tsv`) were expected next to it, compressed (`.gz`, `.zst`) or not"
                ),
            )
        })
    }

    /// Reads both lists within some memory.
    pub fn read(&self, memory: usize) -> Result<Labels, Error> {
        let mut names = Names::within(memory);
        let [cells] = columns(&self.cells, memory, &mut names, 1)?
            .try_into()
            .expect("one column was requested");
        let mut columns = columns(&self.genes, memory, &mut names, 3)?.into_iter();
        let ids = columns.next().expect("a list has a first column");
        let Some(symbols) = columns.next() else {
            let genes = ids;
            return Ok(Labels {
                cells,
                genes,
                var: Vec::new(),
            });
        };
        let genes = symbols
            .into_iter()
            .zip(&ids)
            .map(|(symbol, id)| {
                if symbol.is_empty() {
                    id.clone()
                } else {
                    symbol
                }
            })
            .collect();
        let ids = Column::Text(ids.into_iter().map(Some).collect());
        let mut var = vec![("gene_ids".to_owned(), ids)];
        if let Some(types) = columns.next() {
            let types: Vec<_> = types.into_iter().map(Some).collect();
            var.push(("feature_types".to_owned(), Column::from_labels(&types)));
        }
        Ok(Labels { cells, genes, var })
    }
}

/// The first columns, `most` of them or as many as the first line has, of a list with tabs between columns.
fn columns(
    path: &Path,
    memory: usize,
    names: &mut Names,
    most: usize,
) -> Result<Vec<Vec<String>>, Error> {
    let mut lines = Lines::open(path, longest_line(memory))?;
    let mut columns: Vec<Vec<String>> = vec![Vec::new()];
    let mut is_first = true;
    while let Some(line) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        if is_first {
            let width = memchr::memchr_iter(b'\t', line).count() + 1;
            columns.resize(width.min(most), Vec::new());
            is_first = false;
        }
        let mut fields = line.split(|&byte| byte == b'\t').map(unquoted);
        let added = columns.iter_mut().try_for_each(|column| {
            let field = fields.next().ok_or_else(|| {
                format!("`{}` has fewer columns than the first line", shown(line))
            })?;
            column.push(names.name(field)?);
            Ok::<(), String>(())
        });
        added.map_err(|problem| lines.wrong(problem))?;
    }
    Ok(columns)
}

fn unquoted(field: &[u8]) -> &[u8] {
    let inner = field
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(field)
}
