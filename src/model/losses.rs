//! Every loss (docs/methods.md, "Losses"). Sums are given apart from their counts, so that a minibatch can be computed in
//! parts and still be averaged exactly; they are f32 whatever the model computes in.

use tch::{Kind, Reduction, Tensor};

/// Probabilities are clipped to at least this and at most 1 less this: float32 epsilon.
const PROBABILITY_EPS: f64 = f32::EPSILON as f64;

/// Sum of squared differences over the masked tokens.
pub fn squared_error(predicted: &Tensor, target: &Tensor, masked: &Tensor) -> Tensor {
    ((predicted.to_kind(Kind::Float) - target).square() * masked).sum(Kind::Float)
}

/// Sum over the masked tokens of the negative log-likelihood of "zero or not" under the predicted probability of not zero.
pub fn zero_log_likelihood(nonzero: &Tensor, target: &Tensor, masked: &Tensor) -> Tensor {
    let q = nonzero
        .to_kind(Kind::Float)
        .clamp(PROBABILITY_EPS, 1.0 - PROBABILITY_EPS);
    let logit = q.log() - (1.0f64 - &q).log();
    let is_nonzero = target.gt(0.0).to_kind(Kind::Float);
    let each = logit.binary_cross_entropy_with_logits(
        &is_nonzero,
        None::<Tensor>,
        None::<Tensor>,
        Reduction::None,
    );
    (each * masked).sum(Kind::Float)
}

/// Sum over the masked tokens of |p - t| / (t + 1e-6): for the log only.
pub fn relative_error(predicted: &Tensor, target: &Tensor, masked: &Tensor) -> Tensor {
    ((predicted - target).abs() / (target + 1e-6) * masked).sum(Kind::Float)
}

/// Sum of cross-entropies of scores `[cells, classes]` against classes `[cells]`, each weighted by its class if weights
/// `[classes]` are given. `smoothing` is the fraction of certainty given to all classes alike.
pub fn cross_entropy(
    scores: &Tensor,
    classes: &Tensor,
    weights: Option<&Tensor>,
    smoothing: f64,
) -> Tensor {
    scores.to_kind(Kind::Float).cross_entropy_loss(
        classes,
        weights,
        Reduction::Sum,
        -100,
        smoothing,
    )
}

/// Cosine similarities of all pairs of rows, `[a, b]`.
fn cosine(a: &Tensor, b: &Tensor) -> Tensor {
    let unit = |x: &Tensor| {
        let x = x.to_kind(Kind::Float);
        &x / x.norm_scalaropt_dim(2.0, [-1], true).clamp_min(1e-8)
    };
    unit(a).matmul(&unit(b).tr())
}

/// Cell contrast (CCE): two embeddings of the same cells under different dropout must find each other. Mean over cells.
pub fn contrast(first: &Tensor, second: &Tensor) -> Tensor {
    const TEMPERATURE: f64 = 0.5;
    let labels = Tensor::arange(first.size()[0], (Kind::Int64, first.device()));
    (cosine(first, second) / TEMPERATURE).cross_entropy_for_logits(&labels)
}

/// Elastic cell similarity (ECS): pushes similarities away from the threshold. Mean over all pairs, the diagonal counted as
/// similarity 0 (docs/methods.md, "Elastic cell similarity").
pub fn elastic_similarity(cells: &Tensor, threshold: f64) -> Tensor {
    let off_diagonal: Tensor = 1.0f64 - Tensor::eye(cells.size()[0], (Kind::Float, cells.device()));
    let similarity = (cosine(cells, cells) * off_diagonal).relu();
    let apart: Tensor = 1.0f64 - (similarity - threshold).square();
    apart.mean(Kind::Float)
}
