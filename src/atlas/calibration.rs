//! What an atlas finds out about itself: how near its own cells lie to one another, and how many lists a search must look into.

use std::collections::BTreeSet;

use ndarray::{Axis, concatenate};

use super::folder::Atlas;
use super::{Error, MOST_NEIGHBOURS};
use crate::analysis::search::{Neighbour, Queries};
use crate::random::{Seed, below};

/// Cells that are looked at.
pub(super) const SAMPLE: usize = 1000;
/// Neighbours that a search with the chosen number of lists must find, and the share of them.
const JUDGED: usize = 10;
const RECALL: f64 = 0.99;

/// Distances and lists of sampled cells' neighbours.
pub(super) struct Calibration {
    /// Distances from sampled cells to their nearest others, [cells, neighbours].
    pub distances: Vec<f32>,
    pub probes: usize,
    pub recall: f64,
}

/// Searches all of the atlas for the neighbours of a sample of its cells, a cell itself left out.
pub(super) fn calibrate(atlas: &Atlas, seed: Seed) -> Result<Calibration, Error> {
    let sampled = sample(atlas.manifest.cells, seed);
    let vectors = sampled
        .iter()
        .map(|&cell| atlas.vector(cell))
        .collect::<Result<Vec<_>, _>>()?;
    let vectors: Vec<_> = vectors.iter().map(|rows| rows.view()).collect();
    let queries = Queries::new(concatenate(Axis(0), &vectors).expect("vectors of one width"));
    let all = atlas.manifest.lists;
    let mut found = atlas.search(&queries, MOST_NEIGHBOURS + 1, all)?;
    for (found, &cell) in found.iter_mut().zip(&sampled) {
        found.retain(|near| near.row != cell);
        found.truncate(MOST_NEIGHBOURS);
    }
    let distance = |near: &Neighbour| near.squared.sqrt() as f32;
    let distances = found.iter().flatten().map(distance).collect();
    let (probes, recall) = enough(atlas, &queries, &found);
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

/// The fewest lists that hold enough of the true neighbours, and the share they hold.
fn enough(atlas: &Atlas, queries: &Queries, found: &[Vec<Neighbour>]) -> (usize, f64) {
    let all = atlas.manifest.lists;
    let mut at_rank = vec![0u64; all];
    for (lists, found) in atlas.lists_of(queries.rows(), all).iter().zip(found) {
        for near in found.iter().take(JUDGED) {
            let list = atlas.list_of(near.row);
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
