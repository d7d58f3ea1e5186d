//! `scgpt-grn attention`: gene networks from attention, by condition, and differences between conditions (docs/methods.md,
//! "Attention networks").

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell_reader::{CellReader, Reading};
use super::gene_selection::{self, Choice};
use super::groups::Groups;
use super::network::{ATTENTION, Network, Scores, in_name};
use super::results::Results;
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::model::{Inputs, Model};
use crate::predict::Pretrained;
use crate::predict::attention::{MOST_TOKENS, Map, Ranks};
use crate::programs::{CELLS, CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::random::Seed;
use crate::run_record::Run;
use crate::trainer;

/// Limit of the scores of all conditions together, at up to 28 bytes each in memory.
const MOST_SCORES: usize = 200_000_000;

/// Options of `scgpt-grn attention`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with cells.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// AnnData file with one row per gene: attention scores of each condition in obsp/attention_CONDITION, targets in rows,
    /// regulators in columns. A score is a rank of the attention, 0 to 1, averaged over heads, layers and cells.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with the conditions, such as perturbations or cell types. Default: all cells are one condition.
    #[arg(long, value_name = "COLUMN")]
    pub conditions: Option<String>,
    /// Values of --conditions to include. Comma-separated. Default: all.
    #[arg(long, value_name = "VALUE")]
    pub subset: Vec<String>,
    /// Value of --conditions that is the control. Adds obsp/difference_CONDITION, the scores of each other condition minus those
    /// of the control.
    #[arg(long, value_name = "VALUE")]
    pub control: Option<String>,
    /// Maximum number of cells per condition, sampled at random; 0 uses all.
    #[arg(long)]
    pub max_cells: usize,
    /// Transformer layers whose attention is averaged, counted from 1. Comma-separated. Default: the last layer.
    #[arg(long, value_name = "LAYER")]
    #[schemars(inner(range(min = 1)))]
    pub layers: Vec<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub choice: Choice,
    /// Use only the genes that a cell expresses. Default: every cell is read with all selected genes, zeros included.
    #[arg(long, hide_short_help = true)]
    pub expressed_only: bool,
    /// Number of expression bins, including the bin for zero. Must match that of a pre-trained model, 51 for the published
    /// models.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Outputs")]
    #[serde(flatten)]
    pub results: Results,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            checkpoint: PathBuf::new(),
            output: PathBuf::new(),
            conditions: None,
            subset: Vec::new(),
            control: None,
            max_cells: 500,
            layers: Vec::new(),
            choice: Choice::default(),
            expressed_only: false,
            n_bins: 51,
            results: Results::default(),
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Attention;

impl Program for Attention {
    const NAME: &'static str = "scgpt-grn attention";
    const SUMMARY: &'static str = "Infer gene networks from attention, by condition";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_1781"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["obs", "obsp"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.conditions.is_none() && (options.control.is_some() || !options.subset.is_empty())
        {
            problems.push(
                "`--control` and `--subset` need `--conditions`, the column with these labels"
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
        let layers = layers(&options, &checkpoint)?;
        let model = run.stage("load_model", |_| Pretrained::new(checkpoint, device))?;
        trainer::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let mut groups = conditions(&options, &cells)?;
        groups.limit(options.max_cells, Seed(options.seed));
        let genes = genes(&options, (&model, &cells), &groups, run)?;
        check_size(groups.names.len(), genes.len())?;
        let reading = Reading {
            n_bins: options.n_bins,
            expressed_only: options.expressed_only,
            seed: Seed(options.seed),
        };
        let reader = CellReader::new((&model, &cells), &genes, reading)?;
        let maps = run.stage("attention", |run| {
            maps(&reader, (&model, &layers), &groups, run)
        })?;
        for (name, map) in groups.names.iter().zip(&maps) {
            run.note(format!("condition `{name}`: {} cells", map.cells));
        }
        let scores = groups.names.iter().zip(maps).map(of_map).collect();
        let network = Network { genes, scores };
        let (network, plotted) = match &options.control {
            Some(control) => network.with_differences(control)?,
            None => (network, 0),
        };
        options.results.write(&network, plotted, run)?;
        network.write(&options.output, &[], None)?;
        Ok(run.output(&options.output)?)
    }
}

/// The requested layers, counted from 0, in increasing order.
fn layers(options: &Options, checkpoint: &Checkpoint) -> Result<Vec<usize>> {
    let n = checkpoint.architecture.nlayers;
    if let Some(missing) = options.layers.iter().find(|layer| **layer > n) {
        return Err(Failure::Input.error(format!(
            "`{}` has no layer {missing}, only layers 1 to {n}: choose others with `--layers`",
            checkpoint.directory.display()
        )));
    }
    let mut layers: Vec<usize> = options.layers.iter().map(|layer| layer - 1).collect();
    if layers.is_empty() {
        layers.push(n - 1);
    }
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}

/// The requested conditions, and the control.
fn conditions(options: &Options, cells: &Cells) -> Result<Groups> {
    let labels = options.conditions.as_ref();
    let labels = labels.map(|column| cells.labels(column)).transpose()?;
    let groups = Groups::new(labels.as_deref(), cells.n_cells());
    let mut wanted = options.subset.clone();
    if let Some(control) = &options.control {
        groups.require(control, "--control")?;
        if !wanted.is_empty() {
            wanted.push(control.clone());
        }
    }
    let groups = groups.only(&wanted)?;
    match colliding(&groups.names) {
        Some([one, other]) => Err(Failure::Input.error(format!(
            "the conditions `{one}` and `{other}` of `--conditions` collide in the output, where `/` becomes `_`: rename one of them"
        ))),
        None => Ok(groups),
    }
}

/// Two conditions that would have the same name in the output, if any.
fn colliding(names: &[String]) -> Option<[&String; 2]> {
    let mut known = HashMap::new();
    names
        .iter()
        .find_map(|name| Some([known.insert(in_name(name), name)?, name]))
}

/// Rejects more scores than fit into memory.
fn check_size(n_conditions: usize, n_genes: usize) -> Result<()> {
    let scores = n_genes.saturating_mul(n_genes).saturating_mul(n_conditions);
    if scores <= MOST_SCORES {
        return Ok(());
    }
    Err(Failure::Input.error(format!(
        "{n_conditions} conditions of {n_genes} genes give {scores} scores, more than the limit of {MOST_SCORES}: select fewer genes with `--n-hvg` or `--genes`, or run some conditions at a time with `--subset` and compare them with `scgpt-grn difference`"
    )))
}

/// Selected genes, including the regulators of `--regulators`.
fn genes(
    options: &Options,
    (model, cells): (&Pretrained, &Cells),
    groups: &Groups,
    run: &mut Run,
) -> Result<Vec<String>> {
    let known = model.genes_of(&cells.genes);
    if known.is_empty() {
        let known = model.vocabulary.genes().map(str::to_owned);
        return Err(cells.no_genes(known.collect()).into());
    }
    steps::report_genes(&cells.genes, &model.vocabulary, run);
    let regulators = options.results.named(&known, run)?;
    let genes = gene_selection::choose(
        &options.choice,
        (cells, &known),
        (&regulators, &groups.of_cell),
        (Seed(options.seed), run),
    )?;
    if genes.len() >= MOST_TOKENS {
        return Err(Failure::Input.error(format!(
            "{} genes are selected, but at most {} fit into the input sequence of a cell: select fewer with `--n-hvg` or `--genes`",
            genes.len(),
            MOST_TOKENS - 1
        )));
    }
    Ok(genes)
}

/// Mean attention of every condition.
fn maps(
    reader: &CellReader,
    (model, layers): (&Pretrained, &[usize]),
    groups: &Groups,
    run: &Run,
) -> Result<Vec<Map>> {
    let map = |_: &String| Map::new(reader.n_genes());
    let mut maps: Vec<Map> = groups.names.iter().map(map).collect();
    let ranks_of = |model: &Model, cell: &Inputs| Ranks::of(model, cell, layers);
    reader.each((model, groups), ranks_of, run, |group, ranks, places| {
        maps[group].add(&ranks, places);
    })?;
    Ok(maps)
}

fn of_map((name, map): (&String, Map)) -> Scores {
    let (n, map) = (map.features(), &map);
    let row = |target: usize| {
        let scores = (0..n).map(move |regulator| (regulator as u32, map.mean(target, regulator)));
        let scored = scores.filter(|(_, score)| !score.is_nan());
        scored.map(|(regulator, score)| (regulator, score as f32))
    };
    Scores {
        name: format!("{ATTENTION}_{}", in_name(name)),
        pairs: Counts::from_rows(n, (0..n).map(row)),
    }
}
