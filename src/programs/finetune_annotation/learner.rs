//! The model, how it learns, and what is written of it.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, json};
use tch::Device;

use super::data::Data;
use super::{Options, fingerprint};
use crate::checkpoint::{Architecture, InputStyle, write};
use crate::expression::normalise::{Target, log1p, normalise_total};
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::predict::{self, Workers, annotation::Settings, settings::OfTask};
use crate::programs::watch::{self, Watch};
use crate::programs::{gene_vectors, steps};
use crate::random::Seed;
use crate::ranks::Alone;
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer};
use crate::train::annotation::Annotation;
use crate::train::{Fit, InMemory, Plan, Usual};

/// Cells that a model from scratch is shown, every epoch's anew.
const CELLS_SHOWN: u64 = 60_000;
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;

/// The model being trained.
pub struct Learner {
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
    tokenizer: Tokenizer,
    table: Option<weights::Table>,
}

impl Learner {
    pub fn build(options: &Options, data: &Data, device: Device, run: &mut Run) -> Result<Self> {
        let (architecture, genes, plain_norm) = match &data.checkpoint {
            Some(checkpoint) => (
                checkpoint.architecture.clone(),
                predict::genes(checkpoint),
                checkpoint.heads.batch_norm,
            ),
            None => {
                let genes = Genes {
                    rows: data.vocabulary.len() as i64,
                    pad: data.vocabulary.pad().map(i64::from),
                };
                (
                    options.size.architecture(
                        options.training.dropout.unwrap_or(DROPOUT),
                        options.tokens.n_bins,
                        options.tokens.max_length,
                    ),
                    genes,
                    false,
                )
            }
        };
        let heads = Heads {
            plain_norm,
            ..options
                .weights
                .heads(data.class_names.len(), data.n_batches)
        };
        let mut store = Store::new(Seed(options.seed), device);
        Model::new(&mut store, &architecture, genes, heads);
        let table = steps::take_over(data.checkpoint.as_ref(), &store, run)?;
        if data.checkpoint.is_none() {
            start_vectors(data, &store, Seed(options.seed))?;
            run.note("gene vectors start from the principal components of the training cells");
        }
        store.freeze(|name| options.freeze.applies(name));
        let tokenizer = new_tokenizer(options, data, architecture.input_emb_style);
        Ok(Self {
            architecture,
            genes,
            heads,
            store,
            tokenizer,
            table,
        })
    }

    pub fn train(
        &mut self,
        options: &Options,
        data: &Data,
        work: &Path,
        run: &mut Run,
    ) -> Result<()> {
        let class_weights = options.class_weights.then(|| balanced(data));
        let plan = self.plan(options, data, run);
        let new = data.checkpoint.is_none();
        let objective = Annotation {
            cells: &data.counts,
            tokenizer: &self.tokenizer,
            classes: &data.classes,
            batches: data.batches.as_deref(),
            class_weights: class_weights.as_deref(),
            weights: &options.weights,
            gene_dropout: options
                .weights
                .gene_dropout
                .unwrap_or(if new { 0.5 } else { 0.0 }),
            label_smoothing: options
                .weights
                .label_smoothing
                .unwrap_or(if new { 0.1 } else { 0.0 }),
            architecture: &self.architecture,
            genes: self.genes,
            heads: self.heads,
            seed: Seed(options.seed),
            device: self.store.device(),
        };
        let examples = InMemory {
            example: |cell, epoch| objective.example(cell, epoch),
            groups: None,
            training: data.split.training.clone(),
            validation: data.split.validation.clone(),
            seed: Seed(options.seed),
        };
        let fit = Fit {
            plan: &plan,
            seed: Seed(options.seed),
            threads: run.threads(),
            device: self.store.device(),
            ranks: &Alone,
            folder: work.to_owned(),
            fingerprint: fingerprint(options, run),
        };
        let mut watch = Watch::new(plan.epochs, data.split.training.len() as u64, run);
        let outcome = fit.run(&objective, &examples, &mut self.store, &mut watch)?;
        watch::report(&outcome, run)
    }

    /// The options of training with nothing left open, which is said.
    fn plan(&self, options: &Options, data: &Data, run: &mut Run) -> Plan {
        let cells = data.split.training.len() as u64;
        let usual = match data.checkpoint {
            Some(_) => Usual {
                epochs: 10,
                learning_rate: 1e-4,
                dropout: self.architecture.dropout,
            },
            None => Usual {
                epochs: (CELLS_SHOWN / cells).clamp(8, 60),
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        };
        watch::settle(&options.training, usual, run)
    }

    /// Class probabilities of some cells, in their order.
    pub fn predict(&self, data: &Data, cells: &[usize], threads: usize) -> Vec<Vec<f32>> {
        let build =
            |store: &mut Store| Model::new(store, &self.architecture, self.genes, self.heads);
        let mut workers = Workers::new(&self.store, threads, build);
        // Cells are tokenised under the numbers they have in the file, as in training.
        workers.rows_of(
            (&self.tokenizer, &data.counts, cells),
            predict::annotation::probabilities,
        )
    }

    pub fn write(
        &self,
        options: &Options,
        data: &Data,
        work: &Path,
        (mut files, run): (Vec<(String, Vec<u8>)>, &Run),
    ) -> Result<()> {
        let settings = Settings {
            format: Settings::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            task: Settings::TASK.into(),
            classes: data.class_names.clone(),
            genes: data.genes.clone(),
            tokens: self.tokenizer.settings().clone(),
            seed: options.seed,
            fingerprint: fingerprint(options, run),
        };
        let mut arguments = data
            .checkpoint
            .as_ref()
            .map_or_else(Map::new, |checkpoint| checkpoint.arguments.clone());
        arguments.insert("n_classes".into(), json!(data.class_names.len()));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        files.extend(steps::training_files(self.table.as_ref(), work)?);
        let contents = write::Contents {
            state: &weights::state(&self.store),
            architecture: &self.architecture,
            arguments: &arguments,
            vocabulary: &data.vocabulary,
            files: &files,
        };
        Ok(write::write(&options.output, contents, write::Form::OWN)?)
    }
}

/// Starts the vectors of the genes at what the training cells say of them.
fn start_vectors(data: &Data, store: &Store, seed: Seed) -> Result<()> {
    let chosen = gene_vectors::some(&data.split.training, seed);
    let mut counts = data.counts.select_cells(&chosen);
    if data.is_linear {
        normalise_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    let id = |gene: &String| i64::from(data.vocabulary.id(gene).unwrap_or(0));
    let ids: Vec<i64> = data.genes.iter().map(id).collect();
    let cells = counts.to_dense().mapv(f64::from);
    gene_vectors::start_from_components(&cells, &ids, store, seed)
}

fn new_tokenizer(options: &Options, data: &Data, style: InputStyle) -> Tokenizer {
    // As a factor, 0 would leave nothing of `<cls>`.
    let cls_value = if style == InputStyle::Scaling {
        1.0
    } else {
        0.0
    };
    let settings = tokens::Settings {
        options: options.tokens.clone(),
        cls: data.vocabulary.cls().map(i64::from),
        cls_value,
        values: options.values(),
    };
    let ids = data
        .genes
        .iter()
        .filter_map(|gene| data.vocabulary.id(gene));
    Tokenizer::new(settings, ids.map(i64::from).collect(), Seed(options.seed))
}

/// Weights that give every class the same total among the training cells.
fn balanced(data: &Data) -> Vec<f32> {
    let classes = data.classes_of(&data.split.training);
    let count = |class| classes.iter().filter(|&&c| c == class).count().max(1);
    let share = classes.len() as f32 / data.class_names.len() as f32;
    (0..data.class_names.len())
        .map(|class| share / count(class) as f32)
        .collect()
}
