//! Cell type prediction with a fine-tuned model.

use crate::checkpoint::{Architecture, Checkpoint};
use crate::file_format::Statement;
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::random::Seed;
use crate::tokens::{Settings as TokenSettings, Tokenizer};
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::{Workers, settings};

/// Settings for prediction, stored with weights, architecture and vocabulary in `args.json` under `scgpt_tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(flatten)]
    pub statement: Statement,
    pub task: String,
    /// Names of the classes, in the order of the classifier's outputs.
    pub classes: Vec<String>,
    /// Genes that the model reads.
    pub genes: Vec<String>,
    pub tokens: TokenSettings,
    /// Seed of both-sided binning and of sampled genes.
    pub seed: u64,
    /// Fingerprint of the options and input files that the model was trained with.
    pub fingerprint: String,
}

impl settings::TaskSettings for Settings {
    const TASK: &'static str = "annotation";
    const PROGRAM: &'static str = "scgpt-finetune-annotation";

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Why a directory is not a model for cell type annotation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Weights(#[from] weights::Incomplete),
}

/// A model that predicts cell types.
pub struct CellTypePredictor {
    pub settings: Settings,
    pub vocabulary: Vocabulary,
    /// Vocabulary ids of the genes in the settings.
    ids: Vec<i64>,
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
}

impl CellTypePredictor {
    /// Loads an open checkpoint; no weight may be missing.
    pub fn load(checkpoint: Checkpoint, device: Device) -> Result<Self, Error> {
        let settings: Settings = settings::require(&checkpoint)?;
        let ids = settings::gene_ids(&settings.genes, &checkpoint)?;
        let genes = super::genes(&checkpoint);
        let heads = Heads::of(&checkpoint.heads);
        let mut store = Store::new(Seed(0), device);
        Model::new(&mut store, &checkpoint.architecture, genes, heads);
        weights::load(&store, &checkpoint.state).require_all()?;
        let Checkpoint {
            architecture,
            vocabulary,
            ..
        } = checkpoint;
        Ok(Self {
            settings,
            ids,
            vocabulary,
            architecture,
            genes,
            heads,
            store,
        })
    }

    fn tokenizer(&self) -> Tokenizer {
        let seed = Seed(self.settings.seed);
        Tokenizer::new(self.settings.tokens.clone(), self.ids.clone(), seed)
    }

    /// A tokenizer of the model's genes and its model on every thread.
    pub fn start(&self, threads: usize) -> (Tokenizer, Workers) {
        let tokenizer = self.tokenizer();
        let build =
            |store: &mut Store| Model::new(store, &self.architecture, self.genes, self.heads);
        (tokenizer, Workers::new(&self.store, threads, build))
    }
}

/// Class probabilities of the cells that were encoded, `[cells, classes]`.
pub fn probabilities(model: &Model, encoded: &crate::model::Encoded) -> tch::Tensor {
    let classifier = model
        .classifier
        .as_ref()
        .expect("an annotation model has a classifier");
    classifier.forward(&encoded.cells).softmax(-1, Kind::Float)
}
