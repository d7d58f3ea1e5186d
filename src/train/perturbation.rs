//! Learning what perturbations do: the expression of a perturbed cell from that of a control cell and what was done to its genes
//! (reference sections 5 and 11.4).

use super::objective::{At, Objective, Part, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{Encoded, Genes, Heads, Inputs, Model, Noise, Perturbed, Store, Width, losses};
use tch::{Device, Tensor};

/// A control cell, what is done to it, and the perturbed cell to be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    pub genes: Vec<i64>,
    /// Log-normalised expression of the control cell.
    pub values: Vec<f32>,
    /// What is done to every gene; see [`Perturbed`].
    pub flags: Vec<i64>,
    /// How much of it is done to every gene; none where every dose is 1.
    pub doses: Vec<f32>,
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

/// Values of all tokens of some cells after what is done to them, `[tokens]`.
pub fn tell(model: &Model, examples: &[Example], device: Device, noise: &mut Noise) -> Tensor {
    let inputs = inputs(examples, device);
    let encoded: Encoded = model.encode(&inputs, Width::AllTokens, noise);
    let told = model.tell_expression(&encoded, &inputs);
    told.expect("a model of perturbations tells expression").0
}

fn inputs(examples: &[Example], device: Device) -> Inputs {
    let doses = joined(examples, |example| &example.doses);
    let perturbed = Perturbed {
        flags: joined(examples, |example| &example.flags).to_device(device),
        doses: (doses.numel() > 0).then(|| doses.to_device(device)),
    };
    let cells = examples.iter().map(|e| (&e.genes[..], &e.values[..]));
    Inputs {
        perturbed: Some(perturbed),
        ..Inputs::new(cells, device)
    }
}

fn joined<T: tch::kind::Element + Copy>(
    examples: &[Example],
    part: impl Fn(&Example) -> &[T],
) -> Tensor {
    let all: Vec<T> = examples
        .iter()
        .flat_map(|e| part(e).iter().copied())
        .collect();
    Tensor::from_slice(&all)
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
        let told = tell(model, shard, self.device, noise);
        let [targets, known] = [
            joined(shard, |example| &example.targets),
            joined(shard, |example| &example.known),
        ]
        .map(|part| part.to_device(self.device));
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
