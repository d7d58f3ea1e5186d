//! Reference cells with the labels to transfer, and the mapping of query cells onto them.

use anyhow::Result;
use ndarray::{Array2, ArrayView2};

use super::MOST_LABELS;
use super::embedded::Embedded;
use super::query_options::QueryOptions;
use crate::analysis::knn_vote::{vote_fractions, weights, winner};
use crate::analysis::search::{Neighbor, Queries};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::reference_index::{Labels, MANIFEST, MOST_NEIGHBORS, ReferenceIndex};
use crate::run_record::Run;

/// Label transfer result of a query cell.
#[derive(Debug, Clone)]
pub struct MappedCell {
    /// The best label, unless the cell stays unassigned.
    pub label: Option<usize>,
    pub probability: f64,
    /// Mean distance to the neighbors.
    pub distance: f64,
    /// Fraction of reference cells that are nearer to their neighbors.
    pub novelty: f64,
    /// Reference cells, nearest first; none for a cell without an embedding.
    pub neighbors: Vec<u64>,
    pub coordinates: [f32; 2],
}

impl MappedCell {
    /// A cell without an embedding.
    pub const UNMAPPED: Self = Self {
        label: None,
        probability: 0.0,
        distance: f64::NAN,
        novelty: f64::NAN,
        neighbors: Vec::new(),
        coordinates: [f32::NAN; 2],
    };
}

/// The index with the labels to transfer.
pub struct Reference {
    pub index: ReferenceIndex,
    /// Labels in alphabetical order, and the index of the label of every cell.
    pub classes: Vec<String>,
    pub codes: Vec<Option<u32>>,
    /// Fractions of the labels among the cells that have one.
    pub frequencies: Vec<f64>,
    /// Coordinates, [cells, 2].
    pub coordinates: Array2<f32>,
    /// Mean distances of reference cells to the same number of neighbors, increasing.
    own_distances: Vec<f64>,
}

impl Reference {
    pub fn open(options: &QueryOptions, run: &mut Run) -> Result<Self> {
        let index = ReferenceIndex::open(&options.index, true)?;
        run.input(&options.index.join(MANIFEST))?;
        for (file, sha256) in index.manifest.checksums() {
            run.input_known(&options.index.join(file), sha256)?;
        }
        let column = options.label.as_ref().unwrap_or(&index.manifest.label);
        let Labels { classes, codes } = index.labels(column, MOST_LABELS)?;
        if classes.is_empty() {
            return Err(Failure::Input.error(format!(
                "no cell of the index has a label in the column `{column}`: choose another with `--label`"
            )));
        }
        Ok(Self {
            frequencies: frequencies(&codes, classes.len()),
            coordinates: index.coordinates()?,
            own_distances: index.own_distances(options.n_neighbors)?,
            classes,
            codes,
            index,
        })
    }

    /// The fraction of reference cells that are nearer to their neighbors.
    fn novelty(&self, distance: f64) -> f64 {
        let nearer = self.own_distances.partition_point(|&own| own < distance);
        nearer as f64 / self.own_distances.len().max(1) as f64
    }

    /// The mapping of a cell with these neighbors, and the probability of every label.
    fn map(&self, options: &QueryOptions, found: &[Neighbor]) -> (MappedCell, Vec<f64>) {
        let class_of = |row: u64| self.codes[row as usize];
        let fractions = vote_fractions(options.weights, found, class_of, &self.frequencies);
        let best = winner(&fractions);
        let probability = best.map_or(0.0, |class| fractions[class]);
        let total: f64 = found.iter().map(|near| near.squared.sqrt()).sum();
        let distance = total / found.len() as f64;
        let novelty = self.novelty(distance);
        let is_confident = probability >= options.threshold
            && (options.novelty >= 1.0 || novelty <= options.novelty);
        let mapping = MappedCell {
            label: best.filter(|_| is_confident),
            probability,
            distance,
            novelty,
            neighbors: found.iter().map(|near| near.row).collect(),
            coordinates: mean_coordinates(self.coordinates.view(), found),
        };
        (mapping, fractions)
    }
}

/// Distance-weighted mean of the coordinates of the neighbors that have coordinates; NaN if none has.
fn mean_coordinates(coordinates: ArrayView2<'_, f32>, found: &[Neighbor]) -> [f32; 2] {
    let row = |near: &Neighbor| coordinates.row(near.row as usize);
    let is_finite = |near: &Neighbor| row(near).iter().all(|value| value.is_finite());
    let found: Vec<Neighbor> = found.iter().copied().filter(is_finite).collect();
    let (mut sum, mut total) = ([0.0; 2], 0.0);
    for (near, weight) in found.iter().zip(weights(&found)) {
        let row = row(near);
        total += weight;
        sum = [0, 1].map(|axis| sum[axis] + weight * f64::from(row[axis]));
    }
    sum.map(|value| (value / total) as f32)
}

/// Fractions of the classes among the cells that have one.
pub fn frequencies(codes: &[Option<u32>], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    codes
        .iter()
        .flatten()
        .for_each(|&code| counts[code as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| count / total).collect()
}

/// The mapping of every cell, and the probability of every label, [cells, labels].
pub fn map_cells(
    options: &QueryOptions,
    cells: &Embedded,
    reference: &Reference,
) -> Result<(Vec<MappedCell>, Vec<f32>)> {
    let manifest = &reference.index.manifest;
    let probes = options
        .n_probe
        .unwrap_or(manifest.n_probe)
        .min(manifest.n_lists);
    let k = options.n_neighbors.min(MOST_NEIGHBORS);
    let classes = reference.classes.len();
    let mut mapped = vec![MappedCell::UNMAPPED; cells.n_cells()];
    let mut probabilities = vec![0.0; cells.n_cells() * classes];
    let mut progress = Progress::new("mapping", cells.n_cells() as u64, "cells");
    for range in cells.blocks() {
        let n = range.len();
        let block = cells.read(range, manifest.metric)?;
        let found = reference
            .index
            .search(&Queries::new(block.rows), k, probes)?;
        for (cell, found) in block
            .cells
            .iter()
            .zip(found)
            .filter(|(_, found)| !found.is_empty())
        {
            let (mapping, fractions) = reference.map(options, &found);
            mapped[*cell] = mapping;
            for (to, fraction) in probabilities[cell * classes..].iter_mut().zip(fractions) {
                *to = fraction as f32;
            }
        }
        progress.advance(n as u64);
    }
    progress.finish();
    Ok((mapped, probabilities))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn neighbors_without_coordinates_are_ignored() {
        let coordinates = array![[f32::NAN, 0.0], [1.0, 2.0], [4.0, 8.0]];
        let near = |squared: f64, row: u64| Neighbor { squared, row };
        let found = mean_coordinates(
            coordinates.view(),
            &[near(0.0, 0), near(1.0, 1), near(4.0, 2)],
        );
        assert_eq!(found, [2.0, 4.0]);
        assert!(mean_coordinates(coordinates.view(), &[near(0.0, 0)])[0].is_nan());
    }
}
