//! Training progress on the terminal, and interruption by signals.

use anyhow::Result;

use crate::failure::Failure;
use crate::progress::{self, Progress};
use crate::run_record::Run;
use crate::train::{self, Defaults, Observer, Outcome, Plan, Report};

/// Shows the progress of training.
pub struct ProgressObserver<'r> {
    run: &'r Run,
    progress: Progress,
    per_epoch: u64,
    /// Cells done; none before the first step, which may be that of a resumed run.
    done: Option<u64>,
}

impl<'r> ProgressObserver<'r> {
    pub fn new(epochs: u64, per_epoch: u64, run: &'r Run) -> Self {
        let progress = Progress::new("training", epochs * per_epoch, "cells");
        Self {
            run,
            progress,
            per_epoch,
            done: None,
        }
    }
}

impl Observer for ProgressObserver<'_> {
    fn step(&mut self, report: &Report) {
        let done = report.epoch * self.per_epoch + report.cells_done;
        self.progress.set_fields(format!("loss {:.4}", report.loss));
        match self.done.replace(done) {
            None => self.progress.skip(done),
            Some(before) => self.progress.advance(done - before),
        }
    }

    fn epoch(&mut self, line: &str) {
        progress::note(line);
    }

    fn interrupted(&self) -> bool {
        self.run.interrupted()
    }
}

/// Training options with all defaults filled in; prints them.
pub fn resolve(options: &train::Options, defaults: Defaults, run: &mut Run) -> Plan {
    let plan = options.resolve(defaults);
    let Plan {
        epochs,
        learning_rate,
        dropout,
        ..
    } = plan;
    run.note(format!(
        "{epochs} epochs, learning rate {learning_rate}, dropout {dropout}"
    ));
    plan
}

/// Records the best epoch of a finished run; returns an error for an interrupted one.
pub fn report(outcome: &Outcome, run: &mut Run) -> Result<()> {
    match outcome {
        Outcome::Finished {
            best_epoch,
            best_loss,
            ..
        } => {
            run.metric("best_epoch", best_epoch);
            run.metric("best_validation_loss", best_loss);
            Ok(())
        }
        Outcome::Interrupted => {
            Err(Failure::Interrupted
                .error("stopped by a signal; rerun with `--resume` to continue"))
        }
    }
}
