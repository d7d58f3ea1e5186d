//! LISI, the local inverse Simpson's index: how many classes are there effectively around a cell?
//!
//! Korsunsky et al. 2019 (Nature Methods 16:1289), on a given number of nearest neighbors. They have weights exp(-beta d),
//! with beta such that the entropy of the weights is that of as many equal neighbors as the perplexity, a third of the
//! neighbors. The index is 1 / sum of the squared fractions of the classes, between 1 and the number of classes.

use rayon::prelude::*;

use super::{Classes, require_one_per_cell};
use crate::analysis::{Error, neighbors::Neighbors, require_finite};

/// Largest error of the entropy.
const TOLERANCE: f64 = 1e-5;
/// Bisections at most.
const BISECTIONS: usize = 50;

/// iLISI: (median LISI of batches - 1) / (batches - 1); 1 where all batches mix.
///
/// `None` with one batch, or fewer than three neighbors (itself included) per cell.
pub fn ilisi(neighbors: &Neighbors, batches: &[usize]) -> Result<Option<f64>, Error> {
    let scale = |median, n: f64| (median - 1.0) / (n - 1.0);
    scaled(neighbors, batches, scale)
}

/// cLISI: (labels - median LISI of labels) / (labels - 1); 1 where no labels mix.
///
/// `None` with one label, or fewer than three neighbors (itself included) per cell.
pub fn clisi(neighbors: &Neighbors, labels: &[usize]) -> Result<Option<f64>, Error> {
    let scale = |median, n: f64| (n - median) / (n - 1.0);
    scaled(neighbors, labels, scale)
}

fn scaled(
    neighbors: &Neighbors,
    classes: &[usize],
    scale: impl Fn(f64, f64) -> f64,
) -> Result<Option<f64>, Error> {
    let n_classes = Classes::new(classes).len();
    let median = median(samples(neighbors, classes)?).filter(|_| n_classes > 1);
    Ok(median.map(|median| scale(median, n_classes as f64)))
}

/// LISI of each cell; none if there are fewer than three neighbors (itself included) per cell.
pub fn samples(neighbors: &Neighbors, classes: &[usize]) -> Result<Vec<f64>, Error> {
    require_neighbors(neighbors, classes.len())?;
    let (cells, k) = neighbors.indices.dim();
    let perplexity = k / 3;
    if perplexity == 0 {
        return Ok(Vec::new());
    }
    let classes = Classes::new(classes);
    let of_cell = |cell: usize| {
        let indices = neighbors.indices.row(cell).into_iter().copied();
        let distances = neighbors.distances.row(cell).into_iter().copied();
        let others = indices.zip(distances).filter(|&(other, _)| other != cell);
        let (others, distances): (Vec<usize>, Vec<f64>) = others.unzip();
        let mut fractions = vec![0.0; classes.len()];
        for (other, weight) in others
            .into_iter()
            .zip(weights(&distances, perplexity as f64))
        {
            fractions[classes.codes[other]] += weight;
        }
        let simpson: f64 = fractions.iter().map(|fraction| fraction * fraction).sum();
        1.0 / simpson.min(1.0)
    };
    Ok((0..cells).into_par_iter().map(of_cell).collect())
}

/// Fails unless the neighbors are so many cells.
fn require_neighbors(neighbors: &Neighbors, cells: usize) -> Result<(), Error> {
    let (indices, distances) = (&neighbors.indices, &neighbors.distances);
    require_one_per_cell("rows of neighbors", indices.nrows(), cells)?;
    require_one_per_cell("rows of distances", distances.nrows(), cells)?;
    if distances.ncols() != indices.ncols() {
        return Err(Error::Columns {
            what: "the matrix of distances",
            found: distances.ncols(),
            expected: indices.ncols(),
        });
    }
    require_finite(distances.view())?;
    match indices.iter().find(|&&cell| cell >= cells) {
        Some(&found) => Err(Error::NoSuchCell {
            what: "a neighbor",
            found,
            limit: cells,
        }),
        None => Ok(()),
    }
}

/// Weights of neighbors at these distances: positive, with sum 1 and the entropy log(perplexity) if distances allow it.
fn weights(distances: &[f64], perplexity: f64) -> Vec<f64> {
    let (mut beta, mut low, mut high) = (1.0, 0.0, f64::INFINITY);
    let (mut weights, mut entropy) = at_beta(distances, beta);
    for _ in 0..BISECTIONS {
        let difference = entropy - perplexity.ln();
        if difference.abs() < TOLERANCE {
            break;
        }
        if difference > 0.0 {
            low = beta;
        } else {
            high = beta;
        }
        beta = if high.is_finite() {
            (low + high) / 2.0
        } else {
            2.0 * beta
        };
        (weights, entropy) = at_beta(distances, beta);
    }
    weights
}

/// Weights and their entropy. Distances count from the least of them, which changes neither, and no sum can vanish.
fn at_beta(distances: &[f64], beta: f64) -> (Vec<f64>, f64) {
    let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let weights = distances.iter().map(|d| (-beta * (d - least)).exp());
    let mut weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let pairs = weights.iter().zip(distances);
    let energy: f64 = pairs.map(|(weight, d)| weight * (d - least)).sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (weights, sum.ln() + beta * energy / sum)
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (last, middle) = (values.len().checked_sub(1)?, values.len() / 2);
    Some((values[last / 2] + values[middle]) / 2.0)
}
