//! `scgpt-finetune-perturbation`: a model that tells what perturbing genes does to expression.

mod data;
mod evaluation;
mod learner;
mod perceptron;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::perturbed::{self, Labels};
use super::{CELLS, CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::analysis::differential::Test;
use crate::cells::{self, controls::Pairing};
use crate::compute;
use crate::output;
use crate::predict::perturbation::Settings;
use crate::predict::settings;
use crate::programs::from_scratch::{Size, ValueEncoding};
use crate::run_record::Run;
use crate::split::perturbations::Scheme;
use crate::train;

use data::Data;
use learner::Learner;

/// Options of `scgpt-finetune-perturbation`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Perturbed and control cells, an AnnData file with counts or their logarithms; files in the layout of GEARS are read as
    /// they are.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// New folder for the trained model, its scores and its figures.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub labels: Labels,
    /// Column of obs with the dose of the perturbation of each cell, a number; 1 where it is not given.
    #[arg(long, value_name = "COLUMN")]
    pub dose: Option<String>,
    /// Pre-trained model to start from: a folder, or the name of one in a folder of SCGPT_MODELS. Without it a small model is
    /// trained from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// How the perturbations to test on are chosen.
    #[arg(long)]
    pub split: Scheme,
    /// Perturbations to test on instead, such as STAT1 or STAT1+JAK2; combinations with one of the single genes are not learnt
    /// from.
    #[arg(long, value_name = "PERTURBATION")]
    pub test: Vec<String>,
    /// Share of the perturbed genes, and of the combinations of them, that are learnt from (split simulation).
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub train_share: f64,
    /// Share of the perturbed genes that choose the best epoch instead of being learnt from. Default: 0.1, but 0, which keeps the
    /// last epoch, with fewer than 100 perturbations: a few choose by chance.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_share: Option<f64>,
    /// What becomes of perturbed genes that the file does not measure: they are kept through a token of their own, their cells are
    /// left out, or the file is refused.
    #[arg(long)]
    pub unmeasured: Unmeasured,
    /// Most cells of a perturbation, and of the control, chosen at random; 0 takes all.
    #[arg(long)]
    pub max_cells: usize,
    /// Perturbations of fewer cells are left out. Default: a perturbation of a single cell, which says nothing of its spread, is
    /// an error.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub min_cells: Option<usize>,
    /// Highly variable genes to read, beside the perturbed ones; 0 reads all genes.
    #[arg(long)]
    pub n_hvg: usize,
    /// Most genes of a cell in a training step, a random sample anew in every epoch. All genes are read to predict.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// Keep the perturbed genes in that sample. The reference does not, and loses most of them.
    #[arg(long)]
    pub keep_perturbed: bool,
    /// What a perturbed cell is taken to have been before: a random control cell, drawn anew in every epoch, the most similar one, or
    /// the mean of all.
    #[arg(long)]
    pub pairing: Pairing,
    /// Cells of a perturbation whose mean is learnt at once: more show its effect more clearly, 1 keeps single cells, as the
    /// reference does.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub pool: usize,
    /// Tell the change as the difference between what the model tells with and without the perturbation, so that what it gets wrong
    /// of all cells does not count.
    #[arg(long)]
    pub contrast: bool,
    /// Control cells from which a perturbation is predicted, chosen at random.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub controls: usize,
    /// How responding genes are found.
    #[arg(long)]
    pub de_test: Test,
    /// Also score simpler methods on the same perturbations.
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
            train_share: 0.75,
            validation_share: None,
            unmeasured: Unmeasured::Refuse,
            max_cells: 0,
            min_cells: None,
            n_hvg: 5000,
            max_length: 1536,
            keep_perturbed: true,
            pairing: Pairing::Mean,
            pool: 32,
            contrast: true,
            controls: 32,
            de_test: Test::TTest,
            baselines: true,
            seed: 0,
            cells: cells::Options::default(),
            // A factor of 0 would hide a perturbed gene that is not expressed.
            size: Size {
                value_encoding: ValueEncoding::Continuous,
                ..Size::default()
            },
            training: train::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// What becomes of perturbed genes that are not measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Unmeasured {
    /// The file is refused, and they are named.
    #[default]
    Refuse,
    /// They are kept through a token of their own.
    Keep,
    /// Their cells are left out.
    LeaveOut,
}

/// The program.
pub struct FinetunePerturbation;

impl Program for FinetunePerturbation {
    const NAME: &'static str = "scgpt-finetune-perturbation";
    const SUMMARY: &'static str =
        "Teach a scGPT model what perturbing genes does, and test it beside simpler methods";
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
        let mut problems = perturbed::problems(&options.labels);
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
        run.seed(options.seed);
        let resume = options.training.resume;
        if !resume {
            output::check_directory(&options.output, output::Existing::Refuse)?;
        }
        let work = output::WorkFolder::create(&options.output, resume)?;
        run.record_at(options.output.join("run.json"));
        let device = steps::device(&options.compute, run)?;
        let data = run.stage("read cells", |run| Data::read(&options, run))?;
        if resume && is_complete(&options, run) {
            run.note(format!(
                "`{}` is complete already",
                options.output.display()
            ));
            work.remove();
            return Ok(());
        }
        output::check_directory(&options.output, output::Existing::Refuse)?;
        let mut learner = run.stage("build the model", |run| {
            Learner::build(&options, &data, device, run)
        })?;
        run.stage("train", |run| {
            learner.train(&options, &data, work.path(), run)
        })?;
        let files = run.stage("test", |run| {
            evaluation::test(&options, &data, &learner, (work.path(), run))
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
const IRRELEVANT: [&str; 9] = [
    "resume",
    "save_every",
    "input",
    "checkpoint",
    "output",
    "device",
    "baselines",
    "controls",
    "de_test",
];

/// One word for everything that decides the course of a run.
fn fingerprint(options: &Options, run: &Run) -> String {
    steps::fingerprint(options, &IRRELEVANT, run)
}
