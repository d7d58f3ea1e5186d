//! Adam and AdamW on the flat parameter vector, with a state that can be saved, which libtorch does not offer in Rust.

use crate::model::Flat;
use tch::{Tensor, no_grad};

const BETAS: (f64, f64) = (0.9, 0.999);

/// Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019) of the trained parameters if it is above
/// zero.
///
/// Parameters that never receive a gradient keep zero moments and so do not move, as in torch, which skips them.
#[derive(Debug)]
pub struct Adam {
    pub first_moment: Tensor,
    pub second_moment: Tensor,
    pub step: u64,
    pub eps: f64,
    pub weight_decay: f64,
}

impl Adam {
    pub fn new(flat: &Flat, eps: f64, weight_decay: f64) -> Self {
        let zeros = || flat.values.zeros_like();
        Self {
            first_moment: zeros(),
            second_moment: zeros(),
            step: 0,
            eps,
            weight_decay,
        }
    }

    /// One update in place from the flat gradient.
    pub fn step(&mut self, flat: &mut Flat, learning_rate: f64) {
        self.step += 1;
        let bias = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let (bias1, bias2) = (bias(BETAS.0), bias(BETAS.1));
        no_grad(|| {
            let _ = self.first_moment.lerp_(&flat.gradients, 1.0 - BETAS.0);
            let _ = self
                .second_moment
                .lerp_(&flat.gradients.square(), 1.0 - BETAS.1);
            if self.weight_decay > 0.0 {
                for &(start, length) in &flat.trained {
                    let _ = flat
                        .values
                        .narrow(0, start, length)
                        .g_mul_scalar_(1.0 - learning_rate * self.weight_decay);
                }
            }
            let scale = self.second_moment.sqrt() / bias2.sqrt() + self.eps;
            flat.values -= &self.first_moment / scale * (learning_rate / bias1);
        });
    }
}

/// Clips the gradient to a maximum norm and returns the norm before (L2, over all parameters).
pub fn clip(flat: &mut Flat, largest: f64) -> f64 {
    let norm = flat.gradients.norm().double_value(&[]);
    if norm > largest {
        let _ = flat.gradients.g_mul_scalar_(largest / (norm + 1e-6));
    }
    norm
}
