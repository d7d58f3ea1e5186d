//! The inputs: files and directories of `--input` or a sample sheet, opened one after another.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use serde_json::json;

use super::Options;
use crate::cells::{Cells, Prefer};
use crate::corpus::{self, Corpus, Kind};
use crate::failure::Failure;
use crate::formats::{self, Column, Matrix, Plain, Source, Spool, Table};
use crate::programs::samples::{self, Input};
use crate::run_record::Run;
use crate::vocabulary::Vocabulary;

/// All tables to read, in order.
pub struct Inputs {
    pub list: Vec<Input>,
    /// The input that was opened last, so that a single input is opened once.
    last: RefCell<Option<(usize, Rc<Opened>)>>,
}

impl Inputs {
    pub fn list(options: &Options, run: &mut Run) -> Result<Self> {
        let list = match &options.samples {
            Some(sheet) => samples::read(sheet)?,
            None => options
                .input
                .iter()
                .map(|path| Input {
                    path: path.clone(),
                    annotations: Vec::new(),
                })
                .collect(),
        };
        for input in &list {
            run.input_unread(&input.path)?;
        }
        Ok(Self {
            list,
            last: RefCell::new(None),
        })
    }

    /// Opens an input; `known` is the given vocabulary, if any.
    pub fn open(
        &self,
        number: usize,
        options: &Options,
        known: Option<&Vocabulary>,
    ) -> Result<Rc<Opened>> {
        let mut last = self.last.borrow_mut();
        if let Some((_, opened)) = last.as_ref().filter(|(at, _)| *at == number) {
            return Ok(Rc::clone(opened));
        }
        // The previous input is closed first: it may use all of the allowed memory.
        *last = None;
        let opened = Rc::new(open(options, &self.list[number], known)?);
        *last = Some((number, Rc::clone(&opened)));
        Ok(opened)
    }

    /// Identity of the inputs, which a resumed run compares.
    pub fn fingerprint(&self) -> Result<serde_json::Value> {
        let mut found = Vec::new();
        for Input { path, annotations } in &self.list {
            let metadata = fs::metadata(path)?;
            let modified = metadata.modified().ok();
            let modified = modified.and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
            let modified = modified.map(|duration| duration.as_nanos().to_string());
            found.push(json!([path, metadata.len(), modified, annotations]));
        }
        Ok(found.into())
    }
}

/// An open table with its selected matrix and gene names.
pub struct Opened {
    pub cells: Cells,
    /// Names of the genes, empty for features of another type than requested.
    pub genes: Vec<String>,
}

fn open(options: &Options, input: &Input, known: Option<&Vocabulary>) -> Result<Opened> {
    let table = if is_corpus(&input.path) {
        Table::Plain(read_corpus(options, &input.path, known)?)
    } else {
        let is_gene = known.map(|known| move |gene: &str| known.gene_id(gene).is_some());
        let is_gene = is_gene
            .as_ref()
            .map(|is_gene| is_gene as &dyn Fn(&str) -> bool);
        formats::open(
            &input.path,
            &options.formats,
            is_gene,
            options.spool_memory(),
        )?
    };
    let mut cells = Cells::of(table, &options.cells, known, Prefer::Counts)?;
    let mut genes = cells.genes.clone();
    drop_other_features(options, &mut cells, &mut genes)?;
    Ok(Opened { cells, genes })
}

/// Whether a directory is a tokenized corpus.
fn is_corpus(path: &Path) -> bool {
    let contains = |name: &str| path.join(name).exists();
    path.is_dir()
        && (contains(corpus::MANIFEST) || (contains(corpus::VOCABULARY) && !contains("matrix.mtx")))
}

/// Reads a corpus or cell bank as a table.
fn read_corpus(options: &Options, path: &Path, known: Option<&Vocabulary>) -> Result<Plain> {
    let corpus = match Corpus::open(path) {
        Ok(corpus) => corpus,
        Err(error) => match known {
            Some(known) if !path.join(corpus::MANIFEST).exists() => {
                Corpus::of_tables(path, known.clone())?
            }
            _ => return Err(error.into()),
        },
    };
    let full = |error| Failure::ReadWrite.mark(anyhow::Error::new(error));
    let mut spool = Spool::new(options.spool_memory());
    let mut obs = Vec::new();
    let mut n_cells = 0;
    for (at, table) in corpus.tables().iter().enumerate() {
        for group in 0..table.groups.len() {
            let cells = corpus.read_group(at, group)?;
            for (row, span) in cells.offsets.windows(2).enumerate() {
                for token in span[0]..span[1] {
                    let cell = (n_cells + row) as u32;
                    spool
                        .push(cell, cells.genes[token], cells.values[token])
                        .map_err(full)?;
                }
            }
            for (column, values) in table.obs.iter().zip(&cells.obs) {
                add_labels(&mut obs, column, n_cells, values);
            }
            n_cells += cells.cells();
        }
    }
    let vocabulary = corpus.vocabulary();
    let is_gene = |token: &&str| vocabulary.gene_id(token).is_some();
    // Special tokens keep their column, but are not genes.
    let gene = |token| Some(token).filter(is_gene).unwrap_or_default().to_owned();
    let gene_names: Vec<String> = vocabulary.tokens().map(gene).collect();
    let matrix = spool.finish(n_cells, gene_names.len()).map_err(full)?;
    let column = |Annotation {
                      name,
                      kind,
                      mut labels,
                  }| {
        labels.resize(n_cells, None);
        (name, column_of(kind, labels))
    };
    Ok(Plain {
        path: path.to_owned(),
        cell_names: (0..n_cells).map(|cell| cell.to_string()).collect(),
        gene_names,
        obs: obs.into_iter().map(column).collect(),
        var: Vec::new(),
        matrices: vec![(Source::X, Matrix::spooled(matrix, path).into())],
    })
}

/// A column of a corpus, read group by group.
struct Annotation {
    name: String,
    kind: Kind,
    labels: Vec<Option<String>>,
}

/// Adds the values of a column in a group that starts with cell `first`. A column whose type differs between files is text.
fn add_labels(
    columns: &mut Vec<Annotation>,
    (name, kind): &(String, Kind),
    first: usize,
    values: &Column,
) {
    let at = columns.iter().position(|column| column.name == *name);
    let at = at.unwrap_or_else(|| {
        columns.push(Annotation {
            name: name.clone(),
            kind: *kind,
            labels: Vec::new(),
        });
        columns.len() - 1
    });
    let column = &mut columns[at];
    if column.kind != *kind {
        column.kind = Kind::Text;
    }
    column.labels.resize(first, None);
    column.labels.extend(values.to_labels());
}

/// A column of the type from which its labels were made.
fn column_of(kind: Kind, labels: Vec<Option<String>>) -> Column {
    let labels = labels.into_iter();
    match kind {
        Kind::Text => Column::Text(labels.collect()),
        Kind::Number => Column::Number(labels.map(|label| label?.parse().ok()).collect()),
        Kind::Boolean => Column::Boolean(labels.map(|label| Some(label? == "True")).collect()),
    }
}

/// Drops features of other types, such as antibodies and guides in files of Cell Ranger.
fn drop_other_features(options: &Options, cells: &mut Cells, genes: &mut [String]) -> Result<()> {
    let source = cells.source.clone();
    let columns = cells.table.var_columns(&source)?;
    if !columns.iter().any(|name| name == "feature_types") {
        return Ok(());
    }
    let types = cells.table.var(&source, "feature_types")?.to_labels();
    let wanted = |kind: &Option<String>| kind.as_ref().is_none_or(|k| *k == options.feature_type);
    let dropped = types.iter().filter(|kind| !wanted(kind)).count();
    if dropped == types.len() && !types.is_empty() {
        let found = types[0].as_deref().unwrap_or_default();
        return Err(Failure::Input.error(format!(
            "`{}` has no feature of the type `{}`, but of the type `{found}`: choose one with `--feature-type`",
            cells.table.path().display(),
            options.feature_type
        )));
    }
    if dropped > 0 {
        let note = format!(
            "{dropped} features are not of the type `{}` and are dropped",
            options.feature_type
        );
        cells.notes.push(note);
    }
    for (gene, kind) in genes.iter_mut().zip(&types) {
        if !wanted(kind) {
            gene.clear();
        }
    }
    Ok(())
}
