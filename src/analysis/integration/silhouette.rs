//! Silhouettes: is a cell nearer to its own class than to the next one?
//!
//! Rousseeuw 1987 (J. Comput. Appl. Math. 20:53). With a the mean distance to the other cells of the own class and b the
//! least mean distance to the cells of another class, the silhouette is (b - a) / max(a, b). Distances are Euclidean. They come
//! from matrix products, a tile at a time, so memory grows with the number of cells and time with its square.

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::{Classes, mean, pick, require_one_per_cell};
use crate::analysis::{Error, require_finite};

/// Rows and columns of one tile of distances (1 MB).
const ROWS: usize = 128;
const COLUMNS: usize = 1024;
/// A squared distance below this fraction of the squared lengths has lost too many digits, and is computed anew.
const CANCELED: f64 = 1e-8;

/// ASW of labels: the mean silhouette, from [-1, 1] to [0, 1].
///
/// `None` if there is one label only, or each cell has its own.
pub fn asw_label(embedding: ArrayView2<'_, f64>, labels: &[usize]) -> Result<Option<f64>, Error> {
    Ok(samples(embedding, labels)?
        .as_deref()
        .and_then(rescaled_mean))
}

/// ASW of batches: the mean over labels of the mean of 1 - |silhouette of the batch among the cells of the label|.
///
/// Labels with cells of one batch only, or with a batch for each cell, do not count. `None` if no label counts.
pub fn asw_batch(
    embedding: ArrayView2<'_, f64>,
    labels: &[usize],
    batches: &[usize],
) -> Result<Option<f64>, Error> {
    require_one_per_cell("labels", labels.len(), embedding.nrows())?;
    require_one_per_cell("batches", batches.len(), embedding.nrows())?;
    let mut of_labels = Vec::new();
    for cells in Classes::new(labels).members() {
        let within = samples(
            embedding.select(Axis(0), &cells).view(),
            &pick(batches, &cells),
        )?;
        let of_label = |within: Vec<f64>| mean(within.iter().map(|value| 1.0 - value.abs()));
        of_labels.extend(within.and_then(of_label));
    }
    Ok(mean(of_labels))
}

/// The silhouette of each cell, in [-1, 1]; 0 for the only cell of a class, and among equal cells.
///
/// `None` if there is one class only, or each cell has its own.
pub fn samples(
    embedding: ArrayView2<'_, f64>,
    classes: &[usize],
) -> Result<Option<Vec<f64>>, Error> {
    require_one_per_cell("class codes", classes.len(), embedding.nrows())?;
    require_finite(embedding)?;
    let classes = Classes::new(classes);
    if classes.len() < 2 || classes.len() == embedding.nrows() {
        return Ok(None);
    }
    let points = Points::new(embedding);
    let starts: Vec<usize> = (0..embedding.nrows()).step_by(ROWS).collect();
    let blocks: Vec<Vec<f64>> = starts
        .into_par_iter()
        .map(|start| {
            let sums = points.distance_sums(start, &classes);
            let rows = sums.chunks_exact(classes.len()).enumerate();
            rows.map(|(row, sums)| silhouette(sums, classes.codes[start + row], &classes.counts))
                .collect()
        })
        .collect();
    Ok(Some(blocks.concat()))
}

/// Mean silhouette, from [-1, 1] to [0, 1].
pub(super) fn rescaled_mean(silhouettes: &[f64]) -> Option<f64> {
    mean(silhouettes.iter().map(|value| (value + 1.0) / 2.0))
}

/// Silhouette of a cell of class `own`, from the sums of its distances to the cells of each class.
fn silhouette(sums: &[f64], own: usize, counts: &[usize]) -> f64 {
    if counts[own] == 1 {
        return 0.0;
    }
    let within = sums[own] / (counts[own] - 1) as f64;
    let others = (0..sums.len()).filter(|&class| class != own);
    let between = others
        .map(|class| sums[class] / counts[class] as f64)
        .fold(f64::INFINITY, f64::min);
    let largest = within.max(between);
    if largest > 0.0 {
        (between - within) / largest
    } else {
        0.0
    }
}

/// Cells around their mean, which keeps digits in distances from products.
struct Points {
    rows: Array2<f64>,
    squared_lengths: Vec<f64>,
}

impl Points {
    fn new(embedding: ArrayView2<'_, f64>) -> Self {
        let mut rows = embedding.as_standard_layout().into_owned();
        if let Some(mean) = rows.mean_axis(Axis(0)) {
            rows -= &mean;
        }
        let squared_lengths = rows.rows().into_iter().map(|row| row.dot(&row)).collect();
        Self {
            rows,
            squared_lengths,
        }
    }

    /// Sums of the distances of up to `ROWS` cells to the cells of each class, cell by cell.
    fn distance_sums(&self, start: usize, classes: &Classes) -> Vec<f64> {
        let n = self.rows.nrows();
        let block = self.rows.slice(s![start..n.min(start + ROWS), ..]);
        let mut sums = vec![0.0; block.nrows() * classes.len()];
        for first in (0..n).step_by(COLUMNS) {
            let tile = self.rows.slice(s![first..n.min(first + COLUMNS), ..]);
            let products = block.dot(&tile.t());
            let rows = sums.chunks_exact_mut(classes.len()).zip(products.rows());
            for (row, (sums, products)) in rows.enumerate() {
                for (column, &product) in products.iter().enumerate() {
                    let other = first + column;
                    sums[classes.codes[other]] += self.distance(start + row, other, product);
                }
            }
        }
        sums
    }

    fn distance(&self, a: usize, b: usize, product: f64) -> f64 {
        let lengths = self.squared_lengths[a] + self.squared_lengths[b];
        let squared = lengths - 2.0 * product;
        if squared > CANCELED * lengths {
            return squared.sqrt();
        }
        let pairs = self.rows.row(a).into_iter().zip(self.rows.row(b));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    }
}
