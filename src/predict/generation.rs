//! Expression values generated in rounds: those the model is surest of become known, and help to tell the others (paper, Methods,
//! "Generative pretraining"; the reference has no code of it).

use super::{Workers, conditions_of};
use crate::checkpoint::{Architecture, Checkpoint};
use crate::model::{Genes, Heads, Inputs, Model, Noise, SplitInputs, Store, Width, weights};
use crate::random::Seed;
use crate::tokens::Tokens;
use crate::vocabulary::Vocabulary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

/// How sure the model is of a value. The paper leaves it open: a regression head gives no probability.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// 1 / (1 + s), where s is the standard deviation, in bins, of values told under random dropout.
    Spread,
    /// 1 - 2 d, where d is the distance, in bins, to the nearest whole bin. On held-out cells it served as well or better, at no
    /// cost.
    #[default]
    BinDistance,
}

/// How values are generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounds {
    pub count: u32,
    pub confidence: Confidence,
    /// Values told under dropout, of which the spread is taken.
    pub samples: u32,
}

/// What the model is told of a cell, and what it is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// `<cls>`, and genes whose values are known.
    pub known: Tokens,
    /// An embedding that takes the place of `<cls>`.
    pub cell: Option<Vec<f32>>,
    /// Vocabulary ids of the genes to generate.
    pub asked: Vec<i64>,
}

/// Of every gene that was asked for, its value in bins, how sure the model was, and in which round, from 1, it became known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
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
    /// Takes the trunk, the mark of generated tokens and the expression head of a checkpoint that was opened.
    pub fn new(checkpoint: Checkpoint, device: Device) -> Result<Self, Error> {
        let missing = |what| Error::NotGenerative {
            path: checkpoint.directory.clone(),
            what,
        };
        if !checkpoint.heads.flag_encoder {
            return Err(missing("mark for genes to generate (`flag_encoder`)"));
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
                // Without any, nothing would spread.
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

/// How a model on any thread generates.
#[derive(Debug, Clone)]
pub struct Method {
    n_bins: usize,
    dropout: f64,
    /// Condition of every gene, by id, as the model was trained to read them.
    conditions: Option<Vec<i64>>,
    device: Device,
}

impl Method {
    /// The embedding of a sentence.
    pub fn embed(&self, model: &Model, sentence: &Tokens) -> Vec<f32> {
        let cell = std::iter::once((&sentence.genes[..], &sentence.values[..]));
        let inputs = Inputs {
            conditions: conditions_of(
                self.conditions.as_deref(),
                sentence.genes.iter(),
                self.device,
            ),
            ..Inputs::new(cell, self.device)
        };
        let encoded = no_grad(|| model.encode(&inputs, Width::FirstToken, &mut Noise::off()));
        to_vec(&encoded.cells.flatten(0, -1))
    }

    /// Generates what is asked. In every round but the last, the 1 / count of the genes that the model is surest of become known
    /// with their values; a value that is known never changes. `seed` and `cell` decide the dropout.
    pub fn answer(
        &self,
        model: &Model,
        question: &Question,
        rounds: Rounds,
        (seed, cell): (Seed, u64),
    ) -> Answer {
        let n = question.asked.len();
        let mut answer = Answer {
            values: vec![0.0; n],
            confidence: vec![0.0; n],
            rounds: vec![0; n],
        };
        let mut known = question.known.clone();
        let mut open: Vec<usize> = (0..n).collect();
        for round in 1..=rounds.count {
            if open.is_empty() {
                break;
            }
            let now = Question {
                known: known.clone(),
                cell: question.cell.clone(),
                asked: open.iter().map(|&at| question.asked[at]).collect(),
            };
            let values = self.tell(model, &now, &mut Noise::off());
            let confidence = self.confidence(model, &now, (&values, rounds), |sample| {
                let indices = [cell, u64::from(round), u64::from(sample)];
                Noise::new(self.dropout, seed, &indices)
            });
            let surest = surest(
                &confidence,
                open.len().div_ceil((rounds.count - round + 1) as usize),
            );
            for &at in &surest {
                let gene = open[at];
                answer.values[gene] = values[at];
                answer.confidence[gene] = confidence[at];
                answer.rounds[gene] = round;
                known.genes.push(question.asked[gene]);
                known.values.push(values[at]);
            }
            open.retain(|&gene| answer.rounds[gene] == 0);
        }
        answer
    }

    /// The values of the genes asked for, in one pass.
    pub fn tell(&self, model: &Model, question: &Question, noise: &mut Noise) -> Vec<f32> {
        let device = self.device;
        let known = std::iter::once((&question.known.genes[..], &question.known.values[..]));
        let asked = std::iter::once(&question.asked[..]);
        let inputs = SplitInputs {
            conditions: conditions_of(
                self.conditions.as_deref(),
                question.known.genes.iter().chain(&question.asked),
                device,
            ),
            ..SplitInputs::new(known, asked, device)
        };
        let cell = question
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
        question: &Question,
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
                .tell(model, question, &mut noise(sample))
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

/// Positions of the largest numbers, so many; of equal ones the first.
fn surest(confidence: &[f32], wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..confidence.len()).collect();
    order.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]).then(a.cmp(&b)));
    order.truncate(wanted);
    order.sort_unstable();
    order
}

fn to_vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float)).expect("a vector of floats")
}
