//! Interrupt flag set by SIGINT, SIGTERM or SIGUSR1, for loops that can save their state and exit.
//!
//! A program that never watches the signals keeps their default action and ends at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGUSR1, TERM_SIGNALS};
use signal_hook::flag;

/// The interrupt flag; cheap to copy and to check.
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

    /// Whether a signal was received.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn register(requested: &Arc<AtomicBool>) -> io::Result<()> {
    // `mpirun` forwards SIGUSR1 without killing the processes soon after, and Slurm can send it before the time limit.
    for &signal in TERM_SIGNALS.iter().chain(&[SIGUSR1]) {
        // The order matters: the shutdown checks the flag before this signal sets it.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(requested))?;
        flag::register(signal, Arc::clone(requested))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag_of_every_copy() {
        let (first, second) = (Interrupt::watch(), Interrupt::watch());
        assert!(!first.requested());
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        assert!(first.requested() && second.requested());
        // A second signal would end the test program; reset the flag for other tests.
        first.0.store(false, Ordering::Relaxed);
    }
}
