//! Binning of the expression values of a cell (docs/methods.md, "Binning"; paper, "gene expression binning").
//!
//! The values other than zero are ranked into `n_bins - 1` bins with edges at their own quantiles; zero stays bin 0. Counts
//! have many ties, and a tied value may lie on several equal edges. The original implementation pre-trained with the highest of
//! the bins such a value may take (`OneSided`) and fine-tunes with one of them at random (`BothSided`).

use crate::random::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest count that is counted rather than compared.
const LARGEST_COUNT: usize = 4096;

/// Binning of a value that lies on several equal bin edges.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The highest bin, as in pre-training of the published models.
    OneSided,
    /// One of the bins at random, depending on the seed, as in fine-tuning with scGPT in Python.
    #[default]
    BothSided,
}

/// The `n_bins - 1` edges: quantiles of the values other than zero.
///
/// Positions and interpolation follow the original implementation's order of operations in f64, because another order changes
/// which edges equal data points exactly.
pub fn edges(values: &[f32], n_bins: usize) -> Vec<f64> {
    Sorted::of(values).edges(n_bins)
}

/// The values of a cell other than zero in order.
enum Sorted {
    /// How many of them are at most 0, 1, 2, ... up to the largest: all are small counts.
    Counts(Vec<u32>),
    Values(Vec<f32>),
}

impl Sorted {
    fn of(values: &[f32]) -> Self {
        if let Some(at_most) = count(values) {
            return Self::Counts(at_most);
        }
        let others = values.iter().copied().filter(|value| *value != 0.0);
        let mut sorted: Vec<f32> = others.collect();
        sorted.sort_unstable_by(f32::total_cmp);
        Self::Values(sorted)
    }

    fn len(&self) -> usize {
        match self {
            Self::Counts(at_most) => at_most.last().map_or(0, |&all| all as usize),
            Self::Values(sorted) => sorted.len(),
        }
    }

    fn at(&self, place: usize) -> f64 {
        match self {
            Self::Counts(at_most) => at_most.partition_point(|&n| n as usize <= place) as f64,
            Self::Values(sorted) => f64::from(sorted[place]),
        }
    }

    fn edges(&self, n_bins: usize) -> Vec<f64> {
        if self.len() == 0 {
            return Vec::new();
        }
        let intervals = n_bins.saturating_sub(2).max(1);
        let step = 1.0 / intervals as f64;
        (0..=intervals)
            .map(|k| self.quantile(if k == intervals { 1.0 } else { k as f64 * step }))
            .collect()
    }

    fn quantile(&self, q: f64) -> f64 {
        let last = self.len() - 1;
        let position = last as f64 * q;
        let lower = position.floor();
        let fraction = position - lower;
        let a = self.at(lower as usize);
        let b = self.at((lower as usize + 1).min(last));
        if fraction < 0.5 {
            a + (b - a) * fraction
        } else {
            b - (b - a) * (1.0 - fraction)
        }
    }
}

/// How many values other than zero are at most 0, 1, 2, ... up to the largest; `None` if one is not a small count.
fn count(values: &[f32]) -> Option<Vec<u32>> {
    let mut times = [0u32; LARGEST_COUNT + 1];
    let mut largest = 0_i32;
    for &value in values {
        let count = value as i32;
        if count as f32 != value {
            return None;
        }
        *times.get_mut(count as usize)? += 1;
        largest = largest.max(count);
    }
    times[0] = 0;
    let mut sum = 0_u32;
    let up_to = |times: &u32| {
        sum += times;
        sum
    };
    Some(times[..=largest as usize].iter().map(up_to).collect())
}

/// Replaces every value by its bin, 0 for zero, else 1..n_bins-1. `draw` gives uniforms in [0, 1) for both-sided ties, one
/// for every value other than zero, in order; without it ties are one-sided.
pub fn bin_with(values: &mut [f32], n_bins: usize, mut draw: Option<&mut dyn FnMut() -> f64>) {
    let sorted = Sorted::of(values);
    let edges = sorted.edges(n_bins);
    let mut choose = |(lower, upper): (f64, f64)| match &mut draw {
        None => upper,
        Some(draw) => (draw() * (lower - upper) + upper).ceil(),
    };
    let others = values.iter_mut().filter(|value| **value != 0.0);
    if let Sorted::Counts(at_most) = sorted {
        let bins = bins_of_counts(&at_most, &edges);
        others.for_each(|value| *value = choose(bins[*value as u32 as usize]) as f32);
    } else {
        others.for_each(|value| *value = choose(bins_of(f64::from(*value), &edges)) as f32);
    }
}

/// Numbers of edges below a value, and at or below it.
fn bins_of(value: f64, edges: &[f64]) -> (f64, f64) {
    let lower = edges.partition_point(|edge| *edge < value);
    let upper = edges.partition_point(|edge| *edge <= value);
    (lower as f64, upper as f64)
}

/// The same of every count that occurs.
fn bins_of_counts(at_most: &[u32], edges: &[f64]) -> Vec<(f64, f64)> {
    let mut below = 0;
    let bins = at_most.iter().enumerate().map(|(count, &n)| {
        let occurs = std::mem::replace(&mut below, n) < n;
        if occurs {
            bins_of(count as f64, edges)
        } else {
            (0.0, 0.0)
        }
    });
    bins.collect()
}

/// Bins one cell in place; `stream` is used for both-sided ties only.
pub fn bin(values: &mut [f32], n_bins: usize, ties: Ties, stream: &mut Stream) {
    match ties {
        Ties::OneSided => bin_with(values, n_bins, None),
        Ties::BothSided => bin_with(values, n_bins, Some(&mut || random::uniform(stream))),
    }
}
