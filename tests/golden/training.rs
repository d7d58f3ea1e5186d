//! `annotation/train_cls`, `annotation/train_cls_cce_ecs`: losses, gradients and three Adam steps on one minibatch.

use super::annotation::{GENES, HEADS};
use crate::support::{Stored, checkpoint, data, difference};
use scgpt_tools::checkpoint::Architecture;
use scgpt_tools::counts::Counts;
use scgpt_tools::model::{Flat, Model, Noise, Store, weights};
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::{Options, Settings as TokenSettings, Tokenizer, Values};
use scgpt_tools::train::annotation::{Annotation, Example, Weights};
use scgpt_tools::train::{
    Adam, Figures, Gradient, Objective, Part, Pass, Settings, Term, Totals, clip,
};
use serde::Deserialize;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Recorded {
    grad_norms_step0: HashMap<String, Option<f64>>,
    #[serde(rename = "eps_0.0001")]
    large_eps: Steps,
    #[serde(rename = "eps_1e-08")]
    small_eps: Option<Steps>,
}

#[derive(Deserialize)]
struct Steps {
    lr: f64,
    eps: f64,
    steps: Vec<StepRecord>,
}

#[derive(Debug, Deserialize)]
struct StepRecord {
    total: f64,
    grad_norm_before_clip: Option<f64>,
}

/// The recorded cells instead of cells from a matrix; all else is the objective that users train.
struct Fixed<'a> {
    objective: Annotation<'a>,
}

impl Objective for Fixed<'_> {
    type Example = Example;
    type Model = Model;
    fn model(&self, store: &mut Store) -> Model {
        self.objective.model(store)
    }
    fn example(&self, cell: usize, _: Option<u64>) -> Example {
        recorded_cell(cell as i64)
    }
    fn totals(&self, examples: &[Example]) -> Totals {
        self.objective.totals(examples)
    }
    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        totals: &Totals,
        noise: &mut Noise,
    ) -> Part {
        self.objective.forward(model, shard, totals, noise)
    }
    fn couples(&self) -> bool {
        self.objective.couples()
    }
    fn couple(&self, embeddings: &[Tensor]) -> Vec<Term> {
        self.objective.couple(embeddings)
    }
}

fn recorded_cell(cell: i64) -> Example {
    let stored = Stored::read("annotation/inputs.safetensors");
    let pads = stored.get("key_padding_mask").get(cell);
    let length = pads.logical_not().sum(Kind::Int64).int64_value(&[]);
    let row = |name: &str| stored.get(name).get(cell).narrow(0, 0, length);
    let values = Vec::<f32>::try_from(row("values")).expect("values");
    Example {
        genes: Vec::try_from(row("gene_ids")).expect("ids"),
        masked: vec![0.0; values.len()],
        targets: values.clone(),
        values,
        class: stored.get("celltype_labels").int64_value(&[cell]),
        batch: 0,
    }
}

/// A model being trained on the recorded minibatch.
struct Trainee {
    store: Store,
    flat: Flat,
    architecture: Architecture,
    weights: Weights,
    kind: Kind,
}

impl Trainee {
    fn new(weights: Weights) -> Self {
        let golden = checkpoint("annotation/checkpoint");
        let mut store = Store::new(Seed(0), Device::Cpu);
        Model::new(&mut store, &golden.architecture, GENES, HEADS);
        weights::load(&store, &golden.state)
            .require_all()
            .expect("all weights");
        let flat = store.flatten();
        Self {
            store,
            flat,
            architecture: golden.architecture,
            weights,
            kind: Kind::Float,
        }
    }

    /// Runs `work` with the machinery of the training loop, cut into shards of the given size.
    fn with<R>(
        &mut self,
        (shard, threads): (usize, usize),
        work: impl FnOnce(&mut Step) -> R,
    ) -> R {
        let options = TokenSettings {
            options: Options::default(),
            cls: None,
            cls_value: 0.0,
            values: Values::Unchanged,
        };
        let tokenizer = Tokenizer::new(options, Vec::new(), Seed(0));
        let cells = Counts::empty(0);
        let objective = Fixed {
            objective: Annotation {
                cells: &cells,
                tokenizer: &tokenizer,
                classes: &[],
                batches: None,
                class_weights: None,
                weights: &self.weights,
                gene_dropout: 0.0,
                label_smoothing: 0.0,
                architecture: &self.architecture,
                genes: GENES,
                heads: HEADS,
                seed: Seed(0),
                device: Device::Cpu,
            },
        };
        let settings = Settings {
            threads,
            shard,
            kind: self.kind,
            seed: Seed(0),
            dropout: 0.0,
        };
        let examples: Vec<Example> = (0..6).map(|cell| objective.example(cell, None)).collect();
        let gradient = Gradient::new(&objective, &self.store, &self.flat, settings);
        work(&mut Step {
            gradient,
            examples,
            flat: &mut self.flat,
        })
    }
}

struct Step<'a, 'o> {
    gradient: Gradient<'o, Fixed<'o>>,
    examples: Vec<Example>,
    flat: &'a mut Flat,
}

impl Step<'_, '_> {
    fn gradient(&mut self) -> Figures {
        let _ = self.flat.gradients.zero_();
        self.gradient.minibatch(&self.examples, Pass::Training(0))
    }
}

/// Slices of a flat vector by parameter name.
fn by_name(store: &Store, flat: &Tensor) -> HashMap<String, Tensor> {
    let mut start = 0;
    let slice = |(name, tensor): (&String, &Tensor)| {
        let length = tensor.numel() as i64;
        let part = flat.narrow(0, start, length).view(tensor.size().as_slice());
        start += length;
        (name.clone(), part)
    };
    store.parameters().iter().map(slice).collect()
}

fn figure(figures: &Figures, name: &str) -> f64 {
    figures
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("no figure `{name}`"))
        .1
}

fn recorded(folder: &str) -> Recorded {
    let file = std::fs::read(data(folder).join("train.json")).expect("train.json");
    serde_json::from_slice(&file).expect("JSON")
}

/// Gradients of the first step, each within 1e-4 of its tensor's norm.
fn check_gradients(folder: &str, trainee: &Trainee) {
    let stored = Stored::read(&format!("{folder}/grads_step0.safetensors"));
    let gradients = by_name(&trainee.store, &trainee.flat.gradients);
    for (name, norm) in recorded(folder).grad_norms_step0 {
        let Some(found) = gradients.get(&name) else {
            panic!("no parameter `{name}`")
        };
        match norm {
            None => assert_eq!(
                found.abs().max().double_value(&[]),
                0.0,
                "`{name}` should have no gradient"
            ),
            Some(norm) => {
                let off = difference(found, stored.get(&format!("grad.{name}")));
                assert!(
                    off <= 1e-4 * norm.max(1e-6),
                    "gradient of `{name}` is off by {off:e}, norm {norm:e}"
                );
            }
        }
    }
}

fn check_steps(folder: &str, weights: &Weights, recorded: &Steps, check: impl Fn(&Tensor)) {
    let mut trainee = Trainee::new(weights.clone());
    trainee.with((4, 2), |step| {
        let mut adam = Adam::new(step.flat, recorded.eps, 0.0);
        for record in &recorded.steps {
            let figures = step.gradient();
            let loss = figure(&figures, "loss");
            assert!(
                (loss - record.total).abs() <= 1e-5 * record.total,
                "loss {loss}, recorded {record:?}"
            );
            let Some(expected) = record.grad_norm_before_clip else {
                break;
            };
            let norm = clip(step.flat, 1.0);
            assert!(
                (norm - expected).abs() <= 1e-4 * expected,
                "gradient norm {norm}, recorded {expected}"
            );
            adam.step(step.flat, recorded.lr);
        }
    });
    let eps = if recorded.eps == 1e-4 {
        "0.0001"
    } else {
        "1e-08"
    };
    let stored = Stored::read(&format!(
        "{folder}/params_after_3_steps_eps{eps}.safetensors"
    ));
    let off = |(name, tensor): (&String, &Tensor)| {
        (tensor.detach() - stored.get(name)).abs().flatten(0, -1)
    };
    let off = trainee
        .store
        .parameters()
        .iter()
        .map(off)
        .collect::<Vec<_>>();
    check(&Tensor::cat(&off, 0).to_kind(Kind::Double));
}

fn within_a_millionth(off: &Tensor) {
    let worst = off.max().double_value(&[]);
    assert!(
        worst <= 1e-6,
        "parameters are off by up to {worst:e} after three steps"
    );
}

/// With a tiny epsilon, gradients near zero decide directions: 1e-5 for 99.9 percent of the entries, 1e-4 for all.
fn mostly_within(off: &Tensor) {
    let worst = off.max().double_value(&[]);
    let beyond = off
        .gt(1e-5)
        .to_kind(Kind::Double)
        .mean(Kind::Double)
        .double_value(&[]);
    assert!(
        worst <= 1e-4 && beyond <= 1e-3,
        "worst {worst:e}, share beyond 1e-5 {beyond}"
    );
}

fn all_losses() -> Weights {
    Weights {
        cce_weight: 10.0,
        ecs_weight: 10.0,
        ..Weights::default()
    }
}

#[test]
fn train_cls() {
    let mut trainee = Trainee::new(Weights::default());
    trainee.with((6, 1), |step| drop(step.gradient()));
    check_gradients("annotation/train_cls", &trainee);
    let recorded = recorded("annotation/train_cls");
    check_steps(
        "annotation/train_cls",
        &Weights::default(),
        &recorded.large_eps,
        within_a_millionth,
    );
    let small = recorded.small_eps.expect("recorded with both");
    check_steps(
        "annotation/train_cls",
        &Weights::default(),
        &small,
        mostly_within,
    );
}

#[test]
fn train_cls_cce_ecs() {
    let mut trainee = Trainee::new(all_losses());
    trainee.with((6, 1), |step| drop(step.gradient()));
    check_gradients("annotation/train_cls_cce_ecs", &trainee);
    let recorded = recorded("annotation/train_cls_cce_ecs");
    check_steps(
        "annotation/train_cls_cce_ecs",
        &all_losses(),
        &recorded.large_eps,
        within_a_millionth,
    );
}

#[test]
fn shards_and_threads_do_not_change_the_gradient() {
    for weights in [Weights::default(), all_losses()] {
        let gradient = |setting| {
            let mut trainee = Trainee::new(weights.clone());
            trainee.with(setting, |step| drop(step.gradient()));
            trainee.flat.gradients
        };
        let whole = gradient((6, 1));
        let scale = whole.norm().double_value(&[]);
        for shard in [1, 2, 4] {
            let parts = gradient((shard, 1));
            assert!(
                difference(&parts, &whole) <= 1e-5 * scale,
                "shards of {shard} cells"
            );
            assert!(
                gradient((shard, 3)).equal(&parts),
                "threads must not change a bit"
            );
        }
    }
}

#[test]
fn bf16_gradients_point_the_same_way_and_are_kept_in_f32() {
    let gradient = |kind| {
        let mut trainee = Trainee::new(all_losses());
        trainee.kind = kind;
        trainee.with((4, 2), |step| drop(step.gradient()));
        assert_eq!(trainee.flat.gradients.kind(), Kind::Float);
        trainee.flat.gradients
    };
    let (exact, rounded) = (gradient(Kind::Float), gradient(Kind::BFloat16));
    let norms = exact.norm().double_value(&[]) * rounded.norm().double_value(&[]);
    let cosine = exact.dot(&rounded).double_value(&[]) / norms;
    // Eight bits of mantissa: single products are off by up to 0.4 percent.
    assert!(cosine > 0.995, "cosine {cosine}");
    assert!(!rounded.equal(&exact), "bf16 must have been used");
}
