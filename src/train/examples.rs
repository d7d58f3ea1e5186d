//! Where a run's examples come from.

use crate::random::{self, Seed};
use crate::ranks::Share;
use anyhow::Result;
use rayon::prelude::*;

/// Which minibatches are wanted, and which part of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Cells of a minibatch, over all ranks.
    pub size: usize,
    /// Minibatches that are passed over.
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

    /// [`checksum`] of all training cells: what an epoch must have seen.
    fn checksum(&self) -> u64;

    fn validation_cells(&self) -> u64;

    /// The minibatches of an epoch, every training cell once.
    fn epoch(&self, epoch: u64, cut: Cut) -> Minibatches<'_, E>;

    /// The same validation examples every time (quirk Q28).
    fn validation(&self, cut: Cut) -> Minibatches<'_, E>;
}

/// A number for a set of cells that does not depend on their order and that a missing or repeated cell changes.
pub fn checksum(cells: impl Iterator<Item = u64>) -> u64 {
    cells.map(scatter).fold(0, u64::wrapping_add)
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64).
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
    pub training: Vec<usize>,
    pub validation: Vec<usize>,
    pub seed: Seed,
}

impl<F> InMemory<F> {
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut stream = self.seed.stream("order of cells", &[epoch]);
        random::permutation(&mut stream, self.training.len())
            .into_iter()
            .map(|i| self.training[i])
            .collect()
    }

    fn minibatches<'a, E: Send + 'a>(
        &'a self,
        order: Vec<usize>,
        epoch: Option<u64>,
        cut: Cut,
    ) -> Minibatches<'a, E>
    where
        F: Fn(usize, Option<u64>) -> E + Sync,
    {
        let minibatch = move |at: usize| {
            let cells = &order[at * cut.size..order.len().min((at + 1) * cut.size)];
            let own = &cells[cut.share.range(cells.len())];
            let examples = own.par_iter().map(|&cell| (self.example)(cell, epoch));
            Ok(Minibatch {
                examples: examples.collect(),
                cells: cells.len() as u64,
                checksum: checksum(cells.iter().map(|&cell| cell as u64)),
            })
        };
        let count = match epoch {
            Some(_) => self.training.len(),
            None => self.validation.len(),
        };
        Box::new((cut.from as usize..count.div_ceil(cut.size)).map(minibatch))
    }
}

impl<E: Send + 'static, F: Fn(usize, Option<u64>) -> E + Sync> Examples<E> for InMemory<F> {
    fn cells(&self) -> u64 {
        self.training.len() as u64
    }

    fn checksum(&self) -> u64 {
        checksum(self.training.iter().map(|&cell| cell as u64))
    }

    fn validation_cells(&self) -> u64 {
        self.validation.len() as u64
    }

    fn epoch(&self, epoch: u64, cut: Cut) -> Minibatches<'_, E> {
        self.minibatches(self.order(epoch), Some(epoch), cut)
    }

    fn validation(&self, cut: Cut) -> Minibatches<'_, E> {
        self.minibatches(self.validation.clone(), None, cut)
    }
}
