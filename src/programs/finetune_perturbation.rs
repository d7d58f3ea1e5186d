//! `scgpt-finetune-perturbation`: fine-tuning for perturbation response prediction.

mod data;
mod evaluation;
mod perceptron;
mod reader;
mod task;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::perturbation_data::{self, Labels};
use super::{CELLS, CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::analysis::differential::Test;
use crate::cells::{self, controls::Pairing};
use crate::compute;
use crate::programs::from_scratch::{Size, ValueEncoding};
use crate::run_record::Run;
use crate::split::perturbations::Scheme;
use crate::{train, trainer};

/// Options of `scgpt-finetune-perturbation`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with perturbed and control cells. Counts or log-normalized values; files in the format of GEARS can be used
    /// directly.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Directory with the trained model, test metrics and figures. It must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub labels: Labels,
    /// Column of obs with the dose of the perturbation of each cell, a number in any unit; 1 where missing. Default: 1 for all
    /// cells.
    #[arg(long, hide_short_help = true, value_name = "COLUMN")]
    pub dose: Option<String>,
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons). Default: train a small model from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// How test perturbations are chosen. A gene is seen if a perturbation kept for training or validation has it.
    #[arg(long)]
    pub split: Scheme,
    /// Perturbations to hold out for testing, such as STAT1 or STAT1+JAK2. Overrides --split. Combinations with the gene of a
    /// held-out single perturbation are excluded. Comma-separated.
    #[arg(long, value_name = "PERTURBATION")]
    pub test: Vec<String>,
    /// Fraction of the perturbed genes used for training (--split simulation or simulation-single), and with simulation of the
    /// combinations of these genes. The other splits test on a tenth.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub train_fraction: f64,
    /// Fraction of the perturbed genes used for validation, to select the best epoch; 0 keeps the last epoch. Default: 0.1, or 0
    /// with fewer than 100 perturbations, too few for a reliable selection.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_fraction: Option<f64>,
    /// Handling of perturbed genes that the file does not measure.
    #[arg(long, hide_short_help = true)]
    pub missing_genes: MissingGenes,
    /// Maximum number of cells per perturbation, and of control cells, sampled at random; 0 uses all.
    #[arg(long, hide_short_help = true)]
    pub max_cells: usize,
    /// Minimum number of cells per perturbation; perturbations with fewer are dropped. Default: none is dropped, but a
    /// perturbation with a single cell, which has no variance estimate, is an error.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub min_cells: Option<usize>,
    /// Number of highly variable genes to read, in addition to the perturbed genes; 0 reads all genes. Selected on the training
    /// and control cells, by the flavor cell_ranger.
    #[arg(long)]
    pub n_hvg: usize,
    /// Maximum number of genes of a training example, a new random sample in every epoch. Predictions use all genes.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// Always keep the perturbed genes in the sample of --max-length genes. scGPT in Python does not, and loses most of them.
    /// Disable with --keep-perturbed=false.
    #[arg(long, hide_short_help = true)]
    pub keep_perturbed: bool,
    /// Control profile from which a training example starts (control matching).
    #[arg(long, hide_short_help = true)]
    pub control_matching: Pairing,
    /// Number of cells of a perturbation averaged into one training example (pseudobulk). Larger values reduce noise; 1 trains on
    /// single cells, as scGPT in Python does.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub pseudobulk_size: usize,
    /// Predict the change as the difference of the predictions with and without the perturbation, which cancels errors common to
    /// all cells. Disable with --contrast=false.
    #[arg(long, hide_short_help = true)]
    pub contrast: bool,
    /// Number of control cells to predict test perturbations from, sampled at random. With --control-matching mean, the mean of
    /// all control cells is used instead.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false), range(min = 1))]
    pub controls: usize,
    /// Differential expression test against control cells. Its top 20 genes are evaluated separately, in the metrics with _de in
    /// their names.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false))]
    pub de_test: Test,
    /// Also evaluate baselines on the same perturbations: training_mean, additive, linear and mlp. Disable with
    /// --baselines=false.
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
    #[command(flatten, next_help_heading = "Training")]
    #[serde(flatten)]
    pub training: train::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            output: PathBuf::new(),
            labels: Labels::default(),
            dose: None,
            checkpoint: None,
            split: Scheme::Simulation,
            test: Vec::new(),
            train_fraction: 0.75,
            validation_fraction: None,
            missing_genes: MissingGenes::Error,
            max_cells: 0,
            min_cells: None,
            n_hvg: 5000,
            max_length: 1536,
            keep_perturbed: true,
            control_matching: Pairing::Mean,
            pseudobulk_size: 32,
            contrast: true,
            controls: 32,
            de_test: Test::TTest,
            baselines: true,
            seed: 0,
            cells: cells::Options::default(),
            // A factor of 0 would remove a perturbed gene that is not expressed.
            size: Size {
                value_encoding: ValueEncoding::Continuous,
                ..Size::default()
            },
            training: train::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// Handling of perturbed genes that are not measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum MissingGenes {
    /// End with an error that lists them.
    #[default]
    Error,
    /// Keep their cells. The genes get tokens, but no expression value to predict.
    Token,
    /// Drop their cells.
    Drop,
}

/// The program.
pub struct FinetunePerturbation;

impl Program for FinetunePerturbation {
    const NAME: &'static str = "scgpt-finetune-perturbation";
    const SUMMARY: &'static str =
        "Fine-tune scGPT for perturbation response prediction and compare with baselines";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3223"],
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
        let mut problems = perturbation_data::problems(&options.labels);
        if options.checkpoint.is_none() {
            problems.extend(options.size.problem());
        }
        let spelling = options.labels.spelling();
        for text in &options.test {
            match spelling.parse(text) {
                Err(wrong) => problems.push(format!("`--test`: `{text}` {wrong}")),
                Ok(perturbation) if perturbation.is_control() => {
                    problems.push(format!("`--test`: `{text}` is the control"));
                }
                Ok(_) => {}
            }
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        let device = steps::device(&options.compute, run)?;
        trainer::run(&options, device, run)
    }
}
