//! Expression values of one cell to bins (reference section 9.5; paper, "gene expression binning").
//!
//! The values other than zero are ranked into `n_bins - 1` bins with edges at their own quantiles; zero stays bin 0. Counts
//! have many ties, and a tied value may lie on several equal edges. The reference pre-trained with the highest of the bins
//! such a value may take (`OneSided`) and fine-tunes with one of them at random (`BothSided`).

use crate::random::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest count that is counted rather than compared.
const LARGEST_COUNT: f32 = 4096.0;
/// Counts below this are looked up once for each cell.
const KNOWN: usize = 64;

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
    let sorted = sorted(values);
    if sorted.is_empty() {
        return Vec::new();
    }
    let intervals = n_bins.saturating_sub(2).max(1);
    let step = 1.0 / intervals as f64;
    (0..=intervals)
        .map(|k| quantile(&sorted, if k == intervals { 1.0 } else { k as f64 * step }))
        .collect()
}

/// The values other than zero in order. Counts, which are small and whole, are counted rather than compared.
fn sorted(values: &[f32]) -> Vec<f32> {
    let mut sorted: Vec<f32> = values
        .iter()
        .copied()
        .filter(|value| *value != 0.0)
        .collect();
    let is_count = |value: &f32| *value > 0.0 && *value <= LARGEST_COUNT && is_whole(*value);
    if !sorted.iter().all(is_count) {
        sorted.sort_unstable_by(f32::total_cmp);
        return sorted;
    }
    let largest = sorted
        .iter()
        .fold(0.0_f32, |largest, &value| largest.max(value));
    let mut times = vec![0u32; largest as usize + 1];
    sorted.iter().for_each(|&value| times[value as usize] += 1);
    sorted.clear();
    for (count, times) in times.into_iter().enumerate() {
        sorted.extend(std::iter::repeat_n(count as f32, times as usize));
    }
    sorted
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
    // Most values of a cell are the same few counts.
    let mut known = [None; KNOWN];
    for value in values.iter_mut().filter(|value| **value != 0.0) {
        let place = if *value > 0.0 && is_whole(*value) {
            *value as usize
        } else {
            KNOWN
        };
        let (lower, upper) = match known.get_mut(place) {
            Some(known) => *known.get_or_insert_with(|| bins_of(*value, &edges)),
            None => bins_of(*value, &edges),
        };
        *value = match &mut draw {
            None => upper,
            Some(draw) => (draw() * (lower - upper) + upper).ceil(),
        } as f32;
    }
}

/// Whether a value is a whole number that fits 32 bits; faster than asking for its fraction.
fn is_whole(value: f32) -> bool {
    value as i32 as f32 == value
}

/// Numbers of edges below a value, and at or below it.
fn bins_of(value: f32, edges: &[f64]) -> (f64, f64) {
    let x = f64::from(value);
    let lower = edges.partition_point(|edge| *edge < x);
    let upper = edges.partition_point(|edge| *edge <= x);
    (lower as f64, upper as f64)
}

/// Bins one cell in place; `stream` is used for both-sided ties only.
pub fn bin(values: &mut [f32], n_bins: usize, ties: Ties, stream: &mut Stream) {
    match ties {
        Ties::OneSided => bin_with(values, n_bins, None),
        Ties::BothSided => bin_with(values, n_bins, Some(&mut || random::uniform(stream))),
    }
}
