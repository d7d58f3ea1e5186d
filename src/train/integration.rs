//! Integration objective: masked values of several batches and modalities are predicted from the other tokens and from the cell
//! embedding, with adversarial batch correction (docs/methods.md, "Integration" and "Losses").

use super::contrastive::{self, EmbeddingLosses};
use super::objective::{At, ForwardOutput, Objective, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{
    Encoded, Genes, Heads, Inputs, Model, Noise, OutputTokens, Predictions, Store, losses,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Weights of the objectives; an objective of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Weights {
    /// Weight of gene expression prediction (GEP): masked values are predicted from the other genes; 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gep_weight: f64,
    /// Weight of gene expression prediction from the cell embedding (GEPC, called MVC in scGPT in Python); 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gepc_weight: f64,
    /// Weight of the zero probability loss: GEP and GEPC also predict whether a masked value is zero; 0 disables it. Use with
    /// --include-zero-genes.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub zero_weight: f64,
    /// Weight of elastic cell similarity (ECS): embeddings of similar cells are pulled together, others pushed apart; 0 disables
    /// it. scGPT in Python uses 10.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub ecs_weight: f64,
    /// Cosine similarity above which two cells count as similar (ECS).
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ecs_threshold: f64,
    /// Weight of contrastive cell embedding (CCE): two dropout views of a cell are pulled together, other cells of the minibatch
    /// pushed apart; 0 disables it. scGPT in Python uses 10.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub cce_weight: f64,
    /// Weight of domain adaptation by reverse backpropagation (DAR): an adversarial loss that removes batch effects; 0 disables
    /// it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub dar_weight: f64,
    /// Fraction of the expression values of a cell to mask and predict (GEP and GEPC).
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub mask_ratio: f64,
    /// Also mask the value of the CLS token, as scGPT in Python does. It carries no information about the cell.
    #[arg(long, hide_short_help = true)]
    pub mask_cls: bool,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            gep_weight: 1.0,
            gepc_weight: 1.0,
            zero_weight: 0.0,
            ecs_weight: 0.0,
            ecs_threshold: 0.8,
            cce_weight: 0.0,
            dar_weight: 1.0,
            mask_ratio: 0.4,
            mask_cls: false,
        }
    }
}

impl Weights {
    fn embedding_losses(&self) -> EmbeddingLosses {
        EmbeddingLosses {
            cce: self.cce_weight,
            ecs: self.ecs_weight,
            threshold: self.ecs_threshold,
        }
    }
}

/// The integration objective.
pub struct Integration<'a> {
    pub weights: &'a Weights,
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub device: Device,
}

/// One cell with masked values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    pub genes: Vec<i64>,
    pub values: Vec<f32>,
    pub targets: Vec<f32>,
    /// 1 where the value is masked, else 0.
    pub masked: Vec<f32>,
    /// Modality of every token, for models with modality embeddings.
    pub modalities: Vec<i64>,
    /// Features that are predicted from the cell embedding only.
    pub query: Query,
    /// Batch on which the expression heads are conditioned.
    pub batch: i64,
    /// Class for the discriminator: the batch and, where cells lack modalities, which of them are in the input.
    pub origin: i64,
    /// Batch whose DSBN statistics normalize the tokens; another one only where the original implementation uses that of the
    /// first cell.
    pub domain: i64,
}

/// `<cls>`, then query features and their true values; empty if a run has no query features.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    pub genes: Vec<i64>,
    pub values: Vec<f32>,
    /// 1 where the value counts, else 0, as for `<cls>`.
    pub counted: Vec<f32>,
    pub modalities: Vec<i64>,
}

impl Objective for Integration<'_> {
    type Example = Example;
    type Model = Model;

    fn model(&self, store: &mut Store) -> Model {
        Model::new(store, self.architecture, self.genes, self.heads)
    }

    fn totals(&self, examples: &[Example]) -> Totals {
        let masked = examples.iter().flat_map(|example| &example.masked);
        let queries = examples.iter().flat_map(|example| &example.query.counted);
        Totals {
            cells: examples.len() as f64,
            masked: masked.map(|&m| f64::from(m)).sum(),
            class_weight: 0.0,
            queries: queries.map(|&c| f64::from(c)).sum(),
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        At {
            totals,
            batch_statistics,
            ..
        }: At<'_>,
        noise: &mut Noise,
    ) -> ForwardOutput {
        let batch = Batch::new(shard, self.device);
        let wanted = if self.weights.gep_weight > 0.0 {
            OutputTokens::All
        } else {
            OutputTokens::First
        };
        let encoded = model.encode_with(&batch.inputs, batch_statistics, wanted, noise);
        let mut part = ForwardOutput::default();
        self.predict(model, &batch, &encoded, (totals, &mut part.terms));
        if let Some(discriminator) = &model.discriminator {
            let scale = (totals.cells, self.weights.dar_weight);
            part.terms.push(contrastive::adversary(
                discriminator,
                &encoded.cells,
                &batch.origins,
                scale,
            ));
        }
        if self.weights.cce_weight > 0.0 {
            let again =
                model.encode_with(&batch.inputs, batch_statistics, OutputTokens::First, noise);
            part.embeddings.push(again.cells);
        }
        if self.has_batch_loss() {
            part.embeddings.insert(0, encoded.cells);
        }
        part
    }

    fn has_batch_statistics(&self) -> bool {
        self.heads.domain_norm.is_some()
    }

    fn batch_statistics(
        &self,
        model: &Model,
        shard: &[Example],
        noise: &mut Noise,
    ) -> Option<Tensor> {
        model.moments(&Batch::new(shard, self.device).inputs, noise)
    }

    fn update_running_statistics(&self, model: &Model, batch_statistics: &Tensor) {
        model.learn_moments(batch_statistics);
    }

    fn has_batch_loss(&self) -> bool {
        self.weights.embedding_losses().any()
    }

    fn batch_loss(&self, embeddings: &[Tensor]) -> Vec<Term> {
        self.weights.embedding_losses().terms(embeddings)
    }
}

impl Integration<'_> {
    /// The losses of masked values, predicted from the other tokens and from the cell embedding, and of query features.
    fn predict(
        &self,
        model: &Model,
        batch: &Batch,
        encoded: &Encoded,
        (totals, terms): (&Totals, &mut Vec<Term>),
    ) {
        let Weights {
            gep_weight,
            gepc_weight,
            zero_weight,
            ..
        } = *self.weights;
        let masked = (&batch.targets, &batch.masked, totals.masked);
        let from_genes = (totals.masked > 0.0 && gep_weight > 0.0)
            .then(|| model.predict_expression(encoded, &batch.inputs))
            .flatten();
        let from_cell = (totals.masked > 0.0 && gepc_weight > 0.0)
            .then(|| model.predict_from_cell(encoded, &batch.inputs))
            .flatten();
        terms.extend(
            from_genes.iter().flat_map(|found| {
                errors(found, masked, ["gep", "zero"], [gep_weight, zero_weight])
            }),
        );
        terms.extend(from_cell.iter().flat_map(|found| {
            let names = ["gepc", "gepc_zero"];
            errors(found, masked, names, [gepc_weight, zero_weight])
        }));
        if let Some(queries) = batch.queries.as_ref().filter(|_| totals.queries > 0.0) {
            let found = model.predict_from_cell(&queries.encoded(model, encoded), &queries.inputs);
            let targets = (&queries.inputs.values, &queries.counted, totals.queries);
            let names = ["gepc_query", "gepc_query_zero"];
            terms.extend(
                found
                    .iter()
                    .flat_map(|found| errors(found, targets, names, [gepc_weight, zero_weight])),
            );
        }
    }
}

/// The squared error of predicted values and, if the model predicts zero probabilities, their negative log-likelihood.
fn errors(
    (values, nonzero): &Predictions,
    (targets, counted, total): (&Tensor, &Tensor, f64),
    names: [&'static str; 2],
    weights: [f64; 2],
) -> Vec<Term> {
    let mut terms = vec![Term {
        name: names[0],
        value: losses::squared_error(values, targets, counted) / total,
        weight: weights[0],
    }];
    if let Some(nonzero) = nonzero.as_ref().filter(|_| weights[1] > 0.0) {
        terms.push(Term {
            name: names[1],
            value: losses::zero_log_likelihood(nonzero, targets, counted) / total,
            weight: weights[1],
        });
    }
    terms
}

/// Examples as tensors.
struct Batch {
    inputs: Inputs,
    targets: Tensor,
    masked: Tensor,
    origins: Tensor,
    queries: Option<QueryFeatures>,
}

/// Features that are predicted from the cell embeddings only.
struct QueryFeatures {
    /// The query features as tokens of their cells.
    inputs: Inputs,
    counted: Tensor,
}

impl Batch {
    fn new(shard: &[Example], device: Device) -> Self {
        let joined = |part: fn(&Example) -> &[f32]| {
            Tensor::from_slice(&shard.iter().flat_map(part).copied().collect::<Vec<_>>())
                .to_device(device)
        };
        let batches: Vec<i64> = shard.iter().map(|e| e.batch).collect();
        let origins: Vec<i64> = shard.iter().map(|e| e.origin).collect();
        let kinds = |part: fn(&Example) -> &[i64]| {
            let kinds: Vec<i64> = shard.iter().flat_map(part).copied().collect();
            (!kinds.is_empty()).then(|| Tensor::from_slice(&kinds).to_device(device))
        };
        let with_batches = |cells: Inputs, modalities: Option<Tensor>| Inputs {
            batches: Some(batches.clone()),
            domains: Some(shard.iter().map(|e| e.domain).collect()),
            modalities,
            ..cells
        };
        let inputs = Inputs::new(shard.iter().map(|e| (&e.genes[..], &e.values[..])), device);
        let queries = Inputs::new(
            shard
                .iter()
                .map(|e| (&e.query.genes[..], &e.query.values[..])),
            device,
        );
        let any = shard.iter().any(|e| !e.query.genes.is_empty());
        Self {
            inputs: with_batches(inputs, kinds(|e| &e.modalities)),
            targets: joined(|e| &e.targets),
            masked: joined(|e| &e.masked),
            queries: any.then(|| QueryFeatures {
                counted: joined(|e| &e.query.counted),
                inputs: with_batches(queries, kinds(|e| &e.query.modalities)),
            }),
            origins: Tensor::from_slice(&origins).to_device(device),
        }
    }
}

impl QueryFeatures {
    /// The query features as if they had been encoded with their cells.
    fn encoded(&self, model: &Model, encoded: &Encoded) -> Encoded {
        Encoded {
            genes: model.gene_embeddings(&self.inputs.gene_ids),
            hidden: encoded.hidden.shallow_clone(),
            cells: encoded.cells.shallow_clone(),
        }
    }
}
