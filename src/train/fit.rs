//! Training loop: steps, epochs, validation, best weights, and a state to resume from.

use super::all_reduce::add_up;
use super::checkpoint;
use super::examples::{BatchPlan, Examples, Minibatch};
use super::gradient::{Gradient, Settings};
use super::metrics::Metrics;
use super::objective::{Objective, Pass};
use super::optimizer::{Adam, clip};
use super::options::Plan;
use super::position::{Progress, Sums};
use super::schedule::Position;
use crate::distributed::{Ranks, any_stops};
use crate::model::{Flat, Store};
use crate::random::Seed;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use tch::{Device, Tensor, no_grad};

/// Everything a run needs in addition to its objective, examples and model.
pub struct Fit<'a> {
    pub plan: &'a Plan,
    pub seed: Seed,
    pub threads: usize,
    pub device: Device,
    /// The processes of a distributed run.
    pub ranks: &'a dyn Ranks,
    /// Where state and metrics are written.
    pub folder: PathBuf,
    /// Identifies settings and data: only a state with the same fingerprint is resumed.
    pub fingerprint: String,
}

/// Report of a step to an [`Observer`].
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub epoch: u64,
    pub cells_done: u64,
    pub loss: f64,
}

/// Follows the progress of a run and may stop it.
pub trait Observer {
    fn step(&mut self, report: &Report);
    fn epoch(&mut self, line: &str);
    /// True if the run is to save its state and stop.
    fn interrupted(&self) -> bool;
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    Finished {
        best_epoch: u64,
        best_step: u64,
        best_loss: Option<f64>,
        /// The weights after the last step, as [`Flat::values`](crate::model::Flat) holds them.
        last: Tensor,
    },
    /// The state is saved; `--resume` continues.
    Interrupted,
}

/// Training diverged: the loss or the gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "the loss became {loss} (gradient norm {norm}) at step {step}: a lower `--learning-rate` may help"
)]
pub struct Diverged {
    pub loss: f64,
    pub norm: f64,
    pub step: u64,
}

/// An epoch did not visit every training cell exactly once.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("epoch {0} did not visit every training cell exactly once; please report this")]
pub struct IncompleteEpoch(pub u64);

/// A run in progress.
struct Run<'a, O: Objective> {
    fit: &'a Fit<'a>,
    examples: &'a dyn Examples<O::Example>,
    gradient: Gradient<'a, O>,
    flat: Flat,
    adam: Adam,
    /// Average of the weights over the last steps.
    average: Tensor,
    best: Tensor,
    progress: Progress,
    /// Written by the leading rank only.
    metrics: Option<Metrics>,
}

/// Cells per forward pass on a CPU: few enough for the caches, enough to keep the threads busy.
const CPU_MICROBATCH: usize = 4;
/// Size of validation minibatches; losses between cells are taken over as many cells.
const VALIDATION_MINIBATCH: usize = 256;

impl<'a> Fit<'a> {
    /// Trains the model whose weights are in the store. On return the store has the best weights; the outcome has the last ones
    /// as a flat vector.
    pub fn run<O: Objective>(
        &'a self,
        objective: &'a O,
        examples: &'a dyn Examples<O::Example>,
        store: &mut Store,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let mut flat = store.flatten();
        let options = &self.plan.options;
        let gradient = Gradient::new(objective, store, &flat, self.settings(), self.ranks);
        let mut adam = Adam::new(&flat, options.adam_eps, options.weight_decay);
        let mut average = flat.values.copy();
        let mut best = flat.values.copy();
        let mut progress = Progress::default();
        if options.resume && self.state().exists() {
            progress = checkpoint::load(
                &self.state(),
                (&mut flat, &mut adam, [&mut average, &mut best]),
                &self.fingerprint,
            )?;
        }
        let metrics = self
            .ranks
            .leads()
            .then(|| Metrics::open(&self.folder, progress.metrics_length));
        let mut run = Run {
            fit: self,
            examples,
            gradient,
            flat,
            adam,
            average,
            best,
            progress,
            metrics: metrics.transpose()?,
        };
        run.epochs(observer)
    }

    fn settings(&self) -> Settings {
        let options = &self.plan.options;
        let on_cpu = self.device == Device::Cpu;
        let shard = if on_cpu {
            CPU_MICROBATCH
        } else {
            options.batch_size
        };
        Settings {
            threads: if on_cpu { self.threads } else { 1 },
            shard: options.micro_batch_size.unwrap_or(shard),
            kind: options.precision.kind(self.device),
            seed: self.seed,
            dropout: self.plan.dropout,
        }
    }

    /// The file a run resumes from.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    /// Cells of a step, over all ranks.
    fn minibatch(&self) -> usize {
        self.plan.options.batch_size * self.ranks.share().of
    }
}

impl<O: Objective> Run<'_, O> {
    fn epochs(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        while self.progress.epoch < self.fit.plan.epochs && !self.out_of_patience() {
            if !self.epoch(observer)? {
                self.save()?;
                return Ok(Outcome::Interrupted);
            }
        }
        let last = self.flat.values.copy();
        no_grad(|| self.flat.values.copy_(&self.best));
        Ok(Outcome::Finished {
            best_epoch: self.progress.best_epoch,
            best_step: self.progress.best_step,
            best_loss: self.progress.best_loss,
            last,
        })
    }

    fn out_of_patience(&self) -> bool {
        let Progress {
            epoch,
            best_epoch,
            best_loss,
            ..
        } = &self.progress;
        let patience = self.fit.plan.options.patience;
        patience > 0 && best_loss.is_some() && epoch - best_epoch > patience
    }

    /// One epoch, or the rest of it; false if interrupted.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let cut = BatchPlan {
            size: self.fit.minibatch(),
            from: self.progress.minibatch,
            share: self.fit.ranks.share(),
        };
        let minibatches = self.examples.epoch(self.progress.epoch, cut);
        for minibatch in minibatches {
            if any_stops(self.fit.ranks, observer.interrupted())? {
                return Ok(false);
            }
            let loss = self.step(&minibatch?)?;
            observer.step(&Report {
                epoch: self.progress.epoch,
                cells_done: self.progress.epoch_sums.cells,
                loss,
            });
            self.at_intervals(observer)?;
        }
        self.finish_epoch(observer)?;
        self.save()?;
        Ok(true)
    }

    /// Logs, validates and saves at the intervals of the options.
    fn at_intervals(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let options = &self.fit.plan.options;
        let is_due = |every: u64| every > 0 && self.progress.step.is_multiple_of(every);
        let (log, validate, save) = (
            is_due(options.log_every),
            is_due(options.validate_every),
            is_due(options.save_every),
        );
        if validate {
            self.check(observer)?;
        } else if log {
            self.log(&[])?;
        }
        if save { self.save() } else { Ok(()) }
    }

    /// Takes one optimizer step; returns the loss before it.
    fn step(&mut self, minibatch: &Minibatch<O::Example>) -> Result<f64> {
        let _ = self.flat.gradients.zero_();
        let figures = self
            .gradient
            .minibatch(&minibatch.examples, Pass::Training(self.progress.step))?;
        add_up(self.fit.ranks, &mut self.flat.gradients)?;
        let norm = clip(&mut self.flat, self.fit.plan.options.max_grad_norm);
        let loss = figures[0].1;
        if !loss.is_finite() || !norm.is_finite() {
            let step = self.progress.step + 1;
            return Err(Diverged { loss, norm, step }.into());
        }
        let rate = self.learning_rate();
        self.adam.step(&mut self.flat, rate);
        self.update_average();
        self.progress.epoch_sums.add(&figures, minibatch.cells);
        self.progress.recent_sums.add(&figures, minibatch.cells);
        self.progress.seen = self.progress.seen.wrapping_add(minibatch.checksum);
        self.progress.minibatch += 1;
        self.progress.step += 1;
        Ok(loss)
    }

    /// Updates the moving average of the weights; faster in the first steps, which would weigh too much.
    fn update_average(&mut self) {
        let step = self.progress.step as f64;
        let kept = self
            .fit
            .plan
            .options
            .ema_decay
            .min((1.0 + step) / (10.0 + step));
        let _ = no_grad(|| self.average.lerp_(&self.flat.values, 1.0 - kept));
    }

    /// Exchanges the weights and their average.
    fn exchange_average(&mut self) {
        no_grad(|| {
            let weights = self.flat.values.copy();
            self.flat.values.copy_(&self.average);
            self.average.copy_(&weights);
        });
    }

    fn learning_rate(&self) -> f64 {
        let Progress { epoch, step, .. } = self.progress;
        let steps_per_epoch = self.examples.steps(self.fit.minibatch());
        self.fit.plan.learning_rate_at(Position {
            epoch,
            step,
            steps: self.fit.plan.epochs * steps_per_epoch,
        })
    }

    /// Ends an epoch: checks that it visited every cell once, and validates the weights.
    fn finish_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let epoch = self.progress.epoch + 1;
        if self.progress.seen != self.examples.checksum() {
            return Err(IncompleteEpoch(epoch).into());
        }
        let sums = std::mem::take(&mut self.progress.epoch_sums);
        if self.progress.validated != self.progress.step {
            self.progress.recent_sums = sums;
            self.check(observer)?;
        }
        self.progress = Progress {
            epoch,
            minibatch: 0,
            seen: 0,
            ..self.progress.clone()
        };
        Ok(())
    }

    /// Validates, keeps the weights if they are the best, and writes a line of metrics.
    fn check(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.exchange_average();
        let validation = self.validate()?;
        // Without cells to validate on, the last weights are the best.
        let loss = validation.first().map(|(_, loss)| *loss);
        let best = self.progress.best_loss;
        if loss.is_none() || best.is_none_or(|best| loss.is_some_and(|loss| loss < best)) {
            self.progress.best_loss = loss;
            self.progress.best_epoch = self.progress.epoch + 1;
            self.progress.best_step = self.progress.step;
            no_grad(|| self.best.copy_(&self.flat.values));
        }
        self.exchange_average();
        self.progress.validated = self.progress.step;
        let training = self.progress.recent_sums.averages();
        observer.epoch(&summary(
            &self.progress,
            self.fit.plan.epochs,
            &training,
            &validation,
        ));
        self.log(&validation)
    }

    /// Mean losses over the validation cells.
    fn validate(&mut self) -> Result<Vec<(String, f64)>> {
        let cut = BatchPlan {
            size: VALIDATION_MINIBATCH,
            from: 0,
            share: self.fit.ranks.share(),
        };
        let mut sums = Sums::default();
        for minibatch in self.examples.validation(cut) {
            let minibatch = minibatch?;
            let figures = self
                .gradient
                .minibatch(&minibatch.examples, Pass::Evaluation)?;
            sums.add(&figures, minibatch.cells);
        }
        Ok(sums.averages())
    }

    /// Writes a line of metrics on the cells since the last one.
    fn log(&mut self, validation: &[(String, f64)]) -> Result<()> {
        let training = std::mem::take(&mut self.progress.recent_sums).averages();
        let record = record(&self.progress, self.learning_rate(), &training, validation);
        if let Some(metrics) = &mut self.metrics {
            metrics.write(record)?;
            self.progress.metrics_length = metrics.length()?;
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        if !self.fit.ranks.leads() {
            return Ok(());
        }
        let state = (&self.flat, &self.adam, [&self.average, &self.best]);
        checkpoint::save(
            &self.fit.state(),
            state,
            &self.progress,
            &self.fit.fingerprint,
        )
    }
}

fn record(
    progress: &Progress,
    rate: f64,
    training: &[(String, f64)],
    validation: &[(String, f64)],
) -> Map<String, Value> {
    let object = |figures: &[(String, f64)]| -> Map<String, Value> {
        figures
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect()
    };
    let mut record = Map::new();
    record.insert("epoch".into(), json!(progress.epoch + 1));
    record.insert("step".into(), json!(progress.step));
    record.insert("learning_rate".into(), json!(rate));
    record.insert("training".into(), Value::Object(object(training)));
    if !validation.is_empty() {
        record.insert("validation".into(), Value::Object(object(validation)));
        record.insert("best_epoch".into(), json!(progress.best_epoch));
    }
    record
}

fn summary(
    progress: &Progress,
    epochs: u64,
    training: &[(String, f64)],
    validation: &[(String, f64)],
) -> String {
    let list = |figures: &[(String, f64)]| {
        figures
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "epoch {} of {epochs}: training {}; validation {}",
        progress.epoch + 1,
        list(training),
        list(validation)
    )
}
