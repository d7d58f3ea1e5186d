//! Expression values of one cell to bins (reference section 9.5; paper, "gene expression binning").
//!
//! The values other than zero are ranked into `n_bins - 1` bins with edges at their own quantiles; zero stays bin 0. Counts
//! have many ties, and a tied value may lie on several equal edges. The reference pre-trained with the highest of the bins
//! such a value may take (`OneSided`) and fine-tunes with one of them at random (`BothSided`).

use crate::random::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to a value that lies on several equal bin edges.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// Tied values go to the highest of their bins, as in pre-training: no randomness.
    OneSided,
    /// Tied values are spread over their bins at random, the same way for the same seed and cell.
    #[default]
    BothSided,
}

/// The `n_bins - 1` edges: quantiles of the values other than zero.
///
/// Positions and interpolation follow the reference's order of operations in f64, because another order changes which edges
/// equal data points exactly.
pub fn edges(values: &[f32], n_bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f32> = values
        .iter()
        .copied()
        .filter(|value| *value != 0.0)
        .collect();
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        return Vec::new();
    }
    let intervals = n_bins.saturating_sub(2).max(1);
    let step = 1.0 / intervals as f64;
    (0..=intervals)
        .map(|k| quantile(&sorted, if k == intervals { 1.0 } else { k as f64 * step }))
        .collect()
}

fn quantile(sorted: &[f32], q: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * q;
    let lower = position.floor();
    let fraction = position - lower;
    let a = f64::from(sorted[lower as usize]);
    let b = f64::from(sorted[(lower as usize + 1).min(sorted.len() - 1)]);
    if fraction < 0.5 {
        a + (b - a) * fraction
    } else {
        b - (b - a) * (1.0 - fraction)
    }
}

/// Replaces every value by its bin, 0 for zero, else 1..n_bins-1. `draw` gives uniforms in [0, 1) for both-sided ties, one
/// for every value other than zero, in order; without it ties are one-sided.
pub fn bin_with(values: &mut [f32], n_bins: usize, mut draw: Option<&mut dyn FnMut() -> f64>) {
    let edges = edges(values, n_bins);
    for value in values.iter_mut().filter(|value| **value != 0.0) {
        let x = f64::from(*value);
        let upper = edges.partition_point(|edge| *edge <= x) as f64;
        *value = match &mut draw {
            None => upper,
            Some(draw) => {
                let lower = edges.partition_point(|edge| *edge < x) as f64;
                (draw() * (lower - upper) + upper).ceil()
            }
        } as f32;
    }
}

/// Bins one cell in place; `stream` is used for both-sided ties only.
pub fn bin(values: &mut [f32], n_bins: usize, ties: Ties, stream: &mut Stream) {
    match ties {
        Ties::OneSided => bin_with(values, n_bins, None),
        Ties::BothSided => bin_with(values, n_bins, Some(&mut || random::uniform(stream))),
    }
}
