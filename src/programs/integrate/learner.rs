//! Training of the model, cell embeddings and imputation.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Axis};
use serde_json::{Map, json};
use tch::{Device, Kind, Tensor, no_grad};

use super::data::Data;
use super::reading::Reader;
use super::{NewBatch, Options, Sampling, fingerprint};
use crate::cells::cohort::ModalityKind;
use crate::checkpoint::{Architecture, Checkpoint, write};
use crate::distributed::SingleProcess;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::file_format;
use crate::model::{Genes, Heads, Inputs, Model, Moments, Noise, Store, weights};
use crate::predict::Workers;
use crate::predict::integration::{self as integrated, Cell, Settings};
use crate::predict::settings::TaskSettings;
use crate::programs::training_progress::{self, ProgressObserver};
use crate::programs::{gene_vectors, steps};
use crate::random::Seed;
use crate::run_record::Run;
use crate::split::Split;
use crate::train::integration::Integration;
use crate::train::{Defaults, Fit, Groups, InMemory, Plan};

/// Training budget of a model from scratch, in cells over all epochs. Several modalities need a larger budget than one; training
/// beyond it reduces batch mixing.
const TRAINING_BUDGET_CELLS: u64 = 10_000;
const TRAINING_BUDGET_CELLS_MULTIMODAL: u64 = 20_000;
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;

/// The model being trained or applied.
pub struct Learner {
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
    pub reader: Reader,
    table: Option<weights::Table>,
}

impl Learner {
    pub fn build(options: &Options, data: &Data, device: Device, run: &mut Run) -> Result<Self> {
        let architecture = match &data.checkpoint {
            Some(checkpoint) => checkpoint.architecture.clone(),
            None => options.size.architecture(
                options.training.dropout.unwrap_or(DROPOUT),
                options.tokens.n_bins,
                options.tokens.max_length,
            ),
        };
        let genes = Genes {
            rows: data.vocabulary.len() as i64,
            pad: data.vocabulary.pad().map(i64::from),
        };
        let heads = heads(options, data);
        let mut store = Store::new(Seed(options.seed), device);
        Model::new(&mut store, &architecture, genes, heads);
        let table = steps::load_pretrained_weights(data.checkpoint.as_ref(), &store, run)?;
        let reader = Reader::new(options, data, &architecture, &heads);
        let learner = Self {
            architecture,
            genes,
            heads,
            store,
            reader,
            table,
        };
        if data.settings.is_none() {
            learner.start_vectors(options, data, run)?;
        }
        learner.add_batches(options, data, run);
        Ok(learner)
    }

    /// Initializes embeddings of features without checkpoint from the cells.
    fn start_vectors(&self, options: &Options, data: &Data, run: &mut Run) -> Result<()> {
        let seed = Seed(options.seed);
        let cells = dense(data, &gene_vectors::some(&data.placed(), seed))?;
        let tokens: Vec<&String> = data.parts.iter().flat_map(|part| &part.tokens).collect();
        let id = |token: &&String| i64::from(data.vocabulary.id(token).unwrap_or(0));
        let ids: Vec<i64> = tokens.iter().map(id).collect();
        let Some(checkpoint) = &data.checkpoint else {
            gene_vectors::start_from_components(&cells, &ids, &self.store, seed)?;
            run.note("gene embeddings are initialized with principal components of the cells");
            return Ok(());
        };
        let is_known = |at: &usize| checkpoint.vocabulary.id(tokens[*at]).is_some();
        let (known, new): (Vec<usize>, Vec<usize>) = (0..tokens.len()).partition(is_known);
        gene_vectors::start_from_nearest(&cells, (&known, &new), &ids, &self.store)?;
        if !new.is_empty() {
            run.note(format!(
                "{} features have no embedding in the checkpoint and are initialized with the mean of correlated genes",
                new.len()
            ));
        }
        Ok(())
    }

    /// Sets the DSBN statistics of batches that the model was not trained on.
    fn add_batches(&self, options: &Options, data: &Data, run: &mut Run) {
        let known = data.known_batches();
        let new = known..data.batch_names.len();
        if self.heads.domain_norm.is_none() || new.is_empty() {
            return;
        }
        for batch in new {
            for name in ["running_mean", "running_var"] {
                let tensor = |n: usize| {
                    let tensor = self.store.tensor(&format!("dsbn.bns.{n}.{name}"));
                    tensor.expect("a norm for every batch").shallow_clone()
                };
                let all: Vec<Tensor> = (0..known).map(tensor).collect();
                let mean = Tensor::stack(&all, 0).mean_dim(0, false, Kind::Float);
                no_grad(|| tensor(batch).copy_(&mean));
            }
            if options.new_batch == NewBatch::Own {
                self.measure(data, batch as i64);
            }
            let statistics = match options.new_batch {
                NewBatch::Mean => "the mean statistics of the training batches",
                NewBatch::Own => "its own statistics",
            };
            run.note(format!(
                "batch `{}` was not trained on: its tokens are normalized by {statistics}",
                data.batch_names[batch]
            ));
        }
    }

    /// Computes the statistics of a batch from its own cells.
    fn measure(&self, data: &Data, batch: i64) {
        let model = Model::new(
            &mut self.store.share(),
            &self.architecture,
            self.genes,
            self.heads,
        );
        let own: Vec<usize> = data
            .placed()
            .into_iter()
            .filter(|&cell| data.batches[cell] == batch)
            .collect();
        let mut sum: Option<Moments> = None;
        for cells in own.chunks(64) {
            let cells: Vec<Cell> = cells
                .iter()
                .map(|&cell| self.reader.cell(data, cell, &|_| true))
                .collect();
            let inputs = self.inputs(&cells);
            let found = no_grad(|| model.moments(&inputs, &mut Noise::off()));
            sum = match (sum, found) {
                (Some(sum), Some(found)) => Some(sum + found),
                (sum, found) => sum.or(found),
            };
        }
        sum.iter().for_each(|moments| model.set_moments(moments));
    }

    fn inputs(&self, cells: &[Cell]) -> Inputs {
        integrated::inputs(cells, self.reader.has_modality_tokens, self.store.device())
    }

    pub fn train(
        &mut self,
        options: &Options,
        data: &Data,
        work: &Path,
        run: &mut Run,
    ) -> Result<()> {
        let placed = data.placed();
        let (training, validation) = split(options, data, &placed);
        let plan = self.plan(options, data, training.len() as u64, run);
        let objective = Integration {
            weights: &options.weights,
            architecture: &self.architecture,
            genes: self.genes,
            heads: self.heads,
            device: self.store.device(),
        };
        let reader = &self.reader;
        let examples = InMemory {
            example: |cell, epoch| reader.example(options, data, cell, epoch),
            groups: grouping(options.sampling, data),
            training,
            validation,
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
        let mut watch = ProgressObserver::new(plan.epochs, examples.training.len() as u64, run);
        let mut store = self.store.share();
        let outcome = fit.run(&objective, &examples, &mut store, &mut watch)?;
        training_progress::report(&outcome, run)
    }

    /// Training options with all defaults resolved and reported.
    fn plan(&self, options: &Options, data: &Data, cells: u64, run: &mut Run) -> Plan {
        let usual = match data.checkpoint {
            Some(_) => Defaults {
                epochs: 15,
                learning_rate: 1e-4,
                dropout: self.architecture.dropout,
            },
            None => Defaults {
                epochs: match data.parts.len() {
                    0 | 1 => (TRAINING_BUDGET_CELLS / cells.max(1)).clamp(5, 30),
                    _ => (TRAINING_BUDGET_CELLS_MULTIMODAL / cells.max(1)).clamp(5, 60),
                },
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        };
        training_progress::resolve(&options.training, usual, run)
    }

    /// Whether the model has an MVC (GEPC) decoder, which predicts values from a cell embedding.
    pub fn has_mvc_decoder(&self) -> bool {
        self.heads.cell_expression
    }

    /// Loads the weights written by an earlier run with the same fingerprint.
    pub fn reload(&mut self, model: &Path, run: &mut Run) -> Result<()> {
        run.note(format!("`{}` is complete already", model.display()));
        let written = Checkpoint::open(model)?;
        Ok(weights::load(&self.store, &written.state).require_all()?)
    }

    fn workers(&self, threads: usize) -> Workers {
        Workers::new(&self.store, threads, |store| {
            Model::new(store, &self.architecture, self.genes, self.heads)
        })
    }

    /// Embeddings of length 1 of cells, `[cells, embedding dimension]`.
    pub fn embed(&self, data: &Data, cells: &[usize], threads: usize) -> Array2<f64> {
        let reader = &self.reader;
        let how = (cells.len(), reader.has_modality_tokens);
        let rows = integrated::embed(&mut self.workers(threads), how, |i| {
            reader.cell(data, cells[i], &|_| true)
        });
        let width = self.architecture.embsize;
        let values = rows.into_iter().flatten().map(f64::from).collect();
        Array2::from_shape_vec((cells.len(), width), values).expect("an embedding for every cell")
    }

    /// Predicts all features of one modality from the other modalities of each cell, `[cells, features]`.
    pub fn predict(
        &self,
        data: &Data,
        part: usize,
        cells: &[usize],
        threads: usize,
    ) -> Array2<f64> {
        let features = &data.parts[part].features;
        let nothing: (&[u32], &[f32]) = (&[], &[]);
        let mut query = self.reader.tokenizer.cls_token();
        let all = self
            .reader
            .tokenizer
            .features(part, (0, nothing), 0, features.len());
        query.tokens.genes.extend(all.tokens.genes);
        query.tokens.values.extend(all.tokens.values);
        query.kinds.extend(all.kinds);
        let reader = &self.reader;
        let how = (cells.len(), reader.has_modality_tokens);
        let rows = integrated::predict(&mut self.workers(threads), how, &query, |i| {
            reader.cell(data, cells[i], &|other| other != part)
        });
        let values = rows.into_iter().flatten().map(f64::from).collect();
        Array2::from_shape_vec((cells.len(), features.len()), values)
            .expect("a value for every feature")
    }

    pub fn write(
        &self,
        options: &Options,
        data: &Data,
        (path, work): (&Path, &Path),
        run: &Run,
    ) -> Result<()> {
        let modalities = &self.reader.tokenizer.modalities;
        let settings = Settings {
            statement: file_format::MODEL.statement(),
            task: Settings::TASK.into(),
            batches: data.batch_names.clone(),
            features: data.features(),
            tokens: modalities
                .iter()
                .map(|m| m.tokenizer.settings().clone())
                .collect(),
            budgets: modalities.iter().map(|m| m.budget).collect(),
            kinds: if self.reader.has_modality_tokens {
                self.reader.kinds.clone()
            } else {
                Vec::new()
            },
            seed: data
                .settings
                .as_ref()
                .map_or(options.seed, |known| known.seed),
            fingerprint: fingerprint(options, run),
        };
        let checkpoint = data.checkpoint.as_ref();
        let mut arguments = checkpoint.map_or_else(Map::new, |c| c.arguments.clone());
        arguments.insert("num_batch_labels".into(), json!(data.batch_names.len()));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        let files = steps::training_files(self.table.as_ref(), work)?;
        let contents = write::Contents {
            state: &weights::state(&self.store),
            architecture: &self.architecture,
            arguments: &arguments,
            vocabulary: &data.vocabulary,
            files: &files,
        };
        Ok(write::write(path, contents, write::Form::OWN)?)
    }
}

/// The heads of the model: the stored ones if it is only applied, or those that training needs.
fn heads(options: &Options, data: &Data) -> Heads {
    let stored = data.checkpoint.as_ref().map(|c| Heads::of(&c.heads));
    let batches = data.batch_names.len();
    if let (Some(stored), true) = (stored, options.zero_shot) {
        return match data.settings {
            // New batches have a norm only; see `Reader::input_batch`.
            Some(_) => Heads {
                classes: None,
                batches: None,
                domain_norm: stored.domain_norm.map(|_| batches),
                ..stored
            },
            None => Heads {
                plain_norm: stored.plain_norm,
                ..Heads::NONE
            },
        };
    }
    let several = (batches > 1).then_some(batches);
    let modalities = (data.parts.len() > 1).then_some(data.parts.len() + 3);
    let domain_norm = several.filter(|_| options.domain_norm);
    Heads {
        expression: options.weights.gep_weight > 0.0,
        cell_expression: options.weights.gepc_weight > 0.0,
        zero_probability: options.weights.zero_weight > 0.0,
        batches: Some(Reader::origins(data))
            .filter(|origins| *origins > 1 && options.weights.dar_weight > 0.0),
        batch_labels: several.filter(|_| options.batch_labels),
        domain_norm,
        modalities,
        conditioned_query: modalities.is_some(),
        plain_norm: domain_norm.is_none() && stored.is_some_and(|stored| stored.plain_norm),
        ..Heads::NONE
    }
}

/// Training cells, and validation cells.
fn split(options: &Options, data: &Data, placed: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let split = Split::stratified(
        placed,
        &data.batches,
        0.0,
        options.validation_fraction,
        Seed(options.seed),
    );
    (split.training, split.validation)
}

/// Groups of cells that share no minibatch, by the sampling option.
fn grouping(sampling: Sampling, data: &Data) -> Option<Groups> {
    match sampling {
        Sampling::Mixed => None,
        Sampling::ByBatch => Some(Groups::shuffled(data.batches.clone())),
        Sampling::Sequential => Some(Groups::in_order(data.batches.clone())),
    }
}

/// Log-normalized values of some cells in all modalities, centered within batches and scaled to the same variance per modality,
/// `[cells, features]`; unmeasured values are at the mean.
fn dense(data: &Data, cells: &[usize]) -> Result<Array2<f64>> {
    let mut blocks = Vec::new();
    for part in &data.parts {
        let mut counts = part.counts.select_cells(cells);
        if part.kind != ModalityKind::Protein {
            normalize_total(&mut counts, Target::Sum(1e4))?;
            log1p(&mut counts)?;
        }
        let mut block = counts.to_dense().mapv(f64::from);
        for batch in 0..data.batch_names.len() as i64 {
            let own = |at: &usize| data.batches[cells[*at]] == batch && part.measured[cells[*at]];
            let rows: Vec<usize> = (0..cells.len()).filter(own).collect();
            if let Some(mean) = block.select(Axis(0), &rows).mean_axis(Axis(0)) {
                rows.iter().for_each(|&row| {
                    let mut row = block.row_mut(row);
                    row -= &mean;
                });
            }
        }
        let spread = block.iter().map(|value| value * value).sum::<f64>() / cells.len() as f64;
        if data.parts.len() > 1 && spread > 0.0 {
            block /= spread.sqrt();
        }
        blocks.push(block);
    }
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    Ok(ndarray::concatenate(Axis(1), &views)?)
}
