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
    /// AnnData with labeled cells.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Directory with the fine-tuned model, metrics and figures.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with cell types. Cells without a label are dropped.
    #[arg(long, value_name = "COLUMN")]
    pub labels: String,
    /// Pre-trained model: a directory, or the name of a model in a directory of SCGPT_MODELS. Default: train a small model from
    /// scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Column of obs with the technical batch or donor, for selecting highly variable genes within batches, testing on whole
    /// batches (--test-groups) and adversarial batch correction (--dar-weight).
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Fraction of the labeled cells of each cell type held out for testing.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_fraction: f64,
    /// Batches, such as donors, whose cells are all held out for testing, instead of a fraction of all cells.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub test_groups: Vec<String>,
    /// Fraction of the remaining cells of each cell type held out for validation (model selection).
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_fraction: f64,
    /// Number of highly variable genes, selected on the training cells; 0 uses all genes.
    #[arg(long)]
    pub n_hvg: usize,
    /// Expression representation. Default: binned with a pre-trained model; log1p from scratch, which resolves small counts
    /// better.
    #[arg(long, hide_short_help = true)]
    pub values: Option<tokens::Values>,
    /// AnnData with the test cells, all genes and labels, for scgpt-annotate or other methods.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "output"))]
    pub test_cells: Option<PathBuf>,
    /// Class-balanced loss: weights classes by inverse frequency, so that all cell types count equally.
    #[arg(long, hide_short_help = true)]
    pub class_weights: bool,
    /// Layers of the pre-trained model to freeze.
    #[arg(long, hide_short_help = true)]
    pub freeze: Freeze,
    /// Also evaluate baselines (PCA with logistic regression, PCA with nearest neighbors) on the same cells.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false))]
    pub baselines: bool,
    /// Random seed. Results are reproducible for a fixed seed.
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
    /// The gene and value encoders are frozen.
    Encoders,
    /// Encoders and transformer are frozen; only the output heads are trained.
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
    const SUMMARY: &'static str = "Fine-tune a scGPT model for cell type annotation";
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
