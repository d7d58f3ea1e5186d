//! Writes a copy of a file with additions, and new files.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::encode;
use super::file::{File, STATEMENT};
use super::frame::Frame;
use super::legacy;
use super::node::Node;
use crate::counts::Counts;
use crate::file_format::ANNDATA;
use crate::formats::Column;
use crate::formats::Error;

/// A matrix of cells by `width` for `obsm`, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    pub width: usize,
    pub values: Vec<f32>,
}

/// What to add to a copy of a file.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// Columns of `obs`, one entry for each cell.
    pub obs: Vec<(String, Column)>,
    /// Matrices of `obsm`, one row for each cell.
    pub obsm: Vec<(String, Embedding)>,
    /// Matrices of `obsp`, cells by cells, such as the graph of neighbors.
    pub obsp: Vec<(String, Counts)>,
    /// Unstructured values; objects become mappings, lists must be of strings, numbers or booleans.
    pub uns: Vec<(String, Value)>,
    /// Replace what has the same name already, which is an error otherwise.
    pub replace: bool,
}

/// Writes a copy of `input` with additions to `output`, which appears only once it is complete.
///
/// Everything that was there stays as it is; tables from before anndata 0.7 are rewritten as data frames of equal content.
/// What is added to a multimodal file (.h5mu) describes the cells of all modalities, in the order of [`cell_names`].
pub fn write_copy(input: &Path, output: &Path, additions: &Additions) -> Result<(), Error> {
    additions.check(&File::open(input)?, output)?;
    if is_same_file(input, output) {
        return Err(Error::input(
            output,
            "the output is the input itself, which is never modified: name another file",
        ));
    }
    write_aside(output, |aside| {
        let mut original = fs::File::open(input).map_err(|error| Error::read(input, error))?;
        std::io::copy(&mut original, aside.as_file_mut())
            .map_err(|error| Error::write(output, error))?;
        let file = unlocked()
            .open_rw(aside.path())
            .map_err(|error| Error::store(output, "/", error))?;
        // Named after the input, because elements that cannot be read came from there.
        let root = Node::root(
            input,
            file.group("/")
                .map_err(|error| Error::store(output, "/", error))?,
        );
        additions.add(&root, output)?;
        file.flush()
            .map_err(|error| Error::store(output, "/", error))
    })
}

/// Names of the cells that [`write_copy`] adds to: of a multimodal file (.h5mu), those of all modalities.
pub fn cell_names(input: &Path) -> Result<Vec<String>, Error> {
    File::open(input)?.cell_names()
}

/// The content of a new file.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    pub counts: &'a Counts,
    pub cell_names: &'a [String],
    pub gene_names: &'a [String],
    /// Columns that describe the cells, and those that describe the genes.
    pub obs: &'a [(String, Column)],
    pub var: &'a [(String, Column)],
    /// Further matrices of the same shape, by name.
    pub layers: &'a [(&'a str, &'a Counts)],
    /// As in [`Additions`].
    pub obsm: &'a [(String, Embedding)],
    pub obsp: &'a [(String, Counts)],
    pub uns: &'a [(String, Value)],
}

impl<'a> Cells<'a> {
    /// A matrix with names and nothing else.
    pub fn new(counts: &'a Counts, cell_names: &'a [String], gene_names: &'a [String]) -> Self {
        Self {
            counts,
            cell_names,
            gene_names,
            obs: &[],
            var: &[],
            layers: &[],
            obsm: &[],
            obsp: &[],
            uns: &[],
        }
    }
}

/// Writes a new file in the current encoding, with `X` as compressed rows of single precision.
pub fn create(output: &Path, cells: &Cells) -> Result<(), Error> {
    check_cells(output, cells)?;
    write_aside(output, |aside| {
        let write = || {
            let file = unlocked().create(aside.path())?;
            write_cells(&file, cells)?;
            file.flush()
        };
        write().map_err(|error| Error::store(output, "/", error))
    })
}

/// A named element to be written, with the group it belongs to and what is wrong with it.
type Element<'a> = (&'static str, &'a String, Option<String>);

/// The elements of obs, obsm, obsp and uns that describe so many cells.
fn elements<'a>(
    obs: &'a [(String, Column)],
    obsm: &'a [(String, Embedding)],
    obsp: &'a [(String, Counts)],
    uns: &'a [(String, Value)],
    n_cells: usize,
) -> impl Iterator<Item = Element<'a>> {
    let obs = obs
        .iter()
        .map(move |(name, column)| ("obs", name, column_problem(column, n_cells, "cells")));
    let obsm = obsm
        .iter()
        .map(move |(name, embedding)| ("obsm", name, embedding.problem(n_cells)));
    let obsp = obsp
        .iter()
        .map(move |(name, pairs)| ("obsp", name, pairs_problem(pairs, n_cells)));
    let uns = uns
        .iter()
        .map(|(name, value)| ("uns", name, encode::json_problem(value)));
    obs.chain(obsm).chain(obsp).chain(uns)
}

/// Why an element is not added that the file has already.
const TAKEN: &str = "the input has one of that name already; choose another name";

impl File {
    /// Fails if an element, such as `("obs", "label")`, could not be added to this file under its name.
    pub fn check_names(&self, output: &Path, elements: &[(&str, String)]) -> Result<(), Error> {
        elements
            .iter()
            .try_for_each(|(parent, name)| self.check_name(output, parent, name))
    }

    fn check_name(&self, output: &Path, parent: &str, name: &str) -> Result<(), Error> {
        let problem = match encode::name_problem(name) {
            Some(problem) => problem,
            None if self.has(parent, name)? => TAKEN.to_owned(),
            None if parent == "obs" && self.is_cell_index(name) => {
                "that is the name of the index".to_owned()
            }
            None => return Ok(()),
        };
        Err(Error::addition(output, format!("{parent}/{name}"), problem))
    }
}

impl Additions {
    /// Checks everything that can be known to fail, before anything is written.
    fn check(&self, file: &File, output: &Path) -> Result<(), Error> {
        let elements = elements(&self.obs, &self.obsm, &self.obsp, &self.uns, file.n_cells());
        let mut seen = HashSet::new();
        for (parent, name, problem) in elements {
            let element = format!("{parent}/{name}");
            let problem = encode::name_problem(name).or(problem).or_else(|| {
                let is_new = seen.insert((parent, name));
                (!is_new).then(|| "it is to be added twice".to_owned())
            });
            if let Some(problem) = problem {
                return Err(Error::addition(output, element, problem));
            }
            if !self.replace && file.has(parent, name)? {
                return Err(Error::addition(output, element, TAKEN));
            }
            if parent == "obs" && file.is_cell_index(name) {
                return Err(Error::addition(
                    output,
                    element,
                    "that is the name of the index",
                ));
            }
        }
        Ok(())
    }

    fn add(&self, root: &Node, output: &Path) -> Result<(), Error> {
        let explain = |element: &str, error| Error::store(output, element, error);
        if !self.obs.is_empty() {
            legacy::rewrite_frames(root, &explain)?;
            self.add_columns(root, output)?;
        }
        legacy_obsm(root, &self.obsm, &explain)?;
        let into = Members { root, output };
        into.write("obsm", &self.obsm, write_embedding)?;
        into.write("obsp", &self.obsp, write_counts)?;
        into.write("uns", &[statement()], encode::json)?;
        into.write("uns", &self.uns, encode::json)
    }

    fn add_columns(&self, root: &Node, output: &Path) -> Result<(), Error> {
        let node = root.require("obs")?;
        let mut columns = Frame::open(node.clone(), None)?.columns()?;
        let group = node.group()?;
        for (name, column) in &self.obs {
            let written = clear(group, name).and_then(|()| encode::column(group, name, column));
            written.map_err(|error| Error::store(output, &format!("obs/{name}"), error))?;
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        encode::column_order(group, &columns).map_err(|error| Error::store(output, "obs", error))
    }
}

fn statement() -> (String, Value) {
    let statement = serde_json::to_value(ANNDATA.statement());
    (STATEMENT.to_owned(), statement.expect("texts and a number"))
}

/// A table of arrays from before anndata 0.7 is rewritten if something is added to it.
fn legacy_obsm(
    root: &Node,
    added: &[(String, Embedding)],
    explain: legacy::Explain,
) -> Result<(), Error> {
    if added.is_empty() {
        return Ok(());
    }
    legacy::rewrite_arrays(root, "obsm", explain)
}

/// Where named elements are written.
struct Members<'a> {
    root: &'a Node,
    output: &'a Path,
}

impl Members<'_> {
    /// Writes elements into a group, replacing members of the same name.
    fn write<T>(
        &self,
        parent: &str,
        elements: &[(String, T)],
        write: impl Fn(&hdf5::Group, &str, &T) -> hdf5::Result<()>,
    ) -> Result<(), Error> {
        if elements.is_empty() {
            return Ok(());
        }
        let group = open_dict(self.root, parent, self.output)?;
        for (name, element) in elements {
            let written = clear(&group, name).and_then(|()| write(&group, name, element));
            written
                .map_err(|error| Error::store(self.output, &format!("{parent}/{name}"), error))?;
        }
        Ok(())
    }
}

fn write_embedding(parent: &hdf5::Group, name: &str, embedding: &Embedding) -> hdf5::Result<()> {
    let shape = [embedding.values.len() / embedding.width, embedding.width];
    encode::array(parent, name, &shape, &embedding.values)
}

impl Embedding {
    fn problem(&self, n_cells: usize) -> Option<String> {
        let expected = n_cells.checked_mul(self.width);
        (self.width == 0 || expected != Some(self.values.len())).then(|| {
            let found = self.values.len();
            format!(
                "it has {found} values, but {n_cells} cells with {} values each were expected",
                self.width
            )
        })
    }
}

fn pairs_problem(pairs: &Counts, n_cells: usize) -> Option<String> {
    let shape = [pairs.n_cells(), pairs.n_genes];
    (shape != [n_cells, n_cells]).then(|| {
        format!(
            "it has {} rows and {} columns, but {n_cells} cells by {n_cells} cells were expected",
            shape[0], shape[1]
        )
    })
}

fn column_problem(column: &Column, expected: usize, what: &str) -> Option<String> {
    if column.len() != expected {
        return Some(format!(
            "it has {} entries, but there are {expected} {what}",
            column.len()
        ));
    }
    match column {
        Column::Text(entries) => entries
            .iter()
            .flatten()
            .find_map(|text| encode::text_problem(text)),
        Column::Categorical {
            codes, categories, ..
        } => {
            let limit = categories.len().min(i32::MAX as usize);
            let outside = codes.iter().flatten().find(|&&code| code as usize >= limit);
            let problem =
                outside.map(|code| format!("code {code} is not one of the {limit} categories"));
            problem.or_else(|| {
                let mut seen = HashSet::new();
                categories.iter().find_map(|name| {
                    let is_new = seen.insert(name);
                    let again = || (!is_new).then(|| format!("category `{name}` is there twice"));
                    encode::text_problem(name).or_else(again)
                })
            })
        }
        Column::Number(_) | Column::Boolean(_) => None,
    }
}

fn check_cells(output: &Path, cells: &Cells) -> Result<(), Error> {
    let (n_cells, n_genes) = (cells.counts.n_cells(), cells.counts.n_genes);
    for (element, names, expected) in [
        ("obs", cells.cell_names, n_cells),
        ("var", cells.gene_names, n_genes),
    ] {
        if names.len() != expected {
            let problem = format!(
                "it has {} names, but the matrix has {expected}",
                names.len()
            );
            return Err(Error::addition(output, element, problem));
        }
        if let Some(problem) = names.iter().find_map(|name| encode::text_problem(name)) {
            return Err(Error::addition(output, element, problem));
        }
    }
    let of_cells = elements(cells.obs, cells.obsm, cells.obsp, cells.uns, n_cells);
    let of_genes = cells
        .var
        .iter()
        .map(|(name, column)| ("var", name, column_problem(column, n_genes, "genes")));
    let mut seen = HashSet::new();
    for (parent, name, problem) in of_cells.chain(of_genes) {
        let is_frame = matches!(parent, "obs" | "var");
        let is_there = (is_frame && name == INDEX) || !seen.insert((parent, name));
        let problem = encode::name_problem(name)
            .or(problem)
            .or_else(|| is_there.then(|| "it is there already".to_owned()));
        if let Some(problem) = problem {
            return Err(Error::addition(output, format!("{parent}/{name}"), problem));
        }
    }
    Ok(())
}

const INDEX: &str = "_index";

fn write_cells(root: &hdf5::Group, cells: &Cells) -> hdf5::Result<()> {
    encode::mark(root, "anndata", "0.1.0")?;
    write_counts(root, "X", cells.counts)?;
    for (name, index, columns) in [
        ("obs", cells.cell_names, cells.obs),
        ("var", cells.gene_names, cells.var),
    ] {
        let frame = encode::group(root, name)?;
        encode::texts(&frame, INDEX, index)?;
        columns
            .iter()
            .try_for_each(|(name, column)| encode::column(&frame, name, column))?;
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        encode::mark_frame(&frame, INDEX, &names)?;
    }
    let layers = encode::dict(root, "layers")?;
    for (name, counts) in cells.layers {
        write_counts(&layers, name, counts)?;
    }
    write_members(root, "obsm", cells.obsm, write_embedding)?;
    write_members(root, "obsp", cells.obsp, write_counts)?;
    let uns: Vec<(String, Value)> = [statement()]
        .into_iter()
        .chain(cells.uns.to_vec())
        .collect();
    write_members(root, "uns", &uns, encode::json)?;
    ["varm", "varp"]
        .iter()
        .try_for_each(|name| encode::dict(root, name).map(drop))
}

/// A new group with named elements.
fn write_members<T>(
    root: &hdf5::Group,
    parent: &str,
    elements: &[(String, T)],
    write: impl Fn(&hdf5::Group, &str, &T) -> hdf5::Result<()>,
) -> hdf5::Result<()> {
    let group = encode::dict(root, parent)?;
    elements
        .iter()
        .try_for_each(|(name, element)| write(&group, name, element))
}

/// A matrix as compressed rows.
fn write_counts(parent: &hdf5::Group, name: &str, counts: &Counts) -> hdf5::Result<()> {
    let group = encode::group(parent, name)?;
    encode::mark(&group, "csr_matrix", "0.1.0")?;
    let shape = [counts.n_cells() as i64, counts.n_genes as i64];
    encode::array_attribute(&group, "shape", &shape)?;
    let offsets: Vec<i64> = counts.offsets.iter().map(|&offset| offset as i64).collect();
    let genes: Vec<i32> = counts.genes.iter().map(|&gene| gene as i32).collect();
    encode::compressed(&group, "indptr", &[offsets.len()], &offsets)?;
    encode::compressed(&group, "indices", &[genes.len()], &genes)?;
    encode::compressed(&group, "data", &[counts.values.len()], &counts.values)?;
    Ok(())
}

/// Lets `write` fill a file in the directory of `output`, which is renamed to it only on success.
fn write_aside(
    output: &Path,
    write: impl FnOnce(&mut NamedTempFile) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |error| Error::write(output, error);
    if output.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let directory = output
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    options.prefix(".").suffix(".partial");
    // As any new file: readable by others unless the user's umask forbids it.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut aside = options.tempfile_in(directory).map_err(failed)?;
    write(&mut aside)?;
    aside.as_file().sync_all().map_err(failed)?;
    aside.persist(output).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Opens and creates files without a lock: no other process knows the file that is being written, and some file systems have no
/// locks.
pub(super) fn unlocked() -> hdf5::FileBuilder {
    let mut options = hdf5::File::with_options();
    options.with_fapl(|access| access.file_locking(false));
    // The root of a new file would keep the time of its making.
    options.with_fcpl(|creation| creation.obj_track_times(false));
    options
}

fn is_same_file(input: &Path, output: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(input), Ok(output)) = (fs::metadata(input), fs::metadata(output)) {
        use std::os::unix::fs::MetadataExt;
        return (input.dev(), input.ino()) == (output.dev(), output.ino());
    }
    matches!((input.canonicalize(), output.canonicalize()), (Ok(input), Ok(output)) if input == output)
}

fn open_dict(root: &Node, name: &str, output: &Path) -> Result<hdf5::Group, Error> {
    match root.child(name)? {
        Some(node) => node.group().cloned(),
        None => {
            encode::dict(root.group()?, name).map_err(|error| Error::store(output, name, error))
        }
    }
}

/// Removes the member that is to be replaced.
fn clear(group: &hdf5::Group, name: &str) -> hdf5::Result<()> {
    if group.link_exists(name) {
        group.unlink(name)
    } else {
        Ok(())
    }
}
