//! Inference: cell embeddings, cell types, generation, integration and perturbation responses.
//!
//! On a CPU every cell passes through the model alone, on one thread, and threads process different cells: no padding, and
//! results that cannot depend on minibatch, chunk or thread count.

pub mod annotation;
pub mod attention;
pub mod generation;
pub mod integration;
pub mod perturbation;
mod pretrained;
pub mod settings;

pub use annotation::CellTypePredictor;
pub use pretrained::{Pretrained, embeddings, gene_vectors, normalized};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::directory::PRETRAINING_KEY;
use crate::counts::Counts;
use crate::model::{Encoded, Genes, Inputs, Model, Noise, OutputTokens, Store};
use crate::tokens::conditions::Conditions;
use crate::tokens::{Tokenizer, Tokens};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Tensor, no_grad};

/// A model on every thread.
pub struct Workers {
    models: Vec<Model>,
    device: Device,
    /// Condition of every gene, by id, for models that were trained with conditions.
    conditions: Option<Vec<i64>>,
}

/// Cells per minibatch on a GPU.
const GPU_MINIBATCH: usize = 64;

impl Workers {
    /// `build` makes the model on a store that shares the weights.
    pub fn new(store: &Store, threads: usize, build: impl Fn(&mut Store) -> Model) -> Self {
        let threads = if store.device() == Device::Cpu {
            threads.max(1)
        } else {
            1
        };
        let models = (0..threads).map(|_| build(&mut store.share())).collect();
        Self {
            models,
            device: store.device(),
            conditions: None,
        }
    }

    /// Also passes the condition of every gene to the models.
    #[must_use]
    pub fn with_conditions(self, conditions: Option<Vec<i64>>) -> Self {
        Self { conditions, ..self }
    }

    /// Applies `read` to the encoder output of each cell and returns a row of numbers per cell.
    ///
    /// `first` is the index of the first cell in its file: with the seed it fixes the cells' random choices.
    pub fn rows(
        &mut self,
        (tokenizer, cells, first): (&Tokenizer, &Counts, u64),
        read: impl Fn(&Model, &Encoded) -> Tensor + Sync,
    ) -> Vec<Vec<f32>> {
        let tokens = |cell: usize| {
            let (columns, values) = cells.row(cell);
            tokenizer.tokens(first + cell as u64, columns, values)
        };
        self.run(cells.n_cells(), tokens, read)
    }

    /// The same for chosen cells of a whole file.
    pub fn rows_of(
        &mut self,
        (tokenizer, cells, chosen): (&Tokenizer, &Counts, &[usize]),
        read: impl Fn(&Model, &Encoded) -> Tensor + Sync,
    ) -> Vec<Vec<f32>> {
        let tokens = |i: usize| {
            let (columns, values) = cells.row(chosen[i]);
            tokenizer.tokens(chosen[i] as u64, columns, values)
        };
        self.run(chosen.len(), tokens, read)
    }

    fn run(
        &mut self,
        n: usize,
        tokens: impl Fn(usize) -> Tokens + Sync,
        read: impl Fn(&Model, &Encoded) -> Tensor + Sync,
    ) -> Vec<Vec<f32>> {
        let size = self.minibatch();
        let (device, conditions) = (self.device, self.conditions.clone());
        let rows = self.each(n.div_ceil(size), |model, i| {
            let cells: Vec<Tokens> = (i * size..n.min((i + 1) * size)).map(&tokens).collect();
            let genes = cells.iter().flat_map(|cell| &cell.genes);
            let inputs = Inputs {
                conditions: conditions_of(conditions.as_deref(), genes, device),
                ..Inputs::new(
                    cells.iter().map(|cell| (&cell.genes[..], &cell.values[..])),
                    device,
                )
            };
            let encode = || model.encode(&inputs, OutputTokens::First, &mut Noise::off());
            to_rows(&no_grad(|| read(model, &encode())))
        });
        rows.concat()
    }

    /// Runs `work` on each of `n` cells separately, as the model reads it; results in order.
    pub fn each_cell<R: Send>(
        &mut self,
        n: usize,
        tokens: impl Fn(usize) -> Tokens + Sync,
        work: impl Fn(&Model, &Inputs, &Tokens) -> R + Sync,
    ) -> Vec<R> {
        let (device, conditions) = (self.device, self.conditions.clone());
        self.each(n, |model, i| {
            let cell = tokens(i);
            let inputs = Inputs {
                conditions: conditions_of(conditions.as_deref(), cell.genes.iter(), device),
                ..Inputs::new([(&cell.genes[..], &cell.values[..])].into_iter(), device)
            };
            work(model, &inputs, &cell)
        })
    }

    /// Cells per minibatch.
    fn minibatch(&self) -> usize {
        if self.device == Device::Cpu {
            1
        } else {
            GPU_MINIBATCH
        }
    }

    fn device(&self) -> Device {
        self.device
    }

    /// Runs `work` `n` times, with a model for each thread; results in order.
    pub fn each<R: Send>(&mut self, n: usize, work: impl Fn(&Model, usize) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<R>>> = (0..n).map(|_| Mutex::new(None)).collect();
        let run = |model: &mut Model| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(result) = results.get(i) else { break };
                *result.lock().expect("no worker panicked") = Some(work(model, i));
            }
        };
        std::thread::scope(|scope| {
            for model in &mut self.models {
                let run = &run;
                scope.spawn(move || run(model));
            }
        });
        let done = |result: Mutex<Option<R>>| result.into_inner().expect("no worker panicked");
        let results = results.into_iter().map(done);
        results
            .map(|result| result.expect("every task ran"))
            .collect()
    }
}

/// A matrix of numbers, row by row.
pub fn to_rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    Vec::try_from(tensor.to_device(Device::Cpu).to_kind(tch::Kind::Float))
        .expect("a matrix of floats")
}

/// Conditions of tokens as the third input of a model.
fn conditions_of<'g>(
    by_id: Option<&[i64]>,
    genes: impl Iterator<Item = &'g i64>,
    device: Device,
) -> Option<Tensor> {
    let ids: Vec<i64> = genes
        .map(|&gene| by_id.map_or(0, |by_id| by_id[gene as usize]))
        .collect();
    by_id.map(|_| Tensor::from_slice(&ids).to_device(device))
}

/// Conditions of genes that a checkpoint was pre-trained with.
pub fn conditions(checkpoint: &Checkpoint) -> Option<Conditions> {
    let stored = checkpoint
        .arguments
        .get(PRETRAINING_KEY)?
        .get("conditions")?;
    serde_json::from_value(stored.clone()).ok()
}

/// The same by gene id.
fn conditions_by_id(checkpoint: &Checkpoint) -> Option<Vec<i64>> {
    Some(conditions(checkpoint)?.by_id(&checkpoint.vocabulary))
}

/// The gene embedding table of a checkpoint.
pub fn genes(checkpoint: &Checkpoint) -> Genes {
    Genes {
        rows: checkpoint.embedding_rows() as i64,
        pad: checkpoint.vocabulary.pad().map(i64::from),
    }
}
