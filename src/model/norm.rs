//! Batch normalisation of the embedded tokens, as models of 2023 have it (quirk Q5): read from their checkpoints and applied
//! with the statistics stored there, in fine-tuning too, so that an answer never depends on who shares a minibatch.

use super::store::{Init, Store};
use tch::{Kind, Tensor};

/// Epsilon of the reference's batch norms.
const EPS: f64 = 6.1e-5;

#[derive(Debug)]
pub struct PlainNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl PlainNorm {
    pub fn new(store: &mut Store, name: &str, width: i64) -> Self {
        let _ = store.buffer(
            &format!("{name}.num_batches_tracked"),
            &[],
            0.0,
            Kind::Int64,
        );
        Self {
            weight: store.parameter(&format!("{name}.weight"), &[width], Init::Constant(1.0)),
            bias: store.parameter(&format!("{name}.bias"), &[width], Init::Constant(0.0)),
            mean: store.buffer(&format!("{name}.running_mean"), &[width], 0.0, Kind::Float),
            variance: store.buffer(&format!("{name}.running_var"), &[width], 1.0, Kind::Float),
        }
    }

    /// Tokens `[tokens, width]`, normalised feature by feature.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let scale = (&self.variance + EPS).rsqrt() * &self.weight;
        (x - &self.mean) * scale + &self.bias
    }
}
