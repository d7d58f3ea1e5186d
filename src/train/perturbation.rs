//! Learning what perturbations do: the expression of a perturbed cell from that of a control cell and what was done to its genes
//! (reference sections 5 and 11.4).

use super::objective::{At, Objective, Part, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{Genes, Heads, Model, Noise, PerturbedCell, Store, losses};
use tch::{Device, Tensor};

/// A control cell, what is done to it, and the perturbed cell to be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    pub cell: PerturbedCell,
    /// Expression of the perturbed cell.
    pub targets: Vec<f32>,
    /// 1 where that is known, else 0.
    pub known: Vec<f32>,
}

/// Cells before and after.
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

    fn forward(&self, model: &Model, shard: &[Example], at: At<'_>, noise: &mut Noise) -> Part {
        let cells = shard.iter().map(|example| &example.cell);
        let told = model.tell_perturbed(cells, self.device, noise);
        let joined = |part: fn(&Example) -> &[f32]| {
            let all: Vec<f32> = shard.iter().flat_map(part).copied().collect();
            Tensor::from_slice(&all).to_device(self.device)
        };
        let (targets, known) = (joined(|e| &e.targets), joined(|e| &e.known));
        let sum = losses::squared_error(&told, &targets, &known);
        Part {
            terms: vec![Term {
                name: "mse",
                value: sum / at.totals.masked.max(1.0),
                weight: 1.0,
            }],
            ..Part::default()
        }
    }
}
