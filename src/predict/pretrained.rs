//! Cell and gene embeddings of a pre-trained model (docs/methods.md, "Cell embedding").

use super::{Workers, annotation, settings};
use crate::cells::Columns;
use crate::checkpoint::{Architecture, Checkpoint};
use crate::counts::Counts;
use crate::model::{Encoded, Genes, Heads, Model, Store, weights};
use crate::random::Seed;
use crate::tokens::{Options, Settings, Tokenizer, Values};
use crate::vocabulary::Vocabulary;
use ndarray::Array2;
use std::collections::HashSet;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A model that computes cell embeddings.
pub struct Pretrained {
    pub architecture: Architecture,
    pub vocabulary: Vocabulary,
    /// Which weights of the checkpoint were loaded, and which were not.
    pub weights: weights::Table,
    /// Settings of a model trained by these programs, which override the options.
    pub settings: Option<annotation::Settings>,
    conditions: Option<Vec<i64>>,
    genes: Genes,
    heads: Heads,
    store: Store,
}

impl Pretrained {
    /// Loads a checkpoint directory, or a model by its name in one of the directories of `SCGPT_MODELS`.
    pub fn load(path_or_name: &Path, device: Device) -> anyhow::Result<Self> {
        Ok(Self::new(Checkpoint::open(path_or_name)?, device)?)
    }

    /// Takes the backbone of an open checkpoint; no weight of it may be missing.
    pub fn new(checkpoint: Checkpoint, device: Device) -> Result<Self, annotation::Error> {
        let settings: Option<annotation::Settings> = settings::read(&checkpoint)?;
        if let Some(settings) = &settings {
            settings::gene_ids(&settings.genes, &checkpoint)?;
        }
        let genes = super::genes(&checkpoint);
        let heads = Heads {
            plain_norm: checkpoint.heads.batch_norm,
            conditions: checkpoint.heads.conditions,
            ..Heads::default()
        };
        let conditions = super::conditions_by_id(&checkpoint);
        let mut store = Store::new(Seed(0), device);
        Model::new(&mut store, &checkpoint.architecture, genes, heads);
        let weights = weights::load(&store, &checkpoint.state);
        weights.require_all()?;
        let Checkpoint {
            architecture,
            vocabulary,
            ..
        } = checkpoint;
        Ok(Self {
            architecture,
            vocabulary,
            weights,
            settings,
            conditions,
            genes,
            heads,
            store,
        })
    }

    /// The given genes that the model reads, in the order of their tokens: that of training for a model trained by these
    /// programs, else the given one.
    pub fn genes_of(&self, given: &[String]) -> Vec<String> {
        let mut seen = HashSet::new();
        let known = |gene: &&String| self.vocabulary.gene_id(gene).is_some();
        match &self.settings {
            Some(settings) => {
                seen.extend(given);
                settings
                    .genes
                    .iter()
                    .filter(|gene| seen.contains(gene))
                    .cloned()
                    .collect()
            }
            None => given
                .iter()
                .filter(known)
                .filter(|gene| seen.insert(gene))
                .cloned()
                .collect(),
        }
    }

    /// The tokenizer of this model: with the settings of its training if it was trained by these programs, else with the given
    /// options.
    pub fn tokenizer(&self, options: &Options, genes: &[String], seed: Seed) -> Tokenizer {
        let published = || Settings {
            options: options.clone(),
            cls: self.vocabulary.cls().map(i64::from),
            cls_value: self.architecture.pad_value as f32,
            values: Values::Binned,
        };
        let settings = self
            .settings
            .as_ref()
            .map_or_else(published, |ours| ours.tokens.clone());
        let ids = genes
            .iter()
            .filter_map(|gene| self.vocabulary.id(gene))
            .map(i64::from);
        Tokenizer::new(settings, ids.collect(), seed)
    }

    /// The model on every thread.
    pub fn workers(&self, threads: usize) -> Workers {
        Workers::new(&self.store, threads, |store| {
            Model::new(store, &self.architecture, self.genes, self.heads)
        })
        .with_conditions(self.conditions.clone())
    }

    /// Embeds cells in memory whose columns have the given gene names: one vector of length 1 per cell, of the embedding dimension
    /// of the model. Genes outside the vocabulary are dropped; a cell without any gene left gets a vector of NaN.
    ///
    /// ```
    /// use scgpt_tools::{counts::Counts, predict::Pretrained};
    /// use std::path::Path;
    ///
    /// let model = Pretrained::load(Path::new("tests/data/embedding/checkpoint"), tch::Device::Cpu)?;
    /// let genes = ["GENE001", "GENE002", "ACTB"].map(String::from);
    /// let cells = Counts::from_rows(3, [vec![(0, 5.0), (1, 1.0)], vec![(1, 2.0), (2, 9.0)]]);
    /// let vectors = model.embed(&cells, &genes, &Default::default());
    /// assert_eq!((vectors.len(), vectors[0].len()), (2, model.architecture.embsize));
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    pub fn embed(&self, cells: &Counts, genes: &[String], options: &Options) -> Vec<Vec<f32>> {
        let wanted = self.genes_of(genes);
        let tokenizer = self.tokenizer(options, &wanted, Seed(0));
        let cells = Columns::new(genes, &wanted).apply(cells);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        embeddings(&mut self.workers(threads), (&tokenizer, &cells, 0))
    }
}

/// Static gene embeddings of a checkpoint of any task, `[tokens, embedding dimension]`: the gene encoder's output
/// (docs/methods.md, "Gene embeddings"). Names outside the vocabulary get the embedding of the first token.
pub fn gene_vectors(
    checkpoint: &Checkpoint,
    tokens: &[String],
    device: Device,
) -> Result<Array2<f32>, weights::Incomplete> {
    let mut store = Store::new(Seed(0), device);
    let genes = super::genes(checkpoint);
    let model = Model::new(&mut store, &checkpoint.architecture, genes, Heads::NONE);
    weights::load(&store, &checkpoint.state).require_all()?;
    let id = |token: &String| i64::from(checkpoint.vocabulary.id(token).unwrap_or(0));
    let ids: Vec<i64> = tokens.iter().map(id).collect();
    let ids = Tensor::from_slice(&ids).to_device(device);
    let rows = super::to_rows(&tch::no_grad(|| model.gene_embeddings(&ids)));
    let shape = (tokens.len(), checkpoint.architecture.embsize);
    Ok(Array2::from_shape_vec(shape, rows.concat()).expect("an embedding for every token"))
}

/// Cell embeddings of length 1; NaN for cells without genes.
pub fn embeddings(workers: &mut Workers, cells: (&Tokenizer, &Counts, u64)) -> Vec<Vec<f32>> {
    let mut rows = workers.rows(cells, |_, encoded| normalized(encoded));
    for (row, (_, values)) in rows.iter_mut().zip(cells.1.rows()) {
        if values.iter().all(|value| *value == 0.0) {
            row.fill(f32::NAN);
        }
    }
    rows
}

/// Cell embeddings `[cells, embedding dimension]` scaled to length 1.
pub fn normalized(encoded: &Encoded) -> Tensor {
    let cells = encoded.cells.to_kind(Kind::Float);
    &cells / cells.norm_scalaropt_dim(2.0, [-1], true).clamp_min(1e-12)
}
