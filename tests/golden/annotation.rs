//! `annotation`, `annotation_category`, `annotation_plain_bn`: forward passes of the plain model and its heads.

use crate::support::{Stored, assert_close, checkpoint};
use scgpt_tools::checkpoint::Checkpoint;
use scgpt_tools::model::{
    Encoded, Genes, Heads, Inputs, Model, Noise, OutputTokens, Pooling, Sequences, Store, losses,
    weights,
};
use scgpt_tools::random::Seed;
use tch::{Device, Kind, Tensor, no_grad};

/// Vocabulary of every fixture.
pub const GENES: Genes = Genes {
    rows: 203,
    pad: Some(200),
};

/// A golden model with all its weights.
pub fn model(folder: &str, heads: Heads) -> (Store, Model) {
    let Checkpoint {
        architecture,
        state,
        ..
    } = checkpoint(folder);
    let mut store = Store::new(Seed(0), Device::Cpu);
    let model = Model::new(&mut store, &architecture, GENES, heads);
    weights::load(&store, &state)
        .require_all()
        .expect("every weight of the model is in the checkpoint");
    (store, model)
}

pub const HEADS: Heads = Heads {
    classes: Some(5),
    expression: true,
    ..Heads::NONE
};

/// Inputs as stored, pads in the stream.
fn padded(stored: &Stored) -> Inputs {
    Inputs {
        gene_ids: stored.get("gene_ids").flatten(0, -1),
        values: stored.get("values").flatten(0, -1),
        conditions: None,
        sequences: Sequences::with_pads(stored.get("key_padding_mask")),
        batches: None,
        domains: None,
        modalities: None,
        perturbed: None,
    }
}

/// The same cells without pads, one after the other.
fn ragged(stored: &Stored) -> Inputs {
    let keep = keep(stored);
    let lengths = stored
        .get("key_padding_mask")
        .logical_not()
        .sum_dim_intlist([1i64].as_slice(), false, Kind::Int64);
    Inputs {
        gene_ids: stored.get("gene_ids").flatten(0, -1).index_select(0, &keep),
        values: stored.get("values").flatten(0, -1).index_select(0, &keep),
        conditions: None,
        sequences: Sequences::new(Vec::try_from(lengths).expect("lengths"), Device::Cpu),
        batches: None,
        domains: None,
        modalities: None,
        perturbed: None,
    }
}

/// Positions in the padded stream that hold tokens.
fn keep(stored: &Stored) -> Tensor {
    stored
        .get("key_padding_mask")
        .logical_not()
        .flatten(0, -1)
        .nonzero()
        .squeeze_dim(-1)
}

fn encode(model: &Model, inputs: &Inputs, wanted: OutputTokens) -> Encoded {
    no_grad(|| model.encode(inputs, wanted, &mut Noise::off()))
}

#[test]
fn annotation_forward_without_padding() {
    let (inputs, outputs) = (
        Stored::read("annotation/inputs.safetensors"),
        Stored::read("annotation/outputs.safetensors"),
    );
    let (_store, model) = model("annotation/checkpoint", HEADS);
    let ragged = ragged(&inputs);
    let tokens = |name: &str| {
        let stored = outputs.get(name);
        stored.flatten(0, 1).index_select(0, &keep(&inputs))
    };
    let (genes, embedded) = no_grad(|| model.embed(&ragged, None, &mut Noise::off()));
    assert_close("gene_emb", &genes, &tokens("gene_emb"), 1e-5);
    assert_close(
        "value_emb",
        &(&embedded - &genes),
        &tokens("value_emb"),
        1e-5,
    );
    assert_close("total_emb", &embedded, &tokens("total_emb"), 1e-5);
    let layers = no_grad(|| {
        model
            .transformer()
            .hidden_states(&embedded, &ragged.sequences)
    });
    assert_close("layer0_out", &layers[0], &tokens("layer0_out"), 1e-5);
    let encoded = encode(&model, &ragged, OutputTokens::All);
    assert_close(
        "transformer_output",
        &encoded.hidden,
        &tokens("transformer_output"),
        1e-5,
    );
    assert_close(
        "transformer_output, fast path",
        &encoded.hidden,
        &tokens("fastpath.transformer_output"),
        1e-5,
    );
    let expression = model
        .expression
        .as_ref()
        .expect("expression head")
        .forward(&encoded.hidden);
    assert_close("mlm_output", &expression, &tokens("mlm_output"), 1e-5);
    assert_close("cell_emb", &encoded.cells, outputs.get("cell_emb"), 1e-5);
    let scores = model
        .classifier
        .as_ref()
        .expect("classifier")
        .forward(&encoded.cells);
    assert_close("cls_output", &scores, outputs.get("cls_output"), 1e-5);
    let again = encode(&model, &ragged, OutputTokens::All).cells;
    assert_close(
        "loss_cce",
        &losses::contrast(&encoded.cells, &again),
        outputs.get("loss_cce"),
        1e-5,
    );
    assert_close(
        "loss_ecs",
        &losses::elastic_similarity(&encoded.cells, 0.3),
        outputs.get("loss_ecs"),
        1e-5,
    );
}

#[test]
fn annotation_forward_with_padding_and_pooling() {
    let (inputs, outputs) = (
        Stored::read("annotation/inputs.safetensors"),
        Stored::read("annotation/outputs.safetensors"),
    );
    let (_store, model) = model("annotation/checkpoint", HEADS);
    let padded = padded(&inputs);
    let encoded = encode(&model, &padded, OutputTokens::All);
    // With gradients on, the original implementation computes pads like any other token, and so does this.
    let whole = outputs.get("transformer_output");
    assert_close(
        "transformer_output, pads too",
        &encoded.hidden.view_as(whole),
        whole,
        1e-5,
    );
    // The original implementation pools pads too (docs/methods.md, "Cell embedding"); given pads as tokens, so does ours.
    let pool = |pooling| encoded.pool(pooling, &padded.values, padded.sequences.lengths());
    assert_close(
        "cell_emb",
        &pool(Pooling::Cls),
        outputs.get("cell_emb"),
        1e-5,
    );
    assert_close(
        "cell_emb.avg-pool",
        &pool(Pooling::Mean),
        outputs.get("cell_emb.avg-pool"),
        1e-5,
    );
    assert_close(
        "cell_emb.w-pool",
        &pool(Pooling::Weighted),
        outputs.get("cell_emb.w-pool"),
        1e-5,
    );
}

#[test]
fn annotation_attention_weights() {
    let (inputs, outputs) = (
        Stored::read("annotation/inputs.safetensors"),
        Stored::read("annotation/outputs.safetensors"),
    );
    let (_store, model) = model("annotation/checkpoint", HEADS);
    let ragged = ragged(&inputs);
    let (_, embedded) = no_grad(|| model.embed(&ragged, None, &mut Noise::off()));
    let attention = no_grad(|| {
        model
            .transformer()
            .attention(0, &embedded, ragged.sequences.lengths())
    });
    for (cell, (weights, &length)) in (0i64..).zip(attention.iter().zip(ragged.sequences.lengths()))
    {
        let stored = outputs
            .get("layer0_attention")
            .get(cell)
            .narrow(1, 0, length)
            .narrow(2, 0, length);
        assert_close("layer0_attention", weights, &stored, 1e-5);
    }
}

#[test]
fn the_first_token_alone_is_the_same_token() {
    let inputs = ragged(&Stored::read("annotation/inputs.safetensors"));
    let (_store, model) = model("annotation/checkpoint", HEADS);
    let all = encode(&model, &inputs, OutputTokens::All).cells;
    assert_close(
        "cell_emb",
        &encode(&model, &inputs, OutputTokens::First).cells,
        &all,
        1e-6,
    );
}

#[test]
fn annotation_category_forward() {
    forward_matches(
        "annotation_category",
        "annotation_category/inputs.safetensors",
        HEADS,
    );
}

#[test]
fn annotation_plain_bn_forward() {
    forward_matches(
        "annotation_plain_bn",
        "annotation/inputs.safetensors",
        Heads {
            plain_norm: true,
            ..HEADS
        },
    );
}

fn forward_matches(folder: &str, inputs: &str, heads: Heads) {
    let (inputs, outputs) = (
        Stored::read(inputs),
        Stored::read(&format!("{folder}/outputs.safetensors")),
    );
    let (_store, model) = model(&format!("{folder}/checkpoint"), heads);
    let encoded = encode(&model, &ragged(&inputs), OutputTokens::All);
    let valid = |name: &str| {
        outputs
            .get(name)
            .flatten(0, 1)
            .index_select(0, &keep(&inputs))
    };
    assert_close(
        "transformer_output",
        &encoded.hidden,
        &valid("transformer_output"),
        1e-5,
    );
    assert_close("cell_emb", &encoded.cells, outputs.get("cell_emb"), 1e-5);
    let expression = model
        .expression
        .as_ref()
        .expect("expression head")
        .forward(&encoded.hidden);
    assert_close("mlm_output", &expression, &valid("mlm_output"), 1e-5);
    let scores = model
        .classifier
        .as_ref()
        .expect("classifier")
        .forward(&encoded.cells);
    assert_close("cls_output", &scores, outputs.get("cls_output"), 1e-5);
}
