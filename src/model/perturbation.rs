//! Cells and what is done to their genes, as a model of perturbations reads them (reference section 5).

use super::encoder::Width;
use super::noise::Noise;
use super::scgpt::{Inputs, Model, Perturbed};
use tch::{Device, Tensor};

/// A cell and what is done to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PerturbedCell {
    pub genes: Vec<i64>,
    /// Log-normalised expression before.
    pub values: Vec<f32>,
    /// What is done to every gene; see [`Perturbed`].
    pub flags: Vec<i64>,
    /// How much of it is done to every gene; none where every dose is 1.
    pub doses: Vec<f32>,
}

impl Inputs {
    /// Cells and what is done to them as tensors.
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
    /// Values of all tokens of some cells after what is done to them, `[tokens]`.
    pub fn tell_perturbed<'c>(
        &self,
        cells: impl ExactSizeIterator<Item = &'c PerturbedCell> + Clone,
        device: Device,
        noise: &mut Noise,
    ) -> Tensor {
        let inputs = Inputs::perturbed(cells, device);
        let encoded = self.encode(&inputs, Width::AllTokens, noise);
        let told = self.tell_expression(&encoded, &inputs);
        told.expect("a model of perturbations tells expression").0
    }
}
