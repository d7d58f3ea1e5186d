//! `scgpt-embed`: cell embeddings from a pre-trained model.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::ArrayView2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CELLS, CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::analysis::projection::Pca;
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::figures::Scatter;
use crate::formats::h5ad::{self, Additions, Embedding};
use crate::predict::{Pretrained, embeddings};
use crate::random::Seed;
use crate::run_record::Run;
use crate::trainer;
use crate::{compute, tokens};

/// Options of `scgpt-embed`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with cells to embed.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// AnnData file: input with the cell embedding added to obsm.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Name of the embedding in obsm.
    #[arg(long, value_name = "NAME")]
    pub obsm_key: String,
    /// Output plot (SVG) of the cells on the first two principal components of the embedding.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Column of obs that colors the cells in the plot.
    #[arg(long, value_name = "COLUMN")]
    pub color: Option<String>,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Tokens")]
    #[serde(flatten)]
    pub tokens: tokens::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            output: PathBuf::new(),
            checkpoint: PathBuf::new(),
            obsm_key: "X_scGPT".into(),
            plot: None,
            color: None,
            seed: 0,
            cells: cells::Options::default(),
            tokens: tokens::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Embed;

impl Program for Embed {
    const NAME: &'static str = "scgpt-embed";
    const SUMMARY: &'static str = "Compute cell embeddings with a pre-trained scGPT model";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2939"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["obsm/X_scGPT"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let model = run.stage("load_model", |_| Pretrained::new(checkpoint, device))?;
        trainer::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let embeddings = run.stage("embed", |run| embed(&options, &model, &cells, run))?;
        if let Some(path) = &options.plot {
            let figure = plot(&options, &cells, &embeddings)?;
            steps::write_text(path, &figure, run)?;
        }
        let width = model.architecture.embsize;
        let additions = Additions {
            obsm: vec![(
                options.obsm_key.clone(),
                Embedding {
                    width,
                    values: embeddings.concat(),
                },
            )],
            ..Additions::default()
        };
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// Embeddings of all cells, block by block.
fn embed(
    options: &Options,
    model: &Pretrained,
    cells: &Cells,
    run: &mut Run,
) -> Result<Vec<Vec<f32>>> {
    let genes = model.genes_of(&cells.genes);
    if genes.is_empty() {
        let known = model.vocabulary.genes().map(str::to_owned);
        return Err(cells.no_genes(known.collect()).into());
    }
    let columns = cells.columns(&genes)?;
    steps::report_genes(&cells.genes, &model.vocabulary, run);
    if model.settings.is_some() {
        run.note("options for tokens are ignored: the settings in the checkpoint are used");
    }
    let tokenizer = model.tokenizer(&options.tokens, &genes, Seed(options.seed));
    let mut workers = model.workers(run.threads());
    let mut rows = Vec::with_capacity(cells.n_cells());
    let source = steps::CellStream {
        cells,
        columns: &columns,
        values: tokenizer.settings().values,
    };
    source.each("embedding", run, |first, part| {
        rows.extend(embeddings(&mut workers, (&tokenizer, part, first)));
    })?;
    let empty = rows
        .iter()
        .filter(|row: &&Vec<f32>| row[0].is_nan())
        .count();
    if empty > 0 {
        run.warning(format!(
            "{empty} cells have no expressed gene in the vocabulary; their embeddings are NaN"
        ));
    }
    Ok(rows)
}

/// Scatter plot of the cells on the first two principal components of their embeddings.
fn plot(options: &Options, cells: &Cells, embeddings: &[Vec<f32>]) -> Result<String> {
    let labels = match &options.color {
        Some(column) => cells.labels(column)?,
        None => vec![None; embeddings.len()],
    };
    let shown: Vec<usize> = (0..embeddings.len())
        .filter(|&cell| !embeddings[cell][0].is_nan())
        .collect();
    let rows: Vec<f32> = shown
        .iter()
        .flat_map(|&cell| embeddings[cell].iter().copied())
        .collect();
    let width = rows.len() / shown.len().max(1);
    let rows = ArrayView2::from_shape((shown.len(), width), &rows)?;
    let coordinates = Pca::fit(rows, 2)?.transform(rows)?;
    let at = |row: usize, axis: usize| coordinates.get((row, axis)).copied().unwrap_or(0.0);
    let names: BTreeSet<&String> = labels.iter().flatten().collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let category = |&cell: &usize| names.binary_search(labels[cell].as_ref()?).ok();
    let figure = Scatter {
        title: options.color.as_deref().unwrap_or("Cells"),
        axes: ["principal component 1", "principal component 2"],
        points: &(0..shown.len())
            .map(|row| (at(row, 0), at(row, 1)))
            .collect::<Vec<_>>(),
        categories: &shown.iter().map(category).collect::<Vec<_>>(),
        names: &names,
    };
    Ok(figure.to_svg())
}
