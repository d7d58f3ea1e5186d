//! Perturbed cells as input of a perturbation model (docs/methods.md, "Perturbation tokens").

use super::encoder::OutputTokens;
use super::noise::Noise;
use super::scgpt::{Inputs, Model, Perturbed};
use tch::{Device, Tensor};

/// A cell and the perturbation of its genes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PerturbedCell {
    pub genes: Vec<i64>,
    /// Log-normalized expression before the perturbation.
    pub values: Vec<f32>,
    /// Perturbation flag of every gene; see [`Perturbed`].
    pub flags: Vec<i64>,
    /// Dose of every gene; empty where every dose is 1.
    pub doses: Vec<f32>,
}

impl Inputs {
    /// Perturbed cells as tensors.
    pub fn perturbed<'c>(
        cells: impl ExactSizeIterator<Item = &'c PerturbedCell> + Clone,
        device: Device,
    ) -> Self {
        let flags: Vec<i64> = cells
            .clone()
            .flat_map(|cell| cell.flags.iter().copied())
            .collect();
        let doses: Vec<f32> = cells.clone().flat_map(doses).collect();
        let is_one = doses.iter().all(|&dose| dose == 1.0);
        let perturbed = Perturbed {
            flags: Tensor::from_slice(&flags).to_device(device),
            doses: (!is_one).then(|| Tensor::from_slice(&doses).to_device(device)),
        };
        Self {
            perturbed: Some(perturbed),
            ..Self::new(
                cells.map(|cell| (&cell.genes[..], &cell.values[..])),
                device,
            )
        }
    }
}

fn doses(cell: &PerturbedCell) -> Vec<f32> {
    match cell.doses.is_empty() {
        true => vec![1.0; cell.genes.len()],
        false => cell.doses.clone(),
    }
}

impl Model {
    /// Predicted values of all tokens of some cells after the perturbation, `[tokens]`.
    pub fn predict_perturbed<'c>(
        &self,
        cells: impl ExactSizeIterator<Item = &'c PerturbedCell> + Clone,
        device: Device,
        noise: &mut Noise,
    ) -> Tensor {
        let inputs = Inputs::perturbed(cells, device);
        let encoded = self.encode(&inputs, OutputTokens::All, noise);
        let predicted = self.predict_expression(&encoded, &inputs);
        predicted
            .expect("a perturbation model predicts expression")
            .0
    }
}
