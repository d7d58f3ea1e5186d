//! The first principal components by orthogonal iteration (Golub and Van Loan, Matrix Computations, chapter 8.2), for programs that
//! do without libtorch; [`super::projection`] finds all of them at once.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::matmul::product;
use super::{Error, require_finite, to_f64};
use crate::random::{Seed, normal_pair};

/// Directions beyond those wanted, which make the wanted ones converge sooner.
const OVERSAMPLING: usize = 10;
const ROUNDS: usize = 1000;
/// The iteration ends when no wanted direction turns by more (1 - cosine).
const CONVERGENCE: f64 = 1e-12;
/// A direction shorter than this fraction of the longest is rounding only.
const EPSILON: f64 = 1e-10;

/// Directions of largest variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Mean of each feature.
    pub mean: Array1<f64>,
    /// Unit directions, [components, features], by decreasing variance; the loading of largest size is positive.
    pub directions: Array2<f64>,
}

impl Components {
    /// Fits at most `wanted` directions to rows; there are fewer if the rows do not span as many.
    ///
    /// Fails on fewer than two rows, on values that are not finite and on equal rows.
    pub fn fit<T: Copy + Into<f64>>(rows: ArrayView2<'_, T>, wanted: usize) -> Result<Self, Error> {
        require_finite(rows)?;
        let (n, features) = rows.dim();
        if n < 2 {
            return Err(Error::FewCells {
                what: "a projection",
                needed: 2,
                found: n,
            });
        }
        let mut centered = to_f64(rows);
        let mean = centered.mean_axis(Axis(0)).expect("there are rows");
        centered -= &mean;
        let turned = centered.t().as_standard_layout().into_owned();
        let covariance = product(turned.view(), centered.view()) / (n - 1) as f64;
        if covariance.diag().sum() == 0.0 {
            return Err(Error::AllEqual { cells: n });
        }
        let rank = (n - 1).min(features);
        let mut directions = iterate(&covariance, (wanted + OVERSAMPLING).min(rank), wanted);
        let kept = wanted.min(directions.nrows());
        directions = directions.slice_move(ndarray::s![..kept, ..]);
        directions.rows_mut().into_iter().for_each(|mut direction| {
            let peak = direction.iter().fold(0.0_f64, |peak, &loading| {
                if loading.abs() > peak.abs() {
                    loading
                } else {
                    peak
                }
            });
            if peak < 0.0 {
                direction.mapv_inplace(|loading| -loading);
            }
        });
        Ok(Self { mean, directions })
    }

    /// Coordinates of rows, [rows, components].
    pub fn transform<T: Copy + Into<f64>>(&self, rows: ArrayView2<'_, T>) -> Array2<f64> {
        let centered = to_f64(rows) - &self.mean;
        product(centered.view(), self.directions.t())
    }
}

/// Turns directions, [directions, features], toward the eigenvectors of largest eigenvalues.
/// The first `wanted` of them must converge.
fn iterate(covariance: &Array2<f64>, n: usize, wanted: usize) -> Array2<f64> {
    let mut stream = Seed(0).stream("components", &[]);
    let random = || normal_pair(&mut stream).0;
    let mut directions = Array2::from_shape_simple_fn((n, covariance.nrows()), random);
    orthonormalize(&mut directions);
    for _ in 0..ROUNDS {
        let mut next = product(directions.view(), covariance.view());
        orthonormalize(&mut next);
        let same = next.nrows() == directions.nrows();
        let turned = next
            .rows()
            .into_iter()
            .zip(directions.rows())
            .take(wanted)
            .map(|(a, b)| 1.0 - a.dot(&b).abs());
        let settled = same && turned.fold(0.0, f64::max) < CONVERGENCE;
        directions = next;
        if settled {
            break;
        }
    }
    directions
}

/// Makes rows orthogonal and of unit length, twice against rounding; rows that depend on those before are dropped.
fn orthonormalize(rows: &mut Array2<f64>) {
    let longest = rows
        .rows()
        .into_iter()
        .map(|row| row.dot(&row).sqrt())
        .fold(0.0, f64::max);
    let mut kept = Vec::new();
    for at in 0..rows.nrows() {
        let mut row = rows.row(at).to_owned();
        for _ in 0..2 {
            for &other in &kept {
                let projection = rows.row(other).dot(&row);
                row.scaled_add(-projection, &rows.row(other));
            }
        }
        let length = row.dot(&row).sqrt();
        if length > EPSILON * longest {
            rows.row_mut(at).assign(&(row / length));
            kept.push(at);
        }
    }
    *rows = rows.select(Axis(0), &kept);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn points_on_a_line_have_one_component() {
        let rows = array![[0.0, 0.0], [-1.0, -2.0], [1.0, 2.0]];
        let found = Components::fit(rows.view(), 5).unwrap();
        assert_eq!(found.directions.nrows(), 1);
        assert!((found.transform(array![[2.0, 4.0]].view())[[0, 0]] - 20_f64.sqrt()).abs() < 1e-12);
        let equal = Array2::<f64>::ones((4, 2));
        assert_eq!(
            Components::fit(equal.view(), 1),
            Err(Error::AllEqual { cells: 4 })
        );
        assert!(Components::fit(equal.slice(ndarray::s![..1, ..]), 1).is_err());
    }

    #[test]
    fn directions_are_orthogonal_and_coordinates_uncorrelated_by_decreasing_variance() {
        let rows = Array2::from_shape_fn((60, 12), |(i, j)| {
            ((i * i * 7 + j * j * 13 + i * j * 5) % 101 * (j + 1)) as f32
        });
        let found = Components::fit(rows.view(), 4).unwrap();
        let coordinates = found.transform(rows.view());
        let covariance = coordinates.t().dot(&coordinates) / 59.0;
        let product = found.directions.dot(&found.directions.t());
        for i in 0..4 {
            for j in 0..4 {
                assert!((product[[i, j]] - f64::from(i == j)).abs() < 1e-12);
                assert!(i == j || covariance[[i, j]].abs() < 1e-4 * covariance[[i, i]]);
            }
            assert!(i == 0 || covariance[[i, i]] < covariance[[i - 1, i - 1]]);
        }
    }
}
