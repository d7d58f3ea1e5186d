//! Highly variable genes from raw counts: variance of counts standardized by the loess trend of variance on mean.

use rayon::prelude::*;

use super::columns::{Columns, Groups, Moments};
use super::{Selection, Statistics, first, loess, median};

/// Fraction of the genes in each local fit.
const SPAN: f64 = 0.3;

pub fn select(columns: &Columns, groups: &Groups, wanted: usize) -> Selection {
    let genes = 0..columns.n_genes();
    let moments: Vec<Vec<Moments>> = genes
        .clone()
        .into_par_iter()
        .map(|gene| groups.moments(columns, gene))
        .collect();
    let normalized = normalized_variances(columns, groups, &moments);
    let ranks: Vec<Vec<usize>> = (0..groups.sizes.len())
        .map(|batch| ranks(&normalized, batch))
        .collect();
    let all = Groups::single(groups.of_cell.len());
    let describe = |gene: usize| {
        let overall = all.moments(columns, gene)[0];
        let high: Vec<f64> = ranks
            .iter()
            .map(|ranks| ranks[gene])
            .filter(|&rank| rank < wanted)
            .map(|r| r as f64)
            .collect();
        Statistics {
            mean: overall.mean,
            spread: overall.variance,
            normalized_spread: normalized[gene].iter().sum::<f64>() / groups.sizes.len() as f64,
            n_batches: high.len() as u32,
            rank: (!high.is_empty()).then(|| median(high)),
        }
    };
    let statistics: Vec<Statistics> = genes.clone().into_par_iter().map(describe).collect();
    let mut order: Vec<usize> = genes.collect();
    // Stable: genes of equal standing stay in column order.
    order.sort_by(|&a, &b| {
        let key = |gene: usize| statistics[gene].rank.unwrap_or(f64::INFINITY);
        key(a)
            .total_cmp(&key(b))
            .then(statistics[b].n_batches.cmp(&statistics[a].n_batches))
    });
    Selection {
        kept: first(order, wanted),
        statistics,
    }
}

/// Variance of each gene's clipped standardized counts, by gene and batch.
fn normalized_variances(
    columns: &Columns,
    groups: &Groups,
    moments: &[Vec<Moments>],
) -> Vec<Vec<f64>> {
    let deviations: Vec<Vec<f64>> = (0..groups.sizes.len())
        .map(|batch| expected_deviations(moments, batch))
        .collect();
    let of_gene = |gene: usize| {
        let limit = |batch: usize| {
            moments[gene][batch].mean
                + deviations[batch][gene] * (groups.sizes[batch] as f64).sqrt()
        };
        let mut sums = vec![(0.0, 0.0); groups.sizes.len()];
        for (cell, value) in columns.gene(gene) {
            let batch = groups.of_cell[cell];
            let clipped = f64::min(value, limit(batch));
            sums[batch].0 += clipped;
            sums[batch].1 += clipped * clipped;
        }
        let normalize = |(batch, (sum, squares)): (usize, (f64, f64))| {
            let (n, mean) = (groups.sizes[batch] as f64, moments[gene][batch].mean);
            (n * mean * mean + squares - 2.0 * mean * sum)
                / ((n - 1.0) * deviations[batch][gene].powi(2))
        };
        sums.into_iter().enumerate().map(normalize).collect()
    };
    (0..moments.len()).into_par_iter().map(of_gene).collect()
}

/// Standard deviation expected of each gene from its mean in one batch; 1 for genes that do not vary.
fn expected_deviations(moments: &[Vec<Moments>], batch: usize) -> Vec<f64> {
    let varying: Vec<usize> = (0..moments.len())
        .filter(|&gene| moments[gene][batch].variance > 0.0)
        .collect();
    let means: Vec<f64> = varying
        .iter()
        .map(|&gene| moments[gene][batch].mean.log10())
        .collect();
    let variances: Vec<f64> = varying
        .iter()
        .map(|&gene| moments[gene][batch].variance.log10())
        .collect();
    let mut deviations = vec![1.0; moments.len()];
    for (gene, fitted) in varying
        .into_iter()
        .zip(loess::fit(&means, &variances, SPAN))
    {
        deviations[gene] = 10_f64.powf(fitted).sqrt();
    }
    deviations
}

/// Rank of every gene in one batch, 0 for the most variable.
fn ranks(normalized: &[Vec<f64>], batch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..normalized.len()).collect();
    order.sort_by(|&a, &b| normalized[b][batch].total_cmp(&normalized[a][batch]));
    let mut ranks = vec![0; order.len()];
    for (rank, gene) in order.into_iter().enumerate() {
        ranks[gene] = rank;
    }
    ranks
}
