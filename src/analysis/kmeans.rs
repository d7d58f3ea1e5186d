//! K-means clustering: Lloyd's iterations from starts drawn as in k-means++ (Arthur and Vassilvitskii 2007).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::matmul::product;
use crate::random::{Seed, below, uniform};

/// Cells compared with all centroids by one task.
const TASK: usize = 32;

/// Centroids of the best of several starts, [k, features].
///
/// `cells` must be finite and have at least one row. Best is the least summed squared distance of cells to their centroids.
pub(super) fn kmeans(
    cells: ArrayView2<'_, f64>,
    k: usize,
    starts: u64,
    rounds: usize,
    seed: Seed,
) -> Array2<f64> {
    let lengths: Array1<f64> = cells.rows().into_iter().map(squared_length).collect();
    let runs: Vec<(f64, Array2<f64>)> = (0..starts.max(1))
        .into_par_iter()
        .map(|start| {
            let first = start_centroids(cells, &lengths, k, &mut seed.stream("k-means", &[start]));
            refine(cells, &lengths, first, rounds)
        })
        .collect();
    let best = runs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    best.expect("there is at least one start").1
}

fn squared_length(row: ArrayView1<'_, f64>) -> f64 {
    row.dot(&row)
}

/// Cells drawn one after another, each with odds of its squared distance to the nearest drawn before.
fn start_centroids(
    cells: ArrayView2<'_, f64>,
    lengths: &Array1<f64>,
    k: usize,
    stream: &mut ChaCha8Rng,
) -> Array2<f64> {
    let mut centroids = Array2::zeros((k, cells.ncols()));
    let mut nearest = Array1::from_elem(cells.nrows(), f64::INFINITY);
    let mut chosen = below(stream, cells.nrows());
    for mut centroid in centroids.rows_mut() {
        centroid.assign(&cells.row(chosen));
        let products = cells.dot(&centroid);
        for (cell, distance) in nearest.iter_mut().enumerate() {
            let squared = lengths[cell] + lengths[chosen] - 2.0 * products[cell];
            *distance = distance.min(squared.max(0.0));
        }
        chosen = draw(&nearest, stream);
    }
    centroids
}

/// Index drawn with these odds; any if all are zero.
fn draw(odds: &Array1<f64>, stream: &mut ChaCha8Rng) -> usize {
    let total: f64 = odds.iter().sum();
    if total == 0.0 {
        return below(stream, odds.len());
    }
    let mut left = uniform(stream) * total;
    let passed = odds.iter().position(|odd| {
        left -= odd;
        left < 0.0
    });
    passed.unwrap_or(odds.len() - 1)
}

/// Moves centroids to the means of their cells until no cell changes its centroid; a centroid without cells stays.
fn refine(
    cells: ArrayView2<'_, f64>,
    lengths: &Array1<f64>,
    mut centroids: Array2<f64>,
    rounds: usize,
) -> (f64, Array2<f64>) {
    let (mut labels, mut total) = assign(cells, lengths, &centroids);
    for _ in 0..rounds {
        move_centroids(cells, &labels, &mut centroids);
        let (new_labels, new_total) = assign(cells, lengths, &centroids);
        let is_stable = new_labels == labels;
        (labels, total) = (new_labels, new_total);
        if is_stable {
            break;
        }
    }
    (total, centroids)
}

/// The nearest centroid of each cell, the first of equally near ones, and the summed squared distances.
fn assign(
    cells: ArrayView2<'_, f64>,
    lengths: &Array1<f64>,
    centroids: &Array2<f64>,
) -> (Vec<usize>, f64) {
    let own: Vec<f64> = centroids.rows().into_iter().map(squared_length).collect();
    let nearest = |products: ArrayView1<'_, f64>| {
        let (mut label, mut nearest) = (0, f64::INFINITY);
        for (at, (product, own)) in products.iter().zip(&own).enumerate() {
            let distance = own - 2.0 * product;
            if distance < nearest {
                (label, nearest) = (at, distance);
            }
        }
        (label, nearest)
    };
    // Never the distances of all cells to all centroids at once: those of very many need more memory than there is.
    let tasks: Vec<_> = cells.axis_chunks_iter(Axis(0), TASK).collect();
    let found: Vec<(usize, f64)> = tasks
        .into_par_iter()
        .flat_map_iter(|cells| {
            let products = product(cells, centroids.t());
            let found: Vec<_> = products.rows().into_iter().map(nearest).collect();
            found
        })
        .collect();
    // From the first cell to the last, whatever the threads.
    let total = found
        .iter()
        .zip(lengths)
        .fold(0.0, |total, ((_, nearest), length)| {
            total + (length + nearest)
        });
    (found.into_iter().map(|(label, _)| label).collect(), total)
}

fn move_centroids(cells: ArrayView2<'_, f64>, labels: &[usize], centroids: &mut Array2<f64>) {
    let mut sums = Array2::zeros(centroids.dim());
    let mut counts = vec![0_usize; centroids.nrows()];
    for (cell, &label) in cells.rows().into_iter().zip(labels) {
        let mut sum = sums.row_mut(label);
        sum += &cell;
        counts[label] += 1;
    }
    for (label, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        centroids
            .row_mut(label)
            .assign(&(&sums.row(label) / count as f64));
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::analysis::on_threads;

    #[test]
    fn separate_groups_are_found_whatever_the_seed() {
        let centers = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]];
        let cells = Array2::from_shape_fn((80, 2), |(row, column)| {
            centers[row % 4][column] + ((row * 2 + column) as f64).sin()
        });
        for seed in 0..5 {
            let found = kmeans(cells.view(), 4, 10, 25, Seed(seed));
            let mut groups = Vec::new();
            for center in found.rows() {
                let own: Vec<usize> = (0..80)
                    .filter(|&row| (&cells.row(row) - &center).iter().all(|v| v.abs() < 3.0))
                    .collect();
                assert_eq!(own.len(), 20);
                groups.push(own[0] % 4);
                for column in 0..2 {
                    let mean = own.iter().map(|&row| cells[[row, column]]).sum::<f64>() / 20.0;
                    assert!((mean - center[column]).abs() < 1e-12);
                }
            }
            groups.sort_unstable();
            assert_eq!(groups, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn cells_go_to_their_nearest_centroids_whatever_the_threads() {
        let cells = Array2::from_shape_fn((101, 3), |(row, at)| ((row * 3 + at) as f64).sin());
        let centroids = cells.slice(ndarray::s![7..15, ..]).to_owned();
        let lengths: Array1<f64> = cells.rows().into_iter().map(squared_length).collect();
        let find = || assign(cells.view(), &lengths, &centroids);
        let (labels, total) = on_threads(1, find);
        assert_eq!((labels.clone(), total), on_threads(3, find));
        let distance = |cell: usize, label: usize| {
            let apart = &cells.row(cell) - &centroids.row(label);
            apart.dot(&apart)
        };
        for (cell, &label) in labels.iter().enumerate() {
            assert!((0..8).all(|other| distance(cell, label) <= distance(cell, other) + 1e-12));
        }
        let sum: f64 = (0..101).map(|cell| distance(cell, labels[cell])).sum();
        assert!((sum - total).abs() < 1e-12 * 101.0);
    }

    #[test]
    fn fewer_distinct_cells_than_clusters() {
        let cells = array![[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]];
        let found = kmeans(cells.view(), 3, 2, 5, Seed(1));
        assert!(found.rows().into_iter().all(|row| row == cells.row(0)));
        assert_eq!(
            kmeans(Array2::zeros((1, 0)).view(), 1, 1, 5, Seed(1)).dim(),
            (1, 0)
        );
    }
}
