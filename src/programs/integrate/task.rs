//! Integration as a training task.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Axis};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor, no_grad};

use super::data::Data;
use super::reading::Reader;
use super::{NewBatch, Options, Sampling};
use crate::cells::cohort::ModalityKind;
use crate::checkpoint::Checkpoint;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::file_format;
use crate::model::{Heads, Moments, Noise, Store};
use crate::predict::integration::{self as integrated, Cell, Settings};
use crate::predict::settings::{self, TaskSettings};
use crate::programs::gene_vectors;
use crate::random::Seed;
use crate::run_record::Run;
use crate::split::Split;
use crate::train::integration::Integration;
use crate::train::{self, Defaults, Groups, InMemory};
use crate::trainer::{Files, Fitting, Network, Shape, Task, Trained};
use crate::vocabulary::Vocabulary;

/// Training budget of a model from scratch, in cells over all epochs. Several modalities need a larger budget than one; training
/// beyond it reduces batch mixing.
const TRAINING_BUDGET_CELLS: u64 = 10_000;
const TRAINING_BUDGET_CELLS_MULTIMODAL: u64 = 20_000;
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;

impl Task for Options {
    type Data = Data;
    type Reader = Reader;
    type Fitted = ();

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
            Some(checkpoint) => checkpoint.architecture.clone(),
            None => {
                let tokens = &self.tokens;
                let size = &self.size;
                size.architecture(dropout, tokens.n_bins, tokens.max_length)
            }
        };
        Shape::new(architecture, &data.vocabulary, heads(self, data))
    }

    fn prepare(&self, data: &Data, network: &Network, run: &mut Run) -> Result<Reader> {
        let shape = &network.shape;
        let reader = Reader::new(self, data, &shape.architecture, &shape.heads);
        if data.settings.is_none() {
            initialize_embeddings(self, data, &network.store, run)?;
        }
        let trained = Trained {
            data,
            reader: &reader,
            network,
        };
        add_batches(self, trained, run);
        Ok(reader)
    }

    fn defaults(&self, data: &Data, _: &Reader) -> Defaults {
        let cells = split(self, data).0.len() as u64;
        match &data.checkpoint {
            Some(checkpoint) => Defaults {
                epochs: 15,
                learning_rate: 1e-4,
                dropout: checkpoint.architecture.dropout,
            },
            None => Defaults {
                epochs: match data.parts.len() {
                    0 | 1 => (TRAINING_BUDGET_CELLS / cells.max(1)).clamp(5, 30),
                    _ => (TRAINING_BUDGET_CELLS_MULTIMODAL / cells.max(1)).clamp(5, 60),
                },
                learning_rate: 1e-3,
                dropout: DROPOUT,
            },
        }
    }

    fn fit(&self, trained: Trained<'_, Self>, fitting: Fitting<'_>, run: &mut Run) -> Result<()> {
        let Trained {
            data,
            reader,
            network,
        } = trained;
        let (training, validation) = split(self, data);
        let objective = Integration {
            weights: &self.weights,
            architecture: &network.shape.architecture,
            genes: network.shape.genes,
            heads: network.shape.heads,
            device: network.device(),
        };
        let examples = InMemory {
            example: |cell, epoch| reader.example(self, data, cell, epoch),
            groups: grouping(self.sampling, data),
            training,
            validation,
            seed: Seed(self.seed),
        };
        fitting.run(network, (&objective, &examples), run)?;
        Ok(())
    }

    fn test(&self, _: Trained<'_, Self>, (): (), _: &Path, _: &mut Run) -> Result<Files> {
        Ok(Files::new())
    }

    fn is_written(model: &Path, fingerprint: &str) -> bool {
        settings::is_written::<Settings>(model, fingerprint)
    }

    fn arguments(
        &self,
        Trained { data, reader, .. }: Trained<'_, Self>,
        fingerprint: String,
    ) -> Result<Map<String, Value>> {
        let modalities = &reader.tokenizer.modalities;
        let known = data.settings.as_ref();
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
            kinds: if reader.has_modality_tokens {
                reader.kinds.clone()
            } else {
                Vec::new()
            },
            seed: known.map_or(self.seed, |known| known.seed),
            fingerprint,
        };
        let checkpoint = data.checkpoint.as_ref();
        let mut arguments = checkpoint.map_or_else(Map::new, |c| c.arguments.clone());
        arguments.insert("num_batch_labels".into(), json!(data.batch_names.len()));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        Ok(arguments)
    }
}

/// Embeddings of length 1 of cells, `[cells, embedding dimension]`.
pub fn embed(trained: Trained<'_, Options>, cells: &[usize], threads: usize) -> Array2<f64> {
    let Trained {
        data,
        reader,
        network,
    } = trained;
    let shape = (cells.len(), reader.has_modality_tokens);
    let rows = integrated::embed(&mut network.workers(threads), shape, |i| {
        reader.cell(data, cells[i], &|_| true)
    });
    let dim = network.shape.architecture.embsize;
    let values = rows.into_iter().flatten().map(f64::from).collect();
    Array2::from_shape_vec((cells.len(), dim), values).expect("an embedding for every cell")
}

/// Predicts all features of one modality from the other modalities of each cell, `[cells, features]`.
pub fn predict(
    trained: Trained<'_, Options>,
    part: usize,
    cells: &[usize],
    threads: usize,
) -> Array2<f64> {
    let Trained {
        data,
        reader,
        network,
    } = trained;
    let features = &data.parts[part].features;
    let nothing: (&[u32], &[f32]) = (&[], &[]);
    let mut query = reader.tokenizer.cls_token();
    let all = reader
        .tokenizer
        .features(part, (0, nothing), 0, features.len());
    query.tokens.genes.extend(all.tokens.genes);
    query.tokens.values.extend(all.tokens.values);
    query.kinds.extend(all.kinds);
    let shape = (cells.len(), reader.has_modality_tokens);
    let rows = integrated::predict(&mut network.workers(threads), shape, &query, |i| {
        reader.cell(data, cells[i], &|other| other != part)
    });
    let values = rows.into_iter().flatten().map(f64::from).collect();
    Array2::from_shape_vec((cells.len(), features.len()), values).expect("a value per feature")
}

/// Initializes embeddings of features without checkpoint from the cells.
fn initialize_embeddings(
    options: &Options,
    data: &Data,
    store: &Store,
    run: &mut Run,
) -> Result<()> {
    let seed = Seed(options.seed);
    let cells = dense(data, &gene_vectors::some(&data.placed(), seed))?;
    let tokens: Vec<&String> = data.parts.iter().flat_map(|part| &part.tokens).collect();
    let id = |token: &&String| i64::from(data.vocabulary.id(token).unwrap_or(0));
    let ids: Vec<i64> = tokens.iter().map(id).collect();
    let Some(checkpoint) = &data.checkpoint else {
        gene_vectors::start_from_components(&cells, &ids, store, seed)?;
        run.note("gene embeddings are initialized with principal components of the cells");
        return Ok(());
    };
    let is_known = |at: &usize| checkpoint.vocabulary.id(tokens[*at]).is_some();
    let (known, new): (Vec<usize>, Vec<usize>) = (0..tokens.len()).partition(is_known);
    gene_vectors::start_from_nearest(&cells, (&known, &new), &ids, store)?;
    if !new.is_empty() {
        run.note(format!(
            "{} features have no embedding in the checkpoint and are initialized with the mean of correlated genes",
            new.len()
        ));
    }
    Ok(())
}

/// Sets the DSBN statistics of batches that the model was not trained on.
fn add_batches(options: &Options, trained: Trained<'_, Options>, run: &mut Run) {
    let Trained { data, network, .. } = trained;
    let known = data.known_batches();
    let new = known..data.batch_names.len();
    if network.shape.heads.domain_norm.is_none() || new.is_empty() {
        return;
    }
    for batch in new {
        for name in ["running_mean", "running_var"] {
            let tensor = |n: usize| {
                let tensor = network.store.tensor(&format!("dsbn.bns.{n}.{name}"));
                tensor.expect("a norm for every batch").shallow_clone()
            };
            let all: Vec<Tensor> = (0..known).map(tensor).collect();
            let mean = Tensor::stack(&all, 0).mean_dim(0, false, Kind::Float);
            no_grad(|| tensor(batch).copy_(&mean));
        }
        if options.new_batch == NewBatch::Own {
            measure(trained, batch as i64);
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
fn measure(trained: Trained<'_, Options>, batch: i64) {
    let Trained {
        data,
        reader,
        network,
    } = trained;
    let model = network.shape.model(&mut network.store.share());
    let own: Vec<usize> = data
        .placed()
        .into_iter()
        .filter(|&cell| data.batches[cell] == batch)
        .collect();
    let mut sum: Option<Moments> = None;
    for cells in own.chunks(64) {
        let cells: Vec<Cell> = cells
            .iter()
            .map(|&cell| reader.cell(data, cell, &|_| true))
            .collect();
        let inputs = integrated::inputs(&cells, reader.has_modality_tokens, network.device());
        let found = no_grad(|| model.moments(&inputs, &mut Noise::off()));
        sum = match (sum, found) {
            (Some(sum), Some(found)) => Some(sum + found),
            (sum, found) => sum.or(found),
        };
    }
    sum.iter().for_each(|moments| model.set_moments(moments));
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
fn split(options: &Options, data: &Data) -> (Vec<usize>, Vec<usize>) {
    let split = Split::stratified(
        &data.placed(),
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
