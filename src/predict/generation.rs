//! Iterative generation of expression values: in each round the most confident predictions are fixed and condition the next
//! (paper, Methods, "Generative pretraining"; the original implementation has no code for it).

use super::{Workers, conditions_of};
use crate::checkpoint::{Architecture, Checkpoint};
use crate::model::{Genes, Heads, Inputs, Model, Noise, OutputTokens, SplitInputs, Store, weights};
use crate::random::Seed;
use crate::tokens::Tokens;
use crate::vocabulary::Vocabulary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

/// Confidence of a predicted value. The paper does not define it: a regression head gives no probability.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// 1 / (1 + s), where s is the standard deviation, in bins, of --n-samples predictions under dropout. Slower.
    Spread,
    /// 1 - 2 d, where d is the distance, in bins, to the nearest whole bin. As good or better on held-out cells, at no extra
    /// cost.
    #[default]
    BinDistance,
}

/// Settings of iterative generation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounds {
    pub count: u32,
    pub confidence: Confidence,
    /// Predictions under dropout whose spread is measured.
    pub samples: u32,
}

/// The prompt of a cell, and the genes to predict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// `<cls>`, and genes whose values are known.
    pub known: Tokens,
    /// An embedding used instead of `<cls>`.
    pub cell: Option<Vec<f32>>,
    /// Vocabulary ids of the genes to generate.
    pub targets: Vec<i64>,
}

/// For every target gene, its value in bins, its confidence, and the round, from 1, in which it was generated.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Generated {
    pub values: Vec<f32>,
    pub confidence: Vec<f32>,
    pub rounds: Vec<u32>,
}

/// Why a directory is not a model that can generate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{}` cannot generate: it has no {what}; take a model from `scgpt-pretrain` with `--task both` or `gen`, or a published pre-trained one",
        path.display()
    )]
    NotGenerative { path: PathBuf, what: &'static str },
    #[error(transparent)]
    Weights(#[from] weights::Incomplete),
}

/// A model that generates.
pub struct Generator {
    pub architecture: Architecture,
    pub vocabulary: Vocabulary,
    pub weights: weights::Table,
    pub method: Method,
    genes: Genes,
    heads: Heads,
    store: Store,
}

impl Generator {
    /// Takes the backbone, the flag of generated tokens and the expression head of an open checkpoint.
    pub fn new(checkpoint: Checkpoint, device: Device) -> Result<Self, Error> {
        let missing = |what| Error::NotGenerative {
            path: checkpoint.directory.clone(),
            what,
        };
        if !checkpoint.heads.flag_encoder {
            return Err(missing("flag for genes to generate (`flag_encoder`)"));
        }
        if !checkpoint.heads.expression {
            return Err(missing("expression head (`decoder`)"));
        }
        let heads = Heads {
            expression: true,
            generative: true,
            plain_norm: checkpoint.heads.batch_norm,
            conditions: checkpoint.heads.conditions,
            ..Heads::default()
        };
        let genes = super::genes(&checkpoint);
        let mut store = Store::new(Seed(0), device);
        Model::new(&mut store, &checkpoint.architecture, genes, heads);
        let weights = weights::load(&store, &checkpoint.state);
        weights.require_all()?;
        let dropout = checkpoint.architecture.dropout;
        Ok(Self {
            method: Method {
                n_bins: checkpoint.architecture.n_bins,
                // Without dropout all samples would be equal.
                dropout: if dropout > 0.0 { dropout } else { 0.1 },
                conditions: super::conditions_by_id(&checkpoint),
                device,
            },
            architecture: checkpoint.architecture,
            vocabulary: checkpoint.vocabulary,
            weights,
            genes,
            heads,
            store,
        })
    }

    /// The model on every thread.
    pub fn workers(&self, threads: usize) -> Workers {
        Workers::new(&self.store, threads, |store| {
            Model::new(store, &self.architecture, self.genes, self.heads)
        })
    }
}

/// Generation settings shared by the models of all threads.
#[derive(Debug, Clone)]
pub struct Method {
    n_bins: usize,
    dropout: f64,
    /// Condition of every gene, by id, as the model was trained to read them.
    conditions: Option<Vec<i64>>,
    device: Device,
}

impl Method {
    /// The cell embedding of a token sequence.
    pub fn embed(&self, model: &Model, tokens: &Tokens) -> Vec<f32> {
        let cell = std::iter::once((&tokens.genes[..], &tokens.values[..]));
        let inputs = Inputs {
            conditions: conditions_of(self.conditions.as_deref(), tokens.genes.iter(), self.device),
            ..Inputs::new(cell, self.device)
        };
        let encoded = no_grad(|| model.encode(&inputs, OutputTokens::First, &mut Noise::off()));
        to_vec(&encoded.cells.flatten(0, -1))
    }

    /// Generates the target genes. Each round fixes the most confident values: 1 / count of the genes. A fixed value never
    /// changes. `seed` and `cell` decide the dropout.
    pub fn generate(
        &self,
        model: &Model,
        query: &Query,
        rounds: Rounds,
        (seed, cell): (Seed, u64),
    ) -> Generated {
        let n = query.targets.len();
        let mut generated = Generated {
            values: vec![0.0; n],
            confidence: vec![0.0; n],
            rounds: vec![0; n],
        };
        let mut known = query.known.clone();
        let mut open: Vec<usize> = (0..n).collect();
        for round in 1..=rounds.count {
            if open.is_empty() {
                break;
            }
            let now = Query {
                known: known.clone(),
                cell: query.cell.clone(),
                targets: open.iter().map(|&at| query.targets[at]).collect(),
            };
            let values = self.predict(model, &now, &mut Noise::off());
            let confidence = self.confidence(model, &now, (&values, rounds), |sample| {
                let indices = [cell, u64::from(round), u64::from(sample)];
                Noise::new(self.dropout, seed, &indices)
            });
            let most_confident = most_confident(
                &confidence,
                open.len().div_ceil((rounds.count - round + 1) as usize),
            );
            for &at in &most_confident {
                let gene = open[at];
                generated.values[gene] = values[at];
                generated.confidence[gene] = confidence[at];
                generated.rounds[gene] = round;
                known.genes.push(query.targets[gene]);
                known.values.push(values[at]);
            }
            open.retain(|&gene| generated.rounds[gene] == 0);
        }
        generated
    }

    /// The values of the target genes, in one pass.
    pub fn predict(&self, model: &Model, query: &Query, noise: &mut Noise) -> Vec<f32> {
        let device = self.device;
        let known = std::iter::once((&query.known.genes[..], &query.known.values[..]));
        let targets = std::iter::once(&query.targets[..]);
        let inputs = SplitInputs {
            conditions: conditions_of(
                self.conditions.as_deref(),
                query.known.genes.iter().chain(&query.targets),
                device,
            ),
            ..SplitInputs::new(known, targets, device)
        };
        let cell = query
            .cell
            .as_ref()
            .map(|cell| Tensor::from_slice(cell).unsqueeze(0).to_device(device));
        let head = model
            .expression
            .as_ref()
            .expect("a generator has an expression head");
        let most = self.n_bins as f64 - 1.0;
        no_grad(|| {
            to_vec(
                &head
                    .forward(&model.generate(&inputs, cell.as_ref(), noise).hidden)
                    .clamp(0.0, most),
            )
        })
    }

    fn confidence(
        &self,
        model: &Model,
        query: &Query,
        (values, rounds): (&[f32], Rounds),
        noise: impl Fn(u32) -> Noise,
    ) -> Vec<f32> {
        if rounds.confidence == Confidence::BinDistance {
            return values
                .iter()
                .map(|value| 1.0 - 2.0 * (value - value.round()).abs())
                .collect();
        }
        let (mut sums, mut squares) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        for sample in 0..rounds.samples {
            for (at, value) in self
                .predict(model, query, &mut noise(sample))
                .into_iter()
                .enumerate()
            {
                sums[at] += f64::from(value);
                squares[at] += f64::from(value).powi(2);
            }
        }
        let n = f64::from(rounds.samples);
        let spread = |(sum, square): (&f64, &f64)| (square / n - (sum / n).powi(2)).max(0.0).sqrt();
        sums.iter()
            .zip(&squares)
            .map(|sums| (1.0 / (1.0 + spread(sums))) as f32)
            .collect()
    }
}

/// Positions of the `wanted` largest numbers; of equal ones the first.
fn most_confident(confidence: &[f32], wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..confidence.len()).collect();
    order.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]).then(a.cmp(&b)));
    order.truncate(wanted);
    order.sort_unstable();
    order
}

fn to_vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float)).expect("a vector of floats")
}
