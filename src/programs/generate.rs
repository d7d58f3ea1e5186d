//! `scgpt-generate`: generation and imputation of expression values with a generative pre-trained model.

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
use crate::predict::generation::{Confidence, Generated, Generator, Rounds};
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::binning::Ties;
use crate::trainer;

/// Options of `scgpt-generate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with cells to start from.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// AnnData file with generated cells: expression bins in X, 0 to the highest bin of the model (50 in the published models);
    /// round in which a value was generated in layers/round (0: observed); confidence of a value, 0 to 1, in layers/confidence.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Generative pre-trained model: a directory, or the name of a model in one of the directories in the environment variable
    /// SCGPT_MODELS (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Input from which the model generates.
    #[arg(long)]
    pub prompt: Prompt,
    /// Column of obs with groups of cells. Generates one cell per group, from its mean cell embedding. Needs --prompt cell.
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// Text file with genes to generate, one per line, which are excluded from the prompt. Default: all genes that are not in the
    /// prompt.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes: Option<PathBuf>,
    /// Number of rounds. Each round fixes an equal number of genes, most confident predictions first, which condition the next
    /// rounds; 1 generates all genes in a single pass.
    #[arg(long)]
    #[schemars(range(min = 1, max = 1000))]
    pub rounds: u32,
    /// Confidence measure, which orders the genes and is written to layers/confidence.
    #[arg(long, hide_short_help = true)]
    pub confidence: Confidence,
    /// Number of predictions under dropout per value, for --confidence spread.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 2, max = 1000))]
    pub n_samples: u32,
    /// Fraction of the expressed genes of each cell to hold out, generate, and evaluate against baselines and a single pass; 0
    /// skips the evaluation.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub held_out_fraction: f64,
    /// Output JSON with evaluation metrics of the held-out genes. Needs --held-out-fraction.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub metrics: Option<PathBuf>,
    /// Maximum number of prompt tokens per cell, including the CLS token; longer prompts are shortened to a random sample of
    /// their genes.
    #[arg(long)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// Bin of tied values when bin edges coincide.
    #[arg(long, hide_short_help = true)]
    pub ties: Ties,
    /// Maximum memory for the generated values, such as 4G. All are kept in memory until they are written; if they need more, the
    /// run ends with an error before it generates.
    #[arg(long, value_name = "SIZE")]
    pub memory: Size,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
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
            n_samples: 8,
            held_out_fraction: 0.0,
            metrics: None,
            max_length: 1200,
            ties: Ties::OneSided,
            memory: Size(4 << 30),
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// Prompt of the model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// Cell embedding; all genes are generated.
    Cell,
    /// Expressed genes; the other genes are imputed.
    Genes,
    /// Cell embedding and expressed genes; the other genes are imputed.
    #[default]
    Both,
}

impl Options {
    fn rounds(&self) -> Rounds {
        Rounds {
            count: self.rounds,
            confidence: self.confidence,
            samples: self.n_samples,
        }
    }
}

/// The program.
pub struct Generate;

impl Program for Generate {
    const NAME: &'static str = "scgpt-generate";
    const SUMMARY: &'static str = "Generate or impute expression values with an scGPT model";
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
                .push("`--group` needs `--prompt cell`: groups have a cell embedding, but no expressed genes".into());
        }
        if options.metrics.is_some() && options.held_out_fraction == 0.0 {
            problems.push(
                "`--metrics` needs `--held-out-fraction`, the fraction of genes to evaluate on"
                    .into(),
            );
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let model = Generator::new(checkpoint, device)?;
        trainer::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        steps::report_genes(&cells.genes, &model.vocabulary, run);
        let prompts = Prompts::read(&options, &model, &cells, run)?;
        check_memory(&options, &prompts)?;
        if options.held_out_fraction > 0.0 {
            let report = run.stage("evaluate", |run| {
                evaluation::evaluate(&options, &model, &prompts, run)
            })?;
            run.metric("held_out", &report);
            if let Some(path) = &options.metrics {
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

/// Bytes of a generated value with its round and confidence, in memory and while written.
const VALUE_BYTES: u64 = 32;

fn check_memory(options: &Options, prompts: &Prompts) -> Result<()> {
    let (cells, genes) = (prompts.len() as u64, prompts.genes.len() as u64);
    let needed = cells * genes * VALUE_BYTES;
    if needed <= options.memory.0 {
        return Ok(());
    }
    Err(Failure::Memory.error(format!(
        "`{}`: {cells} cells with {genes} genes each take about {}M, but `--memory` is {}: increase it, generate fewer genes (`--genes`), generate groups instead of cells (`--group`), or split the file",
        options.input.display(),
        needed >> 20,
        options.memory
    )))
}

/// Generated values for all prompts.
fn generate(
    options: &Options,
    model: &Generator,
    prompts: &Prompts,
    run: &Run,
) -> Result<Vec<Generated>> {
    let (method, mut workers) = (&model.method, model.workers(run.threads()));
    let mut progress = Progress::new("generating", prompts.len() as u64, "cells");
    let mut generated = Vec::with_capacity(prompts.len());
    for start in (0..prompts.len()).step_by(SLICE) {
        if run.interrupted() {
            return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
        }
        let n = SLICE.min(prompts.len() - start);
        generated.extend(workers.each(n, |network, i| {
            let query = prompts.query(method, network, start + i);
            let dropout = (Seed(options.seed), (start + i) as u64);
            method.generate(network, &query, options.rounds(), dropout)
        }));
        progress.advance(n as u64);
    }
    progress.finish();
    Ok(generated)
}

/// Cells between two checks for an interrupt.
const SLICE: usize = 16;

/// A row of the three matrices: column, value, confidence, round.
type Entry = (u32, f32, f32, u32);

fn write(
    options: &Options,
    cells: &Cells,
    prompts: &Prompts,
    generated: &[Generated],
) -> Result<()> {
    let rows: Vec<Vec<Entry>> = generated
        .iter()
        .enumerate()
        .map(|(at, generated)| prompts.row(at, generated))
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
