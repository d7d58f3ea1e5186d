//! Which genes are looked at.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scores;
use crate::cells::{Cells, Columns};
use crate::counts::Counts;
use crate::expression::select_genes::{Flavour, select_genes};
use crate::failure::Failure;
use crate::programs::perturbed::some;
use crate::programs::steps;
use crate::random::{self, Seed};
use crate::run_record::Run;

/// Cells that decide which genes are highly variable, at most.
const MOST_CELLS: usize = 5_000;

/// Which genes are looked at.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Choice {
    /// Genes to look at. Default: the highly variable ones.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// File with such genes: a text with one in a line, or an AnnData file of genes that scgpt-grn wrote.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad,txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Highly variable genes to look at if none are named; 0 looks at all that the model knows.
    #[arg(long)]
    pub n_hvg: usize,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            genes: Vec::new(),
            genes_file: None,
            n_hvg: 1200,
        }
    }
}

impl Choice {
    /// The genes that were named, if any were.
    pub fn named(&self, run: &mut Run) -> Result<Vec<String>> {
        steps::gene_names(&self.genes, self.genes_file.as_ref(), run)
    }
}

/// The genes to look at, of `known` ones that both file and model have, in their order: those named, or highly variable ones; and
/// those needed in any case. `of_cell` tells which cells count.
pub fn choose(
    choice: &Choice,
    (cells, known): (&Cells, &[String]),
    (needed, of_cell): (&[String], &[Option<u32>]),
    (seed, run): (Seed, &mut Run),
) -> Result<Vec<String>> {
    let named = choice.named(run)?;
    let all: HashSet<&String> = known.iter().collect();
    let unknown: Vec<&String> = named.iter().filter(|gene| !all.contains(gene)).collect();
    if !named.is_empty() && unknown.len() == named.len() {
        return Err(unknown_genes(&unknown, known));
    }
    if !unknown.is_empty() {
        run.warning(format!(
            "{} genes are not both in the file and known to the model, and left out: {}",
            unknown.len(),
            some(&unknown)
        ));
    }
    let mut kept: BTreeSet<String> = match named.is_empty() {
        false => named.into_iter().collect(),
        true => variable(choice, (cells, known), of_cell, seed)?
            .into_iter()
            .collect(),
    };
    kept.extend(needed.iter().cloned());
    let chosen = known.iter().filter(|gene| kept.contains(*gene));
    let chosen: Vec<String> = chosen.cloned().collect();
    run.note(format!("{} genes are looked at", chosen.len()));
    Ok(chosen)
}

/// The error that genes are not both measured and known to the model.
pub fn unknown_genes(unknown: &[&String], known: &[String]) -> anyhow::Error {
    Failure::Input.error(format!(
        "these genes are not both measured in the file and known to the model: {}; those that are, are named like {}: check the spelling",
        some(unknown),
        some(known)
    ))
}

/// Highly variable genes of some of the cells that count.
fn variable(
    choice: &Choice,
    (cells, known): (&Cells, &[String]),
    of_cell: &[Option<u32>],
    seed: Seed,
) -> Result<Vec<String>> {
    if choice.n_hvg == 0 || choice.n_hvg >= known.len() {
        return Ok(known.to_vec());
    }
    let columns = cells.columns(known)?;
    let (_, counts) = sampled(cells, &columns, of_cell, seed)?;
    let counts = scores::log_values(cells, counts)?;
    let kept = select_genes(&counts, choice.n_hvg, Flavour::CellRanger, None)?.kept;
    Ok(kept.into_iter().map(|at| known[at].clone()).collect())
}

/// Some of the cells that count, chosen at random, and their values, read block by block.
pub fn sampled(
    cells: &Cells,
    columns: &Columns,
    of_cell: &[Option<u32>],
    seed: Seed,
) -> Result<(Vec<usize>, Counts)> {
    let own: Vec<usize> = (0..of_cell.len())
        .filter(|&cell| of_cell[cell].is_some())
        .collect();
    let mut stream = seed.stream("cells that choose genes", &[]);
    let chosen = random::sample(&mut stream, own.len(), MOST_CELLS.min(own.len()));
    let chosen: BTreeSet<usize> = chosen.into_iter().map(|at| own[at]).collect();
    let mut sample = Counts::empty(columns.n_genes);
    for range in cells.blocks(steps::BLOCK_VALUES)? {
        let wanted: Vec<usize> = chosen
            .range(range.clone())
            .map(|cell| cell - range.start)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let block = cells.read(range, columns)?.select_cells(&wanted);
        for (genes, values) in block.rows() {
            sample.push(genes.iter().copied().zip(values.iter().copied()));
        }
    }
    Ok((chosen.into_iter().collect(), sample))
}
