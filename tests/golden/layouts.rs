//! `layouts`: the same weights under every name they go by give the very same answer.

use super::annotation::{HEADS, model};
use crate::support::Stored;
use scgpt_tools::model::{Inputs, Noise, OutputTokens, Sequences};
use tch::{Tensor, no_grad};

#[test]
fn layouts_answer_alike() {
    let plain = cells("annotation/checkpoint");
    for folder in [
        "layouts/B_flash_direct",
        "layouts/C_flash_wrapped",
        "layouts/D_data_parallel",
    ] {
        assert!(cells(folder).equal(&plain), "{folder} differs");
    }
}

fn cells(folder: &str) -> Tensor {
    let stored = Stored::read("annotation/inputs.safetensors");
    let inputs = Inputs {
        gene_ids: stored.get("gene_ids").flatten(0, -1),
        values: stored.get("values").flatten(0, -1),
        conditions: None,
        sequences: Sequences::with_pads(stored.get("key_padding_mask")),
        batches: None,
        domains: None,
        modalities: None,
        perturbed: None,
    };
    let (_store, model) = model(folder, HEADS);
    no_grad(|| {
        model
            .encode(&inputs, OutputTokens::All, &mut Noise::off())
            .cells
    })
}
