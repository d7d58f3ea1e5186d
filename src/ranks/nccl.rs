//! Ranks over NCCL, one GPU each.

use super::meeting::{GONE, Gift, Loss, Meeting, Patience};
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

/// How often to ask NCCL whether its connections are sound.
const CHECK: Duration = Duration::from_secs(5);

/// Processes with one GPU each.
pub struct Nccl {
    rank: usize,
    size: usize,
    stream: Arc<CudaStream>,
    /// One thread at a time adds up numbers: all ranks must do so in the same order.
    turn: Mutex<()>,
    communicator: Arc<Communicator>,
    meeting: Arc<Meeting>,
}

impl Nccl {
    /// Joins the others; from then on this process ends with a message if one of them is gone.
    pub fn join(place: &Place, gpu: usize) -> Result<Self> {
        let stream = stream(gpu).with_context(|| format!("GPU {gpu} cannot be used"))?;
        let (meeting, gift) = Meeting::attend(place, Patience::default(), gift, end)?;
        let communicator = Communicator::new(place, gift)?;
        let ranks = Self {
            rank: place.rank,
            size: place.size,
            stream,
            turn: Mutex::new(()),
            communicator: Arc::new(communicator),
            meeting: Arc::new(meeting),
        };
        ranks.watch();
        Ok(ranks)
    }

    /// Waiting for others never ends if a connection of NCCL breaks, so another thread looks after them.
    fn watch(&self) {
        let communicator = Arc::downgrade(&self.communicator);
        let (meeting, rank) = (self.meeting.clone(), self.rank);
        thread::spawn(move || {
            while let Some(communicator) = communicator.upgrade() {
                if let Err(error) = communicator.check() {
                    progress::error(&format!("rank {rank} of the training: {error}"));
                    meeting.fail(GONE);
                    leave(GONE);
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

    /// Adds up numbers of the host by way of the GPU.
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

/// The stream that libtorch works on, so that sums come after what they are of and before what they are for.
fn stream(gpu: usize) -> Result<Arc<CudaStream>> {
    if !are_libraries_there() {
        let words = "training on several GPUs needs the libraries libcuda.so.1 and libnccl.so";
        return Err(Error::Lost(words.into()).into());
    }
    let context =
        CudaContext::new(gpu).map_err(|e: DriverError| anyhow::anyhow!("CUDA error: {e}"))?;
    Ok(context.default_stream())
}

#[allow(unsafe_code)]
fn are_libraries_there() -> bool {
    // SAFETY: loads libraries whose initialisers have no conditions.
    unsafe { cudarc::driver::sys::is_culib_present() && sys::is_culib_present() }
}

fn gift() -> Result<Gift> {
    let id = result::get_uniqueid().map_err(described)?;
    Ok(id.internal.map(|c| c as u8))
}

fn described(NcclError(code): NcclError) -> Error {
    Error::Lost(format!(
        "NCCL failed ({code:?}); with NCCL_DEBUG=INFO in the environment it says why"
    ))
}

/// The other ranks as NCCL knows them.
struct Communicator(sys::ncclComm_t);

// SAFETY: NCCL's functions may be called on any thread, and asked for errors while another thread is in one of them; everything else
// happens in turn.
#[allow(unsafe_code)]
unsafe impl Send for Communicator {}
#[allow(unsafe_code)]
unsafe impl Sync for Communicator {}

impl Communicator {
    /// Waits until all ranks are here.
    #[allow(unsafe_code)]
    fn new(place: &Place, gift: Gift) -> Result<Self> {
        let internal = gift.map(|byte| byte as _);
        let mut communicator = std::ptr::null_mut();
        let (size, rank) = (place.size.try_into()?, place.rank.try_into()?);
        // SAFETY: the pointer is a place for the result, which is only used if the call succeeds.
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

    /// What went wrong since the last look.
    #[allow(unsafe_code)]
    fn check(&self) -> Result<(), Error> {
        let mut found = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator lives until the process ends.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.0, &mut found) };
        let both = asked.result().and_then(|_| found.result());
        both.map(drop).map_err(described)
    }
}

/// Ends this process because another one is gone, with the exit code of that one.
fn end(loss: Loss) {
    progress::error(&format!("{loss}: the training cannot go on"));
    leave(loss.code.unwrap_or(GONE));
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
        self.meeting.finish();
    }

    fn abort(&self, code: u8) -> ! {
        self.meeting.fail(code);
        leave(code)
    }
}
