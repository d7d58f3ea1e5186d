//! `perturbation`, `perturbation_variant`: perturbation flags as input, affine expression decoder,
//! and three Adam steps.

use super::annotation::{GENES, model};
use super::training::{Trainee, check_gradients, check_steps, mostly_within};
use crate::support::{Stored, assert_close, checkpoint};
use scgpt_tools::model::{Heads, Inputs, Line, Model, Noise, OutputTokens, PerturbedCell};
use scgpt_tools::train::Pass;
use scgpt_tools::train::perturbation::{Example, Perturbation};
use tch::{Device, Kind, Tensor, no_grad};

fn ids(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.to_kind(Kind::Int64)).expect("ids")
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float)).expect("numbers")
}

/// The recorded cells, of some of their columns.
fn cells(columns: &[i64]) -> Vec<Example> {
    let stored = Stored::read("perturbation/inputs.safetensors");
    let columns = Tensor::from_slice(columns);
    let cell = |at: i64| {
        let row = |name: &str| stored.get(name).get(at).index_select(0, &columns);
        let genes = stored.get("gene_column_to_vocab").index_select(0, &columns);
        Example {
            cell: PerturbedCell {
                genes: ids(&genes),
                values: floats(&row("control_values")),
                flags: ids(&row("pert_flags")),
                doses: Vec::new(),
            },
            targets: floats(&row("target_values")),
            known: vec![1.0; columns.numel()],
        }
    };
    (0..4).map(cell).collect()
}

fn all() -> Vec<i64> {
    (0..50).collect()
}

fn subset() -> Vec<i64> {
    ids(Stored::read("perturbation/inputs.safetensors").get("subset_columns"))
}

fn predict(model: &Model, cells: &[Example]) -> Tensor {
    let cells = cells.iter().map(|example| &example.cell);
    no_grad(|| model.predict_perturbed(cells, Device::Cpu, &mut Noise::off()))
}

fn heads(folder: &str) -> Heads {
    Heads::of(&checkpoint(folder).heads)
}

#[test]
fn perturbation_forward() {
    let outputs = Stored::read("perturbation/outputs.safetensors");
    let heads = heads("perturbation/checkpoint");
    assert_eq!((heads.perturbation, heads.expression), (true, false));
    let (_store, model) = model("perturbation/checkpoint", heads);
    let predicted = |cells: &[Example]| predict(&model, cells);
    let check = |name: &str, found: &Tensor| {
        let stored = outputs.get(name);
        assert_close(name, &found.view_as(stored), stored, 1e-5);
    };
    check("mlm_output", &predicted(&cells(&all())));
    check("pred_perturb_all", &predicted(&cells(&all())));
    check("mlm_output_subset", &predicted(&cells(&subset())));
}

/// Genes that no control cell expresses are dropped, and predicted as 0, selected as in the original implementation.
#[test]
fn genes_of_a_minibatch() {
    let stored = Stored::read("perturbation/inputs.safetensors");
    let outputs = Stored::read("perturbation/outputs.safetensors");
    let expressed = stored.get("control_values").ne(0.0).any_dim(0, false);
    let columns = expressed.nonzero().squeeze_dim(-1);
    let (_store, model) = model("perturbation/checkpoint", heads("perturbation/checkpoint"));
    let cells = cells(&ids(&columns));
    let predicted = predict(&model, &cells);
    let whole = Tensor::zeros([4, 50], (Kind::Float, Device::Cpu));
    let whole = whole.index_copy(1, &columns, &predicted.view([4, -1]));
    let expected = outputs.get("pred_perturb_batchwise");
    assert_close("pred_perturb_batchwise", &whole, expected, 1e-5);
}

#[test]
fn variants_of_the_line() {
    let outputs = Stored::read("perturbation_variant/outputs.safetensors");
    let folder = "perturbation_variant/checkpoint";
    let heads = Heads {
        affine_expression: Some(Line {
            adaptive_bias: true,
            softplus: true,
        }),
        ..heads(folder)
    };
    let (_store, model) = model(folder, heads);
    let cells = cells(&all());
    let inputs = Inputs::perturbed(cells.iter().map(|example| &example.cell), Device::Cpu);
    let encoded = no_grad(|| model.encode(&inputs, OutputTokens::All, &mut Noise::off()));
    let check = |name: &str, found: &Tensor, tolerance: f64| {
        let stored = outputs.get(name);
        assert_close(name, &found.view_as(stored), stored, tolerance);
    };
    let (values, nonzero) = model
        .predict_expression(&encoded, &inputs)
        .expect("expression");
    check("mlm_pred_unsampled", &values, 1e-5);
    check("mlm_zero_probs", &nonzero.expect("zeros"), 1e-5);
    let (values, nonzero) = model.predict_from_cell(&encoded, &inputs).expect("GEPC");
    check("mvc_pred_unsampled", &values, 1e-4);
    check("mvc_zero_probs", &nonzero.expect("zeros"), 1e-5);
}

#[test]
fn train_perturbation() {
    let golden = checkpoint("perturbation/checkpoint");
    let heads = Heads::of(&golden.heads);
    let objective = Perturbation {
        architecture: &golden.architecture,
        genes: GENES,
        heads,
        device: Device::Cpu,
    };
    let cells = cells(&subset());
    let trainee = || Trainee::new("perturbation/checkpoint", heads);
    let mut once = trainee();
    once.gradient((&objective, &cells[..]), (4, 1), Pass::Training(0));
    check_gradients("perturbation/train", &once);
    let steps = ("perturbation/train", "1e-08");
    check_steps(steps, trainee(), (&objective, &cells), mostly_within);
}
