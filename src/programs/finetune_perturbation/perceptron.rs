//! Baseline `mlp`: a small multilayer perceptron on expression and perturbed genes, trained on the same examples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use ndarray::{Array1, Array2};
use tch::{Device, Kind, Tensor, no_grad};

use super::Options;
use super::data::Data;
use super::reader::Reader;
use crate::distributed::SingleProcess;
use crate::model::{Noise, Perceptron, PerturbedCell, Store, losses};
use crate::predict::perturbation::{Controls, PerturbedGene};
use crate::random::Seed;
use crate::run_record::Run;
use crate::train::perturbation::Example;
use crate::train::{
    self, At, Defaults, Fit, InMemory, Objective, Observer, Outcome, Report, Term, Totals,
};

/// Training budget: pseudobulks over all epochs.
const TRAINING_BUDGET_MEANS: u64 = 60_000;
/// Units of each of its two hidden layers.
const WIDTH: i64 = 128;

/// Predicts the expression of a perturbed cell from that of a control cell and flags of perturbed genes.
struct Flags {
    n_genes: usize,
    /// Position of the flag of every perturbed gene, by its vocabulary id.
    targets: BTreeMap<i64, usize>,
    device: Device,
}

impl Flags {
    /// Control profile and flags, `[cells, genes + targets]`.
    fn inputs<'c>(&self, cells: impl Iterator<Item = &'c PerturbedCell>) -> Tensor {
        let row = |cell: &PerturbedCell| {
            let mut row = cell.values[..self.n_genes].to_vec();
            row.resize(self.n_genes + self.targets.len(), 0.0);
            let flags = cell.genes.iter().zip(&cell.flags);
            for (at, (gene, flag)) in flags.enumerate().filter(|(_, (_, flag))| **flag != 0) {
                let sign = if *flag == crate::predict::perturbation::ACTIVATED {
                    1.0
                } else {
                    -1.0
                };
                let dose = cell.doses[at];
                if let Some(position) = self.targets.get(gene) {
                    row[self.n_genes + position] = sign * dose;
                }
            }
            Tensor::from_slice(&row)
        };
        let rows: Vec<Tensor> = cells.map(row).collect();
        Tensor::stack(&rows, 0).to_device(self.device)
    }

    /// Mean of the predicted values over control profiles, weighted, by gene.
    fn mean_prediction(
        &self,
        model: &Perceptron,
        reader: &Reader,
        controls: &Controls,
        perturbed: &[PerturbedGene],
    ) -> Vec<f64> {
        let cell = |profile: &Vec<f32>| reader.profiles.cell(profile, perturbed);
        let cells: Vec<PerturbedCell> = controls.profiles.iter().map(cell).collect();
        let predicted = no_grad(|| self.predict(model, &self.inputs(cells.iter())));
        let weights = Tensor::from_slice(&controls.weights);
        let weights = (&weights / weights.sum(Kind::Double)).unsqueeze(-1);
        let predicted = predicted.to_kind(Kind::Double) * weights;
        let mean = predicted.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        Vec::try_from(mean).expect("a number for every gene")
    }

    /// Predicted values, `[cells, genes]`.
    fn predict(&self, model: &Perceptron, inputs: &Tensor) -> Tensor {
        inputs.narrow(1, 0, self.n_genes as i64) + model.forward(inputs)
    }
}

impl Objective for Flags {
    type Example = Example;
    type Model = Perceptron;

    fn model(&self, store: &mut Store) -> Perceptron {
        let n = self.n_genes as i64;
        Perceptron::new(store, &[n + self.targets.len() as i64, WIDTH, WIDTH, n])
    }

    fn totals(&self, examples: &[Example]) -> Totals {
        Totals {
            cells: examples.len() as f64,
            masked: (examples.len() * self.n_genes) as f64,
            ..Totals::default()
        }
    }

    fn forward(
        &self,
        model: &Perceptron,
        shard: &[Example],
        at: At<'_>,
        _: &mut Noise,
    ) -> train::ForwardOutput {
        let predicted = self.predict(
            model,
            &self.inputs(shard.iter().map(|example| &example.cell)),
        );
        let targets = shard
            .iter()
            .map(|e| Tensor::from_slice(&e.targets[..self.n_genes]));
        let targets = Tensor::stack(&targets.collect::<Vec<_>>(), 0).to_device(self.device);
        let sum = losses::squared_error(&predicted, &targets, &targets.ones_like());
        train::ForwardOutput {
            terms: vec![Term {
                name: "mse",
                value: sum / at.totals.masked.max(1.0),
                weight: 1.0,
            }],
            ..train::ForwardOutput::default()
        }
    }
}

/// Predicted changes of some conditions, `[conditions, genes]`; none if interrupted.
pub fn changes(
    options: &Options,
    data: &Data,
    reader: &Reader,
    (controls, conditions): (&Controls, &[usize]),
    (work, run): (&Path, &Run),
) -> Result<Option<Array2<f64>>> {
    let genes = data.conditions.iter().flat_map(|c| c.perturbation.genes());
    let ids = genes.filter_map(|gene| data.vocabulary.id(gene).map(i64::from));
    let ids: BTreeSet<i64> = ids.collect();
    let flags = Flags {
        n_genes: data.genes.len(),
        targets: ids.into_iter().zip(0..).collect(),
        device: Device::Cpu,
    };
    let Some(model) = fit_mlp(&flags, options, (data, reader), (work, run))? else {
        return Ok(None);
    };
    let predict = |genes: &[PerturbedGene]| flags.mean_prediction(&model, reader, controls, genes);
    let before = predict(&[]);
    let mut changes = Array2::zeros((conditions.len(), data.genes.len()));
    for (mut row, &condition) in changes.rows_mut().into_iter().zip(conditions) {
        let predicted = predict(reader.perturbed(condition));
        let pairs = predicted.iter().zip(&before);
        let differences = pairs.map(|(predicted, before)| predicted - before);
        row.assign(&differences.collect::<Array1<f64>>());
    }
    Ok(Some(changes))
}

/// Trains the MLP in the loop of the model; none if interrupted.
fn fit_mlp(
    flags: &Flags,
    options: &Options,
    (data, reader): (&Data, &Reader),
    (work, run): (&Path, &Run),
) -> Result<Option<Perceptron>> {
    let (training, validation) = reader.parts(data);
    let settings = train::Options {
        micro_batch_size: Some(32),
        ..train::Options::default()
    };
    let plan = settings.resolve(Defaults {
        epochs: (TRAINING_BUDGET_MEANS / training.len() as u64).clamp(2, 100),
        learning_rate: 1e-3,
        dropout: 0.0,
    });
    let examples = InMemory {
        example: |unit, epoch| reader.whole(data, unit, epoch),
        groups: None,
        training,
        validation,
        seed: Seed(options.seed),
    };
    let folder = work.join("mlp");
    std::fs::create_dir_all(&folder)?;
    let fit = Fit {
        plan: &plan,
        seed: Seed(options.seed),
        threads: run.threads(),
        device: Device::Cpu,
        ranks: &SingleProcess,
        folder,
        fingerprint: String::new(),
    };
    let mut store = Store::new(Seed(options.seed), Device::Cpu);
    let model = flags.model(&mut store);
    let outcome = fit.run(flags, &examples, &mut store, &mut Silent(run))?;
    Ok((!matches!(outcome, Outcome::Interrupted)).then_some(model))
}

/// Reports nothing, but stops with the run.
struct Silent<'r>(&'r Run);

impl Observer for Silent<'_> {
    fn step(&mut self, _: &Report) {}

    fn epoch(&mut self, _: &str) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
