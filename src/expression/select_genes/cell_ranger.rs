//! Highly variable genes from log-normalized values: dispersion compared among genes of similar mean.
//!
//! Equal percentile edges are merged (docs/methods.md, "Highly variable genes"). Where the genes of an interval do not differ
//! (median deviation 0), a gene at the median has no normalized dispersion and counts as 0; any other is infinitely far and
//! comes first.

use rayon::prelude::*;

use super::columns::{Columns, Groups, Moments};
use super::{Selection, Statistics, first, median};

/// Makes the median absolute deviation of a normal distribution its standard deviation: the third quartile.
const NORMAL_QUARTILE: f64 = 0.674_489_750_196_081_7;

/// What a gene adds in a batch without any cell that expresses it.
const ABSENT: Statistics = Statistics {
    mean: 0.0,
    spread: 0.0,
    normalized_spread: 0.0,
    rank: None,
    n_batches: 0,
};

pub fn select(columns: &Columns, groups: &Groups, wanted: usize) -> Selection {
    let all_batches = batch_moments(columns, groups);
    let (statistics, kept) = score(&all_batches[0], wanted);
    Selection { kept, statistics }
}

/// Scores within each batch the genes it expresses, then keeps the genes chosen most often.
pub fn select_by_batch(columns: &Columns, groups: &Groups, wanted: usize) -> Selection {
    let expressed = expressed(columns, groups);
    let batches = batch_moments(columns, groups);
    let mut merged = vec![Merged::default(); columns.n_genes()];
    for (batch, moments) in batches.iter().enumerate() {
        let (present, absent): (Vec<usize>, Vec<usize>) =
            (0..moments.len()).partition(|&gene| expressed[gene][batch]);
        let of_present: Vec<Moments> = present.iter().map(|&gene| moments[gene]).collect();
        let (statistics, _) = score(&of_present, wanted);
        present
            .iter()
            .zip(&statistics)
            .for_each(|(&gene, statistics)| merged[gene].add(statistics));
        absent
            .into_iter()
            .for_each(|gene| merged[gene].add(&ABSENT));
    }
    let statistics: Vec<Statistics> = merged.iter().map(|gene| gene.mean(batches.len())).collect();
    let mut order: Vec<usize> = (0..statistics.len()).collect();
    let key = |gene: usize| {
        Some(statistics[gene].normalized_spread)
            .filter(|v| !v.is_nan())
            .unwrap_or(f64::NEG_INFINITY)
    };
    order.sort_by(|&a, &b| {
        statistics[b]
            .n_batches
            .cmp(&statistics[a].n_batches)
            .then(key(b).total_cmp(&key(a)))
    });
    Selection {
        kept: first(order, wanted),
        statistics,
    }
}

/// Moments by batch, then gene.
fn batch_moments(columns: &Columns, groups: &Groups) -> Vec<Vec<Moments>> {
    let by_gene: Vec<Vec<Moments>> = (0..columns.n_genes())
        .into_par_iter()
        .map(|gene| groups.moments(columns, gene))
        .collect();
    (0..groups.sizes.len())
        .map(|batch| by_gene.iter().map(|moments| moments[batch]).collect())
        .collect()
}

/// Whether a gene has a positive value in any cell of a batch, by gene, then batch.
fn expressed(columns: &Columns, groups: &Groups) -> Vec<Vec<bool>> {
    let of_gene = |gene| {
        let mut found = vec![false; groups.sizes.len()];
        columns
            .gene(gene)
            .filter(|&(_, value)| value > 0.0)
            .for_each(|(cell, _)| found[groups.of_cell[cell]] = true);
        found
    };
    (0..columns.n_genes()).map(of_gene).collect()
}

/// Statistics of each gene and the genes whose normalized dispersion reaches that of the last one wanted.
fn score(moments: &[Moments], wanted: usize) -> (Vec<Statistics>, Vec<usize>) {
    let means: Vec<f64> = moments
        .iter()
        .map(|m| if m.mean == 0.0 { 1e-12 } else { m.mean })
        .collect();
    let dispersions: Vec<f64> = moments
        .iter()
        .zip(&means)
        .map(|(m, mean)| m.variance / mean)
        .collect();
    let normalized = normalize(&means, &dispersions);
    let scores: Vec<f64> = normalized
        .iter()
        .map(|&value| if value.is_nan() { 0.0 } else { value })
        .collect();
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // A batch that expresses fewer genes than are wanted keeps them all.
    let limit = sorted.get(wanted - 1).copied().unwrap_or(f64::NEG_INFINITY);
    let kept = (0..means.len())
        .filter(|&gene| scores[gene] >= limit)
        .collect();
    let describe = |gene: usize| Statistics {
        mean: means[gene],
        spread: dispersions[gene],
        normalized_spread: normalized[gene],
        rank: None,
        n_batches: u32::from(scores[gene] >= limit),
    };
    ((0..means.len()).map(describe).collect(), kept)
}

/// Distance of each dispersion from the median of its interval of means, in median deviations.
fn normalize(means: &[f64], dispersions: &[f64]) -> Vec<f64> {
    let edges = edges(means);
    let intervals: Vec<usize> = means
        .iter()
        .map(|mean| edges.partition_point(|edge| edge < mean))
        .collect();
    let mut members = vec![Vec::new(); edges.len() + 1];
    for (&interval, &dispersion) in intervals.iter().zip(dispersions) {
        members[interval].push(dispersion);
    }
    let center_and_width = |members: &Vec<f64>| {
        let center = if members.is_empty() {
            return (0.0, 1.0);
        } else {
            median(members.clone())
        };
        let deviations = members.iter().map(|value| (value - center).abs()).collect();
        (center, median(deviations) / NORMAL_QUARTILE)
    };
    let scales: Vec<(f64, f64)> = members.iter().map(center_and_width).collect();
    let normalize = |(&interval, dispersion): (&usize, &f64)| {
        (dispersion - scales[interval].0) / scales[interval].1
    };
    intervals.iter().zip(dispersions).map(normalize).collect()
}

/// The 10th, 15th, ... 100th percentiles, linearly interpolated, without repetitions.
fn edges(means: &[f64]) -> Vec<f64> {
    let mut sorted = means.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return Vec::new();
    };
    let percentile = |percent: u32| {
        let position = last as f64 * (f64::from(percent) / 100.0);
        let (below, fraction) = (position.floor() as usize, position.fract());
        let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
        if fraction < 0.5 {
            a + (b - a) * fraction
        } else {
            b - (b - a) * (1.0 - fraction)
        }
    };
    let mut edges: Vec<f64> = (10..=100).step_by(5).map(percentile).collect();
    edges.dedup();
    edges
}

/// Sums over batches; a normalized dispersion that does not exist is excluded from its average.
#[derive(Clone, Default)]
struct Merged {
    mean: f64,
    spread: f64,
    normalized: f64,
    n_normalized: usize,
    n_batches: u32,
}

impl Merged {
    fn add(&mut self, statistics: &Statistics) {
        self.mean += statistics.mean;
        self.spread += statistics.spread;
        self.n_batches += statistics.n_batches;
        if !statistics.normalized_spread.is_nan() {
            self.normalized += statistics.normalized_spread;
            self.n_normalized += 1;
        }
    }

    fn mean(&self, batches: usize) -> Statistics {
        Statistics {
            mean: self.mean / batches as f64,
            spread: self.spread / batches as f64,
            normalized_spread: self.normalized / self.n_normalized as f64,
            rank: None,
            n_batches: self.n_batches,
        }
    }
}
