//! A small perceptron on expression and perturbed genes, a simple method beside the model. It learns from the same examples
//! in the same loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use ndarray::{Array1, Array2};
use tch::{Device, Kind, Tensor, no_grad};

use super::Options;
use super::data::Data;
use super::learner::Reader;
use crate::model::{Noise, Perceptron, PerturbedCell, Store, losses};
use crate::predict::perturbation::{Controls, Done};
use crate::random::Seed;
use crate::ranks::Alone;
use crate::run_record::Run;
use crate::train::perturbation::Example;
use crate::train::{
    self, At, Fit, InMemory, Objective, Observer, Outcome, Report, Term, Totals, Usual,
};

/// Means of cells that it is shown.
const MEANS_SHOWN: u64 = 60_000;
/// Width of its two hidden layers.
const WIDTH: i64 = 128;

/// Expression of a perturbed cell from that of a control cell and flags of perturbed genes.
struct Flags {
    n_genes: usize,
    /// Place of the flag of every gene that was ever perturbed, by its word.
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
                let sign = if *flag == crate::predict::perturbation::RAISED {
                    1.0
                } else {
                    -1.0
                };
                let dose = cell.doses[at];
                if let Some(place) = self.targets.get(gene) {
                    row[self.n_genes + place] = sign * dose;
                }
            }
            Tensor::from_slice(&row)
        };
        let rows: Vec<Tensor> = cells.map(row).collect();
        Tensor::stack(&rows, 0).to_device(self.device)
    }

    /// Weighted mean over control profiles of the values told, by gene.
    fn mean_told(
        &self,
        model: &Perceptron,
        reader: &Reader,
        controls: &Controls,
        done: &[Done],
    ) -> Vec<f64> {
        let cell = |profile: &Vec<f32>| reader.sentences.cell(profile, done);
        let cells: Vec<PerturbedCell> = controls.profiles.iter().map(cell).collect();
        let told = no_grad(|| self.tell(model, &self.inputs(cells.iter())));
        let weights = Tensor::from_slice(&controls.weights);
        let weights = (&weights / weights.sum(Kind::Double)).unsqueeze(-1);
        let told = told.to_kind(Kind::Double) * weights;
        let mean = told.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        Vec::try_from(mean).expect("a number for every gene")
    }

    /// Values told, `[cells, genes]`.
    fn tell(&self, model: &Perceptron, inputs: &Tensor) -> Tensor {
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
    ) -> train::Part {
        let told = self.tell(
            model,
            &self.inputs(shard.iter().map(|example| &example.cell)),
        );
        let targets = shard
            .iter()
            .map(|e| Tensor::from_slice(&e.targets[..self.n_genes]));
        let targets = Tensor::stack(&targets.collect::<Vec<_>>(), 0).to_device(self.device);
        let sum = losses::squared_error(&told, &targets, &targets.ones_like());
        train::Part {
            terms: vec![Term {
                name: "mse",
                value: sum / at.totals.masked.max(1.0),
                weight: 1.0,
            }],
            ..train::Part::default()
        }
    }
}

/// Changes that it tells of some conditions, `[asked, genes]`; none if it was interrupted.
pub fn changes(
    options: &Options,
    data: &Data,
    reader: &Reader,
    (controls, asked): (&Controls, &[usize]),
    (work, run): (&Path, &Run),
) -> Result<Option<Array2<f64>>> {
    let words = data.conditions.iter().flat_map(|c| c.perturbation.genes());
    let words = words.filter_map(|gene| data.vocabulary.id(gene).map(i64::from));
    let words: BTreeSet<i64> = words.collect();
    let flags = Flags {
        n_genes: data.genes.len(),
        targets: words.into_iter().zip(0..).collect(),
        device: Device::Cpu,
    };
    let Some(model) = learn(&flags, options, (data, reader), (work, run))? else {
        return Ok(None);
    };
    let tell = |done: &[Done]| flags.mean_told(&model, reader, controls, done);
    let before = tell(&[]);
    let mut changes = Array2::zeros((asked.len(), data.genes.len()));
    for (mut row, &condition) in changes.rows_mut().into_iter().zip(asked) {
        let told = tell(reader.done(condition));
        let pairs = told.iter().zip(&before);
        let differences = pairs.map(|(told, before)| told - before);
        row.assign(&differences.collect::<Array1<f64>>());
    }
    Ok(Some(changes))
}

/// Trains it as the model is trained; none if it was interrupted.
fn learn(
    flags: &Flags,
    options: &Options,
    (data, reader): (&Data, &Reader),
    (work, run): (&Path, &Run),
) -> Result<Option<Perceptron>> {
    let (training, validation) = reader.parts(data);
    let settings = train::Options {
        microbatch: Some(32),
        ..train::Options::default()
    };
    let plan = settings.settle(Usual {
        epochs: (MEANS_SHOWN / training.len() as u64).clamp(2, 100),
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
    let folder = work.join("perceptron");
    std::fs::create_dir_all(&folder)?;
    let fit = Fit {
        plan: &plan,
        seed: Seed(options.seed),
        threads: run.threads(),
        device: Device::Cpu,
        ranks: &Alone,
        folder,
        fingerprint: String::new(),
    };
    let mut store = Store::new(Seed(options.seed), Device::Cpu);
    let model = flags.model(&mut store);
    let outcome = fit.run(flags, &examples, &mut store, &mut Silent(run))?;
    Ok((!matches!(outcome, Outcome::Interrupted)).then_some(model))
}

/// Says nothing, but stops when the run is told to.
struct Silent<'r>(&'r Run);

impl Observer for Silent<'_> {
    fn step(&mut self, _: &Report) {}

    fn epoch(&mut self, _: &str) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
