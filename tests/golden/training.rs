//! `annotation/train_cls`, `annotation/train_cls_cce_ecs`: losses, gradients and three Adam steps on one minibatch.

use super::annotation::{GENES, HEADS};
use crate::support::{Stored, checkpoint, data, difference};
use scgpt_tools::checkpoint::Architecture;
use scgpt_tools::counts::Counts;
use scgpt_tools::distributed::SingleProcess;
use scgpt_tools::model::{Flat, Heads, Model, Store, weights};
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::{Options, Settings as TokenSettings, Tokenizer, Values};
use scgpt_tools::train::annotation::{Annotation, Example, Weights};
use scgpt_tools::train::{Adam, Figures, Gradient, Objective, Pass, Settings, clip};
use serde::Deserialize;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Recorded {
    grad_norms_step0: HashMap<String, Option<f64>>,
    #[serde(rename = "eps_0.0001")]
    large_eps: Option<Steps>,
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

/// A model being trained on recorded minibatches.
pub struct Trainee {
    pub store: Store,
    pub flat: Flat,
    kind: Kind,
}

impl Trainee {
    /// A golden model with all its weights.
    pub fn new(folder: &str, heads: Heads) -> Self {
        let golden = checkpoint(folder);
        let mut store = Store::new(Seed(0), Device::Cpu);
        Model::new(&mut store, &golden.architecture, GENES, heads);
        weights::load(&store, &golden.state)
            .require_all()
            .expect("all weights");
        let flat = store.flatten();
        Self {
            store,
            flat,
            kind: Kind::Float,
        }
    }

    /// The gradient of a minibatch by the machinery of the training loop, cut into shards of the given size; its losses.
    pub fn gradient<O: Objective>(
        &mut self,
        (objective, examples): (&O, &[O::Example]),
        (shard, threads): (usize, usize),
        pass: Pass,
    ) -> Figures {
        let settings = Settings {
            threads,
            shard,
            kind: self.kind,
            seed: Seed(0),
            dropout: 0.0,
        };
        let _ = self.flat.gradients.zero_();
        Gradient::new(objective, &self.store, &self.flat, settings, &SingleProcess)
            .minibatch(examples, pass)
            .expect("one process cannot fail to agree with itself")
    }
}

/// The objective that users train, without cells of a matrix.
struct Fixture {
    architecture: Architecture,
    tokenizer: Tokenizer,
    cells: Counts,
    weights: Weights,
}

impl Fixture {
    fn new(weights: Weights) -> Self {
        let settings = TokenSettings {
            options: Options::default(),
            cls: None,
            cls_value: 0.0,
            values: Values::Raw,
        };
        Self {
            architecture: checkpoint("annotation/checkpoint").architecture,
            tokenizer: Tokenizer::new(settings, Vec::new(), Seed(0)),
            cells: Counts::empty(0),
            weights,
        }
    }

    fn objective(&self) -> Annotation<'_> {
        Annotation {
            cells: &self.cells,
            tokenizer: &self.tokenizer,
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
        }
    }
}

fn trainee() -> Trainee {
    Trainee::new("annotation/checkpoint", HEADS)
}

fn recorded_cells() -> Vec<Example> {
    (0..6).map(recorded_cell).collect()
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

pub fn figure(figures: &Figures, name: &str) -> f64 {
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

/// The name that a parameter has here; recordings of pre-training use the published one.
fn own_name(name: &str) -> String {
    name.replace("Wqkv.", "in_proj_")
}

/// Gradients of the first step, each within 1e-4 of its tensor's norm, and of nothing where rounding is all there is.
pub fn check_gradients(folder: &str, trainee: &Trainee) {
    let whole = trainee.flat.gradients.norm().double_value(&[]);
    let stored = Stored::read(&format!("{folder}/grads_step0.safetensors"));
    let gradients = by_name(&trainee.store, &trainee.flat.gradients);
    for (name, norm) in recorded(folder).grad_norms_step0 {
        let Some(found) = gradients.get(&own_name(&name)) else {
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
                    off <= (1e-4 * norm).max(3e-8 * whole),
                    "gradient of `{name}` is off by {off:e}, norm {norm:e}"
                );
            }
        }
    }
}

/// The recorded steps with the given epsilon, and the weights after them.
pub fn check_steps<O: Objective>(
    (folder, eps): (&str, &str),
    mut trainee: Trainee,
    task: (&O, &[O::Example]),
    check: impl Fn(&Tensor),
) {
    let recorded = recorded(folder);
    let recorded = match eps {
        "0.0001" => recorded.large_eps,
        _ => recorded.small_eps,
    };
    let recorded = recorded.expect("recorded with this epsilon");
    let mut adam = Adam::new(&trainee.flat, recorded.eps, 0.0);
    for record in &recorded.steps {
        let before = trainee.flat.values.copy();
        let figures = trainee.gradient(task, (4, 2), Pass::Training(0));
        let loss = figure(&figures, "loss");
        assert!(
            (loss - record.total).abs() <= 1e-5 * record.total,
            "loss {loss}, recorded {record:?}"
        );
        let Some(expected) = record.grad_norm_before_clip else {
            // The last loss was recorded after the weights; running statistics have moved on.
            tch::no_grad(|| trainee.flat.values.copy_(&before));
            break;
        };
        let norm = clip(&mut trainee.flat, 1.0);
        assert!(
            (norm - expected).abs() <= 1e-4 * expected,
            "gradient norm {norm}, recorded {expected}"
        );
        adam.step(&mut trainee.flat, recorded.lr);
    }
    let stored = Stored::read(&format!(
        "{folder}/params_after_3_steps_eps{eps}.safetensors"
    ));
    let names: HashMap<String, &str> = stored.names().map(|name| (own_name(name), name)).collect();
    let off = |(name, tensor): (&str, &Tensor)| {
        (tensor.detach() - stored.get(names[name]))
            .abs()
            .flatten(0, -1)
    };
    let off = trainee.store.tensors().map(off).collect::<Vec<_>>();
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
pub fn mostly_within(off: &Tensor) {
    let worst = off.max().double_value(&[]);
    let beyond = off
        .gt(1e-5)
        .to_kind(Kind::Double)
        .mean(Kind::Double)
        .double_value(&[]);
    assert!(
        worst <= 1e-4 && beyond <= 1e-3,
        "worst {worst:e}, fraction beyond 1e-5 {beyond}"
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
    let (fixture, cells) = (Fixture::new(Weights::default()), recorded_cells());
    let task = (&fixture.objective(), &cells[..]);
    let folder = "annotation/train_cls";
    let mut once = trainee();
    once.gradient(task, (6, 1), Pass::Training(0));
    check_gradients(folder, &once);
    check_steps((folder, "0.0001"), trainee(), task, within_a_millionth);
    check_steps((folder, "1e-08"), trainee(), task, mostly_within);
}

#[test]
fn train_cls_cce_ecs() {
    let (fixture, cells) = (Fixture::new(all_losses()), recorded_cells());
    let task = (&fixture.objective(), &cells[..]);
    let folder = "annotation/train_cls_cce_ecs";
    let mut once = trainee();
    once.gradient(task, (6, 1), Pass::Training(0));
    check_gradients(folder, &once);
    check_steps((folder, "0.0001"), trainee(), task, within_a_millionth);
}

#[test]
fn shards_and_threads_do_not_change_the_gradient() {
    let cells = recorded_cells();
    for weights in [Weights::default(), all_losses()] {
        let fixture = Fixture::new(weights);
        let gradient = |setting| {
            let mut trainee = trainee();
            trainee.gradient((&fixture.objective(), &cells), setting, Pass::Training(0));
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
    let (fixture, cells) = (Fixture::new(all_losses()), recorded_cells());
    let gradient = |kind| {
        let mut trainee = Trainee { kind, ..trainee() };
        trainee.gradient((&fixture.objective(), &cells), (4, 2), Pass::Training(0));
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
