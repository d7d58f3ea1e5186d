//! `losses`: every loss on fixed tensors, and gradient reversal.

use crate::support::{Stored, assert_close};
use scgpt_tools::model::{losses, reverse_gradient};
use tch::{Kind, Tensor};

#[test]
fn losses_equal_the_original_implementation() {
    let stored = Stored::read("losses/losses.safetensors");
    let get = |name: &str| stored.get(name);
    let mask = get("mask").to_kind(Kind::Float);
    let count = mask.sum(Kind::Float);
    let masked = |sum: Tensor| sum / &count;
    let check = |name: &str, found: Tensor| {
        let expected = get(name);
        // 1e-5 relative.
        assert_close(
            name,
            &found,
            expected,
            1e-5 * expected.double_value(&[]).abs(),
        );
    };
    check(
        "masked_mse",
        masked(losses::squared_error(get("pred"), get("target"), &mask)),
    );
    check(
        "masked_relative_error",
        masked(losses::relative_error(get("pred"), get("target"), &mask)),
    );
    check(
        "neg_log_bernoulli",
        masked(losses::zero_log_likelihood(
            get("prob_nonzero"),
            get("target"),
            &mask,
        )),
    );
    let cells = get("logits").size()[0] as f64;
    check(
        "cross_entropy",
        losses::cross_entropy(get("logits"), get("labels"), None, 0.0) / cells,
    );
    check(
        "cce",
        losses::contrast(get("cell_emb"), get("cell_emb_second")),
    );
    check("ecs_0_3", losses::elastic_similarity(get("cell_emb"), 0.3));
    check("ecs_0_8", losses::elastic_similarity(get("cell_emb"), 0.8));
}

#[test]
fn gradient_reversal_turns_the_sign_and_nothing_else() {
    let stored = Stored::read("losses/gradient_reversal.safetensors");
    let x = stored.get("x").copy().set_requires_grad(true);
    let reversed = reverse_gradient(&x);
    assert!(reversed.equal(&x), "the forward pass must not change a bit");
    let loss = (reversed * stored.get("w")).sum(Kind::Float);
    let gradient = Tensor::run_backward(&[loss], &[&x], false, false).remove(0);
    assert_close("grad_x", &gradient, stored.get("grad_x"), 1e-6);
}
