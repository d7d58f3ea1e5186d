//! `scgpt-finetune-annotation`: fine-tuning for cell type annotation.

mod data;
mod evaluation;
mod task;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::from_scratch::Size;
use super::{CELLS, CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::run_record::Run;
use crate::train::annotation::Weights;
use crate::{cells, compute, tokens, train, trainer};

/// Options of `scgpt-finetune-annotation`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with labeled cells.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Directory with the fine-tuned model, metrics and figures. It must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with cell types. Cells without a label are dropped.
    #[arg(long, value_name = "COLUMN")]
    pub labels: String,
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons). Default: train a small model from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Column of obs with the technical batch or donor. Highly variable genes are selected within batches; --test-groups and
    /// --dar-weight need it.
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Fraction of the cells of each cell type held out for testing.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_fraction: f64,
    /// Values of --batch, such as donors, to hold out for testing. Overrides --test-fraction. Needs --batch. Comma-separated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub test_groups: Vec<String>,
    /// Fraction of the remaining cells of each cell type held out for validation, to select the best epoch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_fraction: f64,
    /// Number of highly variable genes to read; 0 reads all genes. Selected without the test cells, by the flavor seurat_v3 for
    /// counts, else cell_ranger.
    #[arg(long)]
    pub n_hvg: usize,
    /// Representation of expression values. Default: binned with a pre-trained model, log1p from scratch.
    #[arg(long, hide_short_help = true)]
    pub values: Option<tokens::Values>,
    /// Output AnnData file with the held-out test cells, all genes and labels, to evaluate other methods.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "output"))]
    pub test_cells: Option<PathBuf>,
    /// Weight classes by inverse frequency in the loss, so that all cell types count equally.
    #[arg(long, hide_short_help = true)]
    pub class_weights: bool,
    /// Layers of the pre-trained model to freeze.
    #[arg(long, hide_short_help = true)]
    pub freeze: Freeze,
    /// Also evaluate baselines on the same cells: principal components (PCA) with logistic regression, and with nearest
    /// neighbors. Disable with --baselines=false.
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
            input: PathBuf::new(),
            output: PathBuf::new(),
            labels: String::new(),
            checkpoint: None,
            batch: None,
            test_fraction: 0.2,
            test_groups: Vec::new(),
            validation_fraction: 0.1,
            n_hvg: 8000,
            values: None,
            test_cells: None,
            class_weights: false,
            freeze: Freeze::None,
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

impl Options {
    /// Expression representation, or its default.
    fn values(&self) -> tokens::Values {
        let default = if self.checkpoint.is_some() {
            tokens::Values::Binned
        } else {
            tokens::Values::Log1p
        };
        self.values.unwrap_or(default)
    }
}

/// Layers of a pre-trained model to freeze.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// All weights are trained.
    #[default]
    None,
    /// Gene and value encoders.
    Encoders,
    /// Encoders and transformer; only the output heads are trained.
    Backbone,
}

impl Freeze {
    pub fn applies(self, name: &str) -> bool {
        let encoder = name.starts_with("encoder.") || name.starts_with("value_encoder.");
        match self {
            Self::None => false,
            Self::Encoders => encoder,
            Self::Backbone => {
                encoder || name.starts_with("transformer_encoder.") || name.starts_with("bn.")
            }
        }
    }
}

/// The program.
pub struct FinetuneAnnotation;

impl Program for FinetuneAnnotation {
    const NAME: &'static str = "scgpt-finetune-annotation";
    const SUMMARY: &'static str = "Fine-tune an scGPT model for cell type annotation";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: Resources {
            cpus: 8,
            memory_gb: 16,
            gpu: true,
        },
        contents: &[
            ("input", CELLS),
            ("output", MODEL),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.checkpoint.is_none() {
            problems.extend(options.size.problem());
        }
        if options.batch.is_none() && !options.test_groups.is_empty() {
            problems.push("`--test-groups` needs `--batch`, the column of the groups".into());
        }
        if options.batch.is_none() && options.weights.dar_weight > 0.0 {
            problems.push("`--dar-weight` needs `--batch`, the column to correct for".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        let device = steps::device(&options.compute, run)?;
        trainer::run(&options, device, run)
    }
}
