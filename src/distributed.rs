//! Distributed training: processes (ranks) that train one model, each on a fraction of the cells, and sum their gradients.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(feature = "nccl")]
mod rendezvous;

use anyhow::Result;
pub use launch::local_rank;
use launch::{Launch, Place};
use std::ops::Range;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why ranks cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The way this process was started does not fit the program.
    #[error("{0}")]
    Launch(String),
    /// Other ranks did not connect, or disconnected.
    #[error("{0}")]
    Lost(String),
}

/// One of several equal shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Index of the shard, from 0.
    pub rank: usize,
    pub of: usize,
}

impl Share {
    /// The shard of `n` items. If there are fewer items than shards, every shard has all of them: sums and counts grow alike, so
    /// that averages stay right.
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

    /// The shard of this rank.
    fn share(&self) -> Share {
        Share {
            rank: self.rank(),
            of: self.size(),
        }
    }

    /// Whether this is the rank that writes files and messages.
    fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Sums numbers over all ranks (all-reduce), in place; every rank gets the same bits.
    fn sum(&self, numbers: &mut [f32]) -> Result<()>;

    /// Sums numbers over all ranks (all-reduce), in place; every rank gets the same bits.
    fn sum_f64(&self, numbers: &mut [f64]) -> Result<()>;

    /// Whether `sum_on_device` works: numbers on a GPU are summed without a copy to the host.
    fn has_device(&self) -> bool {
        false
    }

    /// Sums numbers on the GPU of this rank, in place; later work on the GPU uses the sums.
    fn sum_on_device(&self, _numbers: OnDevice) -> Result<()> {
        anyhow::bail!("these ranks cannot sum numbers on a GPU")
    }

    /// Waits until every rank has finished, and disconnects.
    fn finish(&self);

    /// Ends all ranks, with this exit code if possible.
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
    /// `length` floats must be at `address`, on the GPU that the ranks were joined with, until the GPU has summed them; and only
    /// work on the GPU's default stream may use them.
    #[allow(unsafe_code)]
    pub unsafe fn new(address: u64, length: usize) -> Self {
        Self { address, length }
    }
}

/// Training in a single process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleProcess;

impl Ranks for SingleProcess {
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

/// Joins the processes that this one was started with, as the environment specifies; to be called once per process. `gpu` is the
/// number of the GPU to train on, if any.
///
/// # Errors
///
/// If the environment specifies several processes that this build cannot connect: each would train a copy.
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
        (Launch::SingleProcess, _) => Ok(Box::new(SingleProcess)),
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

/// Whether any rank must stop. From then on, an interrupted end is not the failure of one rank.
pub fn any_stops(ranks: &dyn Ranks, stops: bool) -> Result<bool> {
    let mut votes = [f64::from(u8::from(stops))];
    ranks.sum_f64(&mut votes)?;
    let any = votes[0] > 0.0;
    STOPPED_TOGETHER.fetch_or(any, Ordering::Relaxed);
    Ok(any)
}

/// The last call of a program, whether it joined others or not. If it ends without error, or all stop together, it waits for the
/// others; else it ends them all, because they would wait forever.
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
        SingleProcess.sum(&mut numbers).unwrap();
        assert_eq!(numbers, [1.5, -2.0]);
        assert!(!any_stops(&SingleProcess, false).unwrap());
        assert!(any_stops(&SingleProcess, true).unwrap());
    }

    #[cfg(not(any(feature = "mpi", feature = "nccl")))]
    #[test]
    fn several_processes_without_an_engine_are_rejected() {
        let rejected = |launch, gpu| engine(launch, gpu).err().unwrap().to_string();
        assert_eq!(
            rejected(Launch::Mpi { size: 2 }, None),
            "this is one of 2 processes that were started to train together, but this build cannot: it lacks the feature `mpi`"
        );
        let place = Place {
            rank: 0,
            size: 2,
            address: "localhost".into(),
            port: 29500,
        };
        assert!(rejected(Launch::Addressed(place), Some(0)).ends_with("`nccl`"));
    }
}
