//! `scgpt-finetune-annotation`: learn cell types from labelled cells.

mod data;
mod evaluation;
mod learner;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::data::Data;
use self::learner::Learner;
use super::from_scratch::Size;
use super::{CELLS, CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::predict::annotation::Settings;
use crate::predict::settings;
use crate::run_record::Run;
use crate::train::annotation::Weights;
use crate::{cells, compute, output, tokens, train};

/// Options of `scgpt-finetune-annotation`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Labelled cells, an AnnData file.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// New folder for the model, its metrics and pictures.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with the cell types. Cells without one are left out.
    #[arg(long, value_name = "COLUMN")]
    pub labels: String,
    /// Pre-trained model to start from: a folder, or the name of one in a folder of SCGPT_MODELS. Without it a small model
    /// is trained from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Column of obs with the technical batch or donor: highly variable genes are chosen within batches, and testing on whole
    /// batches (--test-groups) and hiding the batch from the model (--dar-weight) need it.
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Share of the labelled cells of every type that is set aside to test the model on.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_share: f64,
    /// Test on all cells of these batches, such as donors, instead of a share of all cells.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub test_groups: Vec<String>,
    /// Share of the other cells of every type by which the best epoch is chosen.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_share: f64,
    /// Highly variable genes to read, chosen on the training cells; 0 reads all genes.
    #[arg(long)]
    pub n_hvg: usize,
    /// What the model reads as the value of a gene. Default: bins with a pre-trained model, as it was trained; logarithms
    /// from scratch, which keep more of small counts.
    #[arg(long)]
    pub values: Option<tokens::Values>,
    /// Also write the test cells, with all their genes and labels, to this file, for scgpt-annotate or other methods.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub held_out: Option<PathBuf>,
    /// Weigh the loss so that rare types count as much as common ones (class weights).
    #[arg(long)]
    pub class_weights: bool,
    /// Parts of a pre-trained model that are not trained further.
    #[arg(long)]
    pub freeze: Freeze,
    /// Also let simpler methods (PCA with logistic regression, and with nearest neighbours) learn and predict the same cells.
    #[arg(long)]
    pub baselines: bool,
    /// Seed of all random choices: the same seed gives the same model.
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
            test_share: 0.2,
            test_groups: Vec::new(),
            validation_share: 0.1,
            n_hvg: 8000,
            values: None,
            held_out: None,
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
    /// What the model reads as the value of a gene.
    fn values(&self) -> tokens::Values {
        let usual = if self.checkpoint.is_some() {
            tokens::Values::Bins
        } else {
            tokens::Values::Logarithms
        };
        self.values.unwrap_or(usual)
    }
}

/// Parts of a pre-trained model that are not trained further.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// Everything is trained.
    #[default]
    None,
    /// The gene and value encoders stay as they are.
    Encoders,
    /// Only the new heads are trained.
    Trunk,
}

impl Freeze {
    pub fn applies(self, name: &str) -> bool {
        let encoder = name.starts_with("encoder.") || name.starts_with("value_encoder.");
        match self {
            Self::None => false,
            Self::Encoders => encoder,
            Self::Trunk => {
                encoder || name.starts_with("transformer_encoder.") || name.starts_with("bn.")
            }
        }
    }
}

/// The program.
pub struct FinetuneAnnotation;

impl Program for FinetuneAnnotation {
    const NAME: &'static str = "scgpt-finetune-annotation";
    const SUMMARY: &'static str = "Teach a scGPT model the cell types of labelled cells";
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
            problems.push("`--test-groups` needs `--batch`, the column the groups are in".into());
        }
        if options.batch.is_none() && options.weights.dar_weight > 0.0 {
            problems.push("`--dar-weight` needs `--batch`, the column to hide".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.seed(options.seed);
        let resume = options.training.resume;
        if !resume {
            output::check_directory(&options.output, output::Existing::Refuse)?;
        }
        let work = output::WorkFolder::create(&options.output, resume)?;
        run.record_at(options.output.join("run.json"));
        let device = steps::device(&options.compute, run)?;
        let data = run.stage("read cells", |run| Data::read(&options, run))?;
        if options.training.resume && is_complete(&options, run) {
            run.note(format!(
                "`{}` is complete already",
                options.output.display()
            ));
            work.remove();
            return Ok(());
        }
        output::check_directory(&options.output, output::Existing::Refuse)?;
        if let Some(path) = &options.held_out {
            run.stage("write test cells", |_| {
                data::write_test_cells(&options, &data, path)
            })?;
        }
        let mut learner = run.stage("build the model", |run| {
            Learner::build(&options, &data, device, run)
        })?;
        run.stage("train", |run| {
            learner.train(&options, &data, work.path(), run)
        })?;
        let files = run.stage("test", |run| {
            evaluation::test(&options, &data, &learner, run)
        })?;
        run.stage("write", |run| {
            learner.write(&options, &data, work.path(), (files, run))
        })?;
        work.remove();
        run.output(&options.output)?;
        Ok(())
    }
}

/// Whether the output is there as this very run writes it: it was killed after that, before it could say so.
fn is_complete(options: &Options, run: &Run) -> bool {
    settings::is_written::<Settings>(&options.output, &fingerprint(options, run))
}

/// Options that do not change what is learnt; input files count by their content, wherever they lie.
const IRRELEVANT: [&str; 8] = [
    "resume",
    "save_every",
    "input",
    "checkpoint",
    "output",
    "device",
    "baselines",
    "held_out",
];

/// One word for everything that decides the course of a run.
pub fn fingerprint(options: &Options, run: &Run) -> String {
    steps::fingerprint(options, &IRRELEVANT, run)
}
