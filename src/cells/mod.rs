//! Cells of a file as a model reads them: matrix, gene names and form of the values.

pub mod cohort;
pub mod conditions;
pub mod controls;
pub mod naming;
pub mod perturbation;

use crate::counts::Counts;
use crate::expression::state::{State, ValueKindReport, judge};
use crate::formats::h5ad::File;
use crate::formats::{self, Column, Matrix, Source, Table};
use crate::vocabulary::Vocabulary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Matrix and gene names to read from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Expression matrix: X, raw (raw.X) or layers/NAME, with counts or log-normalized values. Default: X if suitable, else raw;
    /// scgpt-tokenize prefers counts, also in layers.
    #[arg(long, value_name = "NAME")]
    pub matrix: Option<String>,
    /// Column of var with gene names. Default: the index of var, feature_name, gene_name, gene_names, gene_symbol or
    /// gene_symbols, whichever matches most genes of the vocabulary; without a vocabulary, the index, or one of these columns if
    /// the index holds Ensembl IDs.
    #[arg(long, value_name = "COLUMN")]
    pub gene_column: Option<String>,
}

/// Common columns of gene names.
const NAME_COLUMNS: [&str; 5] = [
    "feature_name",
    "gene_name",
    "gene_names",
    "gene_symbol",
    "gene_symbols",
];
/// Values read to detect the form of a matrix.
const SAMPLE_VALUES: usize = 1_000_000;

/// Why cells cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] formats::Error),
    #[error("{0}")]
    Matrix(String),
    #[error("`{}` holds no cells: give a file with at least one", .0.display())]
    NoCells(PathBuf),
    #[error(
        "`{path}`, matrix `{source_name}`: {judgment}, but a model reads counts or log-normalized values; {remedy}"
    )]
    Values {
        path: PathBuf,
        source_name: String,
        judgment: String,
        remedy: String,
    },
    #[error(
        "none of the {} genes of `{path}` matches the vocabulary of the model: the file has {}, the model {}; give the column of gene symbols with `--gene-column`",
        found.len(), list(found), list(known)
    )]
    NoGenes {
        path: PathBuf,
        found: Vec<String>,
        known: Vec<String>,
    },
    #[error(
        "only {matched} of the {n_genes} genes of `{}` match the vocabulary: the file has {}, the vocabulary {}; {remedy}",
        path.display(), list(found), list(known)
    )]
    FewGenes {
        path: PathBuf,
        matched: usize,
        n_genes: usize,
        found: Vec<String>,
        known: Vec<String>,
        remedy: String,
    },
    #[error("`{}`: columns `{}` and `{}` are both the gene `{gene}`; choose how to handle them with `--duplicates`", path.display(), columns[0], columns[1])]
    Duplicate {
        path: PathBuf,
        gene: String,
        columns: [String; 2],
    },
    #[error("{0}")]
    Cohort(String),
    #[error("`{}`, column `{column}`: {source}", path.display())]
    Conditions {
        path: PathBuf,
        column: String,
        source: Box<perturbation::ReadError>,
    },
    #[error("`{}`: {problem}", path.display())]
    Table { path: PathBuf, problem: String },
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(5)
        .map(|name| format!("`{name}`"))
        .collect();
    format!(
        "{}{}",
        shown.join(", "),
        if names.len() > 5 { " ..." } else { "" }
    )
}

/// An open file with its matrix chosen and its values classified.
pub struct Cells {
    pub table: Table,
    pub judgment: ValueKindReport,
    /// Which matrix it is.
    pub source: Source,
    /// Gene names of the matrix, in its order.
    pub genes: Vec<String>,
    path: PathBuf,
    matrix: Arc<Matrix>,
    /// Messages on automatic choices.
    pub notes: Vec<String>,
}

/// Default matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The first of X and raw that holds counts or log-normalized values.
    First,
    /// The first of X, raw and layers with a name of counts that holds counts; else as above.
    Counts,
}

/// Names of layers with counts.
const COUNT_LAYERS: [&str; 4] = ["counts", "raw_counts", "raw", "umi"];

/// Target column of each column of a matrix; several columns of one gene are summed.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    place: Vec<Option<u32>>,
    /// Number of target columns.
    pub n_genes: usize,
    /// Target columns that the matrix has.
    pub n_matched: usize,
}

impl Cells {
    /// Opens an AnnData file. `known` is the vocabulary of a model, by which the column of names is chosen; default is the index.
    pub fn open(path: &Path, options: &Options, known: Option<&Vocabulary>) -> Result<Self, Error> {
        let table = Table::AnnData(File::open(path)?.into());
        Self::of(table, options, known, Prefer::First)
    }

    /// Chooses and classifies the matrix of a table of any format.
    pub fn of(
        table: Table,
        options: &Options,
        known: Option<&Vocabulary>,
        prefer: Prefer,
    ) -> Result<Self, Error> {
        let path = table.path().to_owned();
        if table.n_cells() == 0 {
            return Err(Error::NoCells(path));
        }
        let mut notes = Vec::new();
        let (source, matrix, judgment) = choose_matrix(&table, options, prefer, &mut notes)?;
        notes.push(format!(
            "`{}`, matrix `{source}`: {judgment}",
            path.display()
        ));
        let genes = choose_names(&table, &source, options, known, &mut notes)?;
        Ok(Self {
            table,
            judgment,
            source,
            genes,
            path,
            matrix,
            notes,
        })
    }

    pub fn n_cells(&self) -> usize {
        self.matrix.n_cells()
    }

    /// The file's genes that are in the vocabulary, in file order, with the mapping of their columns.
    pub fn known_genes(&self, vocabulary: &Vocabulary) -> Result<(Vec<String>, Columns), Error> {
        let mut wanted: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for gene in self
            .genes
            .iter()
            .filter(|gene| vocabulary.gene_id(gene).is_some())
        {
            if seen.insert(gene.as_str()) {
                wanted.push(gene.clone());
            }
        }
        if wanted.is_empty() {
            return Err(self.no_genes(vocabulary.genes().map(str::to_owned).collect()));
        }
        let columns = self.columns(&wanted)?;
        Ok((wanted, columns))
    }

    /// Mapping of columns to the wanted genes, in their order.
    pub fn columns(&self, wanted: &[String]) -> Result<Columns, Error> {
        let columns = Columns::new(&self.genes, wanted);
        if columns.n_matched == 0 {
            return Err(self.no_genes(wanted.to_vec()));
        }
        Ok(columns)
    }

    /// The values of some cells for the wanted genes.
    pub fn read(&self, cells: Range<usize>, columns: &Columns) -> Result<Counts, Error> {
        let counts = self.matrix.read(cells)?;
        if let Some(value) = counts.values.iter().find(|value| **value < 0.0) {
            return Err(self.negative(*value));
        }
        Ok(columns.apply(&counts))
    }

    /// The matrix in a form that reads blocks of cells without scanning all of it.
    pub fn by_cell(&self, memory: usize) -> Result<Arc<Matrix>, Error> {
        let turned = self.matrix.turned(memory)?;
        Ok(turned.map_or_else(|| Arc::clone(&self.matrix), Arc::new))
    }

    /// The error for a negative value.
    pub fn negative(&self, value: f32) -> Error {
        self.wrong_values(format!("value {value} is negative"))
    }

    /// The same on a linear scale: log-normalized values are exponentiated (expm1).
    pub fn read_linear(&self, cells: Range<usize>, columns: &Columns) -> Result<Counts, Error> {
        let mut counts = self.read(cells, columns)?;
        if self.judgment.state == State::LogNormalized {
            counts
                .values
                .iter_mut()
                .for_each(|value| *value = value.exp_m1());
        }
        Ok(counts)
    }

    /// Ranges of cells with about `values` values each.
    pub fn blocks(&self, values: usize) -> Result<Vec<Range<usize>>, Error> {
        Ok(self.matrix.blocks(values)?)
    }

    /// Labels of all cells from a column of obs; none where missing.
    pub fn labels(&self, column: &str) -> Result<Vec<Option<String>>, Error> {
        let column: Column = self.table.obs(column)?;
        Ok(column.to_labels())
    }

    /// The error that none of the file's genes is in the vocabulary of a model.
    pub fn no_genes(&self, known: Vec<String>) -> Error {
        Error::NoGenes {
            path: self.path.clone(),
            found: self.genes.clone(),
            known,
        }
    }

    fn wrong_values(&self, judgment: String) -> Error {
        Error::Values {
            path: self.path.clone(),
            source_name: self.source.to_string(),
            judgment,
            remedy: "choose another with `--matrix`".into(),
        }
    }
}

impl Columns {
    /// Maps the columns of a matrix to the positions of the wanted genes.
    pub fn new(genes: &[String], wanted: &[String]) -> Self {
        let place: HashMap<&str, u32> = wanted.iter().map(String::as_str).zip(0..).collect();
        let place: Vec<Option<u32>> = genes
            .iter()
            .map(|gene| place.get(gene.as_str()).copied())
            .collect();
        let matched: HashSet<u32> = place.iter().flatten().copied().collect();
        Self {
            n_genes: wanted.len(),
            n_matched: matched.len(),
            place,
        }
    }

    /// The matrix with its columns mapped.
    pub fn apply(&self, counts: &Counts) -> Counts {
        let row = |(columns, values): (&[u32], &[f32])| {
            let pairs = columns
                .iter()
                .zip(values)
                .filter_map(|(&c, &value)| Some((self.place[c as usize]?, value)));
            let mut row: Vec<(u32, f32)> = pairs.collect();
            row.sort_by_key(|(gene, _)| *gene);
            row.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 += if same { next.1 } else { 0.0 };
                same
            });
            row
        };
        Counts::from_rows(self.n_genes, counts.rows().map(row))
    }
}

/// The matrix of the options, or the preferred one of those a model can read.
fn choose_matrix(
    table: &Table,
    options: &Options,
    prefer: Prefer,
    notes: &mut Vec<String>,
) -> Result<(Source, Arc<Matrix>, ValueKindReport), Error> {
    let candidates = candidates(table, options, prefer)?;
    let mut candidates_read: Vec<(Source, Arc<Matrix>, ValueKindReport)> = Vec::new();
    for source in &candidates {
        let matrix = table.matrix(source)?;
        let judgment = judge(&sample(&matrix)?);
        let is_good = match prefer {
            Prefer::First => !matches!(judgment.state, State::Scaled | State::Empty),
            Prefer::Counts => judgment.state == State::RawCounts,
        };
        candidates_read.push((source.clone(), matrix, judgment));
        if is_good {
            break;
        }
    }
    let readable =
        |found: &&(_, _, ValueKindReport)| !matches!(found.2.state, State::Scaled | State::Empty);
    let last = candidates_read
        .last()
        .filter(readable)
        .filter(|found| prefer == Prefer::First || found.2.state == State::RawCounts);
    let chosen = last.or_else(|| candidates_read.iter().find(readable));
    if let Some((source, matrix, judgment)) = chosen {
        if let Some((first, _, why)) = candidates_read.first().filter(|first| first.0 != *source) {
            notes.push(format!("`{source}` is read instead of `{first}` ({why})"));
        }
        return Ok((source.clone(), Arc::clone(matrix), judgment.clone()));
    }
    let Some((source, _, judgment)) = candidates_read.first() else {
        // Neither X nor raw is there: the reader's own error lists what is.
        return Err(table
            .matrix(&Source::X)
            .err()
            .map_or_else(|| Error::Matrix("no matrix".into()), Error::File));
    };
    Err(Error::Values {
        path: table.path().to_owned(),
        source_name: source.to_string(),
        judgment: judgment.to_string(),
        remedy: remedy(table, &candidates)?,
    })
}

/// The first cells, to classify the values of a matrix.
fn sample(matrix: &Matrix) -> Result<Counts, Error> {
    let blocks = matrix.blocks(SAMPLE_VALUES)?;
    Ok(matrix.read(blocks.into_iter().next().unwrap_or(0..0))?)
}

/// The matrices to consider: that of the options, or the usual ones that the file has.
fn candidates(table: &Table, options: &Options, prefer: Prefer) -> Result<Vec<Source>, Error> {
    if let Some(name) = &options.matrix {
        return Ok(vec![Source::from_str(name).map_err(Error::Matrix)?]);
    }
    let all = table.sources()?;
    let mut usual = vec![Source::X, Source::Raw];
    if prefer == Prefer::Counts {
        usual.extend(COUNT_LAYERS.map(|name| Source::Layer(name.to_owned())));
    }
    usual.retain(|source| all.contains(source));
    Ok(usual)
}

/// Advice where a model can read none of the matrices considered.
fn remedy(file: &Table, rejected: &[Source]) -> Result<String, Error> {
    let others: Vec<String> = file
        .sources()?
        .iter()
        .filter(|source| !rejected.contains(source))
        .map(|source| format!("`{source}`"))
        .collect();
    Ok(if others.is_empty() {
        "the file has no other matrix: give one with counts".to_owned()
    } else {
        let others = others.join(", ");
        format!("the file also has {others}; choose one with `--matrix`")
    })
}

/// The gene names of the options, or those of which the vocabulary contains most.
fn choose_names(
    file: &Table,
    source: &Source,
    options: &Options,
    known: Option<&Vocabulary>,
    notes: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let column = |name: &str| -> Result<Vec<String>, Error> {
        Ok(file
            .var(source, name)?
            .to_labels()
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect())
    };
    if let Some(name) = &options.gene_column {
        return column(name);
    }
    let index = file.gene_names(source)?;
    let Some(vocabulary) = known else {
        return symbols_for_ids(file, source, index, notes);
    };
    let matches = |names: &[String]| {
        names
            .iter()
            .filter(|name| vocabulary.gene_id(name).is_some())
            .count()
    };
    let mut best = (matches(&index), index);
    for name in file
        .var_columns(source)?
        .iter()
        .filter(|name| NAME_COLUMNS.contains(&name.as_str()))
    {
        let names = column(name)?;
        let count = matches(&names);
        if count > best.0 {
            notes.push(format!(
                "gene names are read from the column `{name}`: {count} of them are in the vocabulary"
            ));
            best = (count, names);
        }
    }
    Ok(best.1)
}

/// Symbols from a column where the index holds Ensembl ids, as in files of CELLxGENE; else the index.
fn symbols_for_ids(
    table: &Table,
    source: &Source,
    index: Vec<String>,
    notes: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let ids = index.iter().filter(|name| name.starts_with("ENS")).count();
    let columns = table.var_columns(source)?;
    let symbols = NAME_COLUMNS
        .iter()
        .find(|name| columns.iter().any(|column| column == *name));
    let Some(symbols) = symbols.filter(|_| 2 * ids > index.len()) else {
        return Ok(index);
    };
    notes.push(format!(
        "gene names are read from the column `{symbols}`: the index holds Ensembl ids"
    ));
    let names = table.var(source, symbols)?.to_labels();
    Ok(names.into_iter().map(Option::unwrap_or_default).collect())
}
