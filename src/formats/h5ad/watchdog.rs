//! Ends the program where a call of the HDF5 library never returns, as happens with some damaged files.
//!
//! All calls are made under one lock. One thread takes it every second, another checks that it got it. If it does not for
//! long, although nothing is read or written and no thread waits for a disk, the library is in an endless loop.
//! This works on Linux only (`/proc`, see proc(5)). A loop that continues reading is not detected.

use std::fs;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libc::c_long;

use crate::signal_handler;

const TICK: Duration = Duration::from_secs(1);
/// Ticks without any progress; no single call computes that long between two reads.
const PATIENCE: u32 = 15;
/// System calls in which the library waits for a disk.
const DISK: [c_long; 6] = [
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_close,
];

static TURNS: AtomicU64 = AtomicU64::new(0);

/// Watches the library from now on, if the program enabled it.
pub(super) fn watch() {
    static STARTED: Once = Once::new();
    if signal_handler::is_watched() {
        STARTED.call_once(|| {
            thread::spawn(take_turns);
            thread::spawn(look);
        });
    }
}

fn take_turns() {
    loop {
        hdf5::sync::sync(|| TURNS.fetch_add(1, Ordering::Relaxed));
        thread::sleep(TICK);
    }
}

fn look() {
    let (mut before, mut ticks) = (None, 0);
    loop {
        thread::sleep(TICK);
        let now = progress();
        ticks = if now.is_some() && now == before {
            ticks + 1
        } else {
            0
        };
        if ticks == PATIENCE {
            signal_handler::stuck();
        }
        before = now;
    }
}

/// Turns, and what each other thread read and wrote; none if that is unknown or one waits for a disk.
fn progress() -> Option<(u64, Vec<String>)> {
    let own = fs::read_link("/proc/thread-self").ok()?;
    let mut threads = Vec::new();
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?;
        if Some(thread.file_name().as_os_str()) == own.file_name() {
            continue;
        }
        if waits_for_disk(&thread.path())? {
            return None;
        }
        threads.push(fs::read_to_string(thread.path().join("io")).ok()?);
    }
    Some((TURNS.load(Ordering::Relaxed), threads))
}

fn waits_for_disk(thread: &Path) -> Option<bool> {
    let call = fs::read_to_string(thread.join("syscall")).ok()?;
    let number = call.split_whitespace().next()?.parse();
    Some(number.is_ok_and(|number: c_long| DISK.contains(&number)))
}
