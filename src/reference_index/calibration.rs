//! Calibration of an index: distances between reference cells, and the number of inverted lists that a search reads.

use std::collections::BTreeSet;

use ndarray::{Axis, concatenate};

use super::directory::{ReferenceIndex, SAMPLE};
use super::{Error, MOST_NEIGHBORS};
use crate::analysis::search::{Neighbor, Queries};
use crate::random::{Seed, below};

/// Nearest neighbors for which recall is computed, and the required recall.
const RECALL_NEIGHBORS: usize = 10;
const RECALL: f64 = 0.99;

/// Neighbor distances of sampled cells, and the number of lists to search.
pub(super) struct Calibration {
    /// Distances from sampled cells to their nearest neighbors, [cells, neighbors].
    pub distances: Vec<f32>,
    pub probes: usize,
    pub recall: f64,
}

/// Searches the whole index for the neighbors of a sample of its cells, excluding the cell itself.
pub(super) fn calibrate(index: &ReferenceIndex, seed: Seed) -> Result<Calibration, Error> {
    let sampled = sample(index.manifest.cells, seed);
    let vectors = sampled
        .iter()
        .map(|&cell| index.vector(cell))
        .collect::<Result<Vec<_>, _>>()?;
    let vectors: Vec<_> = vectors.iter().map(|rows| rows.view()).collect();
    let queries = Queries::new(concatenate(Axis(0), &vectors).expect("vectors of one dimension"));
    let all = index.manifest.n_lists;
    let mut found = index.search(&queries, MOST_NEIGHBORS + 1, all)?;
    for (found, &cell) in found.iter_mut().zip(&sampled) {
        found.retain(|near| near.row != cell);
        found.truncate(MOST_NEIGHBORS);
    }
    let distance = |near: &Neighbor| near.squared.sqrt() as f32;
    let distances = found.iter().flatten().map(distance).collect();
    let (probes, recall) = min_probes(index, &queries, &found);
    Ok(Calibration {
        distances,
        probes,
        recall,
    })
}

/// Distinct cells in increasing order.
fn sample(cells: u64, seed: Seed) -> Vec<u64> {
    if cells <= SAMPLE as u64 {
        return (0..cells).collect();
    }
    let mut stream = seed.stream("calibration", &[]);
    let mut chosen = BTreeSet::new();
    while chosen.len() < SAMPLE {
        chosen.insert(below(&mut stream, cells as usize) as u64);
    }
    chosen.into_iter().collect()
}

/// The minimum number of lists with the required recall, and their recall.
fn min_probes(index: &ReferenceIndex, queries: &Queries, found: &[Vec<Neighbor>]) -> (usize, f64) {
    let all = index.manifest.n_lists;
    let mut at_rank = vec![0u64; all];
    for (lists, found) in index.lists_of(queries.rows(), all).iter().zip(found) {
        for near in found.iter().take(RECALL_NEIGHBORS) {
            let list = index.list_of(near.row);
            let rank = lists.iter().position(|&other| other == list);
            at_rank[rank.unwrap_or(all - 1)] += 1;
        }
    }
    let total = at_rank.iter().sum::<u64>().max(1) as f64;
    let mut held = 0;
    for (rank, count) in at_rank.iter().enumerate() {
        held += count;
        if held as f64 >= RECALL * total {
            return (rank + 1, held as f64 / total);
        }
    }
    (all, 1.0)
}
