//! kBET: are the batches around a cell as frequent as among all cells of its type?
//!
//! Büttner et al. 2019 (Nature Methods 16:43), for each label on its own as in Luecken et al. 2022: a chi-squared test per cell of
//! the batches of its nearest cells, by diffusion distance in the graph between the cells of the label. The score is the mean over
//! labels of the fraction of cells where the test does not reject this.

use super::{Classes, diffusion, mean, pick, require_one_per_cell};
use crate::analysis::Error;
use crate::analysis::graph::Graph;
use crate::analysis::neighbors::{Metric, Neighbors, nearest};

/// Level of significance of the test.
const ALPHA: f64 = 0.05;
/// Least and most neighbors of a cell that are tested, itself not counted.
const NEIGHBORS: (usize, usize) = (10, 70);
/// Labels with fewer cells are dropped.
const LEAST_CELLS: usize = 10;
/// Components of a label's graph count if they have this many times the neighbors tested.
const LEAST_COMPONENT: usize = 3;
/// A label scores 0 if less than this fraction of its cells is in components that count.
const LEAST_FRACTION: f64 = 0.75;
/// Components of the diffusion map at most.
///
/// For every label: scib-metrics lets a small label lower it for the labels after it, so that names of labels matter. Given
/// one label at a time, it has the same scores as this.
const DIFFUSION_COMPONENTS: usize = 100;

/// Mean over labels of the fraction of cells whose neighbors have the batches expected.
///
/// `graph` has the connectivities of the 50 nearest neighbors. `None` if no label has ten cells of at least two batches.
pub fn score(graph: &Graph, labels: &[usize], batches: &[usize]) -> Result<Option<f64>, Error> {
    Ok(mean(
        by_label(graph, labels, batches)?.into_iter().flatten(),
    ))
}

/// The score of each label, by increasing code; `None` for labels with fewer than ten cells or one batch.
///
/// 0 for a label of which less than three quarters are in large components, or whose large components have one batch.
pub fn by_label(
    graph: &Graph,
    labels: &[usize],
    batches: &[usize],
) -> Result<Vec<Option<f64>>, Error> {
    graph.validate()?;
    require_one_per_cell("labels", labels.len(), graph.n_nodes())?;
    require_one_per_cell("batches", batches.len(), graph.n_nodes())?;
    let of_label = |cells: Vec<usize>| of_label(&graph.induced(&cells), &pick(batches, &cells));
    Classes::new(labels)
        .members()
        .into_iter()
        .map(of_label)
        .collect()
}

fn of_label(graph: &Graph, batches: &[usize]) -> Result<Option<f64>, Error> {
    let n_batches = Classes::new(batches).len();
    if batches.len() < LEAST_CELLS || n_batches == 1 {
        return Ok(None);
    }
    let quarter = batches.len() / n_batches / 4;
    let k = quarter.clamp(NEIGHBORS.0, NEIGHBORS.1);
    let cells = cells_that_count(graph, LEAST_COMPONENT * k);
    let n_cells = cells.len();
    if (n_cells as f64) < LEAST_FRACTION * batches.len() as f64 {
        return Ok(Some(0.0));
    }
    let components = DIFFUSION_COMPONENTS.min(n_cells - 1);
    let map = diffusion::map(&graph.induced(&cells), components);
    let neighbors = nearest(map.view(), map.view(), k + 1, Metric::Euclidean)?;
    Ok(Some(acceptance(&neighbors, &pick(batches, &cells))))
}

/// Cells in components with as many cells, or all cells of a connected graph.
fn cells_that_count(graph: &Graph, least: usize) -> Vec<usize> {
    let components = Classes::new(&graph.components());
    let counts =
        |&cell: &usize| components.len() == 1 || components.counts[components.codes[cell]] >= least;
    (0..graph.n_nodes()).filter(counts).collect()
}

/// Fraction of cells whose neighbors have the batches of all cells; 0 if there is one batch only.
fn acceptance(neighbors: &Neighbors, batches: &[usize]) -> f64 {
    let batches = Classes::new(batches);
    if batches.len() < 2 {
        return 0.0;
    }
    let (cells, k) = neighbors.indices.dim();
    let per_cell = k as f64 / cells as f64;
    let expected: Vec<f64> = batches
        .counts
        .iter()
        .map(|&n| n as f64 * per_cell)
        .collect();
    let accepted = |indices: &ndarray::ArrayView1<'_, usize>| {
        let mut observed = vec![0.0; batches.len()];
        indices
            .iter()
            .for_each(|&index| observed[batches.codes[index]] += 1.0);
        let pairs = observed.iter().zip(&expected);
        let statistic: f64 = pairs.map(|(o, e)| (o - e) * (o - e) / e).sum();
        chi_squared_tail(statistic, batches.len() - 1) >= ALPHA
    };
    let rows = neighbors.indices.rows().into_iter();
    rows.filter(accepted).count() as f64 / cells as f64
}

/// Probability that a chi-squared variable is larger (Abramowitz and Stegun 26.4.4 and 26.4.5).
fn chi_squared_tail(statistic: f64, freedom: usize) -> f64 {
    let half = statistic / 2.0;
    if half <= 0.0 {
        return 1.0;
    }
    // Poisson terms for even degrees of freedom, terms between them for odd ones.
    let (start, first) = if freedom.is_multiple_of(2) {
        (0.0, 0.0)
    } else {
        (0.5, libm::erfc(half.sqrt()))
    };
    let term = |i: usize| {
        let power = start + i as f64;
        (power * half.ln() - half - libm::lgamma(power + 1.0)).exp()
    };
    first + (0..freedom / 2).map(term).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_chi_squared() {
        // Quantiles of tables (Abramowitz and Stegun, table 26.8).
        let quantiles = [
            (1, 3.841_458_820_694, 0.05),
            (2, 5.991_464_547_108, 0.05),
            (5, 11.070_497_693_516, 0.05),
            (10, 18.307_038_053_275, 0.05),
            (7, 1.239_042_305_568, 0.99),
        ];
        for (freedom, statistic, tail) in quantiles {
            assert!((chi_squared_tail(statistic, freedom) - tail).abs() < 1e-11);
        }
        assert_eq!(chi_squared_tail(0.0, 3), 1.0);
        // The median is about n (1 - 2 / 9n)^3, where no term alone is within the range of f64.
        for freedom in [3000, 3001] {
            let n = freedom as f64;
            let median = n * (1.0 - 2.0 / (9.0 * n)).powi(3);
            assert!((chi_squared_tail(median, freedom) - 0.5).abs() < 1e-6);
        }
    }
}
