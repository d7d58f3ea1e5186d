//! How the C library hands out memory to a program that streams blocks of the same size.

use std::ffi::c_int;

/// What the allocator keeps for itself instead of giving it back to the system.
const KEPT: c_int = 1 << 30;

/// Keeps the memory of a block for the next one, in one pool for all threads: fresh pages cost the system as much time to
/// clear as a block takes to encode. For programs with few, large allocations only.
#[allow(unsafe_code)]
pub fn reuse() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, KEPT),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // SAFETY: takes plain numbers, and locks the allocator itself.
        unsafe { libc::mallopt(parameter, value) };
    }
}
