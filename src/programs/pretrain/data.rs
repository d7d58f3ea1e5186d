//! Training and validation cells from the corpora: vocabulary, held-out cells, and a scan of all cells before training.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::Options;
use crate::baselines::imputation::GeneMeans;
use crate::checkpoint::Checkpoint;
use crate::corpus::{Collection, Group, Piece};
use crate::failure::Failure;
use crate::predict;
use crate::progress::Progress;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::Tokens;
use crate::tokens::binning::{self, Ties};
use crate::tokens::conditions::Conditions;
use crate::train::pretraining::{Cell, GeneConditions};
use crate::trainer;
use crate::vocabulary::Vocabulary;

/// Maximum number of training cells for the baseline of similar cells.
const COMPARED_CELLS: u64 = 4000;

/// Everything about the cells of a run.
pub struct Data {
    pub collection: Collection,
    pub vocabulary: Vocabulary,
    /// Number of tokens in the vocabulary of the checkpoint.
    pub known: usize,
    pub checkpoint: Option<Checkpoint>,
    pub classes: Vec<String>,
    pub conditions: Option<Conditions>,
    pub gene_conditions: Option<GeneConditions>,
    /// Numbers of the cells held out, in order, and those cells.
    pub held_out: Vec<u64>,
    pub validation: Vec<Cell>,
    /// Training cells for baselines, and the mean of each gene over all training cells.
    pub compared: Vec<Cell>,
    pub means: GeneMeans,
    reader: Reader,
}

/// Converts groups of a corpus to cells.
struct Reader {
    /// For every corpus, the vocabulary id of each of its tokens, and whether its values are already binned.
    ids: Vec<Vec<Option<u32>>>,
    is_binned: Vec<bool>,
    cls: i64,
    cls_value: f32,
    n_bins: usize,
    ties: Ties,
    seed: Seed,
    labels: Option<String>,
    perturbed: Option<String>,
}

/// Result of scanning some pieces.
#[derive(Default)]
struct Found {
    validation: Vec<(Cell, Option<String>)>,
    compared: Vec<Cell>,
    means: GeneMeans,
    labels: BTreeSet<String>,
    empty: u64,
}

impl Data {
    pub fn read(options: &Options, run: &mut Run) -> Result<Self> {
        let collection = Collection::open(&options.input)?;
        options
            .input
            .iter()
            .try_for_each(|folder| run.input(folder))?;
        let checkpoint = trainer::open_checkpoint(options.checkpoint.as_deref(), run)?;
        let (vocabulary, known) = vocabulary(&collection, checkpoint.as_ref(), run)?;
        let conditions = conditions(options, checkpoint.as_ref(), run)?;
        let gene_conditions = conditions.as_ref().map(|conditions| GeneConditions {
            by_id: conditions.by_id(&vocabulary),
            perturbed: conditions.perturbed(),
        });
        let reader = Reader::new(options, &collection, &vocabulary)?;
        let held_out = held_out(options, collection.cells())?;
        let mut data = Self {
            collection,
            vocabulary,
            known,
            checkpoint,
            classes: Vec::new(),
            conditions,
            gene_conditions,
            held_out,
            validation: Vec::new(),
            compared: Vec::new(),
            means: GeneMeans::default(),
            reader,
        };
        data.scan(options, run)?;
        Ok(data)
    }

    /// Reads all cells once: detects damage before training, and keeps the held-out cells.
    fn scan(&mut self, options: &Options, run: &mut Run) -> Result<()> {
        let compared = options
            .baselines
            .then(|| self.training_sample(Seed(options.seed)));
        let compared = compared.unwrap_or_default();
        let pieces = self.collection.pieces();
        let mut progress = Progress::new("scanning the corpus", self.collection.cells(), "cells");
        let mut all = Found::default();
        for some in pieces.chunks(4 * run.threads().max(1)) {
            if run.interrupted() {
                return Err(Failure::Interrupted.error("stopped by a signal before training began"));
            }
            let found = some
                .par_iter()
                .map(|piece| self.scan_piece(piece, &compared));
            found
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .for_each(|found| all.add(found));
            progress.advance(some.iter().map(|piece| piece.cells).sum());
        }
        progress.finish();
        self.classes = all.labels.into_iter().collect();
        let class = |label: Option<String>| self.classes.binary_search(&label?).ok();
        let with_class = |(cell, label): (Cell, Option<String>)| Cell {
            class: class(label).map(|class| class as i64),
            ..cell
        };
        self.validation = all.validation.into_iter().map(with_class).collect();
        (self.compared, self.means) = (all.compared, all.means);
        self.report(all.empty, options, run)
    }

    fn report(&self, empty: u64, options: &Options, run: &mut Run) -> Result<()> {
        let total = self.collection.cells();
        run.note(format!(
            "{} training cells, {} validation cells, {} genes",
            self.training_cells(),
            self.held_out.len(),
            self.vocabulary.genes().count()
        ));
        run.metric("training_cells", self.training_cells());
        run.metric("validation_cells", self.held_out.len());
        if empty > 0 {
            run.warning(format!(
                "{empty} of {total} cells have no expressed gene and do not contribute to training"
            ));
        }
        if self.training_cells() == 0 || empty == total {
            return Err(Failure::Input.error(format!(
                "`{}`: no training cells",
                options
                    .input
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect::<Vec<_>>()
                    .join("`, `")
            )));
        }
        if let Some(labels) = &options.labels {
            if options.goals.cls_weight > 0.0 && self.classes.len() < 2 {
                return Err(Failure::Input.error(format!(
                    "the annotation `{labels}` has {} values, expected at least two cell types",
                    self.classes.len()
                )));
            }
            run.note(format!("{} cell types in `{labels}`", self.classes.len()));
        }
        Ok(())
    }

    pub fn training_cells(&self) -> u64 {
        self.collection.cells() - self.held_out.len() as u64
    }

    /// Numbers of the rows of a piece that are trained on.
    pub fn training_rows(&self, piece: &Piece) -> Vec<usize> {
        let ids = piece.first..piece.first + piece.cells;
        let is_training = |id: &u64| self.held_out.binary_search(id).is_err();
        ids.filter(is_training)
            .map(|id| (id - piece.first) as usize)
            .collect()
    }

    /// One cell of a piece.
    pub fn cell(&self, piece: &Piece, group: &Group, row: usize) -> Cell {
        let cell = self.reader.cell(&self.collection, piece, group, row);
        let label = self.label(piece, group, row);
        let class = label.and_then(|label| self.classes.binary_search(&label).ok());
        let perturbed = self.reader.perturbed.as_ref().and_then(|column| {
            let column = self.collection.column_of(piece, column)?;
            self.vocabulary.gene_id(&group.obs[column].label(row)?)
        });
        Cell {
            class: class.map(|class| class as i64),
            perturbed: perturbed.map(i64::from),
            ..cell
        }
    }

    fn label(&self, piece: &Piece, group: &Group, row: usize) -> Option<String> {
        let column = self
            .collection
            .column_of(piece, self.reader.labels.as_ref()?)?;
        group.obs[column].label(row)
    }

    /// Numbers of training cells, in order, for baselines.
    fn training_sample(&self, seed: Seed) -> Vec<u64> {
        let wanted = COMPARED_CELLS.min(self.training_cells()) + self.held_out.len() as u64;
        let mut sample = sample(
            seed,
            "cells to compare with",
            self.collection.cells(),
            wanted,
        );
        sample.retain(|cell| self.held_out.binary_search(cell).is_err());
        sample
    }

    fn scan_piece(&self, piece: &Piece, compared: &[u64]) -> Result<Found> {
        let group = self.collection.read(piece)?;
        let mut found = Found::default();
        for row in 0..group.cells() {
            let cell = self.cell(piece, &group, row);
            let label = self.label(piece, &group, row);
            found.empty += u64::from(cell.tokens.len() == 1);
            found.labels.extend(label.clone());
            if self.held_out.binary_search(&cell.id).is_ok() {
                found.validation.push((cell, label));
                continue;
            }
            found.means.add(&cell.tokens);
            if compared.binary_search(&cell.id).is_ok() {
                found.compared.push(cell);
            }
        }
        Ok(found)
    }
}

impl Found {
    fn add(&mut self, other: Self) {
        self.validation.extend(other.validation);
        self.compared.extend(other.compared);
        self.means.merge(&other.means);
        self.labels.extend(other.labels);
        self.empty += other.empty;
    }
}

impl Reader {
    fn new(options: &Options, collection: &Collection, vocabulary: &Vocabulary) -> Result<Self> {
        for (column, flag) in [
            (&options.labels, "labels"),
            (&options.perturbed, "perturbed"),
        ] {
            let Some(column) = column else { continue };
            let has = |piece: &Piece| collection.column_of(piece, column).is_some();
            if !collection.pieces().iter().any(has) {
                return Err(Failure::Input.error(format!(
                    "no corpus has the annotation `{column}` of `--{flag}`; keep it with `scgpt-tokenize --obs {column}`"
                )));
            }
        }
        let is_binned = collection.corpora().iter().map(|corpus| {
            corpus
                .manifest()
                .is_some_and(|manifest| manifest.parameters["values"] == "binned")
        });
        Ok(Self {
            ids: collection.translate(vocabulary),
            is_binned: is_binned.collect(),
            cls: i64::from(
                vocabulary
                    .cls()
                    .expect("every vocabulary here has special tokens"),
            ),
            cls_value: -2.0,
            n_bins: options.n_bins,
            ties: options.ties,
            seed: Seed(options.seed),
            labels: options.labels.clone(),
            perturbed: options.perturbed.clone(),
        })
    }

    /// The tokens of a cell, binned: `<cls>`, then the expressed genes in the order of the file.
    fn cell(&self, collection: &Collection, piece: &Piece, group: &Group, row: usize) -> Cell {
        let corpus = collection.corpus_of(piece);
        let span = group.offsets[row]..group.offsets[row + 1];
        let id = piece.first + row as u64;
        let pairs = group.genes[span.clone()].iter().zip(&group.values[span]);
        let known = pairs.filter_map(|(&gene, &value)| {
            let gene = i64::from(self.ids[corpus][gene as usize]?);
            (value != 0.0 && gene != self.cls).then_some((gene, value))
        });
        let (genes, mut values): (Vec<i64>, Vec<f32>) = known.unzip();
        if !self.is_binned[corpus] {
            let mut stream = self.seed.stream("bins", &[id]);
            binning::bin(&mut values, self.n_bins, self.ties, &mut stream);
        }
        Cell {
            id,
            tokens: Tokens {
                genes: [&[self.cls], &genes[..]].concat(),
                values: [&[self.cls_value], &values[..]].concat(),
            },
            class: None,
            perturbed: None,
        }
    }
}

/// A sorted random sample of 0..n, in memory proportional to the sample (Floyd's algorithm).
fn sample(seed: Seed, purpose: &str, n: u64, wanted: u64) -> Vec<u64> {
    let mut stream = seed.stream(purpose, &[]);
    let mut chosen = BTreeSet::new();
    for last in n - wanted.min(n)..n {
        let draw = random::below(&mut stream, last as usize + 1) as u64;
        if !chosen.insert(draw) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}

fn held_out(options: &Options, cells: u64) -> Result<Vec<u64>> {
    let wanted = (cells as f64 * options.validation_fraction).round() as u64;
    Ok(sample(
        Seed(options.seed),
        "cells to validate on",
        cells,
        wanted.min(options.validation_cells),
    ))
}

/// The vocabulary of the checkpoint, if any, extended by the genes of the corpora, and the number of tokens before.
fn vocabulary(
    collection: &Collection,
    checkpoint: Option<&Checkpoint>,
    run: &mut Run,
) -> Result<(Vocabulary, usize)> {
    let Some(checkpoint) = checkpoint else {
        return Ok((Vocabulary::from_genes(collection.genes())?, 0));
    };
    let known = &checkpoint.vocabulary;
    let new: Vec<&str> = collection
        .genes()
        .filter(|gene| known.id(gene).is_none())
        .collect();
    if !new.is_empty() {
        let examples = new.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        run.note(format!(
            "{} genes are not in the vocabulary and are added, such as {examples}",
            new.len()
        ));
    }
    run.metric("genes_added", &new);
    let vocabulary = Vocabulary::from_tokens(known.tokens().chain(new))?;
    Ok((vocabulary, known.len()))
}

/// Gene conditions, from a file and an annotation, or those of the checkpoint.
fn conditions(
    options: &Options,
    checkpoint: Option<&Checkpoint>,
    run: &mut Run,
) -> Result<Option<Conditions>> {
    let stored = checkpoint.and_then(predict::conditions);
    let categories = match &options.gene_conditions {
        Some(path) => {
            run.input(path)?;
            read_categories(path)?
        }
        None if options.perturbed.is_some() && stored.is_none() => Vec::new(),
        None => return Ok(stored),
    };
    let given = Conditions::new(categories, options.perturbed.is_some());
    if stored.is_some_and(|stored| stored.names != given.names) {
        return Err(Failure::Input.error(
            "the checkpoint has other gene conditions: provide the same ones in the same order, or none to keep those of the checkpoint",
        ));
    }
    run.note(format!("{} gene conditions", given.names.len()));
    Ok(Some(given))
}

/// Pairs of gene and category of a `.gmt` file, or of a table.
fn read_categories(path: &Path) -> Result<Vec<(String, String)>> {
    let is_gmt = path.extension().is_some_and(|extension| extension == "gmt");
    let failed = || format!("could not read `{}`", path.display());
    let file = BufReader::new(std::fs::File::open(path).with_context(failed)?);
    let mut pairs = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.with_context(failed)?;
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        match fields[..] {
            [""] => {}
            [set, _, ref genes @ ..] if is_gmt && !genes.is_empty() => {
                let genes = genes.iter().filter(|gene| !gene.is_empty());
                pairs.extend(genes.map(|gene| ((*gene).to_owned(), set.to_owned())));
            }
            [gene, category] if !is_gmt => pairs.push((gene.to_owned(), category.to_owned())),
            _ => {
                let expected = if is_gmt {
                    "a set, a description and genes"
                } else {
                    "a gene and its category"
                };
                return Err(Failure::Input.error(format!(
                    "`{}`, line {}: found {} fields, expected {expected}, separated by tabs",
                    path.display(),
                    number + 1,
                    fields.len()
                )));
            }
        }
    }
    Ok(pairs)
}
