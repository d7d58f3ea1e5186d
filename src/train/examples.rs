//! Sources of training and validation examples.

use crate::distributed::Share;
use crate::random::{self, Seed};
use anyhow::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Minibatches to produce, and the cells of each that belong to this rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    /// Cells of a minibatch, over all ranks.
    pub size: usize,
    /// Minibatches to skip.
    pub from: u64,
    pub share: Share,
}

/// Some cells that go into one step.
#[derive(Debug)]
pub struct Minibatch<E> {
    /// Those of this rank.
    pub examples: Vec<E>,
    /// Cells over all ranks, and the [`checksum`] of them.
    pub cells: u64,
    pub checksum: u64,
}

pub type Minibatches<'a, E> = Box<dyn Iterator<Item = Result<Minibatch<E>>> + 'a>;

/// Training cells in the order of an epoch, and cells to validate on: functions of seed and epoch alone.
pub trait Examples<E: 'static>: Sync {
    /// Training cells.
    fn cells(&self) -> u64;

    /// Minibatches of an epoch, if they are of the given size.
    fn steps(&self, size: usize) -> u64 {
        self.cells().div_ceil(size as u64)
    }

    /// [`checksum`] of all training cells, to verify that an epoch is complete.
    fn checksum(&self) -> u64;

    fn validation_cells(&self) -> u64;

    /// The minibatches of an epoch, every training cell once.
    fn epoch(&self, epoch: u64, cut: BatchPlan) -> Minibatches<'_, E>;

    /// The same validation examples every time (docs/methods.md, "Validation").
    fn validation(&self, cut: BatchPlan) -> Minibatches<'_, E>;
}

/// A number for a set of cells that does not depend on their order and that a missing or repeated cell changes.
pub fn checksum(cells: impl Iterator<Item = u64>) -> u64 {
    cells.map(scatter).fold(0, u64::wrapping_add)
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
fn scatter(cell: u64) -> u64 {
    let x = cell.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Cells that are all in memory, by their indices.
pub struct InMemory<F> {
    /// The example made of a cell in an epoch, or for validation: a function of the two and the seed alone.
    pub example: F,
    /// Groups of cells that do not share a minibatch, if any.
    pub groups: Option<Groups>,
    pub training: Vec<usize>,
    pub validation: Vec<usize>,
    pub seed: Seed,
}

/// Cells in groups, such as batches, of which a minibatch holds one only (docs/methods.md, "Minibatches").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Group of every cell.
    of: Vec<i64>,
    in_order: bool,
}

impl Groups {
    /// Minibatches of all groups in random order (docs/methods.md, "Minibatches").
    pub fn shuffled(of: Vec<i64>) -> Self {
        let in_order = false;
        Self { of, in_order }
    }

    /// One group after the other, as in the tutorial of the original implementation.
    pub fn in_order(of: Vec<i64>) -> Self {
        let in_order = true;
        Self { of, in_order }
    }

    /// Cells in their order, cut into minibatches of one group each.
    fn cut(&self, order: &[usize], size: usize) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for &cell in order {
            groups.entry(self.of[cell]).or_default().push(cell);
        }
        let chunks = groups.values().flat_map(|cells| cells.chunks(size));
        chunks.map(<[usize]>::to_vec).collect()
    }
}

impl<F> InMemory<F> {
    /// The minibatches of an epoch.
    fn cut(&self, epoch: u64, size: usize) -> Vec<Vec<usize>> {
        let mut stream = self.seed.stream("order of cells", &[epoch]);
        let order = random::permutation(&mut stream, self.training.len());
        let order: Vec<usize> = order.into_iter().map(|i| self.training[i]).collect();
        let Some(groups) = &self.groups else {
            return order.chunks(size).map(<[usize]>::to_vec).collect();
        };
        let mut minibatches = groups.cut(&order, size);
        if !groups.in_order {
            let order = random::permutation(&mut stream, minibatches.len());
            let mut take = |at| std::mem::take(&mut minibatches[at]);
            return order.into_iter().map(&mut take).collect();
        }
        minibatches
    }

    fn minibatches<'a, E: Send + 'a>(
        &'a self,
        all: Vec<Vec<usize>>,
        epoch: Option<u64>,
        cut: BatchPlan,
    ) -> Minibatches<'a, E>
    where
        F: Fn(usize, Option<u64>) -> E + Sync,
    {
        let minibatch = move |cells: Vec<usize>| {
            let own = &cells[cut.share.range(cells.len())];
            let examples = own.par_iter().map(|&cell| (self.example)(cell, epoch));
            Ok(Minibatch {
                examples: examples.collect(),
                cells: cells.len() as u64,
                checksum: checksum(cells.iter().map(|&cell| cell as u64)),
            })
        };
        Box::new(all.into_iter().skip(cut.from as usize).map(minibatch))
    }
}

impl<E: Send + 'static, F: Fn(usize, Option<u64>) -> E + Sync> Examples<E> for InMemory<F> {
    fn cells(&self) -> u64 {
        self.training.len() as u64
    }

    fn steps(&self, size: usize) -> u64 {
        let count = |groups: &Groups| groups.cut(&self.training, size).len() as u64;
        let without = || self.cells().div_ceil(size as u64);
        self.groups.as_ref().map_or_else(without, count)
    }

    fn checksum(&self) -> u64 {
        checksum(self.training.iter().map(|&cell| cell as u64))
    }

    fn validation_cells(&self) -> u64 {
        self.validation.len() as u64
    }

    fn epoch(&self, epoch: u64, cut: BatchPlan) -> Minibatches<'_, E> {
        self.minibatches(self.cut(epoch, cut.size), Some(epoch), cut)
    }

    fn validation(&self, cut: BatchPlan) -> Minibatches<'_, E> {
        let all = self.validation.chunks(cut.size).map(<[usize]>::to_vec);
        self.minibatches(all.collect(), None, cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(groups: Option<Groups>) -> InMemory<fn(usize, Option<u64>) -> usize> {
        InMemory {
            example: |cell, _| cell,
            groups,
            training: (0..20).collect(),
            validation: Vec::new(),
            seed: Seed(3),
        }
    }

    fn batches() -> Vec<i64> {
        (0..20).map(|cell| i64::from(cell >= 7)).collect()
    }

    fn seen(cells: &InMemory<fn(usize, Option<u64>) -> usize>, epoch: u64) -> Vec<Vec<usize>> {
        let cut = BatchPlan {
            size: 4,
            from: 0,
            share: crate::distributed::Ranks::share(&crate::distributed::SingleProcess),
        };
        let minibatches: Result<Vec<_>> = cells.epoch(epoch, cut).collect();
        let minibatches = minibatches.expect("cells in memory");
        minibatches.into_iter().map(|m| m.examples).collect()
    }

    #[test]
    fn groups_share_no_minibatch_and_every_cell_is_seen_once() {
        for groups in [Groups::shuffled(batches()), Groups::in_order(batches())] {
            let is_ordered = groups.in_order;
            let cells = cells(Some(groups));
            let minibatches = seen(&cells, 0);
            // 7 cells are two minibatches, 13 are four.
            assert_eq!(minibatches.len() as u64, cells.steps(4));
            assert_eq!(minibatches.len(), 6);
            let group = |cells: &Vec<usize>| cells.iter().map(|&c| c >= 7).collect::<Vec<_>>();
            for minibatch in &minibatches {
                let group = group(minibatch);
                assert!(group.iter().all(|g| *g == group[0]), "{minibatch:?}");
            }
            let mut all = minibatches.concat();
            all.sort_unstable();
            assert_eq!(all, cells.training);
            let first: Vec<bool> = minibatches.iter().map(|m| group(m)[0]).collect();
            let in_order = [false, false, true, true, true, true];
            if is_ordered {
                assert_eq!(first, in_order);
            } else {
                let orders = (0..10).map(|epoch| seen(&cells, epoch));
                let mixed = |m: Vec<Vec<usize>>| m.iter().map(|m| group(m)[0]).ne(in_order);
                assert!(
                    orders.into_iter().any(mixed),
                    "batches come one after the other"
                );
            }
        }
    }

    #[test]
    fn without_groups_minibatches_mix_them() {
        let cells = cells(None);
        let minibatches = seen(&cells, 0);
        assert_eq!((minibatches.len(), cells.steps(4)), (5, 5));
        assert!(
            minibatches
                .iter()
                .any(|m| m.iter().any(|&c| c < 7) && m.iter().any(|&c| c >= 7))
        );
    }
}
