//! Ranks over NCCL, one GPU each.

use super::rendezvous::{Disconnect, PEER_LOST, Rendezvous, Timeouts, UniqueId};
use super::{Error, OnDevice, Place, Ranks};
use crate::progress;
use anyhow::{Context, Result};
use cudarc::driver::{CudaContext, CudaStream, DevicePtrMut, DeviceRepr, DriverError};
use cudarc::nccl::result::{self, NcclError};
use cudarc::nccl::sys::{self, ncclDataType_t};
use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Interval of the checks of NCCL's connections.
const CHECK: Duration = Duration::from_secs(5);

/// Processes with one GPU each.
pub struct Nccl {
    rank: usize,
    size: usize,
    stream: Arc<CudaStream>,
    /// One thread at a time sums numbers: all ranks must do so in the same order.
    turn: Mutex<()>,
    communicator: Arc<Communicator>,
    rendezvous: Arc<Rendezvous>,
}

impl Nccl {
    /// Joins the others; from then on this process ends with a message if one of them disconnects.
    pub fn join(place: &Place, gpu: usize) -> Result<Self> {
        let stream = stream(gpu).with_context(|| format!("GPU {gpu} cannot be used"))?;
        let (rendezvous, id) = Rendezvous::join(place, Timeouts::default(), unique_id, end)?;
        let communicator = Communicator::new(place, id)?;
        let ranks = Self {
            rank: place.rank,
            size: place.size,
            stream,
            turn: Mutex::new(()),
            communicator: Arc::new(communicator),
            rendezvous: Arc::new(rendezvous),
        };
        ranks.watch();
        Ok(ranks)
    }

    /// If a connection of NCCL breaks, waiting for others never ends, so another thread checks the connections.
    fn watch(&self) {
        let communicator = Arc::downgrade(&self.communicator);
        let (rendezvous, rank) = (self.rendezvous.clone(), self.rank);
        thread::spawn(move || {
            while let Some(communicator) = communicator.upgrade() {
                if let Err(error) = communicator.check() {
                    progress::error(&format!("rank {rank} of the training: {error}"));
                    rendezvous.fail(PEER_LOST);
                    leave(PEER_LOST);
                }
                thread::sleep(CHECK);
            }
        });
    }

    fn add_up(&self, address: u64, length: usize, kind: ncclDataType_t) -> Result<()> {
        let _turn = self.turn.lock();
        self.stream.context().bind_to_thread()?;
        Ok(self
            .communicator
            .add_up(address, length, kind, &self.stream)?)
    }

    /// Sums numbers of the host by way of the GPU.
    fn add_up_copies<T: DeviceRepr + Copy>(
        &self,
        numbers: &mut [T],
        kind: ncclDataType_t,
    ) -> Result<()> {
        let mut copy = self.stream.clone_htod(numbers)?;
        let (address, used) = copy.device_ptr_mut(&self.stream);
        self.add_up(address, numbers.len(), kind)?;
        drop(used);
        self.stream.memcpy_dtoh(&copy, numbers)?;
        Ok(self.stream.synchronize()?)
    }
}

/// The stream of libtorch, so that sums are computed after their terms and before their use.
fn stream(gpu: usize) -> Result<Arc<CudaStream>> {
    if !are_libraries_there() {
        let message = "training on several GPUs needs the libraries libcuda.so.1 and libnccl.so";
        return Err(Error::Lost(message.into()).into());
    }
    let context =
        CudaContext::new(gpu).map_err(|e: DriverError| anyhow::anyhow!("CUDA error: {e}"))?;
    Ok(context.default_stream())
}

#[allow(unsafe_code)]
fn are_libraries_there() -> bool {
    // SAFETY: loads libraries whose initializers have no conditions.
    unsafe { cudarc::driver::sys::is_culib_present() && sys::is_culib_present() }
}

fn unique_id() -> Result<UniqueId> {
    let id = result::get_uniqueid().map_err(described)?;
    Ok(id.internal.map(|c| c as u8))
}

fn described(NcclError(code): NcclError) -> Error {
    Error::Lost(format!(
        "NCCL failed ({code:?}); set NCCL_DEBUG=INFO in the environment to see the reason"
    ))
}

/// The other ranks as NCCL knows them.
struct Communicator(sys::ncclComm_t);

// SAFETY: NCCL's functions may be called on any thread, and queried for errors while another thread is in one of them; everything
// else happens in turn.
#[allow(unsafe_code)]
unsafe impl Send for Communicator {}
#[allow(unsafe_code)]
unsafe impl Sync for Communicator {}

impl Communicator {
    /// Waits until all ranks have joined.
    #[allow(unsafe_code)]
    fn new(place: &Place, id: UniqueId) -> Result<Self> {
        let internal = id.map(|byte| byte as _);
        let mut communicator = std::ptr::null_mut();
        let (size, rank) = (place.size.try_into()?, place.rank.try_into()?);
        // SAFETY: the pointer is valid for the result, which is only used if the call succeeds.
        let done = unsafe {
            result::comm_init_rank(
                &mut communicator,
                size,
                sys::ncclUniqueId { internal },
                rank,
            )
        };
        done.map_err(described)?;
        Ok(Self(communicator))
    }

    #[allow(unsafe_code)]
    fn add_up(
        &self,
        address: u64,
        length: usize,
        kind: ncclDataType_t,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        let numbers = address as *mut c_void;
        // SAFETY: the numbers are there, as `OnDevice` and `add_up_copies` promise, and the stream is of the communicator's GPU.
        let begun = unsafe {
            let stream = stream.cu_stream().cast();
            let sum = sys::ncclRedOp_t::ncclSum;
            result::all_reduce(numbers, numbers, length, kind, sum, self.0, stream)
        };
        begun.map(drop).map_err(described)
    }

    /// Errors since the last check.
    #[allow(unsafe_code)]
    fn check(&self) -> Result<(), Error> {
        let mut found = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator lives until the process ends.
        let queried = unsafe { sys::ncclCommGetAsyncError(self.0, &mut found) };
        let both = queried.result().and_then(|_| found.result());
        both.map(drop).map_err(described)
    }
}

/// Ends this process because another one disconnected, with the exit code of that one.
fn end(loss: Disconnect) {
    progress::error(&format!("{loss}: the training cannot continue"));
    leave(loss.code.unwrap_or(PEER_LOST));
}

/// Ends the process at once: a GPU that waits for another rank would hold up an orderly end.
#[allow(unsafe_code)]
fn leave(code: u8) -> ! {
    // SAFETY: has no conditions.
    unsafe { libc::_exit(code.into()) }
}

impl Ranks for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, numbers: &mut [f32]) -> Result<()> {
        self.add_up_copies(numbers, ncclDataType_t::ncclFloat32)
    }

    fn sum_f64(&self, numbers: &mut [f64]) -> Result<()> {
        self.add_up_copies(numbers, ncclDataType_t::ncclFloat64)
    }

    fn has_device(&self) -> bool {
        true
    }

    fn sum_on_device(&self, numbers: OnDevice) -> Result<()> {
        self.add_up(numbers.address, numbers.length, ncclDataType_t::ncclFloat32)
    }

    fn finish(&self) {
        self.rendezvous.finish();
    }

    fn abort(&self, code: u8) -> ! {
        self.rendezvous.fail(code);
        leave(code)
    }
}
