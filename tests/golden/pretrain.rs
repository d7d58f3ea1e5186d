//! `pretrain`: split into perceived and generated genes, both passes of the generative model, its losses, gradients and
//! three Adam steps, and the learning rate.

use super::annotation::{GENES, model};
use super::training::{Trainee, check_gradients, check_steps, figure, mostly_within};
use crate::support::{Stored, assert_close, checkpoint, data, difference};
use scgpt_tools::checkpoint::Architecture;
use scgpt_tools::model::{Heads, Noise, Split, SplitInputs};
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::Tokens;
use scgpt_tools::tokens::binning;
use scgpt_tools::tokens::prompt_mask::Perception;
use scgpt_tools::train::pretraining::{Example, Objectives, Pretraining, Task};
use scgpt_tools::train::{Pass, cosine};
use std::cell::Cell;
use tch::{Device, Kind, Tensor, no_grad};

const HEADS: Heads = Heads {
    expression: true,
    cell_expression: true,
    generative: true,
    ..Heads::NONE
};

fn list<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Vec<T>
where
    Vec<T>: TryFrom<Tensor>,
    <Vec<T> as TryFrom<Tensor>>::Error: std::fmt::Debug,
{
    Vec::try_from(tensor.shallow_clone()).expect("a vector")
}

/// The tokens of a recorded cell that are not pads.
fn kept(part: &str, cell: i64) -> i64 {
    let inputs = Stored::read("pretrain/inputs.safetensors");
    let pads = inputs.get(&format!("{part}_key_padding_mask")).get(cell);
    pads.logical_not().sum(Kind::Int64).int64_value(&[])
}

/// The recorded cells without their pads.
fn examples() -> Vec<Example> {
    let inputs = Stored::read("pretrain/inputs.safetensors");
    let row = |part: &str, name: &str, cell: i64| {
        inputs
            .get(&format!("{part}_{name}"))
            .get(cell)
            .narrow(0, 0, kept(part, cell))
    };
    let example = |cell| {
        let targets: Vec<f32> = list(&row("gen", "expr_target", cell));
        Example {
            input: Tokens {
                genes: list(&row("pcpt", "gene", cell)),
                values: list(&row("pcpt", "expr", cell)),
            },
            queries: list(&row("gen", "gene", cell)),
            counted: vec![1.0; targets.len()],
            targets,
            conditions: Vec::new(),
            class: -100,
        }
    };
    (0..6).map(example).collect()
}

/// Recorded numbers of the tokens that are not pads, from a given column on.
fn recorded(name: &str, part: &str, from: i64) -> Tensor {
    let outputs = Stored::read("pretrain/outputs.safetensors");
    let row = |cell| {
        outputs
            .get(name)
            .get(cell)
            .narrow(0, from, kept(part, cell))
    };
    Tensor::cat(&(0..6).map(row).collect::<Vec<_>>(), 0)
}

fn split_inputs(cells: &[Example]) -> SplitInputs {
    SplitInputs::new(
        cells
            .iter()
            .map(|cell| (&cell.input.genes[..], &cell.input.values[..])),
        cells.iter().map(|cell| &cell.queries[..]),
        Device::Cpu,
    )
}

#[test]
fn collator() {
    let stored = Stored::read("pretrain/collator.safetensors");
    let permutation = Cell::new(0);
    for cell in 0..6 {
        let part = |name: &str| stored.get(&format!("cell{cell}.{name}"));
        let mut values: Vec<f32> = list(part("expressions"));
        binning::bin_with(&mut values[1..], 51, None);
        assert_eq!(values, list::<f32>(part("binned")), "cell {cell}");
        let sequence = Tokens {
            genes: list(part("genes")),
            values,
        };
        let recorded = |n: usize| {
            let order: Vec<i64> = list(stored.get(&format!(
                "perm{}",
                permutation.replace(permutation.get() + 1)
            )));
            assert_eq!(order.len(), n);
            order.into_iter().map(|at| at as usize).collect()
        };
        let cut = Perception::cut(&sequence, 0.75, 50, recorded);
        let row = |name: &str| stored.get(name).get(cell);
        assert_eq!(
            cut.perceived.genes,
            list::<i64>(&row("pcpt_gene")),
            "cell {cell}"
        );
        assert_eq!(
            cut.perceived.values,
            list::<f32>(&row("pcpt_expr")),
            "cell {cell}"
        );
        assert_eq!(
            cut.generated.genes,
            list::<i64>(&row("gen_gene")),
            "cell {cell}"
        );
        assert_eq!(
            cut.generated.values,
            list::<f32>(&row("gen_expr_target")),
            "cell {cell}"
        );
    }
}

#[test]
fn both_passes() {
    let (_, model) = model("pretrain/checkpoint", HEADS);
    let outputs = Stored::read("pretrain/outputs.safetensors");
    let inputs = split_inputs(&examples());
    let expression = model.expression.as_ref().expect("the head");
    let flat = |name: &str| recorded(name, if name.contains("gen_") { "gen" } else { "pcpt" }, 0);
    no_grad(|| {
        let first = model.generate(&inputs, None, &mut Noise::off());
        assert_close("cells", &first.cells, outputs.get("cell_emb"), 1e-5);
        assert_close(
            "perceived tokens",
            &first.perceived,
            &flat("pcpt_output"),
            1e-5,
        );
        assert_close("generated tokens", &first.hidden, &flat("gen_output"), 1e-5);
        assert_close(
            "generated values",
            &expression.forward(&first.hidden),
            &flat("gen_preds"),
            1e-5,
        );
        assert_close(
            "perceived values",
            &expression.forward(&first.perceived),
            &flat("pcpt_preds"),
            1e-5,
        );
        let cells = inputs.split.generated.spread(&first.cells);
        let (predicted, _) = model
            .cell_expression
            .as_ref()
            .expect("the head")
            .forward(&first.genes, &cells);
        // Recorded for perceived tokens, pads included, then for generated ones.
        let of_generated = recorded("mvc_output", "gen", 14);
        assert_close("values from the cell", &predicted, &of_generated, 1e-4);
        let second = model.generate(&inputs, Some(&first.cells), &mut Noise::off());
        assert_close(
            "cells, second pass",
            &second.cells,
            outputs.get("second_pass.cell_emb"),
            1e-5,
        );
        assert_close(
            "generated values, second pass",
            &expression.forward(&second.hidden),
            &flat("second_pass.gen_preds"),
            1e-5,
        );
        assert_close(
            "perceived values, second pass",
            &expression.forward(&second.perceived),
            &flat("second_pass.pcpt_preds"),
            1e-5,
        );
    });
}

/// The definition by a mask (docs/methods.md, "Generative attention"): no token attends to a generated one but itself.
fn dense(q: &Tensor, k: &Tensor, v: &Tensor, perceived: i64) -> Tensor {
    let tokens = q.size()[0];
    let heads_first = |t: &Tensor| t.transpose(0, 1);
    let scores =
        heads_first(q).matmul(&heads_first(k).transpose(1, 2)) / (q.size()[2] as f64).sqrt();
    let generated = Tensor::arange(tokens, (Kind::Int64, Device::Cpu)).ge(perceived);
    let forbidden = generated
        .unsqueeze(0)
        .logical_and(&Tensor::eye(tokens, (Kind::Bool, Device::Cpu)).logical_not());
    let weights = scores
        .masked_fill(&forbidden, f64::NEG_INFINITY)
        .softmax(-1, Kind::Float);
    weights
        .matmul(&heads_first(v))
        .transpose(0, 1)
        .flatten(1, 2)
}

#[test]
fn split_attention_equals_the_dense_mask_in_values_and_gradients() {
    tch::manual_seed(1);
    // Large scores too: the own key may get all of the weight or none.
    for (perceived, generated, scale) in [(1, 5, 1.0), (7, 1, 3.0), (20, 30, 0.3), (6, 6, 4.0)] {
        let tokens = perceived + generated;
        let made = || {
            (Tensor::randn([tokens, 2, 8], (Kind::Float, Device::Cpu)) * scale)
                .set_requires_grad(true)
        };
        let [q, k, v] = [made(), made(), made()];
        let weigh = Tensor::randn([generated, 16], (Kind::Float, Device::Cpu));
        let gradients = |context: &Tensor| {
            Tensor::run_backward(
                &[(context * &weigh).sum(Kind::Float)],
                &[&q, &k, &v],
                false,
                false,
            )
        };
        let expected = dense(&q, &k, &v, perceived).narrow(0, perceived, generated);
        let split = Split::new(vec![perceived], vec![generated], Device::Cpu);
        let parts = [&q, &k, &v].map(|t| t.split_with_sizes([perceived, generated], 0));
        let found = split.attend(
            [&parts[0][1], &parts[1][1], &parts[2][1]],
            (&parts[1][0], &parts[2][0]),
        );
        assert_close("context", &found, &expected, 2e-5);
        for (found, expected) in gradients(&found).iter().zip(&gradients(&expected)) {
            let norm = expected.norm().double_value(&[]).max(1e-3);
            let off = difference(found, expected) / norm;
            assert!(
                off <= 1e-4,
                "{perceived} perceived, {generated} generated, scale {scale}: off by {off:e}"
            );
        }
    }
}

#[test]
fn padding_and_other_cells_do_not_change_generated_values() {
    let (_, model) = model("pretrain/checkpoint", HEADS);
    let cells = examples();
    let generate = |cells: &[Example]| {
        no_grad(|| {
            model
                .generate(&split_inputs(cells), None, &mut Noise::off())
                .hidden
        })
    };
    let together = generate(&cells);
    let lengths: Vec<i64> = cells.iter().map(|cell| cell.queries.len() as i64).collect();
    for (cell, rows) in cells.iter().zip(together.split_with_sizes(&lengths, 0)) {
        assert_close(
            "generated tokens",
            &generate(std::slice::from_ref(cell)),
            &rows,
            1e-6,
        );
    }
    let mut ragged = examples();
    for (cell, example) in ragged.iter_mut().enumerate() {
        example.queries.truncate(31 - 6 * cell);
        let input: Vec<usize> = (0..9 - cell).collect();
        example.input = example.input.select(&input);
    }
    let together = generate(&ragged);
    let lengths: Vec<i64> = ragged
        .iter()
        .map(|cell| cell.queries.len() as i64)
        .collect();
    for (cell, rows) in ragged.iter().zip(together.split_with_sizes(&lengths, 0)) {
        assert_close(
            "generated tokens",
            &generate(std::slice::from_ref(cell)),
            &rows,
            1e-6,
        );
    }
}

/// The objective of the recordings.
struct Fixture {
    architecture: Architecture,
    goals: Objectives,
}

impl Fixture {
    fn new(prompt_after: u64) -> Self {
        Self {
            architecture: checkpoint("pretrain/checkpoint").architecture,
            goals: Objectives {
                task: Task::Both,
                prompt_after,
                ..Objectives::default()
            },
        }
    }

    fn objective(&self) -> Pretraining<'_> {
        Pretraining {
            goals: &self.goals,
            architecture: &self.architecture,
            genes: GENES,
            heads: HEADS,
            conditions: None,
            max_length: 50,
            seed: Seed(0),
            device: Device::Cpu,
        }
    }
}

fn trainee() -> Trainee {
    Trainee::new("pretrain/checkpoint", HEADS)
}

#[test]
fn train_first_1000() {
    let (fixture, cells) = (Fixture::new(1000), examples());
    let task = (&fixture.objective(), &cells[..]);
    let mut once = trainee();
    let figures = once.gradient(task, (6, 1), Pass::Training(999));
    assert!((figure(&figures, "gep") - 1160.7177734375).abs() < 0.01);
    assert!((figure(&figures, "gepc") - 1171.0845947265625).abs() < 0.01);
    check_gradients("pretrain/train_first_1000", &once);
    check_steps(
        ("pretrain/train_first_1000", "1e-08"),
        trainee(),
        task,
        mostly_within,
    );
}

#[test]
fn train_with_cell_prompt() {
    let (fixture, cells) = (Fixture::new(0), examples());
    let task = (&fixture.objective(), &cells[..]);
    let mut once = trainee();
    let figures = once.gradient(task, (6, 1), Pass::Training(0));
    assert!((figure(&figures, "gep_prompted") - 1161.1400146484375).abs() < 0.01);
    check_gradients("pretrain/train_with_cell_prompt", &once);
    check_steps(
        ("pretrain/train_with_cell_prompt", "1e-08"),
        trainee(),
        task,
        mostly_within,
    );
}

#[test]
fn lr_schedule() {
    let file = std::fs::read(data("pretrain/lr_schedule.json")).expect("the file");
    let stored: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    let number = |name: &str| stored[name].as_f64().expect("a number");
    let rates = stored["lr_before_step_i"].as_array().expect("a list");
    for (step, rate) in rates.iter().enumerate() {
        let found = number("base_lr") * cosine(step as f64, number("total"), number("warmup"));
        let expected = rate.as_f64().expect("a number");
        assert!(
            (found - expected).abs() <= 1e-12,
            "step {step}: {found}, recorded {expected}"
        );
    }
}
