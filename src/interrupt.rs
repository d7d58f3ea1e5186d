//! The request to stop: SIGINT, SIGTERM or SIGUSR1, seen by loops that can save and leave in good order.
//!
//! A program that never asks keeps the default action of the signals and ends at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGUSR1, TERM_SIGNALS};
use signal_hook::flag;

/// Tells whether the program was asked to stop; cheap to copy and to ask.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches the signals from now on. A second signal then ends the program at once, with exit code 130.
    pub fn watch() -> Self {
        static WATCHED: OnceLock<Interrupt> = OnceLock::new();
        let start = || {
            let requested = Arc::new(AtomicBool::new(false));
            register(&requested)
                .expect("SIGINT, SIGTERM, SIGQUIT and SIGUSR1 may be watched by any process");
            Interrupt(requested)
        };
        WATCHED.get_or_init(start).clone()
    }

    /// Whether a signal to stop has arrived.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn register(requested: &Arc<AtomicBool>) -> io::Result<()> {
    // SIGUSR1 is what `mpirun` passes on without killing soon after, and what Slurm users ask for before the time is up.
    for &signal in TERM_SIGNALS.iter().chain(&[SIGUSR1]) {
        // The order matters: the shutdown sees the flag as the signal before left it.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(requested))?;
        flag::register(signal, Arc::clone(requested))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_seen_by_every_copy() {
        let (first, second) = (Interrupt::watch(), Interrupt::watch());
        assert!(!first.requested());
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        assert!(first.requested() && second.requested());
        // A second signal would end the test program; other tests in it must not see this one.
        first.0.store(false, Ordering::Relaxed);
    }
}
