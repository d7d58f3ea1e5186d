//! Last words: a C library that crashes on a damaged file must not let the program die without saying which file it was.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_int};

/// Exit code of an input that cannot be used.
const INPUT: c_int = 65;
const SIGNALS: [c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
];

/// The file that was opened last; what is put here is never freed, because a crash may come at any time.
static FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Names the file that a C library reads from now on.
pub fn reading(path: &Path) {
    if let Ok(path) = CString::new(path.as_os_str().as_bytes()) {
        FILE.store(path.into_raw(), Ordering::Release);
    }
}

/// From now on, a crash ends the program with a message and the exit code of wrong input, if a file is being read.
#[allow(unsafe_code)]
pub fn watch() {
    // SAFETY: an all-zero `sigaction` is a valid one; the handler calls only functions that are safe in a signal handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = say_and_exit as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
        for signal in SIGNALS {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

#[allow(unsafe_code)]
extern "C" fn say_and_exit(signal: c_int) {
    let file = FILE.load(Ordering::Acquire);
    // SAFETY: `write`, `strlen`, `raise` and `_exit` are safe in a signal handler; `file` is null or a text that is never freed.
    unsafe {
        if file.is_null() {
            // The default action has been restored.
            libc::raise(signal);
            return;
        }
        let say = |text: *const c_char| {
            libc::write(2, text.cast(), libc::strlen(text));
        };
        say(c"error: the library that reads `".as_ptr());
        say(file);
        say(c"` crashed: most likely the file is damaged; copy or download it again\n".as_ptr());
        libc::_exit(INPUT);
    }
}
