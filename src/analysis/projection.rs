//! Principal components of a dense matrix, by the eigenvectors of its products with itself.
//!
//! The products are features by features or cells by cells, whichever are fewer: one of the two is at most some thousands. A
//! component's sign is chosen so that its loading of largest size is positive. The 2-D view of an embedding is its first two
//! components.

use ndarray::{Array2, ArrayView2, Axis};
use tch::Tensor;

use super::{Error, require_finite, to_f64};

/// The products of this many cells or features take 800 MB.
const MANY: usize = 10_000;
/// Components with less than this fraction of the largest variance are rounding errors.
const NEGLIGIBLE: f64 = 1e-12;

/// A PCA fitted to some cells that can be applied to others.
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
    /// Fits at most `wanted` components to rows of cells.
    ///
    /// There are fewer if the cells do not span as many dimensions: never more than cells - 1 or features. Fails on fewer
    /// than two cells, on equal cells, on values that are not finite and on more than 10,000 cells of more than 10,000 features.
    pub fn fit<T: Copy + Into<f64>>(
        cells: ArrayView2<'_, T>,
        wanted: usize,
    ) -> Result<Self, Error> {
        check(cells, wanted)?;
        let (n, features) = cells.dim();
        let mut centered = to_f64(cells);
        let mean: Vec<f64> = centered
            .columns()
            .into_iter()
            .map(|column| column.sum() / n as f64)
            .collect();
        for mut row in centered.rows_mut() {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(value, mean)| *value -= mean);
        }
        let total_variance =
            centered.iter().map(|value| value * value).sum::<f64>() / (n - 1) as f64;
        if total_variance == 0.0 {
            return Err(Error::AllEqual { cells: n });
        }
        let by_cells = n < features;
        let products = products(&centered, by_cells)?;
        let (variances, vectors) = largest(&products, wanted.min(n - 1))?;
        let directions = if by_cells {
            through_cells(&vectors, &centered)
        } else {
            vectors
        };
        Ok(Self {
            mean,
            components: with_positive_peaks(directions),
            explained_variance: variances,
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
        let mut centered = to_f64(cells);
        for mut row in centered.rows_mut() {
            row.iter_mut()
                .zip(&self.mean)
                .for_each(|(value, mean)| *value -= mean);
        }
        Ok(centered.dot(&self.components.t()))
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
        () if features.min(n) > MANY => Err(Error::ManyFeatures {
            found: features,
            limit: MANY,
        }),
        () => require_finite(cells),
    }
}

/// Products of all pairs of cells or of features, divided by the degrees of freedom: both have the variances as eigenvalues.
fn products(centered: &Array2<f64>, by_cells: bool) -> Result<Tensor, Error> {
    let (n, features) = centered.dim();
    let values = centered
        .as_slice()
        .expect("a converted matrix is contiguous");
    on_one_thread(|| {
        let cells = Tensor::from_slice(values).f_view([n as i64, features as i64])?;
        let turned = cells.f_transpose(0, 1)?;
        let product = if by_cells {
            cells.f_matmul(&turned)?
        } else {
            turned.f_matmul(&cells)?
        };
        product.f_div_scalar((n - 1) as f64)
    })
}

/// The largest eigenvalues, decreasing, and their eigenvectors, as rows; those that are rounding errors are dropped.
fn largest(products: &Tensor, wanted: usize) -> Result<(Vec<f64>, Array2<f64>), Error> {
    let (values, vectors) = on_one_thread(|| {
        let (values, vectors) = products.f_linalg_eigh("L")?;
        let vectors = vectors.f_transpose(0, 1)?.f_contiguous()?.f_view(-1)?;
        Ok((
            Vec::<f64>::try_from(values)?,
            Vec::<f64>::try_from(vectors)?,
        ))
    })?;
    let order = values.len();
    let vectors = Array2::from_shape_vec((order, order), vectors).expect("eigenvectors are square");
    let kept: Vec<usize> = (0..order)
        .rev() // eigenvalues are increasing
        .take(wanted)
        .filter(|&at| values[at] > NEGLIGIBLE * values[order - 1])
        .collect();
    let variances = kept.iter().map(|&at| values[at]).collect();
    Ok((variances, vectors.select(Axis(0), &kept)))
}

/// Unit directions of features from eigenvectors of the products of cells.
fn through_cells(vectors: &Array2<f64>, centered: &Array2<f64>) -> Array2<f64> {
    let mut directions = vectors.dot(centered);
    for mut direction in directions.rows_mut() {
        let length = direction.dot(&direction).sqrt();
        direction.mapv_inplace(|loading| loading / length);
    }
    directions
}

/// The order of libtorch's sums, and with it the last bits, depends on the number of threads.
fn on_one_thread<T>(compute: impl FnOnce() -> Result<T, tch::TchError>) -> Result<T, Error> {
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let result = compute();
    tch::set_num_threads(threads);
    result.map_err(|error| Error::Torch {
        what: "find principal components",
        message: error.to_string(),
    })
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
    fn products_of_cells_and_of_features_give_the_same_components() {
        let cells = scattered(40, 30);
        let wide = Array2::from_shape_fn((40, 60), |(i, j)| cells[[i, j % 30]]);
        let (narrow, wide) = (
            Pca::fit(cells.view(), 5).unwrap(),
            Pca::fit(wide.view(), 5).unwrap(),
        );
        // Every feature twice: twice the variance, every loading twice at 1 / sqrt(2).
        for (k, variance) in narrow.explained_variance.iter().enumerate() {
            assert!((wide.explained_variance[k] / variance - 2.0).abs() < 1e-9);
            for feature in 0..60 {
                let loading = narrow.components[[k, feature % 30]] / 2_f64.sqrt();
                assert!((wide.components[[k, feature]] - loading).abs() < 1e-9);
            }
        }
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
    fn impossible_input_is_rejected() {
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
            fit(Array2::zeros((10_001, 10_001)), 2),
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
