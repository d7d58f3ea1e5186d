//! The processes that train one model together, each on its share of every minibatch.

use anyhow::Result;
use std::ops::Range;
use tch::Tensor;

/// One of several equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which part, from 0.
    pub rank: usize,
    pub of: usize,
}

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// The part of `n` things. Where there are fewer things than parts, every part is all of them: sums and counts grow alike,
    /// so that averages stay right.
    pub fn range(self, n: usize) -> Range<usize> {
        if n < self.of {
            return 0..n;
        }
        self.rank * n / self.of..(self.rank + 1) * n / self.of
    }
}

/// Processes that add up what each of them has.
pub trait Ranks: Sync {
    fn share(&self) -> Share;

    /// Adds up a tensor of f32 over all ranks, in place: the same bits on every rank.
    fn add(&self, tensor: &mut Tensor) -> Result<()>;

    /// The same for plain numbers.
    fn add_numbers(&self, numbers: &mut [f64]) -> Result<()>;

    /// Whether this is the rank that writes files and talks.
    fn leads(&self) -> bool {
        self.share().rank == 0
    }
}

/// The processes that this one trains with, as its environment says.
pub fn ranks(_: &crate::compute::Options) -> Result<Box<dyn Ranks>> {
    Ok(Box::new(Alone))
}

/// A process by itself.
#[derive(Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn share(&self) -> Share {
        Share::WHOLE
    }

    fn add(&self, _: &mut Tensor) -> Result<()> {
        Ok(())
    }

    fn add_numbers(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_make_up_the_whole() {
        for (n, of) in [(32, 2), (7, 3), (5, 4), (4, 4)] {
            let parts = (0..of).flat_map(|rank| Share { rank, of }.range(n));
            assert_eq!(parts.collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        }
        assert_eq!(Share { rank: 2, of: 3 }.range(2), 0..2);
    }
}
