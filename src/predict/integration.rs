//! A trained integration model: what its directory says, and what it makes of cells of several batches and modalities.

use super::{Workers, settings};
use crate::model::{Encoded, Inputs, Model, Noise, Width};
use crate::tokens::Settings as TokenSettings;
use crate::tokens::modalities::Sentence;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

/// What the program needs to know beside weights, architecture and vocabulary; kept in `args.json` under `scgpt_tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub format: u32,
    pub version: String,
    pub task: String,
    /// Names of the batches, in the order of their numbers.
    pub batches: Vec<String>,
    /// Modalities and the features that are read of each.
    pub features: Vec<Features>,
    pub tokens: Vec<TokenSettings>,
    pub budgets: Vec<usize>,
    /// Names of the kinds of tokens, in the order of their numbers; none for models that do not tell modalities apart.
    pub kinds: Vec<String>,
    pub seed: u64,
    /// Stands for the options and input files that the model was made from.
    pub fingerprint: String,
}

/// The features that are read of a modality, and their words in the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    pub kind: String,
    pub features: Vec<String>,
    pub tokens: Vec<String>,
}

impl settings::OfTask for Settings {
    const TASK: &'static str = "integration";
    const FORMAT: u32 = 1;
    const PROGRAM: &'static str = "scgpt-integrate";

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// A cell as a model of batches and modalities reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    pub sentence: Sentence,
    /// Batch that the expression heads are told, and that whose statistics normalise the tokens.
    pub batch: i64,
    pub domain: i64,
}

/// Cells as tensors.
pub fn inputs(cells: &[Cell], with_modalities: bool, device: Device) -> Inputs {
    let kinds: Vec<i64> = cells
        .iter()
        .flat_map(|cell| cell.sentence.kinds.iter().copied())
        .collect();
    let tokens = cells.iter().map(|cell| &cell.sentence.tokens);
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
        super::to_rows(&super::pretrained::normalised(&vectors))
    });
    rows.concat()
}

/// The values of features as the embeddings of `n` cells tell them, `[cells, features]`; the cell is given without the modality
/// that is asked for, the features follow a `<cls>`.
pub fn tell(
    workers: &mut Workers,
    (n, with_modalities): (usize, bool),
    questions: &Sentence,
    cell: impl Fn(usize) -> Cell + Sync,
) -> Vec<Vec<f32>> {
    let device = workers.device();
    workers.each(n, |model, i| {
        let cell = cell(i);
        let asked = Cell {
            sentence: questions.clone(),
            ..cell.clone()
        };
        no_grad(|| {
            let encoded = encode(model, &inputs(&[cell], with_modalities, device));
            let asked = inputs(&[asked], with_modalities, device);
            let encoded = Encoded {
                genes: model.gene_vectors(&asked.gene_ids),
                ..encoded
            };
            let told = model.tell_from_cell(&encoded, &asked);
            let (values, _) = told.expect("an integration model tells values from a cell");
            let values = values.to_device(Device::Cpu).to_kind(Kind::Float);
            Vec::try_from(values.slice(0, 1, None, 1)).expect("a vector of numbers")
        })
    })
}

fn encode(model: &Model, inputs: &Inputs) -> Encoded {
    model.encode(inputs, Width::FirstToken, &mut Noise::off())
}
