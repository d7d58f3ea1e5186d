//! A trained model of perturbations: what its directory says, and the change of expression that it tells.

use super::{Workers, settings};
use crate::checkpoint::{Architecture, Checkpoint};
use crate::model::{Genes, Heads, Model, Noise, PerturbedCell, Store, weights};
use crate::random::Seed;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use tch::{Device, no_grad};

/// What prediction needs to know beside weights, architecture and vocabulary; kept in `args.json` under `scgpt_tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub format: u32,
    pub version: String,
    pub task: String,
    /// Genes whose expression is read and told.
    pub genes: Vec<String>,
    /// Perturbations of the training file and what each was for.
    pub conditions: Vec<Known>,
    /// Perturbations raise their genes unless marked otherwise.
    pub raised: bool,
    /// The change is the difference between what is told with and without the perturbation.
    pub contrast: bool,
    /// Mean control profiles are read, not single cells.
    pub reads_means: bool,
    pub seed: u64,
    /// Stands for the options and input files that the model was made from.
    pub fingerprint: String,
}

/// A perturbation that the model has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// As `A`, `A+B` or `A(+)`.
    pub name: String,
    /// `training`, `validation` or `test`.
    pub part: String,
    pub cells: usize,
}

impl settings::OfTask for Settings {
    const TASK: &'static str = "perturbation";
    const FORMAT: u32 = 1;
    const PROGRAM: &'static str = "scgpt-finetune-perturbation";

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Why a directory is not a model that tells perturbations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Weights(#[from] weights::Incomplete),
}

/// Something done to a gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    /// The gene in the vocabulary.
    pub gene: i64,
    /// See [`Perturbed`](crate::model::Perturbed).
    pub flag: i64,
    pub dose: f32,
}

/// Flag of a gene that is perturbed, and of one that is raised.
pub const PERTURBED: i64 = 1;
pub const RAISED: i64 = 2;

/// Profiles of control cells, with how much each counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Controls {
    /// Log-normalised expression of the model's genes.
    pub profiles: Vec<Vec<f32>>,
    pub weights: Vec<f64>,
}

/// How a control profile and what is done become tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentences {
    /// Vocabulary ids of the genes that are read.
    pub ids: Vec<i64>,
    pub contrast: bool,
}

impl Sentences {
    /// All genes of a profile, what is done to them, and perturbed genes that are not measured, whose value is 0.
    pub fn cell(&self, profile: &[f32], done: &[Done]) -> PerturbedCell {
        let mut cell = PerturbedCell {
            genes: self.ids.clone(),
            values: profile.to_vec(),
            flags: vec![0; self.ids.len()],
            doses: vec![1.0; self.ids.len()],
        };
        for done in done {
            let found = self.ids.iter().position(|&id| id == done.gene);
            let at = found.unwrap_or(cell.genes.len());
            if found.is_none() {
                cell.genes.push(done.gene);
                cell.values.push(0.0);
                cell.flags.push(0);
                cell.doses.push(1.0);
            }
            (cell.flags[at], cell.doses[at]) = (done.flag, done.dose);
        }
        cell
    }

    /// Mean change of every gene for each of the questions, `[questions][genes]`.
    pub fn changes(
        &self,
        workers: &mut Workers,
        controls: &Controls,
        asked: &[Vec<Done>],
    ) -> Vec<Vec<f32>> {
        let device = workers.device();
        let n = self.ids.len();
        let run = |model: &Model, profile: &[f32], done: &[Done]| -> Vec<f32> {
            let cell = [self.cell(profile, done)];
            let tell = || model.tell_perturbed(cell.iter(), device, &mut Noise::off());
            let told = no_grad(tell);
            let told = told.narrow(0, 0, n as i64).to_device(Device::Cpu);
            Vec::try_from(told.to_kind(tch::Kind::Float)).expect("a number for every gene")
        };
        let unperturbed = match self.contrast {
            true => workers.each(controls.profiles.len(), |model, i| {
                run(model, &controls.profiles[i], &[])
            }),
            false => controls.profiles.clone(),
        };
        let total: f64 = controls.weights.iter().sum();
        workers.each(asked.len(), |model, i| {
            let mut change = vec![0.0f64; n];
            for (at, profile) in controls.profiles.iter().enumerate() {
                let told = run(model, profile, &asked[i]);
                let weight = controls.weights[at] / total;
                let pairs = told.iter().zip(&unperturbed[at]);
                for (sum, (told, before)) in change.iter_mut().zip(pairs) {
                    *sum += weight * f64::from(told - before);
                }
            }
            change.into_iter().map(|change| change as f32).collect()
        })
    }
}

/// A model that tells what perturbations do.
pub struct Perturber {
    pub settings: Settings,
    pub vocabulary: Vocabulary,
    pub sentences: Sentences,
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
}

impl Perturber {
    /// Loads a directory that was opened; every weight must be there.
    pub fn load(checkpoint: Checkpoint, device: Device) -> Result<Self, Error> {
        let settings: Settings = settings::require(&checkpoint)?;
        let genes = super::genes(&checkpoint);
        let heads = Heads::of(&checkpoint.heads);
        let mut store = Store::new(Seed(0), device);
        Model::new(&mut store, &checkpoint.architecture, genes, heads);
        weights::load(&store, &checkpoint.state).require_all()?;
        let sentences = Sentences {
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
            sentences,
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
