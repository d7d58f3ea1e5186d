//! `scgpt-grn difference`: differential attention between a control and conditions that several runs computed.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{ATTENTION, Network, Scores};
use super::results::Results;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::programs::{Facts, INSPECTION, Program, TOPICS, steps};
use crate::run_record::Run;

/// Options of `scgpt-grn difference`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData files of scgpt-grn attention with different conditions. Genes that all files contain are compared.
    /// Comma-separated.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"), length(min = 1))]
    pub input: Vec<PathBuf>,
    /// Condition that is the control.
    #[arg(long, value_name = "VALUE")]
    #[schemars(length(min = 1))]
    pub control: String,
    /// AnnData file with one row per gene: attention scores of all conditions in obsp/attention_CONDITION, and their differences
    /// from the control in obsp/difference_CONDITION.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    #[command(flatten, next_help_heading = "Outputs")]
    #[serde(flatten)]
    pub results: Results,
}

/// The program.
pub struct Difference;

impl Program for Difference {
    const NAME: &'static str = "scgpt-grn difference";
    const SUMMARY: &'static str = "Compare attention between genes across conditions";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_1781"],
        resources: INSPECTION,
        contents: &[("input", &["obs", "obsp"]), ("output", &["obs", "obsp"])],
    };
    type Options = Options;

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let read = |path: &PathBuf| Network::read(path, &[ATTENTION], run);
        let networks: Vec<Network> = options.input.iter().map(read).collect::<Result<_>>()?;
        let network = join(networks, run)?;
        options.results.named(&network.genes, run)?;
        let (network, plotted) = network.with_differences(&options.control)?;
        if plotted == 0 {
            return Err(Failure::Input.error(format!(
                "`{}` is the only condition: add files with other conditions to `--input`",
                options.control
            )));
        }
        options.results.write(&network, plotted, run)?;
        network.write(&options.output, &[], None)?;
        Ok(run.output(&options.output)?)
    }
}

/// All conditions, for the genes that all files contain, in the order of the first file.
fn join(networks: Vec<Network>, run: &mut Run) -> Result<Network> {
    let sets = networks
        .iter()
        .map(|network| network.genes.iter().collect());
    let sets: Vec<HashSet<&String>> = sets.collect();
    let is_shared = |gene: &&String| sets.iter().all(|genes| genes.contains(gene));
    let genes: Vec<String> = networks[0]
        .genes
        .iter()
        .filter(is_shared)
        .cloned()
        .collect();
    if genes.is_empty() {
        return Err(Failure::Input.error(
            "no gene is in all files: select the same genes for every condition with `--genes-file` of `scgpt-grn attention`",
        ));
    }
    run.note(format!("{} genes are in all files", genes.len()));
    let mut scores: Vec<Scores> = Vec::new();
    for network in networks {
        let place: HashMap<&String, usize> = network.genes.iter().zip(0..).collect();
        let places: Vec<usize> = genes.iter().map(|gene| place[gene]).collect();
        for one in network.scores {
            if scores.iter().any(|known| known.name == one.name) {
                return Err(Failure::Input.error(format!(
                    "`{}` is in two files: keep every condition in one file only",
                    one.name
                )));
            }
            scores.push(Scores {
                name: one.name,
                pairs: select(&one.pairs, &places),
            });
        }
    }
    scores.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Network { genes, scores })
}

/// Some rows, and the same columns, in the given order.
fn select(pairs: &Counts, places: &[usize]) -> Counts {
    let mut place = vec![None; pairs.n_genes];
    for (at, &old) in places.iter().enumerate() {
        place[old] = Some(at as u32);
    }
    let row = |&old: &usize| {
        let (columns, scores) = pairs.row(old);
        let kept = columns.iter().zip(scores);
        let kept = kept.filter_map(|(&column, &score)| Some((place[column as usize]?, score)));
        let mut kept: Vec<(u32, f32)> = kept.collect();
        kept.sort_by_key(|(column, _)| *column);
        kept
    };
    Counts::from_rows(places.len(), places.iter().map(row))
}
