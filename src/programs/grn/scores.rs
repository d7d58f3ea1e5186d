//! Program scores of cells: mean expression of the genes of a program minus that of control genes of similar expression.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis};

use super::groups::Groups;
use crate::analysis::program_scores::{Controls, GeneMeans, Scorer, group_means, min_max};
use crate::cells::Cells;
use crate::counts::Counts;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::expression::state::State;
use crate::formats::h5ad::{self, Additions, Embedding};
use crate::programs::steps;
use crate::random::Seed;

/// Scores of all cells from 0 to 1, `[cells, programs]`, from log-normalized expression; `programs` are indices into `genes`. All
/// genes of the file may be control genes.
pub fn of_cells(
    cells: &Cells,
    (genes, programs): (&[String], &[Vec<usize>]),
    seed: Seed,
) -> Result<Array2<f64>> {
    let mut names: Vec<String> = cells
        .genes
        .iter()
        .filter(|gene| !gene.is_empty())
        .cloned()
        .collect();
    names.sort_unstable();
    names.dedup();
    let columns = cells.columns(&names)?;
    let place = |gene: &usize| names.binary_search(&genes[*gene]).ok();
    let programs: Vec<Vec<usize>> = programs
        .iter()
        .map(|genes| genes.iter().filter_map(place).collect())
        .collect();
    let mut means = GeneMeans::new(names.len());
    for range in cells.blocks(steps::BLOCK_VALUES)? {
        means.add(&log_values(cells, cells.read(range, &columns)?)?)?;
    }
    let scorer = Scorer::new(&means.finish(), &programs, Controls::default(), seed)?;
    let mut blocks = Vec::new();
    for range in cells.blocks(steps::BLOCK_VALUES)? {
        blocks.push(scorer.score(&log_values(cells, cells.read(range, &columns)?)?)?);
    }
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    Ok(min_max(ndarray::concatenate(Axis(0), &views)?.view()))
}

/// Log-normalized expression, whether the file contains counts or log-normalized values.
pub fn log_values(cells: &Cells, mut counts: Counts) -> Result<Counts> {
    if cells.judgment.state != State::LogNormalized {
        normalize_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    Ok(counts)
}

/// Mean score of every program in every group, `[programs, groups]`.
pub fn of_groups(scores: ArrayView2<f64>, groups: &Groups) -> Result<Array2<f64>> {
    let number = |group: &Option<u32>| group.map_or(usize::MAX, |group| group as usize);
    let of_cell: Vec<usize> = groups.of_cell.iter().map(number).collect();
    Ok(group_means(scores, &of_cell, groups.names.len())?)
}

/// A copy of the cells with their scores in obsm.
pub fn write_cells(cells: &Cells, path: &Path, scores: ArrayView2<f64>) -> Result<()> {
    let additions = Additions {
        obsm: vec![(
            "X_programs".to_owned(),
            Embedding {
                width: scores.ncols(),
                values: scores.iter().map(|&score| score as f32).collect(),
            },
        )],
        ..Additions::default()
    };
    Ok(h5ad::write_copy(cells.table.path(), path, &additions)?)
}
