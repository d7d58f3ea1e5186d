//! Signal handler: if a C library crashes or hangs, the program ends with a message that names the file being read.

use std::ffi::CString;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_int};

/// Exit code of wrong input.
const INPUT: c_int = 65;
const SIGNALS: [c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
];

/// Formats an error for standard error.
type Render = fn(&str) -> String;

static RENDER: OnceLock<Render> = OnceLock::new();
/// Messages for a library that crashes or hangs. Never freed, because a signal may arrive at any time.
static CRASHED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
static STUCK: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Sets the file that a C library reads from now on.
pub fn reading(path: &Path) {
    let Some(render) = RENDER.get() else { return };
    let message = |what: &str| {
        let text = format!(
            "the library that reads `{}` {what}: most likely the file is damaged; copy or download it again",
            path.display()
        );
        CString::new(render(&text) + "\n").unwrap_or_default()
    };
    CRASHED.store(message("crashed").into_raw(), Ordering::Release);
    let stuck = message("does not return (hangs)");
    STUCK.store(stuck.into_raw(), Ordering::Release);
}

/// Installs the handler: a crash while a file is being read ends the program with a message and the exit code of wrong input.
#[allow(unsafe_code)]
pub fn watch(render: Render) {
    // Only tests run several programs in one process, all with the same format.
    let _ = RENDER.set(render);
    // SAFETY: an all-zero `sigaction` is a valid one; the handler calls only functions that are safe in a signal handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
        for signal in SIGNALS {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Whether the handler is installed.
pub fn is_watched() -> bool {
    RENDER.get().is_some()
}

/// Ends the program with a message if a file is being read: the library hangs.
pub fn stuck() {
    exit_with(&STUCK);
}

#[allow(unsafe_code)]
extern "C" fn on_signal(signal: c_int) {
    exit_with(&CRASHED);
    // SAFETY: `raise` is safe in a signal handler; the default action has been restored.
    unsafe { libc::raise(signal) };
}

#[allow(unsafe_code)]
fn exit_with(message: &AtomicPtr<c_char>) {
    let message = message.load(Ordering::Acquire);
    if message.is_null() {
        return;
    }
    // SAFETY: `write`, `strlen` and `_exit` are safe in a signal handler; `message` is a text that is never freed.
    unsafe {
        libc::write(2, message.cast(), libc::strlen(message));
        libc::_exit(INPUT);
    }
}
