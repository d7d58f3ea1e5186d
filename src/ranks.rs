//! The processes that train one model together, each on a share of the cells: who they are, and how they add up their gradients.

mod launch;
#[cfg(feature = "nccl")]
mod meeting;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;

use anyhow::Result;
pub use launch::local_rank;
use launch::{Launch, Place};
use std::ops::Range;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ranks that cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The way this process was started does not fit the program.
    #[error("{0}")]
    Launch(String),
    /// The others did not come, or are gone.
    #[error("{0}")]
    Lost(String),
}

/// One of several equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which part, from 0.
    pub rank: usize,
    pub of: usize,
}

impl Share {
    /// The part of `n` things. Where there are fewer things than parts, every part is all of them: sums and counts grow alike,
    /// so that averages stay right.
    pub fn range(self, n: usize) -> Range<usize> {
        if n < self.of {
            return 0..n;
        }
        self.rank * n / self.of..(self.rank + 1) * n / self.of
    }
}

/// The processes that train one model together. All of them must call the same functions in the same order.
pub trait Ranks: Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// The part of the work that is this rank's.
    fn share(&self) -> Share {
        Share {
            rank: self.rank(),
            of: self.size(),
        }
    }

    /// Whether this is the rank that writes files and talks.
    fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Adds up numbers over all ranks, in place; every rank gets the same bits.
    fn sum(&self, numbers: &mut [f32]) -> Result<()>;

    /// Adds up numbers over all ranks, in place; every rank gets the same bits.
    fn sum_f64(&self, numbers: &mut [f64]) -> Result<()>;

    /// Whether `sum_on_device` works: numbers on a GPU need not be copied to be added up.
    fn has_device(&self) -> bool {
        false
    }

    /// Adds up numbers that lie on this rank's GPU, in place; work that the GPU is given later sees the sums.
    fn sum_on_device(&self, _numbers: OnDevice) -> Result<()> {
        anyhow::bail!("these ranks do not add up numbers on a GPU")
    }

    /// Waits until every rank has come to its end, and says goodbye.
    fn finish(&self);

    /// Makes all ranks fail, with this exit code if they can.
    fn abort(&self, code: u8) -> !;
}

/// 32-bit floats in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDevice {
    #[cfg_attr(not(feature = "nccl"), allow(dead_code))]
    address: u64,
    #[cfg_attr(not(feature = "nccl"), allow(dead_code))]
    length: usize,
}

impl OnDevice {
    /// # Safety
    ///
    /// So many floats must lie there, on the GPU that the ranks were joined with, until the GPU has added them up; and only work
    /// on the GPU's default stream may use them.
    #[allow(unsafe_code)]
    pub unsafe fn new(address: u64, length: usize) -> Self {
        Self { address, length }
    }
}

/// One process that trains for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn sum_f64(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn has_device(&self) -> bool {
        true
    }

    fn sum_on_device(&self, _: OnDevice) -> Result<()> {
        Ok(())
    }

    fn finish(&self) {}

    fn abort(&self, code: u8) -> ! {
        process::exit(code.into())
    }
}

static JOINED: OnceLock<Box<dyn Ranks>> = OnceLock::new();
static STOPPED_TOGETHER: AtomicBool = AtomicBool::new(false);

/// Joins the processes that this one was started with, as the environment tells; the only one of a process may call it once.
/// `gpu` is the number of the GPU to train on, if it is one.
///
/// # Errors
///
/// If the environment tells of several processes which this build cannot bring together, rather than train copies.
pub fn join(gpu: Option<usize>) -> Result<&'static dyn Ranks> {
    let launch = launch::read(|name| std::env::var(name).ok(), gpu.is_some())?;
    let ranks = engine(launch, gpu)?;
    Ok(&**JOINED.get_or_init(|| ranks))
}

fn engine(launch: Launch, gpu: Option<usize>) -> Result<Box<dyn Ranks>> {
    match (launch, gpu) {
        (Launch::Addressed(place), Some(gpu)) => over_nccl(&place, gpu),
        (Launch::Addressed(place), None) => Err(launch::no_mpi_launcher(place.size).into()),
        (Launch::Mpi { size }, _) => over_mpi(size),
        (Launch::Alone, _) => Ok(Box::new(Alone)),
    }
}

#[cfg(feature = "mpi")]
fn over_mpi(size: usize) -> Result<Box<dyn Ranks>> {
    Ok(Box::new(mpi::Mpi::join(size)?))
}

#[cfg(not(feature = "mpi"))]
fn over_mpi(size: usize) -> Result<Box<dyn Ranks>> {
    Err(launch::no_engine(size, "mpi").into())
}

#[cfg(feature = "nccl")]
fn over_nccl(place: &Place, gpu: usize) -> Result<Box<dyn Ranks>> {
    Ok(Box::new(nccl::Nccl::join(place, gpu)?))
}

#[cfg(not(feature = "nccl"))]
fn over_nccl(place: &Place, _: usize) -> Result<Box<dyn Ranks>> {
    Err(launch::no_engine(place.size, "nccl").into())
}

/// Whether any rank is to stop. From then on, ending as interrupted is no failure of one rank alone.
pub fn any_stops(ranks: &dyn Ranks, stops: bool) -> Result<bool> {
    let mut votes = [f64::from(u8::from(stops))];
    ranks.sum_f64(&mut votes)?;
    let any = votes[0] > 0.0;
    STOPPED_TOGETHER.fetch_or(any, Ordering::Relaxed);
    Ok(any)
}

/// The last thing a program does, whether it joined others or not. If it ends well, or all stop together, it waits for the others to
/// come to their end; else it ends them all, because they would wait for it for ever.
pub fn leave(code: u8, interrupted: u8) {
    let Some(ranks) = JOINED.get() else { return };
    let together = code == interrupted && STOPPED_TOGETHER.load(Ordering::Relaxed);
    if code == 0 || together {
        ranks.finish();
    } else {
        ranks.abort(code);
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

    #[test]
    fn one_process_keeps_its_numbers() {
        let mut numbers = [1.5, -2.0];
        Alone.sum(&mut numbers).unwrap();
        assert_eq!(numbers, [1.5, -2.0]);
        assert!(!any_stops(&Alone, false).unwrap());
        assert!(any_stops(&Alone, true).unwrap());
    }

    #[cfg(not(any(feature = "mpi", feature = "nccl")))]
    #[test]
    fn several_processes_without_an_engine_are_refused() {
        let refused = |launch, gpu| engine(launch, gpu).err().unwrap().to_string();
        assert_eq!(
            refused(Launch::Mpi { size: 2 }, None),
            "this is one of 2 processes that were started to train together, but this build cannot: it lacks the feature `mpi`"
        );
        let place = Place {
            rank: 0,
            size: 2,
            address: "localhost".into(),
            port: 29500,
        };
        assert!(refused(Launch::Addressed(place), Some(0)).ends_with("`nccl`"));
    }
}
