//! Selection of the genes of an analysis.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scores;
use crate::cells::{Cells, Columns};
use crate::counts::Counts;
use crate::expression::select_genes::{Flavor, select_genes};
use crate::failure::Failure;
use crate::programs::perturbation_data::some;
use crate::programs::steps;
use crate::random::{self, Seed};
use crate::run_record::Run;

/// Maximum number of cells from which highly variable genes are computed.
const MOST_CELLS: usize = 5_000;

/// Gene selection options.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Choice {
    /// Genes to include. Comma-separated. Default: highly variable genes of the cells; without cells, all genes of the
    /// vocabulary.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// File with genes as in --genes: a text file with one gene per line, or an AnnData file written by scgpt-grn.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad,txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Number of highly variable genes if no genes are given; 0 selects all genes in the vocabulary. Selected by the flavor
    /// cell_ranger.
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
    /// The genes of `--genes` and `--genes-file`.
    pub fn named(&self, run: &mut Run) -> Result<Vec<String>> {
        steps::gene_names(&self.genes, self.genes_file.as_ref(), run)
    }
}

/// The selected genes, in the order of `known`, the genes that both file and vocabulary contain: those given or highly variable
/// ones, and those `needed` in any case. Cells without a group in `of_cell` are ignored.
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
            "{} genes are dropped, because the file or the vocabulary does not contain them: {}",
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
    run.note(format!("{} genes are selected", chosen.len()));
    Ok(chosen)
}

/// The error that file or vocabulary do not contain genes.
pub fn unknown_genes(unknown: &[&String], known: &[String]) -> anyhow::Error {
    Failure::Input.error(format!(
        "the file or the vocabulary does not contain these genes: {}; expected genes such as {}: check the spelling",
        some(unknown),
        some(known)
    ))
}

/// Highly variable genes of a sample of the cells.
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
    let kept = select_genes(&counts, choice.n_hvg, Flavor::CellRanger, None)?.kept;
    Ok(kept.into_iter().map(|at| known[at].clone()).collect())
}

/// A random sample of the cells that have a group, and their values, read block by block.
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
