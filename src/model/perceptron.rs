//! Dense layers with nothing between them but the positive part, a simple method beside a transformer.

use super::layers::Linear;
use super::store::Store;
use tch::Tensor;

/// A multi-layer perceptron.
#[derive(Debug)]
pub struct Perceptron(Vec<Linear>);

impl Perceptron {
    /// Layers between the given widths, the first of which is that of the input.
    pub fn new(store: &mut Store, widths: &[i64]) -> Self {
        let layer = |(at, pair): (usize, &[i64])| {
            Linear::new(store, &format!("layers.{at}"), pair[0], pair[1])
        };
        Self(widths.windows(2).enumerate().map(layer).collect())
    }

    /// Rows `[rows, first width]` to rows `[rows, last width]`.
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
