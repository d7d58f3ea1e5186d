//! Cell type annotation objective: classification of the `<cls>` token, with the other objectives of scGPT as optional weighted
//! terms (docs/methods.md, "Annotation" and "Losses").

use super::contrastive;
use super::objective::{At, ForwardOutput, Objective, Term, Totals};
use crate::checkpoint::Architecture;
use crate::counts::Counts;
use crate::model::{Encoded, Genes, Heads, Inputs, Model, Noise, OutputTokens, Store, losses};
use crate::random::{self, Seed, Stream};
use crate::tokens::{Tokenizer, Tokens, masking};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Weights of the objectives; an objective of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Weights {
    /// Weight of cell type classification (cross-entropy); 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub cls_weight: f64,
    /// Weight of gene expression prediction (GEP): masked values are predicted from the other genes; 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gep_weight: f64,
    /// Weight of gene expression prediction from the cell embedding (GEPC, called MVC in scGPT in Python); 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gepc_weight: f64,
    /// Weight of contrastive cell embedding (CCE): two dropout views of a cell are pulled together, other cells of the minibatch
    /// pushed apart; 0 disables it. scGPT in Python uses 10.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub cce_weight: f64,
    /// Weight of elastic cell similarity (ECS): embeddings of similar cells are pulled together, others pushed apart; 0 disables
    /// it. scGPT in Python uses 10.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub ecs_weight: f64,
    /// Cosine similarity above which two cells count as similar (ECS).
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ecs_threshold: f64,
    /// Weight of domain adaptation by reverse backpropagation (DAR): an adversarial loss that removes batch effects; 0 disables
    /// it. Needs --batch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub dar_weight: f64,
    /// Fraction of the expression values of a cell to mask and predict (GEP and GEPC).
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub mask_ratio: f64,
    /// Fraction of the tokens of a cell to drop, a new random choice in every epoch. Reduces overfitting and training time.
    /// Default: 0 with a pre-trained model, 0.5 from scratch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub gene_dropout: Option<f64>,
    /// Label smoothing of cell type classification. Default: 0 with a pre-trained model, 0.1 from scratch.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub label_smoothing: Option<f64>,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            cls_weight: 1.0,
            gep_weight: 0.0,
            gepc_weight: 0.0,
            cce_weight: 0.0,
            ecs_weight: 0.0,
            ecs_threshold: 0.3,
            dar_weight: 0.0,
            mask_ratio: 0.15,
            gene_dropout: None,
            label_smoothing: None,
        }
    }
}

impl Weights {
    fn masks(&self) -> bool {
        self.gep_weight > 0.0 || self.gepc_weight > 0.0
    }

    fn embedding_losses(&self) -> contrastive::EmbeddingLosses {
        contrastive::EmbeddingLosses {
            cce: self.cce_weight,
            ecs: self.ecs_weight,
            threshold: self.ecs_threshold,
        }
    }

    /// The output heads that these objectives need.
    pub fn heads(&self, classes: usize, batches: usize) -> Heads {
        Heads {
            classes: Some(classes),
            expression: self.gep_weight > 0.0,
            cell_expression: self.gepc_weight > 0.0,
            batches: (self.dar_weight > 0.0).then_some(batches),
            ..Heads::default()
        }
    }
}

/// The annotation objective over labeled cells.
pub struct Annotation<'a> {
    pub cells: &'a Counts,
    pub tokenizer: &'a Tokenizer,
    /// Class of every cell; batch of every cell, if batches are used.
    pub classes: &'a [i64],
    pub batches: Option<&'a [i64]>,
    pub class_weights: Option<&'a [f32]>,
    pub weights: &'a Weights,
    /// Fraction of a cell's genes dropped in every epoch.
    pub gene_dropout: f64,
    pub label_smoothing: f64,
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub seed: Seed,
    pub device: Device,
}

/// One cell, masked.
pub struct Example {
    pub genes: Vec<i64>,
    pub values: Vec<f32>,
    pub targets: Vec<f32>,
    /// 1 where the value is masked, else 0.
    pub masked: Vec<f32>,
    pub class: i64,
    pub batch: i64,
}

impl Objective for Annotation<'_> {
    type Example = Example;
    type Model = Model;

    fn model(&self, store: &mut Store) -> Model {
        Model::new(store, self.architecture, self.genes, self.heads)
    }

    fn totals(&self, examples: &[Example]) -> Totals {
        let masked = examples
            .iter()
            .flat_map(|example| &example.masked)
            .map(|&m| f64::from(m))
            .sum();
        let weight = |example: &Example| {
            self.class_weights
                .map_or(1.0, |w| f64::from(w[example.class as usize]))
        };
        Totals {
            cells: examples.len() as f64,
            masked,
            class_weight: examples.iter().map(weight).sum(),
            queries: 0.0,
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        at: At<'_>,
        noise: &mut Noise,
    ) -> ForwardOutput {
        let totals = at.totals;
        let batch = Batch::new(shard, self.device);
        let wanted = if self.weights.gep_weight > 0.0 {
            OutputTokens::All
        } else {
            OutputTokens::First
        };
        let encoded = model.encode(&batch.inputs, wanted, noise);
        let mut part = ForwardOutput::default();
        let (term, correct) = self.classify(model, &batch, &encoded, totals);
        part.terms.push(term);
        part.tallies.push(("accuracy", correct));
        part.terms
            .extend(self.reconstruct(model, &batch, &encoded, totals));
        if let Some(discriminator) = &model.discriminator {
            let scale = (totals.cells, self.weights.dar_weight);
            part.terms.push(contrastive::adversary(
                discriminator,
                &encoded.cells,
                &batch.batches,
                scale,
            ));
        }
        if self.weights.cce_weight > 0.0 {
            part.embeddings.push(
                model
                    .encode(&batch.inputs, OutputTokens::First, noise)
                    .cells,
            );
        }
        if self.has_batch_loss() {
            part.embeddings.insert(0, encoded.cells);
        }
        part
    }

    fn has_batch_loss(&self) -> bool {
        self.weights.embedding_losses().any()
    }

    fn batch_loss(&self, embeddings: &[Tensor]) -> Vec<Term> {
        self.weights.embedding_losses().terms(embeddings)
    }
}

impl Annotation<'_> {
    /// The example made of a cell in an epoch, or for validation: a function of the two and the seed alone.
    pub fn example(&self, cell: usize, epoch: Option<u64>) -> Example {
        let (columns, values) = self.cells.row(cell);
        let mut tokens = self.tokenizer.tokens(cell as u64, columns, values);
        if let Some(epoch) = epoch.filter(|_| self.gene_dropout > 0.0) {
            let mut stream = self.seed.stream("gene dropout", &[epoch, cell as u64]);
            tokens = thinned(&tokens, self.gene_dropout, &mut stream);
        }
        let mut masked = vec![0.0; tokens.len()];
        let mut values = tokens.values.clone();
        if self.weights.masks() {
            // Validation masks are the same in every epoch; 0 is theirs, epochs count from 1.
            let mut stream = self
                .seed
                .stream("mask", &[epoch.map_or(0, |epoch| epoch + 1), cell as u64]);
            // `<cls>` is never masked: its value carries no information on the cell (docs/methods.md, "Masking").
            let eligible: Vec<usize> = (1..tokens.len()).collect();
            let chosen = masking::choose(&eligible, self.weights.mask_ratio, &mut stream);
            masking::apply(&mut values, &chosen, self.architecture.mask_value as f32);
            chosen.iter().for_each(|&at| masked[at] = 1.0);
        }
        let class = self.classes[cell];
        let batch = self.batches.map_or(0, |batches| batches[cell]);
        Example {
            genes: tokens.genes,
            values,
            targets: tokens.values,
            masked,
            class,
            batch,
        }
    }

    /// The classification loss, and the number of correct predictions.
    fn classify(
        &self,
        model: &Model,
        batch: &Batch,
        encoded: &Encoded,
        totals: &Totals,
    ) -> (Term, f64) {
        let classifier = model.classifier.as_ref();
        let scores = classifier
            .expect("annotation has a classifier")
            .forward(&encoded.cells);
        let class_weights = self
            .class_weights
            .map(|w| Tensor::from_slice(w).to_device(self.device));
        let sum = losses::cross_entropy(
            &scores,
            &batch.classes,
            class_weights.as_ref(),
            self.label_smoothing,
        );
        let correct = scores.argmax(-1, false).eq_tensor(&batch.classes);
        let term = Term {
            name: "cls",
            value: sum / totals.class_weight,
            weight: self.weights.cls_weight,
        };
        (term, correct.sum(Kind::Int64).int64_value(&[]) as f64)
    }

    /// The losses of masked values, predicted from the other genes (GEP) and from the cell embedding (GEPC).
    fn reconstruct(
        &self,
        model: &Model,
        batch: &Batch,
        encoded: &Encoded,
        totals: &Totals,
    ) -> Vec<Term> {
        if totals.masked == 0.0 {
            return Vec::new();
        }
        let term = |name, weight, predicted: &Tensor| {
            let sum = losses::squared_error(predicted, &batch.targets, &batch.masked);
            Term {
                name,
                value: sum / totals.masked,
                weight,
            }
        };
        let from_genes = model.predict_expression(encoded, &batch.inputs);
        let from_genes =
            from_genes.map(|(values, _)| term("gep", self.weights.gep_weight, &values));
        let from_cell = model.predict_from_cell(encoded, &batch.inputs);
        let from_cell =
            from_cell.map(|(values, _)| term("gepc", self.weights.gepc_weight, &values));
        from_genes.into_iter().chain(from_cell).collect()
    }
}

/// The tokens without a random fraction of the genes; `<cls>` stays.
fn thinned(tokens: &Tokens, fraction: f64, stream: &mut Stream) -> Tokens {
    let kept: Vec<usize> = (0..tokens.len())
        .filter(|&at| at == 0 || random::uniform(stream) >= fraction)
        .collect();
    tokens.select(&kept)
}

/// Examples as tensors.
struct Batch {
    inputs: Inputs,
    targets: Tensor,
    masked: Tensor,
    classes: Tensor,
    batches: Tensor,
}

impl Batch {
    fn new(shard: &[Example], device: Device) -> Self {
        fn joined<T: tch::kind::Element + Copy>(
            shard: &[Example],
            part: impl Fn(&Example) -> &[T],
        ) -> Tensor {
            Tensor::from_slice(
                &shard
                    .iter()
                    .flat_map(|example| part(example).iter().copied())
                    .collect::<Vec<_>>(),
            )
        }
        let per_cell = |part: fn(&Example) -> i64| {
            Tensor::from_slice(&shard.iter().map(part).collect::<Vec<_>>())
        };
        Self {
            inputs: Inputs::new(shard.iter().map(|e| (&e.genes[..], &e.values[..])), device),
            targets: joined(shard, |e| &e.targets).to_device(device),
            masked: joined(shard, |e| &e.masked).to_device(device),
            classes: per_cell(|e| e.class).to_device(device),
            batches: per_cell(|e| e.batch).to_device(device),
        }
    }
}
