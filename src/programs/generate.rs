//! `scgpt-generate`: expression values from a model that was pre-trained to generate, for whole cells or for the genes that a
//! measurement missed.

mod evaluation;
mod prompts;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::prompts::Prompts;
use super::{CELLS, CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::formats::h5ad;
use crate::options::Size;
use crate::predict::generation::{Answer, Confidence, Generator, Rounds};
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::binning::Ties;

/// Options of `scgpt-generate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Cells to start from, an AnnData file. It is never changed.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Where to write the generated cells: the values, in bins from 0 to the most the model knows (50 in published models), in X;
    /// the round in which each value became known (0 for those that were known) in layers/round, and how sure the model was
    /// in layers/confidence.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Model that was pre-trained to generate: a folder, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// What the model is told: cell (an embedding of the cell; all genes are generated), genes (the genes that the cell expresses;
    /// the others are generated, which fills in what was missed) or both.
    #[arg(long)]
    pub prompt: Prompt,
    /// Generate one cell for every value of this column of obs, from the mean embedding of its cells (prompt cell).
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// Generate these genes only, one name a line; the model is not told of them where the cell expresses them.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes: Option<PathBuf>,
    /// Number of rounds: in each, an equal part of the genes becomes known, those first that the model is surest of, and helps to
    /// tell the others. 1 tells all at once.
    #[arg(long)]
    #[schemars(range(min = 1, max = 1000))]
    pub rounds: u32,
    /// How the model's confidence in a value is measured: spread (how little the value varies under random dropout) or bin-distance
    /// (how close it is to a whole bin, which costs no time).
    #[arg(long)]
    pub confidence: Confidence,
    /// Values under random dropout of which the spread is taken.
    #[arg(long)]
    #[schemars(range(min = 2, max = 1000))]
    pub samples: u32,
    /// Also hide this share of the genes that each cell expresses, generate them, and report how well they are told, beside simpler
    /// methods and a single round; 0 does not.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub held_out: f64,
    /// Where to write that report.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub report: Option<PathBuf>,
    /// Most genes of a cell that the model is told; of more, a random sample.
    #[arg(long)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// What happens to equal counts that lie on several bin edges: one-sided puts them into the highest bin, as models are
    /// pre-trained; both-sided spreads them at random, the same way for the same seed.
    #[arg(long)]
    pub ties: Ties,
    /// Most memory for the generated values, which are held until all are there.
    #[arg(long, value_name = "SIZE")]
    pub memory: Size,
    /// Seed of all random choices: the same seed gives the same values.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
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
            prompt: Prompt::Both,
            group: None,
            genes: None,
            rounds: 4,
            confidence: Confidence::default(),
            samples: 8,
            held_out: 0.0,
            report: None,
            max_length: 1200,
            ties: Ties::OneSided,
            memory: Size(4 << 30),
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// What the model is told of a cell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// Its embedding.
    Cell,
    /// The genes that it expresses.
    Genes,
    /// Its embedding and the genes that it expresses.
    #[default]
    Both,
}

impl Options {
    fn rounds(&self) -> Rounds {
        Rounds {
            count: self.rounds,
            confidence: self.confidence,
            samples: self.samples,
        }
    }
}

/// The program.
pub struct Generate;

impl Program for Generate {
    const NAME: &'static str = "scgpt-generate";
    const SUMMARY: &'static str = "Generate or fill in expression values with a scGPT model";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3557"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["X", "layers/round", "layers/confidence"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.group.is_some() && options.prompt != Prompt::Cell {
            problems
                .push("`--group` needs `--prompt cell`: a group has no genes of its own".into());
        }
        if options.report.is_some() && options.held_out == 0.0 {
            problems.push("`--report` needs `--held-out`, the share of genes to test on".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let model = Generator::new(checkpoint, device)?;
        steps::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        steps::report_genes(&cells.genes, &model.vocabulary, run);
        let prompts = Prompts::read(&options, &model, &cells, run)?;
        check_memory(&options, &prompts)?;
        if options.held_out > 0.0 {
            let report = run.stage("test on hidden genes", |run| {
                evaluation::evaluate(&options, &model, &prompts, run)
            })?;
            run.metric("held_out", &report);
            if let Some(path) = &options.report {
                let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
                steps::write_text(path, &text, run)?;
            }
        }
        let generated = run.stage("generate", |run| generate(&options, &model, &prompts, run))?;
        run.stage("write", |_| write(&options, &cells, &prompts, &generated))?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// Bytes of a generated value with its round and confidence, while held and written.
const VALUE_BYTES: u64 = 32;

fn check_memory(options: &Options, prompts: &Prompts) -> Result<()> {
    let (cells, genes) = (prompts.len() as u64, prompts.genes.len() as u64);
    let needed = cells * genes * VALUE_BYTES;
    if needed <= options.memory.0 {
        return Ok(());
    }
    Err(Failure::Memory.error(format!(
        "`{}`: {cells} cells with {genes} genes each take about {}M, but `--memory` is {}: raise it, generate fewer genes (`--genes`), groups instead of cells (`--group`), or the cells in several files",
        options.input.display(),
        needed >> 20,
        options.memory
    )))
}

/// Answers to all prompts.
fn generate(
    options: &Options,
    model: &Generator,
    prompts: &Prompts,
    run: &Run,
) -> Result<Vec<Answer>> {
    let (method, mut workers) = (&model.method, model.workers(run.threads()));
    let mut progress = Progress::new("generating", prompts.len() as u64, "cells");
    let mut answers = Vec::with_capacity(prompts.len());
    for start in (0..prompts.len()).step_by(SLICE) {
        if run.interrupted() {
            return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
        }
        let n = SLICE.min(prompts.len() - start);
        answers.extend(workers.each(n, |network, i| {
            let question = prompts.question(method, network, start + i);
            let chance = (Seed(options.seed), (start + i) as u64);
            method.answer(network, &question, options.rounds(), chance)
        }));
        progress.advance(n as u64);
    }
    progress.finish();
    Ok(answers)
}

/// Cells between two looks at whether to stop.
const SLICE: usize = 16;

/// A row of the three matrices: column, value, confidence, round.
type Entry = (u32, f32, f32, u32);

fn write(options: &Options, cells: &Cells, prompts: &Prompts, answers: &[Answer]) -> Result<()> {
    let rows: Vec<Vec<Entry>> = answers
        .iter()
        .enumerate()
        .map(|(at, answer)| prompts.row(at, answer))
        .collect();
    let matrix = |value: fn(&Entry) -> f32| {
        let rows = rows.iter().map(|row| {
            row.iter()
                .map(|entry| (entry.0, value(entry)))
                .collect::<Vec<_>>()
        });
        Counts::from_rows(prompts.genes.len(), rows)
    };
    let (values, confidence, round) = (
        matrix(|entry| entry.1),
        matrix(|entry| entry.2),
        matrix(|entry| entry.3 as f32),
    );
    let names = prompts.names(cells)?;
    let content = h5ad::Cells {
        obs: &prompts.obs(),
        layers: &[("confidence", &confidence), ("round", &round)],
        ..h5ad::Cells::new(&values, &names, &prompts.genes)
    };
    Ok(h5ad::create(&options.output, &content)?)
}
