//! Ranks over MPI. Each sums one part of the numbers and sends the sums to the others, so that all have the same bits with any
//! number of ranks and any implementation of MPI.

use super::{Error, Ranks};
use anyhow::Result;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};
use std::ops::AddAssign;
use std::sync::Mutex;

/// Numbers that are sent at once, in each of two buffers.
const AT_ONCE: usize = 1 << 22;

/// The processes of an MPI launcher.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// MPI is called by one thread at a time, and finalized when this is dropped.
    universe: Mutex<Option<Universe>>,
}

impl Mpi {
    /// Joins the `size` processes of the launcher.
    pub fn join(size: usize) -> Result<Self> {
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) =
            started.ok_or_else(|| Error::Launch("MPI was started before".into()))?;
        let world = universe.world();
        let found = world.size() as usize;
        check(size, found, threading)?;
        Ok(Self {
            rank: world.rank() as usize,
            size: found,
            universe: Mutex::new(Some(universe)),
        })
    }

    fn add_up<T>(&self, numbers: &mut [T])
    where
        T: Equivalence + Copy + Default + AddAssign,
    {
        let _one_at_a_time = self.universe.lock();
        let world = SimpleCommunicator::world();
        for chunk in numbers.chunks_mut(AT_ONCE) {
            add_up(&world, chunk, self.size);
        }
    }
}

fn check(started: usize, found: usize, threading: Threading) -> Result<(), Error> {
    if found != started {
        return Err(Error::Launch(format!(
            "{started} processes were started, but MPI sees {found}: the launcher belongs to another MPI than the one this program was built with"
        )));
    }
    if threading < Threading::Serialized {
        let message = "this MPI was built without support for threads (MPI_THREAD_SERIALIZED)";
        return Err(Error::Launch(message.into()));
    }
    Ok(())
}

/// Sums one part of every rank's numbers on each rank, in the order of ranks; then all ranks get all sums.
fn add_up<T>(world: &SimpleCommunicator, numbers: &mut [T], size: usize)
where
    T: Equivalence + Copy + Default + AddAssign,
{
    let part = numbers.len().div_ceil(size);
    let mut own = numbers.to_vec();
    own.resize(part * size, T::default());
    let mut all = vec![T::default(); part * size];
    world.all_to_all_into(&own[..], &mut all[..]);
    let (sums, others) = all.split_at_mut(part);
    for other in others.chunks(part) {
        sums.iter_mut().zip(other).for_each(|(sum, x)| *sum += *x);
    }
    world.all_gather_into(&*sums, &mut own[..]);
    numbers.copy_from_slice(&own[..numbers.len()]);
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, numbers: &mut [f32]) -> Result<()> {
        self.add_up(numbers);
        Ok(())
    }

    fn sum_f64(&self, numbers: &mut [f64]) -> Result<()> {
        self.add_up(numbers);
        Ok(())
    }

    fn finish(&self) {
        if let Ok(mut universe) = self.universe.lock() {
            drop(universe.take());
        }
    }

    fn abort(&self, code: u8) -> ! {
        SimpleCommunicator::world().abort(code.into())
    }
}
