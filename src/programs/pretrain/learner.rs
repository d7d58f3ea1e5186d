//! Model of `scgpt-pretrain`: construction, training and output.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, json};
use tch::{Device, Tensor, no_grad};

use super::baselines::{self, Errors};
use super::data::Data;
use super::{Options, fingerprint, stream};
use crate::checkpoint::directory::{OWN_KEY, PRETRAINING_KEY};
use crate::checkpoint::{Architecture, safetensors, write};
use crate::distributed::Ranks;
use crate::file_format;
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::output::WorkFolder;
use crate::programs::steps;
use crate::programs::training_progress::{self, ProgressObserver};
use crate::progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::train::pretraining::{Example, Pretraining};
use crate::train::{Defaults, Fit, METRICS_FILES, Outcome, Plan};

/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;
/// Training budget of a model from scratch: cells over all epochs.
const TRAINING_BUDGET_CELLS: u64 = 200_000;

/// The model being trained.
pub struct Learner {
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
    table: Option<weights::Table>,
    /// Errors of the baselines.
    baselines: Option<Errors>,
}

impl Learner {
    pub fn build(options: &Options, data: &Data, device: Device, run: &mut Run) -> Result<Self> {
        let architecture = match &data.checkpoint {
            Some(checkpoint) => Architecture {
                max_seq_len: options.max_length,
                ..checkpoint.architecture.clone()
            },
            None => options.size.architecture(
                options.training.dropout.unwrap_or(DROPOUT),
                options.n_bins,
                options.max_length,
            ),
        };
        let stored = data
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.embedding_rows());
        let genes = Genes {
            rows: data.vocabulary.len().max(stored) as i64,
            pad: data.vocabulary.pad().map(i64::from),
        };
        let heads = heads(options, data);
        let mut store = Store::new(Seed(options.seed), device);
        Model::new(&mut store, &architecture, genes, heads);
        let table = data.checkpoint.as_ref().map(|checkpoint| {
            let extended = weights::with_more_genes(&store, &checkpoint.state, data.known);
            weights::load(&store, extended.as_ref().unwrap_or(&checkpoint.state))
        });
        match &table {
            Some(table) => {
                steps::report_weights(table, run);
                table.require_backbone()?;
            }
            None => start_at_mean(&store, data.means.overall()),
        }
        let count: usize = store.parameters().values().map(Tensor::numel).sum();
        run.note(format!("{count} parameters"));
        run.metric("parameters", count);
        Ok(Self {
            architecture,
            genes,
            heads,
            store,
            table,
            baselines: None,
        })
    }

    fn objective<'a>(&'a self, options: &'a Options, data: &'a Data) -> Pretraining<'a> {
        Pretraining {
            goals: &options.goals,
            architecture: &self.architecture,
            genes: self.genes,
            heads: self.heads,
            conditions: data.gene_conditions.as_ref(),
            max_length: options.max_length,
            seed: Seed(options.seed),
            device: self.store.device(),
        }
    }

    /// Trains to the end and returns the last weights; the best ones are in the model.
    pub fn train(
        &mut self,
        options: &Options,
        data: &Data,
        ranks: &dyn Ranks,
        run: &mut Run,
    ) -> Result<Tensor> {
        let plan = self.plan(options, data, run);
        let mut store = self.store.share();
        let objective = self.objective(options, data);
        let fit = Fit {
            plan: &plan,
            seed: Seed(options.seed),
            threads: run.threads(),
            device: self.store.device(),
            ranks,
            folder: WorkFolder::path_of(&options.output),
            // Minibatches are those of all processes together.
            fingerprint: format!("{} x {}", ranks.size(), fingerprint(options, run)),
        };
        let has_baselines = options.baselines && ranks.leads() && !data.validation.is_empty();
        let baselines = has_baselines.then(|| self.baselines(&objective, data));
        let (stream, server, requests) =
            stream::connect(data, &objective, (Seed(options.seed), options.memory));
        let mut observer = ProgressObserver::new(plan.epochs, data.training_cells(), run);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || server.serve(requests));
            let outcome = fit.run(&objective, &stream, &mut store, &mut observer);
            drop(stream);
            outcome
        })?;
        training_progress::report(&outcome, run)?;
        let Outcome::Finished {
            best_loss, last, ..
        } = outcome
        else {
            unreachable!("an interrupted run is an error")
        };
        self.store = store;
        if let (Some(loss), Some(baselines)) = (best_loss, &baselines) {
            compare(loss / options.goals.gep_weight, baselines, run);
        }
        self.baselines = baselines;
        Ok(last)
    }

    /// Training options with all defaults filled in; prints them.
    fn plan(&self, options: &Options, data: &Data, run: &mut Run) -> Plan {
        let defaults = match data.checkpoint {
            Some(_) => Defaults {
                epochs: 6,
                learning_rate: 1e-4,
                dropout: self.architecture.dropout,
            },
            None => Defaults {
                epochs: (TRAINING_BUDGET_CELLS / data.training_cells()).clamp(1, 30),
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        };
        training_progress::resolve(&options.training, defaults, run)
    }

    /// Evaluates the baselines on the masked values of the validation cells.
    fn baselines(&self, objective: &Pretraining, data: &Data) -> Errors {
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

    pub fn write(
        &self,
        options: &Options,
        data: &Data,
        (work, last): (&Path, &Tensor),
        run: &Run,
    ) -> Result<()> {
        let best = weights::state(&self.store);
        let last = self.with_weights(last, || weights::state(&self.store));
        let mut arguments = data
            .checkpoint
            .as_ref()
            .map_or_else(Map::new, |checkpoint| checkpoint.arguments.clone());
        // Settings of an earlier fine-tuning are no longer valid.
        arguments.remove(OWN_KEY);
        arguments.insert("training_tasks".into(), json!(options.goals.task));
        arguments.insert("mask_ratio".into(), json!(options.goals.mask_ratio));
        let statement = file_format::MODEL.statement();
        arguments.insert(
            PRETRAINING_KEY.into(),
            json!({
                "format": statement.format,
                "format_version": statement.format_version,
                "scgpt_tools_version": statement.scgpt_tools_version,
                "fingerprint": fingerprint(options, run),
                "classes": data.classes,
                "conditions": data.conditions,
            }),
        );
        let mut files = vec![("last.safetensors".to_owned(), safetensors::to_bytes(&last)?)];
        if let Some(table) = &self.table {
            files.push((
                "loaded_weights.json".into(),
                serde_json::to_vec_pretty(table)?,
            ));
        }
        let curves =
            super::training_curve::draw(&work.join(METRICS_FILES[0]), self.baselines.as_ref())?;
        files.push(("training_curves.svg".into(), curves.into_bytes()));
        for name in METRICS_FILES {
            let path = work.join(name);
            let content = std::fs::read(&path)
                .with_context(|| format!("could not read `{}`", path.display()))?;
            files.push((name.into(), content));
        }
        let contents = write::Contents {
            state: &best,
            architecture: &self.architecture,
            arguments: &arguments,
            vocabulary: &data.vocabulary,
            files: &files,
        };
        Ok(write::write(&options.output, contents, write::Form::OWN)?)
    }

    /// Runs `work` while the model has other weights, given as one flat vector.
    fn with_weights<T>(&self, flat: &Tensor, work: impl FnOnce() -> T) -> T {
        let exchange = |flat: &Tensor| {
            let mut start = 0;
            no_grad(|| {
                for tensor in self.store.parameters().values() {
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
