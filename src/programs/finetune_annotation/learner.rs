//! Model of `scgpt-finetune-annotation`: construction, training, prediction and output.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, json};
use tch::Device;

use super::data::Data;
use super::{Options, fingerprint};
use crate::checkpoint::{Architecture, InputStyle, write};
use crate::distributed::SingleProcess;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::file_format;
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::predict::{self, Workers, annotation::Settings, settings::TaskSettings};
use crate::programs::training_progress::{self, ProgressObserver};
use crate::programs::{gene_vectors, steps};
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer};
use crate::train::annotation::Annotation;
use crate::train::{Defaults, Fit, InMemory, Plan};

/// Training budget of a model from scratch: cells over all epochs.
const TRAINING_BUDGET_CELLS: u64 = 60_000;
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
        let table = steps::load_pretrained_weights(data.checkpoint.as_ref(), &store, run)?;
        if data.checkpoint.is_none() {
            initialize_embeddings(data, &store, Seed(options.seed))?;
            run.note(
                "gene embeddings are initialized from principal components of the training cells",
            );
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
            ranks: &SingleProcess,
            folder: work.to_owned(),
            fingerprint: fingerprint(options, run),
        };
        let mut observer =
            ProgressObserver::new(plan.epochs, data.split.training.len() as u64, run);
        let outcome = fit.run(&objective, &examples, &mut self.store, &mut observer)?;
        training_progress::report(&outcome, run)
    }

    /// Training options with all defaults filled in; prints them.
    fn plan(&self, options: &Options, data: &Data, run: &mut Run) -> Plan {
        let cells = data.split.training.len() as u64;
        let defaults = match data.checkpoint {
            Some(_) => Defaults {
                epochs: 10,
                learning_rate: 1e-4,
                dropout: self.architecture.dropout,
            },
            None => Defaults {
                epochs: (TRAINING_BUDGET_CELLS / cells).clamp(8, 60),
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        };
        training_progress::resolve(&options.training, defaults, run)
    }

    /// Class probabilities of some cells, in their order.
    pub fn predict(&self, data: &Data, cells: &[usize], threads: usize) -> Vec<Vec<f32>> {
        let build =
            |store: &mut Store| Model::new(store, &self.architecture, self.genes, self.heads);
        let mut workers = Workers::new(&self.store, threads, build);
        // Cells are tokenized under their index in the file, as in training.
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
            statement: file_format::MODEL.statement(),
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

/// Initializes the gene embeddings from the training cells.
fn initialize_embeddings(data: &Data, store: &Store, seed: Seed) -> Result<()> {
    let chosen = gene_vectors::some(&data.split.training, seed);
    let mut counts = data.counts.select_cells(&chosen);
    if data.is_linear {
        normalize_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    let id = |gene: &String| i64::from(data.vocabulary.id(gene).unwrap_or(0));
    let ids: Vec<i64> = data.genes.iter().map(id).collect();
    let cells = counts.to_dense().mapv(f64::from);
    gene_vectors::start_from_components(&cells, &ids, store, seed)
}

fn new_tokenizer(options: &Options, data: &Data, style: InputStyle) -> Tokenizer {
    // With value scaling, 0 would erase the embedding of `<cls>`.
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

/// Class weights that give every class the same total weight among the training cells.
fn balanced(data: &Data) -> Vec<f32> {
    let classes = data.classes_of(&data.split.training);
    let count = |class| classes.iter().filter(|&&c| c == class).count().max(1);
    let target = classes.len() as f32 / data.class_names.len() as f32;
    (0..data.class_names.len())
        .map(|class| target / count(class) as f32)
        .collect()
}
