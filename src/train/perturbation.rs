//! Perturbation response objective: the expression of a perturbed cell from that of a control cell and the perturbed genes
//! (docs/methods.md, "Perturbation prediction").

use super::objective::{At, ForwardOutput, Objective, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{Genes, Heads, Model, Noise, PerturbedCell, Store, losses};
use tch::{Device, Tensor};

/// A control cell with its perturbation, and the perturbed cell to predict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    pub cell: PerturbedCell,
    /// Expression of the perturbed cell.
    pub targets: Vec<f32>,
    /// 1 where that is known, else 0.
    pub known: Vec<f32>,
}

/// The perturbation objective.
pub struct Perturbation<'a> {
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub device: Device,
}

impl Objective for Perturbation<'_> {
    type Example = Example;
    type Model = Model;

    fn model(&self, store: &mut Store) -> Model {
        Model::new(store, self.architecture, self.genes, self.heads)
    }

    fn totals(&self, examples: &[Example]) -> Totals {
        let known = examples.iter().flat_map(|example| &example.known);
        Totals {
            cells: examples.len() as f64,
            masked: known.map(|&known| f64::from(known)).sum(),
            ..Totals::default()
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        at: At<'_>,
        noise: &mut Noise,
    ) -> ForwardOutput {
        let cells = shard.iter().map(|example| &example.cell);
        let predicted = model.predict_perturbed(cells, self.device, noise);
        let joined = |part: fn(&Example) -> &[f32]| {
            let all: Vec<f32> = shard.iter().flat_map(part).copied().collect();
            Tensor::from_slice(&all).to_device(self.device)
        };
        let (targets, known) = (joined(|e| &e.targets), joined(|e| &e.known));
        let sum = losses::squared_error(&predicted, &targets, &known);
        ForwardOutput {
            terms: vec![Term {
                name: "mse",
                value: sum / at.totals.masked.max(1.0),
                weight: 1.0,
            }],
            ..ForwardOutput::default()
        }
    }
}
