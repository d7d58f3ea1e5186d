//! `scgpt-pretrain`: teach a model the language of cells, from scratch or from where another stopped.

mod baselines;
mod course;
mod data;
mod learner;
mod stream;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::data::Data;
use self::learner::Learner;
use super::from_scratch::{Size, ValueEncoding};
use super::{CHECKPOINT, Facts, MODEL, Program, Resources, TOPICS, steps};
use crate::checkpoint::Checkpoint;
use crate::corpus;
use crate::failure::Failure;
use crate::options;
use crate::output::WorkFolder;
use crate::progress;
use crate::ranks::{self, Ranks};
use crate::run_record::Run;
use crate::tokens::binning::Ties;
use crate::train;
use crate::train::pretraining::{Goals, Task};
use crate::{compute, output};

/// Options of `scgpt-pretrain`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Corpora of tokenised cells, folders that scgpt-tokenize wrote (or cell banks of the Python scGPT), several with commas
    /// between them.
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    #[schemars(extend("x-format" = "corpus", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// New folder for the model, its metrics and the course of training.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Model to go on from: a folder, or the name of one in a folder of SCGPT_MODELS. Genes that it does not know are added to it.
    /// Without it, a model is trained from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Annotation of the corpus with the cell types, to be learnt beside (--cls-weight). Cells without one are trained on all the
    /// same.
    #[arg(long, value_name = "COLUMN")]
    pub labels: Option<String>,
    /// Annotation of the corpus that names the gene that was perturbed in a cell: the model is told so of that gene.
    #[arg(long, value_name = "COLUMN")]
    pub perturbed: Option<String>,
    /// Category of genes, such as their pathway, that the model is told with every gene: gene sets (.gmt), or a table with a gene
    /// and its category on each line (.tsv). A gene in several sets belongs to the first.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub gene_conditions: Option<PathBuf>,
    /// Share of the cells that are set aside to validate on.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_share: f64,
    /// Most cells to validate on.
    #[arg(long)]
    #[schemars(range(min = 0, max = 100000))]
    pub validation_cells: u64,
    /// Memory for cells that wait to be trained on, about; a corpus may be far larger. Cells are shuffled as far as it reaches, so
    /// that it is part of what decides the result.
    #[arg(long, value_name = "SIZE")]
    pub memory: options::Size,
    /// Number of bins that the expression values of a cell are ranked into, the zero bin included. Published models use 51.
    #[arg(long)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Most tokens of a cell, the CLS token included; of cells with more, a random part in every epoch. Time grows with it.
    #[arg(long)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// What happens to equal counts that lie on several bin edges: one-sided puts them into the highest bin, as published
    /// models were pre-trained; both-sided spreads them at random, the same way for the same seed.
    #[arg(long)]
    pub ties: Ties,
    /// Also let simpler methods (the mean of each gene, and the mean of the most similar cells) tell the validation values.
    #[arg(long)]
    pub baselines: bool,
    /// Seed of all random choices: the same seed gives the same model.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten, next_help_heading = "Model from scratch")]
    #[serde(flatten)]
    pub size: Size,
    #[command(flatten, next_help_heading = "Training")]
    #[serde(flatten)]
    pub training: train::Options,
    #[command(flatten, next_help_heading = "Objectives")]
    #[serde(flatten)]
    pub goals: Goals,
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
            validation_share: 0.03,
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
            goals: Goals::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Pretrain;

impl Program for Pretrain {
    const NAME: &'static str = "scgpt-pretrain";
    const SUMMARY: &'static str = "Teach a scGPT model the language of cells";
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
        let Goals {
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
                "`--gep-weight` is 0: by telling hidden values the best weights are chosen".into(),
            );
        }
        if cce_weight > 0.0 && task != Task::Pcpt {
            problems.push(
                "`--cce-weight` needs `--task pcpt`: only there is a cell embedded twice".into(),
            );
        }
        if cls_weight > 0.0 && options.labels.is_none() {
            problems.push("`--cls-weight` needs `--labels`, the annotation to tell".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let ranks = ranks::join(match device {
            tch::Device::Cuda(gpu) => Some(gpu),
            _ => None,
        })?;
        check_ranks(&options, ranks, run)?;
        if !ranks.leads() {
            progress::set_verbosity(progress::Verbosity::Quiet);
        }
        let resume = options.training.resume;
        if ranks.leads() {
            if !resume {
                output::check_directory(&options.output, output::Existing::Refuse)?;
            }
            run.record_at(options.output.join("run.json"));
        }
        let data = run.stage("read cells", |run| Data::read(&options, run))?;
        if resume && is_complete(&options, run) {
            run.note(format!(
                "`{}` is complete already",
                options.output.display()
            ));
            if ranks.leads() {
                WorkFolder::create(&options.output, true)?.remove();
            }
            return Ok(());
        }
        let work = || WorkFolder::create(&options.output, resume);
        let work = ranks.leads().then(work).transpose()?;
        let mut learner = run.stage("build the model", |run| {
            Learner::build(&options, &data, device, run)
        })?;
        let last = run.stage("train", |run| learner.train(&options, &data, ranks, run))?;
        let Some(work) = work else { return Ok(()) };
        run.stage("write", |run| {
            learner.write(&options, &data, (work.path(), &last), run)
        })?;
        work.remove();
        run.output(&options.output)?;
        Ok(())
    }
}

/// What several processes cannot do, and how many there are.
fn check_ranks(options: &Options, ranks: &dyn Ranks, run: &mut Run) -> Result<()> {
    let size = ranks.size();
    if size > 1 && options.goals.cce_weight > 0.0 {
        return Err(Failure::Input.error("`--cce-weight` compares the cells of a minibatch, which several processes share out: train with one, or leave it out"));
    }
    if size > 1 {
        let cells = options.training.batch_size;
        run.note(format!(
            "{size} processes train together, with {cells} cells each per step"
        ));
        run.metric("processes", size);
    }
    Ok(())
}

/// Whether the output is there as this very run writes it: it was killed after that, before it could say so.
fn is_complete(options: &Options, run: &Run) -> bool {
    let written = Checkpoint::open(&options.output);
    written.is_ok_and(|model| {
        let settings = model.arguments.get(learner::ARGUMENTS);
        settings.is_some_and(|settings| settings["fingerprint"] == fingerprint(options, run))
    })
}

/// Options that do not change what is learnt; input files count by their content, wherever they lie.
const IRRELEVANT: [&str; 7] = [
    "resume",
    "save_every",
    "input",
    "checkpoint",
    "gene_conditions",
    "output",
    "device",
];

/// One word for everything that decides the course of a run.
fn fingerprint(options: &Options, run: &Run) -> String {
    steps::fingerprint(options, &IRRELEVANT, run)
}
