//! The loop: steps, epochs, validation, the best weights, and a state to resume from.

use super::checkpoint;
use super::gradient::{Figures, Gradient, Pass, Settings};
use super::metrics::Metrics;
use super::objective::Objective;
use super::optimizer::{Adam, clip};
use super::options::Plan;
use super::schedule::Position;
use crate::model::{Flat, Store};
use crate::random::{self, Seed};
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use tch::{Device, Tensor, no_grad};

/// Everything a run needs beside its objective and model.
pub struct Fit<'a> {
    pub plan: &'a Plan,
    /// Cells to learn from, and cells to choose the best epoch by.
    pub training: Vec<usize>,
    pub validation: Vec<usize>,
    pub seed: Seed,
    pub threads: usize,
    pub device: Device,
    /// Where state and metrics are written.
    pub folder: PathBuf,
    /// What a state must have been written with to be resumed: settings and data in one word.
    pub fingerprint: String,
}

/// Where a run stands; with the weights and the optimiser, all there is to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub epoch: u64,
    /// Minibatches done in this epoch.
    pub minibatch: u64,
    pub step: u64,
    pub best_loss: Option<f64>,
    pub best_epoch: u64,
    /// Sums over the cells of this epoch so far.
    sums: Vec<(String, f64)>,
    cells: u64,
    metrics_length: u64,
}

/// What is told to whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub epoch: u64,
    pub cells_done: u64,
    pub loss: f64,
}

/// Watches a run and may stop it.
pub trait Observer {
    fn step(&mut self, report: &Report);
    fn epoch(&mut self, line: &str);
    /// True if the run is to save its state and stop.
    fn interrupted(&self) -> bool;
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Finished {
        best_epoch: u64,
        best_loss: Option<f64>,
    },
    /// The state is saved; `--resume` goes on.
    Interrupted,
}

/// Numbers left the range in which training makes sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "the loss became {loss} (gradient norm {norm}) at step {step}: a lower `--learning-rate` may help"
)]
pub struct Diverged {
    pub loss: f64,
    pub norm: f64,
    pub step: u64,
}

/// A run in motion.
struct Run<'a, O: Objective> {
    fit: &'a Fit<'a>,
    objective: &'a O,
    gradient: Gradient<'a, O>,
    flat: Flat,
    adam: Adam,
    /// Average of the weights over the last steps.
    average: Tensor,
    best: Tensor,
    progress: Progress,
    metrics: Metrics,
}

/// Cells that go through the model at once on a CPU: few enough for the caches, enough to keep the threads busy.
const CPU_MICROBATCH: usize = 4;
/// Cells whose validation losses are averaged together; losses between cells see this many.
const VALIDATION_MINIBATCH: usize = 256;

impl Fit<'_> {
    /// Trains the model whose weights are in the store; they are the best ones when it returns.
    pub fn run<O: Objective>(
        &self,
        objective: &O,
        store: &mut Store,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let mut flat = store.flatten();
        let on_cpu = self.device == Device::Cpu;
        let settings = Settings {
            threads: if on_cpu { self.threads } else { 1 },
            shard: self.plan.options.microbatch.unwrap_or(if on_cpu {
                CPU_MICROBATCH
            } else {
                self.plan.options.batch_size
            }),
            kind: self.plan.options.precision.kind(self.device),
            seed: self.seed,
            dropout: self.plan.dropout,
        };
        let gradient = Gradient::new(objective, store, &flat, settings);
        let mut adam = Adam::new(
            &flat,
            self.plan.options.adam_eps,
            self.plan.options.weight_decay,
        );
        let mut average = flat.values.copy();
        let mut best = flat.values.copy();
        let mut progress = Progress::default();
        if self.plan.options.resume && self.state().exists() {
            progress = checkpoint::load(
                &self.state(),
                (&mut flat, &mut adam, [&mut average, &mut best]),
                &self.fingerprint,
            )?;
        }
        let metrics = Metrics::open(&self.folder.join("metrics.jsonl"), progress.metrics_length)?;
        let mut run = Run {
            fit: self,
            objective,
            gradient,
            flat,
            adam,
            average,
            best,
            progress,
            metrics,
        };
        run.epochs(observer)
    }

    /// The file a run resumes from.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    fn steps(&self) -> u64 {
        self.plan.epochs * self.training.len().div_ceil(self.plan.options.batch_size) as u64
    }

    /// The order of the cells in an epoch.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut stream = self.seed.stream("order of cells", &[epoch]);
        random::permutation(&mut stream, self.training.len())
            .into_iter()
            .map(|i| self.training[i])
            .collect()
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
        no_grad(|| self.flat.values.copy_(&self.best));
        Ok(Outcome::Finished {
            best_epoch: self.progress.best_epoch,
            best_loss: self.progress.best_loss,
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
        let order = self.fit.order(self.progress.epoch);
        for cells in order
            .chunks(self.fit.plan.options.batch_size)
            .skip(self.progress.minibatch as usize)
        {
            if observer.interrupted() {
                return Ok(false);
            }
            let loss = self.step(cells)?;
            observer.step(&Report {
                epoch: self.progress.epoch,
                cells_done: self.progress.cells,
                loss,
            });
            if self
                .progress
                .step
                .is_multiple_of(self.fit.plan.options.save_every)
            {
                self.save()?;
            }
        }
        self.finish_epoch(observer)?;
        self.save()?;
        Ok(true)
    }

    /// One optimiser step on the given cells; the loss before it.
    fn step(&mut self, cells: &[usize]) -> Result<f64> {
        let _ = self.flat.gradients.zero_();
        let examples = self.examples(cells, Some(self.progress.epoch));
        let figures = self
            .gradient
            .minibatch(&examples, Pass::Training(self.progress.step));
        let norm = clip(&mut self.flat, self.fit.plan.options.clip);
        let loss = figures[0].1;
        if !loss.is_finite() || !norm.is_finite() {
            let step = self.progress.step + 1;
            return Err(Diverged { loss, norm, step }.into());
        }
        let rate = self.learning_rate();
        self.adam.step(&mut self.flat, rate);
        self.update_average();
        let count = cells.len() as u64;
        add(&mut self.progress.sums, &figures, count as f64);
        self.progress.cells += count;
        self.progress.minibatch += 1;
        self.progress.step += 1;
        Ok(loss)
    }

    /// Moves the average towards the weights; faster in the first steps, which would weigh too much.
    fn update_average(&mut self) {
        let step = self.progress.step as f64;
        let kept = self
            .fit
            .plan
            .options
            .average
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
        self.fit.plan.learning_rate_at(Position {
            epoch,
            step,
            steps: self.fit.steps(),
        })
    }

    fn examples(&self, cells: &[usize], epoch: Option<u64>) -> Vec<O::Example> {
        let objective = self.objective;
        cells
            .par_iter()
            .map(|&cell| objective.example(cell, epoch))
            .collect()
    }

    /// Validates, keeps the weights if they are the best, and writes the epoch's metrics.
    fn finish_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let rate = self.learning_rate();
        let training = averages(
            &std::mem::take(&mut self.progress.sums),
            self.progress.cells,
        );
        self.exchange_average();
        let validation = self.validate();
        // Without cells to validate on, the last epoch is the best.
        let loss = validation.first().map(|(_, loss)| *loss);
        let epoch = self.progress.epoch + 1;
        if loss.is_none()
            || self
                .progress
                .best_loss
                .is_none_or(|best| loss.is_some_and(|loss| loss < best))
        {
            (self.progress.best_loss, self.progress.best_epoch) = (loss, epoch);
            no_grad(|| self.best.copy_(&self.flat.values));
        }
        self.exchange_average();
        let record = record(&self.progress, rate, &training, &validation);
        observer.epoch(&summary(
            epoch,
            self.fit.plan.epochs,
            &training,
            &validation,
        ));
        self.metrics.write(record)?;
        self.progress = Progress {
            epoch,
            minibatch: 0,
            cells: 0,
            metrics_length: self.metrics.length()?,
            ..self.progress.clone()
        };
        Ok(())
    }

    /// Mean losses over the validation cells, the same masks in every epoch (quirk Q28).
    fn validate(&mut self) -> Vec<(String, f64)> {
        let mut sums = Vec::new();
        for cells in self.fit.validation.chunks(VALIDATION_MINIBATCH) {
            let examples = self.examples(cells, None);
            let figures = self.gradient.minibatch(&examples, Pass::Evaluation);
            add(&mut sums, &figures, cells.len() as f64);
        }
        averages(&sums, self.fit.validation.len() as u64)
    }

    fn save(&self) -> Result<()> {
        let state = (&self.flat, &self.adam, [&self.average, &self.best]);
        checkpoint::save(
            &self.fit.state(),
            state,
            &self.progress,
            &self.fit.fingerprint,
        )
    }
}

/// Adds means over some cells to running sums.
fn add(sums: &mut Vec<(String, f64)>, figures: &Figures, cells: f64) {
    for (name, value) in figures {
        match sums.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value * cells,
            None => sums.push(((*name).to_owned(), value * cells)),
        }
    }
}

fn averages(sums: &[(String, f64)], cells: u64) -> Vec<(String, f64)> {
    sums.iter()
        .map(|(name, sum)| (name.clone(), sum / cells as f64))
        .collect()
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
    record.insert("validation".into(), Value::Object(object(validation)));
    record.insert("best_epoch".into(), json!(progress.best_epoch));
    record
}

fn summary(
    epoch: u64,
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
        "epoch {epoch} of {epochs}: training {}; validation {}",
        list(training),
        list(validation)
    )
}
