//! Matrix products on all threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Rows of the result computed by one task; not to be chosen by the number of threads.
const CHUNK: usize = 32;

/// `left` times `right`; each value is summed by one task, so threads change no bit.
///
/// Panics if `left` has not as many columns as `right` has rows.
pub(super) fn product(left: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut result = Array2::zeros((left.nrows(), right.ncols()));
    let to = result.axis_chunks_iter_mut(Axis(0), CHUNK);
    let tasks: Vec<_> = left.axis_chunks_iter(Axis(0), CHUNK).zip(to).collect();
    tasks
        .into_par_iter()
        .for_each(|(left, mut to)| general_mat_mul(1.0, &left, &right, 0.0, &mut to));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        let left =
            Array2::from_shape_fn((70, 5), |(row, column)| ((row * 5 + column) as f64).sin());
        let right =
            Array2::from_shape_fn((5, 3), |(row, column)| ((row + 7 * column) as f64).cos());
        let found = product(left.view(), right.view());
        for ((row, column), value) in found.indexed_iter() {
            let expected: f64 = (0..5).map(|at| left[[row, at]] * right[[at, column]]).sum();
            assert!((value - expected).abs() < 1e-14);
        }
        let none = Array2::zeros((0, 5));
        assert_eq!(product(none.view(), right.view()).dim(), (0, 3));
        let empty = product(Array2::zeros((2, 0)).view(), Array2::zeros((0, 3)).view());
        assert_eq!(empty, Array2::<f64>::zeros((2, 3)));
    }
}
