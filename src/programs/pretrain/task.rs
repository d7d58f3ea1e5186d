//! Pre-training as a task.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tch::{Tensor, no_grad};

use super::baselines::{self, Errors};
use super::data::Data;
use super::{Options, stream};
use crate::checkpoint::directory::{OWN_KEY, PRETRAINING_KEY};
use crate::checkpoint::{Architecture, Checkpoint, safetensors};
use crate::file_format;
use crate::model::{Genes, Heads, Store, weights};
use crate::progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::train::pretraining::{Example, Pretraining};
use crate::train::{self, Defaults, METRICS_FILES, Outcome};
use crate::trainer::{Files, Fitting, Network, Shape, Task, Trained};
use crate::vocabulary::Vocabulary;

/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;
/// Training budget of a model from scratch: cells over all epochs.
const TRAINING_BUDGET_CELLS: u64 = 200_000;

/// Result of training, in addition to the best weights.
pub struct Fitted {
    /// The weights after the last step.
    last: Tensor,
    /// Errors of the baselines.
    baselines: Option<Errors>,
}

impl Task for Options {
    type Data = Data;
    type Reader = ();
    type Fitted = Fitted;

    fn output(&self) -> &Path {
        &self.output
    }

    fn training(&self) -> &train::Options {
        &self.training
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn read(&self, run: &mut Run) -> Result<Data> {
        Data::read(self, run)
    }

    fn checkpoint(data: &Data) -> Option<&Checkpoint> {
        data.checkpoint.as_ref()
    }

    fn vocabulary(data: &Data) -> &Vocabulary {
        &data.vocabulary
    }

    fn shape(&self, data: &Data) -> Shape {
        let dropout = self.training.dropout.unwrap_or(DROPOUT);
        let architecture = match &data.checkpoint {
            Some(checkpoint) => Architecture {
                max_seq_len: self.max_length,
                ..checkpoint.architecture.clone()
            },
            None => self
                .size
                .architecture(dropout, self.n_bins, self.max_length),
        };
        let shape = Shape::new(architecture, &data.vocabulary, heads(self, data));
        let stored = data
            .checkpoint
            .as_ref()
            .map_or(0, Checkpoint::embedding_rows);
        let rows = shape.genes.rows.max(stored as i64);
        Shape {
            genes: Genes {
                rows,
                ..shape.genes
            },
            ..shape
        }
    }

    fn initialize(&self, data: &Data, network: &Network) {
        if data.checkpoint.is_none() {
            start_at_mean(&network.store, data.means.overall());
        }
    }

    fn prepare(&self, _: &Data, network: &Network, run: &mut Run) -> Result<()> {
        let parameters = network.store.parameters();
        let count: usize = parameters.values().map(Tensor::numel).sum();
        run.note(format!("{count} parameters"));
        run.metric("parameters", count);
        Ok(())
    }

    fn defaults(&self, data: &Data, (): &()) -> Defaults {
        match &data.checkpoint {
            Some(checkpoint) => Defaults {
                epochs: 6,
                learning_rate: 1e-4,
                dropout: checkpoint.architecture.dropout,
            },
            None => Defaults {
                epochs: (TRAINING_BUDGET_CELLS / data.training_cells()).clamp(1, 30),
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        }
    }

    fn fit(
        &self,
        Trained { data, network, .. }: Trained<'_, Self>,
        fitting: Fitting<'_>,
        run: &mut Run,
    ) -> Result<Fitted> {
        let objective = Pretraining {
            goals: &self.goals,
            architecture: &network.shape.architecture,
            genes: network.shape.genes,
            heads: network.shape.heads,
            conditions: data.gene_conditions.as_ref(),
            max_length: self.max_length,
            seed: Seed(self.seed),
            device: network.device(),
        };
        let has_baselines = self.baselines && fitting.ranks.leads() && !data.validation.is_empty();
        let baselines = has_baselines.then(|| baseline_errors(&objective, data));
        let (stream, server, requests) =
            stream::connect(data, &objective, (Seed(self.seed), self.memory));
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || server.serve(requests));
            let outcome = fitting.run(network, (&objective, &stream), run);
            drop(stream);
            outcome
        })?;
        let Outcome::Finished {
            best_loss, last, ..
        } = outcome
        else {
            unreachable!("an interrupted run is an error")
        };
        if let (Some(loss), Some(baselines)) = (best_loss, &baselines) {
            compare(loss / self.goals.gep_weight, baselines, run);
        }
        Ok(Fitted { last, baselines })
    }

    fn test(
        &self,
        Trained { network, .. }: Trained<'_, Self>,
        fitted: Fitted,
        work: &Path,
        _: &mut Run,
    ) -> Result<Files> {
        let store = &network.store;
        let last = with_weights(store, &fitted.last, || weights::state(store));
        let metrics = work.join(METRICS_FILES[0]);
        let curves = super::training_curve::draw(&metrics, fitted.baselines.as_ref())?;
        Ok(vec![
            ("last.safetensors".into(), safetensors::to_bytes(&last)?),
            ("training_curves.svg".into(), curves.into_bytes()),
        ])
    }

    fn is_written(model: &Path, fingerprint: &str) -> bool {
        let written = Checkpoint::open(model);
        written.is_ok_and(|model| {
            let settings = model.arguments.get(PRETRAINING_KEY);
            settings.is_some_and(|settings| settings["fingerprint"] == fingerprint)
        })
    }

    fn arguments(
        &self,
        Trained { data, .. }: Trained<'_, Self>,
        fingerprint: String,
    ) -> Result<Map<String, Value>> {
        let checkpoint = data.checkpoint.as_ref();
        let mut arguments = checkpoint.map_or_else(Map::new, |c| c.arguments.clone());
        // Settings of an earlier fine-tuning are no longer valid.
        arguments.remove(OWN_KEY);
        arguments.insert("training_tasks".into(), json!(self.goals.task));
        arguments.insert("mask_ratio".into(), json!(self.goals.mask_ratio));
        let mut settings = serde_json::to_value(file_format::MODEL.statement())?;
        settings["fingerprint"] = json!(fingerprint);
        settings["classes"] = json!(data.classes);
        settings["conditions"] = json!(data.conditions);
        arguments.insert(PRETRAINING_KEY.into(), settings);
        Ok(arguments)
    }
}

/// Evaluates the baselines on the masked values of the validation cells.
fn baseline_errors(objective: &Pretraining, data: &Data) -> Errors {
    let examples = data
        .validation
        .iter()
        .map(|cell| objective.example(cell, None));
    let errors = baselines::errors(
        &examples.collect::<Vec<Example>>(),
        &data.means,
        &data.compared,
    );
    progress::note(&format!(
        "mean squared error of {} masked values, in squared bins: gene means {:.2}, most similar cells {:.2}",
        errors.values, errors.baseline_gene_mean, errors.baseline_knn
    ));
    errors
}

/// Runs `work` while the model has other weights, given as one flat vector.
fn with_weights<T>(store: &Store, flat: &Tensor, work: impl FnOnce() -> T) -> T {
    let exchange = |flat: &Tensor| {
        let mut start = 0;
        no_grad(|| {
            for tensor in store.parameters().values() {
                let length = tensor.numel() as i64;
                let part = flat.narrow(0, start, length).view_as(tensor);
                let kept = tensor.copy();
                tensor.shallow_clone().copy_(&part);
                flat.narrow(0, start, length).view_as(&kept).copy_(&kept);
                start += length;
            }
        });
    };
    let flat = flat.copy();
    exchange(&flat);
    let done = work();
    exchange(&flat);
    done
}

/// Compares the model with the baselines.
fn compare(model: f64, baselines: &Errors, run: &mut Run) {
    let best = baselines.baseline_gene_mean.min(baselines.baseline_knn);
    run.note(format!(
        "mean squared error of masked values: {model:.2}, {:.0} % of that of the best baseline ({best:.2})",
        100.0 * model / best
    ));
    if model >= best {
        run.warning("a baseline predicts the masked values as well as or better than this model: train longer or on more cells");
    }
    run.metric(
        "validation_mse",
        json!({ "model": model, "baselines": baselines }),
    );
}

/// Initializes the bias of the expression head with the mean of all values.
fn start_at_mean(store: &Store, mean: f64) {
    if let Some(bias) = store.tensor("decoder.fc.4.bias") {
        no_grad(|| drop(bias.shallow_clone().fill_(mean)));
    }
}

/// The heads that the objectives need, and those of the checkpoint, which are kept.
fn heads(options: &Options, data: &Data) -> Heads {
    let needed = options.goals.heads(data.classes.len());
    let stored = data
        .checkpoint
        .as_ref()
        .map(|checkpoint| Heads::of(&checkpoint.heads));
    let stored = stored.unwrap_or_default();
    Heads {
        generative: needed.generative || stored.generative,
        cell_expression: needed.cell_expression || stored.cell_expression,
        plain_norm: stored.plain_norm,
        conditions: data
            .conditions
            .as_ref()
            .map(|conditions| conditions.names.len()),
        ..needed
    }
}
