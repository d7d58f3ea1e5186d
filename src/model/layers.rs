//! Dense layers and layer norms with the names, shapes and initial values of torch.

use super::store::{Init, Store};
use tch::Tensor;

/// Epsilon of every layer norm of the model.
const LAYER_NORM_EPS: f64 = 1e-5;

/// `x W^T + b`; weight `[to, from]`.
#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Linear {
    pub fn new(store: &mut Store, name: &str, from: i64, to: i64) -> Self {
        let mut layer = Self::without_bias(store, name, from, to);
        let bound = 1.0 / (from as f64).sqrt();
        layer.bias = Some(store.parameter(&format!("{name}.bias"), &[to], Init::Uniform(bound)));
        layer
    }

    pub fn without_bias(store: &mut Store, name: &str, from: i64, to: i64) -> Self {
        // Kaiming-uniform with a = sqrt(5), torch's default, comes to this bound.
        let bound = 1.0 / (from as f64).sqrt();
        Self {
            weight: store.parameter(&format!("{name}.weight"), &[to, from], Init::Uniform(bound)),
            bias: None,
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// Normalization over the last axis, affine.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(store: &mut Store, name: &str, dim: i64) -> Self {
        Self {
            weight: store.parameter(&format!("{name}.weight"), &[dim], Init::Constant(1.0)),
            bias: store.parameter(&format!("{name}.bias"), &[dim], Init::Constant(0.0)),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(
            self.weight.size(),
            Some(&self.weight),
            Some(&self.bias),
            LAYER_NORM_EPS,
            true,
        )
    }
}
