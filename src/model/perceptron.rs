//! Multilayer perceptron with ReLU, a baseline.

use super::layers::Linear;
use super::store::Store;
use tch::Tensor;

/// A multilayer perceptron.
#[derive(Debug)]
pub struct Perceptron(Vec<Linear>);

impl Perceptron {
    /// Layers with the given dimensions, from input to output.
    pub fn new(store: &mut Store, dims: &[i64]) -> Self {
        let layer = |(at, pair): (usize, &[i64])| {
            Linear::new(store, &format!("layers.{at}"), pair[0], pair[1])
        };
        Self(dims.windows(2).enumerate().map(layer).collect())
    }

    /// Rows `[rows, input dim]` to rows `[rows, output dim]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let Some((last, hidden)) = self.0.split_last() else {
            return x.shallow_clone();
        };
        let x = hidden
            .iter()
            .fold(x.shallow_clone(), |x, layer| layer.forward(&x).relu());
        last.forward(&x)
    }
}
