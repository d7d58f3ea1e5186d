//! Settings of the C memory allocator for programs that stream blocks of the same size.

use std::ffi::c_int;

/// Bytes that the allocator keeps instead of returning them to the system.
const KEPT: c_int = 1 << 30;

/// Reuses the memory of a block for the next one, in one pool for all threads: clearing fresh pages takes the system as long as
/// encoding a block. For programs with few, large allocations only.
#[allow(unsafe_code)]
pub fn reuse() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, KEPT),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // SAFETY: takes plain numbers, and locks the allocator internally.
        unsafe { libc::mallopt(parameter, value) };
    }
}
