//! `scgpt-integrate`: one space for cells of many batches and modalities, with the scores that tell whether it worked.

mod data;
mod evaluation;
mod learner;
mod missing;
mod reading;
mod results;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::data::Data;
use self::learner::Learner;
use super::from_scratch::Size;
use super::{CELLS, CHECKPOINT, Facts, Program, Resources, TOPICS, steps};
use crate::failure::Failure;
use crate::predict::integration::Settings;
use crate::predict::settings;
use crate::run_record::Run;
use crate::train::integration::Weights;
use crate::{cells, compute, output, tokens, train};

/// Options of `scgpt-integrate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Cells to integrate: AnnData files (.h5ad) with gene expression, or MuData files (.h5mu) with several modalities. Several
    /// files are several batches, unless --batch says otherwise.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// Antibody counts (CITE-seq) of cells of --input, matched by cell name; cells that are in one file only are kept.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub protein: Vec<PathBuf>,
    /// Open chromatin (ATAC) of cells of --input, as peaks or as gene activities, matched by cell name.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub atac: Vec<PathBuf>,
    /// Sample sheet (CSV) instead of the files above: column path, and if need be sample (files of the same cells), batch and
    /// modality (RNA, Protein or ATAC).
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "csv", "x-direction" = "input"))]
    pub samples: Option<PathBuf>,
    /// Where to write the cells with the embedding, its graph, clusters and layout: a copy of the input if that is one file,
    /// else a new file (.h5ad) with all cells and features.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// New folder for the trained model, with which new batches can be mapped later (--checkpoint and --no-train).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub model: Option<PathBuf>,
    /// Also write the scores of the embedding, and of simpler methods, as a table.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub scores: Option<PathBuf>,
    /// Also draw the cells, by batch or by the column --colour.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub figure: Option<PathBuf>,
    /// Column of obs that colours the cells of the figure. Default: that of --labels, else the batch.
    #[arg(long, value_name = "COLUMN")]
    pub colour: Option<String>,
    /// Column of obs with the technical batch. Default: every file is a batch.
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Column of obs with the cell types. They are not learnt from, only the scores need them.
    #[arg(long, value_name = "COLUMN")]
    pub labels: Option<String>,
    /// Pre-trained model to start from, or one that this program trained: a folder, or the name of one in a folder of
    /// SCGPT_MODELS. Without it a small model is trained from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Do not train: cells are embedded as the checkpoint does (zero-shot), or mapped by a model that this program trained.
    #[arg(long)]
    pub no_train: bool,
    /// What normalises the tokens of a batch that a trained model has not seen: the mean of those it has, or the batch's own
    /// statistics.
    #[arg(long)]
    pub new_batch: NewBatch,
    /// Highly variable genes to read, chosen within batches; 0 reads all genes.
    #[arg(long)]
    pub n_hvg: usize,
    /// Peaks to read: those open in some cells and closed in others most evenly; 0 reads all.
    #[arg(long)]
    pub n_peaks: usize,
    /// What the model reads as the value of a gene. Default: bins with a pre-trained model, logarithms from scratch.
    #[arg(long)]
    pub values: Option<tokens::Values>,
    /// Normalise the tokens of every batch by statistics of their own (DSBN).
    #[arg(long)]
    pub domain_norm: bool,
    /// Tell the expression heads the batch, so that the cell embedding need not hold it.
    #[arg(long)]
    pub batch_labels: bool,
    /// Which cells share a minibatch: mixed, by-batch (of one batch only, in random order) or batch-after-batch (as the
    /// reference's tutorial).
    #[arg(long)]
    pub sampling: Sampling,
    /// Features, expressed or not, whose values the cell embedding is asked for, beside the hidden ones. Default: 0 with a
    /// pre-trained model, 300 from scratch.
    #[arg(long)]
    pub ask: Option<usize>,
    /// Share of a cell's tokens left out at random, anew in every epoch. Default: 0 with a pre-trained model, 0.5 from scratch.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub gene_dropout: Option<f64>,
    /// Most tokens of a cell in a training step, a random sample anew in every epoch. Embedding takes up to --max-length.
    /// More make training slower.
    #[arg(long)]
    #[schemars(range(min = 2))]
    pub training_length: usize,
    /// How often a whole modality of a cell is hidden while training, to be told from the others. Default: 0.2, or 0.5 where cells
    /// lack one.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub modality_dropout: Option<f64>,
    /// Hide this modality from a share of the cells and score how well it is told.
    #[arg(long)]
    pub hide: Option<Hidden>,
    /// Share of the cells it is hidden from.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub hide_share: f64,
    /// Share of the cells by which the best epoch is chosen.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_share: f64,
    /// Name of the embedding in obsm; the other results are named after it. What the input has under these names is replaced in the
    /// output.
    #[arg(long, value_name = "NAME")]
    pub key: String,
    /// Neighbours of every cell in the graph.
    #[arg(long)]
    #[schemars(range(min = 2, max = 200))]
    pub neighbours: usize,
    /// Resolution of the clusters (Leiden): higher finds more.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub resolution: f64,
    /// Cell (its name) from which to order the others by diffusion pseudotime.
    #[arg(long, value_name = "CELL")]
    pub root: Option<String>,
    /// Also score principal components and Harmony on the same cells.
    #[arg(long)]
    pub baselines: bool,
    /// Seed of all random choices: the same seed gives the same result.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Model from scratch")]
    #[serde(flatten)]
    pub size: Size,
    #[command(flatten, next_help_heading = "Tokens")]
    #[serde(flatten)]
    pub tokens: tokens::Options,
    #[command(flatten, next_help_heading = "Training")]
    #[serde(flatten)]
    pub training: train::Options,
    #[command(flatten, next_help_heading = "Objectives")]
    #[serde(flatten)]
    pub weights: Weights,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            protein: Vec::new(),
            atac: Vec::new(),
            samples: None,
            output: PathBuf::new(),
            model: None,
            scores: None,
            figure: None,
            colour: None,
            batch: None,
            labels: None,
            checkpoint: None,
            no_train: false,
            new_batch: NewBatch::Mean,
            n_hvg: 2000,
            n_peaks: 4000,
            values: None,
            domain_norm: true,
            batch_labels: true,
            sampling: Sampling::Mixed,
            ask: None,
            gene_dropout: None,
            training_length: 400,
            modality_dropout: None,
            hide: None,
            hide_share: 0.5,
            validation_share: 0.1,
            key: "X_scGPT".into(),
            neighbours: 15,
            resolution: 1.0,
            root: None,
            baselines: true,
            seed: 0,
            cells: cells::Options::default(),
            size: Size::default(),
            tokens: tokens::Options::default(),
            training: train::Options::default(),
            weights: Weights::default(),
            compute: compute::Options::default(),
        }
    }
}

/// What normalises the tokens of a batch that a model has not seen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum NewBatch {
    /// The mean statistics of the batches it has seen.
    Mean,
    /// The statistics of its own cells.
    Own,
}

/// Which cells share a minibatch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Any; each is normalised by its own batch.
    Mixed,
    /// Those of one batch, batches in random order.
    ByBatch,
    /// Those of one batch, one batch after the other.
    BatchAfterBatch,
}

/// A modality that is hidden from some cells.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Hidden {
    Rna,
    Protein,
    Atac,
}

/// The program.
pub struct Integrate;

impl Program for Integrate {
    const NAME: &'static str = "scgpt-integrate";
    const SUMMARY: &'static str =
        "Bring cells of several batches and modalities into one space, and score it";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3935", "operation_2939"],
        resources: Resources {
            cpus: 8,
            memory_gb: 16,
            gpu: true,
        },
        contents: &[
            ("input", CELLS),
            (
                "output",
                &[
                    "obsm/X_scGPT",
                    "obsm/X_scGPT_umap",
                    "obsp/X_scGPT_connectivities",
                    "obs/X_scGPT_leiden",
                ],
            ),
            ("model", &["args.json", "vocab.json", "model.safetensors"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        let files = [&options.input, &options.protein, &options.atac];
        let any = files.iter().any(|files| !files.is_empty());
        if any == options.samples.is_some() {
            problems.push(
                "give either `--input`, with `--protein` and `--atac` if need be, or `--samples`"
                    .into(),
            );
        }
        if options.checkpoint.is_none() {
            problems.extend(options.size.problem());
            if options.no_train {
                problems.push("`--no-train` needs `--checkpoint`, the model to apply".into());
            }
        }
        if options.no_train && options.model.is_some() {
            problems.push(
                "`--model` is where a trained model goes, but `--no-train` trains none".into(),
            );
        }
        problems.extend(output_problems(options));
        if options.hide.is_some() && options.weights.gepc_weight == 0.0 && !options.no_train {
            problems.push("`--hide` scores what the cell embedding tells, which `--gepc-weight` 0 does not teach".into());
        }
        let Weights {
            gep_weight,
            gepc_weight,
            ..
        } = options.weights;
        if !options.no_train && gep_weight == 0.0 && gepc_weight == 0.0 {
            problems.push("`--gep-weight` and `--gepc-weight` are both 0: nothing would be learnt of expression".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        if let Some(model) = options.model.as_ref().filter(|_| !options.training.resume) {
            output::check_directory(model, output::Existing::Refuse)?;
        }
        let device = steps::device(&options.compute, run)?;
        let data = run.stage("read cells", |run| Data::read(&options, run))?;
        let is_trained = options.no_train || is_complete(&options, run);
        if let Some(model) = options.model.as_ref().filter(|_| !is_trained) {
            output::check_directory(model, output::Existing::Refuse)?;
        }
        if data.settings.is_some() && options.no_train {
            run.note("cells are read as this model was trained to, whatever the options for features and tokens say");
        }
        let mut learner = run.stage("build the model", |run| {
            Learner::build(&options, &data, device, run)
        })?;
        if data.hidden.is_some() && !learner.tells() {
            return Err(Failure::Input.error("`--hide` needs a model that tells values from a cell embedding, which this one does not"));
        }
        if is_trained && !options.no_train {
            let model = options.model.as_deref().unwrap_or(&options.output);
            learner.reload(model, run)?;
        } else if !options.no_train {
            let work = output::WorkFolder::create(&options.output, options.training.resume)?;
            run.stage("train", |run| {
                learner.train(&options, &data, work.path(), run)
            })?;
            if let Some(model) = &options.model {
                learner.write(&options, &data, (model, work.path()), run)?;
                run.output(model)?;
            }
            work.remove();
        }
        results::write(&options, &data, &learner, run)
    }
}

/// What is wrong with the names of outputs.
fn output_problems(options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    if options.key.is_empty() || options.key.contains('/') {
        problems.push(format!(
            "`--key` `{}` cannot be a name in the file: it must not be empty or have a `/`",
            options.key
        ));
    }
    if options.model.as_ref() == Some(&options.output) {
        problems.push("`--model` and `--output` are the same path".into());
    }
    let is_h5mu = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "h5mu");
    let others = [&options.protein, &options.atac];
    let is_single = options.input.len() == 1 && others.iter().all(|files| files.is_empty());
    if is_single && is_h5mu(&options.input[0]) != is_h5mu(&options.output) {
        problems.push("`--output` is a copy of the `--input` with additions, so both must be .h5ad or both .h5mu".into());
    }
    problems
}

/// Whether the model is there as this very run writes it: it was killed after that.
fn is_complete(options: &Options, run: &Run) -> bool {
    let resumed = options.model.as_ref().filter(|_| options.training.resume);
    let is_written =
        |model: &PathBuf| settings::is_written::<Settings>(model, &fingerprint(options, run));
    resumed.is_some_and(is_written)
}

/// Options that do not change what is learnt; input files count by their content, wherever they lie.
const IRRELEVANT: [&str; 20] = [
    "root",
    "new_batch",
    "resume",
    "save_every",
    "input",
    "protein",
    "atac",
    "samples",
    "checkpoint",
    "output",
    "model",
    "scores",
    "figure",
    "colour",
    "labels",
    "key",
    "neighbours",
    "resolution",
    "baselines",
    "device",
];

/// One word for everything that decides the course of a run.
pub fn fingerprint(options: &Options, run: &Run) -> String {
    steps::fingerprint(options, &IRRELEVANT, run)
}
