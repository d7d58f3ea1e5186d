//! Integration model: cell embeddings across batches and modalities, and imputation of missing modalities.

use super::{Workers, settings};
use crate::file_format::Statement;
use crate::model::{Encoded, Inputs, Model, Noise, OutputTokens};
use crate::tokens::Settings as TokenSettings;
use crate::tokens::modalities::TokenSequence;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

/// Settings stored with weights, architecture and vocabulary in `args.json` under `scgpt_tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(flatten)]
    pub statement: Statement,
    pub task: String,
    /// Names of the batches, in the order of their numbers.
    pub batches: Vec<String>,
    /// Modalities and the features that are read of each.
    pub features: Vec<Features>,
    pub tokens: Vec<TokenSettings>,
    pub budgets: Vec<usize>,
    /// Names of the token types, in the order of their numbers; none for models without modality tokens.
    pub kinds: Vec<String>,
    pub seed: u64,
    /// Fingerprint of the options and input files that the model was trained with.
    pub fingerprint: String,
}

/// The features that are read of a modality, and their tokens in the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    pub kind: String,
    pub features: Vec<String>,
    pub tokens: Vec<String>,
}

impl settings::TaskSettings for Settings {
    const TASK: &'static str = "integration";
    const PROGRAM: &'static str = "scgpt-integrate";

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// A cell as a model of batches and modalities reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    pub sequence: TokenSequence,
    /// Batch that conditions the decoders, and batch whose statistics normalize the tokens (DSBN).
    pub batch: i64,
    pub domain: i64,
}

/// Cells as tensors.
pub fn inputs(cells: &[Cell], with_modalities: bool, device: Device) -> Inputs {
    let kinds: Vec<i64> = cells
        .iter()
        .flat_map(|cell| cell.sequence.kinds.iter().copied())
        .collect();
    let tokens = cells.iter().map(|cell| &cell.sequence.tokens);
    Inputs {
        batches: Some(cells.iter().map(|cell| cell.batch).collect()),
        domains: Some(cells.iter().map(|cell| cell.domain).collect()),
        modalities: with_modalities.then(|| Tensor::from_slice(&kinds).to_device(device)),
        ..Inputs::new(
            tokens.map(|tokens| (&tokens.genes[..], &tokens.values[..])),
            device,
        )
    }
}

/// Embeddings of length 1 of `n` cells.
pub fn embed(
    workers: &mut Workers,
    (n, with_modalities): (usize, bool),
    cell: impl Fn(usize) -> Cell + Sync,
) -> Vec<Vec<f32>> {
    let (size, device) = (workers.minibatch(), workers.device());
    let rows = workers.each(n.div_ceil(size), |model, i| {
        let cells: Vec<Cell> = (i * size..n.min((i + 1) * size)).map(&cell).collect();
        let inputs = inputs(&cells, with_modalities, device);
        let vectors = no_grad(|| encode(model, &inputs));
        super::to_rows(&super::pretrained::normalized(&vectors))
    });
    rows.concat()
}

/// Values of features predicted from the embeddings of `n` cells, `[cells, features]`; cells are given without the modality
/// to predict, the features follow a `<cls>`.
pub fn predict(
    workers: &mut Workers,
    (n, with_modalities): (usize, bool),
    features: &TokenSequence,
    cell: impl Fn(usize) -> Cell + Sync,
) -> Vec<Vec<f32>> {
    let device = workers.device();
    workers.each(n, |model, i| {
        let cell = cell(i);
        let query = Cell {
            sequence: features.clone(),
            ..cell.clone()
        };
        no_grad(|| {
            let encoded = encode(model, &inputs(&[cell], with_modalities, device));
            let query = inputs(&[query], with_modalities, device);
            let encoded = Encoded {
                genes: model.gene_embeddings(&query.gene_ids),
                ..encoded
            };
            let predicted = model.predict_from_cell(&encoded, &query);
            let (values, _) = predicted.expect("an integration model has an MVC (GEPC) decoder");
            let values = values.to_device(Device::Cpu).to_kind(Kind::Float);
            Vec::try_from(values.slice(0, 1, None, 1)).expect("a vector of numbers")
        })
    })
}

fn encode(model: &Model, inputs: &Inputs) -> Encoded {
    model.encode(inputs, OutputTokens::First, &mut Noise::off())
}
