//! Baselines of masked value prediction.

use rayon::prelude::*;
use serde::Serialize;

use crate::baselines::imputation::{GeneMeans, Query, from_similar_cells};
use crate::train::pretraining::{Cell, Example};

/// Mean squared errors over the values to predict, in squared bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    pub baseline_gene_mean: f64,
    pub baseline_knn: f64,
    /// Number of predicted values.
    pub values: u64,
}

/// Known values and target genes of an example, and the true values of the targets.
fn query(example: &Example) -> (Query, Vec<f64>) {
    let is_masked = example.queries.is_empty();
    let genes = if is_masked {
        &example.input.genes
    } else {
        &example.queries
    };
    let all = genes.iter().zip(&example.targets).zip(&example.counted);
    let masked = all.filter(|(_, counted)| **counted > 0.0);
    let (targets, truth) = masked
        .map(|((&gene, &target), _)| (gene, f64::from(target)))
        .unzip();
    let known = example
        .input
        .genes
        .iter()
        .zip(&example.input.values)
        .enumerate()
        .skip(1);
    let known = known.filter(|(at, _)| !is_masked || example.counted[*at] == 0.0);
    let known = known.map(|(_, (&gene, &value))| (gene, value)).collect();
    (Query { known, targets }, truth)
}

/// Errors of both baselines on the masked values of the examples.
pub fn errors(examples: &[Example], means: &GeneMeans, compared: &[Cell]) -> Errors {
    let each = |example: &Example| {
        let (query, truth) = query(example);
        let similar = from_similar_cells(&query, compared.iter().map(|cell| &cell.tokens), means);
        let error = |predicted: Vec<f64>| -> f64 {
            predicted
                .iter()
                .zip(&truth)
                .map(|(predicted, truth)| (predicted - truth).powi(2))
                .sum()
        };
        (
            error(means.predict(&query)),
            error(similar),
            truth.len() as u64,
        )
    };
    // Collected first, so that the order of summation is that of the cells.
    let all: Vec<(f64, f64, u64)> = examples.par_iter().map(each).collect();
    let add = |(a, b, n), (c, d, m): &(f64, f64, u64)| (a + c, b + d, n + m);
    let (by_mean, by_cells, values) = all.iter().fold((0.0, 0.0, 0), add);
    Errors {
        baseline_gene_mean: by_mean / values as f64,
        baseline_knn: by_cells / values as f64,
        values,
    }
}
