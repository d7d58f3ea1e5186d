//! `scgpt-integrate`: integration of batches and modalities into a joint embedding, with integration metrics.

mod data;
mod evaluation;
mod imputation;
mod reading;
mod results;
mod task;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::data::Data;
use super::from_scratch::Size;
use super::{CELLS, CHECKPOINT, Facts, Program, Resources, TOPICS, steps};
use crate::failure::Failure;

use crate::distributed::SingleProcess;
use crate::run_record::Run;
use crate::train::integration::Weights;
use crate::trainer::{self, Trained};
use crate::{cells, compute, output, tokens, train};

/// Options of `scgpt-integrate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData files (.h5ad), or MuData files (.h5mu) with several modalities. Each file is a batch unless --batch is given.
    /// Required unless --samples is given. Comma-separated.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// AnnData files with antibody counts (CITE-seq) for the cells of --input, matched by cell name. Cells that are in one file
    /// only are kept. Comma-separated.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub protein: Vec<PathBuf>,
    /// AnnData files with chromatin accessibility (ATAC, as peaks or gene activities) for the cells of --input, matched by cell
    /// name. Cells that are in one file only are kept. Comma-separated.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub atac: Vec<PathBuf>,
    /// Sample sheet (CSV) instead of --input, --protein and --atac: column path (relative to the sheet), and optionally sample
    /// (the same for files of the same cells), batch and modality (rna, protein or atac; rna where empty).
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "csv", "x-direction" = "input"))]
    pub samples: Option<PathBuf>,
    /// AnnData or MuData file with cells and results, named after --obsm-key: obsm/X_scGPT and X_scGPT_umap,
    /// obsp/X_scGPT_connectivities, obs/X_scGPT_leiden. A copy of the input if that is one file, else a new AnnData file with all
    /// cells and features.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Output directory with the trained model, which can map new batches later (--checkpoint and --zero-shot). It must not exist
    /// yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "output"))]
    pub model: Option<PathBuf>,
    /// Output TSV of scIB metrics of the embedding and of baselines. They include NMI, ARI, ASW, LISI and kBET; those of cell
    /// types need --labels.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "tsv", "x-direction" = "output"))]
    pub metrics: Option<PathBuf>,
    /// Output UMAP plot (SVG) of the cells, colored by --color.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Column of obs that colors the plot. Default: that of --labels, else the batch.
    #[arg(long, hide_short_help = true, value_name = "COLUMN")]
    #[schemars(extend("x-fingerprint" = false))]
    pub color: Option<String>,
    /// Column of obs with the technical batch. Default: the column batch of --samples, else each file is a batch.
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Column of obs with cell types, used for evaluation only.
    #[arg(long, value_name = "COLUMN")]
    #[schemars(extend("x-fingerprint" = false))]
    pub labels: Option<String>,
    /// Pre-trained model, or a model trained by this program: a directory, or the name of a model in one of the directories in
    /// the environment variable SCGPT_MODELS (separated by colons). Default: train a small model from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Do not train, but embed cells with a pre-trained model, or map them with a model trained by this program. Needs
    /// --checkpoint.
    #[arg(long)]
    pub zero_shot: bool,
    /// DSBN statistics of batches that the model of --checkpoint was not trained on.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false))]
    pub new_batch: NewBatch,
    /// Number of highly variable genes to read, selected within batches; 0 reads all genes. Selected by the flavor seurat_v3 for
    /// counts, else cell_ranger.
    #[arg(long)]
    pub n_hvg: usize,
    /// Number of peaks to read, those that are open in nearest to half of the cells; 0 reads all peaks.
    #[arg(long, hide_short_help = true)]
    pub n_peaks: usize,
    /// Representation of expression values. Default: binned with a pre-trained model, log1p from scratch.
    #[arg(long, hide_short_help = true)]
    pub values: Option<tokens::Values>,
    /// Normalize the tokens of each batch by its own statistics: domain-specific batch normalization (DSBN). Disable with
    /// --domain-norm=false.
    #[arg(long, hide_short_help = true)]
    pub domain_norm: bool,
    /// Give batch labels to the expression decoders, so that the cell embedding need not encode the batch. Disable with
    /// --batch-labels=false.
    #[arg(long, hide_short_help = true)]
    pub batch_labels: bool,
    /// Composition of the minibatches in training.
    #[arg(long, hide_short_help = true)]
    pub sampling: Sampling,
    /// Number of features, expressed or not, predicted from the cell embedding (GEPC) in addition to the masked ones. Default: 0
    /// with a pre-trained model, 300 from scratch.
    #[arg(long, hide_short_help = true)]
    pub n_query_genes: Option<usize>,
    /// Fraction of the tokens of a cell to drop, a new random choice in every epoch. Reduces overfitting and training time.
    /// Default: 0 with a pre-trained model, 0.5 from scratch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub gene_dropout: Option<f64>,
    /// Maximum number of tokens of a cell in a training step, a new random sample in every epoch; embeddings use up to
    /// --max-length. Larger values make training slower.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 2))]
    pub training_length: usize,
    /// Probability that one modality of a cell is masked in training and predicted from the others (modality dropout). Default:
    /// 0.2, or 0.5 if some cells lack a modality.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub modality_dropout: Option<f64>,
    /// Modality to mask in a fraction of the cells (--masked-fraction), to evaluate its imputation.
    #[arg(long, hide_short_help = true)]
    pub mask_modality: Option<MaskedModality>,
    /// Fraction of the cells in which --mask-modality is masked.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub masked_fraction: f64,
    /// Fraction of the cells held out for validation, to select the best epoch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_fraction: f64,
    /// Name of the embedding in obsm, and prefix of the other results: NAME_umap, NAME_connectivities, NAME_leiden and
    /// NAME_pseudotime. Existing entries with these names are replaced in the output.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    #[schemars(extend("x-fingerprint" = false))]
    pub obsm_key: String,
    /// Number of neighbors of each cell in the kNN graph.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false), range(min = 2, max = 200))]
    pub n_neighbors: usize,
    /// Resolution of Leiden clustering; higher values give more clusters.
    #[arg(long)]
    #[schemars(extend("x-fingerprint" = false), range(min = 0.0, max = 100.0))]
    pub resolution: f64,
    /// Name of the root cell, to compute diffusion pseudotime.
    #[arg(long, hide_short_help = true, value_name = "CELL")]
    #[schemars(extend("x-fingerprint" = false))]
    pub root: Option<String>,
    /// Also evaluate baselines on the same cells: principal components (PCA) and Harmony. Disable with --baselines=false.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false))]
    pub baselines: bool,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(
        flatten,
        next_help_heading = "Model from scratch (ignored with --checkpoint)"
    )]
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
            metrics: None,
            plot: None,
            color: None,
            batch: None,
            labels: None,
            checkpoint: None,
            zero_shot: false,
            new_batch: NewBatch::Mean,
            n_hvg: 2000,
            n_peaks: 4000,
            values: None,
            domain_norm: true,
            batch_labels: true,
            sampling: Sampling::Mixed,
            n_query_genes: None,
            gene_dropout: None,
            training_length: 400,
            modality_dropout: None,
            mask_modality: None,
            masked_fraction: 0.5,
            validation_fraction: 0.1,
            obsm_key: "X_scGPT".into(),
            n_neighbors: 15,
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

/// Normalization statistics (DSBN) of a batch that the model was not trained on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum NewBatch {
    /// The mean over the training batches.
    Mean,
    /// Those of the cells of the batch.
    Own,
}

/// Minibatch sampling.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Cells of any batch; each cell is normalized by its own batch.
    Mixed,
    /// Cells of one batch, minibatches in random order.
    ByBatch,
    /// Cells of one batch, one batch after the other, as in the tutorial of scGPT in Python.
    Sequential,
}

/// A modality that is masked in some cells.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum MaskedModality {
    Rna,
    Protein,
    Atac,
}

/// The program.
pub struct Integrate;

impl Program for Integrate {
    const NAME: &'static str = "scgpt-integrate";
    const SUMMARY: &'static str = "Integrate batches and modalities and score the integration";
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
                "give either `--input`, optionally with `--protein` and `--atac`, or `--samples`"
                    .into(),
            );
        }
        if options.checkpoint.is_none() {
            problems.extend(options.size.problem());
            if options.zero_shot {
                problems.push("`--zero-shot` needs `--checkpoint`, the model to apply".into());
            }
        }
        if options.zero_shot && options.model.is_some() {
            problems.push(
                "`--model` is the directory of a trained model, but `--zero-shot` trains none"
                    .into(),
            );
        }
        problems.extend(output_problems(options));
        if options.mask_modality.is_some()
            && options.weights.gepc_weight == 0.0
            && !options.zero_shot
        {
            problems.push("`--mask-modality` needs `--gepc-weight` above 0: imputation uses the cell embedding".into());
        }
        let Weights {
            gep_weight,
            gepc_weight,
            ..
        } = options.weights;
        if !options.zero_shot && gep_weight == 0.0 && gepc_weight == 0.0 {
            problems.push("`--gep-weight` and `--gepc-weight` are both 0: at least one expression objective is needed".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let model = options.model.as_deref();
        if let Some(model) = model.filter(|_| !options.training.resume) {
            output::check_directory(model, output::Existing::Refuse)?;
        }
        let device = steps::device(&options.compute, run)?;
        let data = run.stage("read_cells", |run| Data::read(&options, run))?;
        let complete = model.filter(|model| trainer::is_complete(&options, model, run));
        if let Some(model) = model.filter(|_| !options.zero_shot && complete.is_none()) {
            output::check_directory(model, output::Existing::Refuse)?;
        }
        if data.settings.is_some() && options.zero_shot {
            run.note(
                "options for features and tokens are ignored: the settings of the model are used",
            );
        }
        let (network, reader) = run.stage("build_model", |run| {
            trainer::build(&options, &data, device, run)
        })?;
        if data.masked.is_some() && !network.has_mvc_decoder() {
            return Err(Failure::Input.error("`--mask-modality` needs a model with an MVC (GEPC) decoder, which this model does not have"));
        }
        let trained = Trained {
            data: &data,
            reader: &reader,
            network: &network,
        };
        match complete {
            _ if options.zero_shot => {}
            Some(model) => network.reload(model, run)?,
            None => train(&options, trained, run)?,
        }
        results::write(&options, &data, trained, run)
    }
}

/// Problems of the names of outputs.
fn output_problems(options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    if options.obsm_key.is_empty() || options.obsm_key.contains('/') {
        problems.push(format!(
            "`--obsm-key` `{}` cannot be a name in the file: it must not be empty or have a `/`",
            options.obsm_key
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

/// Trains the model, and writes it to `--model`.
fn train(options: &Options, trained: Trained<'_, Options>, run: &mut Run) -> Result<()> {
    let work = output::WorkFolder::create(&options.output, options.training.resume)?;
    let folder = work.path();
    run.stage("train", |run| {
        trainer::train(options, trained, (folder, &SingleProcess), run)
    })?;
    if let Some(model) = &options.model {
        trainer::write(options, trained, (model, folder, Vec::new()), run)?;
        run.output(model)?;
    }
    work.remove();
    Ok(())
}
