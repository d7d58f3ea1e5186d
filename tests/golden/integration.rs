//! `integration`, `multiomic`, `multiomic_variants`: batch labels, a norm for every batch, modalities, explicit zeros and the
//! discriminator; forward passes, losses, gradients, Adam steps and running statistics.

use super::annotation::{GENES, model};
use super::training::{Trainee, check_gradients, check_steps, figure};
use crate::support::{Stored, assert_close, checkpoint, data, difference};
use scgpt_tools::checkpoint::Architecture;
use scgpt_tools::model::{Encoded, Heads, Inputs, Model, Noise, OutputTokens};
use scgpt_tools::train::Pass;
use scgpt_tools::train::integration::{Example, Integration, Query, Weights};
use tch::{Device, Kind, Tensor, no_grad};

/// Every option of the batch integration tutorial.
fn batch_heads() -> Heads {
    Heads::of(&checkpoint("integration/checkpoint").heads)
}

fn ids(stored: &Stored, name: &str) -> Vec<i64> {
    Vec::try_from(stored.get(name).to_kind(Kind::Int64)).expect("ids")
}

/// The recorded cells without pads.
fn cells(folder: &str) -> Vec<Example> {
    let stored = Stored::read(&format!("{folder}/inputs.safetensors"));
    let batches = ids(&stored, "batch_labels");
    let cell = |at: usize| {
        let pads = stored.get("key_padding_mask").get(at as i64);
        let length = pads.logical_not().sum(Kind::Int64).int64_value(&[]);
        let row = |name: &str| stored.get(name).get(at as i64).narrow(0, 0, length);
        let floats =
            |name: &str| Vec::<f32>::try_from(row(name).to_kind(Kind::Float)).expect("values");
        let has_modalities = stored.names().any(|name| name == "mod_types");
        Example {
            genes: Vec::try_from(row("gene_ids")).expect("ids"),
            values: floats("values_masked"),
            targets: floats("values_target"),
            masked: floats("masked_positions"),
            modalities: match has_modalities {
                true => Vec::try_from(row("mod_types")).expect("ids"),
                false => Vec::new(),
            },
            query: Query::default(),
            batch: batches[at],
            domain: batches[at],
            origin: batches[at],
        }
    };
    (0..batches.len()).map(cell).collect()
}

fn inputs(cells: &[Example]) -> Inputs {
    let modalities: Vec<i64> = cells.iter().flat_map(|c| c.modalities.clone()).collect();
    Inputs {
        batches: Some(cells.iter().map(|cell| cell.batch).collect()),
        domains: Some(cells.iter().map(|cell| cell.domain).collect()),
        modalities: (!modalities.is_empty()).then(|| Tensor::from_slice(&modalities)),
        ..Inputs::new(
            cells.iter().map(|c| (&c.genes[..], &c.values[..])),
            Device::Cpu,
        )
    }
}

fn encode(model: &Model, inputs: &Inputs) -> Encoded {
    no_grad(|| model.encode(inputs, OutputTokens::All, &mut Noise::off()))
}

/// Stored numbers of the positions that hold tokens.
fn tokens(stored: &Tensor, pads: &Tensor) -> Tensor {
    let keep = pads.logical_not().flatten(0, -1).nonzero().squeeze_dim(-1);
    stored.flatten(0, 1).index_select(0, &keep)
}

/// The outputs of a model for recorded cells equal the outputs recorded under the prefix.
fn check_outputs(folder: &str, outputs: &str, cells: &[Example], heads: Heads, prefix: &str) {
    let (_store, model) = model(folder, heads);
    let outputs = Stored::read(outputs);
    let pads = Tensor::cat(
        &cells
            .iter()
            .map(|cell| {
                let width = outputs.get(&format!("{prefix}mlm_output")).size()[1];
                Tensor::arange(width, (Kind::Int64, Device::Cpu))
                    .ge(cell.genes.len() as i64)
                    .unsqueeze(0)
            })
            .collect::<Vec<_>>(),
        0,
    );
    let inputs = inputs(cells);
    let encoded = encode(&model, &inputs);
    let check = |name: &str, found: &Tensor, tolerance: f64| {
        let name = format!("{prefix}{name}");
        // Outputs recorded for some models only.
        let is_rare = ["total_emb", "transformer_output", "dab_output"]
            .iter()
            .any(|rare| name.contains(rare));
        if !is_rare || outputs.names().any(|known| known == name) {
            let stored = outputs.get(&name);
            let per_token = found.size()[0] != cells.len() as i64;
            let stored = if per_token {
                tokens(stored, &pads)
            } else {
                stored.shallow_clone()
            };
            assert_close(&name, found, &stored, tolerance);
        }
    };
    let (_, embedded) = no_grad(|| model.embed(&inputs, None, &mut Noise::off()));
    check("total_emb_after_dsbn", &embedded, 1e-5);
    check("total_emb", &embedded, 1e-5);
    check("transformer_output", &encoded.hidden, 1e-5);
    check("cell_emb", &encoded.cells, 1e-5);
    let (values, nonzero) = model.predict_expression(&encoded, &inputs).expect("GEP");
    check("mlm_output", &values, 1e-5);
    nonzero
        .iter()
        .for_each(|p| check("mlm_zero_probs", p, 1e-5));
    let (values, nonzero) = model.predict_from_cell(&encoded, &inputs).expect("GEPC");
    check("mvc_output", &values, 1e-4);
    nonzero
        .iter()
        .for_each(|p| check("mvc_zero_probs", p, 1e-5));
    if let Some(discriminator) = &model.discriminator {
        check("dab_output", &discriminator.forward(&encoded.cells), 1e-5);
    }
}

#[test]
fn integration_forward() {
    let outputs = "integration/outputs.safetensors";
    let folder = "integration/checkpoint";
    let mut cells = cells("integration");
    check_outputs(folder, outputs, &cells, batch_heads(), "");
    // The original implementation normalizes all cells of a minibatch like its first.
    let mixed = ids(
        &Stored::read("integration/inputs.safetensors"),
        "batch_labels_mixed",
    );
    for (cell, batch) in cells.iter_mut().zip(&mixed) {
        (cell.batch, cell.domain) = (*batch, mixed[0]);
    }
    check_outputs(folder, outputs, &cells, batch_heads(), "mixed.");
}

#[test]
fn cells_are_embedded_with_the_norm_of_their_own_batch() {
    let stored = Stored::read("integration/encode_batch.safetensors");
    let (_store, model) = model("integration/checkpoint", batch_heads());
    let (order, batches) = (
        stored.positions("order"),
        ids(&stored, "batch_labels_sorted"),
    );
    let unsorted = cells("integration");
    let sorted = |at: usize, domain: i64| Example {
        values: unsorted[order[at]].targets.clone(),
        batch: batches[at],
        domain,
        ..unsorted[order[at]].clone()
    };
    let all = 0..batches.len();
    let own: Vec<Example> = all.clone().map(|at| sorted(at, batches[at])).collect();
    let embedded = encode(&model, &inputs(&own)).cells;
    assert_close(
        "own domain",
        &embedded,
        stored.get("each_cell_own_domain"),
        1e-5,
    );
    // In the original implementation a slice takes the statistics of its first cell (docs/methods.md,
    // "Domain-specific batch normalization").
    let sliced: Vec<Example> = all.map(|at| sorted(at, batches[at / 4 * 4])).collect();
    let embedded = encode(&model, &inputs(&sliced)).cells;
    assert_close("slices of 4", &embedded, stored.get("slices_of_4"), 1e-5);
}

#[test]
fn multiomic_forward() {
    let cells = cells("multiomic");
    let outputs = "multiomic/outputs.safetensors";
    let heads = Heads::of(&checkpoint("multiomic/checkpoint").heads);
    assert!(heads.conditioned_query && heads.modalities == Some(5));
    check_outputs("multiomic/checkpoint", outputs, &cells, heads, "");
    for variant in ["batch_only", "mod_only", "neither"] {
        let folder = format!("multiomic_variants/{variant}");
        let heads = Heads::of(&checkpoint(&folder).heads);
        let mut cells = cells.clone();
        if heads.modalities.is_none() {
            cells.iter_mut().for_each(|cell| cell.modalities.clear());
        }
        let outputs = format!("{folder}/outputs.safetensors");
        check_outputs(&folder, &outputs, &cells, heads, "");
    }
}

/// The objective of a tutorial on recorded cells.
struct Fixture {
    architecture: Architecture,
    weights: Weights,
    heads: Heads,
}

impl Fixture {
    fn batches() -> Self {
        Self {
            architecture: checkpoint("integration/checkpoint").architecture,
            weights: Weights {
                zero_weight: 1.0,
                ecs_weight: 10.0,
                ecs_threshold: 0.8,
                ..Weights::default()
            },
            heads: batch_heads(),
        }
    }

    fn modalities() -> Self {
        Self {
            architecture: checkpoint("multiomic/checkpoint").architecture,
            weights: Weights::default(),
            heads: Heads::of(&checkpoint("multiomic/checkpoint").heads),
        }
    }

    fn objective(&self) -> Integration<'_> {
        Integration {
            weights: &self.weights,
            architecture: &self.architecture,
            genes: GENES,
            heads: self.heads,
            device: Device::Cpu,
        }
    }
}

#[test]
fn losses_of_integration_in_evaluation() {
    let fixture = Fixture::batches();
    let mut trainee = Trainee::new("integration/checkpoint", fixture.heads);
    let task = (&fixture.objective(), &cells("integration")[..]);
    let figures = trainee.gradient(task, (8, 1), Pass::Evaluation);
    let file = std::fs::read(data("integration/losses_eval_mode.json")).expect("losses");
    let stored: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    let names = [
        ("gep", "gep", 1.0),
        ("zero", "nzlp", 1.0),
        ("gepc", "gepc", 1.0),
    ];
    let more = [
        ("gepc_zero", "mvc_nzlp", 1.0),
        ("ecs", "ecs_x10", 10.0),
        ("dar", "dab", 1.0),
    ];
    for (ours, theirs, weight) in names.into_iter().chain(more) {
        let (found, expected) = (weight * figure(&figures, ours), stored[theirs].as_f64());
        let expected = expected.expect("a number");
        assert!(
            (found - expected).abs() <= 1e-5 * expected,
            "{ours}: {found}, {expected}"
        );
    }
}

/// Parameters and running statistics within two millionths of the largest.
fn closely(off: &Tensor) {
    let worst = off.max().double_value(&[]);
    assert!(worst <= 2e-6, "off by up to {worst:e} after three steps");
}

fn check_training(folder: &str, heads: Heads, objective: &Integration, cells: &[Example]) {
    let trainee = || Trainee::new(&format!("{folder}/checkpoint"), heads);
    let steps = format!("{folder}/train");
    let mut once = trainee();
    once.gradient((objective, cells), (cells.len(), 1), Pass::Training(0));
    check_gradients(&steps, &once);
    check_steps((&steps, "0.0001"), trainee(), (objective, cells), closely);
    // A gradient that is all rounding, as that of a bias before a norm, turns into a full step either way.
    let rate = if folder == "multiomic" { 1e-3 } else { 1e-4 };
    check_steps((&steps, "1e-08"), trainee(), (objective, cells), |off| {
        assert!(off.max().double_value(&[]) <= 6.0 * rate);
        let beyond = off.gt(0.1 * rate).to_kind(Kind::Double);
        assert!(beyond.mean(Kind::Double).double_value(&[]) <= 1e-3);
    });
}

#[test]
fn train_integration() {
    let fixture = Fixture::batches();
    check_training(
        "integration",
        fixture.heads,
        &fixture.objective(),
        &cells("integration"),
    );
}

#[test]
fn train_multiomic() {
    let fixture = Fixture::modalities();
    check_training(
        "multiomic",
        fixture.heads,
        &fixture.objective(),
        &cells("multiomic"),
    );
}

/// Cells of several batches in one minibatch: each is normalized by its own, however the minibatch is cut.
#[test]
fn shards_and_threads_do_not_change_the_statistics_of_batches() {
    let fixture = Fixture::batches();
    let objective = fixture.objective();
    let mut cells = cells("integration");
    for (at, cell) in cells.iter_mut().enumerate() {
        (cell.batch, cell.domain) = ((at % 3) as i64, (at % 3) as i64);
    }
    let train = |how| {
        let mut trainee = Trainee::new("integration/checkpoint", fixture.heads);
        trainee.gradient((&objective, &cells), how, Pass::Training(0));
        trainee.flat
    };
    let whole = train((8, 1));
    let scale = whole.gradients.norm().double_value(&[]);
    for shard in [1, 3] {
        let parts = train((shard, 1));
        assert!(
            difference(&parts.gradients, &whole.gradients) <= 1e-5 * scale,
            "shards of {shard}"
        );
        assert!(
            difference(&parts.values, &whole.values) <= 1e-6,
            "statistics, shards of {shard}"
        );
        let threaded = train((shard, 3));
        assert!(threaded.gradients.equal(&parts.gradients) && threaded.values.equal(&parts.values));
    }
}
