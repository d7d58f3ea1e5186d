//! Labeled cells for training: gene selection, classes and splits.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::Result;

use super::Options;
use crate::cells::{Cells, Columns};
use crate::checkpoint::Checkpoint;
use crate::counts::Counts;
use crate::expression::select_genes::{Flavor, select_genes};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::formats::{Column, h5ad};
use crate::programs::steps;
use crate::random::Seed;
use crate::run_record::Run;
use crate::split::Split;
use crate::tokens::Values;
use crate::trainer;
use crate::vocabulary::Vocabulary;

/// Labeled cells, ready for training.
pub struct Data {
    /// Values of the genes that the model reads.
    pub counts: Counts,
    /// Whether those values are on a linear scale, such as counts, rather than log-transformed.
    pub is_linear: bool,
    /// Values of all genes, for methods with their own gene selection.
    pub all_genes: Counts,
    /// Names of the genes that are columns of `counts`.
    pub genes: Vec<String>,
    pub state: State,
    pub class_names: Vec<String>,
    /// Class of every cell; -1 without a label.
    pub classes: Vec<i64>,
    pub batches: Option<Vec<i64>>,
    pub n_batches: usize,
    pub split: Split,
    pub vocabulary: Vocabulary,
    pub checkpoint: Option<Checkpoint>,
}

impl Data {
    pub fn read(options: &Options, run: &mut Run) -> Result<Self> {
        run.input(&options.input)?;
        let checkpoint = trainer::open_checkpoint(options.checkpoint.as_deref(), run)?;
        let known = checkpoint.as_ref().map(|checkpoint| &checkpoint.vocabulary);
        let cells = Cells::open(&options.input, &options.cells, known)?;
        cells.notes.iter().for_each(|note| run.note(note));
        let (class_names, classes) = read_classes(&cells, options, run)?;
        let labels = options
            .batch
            .as_deref()
            .map(|column| cells.labels(column))
            .transpose()?;
        if options.weights.dar_weight > 0.0 {
            require_batches(options, &classes, labels.as_deref().unwrap_or_default())?;
        }
        let split = split(options, &classes, labels.as_deref(), run)?;
        let (batch_names, batches) = labels.as_deref().map_or((Vec::new(), None), |labels| {
            let (names, codes) = codes(labels);
            (names, Some(codes))
        });
        let (genes, columns) = readable_genes(&cells, known, run)?;
        let counts = cells.read(0..cells.n_cells(), &columns)?;
        let kept = informative_genes(
            options,
            &counts,
            cells.judgment.state,
            batches.as_deref(),
            &split,
            run,
        )?;
        let genes: Vec<String> = kept.iter().map(|&gene| genes[gene].clone()).collect();
        let vocabulary = match &checkpoint {
            Some(checkpoint) => checkpoint.vocabulary.clone(),
            None => Vocabulary::from_genes(genes.iter().cloned())?,
        };
        Ok(Self {
            is_linear: cells.judgment.state != State::LogNormalized
                || options.values() == Values::Log1p,
            counts: model_values(options, &cells, counts.select_genes(&kept)),
            all_genes: counts,
            genes,
            state: cells.judgment.state,
            class_names,
            classes,
            batches,
            n_batches: batch_names.len(),
            split,
            vocabulary,
            checkpoint,
        })
    }

    /// Classes of some cells.
    pub fn classes_of(&self, cells: &[usize]) -> Vec<usize> {
        cells
            .iter()
            .map(|&cell| self.classes[cell] as usize)
            .collect()
    }
}

/// Writes the test cells with all their genes and labels to a file.
pub fn write_test_cells(options: &Options, data: &Data, path: &Path) -> Result<()> {
    let cells = Cells::open(&options.input, &options.cells, None)?;
    let (genes, columns) = every_gene(&cells)?;
    let test = &data.split.test;
    let counts = cells.read(0..cells.n_cells(), &columns)?.select_cells(test);
    let names = cells.table.cell_names()?;
    let labels: Vec<Option<String>> = data
        .classes_of(test)
        .into_iter()
        .map(|class| Some(data.class_names[class].clone()))
        .collect();
    let names: Vec<String> = test.iter().map(|&cell| names[cell].clone()).collect();
    let content = h5ad::Cells {
        obs: &[(options.labels.clone(), Column::from_labels(&labels))],
        ..h5ad::Cells::new(&counts, &names, &genes)
    };
    Ok(h5ad::create(path, &content)?)
}

/// Sorted names and a code for every label; -1 where it is missing.
fn codes(labels: &[Option<String>]) -> (Vec<String>, Vec<i64>) {
    let names: Vec<String> = labels
        .iter()
        .flatten()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect();
    let code = |label: &String| {
        names
            .binary_search(label)
            .expect("every label is among the names") as i64
    };
    let codes = labels
        .iter()
        .map(|label| label.as_ref().map_or(-1, code))
        .collect();
    (names, codes)
}

fn read_classes(
    cells: &Cells,
    options: &Options,
    run: &mut Run,
) -> Result<(Vec<String>, Vec<i64>)> {
    let labels = cells.labels(&options.labels)?;
    let (names, classes) = codes(&labels);
    if names.len() < 2 {
        let found = names.first().map_or("no label at all".to_owned(), |name| {
            format!("only `{name}`")
        });
        return Err(Failure::Input.error(format!(
            "column `{}` of `{}` has {found}; expected at least two cell types",
            options.labels,
            options.input.display()
        )));
    }
    let missing = classes.iter().filter(|class| **class < 0).count();
    if missing > 0 {
        run.note(format!(
            "{missing} cells have no label in `{}` and are dropped",
            options.labels
        ));
    }
    run.note(format!(
        "{} cells of {} cell types",
        classes.len() - missing,
        names.len()
    ));
    Ok((names, classes))
}

/// Checks that all labeled cells have a batch, as adversarial batch correction needs.
fn require_batches(options: &Options, classes: &[i64], batches: &[Option<String>]) -> Result<()> {
    let without = |(class, batch): &(&i64, &Option<String>)| **class >= 0 && batch.is_none();
    let missing = classes.iter().zip(batches).filter(without).count();
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::Input.error(format!(
        "{missing} labeled cells of `{}` have no value in the batch column `{}`, which `--dar-weight` needs: fill in the column, remove these cells, or drop the option",
        options.input.display(),
        options.batch.as_deref().unwrap_or_default()
    )))
}

fn split(
    options: &Options,
    classes: &[i64],
    batches: Option<&[Option<String>]>,
    run: &mut Run,
) -> Result<Split> {
    let labeled: Vec<usize> = (0..classes.len())
        .filter(|&cell| classes[cell] >= 0)
        .collect();
    let seed = Seed(options.seed);
    let split = match batches {
        Some(batches) if !options.test_groups.is_empty() => {
            let tested = |cell: &usize| {
                batches[*cell]
                    .as_ref()
                    .is_some_and(|batch| options.test_groups.contains(batch))
            };
            for group in &options.test_groups {
                if !batches.iter().flatten().any(|batch| batch == group) {
                    let names: BTreeSet<&String> = batches.iter().flatten().collect();
                    return Err(Failure::Input.error(format!(
                        "no cell is in test group `{group}`; expected one of {names:?}"
                    )));
                }
            }
            let (test, rest): (Vec<usize>, Vec<usize>) = labeled.into_iter().partition(tested);
            Split::with_test(&rest, test, classes, options.validation_fraction, seed)
        }
        _ => Split::stratified(
            &labeled,
            classes,
            options.test_fraction,
            options.validation_fraction,
            seed,
        ),
    };
    if split.training.is_empty() {
        return Err(Failure::Input.error("no training cells left: test on fewer cells or groups"));
    }
    let Split {
        training,
        validation,
        test,
    } = &split;
    run.note(format!(
        "{} training cells, {} validation cells, {} test cells",
        training.len(),
        validation.len(),
        test.len()
    ));
    Ok(split)
}

/// Values as the tokenizer expects them: on a linear scale if it applies log1p.
fn model_values(options: &Options, cells: &Cells, mut counts: Counts) -> Counts {
    let logged = cells.judgment.state == State::LogNormalized;
    if logged && options.values() == Values::Log1p {
        counts
            .values
            .iter_mut()
            .for_each(|value| *value = value.exp_m1());
    }
    counts
}

/// The genes in the vocabulary of a pre-trained model, or all genes.
fn readable_genes(
    cells: &Cells,
    known: Option<&Vocabulary>,
    run: &mut Run,
) -> Result<(Vec<String>, Columns)> {
    let Some(vocabulary) = known else {
        return every_gene(cells);
    };
    steps::report_genes(&cells.genes, vocabulary, run);
    Ok(cells.known_genes(vocabulary)?)
}

/// All genes of a file; genes of the same name are merged.
fn every_gene(cells: &Cells) -> Result<(Vec<String>, Columns)> {
    let vocabulary = Vocabulary::from_genes(unique(&cells.genes))?;
    Ok(cells.known_genes(&vocabulary)?)
}

fn unique(names: &[String]) -> impl Iterator<Item = String> + '_ {
    let mut seen = HashSet::new();
    names
        .iter()
        .filter(move |name| !name.is_empty() && seen.insert(name.as_str()))
        .cloned()
}

/// The highly variable genes, selected on training and validation cells only, to avoid leakage from test cells.
fn informative_genes(
    options: &Options,
    counts: &Counts,
    state: State,
    batches: Option<&[i64]>,
    split: &Split,
    run: &mut Run,
) -> Result<Vec<usize>> {
    if options.n_hvg == 0 || options.n_hvg >= counts.n_genes {
        run.note(format!("all {} genes are used", counts.n_genes));
        return Ok((0..counts.n_genes).collect());
    }
    let training: Vec<usize> = [&split.training[..], &split.validation].concat();
    let (flavor, name) = match state {
        State::RawCounts => (Flavor::SeuratV3, "seurat_v3"),
        _ => (Flavor::CellRanger, "cell_ranger"),
    };
    let batches: Option<Vec<u32>> = batches.map(|codes| {
        training
            .iter()
            .map(|&cell| (codes[cell] + 1) as u32)
            .collect()
    });
    let selection = select_genes(
        &counts.select_cells(&training),
        options.n_hvg,
        flavor,
        batches.as_deref(),
    )?;
    run.note(format!(
        "{} highly variable genes selected by {name} on the training cells",
        selection.kept.len()
    ));
    Ok(selection.kept)
}
