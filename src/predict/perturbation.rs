//! Prediction of perturbation responses with a fine-tuned model.

use super::{Workers, settings};
use crate::checkpoint::{Architecture, Checkpoint};
use crate::file_format::Statement;
use crate::model::{Genes, Heads, Model, Noise, PerturbedCell, Store, weights};
use crate::random::Seed;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use tch::{Device, no_grad};

/// Settings for prediction, stored with weights, architecture and vocabulary in `args.json` under `scgpt_tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(flatten)]
    pub statement: Statement,
    pub task: String,
    /// Genes whose expression is read and predicted.
    pub genes: Vec<String>,
    /// Perturbations of the training file and the split of each.
    pub conditions: Vec<TrainedCondition>,
    /// Perturbations are overexpression (CRISPRa) unless marked otherwise.
    pub raised: bool,
    /// The change is the difference between the predictions with and without the perturbation.
    pub contrast: bool,
    /// Mean control profiles are read, not single cells.
    pub reads_means: bool,
    pub seed: u64,
    /// Fingerprint of the options and input files that the model was trained with.
    pub fingerprint: String,
}

/// A perturbation of the training file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedCondition {
    /// As `A`, `A+B` or `A(+)`.
    pub name: String,
    /// Its split: `training`, `validation`, `test` or `unused`.
    pub part: String,
    pub cells: usize,
}

impl settings::TaskSettings for Settings {
    const TASK: &'static str = "perturbation";
    const PROGRAM: &'static str = "scgpt-finetune-perturbation";

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Why a directory is not a model for perturbation prediction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Weights(#[from] weights::Incomplete),
}

/// A perturbed gene as input of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerturbedGene {
    /// Vocabulary id of the gene.
    pub gene: i64,
    /// See [`Perturbed`](crate::model::Perturbed).
    pub flag: i64,
    pub dose: f32,
}

/// Flag of a gene that is knocked out or down, and of one that is overexpressed.
pub const PERTURBED: i64 = 1;
pub const ACTIVATED: i64 = 2;

/// Profiles of control cells and their weights.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Controls {
    /// Log-normalized expression of the model's genes.
    pub profiles: Vec<Vec<f32>>,
    pub weights: Vec<f64>,
}

/// Tokenization of control profiles with perturbed genes.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileReader {
    /// Vocabulary ids of the genes that are read.
    pub ids: Vec<i64>,
    pub contrast: bool,
}

impl ProfileReader {
    /// All genes of a profile with their perturbation flags, and perturbed genes that are not measured, whose value is 0.
    pub fn cell(&self, profile: &[f32], perturbed: &[PerturbedGene]) -> PerturbedCell {
        let mut cell = PerturbedCell {
            genes: self.ids.clone(),
            values: profile.to_vec(),
            flags: vec![0; self.ids.len()],
            doses: vec![1.0; self.ids.len()],
        };
        for gene in perturbed {
            let found = self.ids.iter().position(|&id| id == gene.gene);
            let at = found.unwrap_or(cell.genes.len());
            if found.is_none() {
                cell.genes.push(gene.gene);
                cell.values.push(0.0);
                cell.flags.push(0);
                cell.doses.push(1.0);
            }
            (cell.flags[at], cell.doses[at]) = (gene.flag, gene.dose);
        }
        cell
    }

    /// Mean change of every gene for each perturbation, `[perturbations][genes]`.
    pub fn changes(
        &self,
        workers: &mut Workers,
        controls: &Controls,
        perturbations: &[Vec<PerturbedGene>],
    ) -> Vec<Vec<f32>> {
        let device = workers.device();
        let n = self.ids.len();
        let run = |model: &Model, profile: &[f32], perturbed: &[PerturbedGene]| -> Vec<f32> {
            let cell = [self.cell(profile, perturbed)];
            let predict = || model.predict_perturbed(cell.iter(), device, &mut Noise::off());
            let values = no_grad(predict).narrow(0, 0, n as i64);
            let values = values.to_device(Device::Cpu);
            Vec::try_from(values.to_kind(tch::Kind::Float)).expect("a number for every gene")
        };
        let unperturbed = match self.contrast {
            true => workers.each(controls.profiles.len(), |model, i| {
                run(model, &controls.profiles[i], &[])
            }),
            false => controls.profiles.clone(),
        };
        let total: f64 = controls.weights.iter().sum();
        workers.each(perturbations.len(), |model, i| {
            let mut change = vec![0.0f64; n];
            for (at, profile) in controls.profiles.iter().enumerate() {
                let predicted = run(model, profile, &perturbations[i]);
                let weight = controls.weights[at] / total;
                let pairs = predicted.iter().zip(&unperturbed[at]);
                for (sum, (predicted, before)) in change.iter_mut().zip(pairs) {
                    *sum += weight * f64::from(predicted - before);
                }
            }
            change.into_iter().map(|change| change as f32).collect()
        })
    }
}

/// A model that predicts perturbation responses.
pub struct PerturbationPredictor {
    pub settings: Settings,
    pub vocabulary: Vocabulary,
    pub profiles: ProfileReader,
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
}

impl PerturbationPredictor {
    /// Loads an open checkpoint; no weight may be missing.
    pub fn load(checkpoint: Checkpoint, device: Device) -> Result<Self, Error> {
        let settings: Settings = settings::require(&checkpoint)?;
        let genes = super::genes(&checkpoint);
        let heads = Heads::of(&checkpoint.heads);
        let mut store = Store::new(Seed(0), device);
        Model::new(&mut store, &checkpoint.architecture, genes, heads);
        weights::load(&store, &checkpoint.state).require_all()?;
        let profiles = ProfileReader {
            ids: settings::gene_ids(&settings.genes, &checkpoint)?,
            contrast: settings.contrast,
        };
        let Checkpoint {
            architecture,
            vocabulary,
            ..
        } = checkpoint;
        Ok(Self {
            settings,
            vocabulary,
            profiles,
            architecture,
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
