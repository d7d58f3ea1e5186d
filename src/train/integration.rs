//! Learning one space for cells of many batches and modalities: hidden values are told from the other tokens and from the cell
//! embedding, which must not tell the batch (reference sections 11.2 and 11.3; losses of section 8).

use super::objective::{At, Objective, Part, Term, Totals};
use super::terms::{self, Between};
use crate::checkpoint::Architecture;
use crate::model::{Encoded, Genes, Heads, Inputs, Model, Noise, Store, Told, Width, losses};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Weights of the objectives; an objective of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Weights {
    /// Weight of telling hidden values from the other genes (GEP); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub gep_weight: f64,
    /// Weight of telling hidden values from the cell embedding alone (GEPC); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub gepc_weight: f64,
    /// Weight of telling, both ways, whether a hidden value is zero (with --include-zero-genes); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub zero_weight: f64,
    /// Weight of pulling similar cells together and pushing others apart (ECS; the reference uses 10); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub ecs_weight: f64,
    /// Similarity from which cells count as similar (ECS).
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ecs_threshold: f64,
    /// Weight of telling a cell from the others of its minibatch under other dropout (CCE; the reference uses 10); 0 leaves
    /// it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub cce_weight: f64,
    /// Weight of hiding the batch a cell comes from (DAR); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub dar_weight: f64,
    /// Share of a cell's values that are hidden and told.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub mask_ratio: f64,
    /// Hide the CLS token's value like any other, as the reference does; it says nothing about the cell.
    #[arg(long)]
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
    fn between(&self) -> Between {
        Between {
            cce: self.cce_weight,
            ecs: self.ecs_weight,
            threshold: self.ecs_threshold,
        }
    }
}

/// What is learnt from cells.
pub struct Integration<'a> {
    pub weights: &'a Weights,
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub device: Device,
}

/// One cell, some of its values hidden.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    pub genes: Vec<i64>,
    pub values: Vec<f32>,
    pub targets: Vec<f32>,
    /// 1 where the value is hidden, else 0.
    pub masked: Vec<f32>,
    /// Modality of every token, for models that tell them apart.
    pub modalities: Vec<i64>,
    /// Features whose values only the cell embedding is asked for.
    pub asked: Asked,
    /// Batch that the expression heads are told.
    pub batch: i64,
    /// What the discriminator looks for: the batch and, where cells lack modalities, which of them are told.
    pub origin: i64,
    /// Batch whose statistics normalise the tokens; another one only where the reference takes that of the first cell.
    pub domain: i64,
}

/// `<cls>`, then features and their true values; empty if no cell of a run is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
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
        let asked = examples.iter().flat_map(|example| &example.asked.counted);
        Totals {
            cells: examples.len() as f64,
            masked: masked.map(|&m| f64::from(m)).sum(),
            class_weight: 0.0,
            asked: asked.map(|&c| f64::from(c)).sum(),
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        At { totals, survey, .. }: At<'_>,
        noise: &mut Noise,
    ) -> Part {
        let batch = Batch::new(shard, self.device);
        let wanted = if self.weights.gep_weight > 0.0 {
            Width::AllTokens
        } else {
            Width::FirstToken
        };
        let encoded = model.encode_with(&batch.inputs, survey, wanted, noise);
        let mut part = Part::default();
        self.tell(model, &batch, &encoded, (totals, &mut part.terms));
        if let Some(discriminator) = &model.discriminator {
            let how_much = (totals.cells, self.weights.dar_weight);
            part.terms.push(terms::adversary(
                discriminator,
                &encoded.cells,
                &batch.origins,
                how_much,
            ));
        }
        if self.weights.cce_weight > 0.0 {
            let again = model.encode_with(&batch.inputs, survey, Width::FirstToken, noise);
            part.embeddings.push(again.cells);
        }
        if self.couples() {
            part.embeddings.insert(0, encoded.cells);
        }
        part
    }

    fn surveys(&self) -> bool {
        self.heads.domain_norm.is_some()
    }

    fn survey(&self, model: &Model, shard: &[Example], noise: &mut Noise) -> Option<Tensor> {
        model.moments(&Batch::new(shard, self.device).inputs, noise)
    }

    fn absorb(&self, model: &Model, survey: &Tensor) {
        model.learn_moments(survey);
    }

    fn couples(&self) -> bool {
        self.weights.between().any()
    }

    fn couple(&self, embeddings: &[Tensor]) -> Vec<Term> {
        self.weights.between().terms(embeddings)
    }
}

impl Integration<'_> {
    /// The losses of hidden values, told from the other tokens and from the cell embedding, and of asked ones.
    fn tell(
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
        let hidden = (&batch.targets, &batch.masked, totals.masked);
        let from_genes = (totals.masked > 0.0 && gep_weight > 0.0)
            .then(|| model.tell_expression(encoded, &batch.inputs))
            .flatten();
        let from_cell = (totals.masked > 0.0 && gepc_weight > 0.0)
            .then(|| model.tell_from_cell(encoded, &batch.inputs))
            .flatten();
        terms.extend(
            from_genes
                .iter()
                .flat_map(|told| errors(told, hidden, ["gep", "zero"], [gep_weight, zero_weight])),
        );
        terms.extend(from_cell.iter().flat_map(|told| {
            let names = ["gepc", "gepc_zero"];
            errors(told, hidden, names, [gepc_weight, zero_weight])
        }));
        if let Some(asked) = batch.asked.as_ref().filter(|_| totals.asked > 0.0) {
            let told = model.tell_from_cell(&asked.encoded(model, encoded), &asked.inputs);
            let hidden = (&asked.inputs.values, &asked.counted, totals.asked);
            terms.extend(told.iter().flat_map(|told| {
                errors(
                    told,
                    hidden,
                    ["asked", "asked_zero"],
                    [gepc_weight, zero_weight],
                )
            }));
        }
    }
}

/// The squared error of told values and, where it is told, the surprise about which of them are zero.
fn errors(
    (values, nonzero): &Told,
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
    asked: Option<Questions>,
}

/// What only the cell embeddings are asked for.
struct Questions {
    /// The asked features as tokens of their cells.
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
        let told = |cells: Inputs, modalities: Option<Tensor>| Inputs {
            batches: Some(batches.clone()),
            domains: Some(shard.iter().map(|e| e.domain).collect()),
            modalities,
            ..cells
        };
        let inputs = Inputs::new(shard.iter().map(|e| (&e.genes[..], &e.values[..])), device);
        let asked = Inputs::new(
            shard
                .iter()
                .map(|e| (&e.asked.genes[..], &e.asked.values[..])),
            device,
        );
        let any = shard.iter().any(|e| !e.asked.genes.is_empty());
        Self {
            inputs: told(inputs, kinds(|e| &e.modalities)),
            targets: joined(|e| &e.targets),
            masked: joined(|e| &e.masked),
            asked: any.then(|| Questions {
                counted: joined(|e| &e.asked.counted),
                inputs: told(asked, kinds(|e| &e.asked.modalities)),
            }),
            origins: Tensor::from_slice(&origins).to_device(device),
        }
    }
}

impl Questions {
    /// The asked features as if they had been encoded with their cells.
    fn encoded(&self, model: &Model, encoded: &Encoded) -> Encoded {
        Encoded {
            genes: model.gene_vectors(&self.inputs.gene_ids),
            hidden: encoded.hidden.shallow_clone(),
            cells: encoded.cells.shallow_clone(),
        }
    }
}
