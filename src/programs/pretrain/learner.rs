//! The model, how it learns, and what is written of it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, json};
use tch::{Device, Tensor, no_grad};

use super::baselines::{self, Errors};
use super::data::Data;
use super::{Options, fingerprint, stream};
use crate::checkpoint::directory::OWN_KEY;
use crate::checkpoint::{Architecture, safetensors, write};
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::output::WorkFolder;
use crate::programs::steps;
use crate::programs::watch::{self, Watch};
use crate::progress;
use crate::random::Seed;
use crate::ranks::Ranks;
use crate::run_record::Run;
use crate::train::pretraining::{Example, Pretraining};
use crate::train::{Fit, METRICS_FILES, Outcome, Plan, Usual};

/// Key of `args.json` under which a model says how it was pre-trained.
pub const ARGUMENTS: &str = "scgpt_pretraining";
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;
/// Cells that a model from scratch is shown, every epoch's anew.
const CELLS_SHOWN: u64 = 200_000;

/// The model being trained.
pub struct Learner {
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
    table: Option<weights::Table>,
    /// What simpler methods reach.
    simpler: Option<Errors>,
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
                table.require_trunk()?;
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
            simpler: None,
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
        let asked = options.baselines && ranks.leads() && !data.validation.is_empty();
        let simpler = asked.then(|| self.simpler(&objective, data));
        let (stream, server, requests) =
            stream::connect(data, &objective, (Seed(options.seed), options.memory));
        let mut watch = Watch::new(plan.epochs, data.training_cells(), run);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || server.serve(requests));
            let outcome = fit.run(&objective, &stream, &mut store, &mut watch);
            drop(stream);
            outcome
        })?;
        watch::report(&outcome, run)?;
        let Outcome::Finished {
            best_loss, last, ..
        } = outcome
        else {
            unreachable!("an interrupted run is an error")
        };
        self.store = store;
        if let (Some(loss), Some(simpler)) = (best_loss, &simpler) {
            compare(loss / options.goals.gep_weight, simpler, run);
        }
        self.simpler = simpler;
        Ok(last)
    }

    /// The options of training with nothing left open, which is said.
    fn plan(&self, options: &Options, data: &Data, run: &mut Run) -> Plan {
        let usual = match data.checkpoint {
            Some(_) => Usual {
                epochs: 6,
                learning_rate: 1e-4,
                dropout: self.architecture.dropout,
            },
            None => Usual {
                epochs: (CELLS_SHOWN / data.training_cells()).clamp(1, 30),
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        };
        watch::settle(&options.training, usual, run)
    }

    /// How simpler methods tell the hidden values: what the model must beat.
    fn simpler(&self, objective: &Pretraining, data: &Data) -> Errors {
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
            "mean squared error of {} hidden values, in squared bins: by the mean of each gene {:.2}, by the mean of the most similar cells {:.2}",
            errors.values, errors.gene_mean, errors.nearest_cells
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
        // What a model that was fine-tuned said of its task no longer holds.
        arguments.remove(OWN_KEY);
        arguments.insert("training_tasks".into(), json!(options.goals.task));
        arguments.insert("mask_ratio".into(), json!(options.goals.mask_ratio));
        arguments.insert(
            ARGUMENTS.into(),
            json!({
                "version": env!("CARGO_PKG_VERSION"),
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
        let course = super::course::draw(&work.join(METRICS_FILES[0]), self.simpler.as_ref())?;
        files.push(("course.svg".into(), course.into_bytes()));
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

    /// Does something while the model has other weights, given as one flat vector.
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

/// Sets the model beside the simpler methods.
fn compare(model: f64, simpler: &Errors, run: &mut Run) {
    let best = simpler.gene_mean.min(simpler.nearest_cells);
    run.note(format!(
        "mean squared error of hidden values: {model:.2}, which is {:.0} % of the best simpler method's {best:.2}",
        100.0 * model / best
    ));
    if model >= best {
        run.warning("a simpler method tells the hidden values better than this model: train it longer or on more cells");
    }
    run.metric(
        "validation_error",
        json!({ "model": model, "baselines": simpler }),
    );
}

/// Lets the expression head start at the mean of all values instead of at 0.
fn start_at_mean(store: &Store, mean: f64) {
    if let Some(bias) = store.tensor("decoder.fc.4.bias") {
        no_grad(|| drop(bias.shallow_clone().fill_(mean)));
    }
}

/// The heads that the goals need, and those of the model to go on from that they would otherwise lose.
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
