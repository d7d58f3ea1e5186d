//! Batch normalization of the embedded tokens: domain-specific (DSBN), or plain as in models of 2023 (docs/methods.md, "Plain batch
//! normalization").
//!
//! The plain one is applied with the statistics of its checkpoint, in fine-tuning too, so that a prediction never depends on
//! the other cells of a minibatch. DSBN updates its running statistics in training.

use super::attention::Sequences;
use super::store::{Init, Store};
use tch::{Kind, Tensor, no_grad};

/// Epsilon of the batch norms of the original implementation.
const EPS: f64 = 6.1e-5;

#[derive(Debug)]
pub struct PlainNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl PlainNorm {
    pub fn new(store: &mut Store, name: &str, dim: i64) -> Self {
        let _ = store.buffer(
            &format!("{name}.num_batches_tracked"),
            &[],
            0.0,
            Kind::Int64,
        );
        Self {
            weight: store.parameter(&format!("{name}.weight"), &[dim], Init::Constant(1.0)),
            bias: store.parameter(&format!("{name}.bias"), &[dim], Init::Constant(0.0)),
            mean: store.buffer(&format!("{name}.running_mean"), &[dim], 0.0, Kind::Float),
            variance: store.buffer(&format!("{name}.running_var"), &[dim], 1.0, Kind::Float),
        }
    }

    /// Tokens `[tokens, dim]`, normalized feature by feature.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let scale = (&self.variance + EPS).rsqrt() * &self.weight;
        (x - &self.mean) * scale + &self.bias
    }
}

/// Weight of the statistics of a minibatch in the running ones.
const MOMENTUM: f64 = 0.1;

/// A normalization for every batch, without weights of its own (docs/methods.md, "Domain-specific batch normalization";
/// `scgpt/model/dsbn.py`). The original implementation counts pads; here are none.
///
/// Every cell is normalized by its own batch, also where cells of several share a minibatch; the original implementation takes
/// the batch of the first one for all.
#[derive(Debug)]
pub struct DomainNorm {
    means: Vec<Tensor>,
    variances: Vec<Tensor>,
}

/// For every batch the number of tokens, their sum and the sum of their squares, `[batches, 1 + 2 dim]` in f32.
pub type Moments = Tensor;

impl DomainNorm {
    pub fn new(store: &mut Store, batches: usize, dim: i64) -> Self {
        let mut statistic = |name: &str, value: f64| -> Vec<Tensor> {
            (0..batches)
                .map(|n| store.buffer(&format!("dsbn.bns.{n}.{name}"), &[dim], value, Kind::Float))
                .collect()
        };
        Self {
            means: statistic("running_mean", 0.0),
            variances: statistic("running_var", 1.0),
        }
    }

    /// Tokens `[tokens, dim]`, normalized feature by feature with the statistics of the batch of their cell: those of the given
    /// moments, or the running ones.
    pub fn forward(
        &self,
        x: &Tensor,
        (batches, sequences): (&[i64], &Sequences),
        moments: Option<&Moments>,
    ) -> Tensor {
        let (mean, variance) = match moments {
            Some(moments) => statistics(moments),
            None => (
                Tensor::stack(&self.means, 0),
                Tensor::stack(&self.variances, 0),
            ),
        };
        let (mean, scale) = (mean, (variance + EPS).rsqrt());
        let [mean, scale] = [mean, scale].map(|rows| match one_batch(batches) {
            Some(batch) => rows.narrow(0, batch, 1),
            None => sequences.spread(&rows.index_select(0, &ids(batches, &rows))),
        });
        ((x.to_kind(Kind::Float) - mean) * scale).to_kind(x.kind())
    }

    /// The moments of tokens `[tokens, dim]`.
    pub fn moments(&self, x: &Tensor, (batches, sequences): (&[i64], &Sequences)) -> Moments {
        let x = x.to_kind(Kind::Float);
        let tokens = sequences.spread(&ids(batches, &x));
        let rows = (0..self.means.len() as i64).map(|batch| {
            let own = match one_batch(batches) {
                Some(only) if only == batch => x.shallow_clone(),
                Some(_) => x.narrow(0, 0, 0),
                None => x.index_select(0, &tokens.eq(batch).nonzero().squeeze_dim(1)),
            };
            let sum = |own: &Tensor| own.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
            let count = Tensor::full([1], own.size()[0] as f64, (Kind::Float, x.device()));
            Tensor::cat(&[count, sum(&own), sum(&own.square())], 0)
        });
        Tensor::stack(&rows.collect::<Vec<_>>(), 0)
    }

    /// Moves the running statistics toward those of a minibatch; batches without a token there keep theirs.
    pub fn learn(&self, moments: &Moments) {
        self.move_towards(moments, MOMENTUM);
    }

    /// Sets the running statistics of batches to those of some of their cells.
    pub fn set(&self, moments: &Moments) {
        self.move_towards(moments, 1.0);
    }

    fn move_towards(&self, moments: &Moments, weight: f64) {
        let counts = Vec::<f32>::try_from(moments.select(1, 0)).expect("a column of numbers");
        let (means, variances) = statistics(moments);
        for (batch, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            // The running variance is that of a sample, as in torch.
            let unbiased = f64::from(count) / (f64::from(count) - 1.0).max(1.0);
            no_grad(|| {
                let at = batch as i64;
                let _ = self.means[batch]
                    .shallow_clone()
                    .lerp_(&means.get(at), weight);
                let _ = self.variances[batch]
                    .shallow_clone()
                    .lerp_(&(variances.get(at) * unbiased), weight);
            });
        }
    }
}

/// Means and variances, `[batches, dim]` each.
fn statistics(moments: &Moments) -> (Tensor, Tensor) {
    let dim = (moments.size()[1] - 1) / 2;
    let counts = moments.narrow(1, 0, 1).clamp_min(1.0);
    let mean = moments.narrow(1, 1, dim) / &counts;
    let variance = moments.narrow(1, 1 + dim, dim) / counts - mean.square();
    (mean, variance.clamp_min(0.0))
}

fn ids(batches: &[i64], like: &Tensor) -> Tensor {
    Tensor::from_slice(batches).to_device(like.device())
}

/// The batch of all cells, if they have one in common.
fn one_batch(batches: &[i64]) -> Option<i64> {
    let first = *batches.first()?;
    batches.iter().all(|batch| *batch == first).then_some(first)
}
