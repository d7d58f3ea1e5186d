//! Simpler methods on the task of pre-training: what a model must beat.

use rayon::prelude::*;
use serde::Serialize;

use crate::baselines::hidden_values::{GeneMeans, Question, from_similar_cells};
use crate::train::pretraining::{Cell, Example};

/// Mean squared errors over the values to tell, in squared bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    pub gene_mean: f64,
    pub nearest_cells: f64,
    /// Values told.
    pub values: u64,
}

/// What an example tells and asks, and the true answers.
fn question(example: &Example) -> (Question, Vec<f64>) {
    let is_masked = example.asked.is_empty();
    let genes = if is_masked {
        &example.told.genes
    } else {
        &example.asked
    };
    let all = genes.iter().zip(&example.targets).zip(&example.counted);
    let hidden = all.filter(|(_, counted)| **counted > 0.0);
    let (asked, answers) = hidden
        .map(|((&gene, &target), _)| (gene, f64::from(target)))
        .unzip();
    let told = example
        .told
        .genes
        .iter()
        .zip(&example.told.values)
        .enumerate()
        .skip(1);
    let told = told.filter(|(at, _)| !is_masked || example.counted[*at] == 0.0);
    let told = told.map(|(_, (&gene, &value))| (gene, value)).collect();
    (Question { told, asked }, answers)
}

/// Lets both methods tell the hidden values of the examples.
pub fn errors(examples: &[Example], means: &GeneMeans, compared: &[Cell]) -> Errors {
    let each = |example: &Example| {
        let (question, answers) = question(example);
        let similar =
            from_similar_cells(&question, compared.iter().map(|cell| &cell.sentence), means);
        let error = |told: Vec<f64>| -> f64 {
            told.iter()
                .zip(&answers)
                .map(|(told, answer)| (told - answer).powi(2))
                .sum()
        };
        (
            error(means.answer(&question)),
            error(similar),
            answers.len() as u64,
        )
    };
    // Collected first: the order of adding is that of the cells.
    let all: Vec<(f64, f64, u64)> = examples.par_iter().map(each).collect();
    let add = |(a, b, n), (c, d, m): &(f64, f64, u64)| (a + c, b + d, n + m);
    let (by_mean, by_cells, values) = all.iter().fold((0.0, 0.0, 0), add);
    Errors {
        gene_mean: by_mean / values as f64,
        nearest_cells: by_cells / values as f64,
        values,
    }
}
