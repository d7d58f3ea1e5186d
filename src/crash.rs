//! Last words: a C library that crashes or never returns must not end the program without saying which file it read.

use std::ffi::CString;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
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

/// How an error looks on standard error.
type Render = fn(&str) -> String;

static RENDER: OnceLock<Render> = OnceLock::new();
/// What to say if the library crashes or does not return. Never freed, because that may happen at any time.
static CRASHED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
static STUCK: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Names the file that a C library reads from now on.
pub fn reading(path: &Path) {
    let Some(render) = RENDER.get() else { return };
    let words = |what: &str| {
        let message = format!(
            "the library that reads `{}` {what}: most likely the file is damaged; copy or download it again",
            path.display()
        );
        CString::new(render(&message) + "\n").unwrap_or_default()
    };
    CRASHED.store(words("crashed").into_raw(), Ordering::Release);
    let stuck = words("does not come to an end");
    STUCK.store(stuck.into_raw(), Ordering::Release);
}

/// From now on, a crash ends the program with a message and the exit code of wrong input, if a file is being read.
#[allow(unsafe_code)]
pub fn watch(render: Render) {
    // Only tests run several programs in one process, all of which render alike.
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

/// Whether a program asked to be watched.
pub fn is_watched() -> bool {
    RENDER.get().is_some()
}

/// Ends the program with a message, because the library does not return, if a file is being read.
pub fn stuck() {
    say_and_exit(&STUCK);
}

#[allow(unsafe_code)]
extern "C" fn on_signal(signal: c_int) {
    say_and_exit(&CRASHED);
    // SAFETY: `raise` is safe in a signal handler; the default action has been restored.
    unsafe { libc::raise(signal) };
}

#[allow(unsafe_code)]
fn say_and_exit(words: &AtomicPtr<c_char>) {
    let words = words.load(Ordering::Acquire);
    if words.is_null() {
        return;
    }
    // SAFETY: `write`, `strlen` and `_exit` are safe in a signal handler; `words` is a text that is never freed.
    unsafe {
        libc::write(2, words.cast(), libc::strlen(words));
        libc::_exit(INPUT);
    }
}
