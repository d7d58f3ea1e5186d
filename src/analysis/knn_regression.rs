//! kNN regression: the mean of the nearest neighbors, a baseline without training.

use ndarray::{Array2, ArrayView2};

use super::neighbors::Neighbors;

/// Mean of the targets of each query's neighbors, [queries, targets], all neighbors weighing the same.
///
/// `y` holds the targets of the reference cells, [cells, targets], in the order in which they were searched. Without
/// neighbors (k = 0) the mean is NaN. Panics if `y` has fewer rows than the reference that was searched.
pub fn predict_nearest_mean(neighbors: &Neighbors, y: ArrayView2<'_, f64>) -> Array2<f64> {
    let (queries, k) = neighbors.indices.dim();
    let mut means = Array2::zeros((queries, y.ncols()));
    for (mut mean, indices) in means.rows_mut().into_iter().zip(neighbors.indices.rows()) {
        for &index in indices {
            mean += &y.row(index);
        }
        mean /= k as f64;
    }
    means
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::neighbors::{Metric, nearest};
    use super::*;

    #[test]
    fn targets_of_the_nearest_are_averaged() {
        let reference = array![[0.0], [1.0], [10.0], [11.0]];
        let y = array![[1.0, -1.0], [3.0, 0.0], [10.0, 5.0], [20.0, 6.0]];
        let queries = array![[0.4], [12.0]];
        let two = nearest(queries.view(), reference.view(), 2, Metric::Euclidean).unwrap();
        assert_eq!(
            predict_nearest_mean(&two, y.view()),
            array![[2.0, -0.5], [15.0, 5.5]]
        );
        let all = nearest(queries.view(), reference.view(), 9, Metric::Euclidean).unwrap();
        assert_eq!(
            predict_nearest_mean(&all, y.view()),
            array![[8.5, 2.5], [8.5, 2.5]]
        );
        let none = Neighbors {
            indices: Array2::zeros((0, 2)),
            distances: Array2::zeros((0, 2)),
        };
        assert_eq!(predict_nearest_mean(&none, y.view()).dim(), (0, 2));
    }
}
