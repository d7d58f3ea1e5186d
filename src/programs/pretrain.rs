//! `scgpt-pretrain`: generative pre-training, from scratch or from a checkpoint.

mod baselines;
mod data;
mod stream;
mod task;
mod training_curve;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::from_scratch::{Size, ValueEncoding};
use super::{CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::corpus;
use crate::distributed::{self, Ranks};
use crate::failure::Failure;
use crate::options;
use crate::progress;
use crate::run_record::Run;
use crate::tokens::binning::Ties;
use crate::train::pretraining::{Objectives, Task};
use crate::{compute, train, trainer};

/// Options of `scgpt-pretrain`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Corpora of tokenized cells: directories written by scgpt-tokenize, or cell banks of scGPT in Python. Required.
    /// Comma-separated.
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "corpus", "x-direction" = "input", "minItems" = 1))]
    pub input: Vec<PathBuf>,
    /// Directory with the pre-trained model, metrics and training curves. It must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Pre-trained model to train further: a directory, or the name of a model in one of the directories in the environment
    /// variable SCGPT_MODELS (separated by colons). Genes that it lacks are added to its vocabulary. For an interrupted run, use
    /// --resume instead. Default: train a small model from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Annotation of the corpus with cell types, for classification (--cls-weight). Cells without a label are used for the other
    /// objectives.
    #[arg(long, value_name = "COLUMN")]
    pub labels: Option<String>,
    /// Annotation of the corpus with the perturbed gene of each cell. That gene gets the condition token of perturbed genes.
    #[arg(long, value_name = "COLUMN")]
    pub perturbed: Option<String>,
    /// Categories of genes, such as pathways, as condition tokens: gene sets (.gmt), or a table with a gene and its category on
    /// each line (.tsv). A gene in several sets belongs to the first.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-fingerprint" = false, "x-format" = "txt", "x-direction" = "input"))]
    pub gene_conditions: Option<PathBuf>,
    /// Fraction of the cells held out for validation, to select the best epoch.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Maximum number of validation cells, of those of --validation-fraction.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0, max = 100000))]
    pub validation_cells: u64,
    /// Approximate memory of the shuffle buffer, such as 4G; the corpus may be much larger. Cells are shuffled within the buffer,
    /// so its size affects the result.
    #[arg(long, value_name = "SIZE")]
    pub memory: options::Size,
    /// Number of expression bins, including the bin for zero. Must match that of a pre-trained model, 51 for the published
    /// models.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Maximum number of tokens per cell, including the CLS token. Longer cells are shortened to a new random sample of their
    /// genes in every epoch. Larger values increase run time and memory.
    #[arg(long)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// Bin of tied values when bin edges coincide.
    #[arg(long, hide_short_help = true)]
    pub ties: Ties,
    /// Also evaluate baselines on the validation cells: the mean of each gene, and the mean of the most similar cells. Disable
    /// with --baselines=false.
    #[arg(long, hide_short_help = true)]
    pub baselines: bool,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
    #[arg(long)]
    pub seed: u64,
    #[command(
        flatten,
        next_help_heading = "Model from scratch (ignored with --checkpoint)"
    )]
    #[serde(flatten)]
    pub size: Size,
    #[command(flatten, next_help_heading = "Training")]
    #[serde(flatten)]
    pub training: train::Options,
    #[command(flatten, next_help_heading = "Objectives")]
    #[serde(flatten)]
    pub goals: Objectives,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            output: PathBuf::new(),
            checkpoint: None,
            labels: None,
            perturbed: None,
            gene_conditions: None,
            validation_fraction: 0.03,
            validation_cells: 2000,
            memory: options::Size(1 << 30),
            n_bins: 51,
            max_length: 1200,
            ties: Ties::OneSided,
            baselines: true,
            seed: 0,
            size: Size {
                value_encoding: ValueEncoding::Continuous,
                ..Size::default()
            },
            training: train::Options {
                log_every: 100,
                ..train::Options::default()
            },
            goals: Objectives::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Pretrain;

impl Program for Pretrain {
    const NAME: &'static str = "scgpt-pretrain";
    const SUMMARY: &'static str = "Pre-train an scGPT model on a corpus of tokenized cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: Resources {
            cpus: 16,
            memory_gb: 32,
            gpu: true,
        },
        contents: &[
            ("input", &[corpus::MANIFEST, corpus::VOCABULARY]),
            ("output", MODEL),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let Objectives {
            task,
            gep_weight,
            cce_weight,
            cls_weight,
            ..
        } = options.goals;
        let mut problems = Vec::new();
        if options.checkpoint.is_none() {
            problems.extend(options.size.problem());
        }
        if gep_weight == 0.0 {
            problems.push(
                "`--gep-weight` is 0, but the GEP loss is needed to select the best weights".into(),
            );
        }
        if cce_weight > 0.0 && task != Task::Pcpt {
            problems.push(
                "`--cce-weight` needs `--task pcpt`, the only task that embeds a cell twice".into(),
            );
        }
        if cls_weight > 0.0 && options.labels.is_none() {
            problems.push("`--cls-weight` needs `--labels`, the classification target".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        let device = steps::device(&options.compute, run)?;
        let ranks = distributed::join(match device {
            tch::Device::Cuda(gpu) => Some(gpu),
            _ => None,
        })?;
        check_ranks(&options, ranks, run)?;
        if !ranks.leads() {
            progress::set_verbosity(progress::Verbosity::Quiet);
        }
        trainer::distributed(&options, device, ranks, run)
    }
}

/// Rejects options that several processes do not support, and reports the number of processes.
fn check_ranks(options: &Options, ranks: &dyn Ranks, run: &mut Run) -> Result<()> {
    let size = ranks.size();
    if size > 1 && options.goals.cce_weight > 0.0 {
        return Err(Failure::Input.error("`--cce-weight` is not supported with several processes, because it compares the cells of a whole minibatch: train with one process, or drop it"));
    }
    if size > 1 {
        let cells = options.training.batch_size;
        run.note(format!(
            "distributed training with {size} processes, {cells} cells each per step"
        ));
        run.metric("processes", size);
    }
    Ok(())
}
