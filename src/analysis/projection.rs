//! Principal components of a dense matrix, by the eigenvectors of its covariance.
//!
//! The covariance is features by features, so this is for up to a few thousand features. A component's sign is chosen so that its
//! loading of largest size is positive. The 2-D view of an embedding is its first two components.

use ndarray::{Array2, ArrayView2};
use tch::Tensor;

use super::{Error, require_finite, to_f64};

/// The covariance of this many features takes 800 MB.
const MANY_FEATURES: usize = 10_000;
/// Components with less than this share of the largest variance are rounding errors.
const NEGLIGIBLE: f64 = 1e-12;

/// A projection learnt from some cells that can be applied to others.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of each feature.
    pub mean: Vec<f64>,
    /// Unit directions, [components, features], by decreasing variance.
    pub components: Array2<f64>,
    /// Sample variance of the cells along each component.
    pub explained_variance: Vec<f64>,
    /// Sum of the sample variances of all features.
    pub total_variance: f64,
}

impl Pca {
    /// Learns at most `wanted` components from rows of cells.
    ///
    /// There are fewer if the cells do not span as many dimensions: never more than cells - 1 or features. Fails on fewer
    /// than two cells, on equal cells, on values that are not finite and on more than 10,000 features.
    pub fn fit<T: Copy + Into<f64>>(
        cells: ArrayView2<'_, T>,
        wanted: usize,
    ) -> Result<Self, Error> {
        check(cells, wanted)?;
        let (n, features) = cells.dim();
        let mut centred = to_f64(cells);
        let mean: Vec<f64> = centred
            .columns()
            .into_iter()
            .map(|column| column.sum() / n as f64)
            .collect();
        for mut row in centred.rows_mut() {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(value, mean)| *value -= mean);
        }
        let total_variance =
            centred.iter().map(|value| value * value).sum::<f64>() / (n - 1) as f64;
        if total_variance == 0.0 {
            return Err(Error::AllEqual { cells: n });
        }
        let (variances, vectors) = eigenvectors(&centred)?;
        let largest = variances[features - 1];
        // Eigenvalues are increasing.
        let kept = (0..features)
            .rev()
            .take(wanted.min(n - 1))
            .filter(|&at| variances[at] > NEGLIGIBLE * largest);
        let kept: Vec<usize> = kept.collect();
        let components = Array2::from_shape_fn((kept.len(), features), |(at, feature)| {
            vectors[[feature, kept[at]]]
        });
        let explained_variance = kept.iter().map(|&at| variances[at]).collect();
        Ok(Self {
            mean,
            components: with_positive_peaks(components),
            explained_variance,
            total_variance,
        })
    }

    /// Coordinates of cells, [cells, components]; a cell's coordinates do not depend on the other cells.
    pub fn transform<T: Copy + Into<f64>>(
        &self,
        cells: ArrayView2<'_, T>,
    ) -> Result<Array2<f64>, Error> {
        let (expected, found) = (self.mean.len(), cells.ncols());
        if expected != found {
            return Err(Error::Columns {
                what: "the matrix to project",
                found,
                expected,
            });
        }
        require_finite(cells)?;
        let mut centred = to_f64(cells);
        for mut row in centred.rows_mut() {
            row.iter_mut()
                .zip(&self.mean)
                .for_each(|(value, mean)| *value -= mean);
        }
        Ok(centred.dot(&self.components.t()))
    }
}

fn check<T: Copy + Into<f64>>(cells: ArrayView2<'_, T>, wanted: usize) -> Result<(), Error> {
    let (n, features) = cells.dim();
    match () {
        () if wanted == 0 => Err(Error::Zero("components")),
        () if n < 2 => Err(Error::FewCells {
            what: "a projection",
            needed: 2,
            found: n,
        }),
        () if features > MANY_FEATURES => Err(Error::ManyFeatures {
            found: features,
            limit: MANY_FEATURES,
        }),
        () => require_finite(cells),
    }
}

/// Increasing eigenvalues and, in columns, the eigenvectors of the covariance of centred cells.
fn eigenvectors(centred: &Array2<f64>) -> Result<(Vec<f64>, Array2<f64>), Error> {
    let (n, features) = centred.dim();
    let torch = |error: tch::TchError| Error::Torch {
        what: "find principal components",
        message: error.to_string(),
    };
    let decompose = || {
        let cells = Tensor::from_slice(
            centred
                .as_slice()
                .expect("a converted matrix is contiguous"),
        );
        let cells = cells.view([n as i64, features as i64]);
        let covariance = cells.transpose(0, 1).f_matmul(&cells)? / (n - 1) as f64;
        let (values, vectors) = covariance.f_linalg_eigh("L")?;
        Ok((
            Vec::try_from(values)?,
            Vec::try_from(vectors.contiguous().view(-1))?,
        ))
    };
    let (values, vectors): (Vec<f64>, Vec<f64>) = on_one_thread(decompose).map_err(torch)?;
    let vectors =
        Array2::from_shape_vec((features, features), vectors).expect("eigenvectors are square");
    Ok((values, vectors))
}

/// The order of libtorch's sums, and with it the last bits, depends on the number of threads.
fn on_one_thread<T>(compute: impl FnOnce() -> T) -> T {
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let result = compute();
    tch::set_num_threads(threads);
    result
}

/// Turns components around whose loading of largest size (the first of equal ones) is negative.
fn with_positive_peaks(mut components: Array2<f64>) -> Array2<f64> {
    for mut component in components.rows_mut() {
        let peak = component.iter().fold(0.0_f64, |peak, &loading| {
            if loading.abs() > peak.abs() {
                loading
            } else {
                peak
            }
        });
        if peak < 0.0 {
            component.mapv_inplace(|loading| -loading);
        }
    }
    components
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn scattered(cells: usize, features: usize) -> Array2<f32> {
        Array2::from_shape_fn((cells, features), |(i, j)| {
            ((i * i * 7 + j * j * 13 + i * j * 5) % 101 * (j + 1)) as f32
        })
    }

    #[test]
    fn points_on_a_line_have_one_component() {
        let pca = Pca::fit(array![[0.0, 0.0], [-1.0, -2.0], [1.0, 2.0]].view(), 5).unwrap();
        assert_eq!(pca.explained_variance.len(), 1);
        // Variances 1 and 4 along direction (1, 2); rounding only.
        assert!(
            (pca.explained_variance[0] - 5.0).abs() < 1e-12
                && (pca.total_variance - 5.0).abs() < 1e-12
        );
        let score = pca.transform(array![[2.0_f32, 4.0]].view()).unwrap();
        assert!((score[[0, 0]] - 20_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn components_are_orthonormal_and_coordinates_carry_their_variance() {
        let cells = scattered(40, 12);
        let pca = Pca::fit(cells.view(), 12).unwrap();
        let product = pca.components.dot(&pca.components.t());
        let scores = pca.transform(cells.view()).unwrap();
        let covariance = scores.t().dot(&scores) / 39.0;
        for i in 0..12 {
            for j in 0..12 {
                let (unit, variance) = if i == j {
                    (1.0, pca.explained_variance[i])
                } else {
                    (0.0, 0.0)
                };
                assert!((product[[i, j]] - unit).abs() < 1e-12);
                assert!((covariance[[i, j]] - variance).abs() < 1e-10 * pca.total_variance);
            }
            let peak = pca
                .components
                .row(i)
                .iter()
                .copied()
                .max_by(|a, b| a.abs().total_cmp(&b.abs()))
                .unwrap();
            assert!(peak > 0.0);
        }
        assert!(pca.explained_variance.is_sorted_by(|a, b| a >= b));
        assert!(
            (pca.explained_variance.iter().sum::<f64>() / pca.total_variance - 1.0).abs() < 1e-12
        );
    }

    #[test]
    fn coordinates_of_a_cell_do_not_depend_on_the_others() {
        let cells = scattered(61, 700);
        let pca = Pca::fit(cells.view(), 50).unwrap();
        let all = pca.transform(cells.view()).unwrap();
        for cell in 0..61 {
            let alone = pca
                .transform(cells.slice(ndarray::s![cell..=cell, ..]))
                .unwrap();
            assert_eq!(alone.row(0), all.row(cell));
        }
    }

    #[test]
    fn the_layout_in_memory_does_not_matter() {
        let cells = scattered(6, 9);
        let by_column = cells.t().as_standard_layout().into_owned();
        let pca = Pca::fit(cells.view(), 3).unwrap();
        assert_eq!(Pca::fit(by_column.t(), 3).unwrap(), pca);
        assert_eq!(
            pca.transform(by_column.t()).unwrap(),
            pca.transform(cells.view()).unwrap()
        );
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let cells = scattered(300, 150);
        let before = tch::get_num_threads();
        let fits = [1, 4].map(|threads| {
            tch::set_num_threads(threads);
            Pca::fit(cells.view(), 20).unwrap()
        });
        tch::set_num_threads(before);
        assert_eq!(fits[0], fits[1]);
    }

    #[test]
    fn fewer_cells_than_components_and_constant_columns_reduce_the_number() {
        let mut cells = scattered(4, 10);
        cells.column_mut(3).fill(7.0);
        let pca = Pca::fit(cells.view(), 50).unwrap();
        assert_eq!(pca.components.dim(), (3, 10));
        assert!(
            pca.components
                .column(3)
                .iter()
                .all(|loading| loading.abs() < 1e-12)
        );
    }

    #[test]
    fn impossible_input_is_refused() {
        let fit = |cells: Array2<f32>, wanted| Pca::fit(cells.view(), wanted).unwrap_err();
        assert_eq!(fit(scattered(5, 3), 0), Error::Zero("components"));
        assert_eq!(
            fit(scattered(1, 3), 2),
            Error::FewCells {
                what: "a projection",
                needed: 2,
                found: 1
            }
        );
        assert_eq!(fit(Array2::ones((5, 3)), 2), Error::AllEqual { cells: 5 });
        assert_eq!(fit(Array2::ones((5, 0)), 2), Error::AllEqual { cells: 5 });
        assert!(matches!(
            fit(array![[1.0, f32::NAN], [0.0, 1.0]], 2),
            Error::NotFinite {
                row: 0,
                column: 1,
                ..
            }
        ));
        assert!(matches!(
            fit(Array2::zeros((2, 10_001)), 2),
            Error::ManyFeatures { .. }
        ));
        let pca = Pca::fit(scattered(5, 3).view(), 2).unwrap();
        assert!(matches!(
            pca.transform(scattered(2, 4).view()),
            Err(Error::Columns {
                found: 4,
                expected: 3,
                ..
            })
        ));
    }
}
