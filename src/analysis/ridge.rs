//! Ridge regression with several targets, a linear baseline.
//!
//! Minimizes the summed squared errors plus the penalty times the summed squared weights, intercepts free: the objective of
//! scikit-learn's `Ridge`. Of the normal equations in features (primal) and in cells (dual), the smaller are solved by
//! Cholesky factors, computed recursively so that nearly all work is matrix products.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use super::matmul::product;
use super::{Error, require_finite, to_f64};

/// Penalties to choose from, for features of about unit scale.
pub const PENALTIES: [f64; 7] = [0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4];

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// What the squared weights cost.
    pub penalty: f64,
    /// Weights, [features, targets].
    pub weights: Array2<f64>,
    /// Value of each target where all features are zero.
    pub intercepts: Array1<f64>,
}

impl Ridge {
    /// Fits targets `y` [cells, targets] to features `x` [cells, features].
    ///
    /// Fails without cells, unless both have the same cells, on values that are not finite, unless the penalty is greater
    /// than 0, and if it is too small for the equations to be solved.
    pub fn fit(
        x: ArrayView2<'_, f64>,
        y: ArrayView2<'_, f64>,
        penalty: f64,
    ) -> Result<Self, Error> {
        let problem = Problem::new(x, y, 1)?;
        Ok(problem.model(penalty, &problem.factor(penalty)?))
    }

    /// Fits with the penalty of least leave-one-out error, the first of equally good ones.
    ///
    /// The error is the mean of squared errors over cells and targets when each cell is predicted by the model fitted,
    /// intercept included, to all others. It is exact, not the approximation of generalized cross-validation, and needs
    /// no refitting: the error of a cell is its residual over one less its leverage (Hastie et al., The Elements of
    /// Statistical Learning, equation 7.64). scikit-learn's `RidgeCV` chooses the same way. Penalties too small
    /// for the equations to be solved are skipped. Fails as `fit` does, with fewer than two cells, and without penalties.
    pub fn fit_chosen(
        x: ArrayView2<'_, f64>,
        y: ArrayView2<'_, f64>,
        penalties: &[f64],
    ) -> Result<Self, Error> {
        let problem = Problem::new(x, y, 2)?;
        let mut best: Option<(f64, Self)> = None;
        for &penalty in penalties {
            let factor = match problem.factor(penalty) {
                Err(Error::Singular { .. }) => continue,
                factor => factor?,
            };
            let model = problem.model(penalty, &factor);
            let errors = problem.leave_one_out_errors(&model, &factor);
            let error = errors.mapv(|error| error * error).sum();
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, model));
            }
        }
        let largest = penalties.iter().copied().reduce(f64::max);
        let unsolved = largest.map_or(Error::Zero("penalties"), |penalty| Error::Singular {
            penalty,
        });
        best.map(|(_, model)| model).ok_or(unsolved)
    }

    /// Targets of rows of cells, [cells, targets].
    ///
    /// Fails if the features are not as many as those fitted, or not finite.
    pub fn predict(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        let (found, expected) = (x.ncols(), self.weights.nrows());
        if found != expected {
            let what = "the matrix to predict from";
            return Err(Error::Columns {
                what,
                found,
                expected,
            });
        }
        require_finite(x)?;
        Ok(product(x, self.weights.view()) + &self.intercepts)
    }
}

/// Centered data and their normal equations without the penalty.
struct Problem {
    x: Array2<f64>,
    y: Array2<f64>,
    x_means: Array1<f64>,
    y_means: Array1<f64>,
    /// Products of features with each other, or, if `shift` is set, of cells.
    gram: Array2<f64>,
    /// Dual form: added to all products of cells. Centered cells leave the direction in which all cells weigh the same
    /// without products; this gives it some, which changes no weight and keeps the equations well-conditioned.
    shift: Option<f64>,
}

impl Problem {
    fn new(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, needed: usize) -> Result<Self, Error> {
        let (n, found) = (x.nrows(), y.nrows());
        if found != n {
            let what = "rows of targets";
            return Err(Error::OnePerCell {
                what,
                found,
                cells: n,
            });
        }
        if n < needed {
            let what = "ridge regression";
            return Err(Error::FewCells {
                what,
                needed,
                found: n,
            });
        }
        require_finite(x)?;
        require_finite(y)?;
        let ((x, x_means), (y, y_means)) = (centered(x), centered(y));
        let (gram, shift) = if x.ncols() <= n {
            (product(x.t(), x.view()), None)
        } else {
            let gram = product(x.view(), x.t());
            let shift = gram.diag().sum() / n as f64;
            (gram + shift, Some(shift))
        };
        Ok(Self {
            x,
            y,
            x_means,
            y_means,
            gram,
            shift,
        })
    }

    /// Inverse of the Cholesky factor of the penalized equations.
    fn factor(&self, penalty: f64) -> Result<Array2<f64>, Error> {
        if !(penalty > 0.0 && penalty.is_finite()) {
            let (name, expected) = ("the penalty", "greater than 0");
            return Err(Error::Setting {
                what: name,
                found: penalty,
                expected,
            });
        }
        let mut penalized = self.gram.clone();
        penalized.diag_mut().map_inplace(|value| *value += penalty);
        let factor = inverse_factor(penalized.view()).ok_or(Error::Singular { penalty })?;
        // A pivot that is rounding error of what it was computed from.
        let rounding = f64::EPSILON * penalized.nrows() as f64;
        let mut pivots = factor.diag().into_iter().zip(penalized.diag());
        if pivots.any(|(inverse, value)| 1.0 < rounding * value * inverse * inverse) {
            return Err(Error::Singular { penalty });
        }
        Ok(factor)
    }

    fn model(&self, penalty: f64, factor: &Array2<f64>) -> Ridge {
        let weights = match self.shift {
            None => solve(factor, &product(self.x.t(), self.y.view())),
            Some(_) => product(self.x.t(), solve(factor, &self.y).view()),
        };
        let intercepts = &self.y_means - &self.x_means.dot(&weights);
        Ridge {
            penalty,
            weights,
            intercepts,
        }
    }

    /// Leave-one-out error of each cell, [cells, targets].
    ///
    /// In the dual form, residual and one less the leverage both have the penalty as a factor, which cancels.
    fn leave_one_out_errors(&self, model: &Ridge, factor: &Array2<f64>) -> Array2<f64> {
        let n = self.y.nrows() as f64;
        let (residuals, rest) = match self.shift {
            None => {
                let residuals = &self.y - &product(self.x.view(), model.weights.view());
                let leverages = squared_lengths(product(self.x.view(), factor.t()).view());
                (residuals, 1.0 - 1.0 / n - leverages)
            }
            Some(shift) => {
                let of_shift = 1.0 / (n * (model.penalty + shift * n));
                (
                    solve(factor, &self.y),
                    squared_lengths(factor.t()) - of_shift,
                )
            }
        };
        residuals / rest.insert_axis(Axis(1))
    }
}

/// Columns less their means, and the means.
fn centered(rows: ArrayView2<'_, f64>) -> (Array2<f64>, Array1<f64>) {
    let means = rows.sum_axis(Axis(0)) / rows.nrows() as f64;
    (to_f64(rows) - &means, means)
}

fn squared_lengths(rows: ArrayView2<'_, f64>) -> Array1<f64> {
    rows.rows().into_iter().map(|row| row.dot(&row)).collect()
}

/// Inverse of the lower Cholesky factor of a matrix, from those of its quarters; none unless it is positive definite.
fn inverse_factor(matrix: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    let n = matrix.nrows();
    if n < 2 {
        let is_definite = matrix.iter().all(|&value| value > 0.0 && value.is_finite());
        return is_definite.then(|| matrix.mapv(|value| value.sqrt().recip()));
    }
    let half = n / 2;
    let first = inverse_factor(matrix.slice(s![..half, ..half]))?;
    let below = product(matrix.slice(s![half.., ..half]), first.t());
    let rest = &matrix.slice(s![half.., half..]) - &product(below.view(), below.t());
    let second = inverse_factor(rest.view())?;
    let corner = -product(product(second.view(), below.view()).view(), first.view());
    let above = concatenate![Axis(1), first, Array2::zeros((half, n - half))];
    Some(concatenate![
        Axis(0),
        above,
        concatenate![Axis(1), corner, second]
    ])
}

/// Solution of the equations whose inverse factor is given.
fn solve(factor: &Array2<f64>, right: &Array2<f64>) -> Array2<f64> {
    product(factor.t(), product(factor.view(), right.view()).view())
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/ridge.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn matrix(value: &Value) -> Array2<f64> {
        let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
        let shape = (rows.len(), rows[0].len());
        Array2::from_shape_vec(shape, rows.into_iter().flatten().collect()).unwrap()
    }

    fn assert_close(found: &Array2<f64>, expected: &Value, what: &str) {
        let expected = matrix(expected);
        assert_eq!(found.dim(), expected.dim());
        for (found, expected) in found.iter().zip(&expected) {
            let tolerance = 1e-8 * expected.abs().max(1.0);
            assert!(
                (found - expected).abs() < tolerance,
                "{what}: {found} {expected}"
            );
        }
    }

    #[test]
    fn golden_ridge() {
        for (name, case) in golden()["cases"].as_object().unwrap() {
            let (x, y) = (matrix(&case["x"]), matrix(&case["y"]));
            for fit in case["fits"].as_array().unwrap() {
                let model =
                    Ridge::fit(x.view(), y.view(), fit["penalty"].as_f64().unwrap()).unwrap();
                assert_close(&model.weights, &fit["weights"], name);
                let intercepts = Value::Array(vec![fit["intercepts"].clone()]);
                assert_close(
                    &model.intercepts.clone().insert_axis(Axis(0)),
                    &intercepts,
                    name,
                );
                let predicted = model.predict(x.slice(s![..4, ..])).unwrap();
                assert_close(&predicted, &fit["predicted"], name);
            }
        }
    }

    #[test]
    fn golden_ridge_left_out() {
        for (name, case) in golden()["cases"].as_object().unwrap() {
            let (x, y) = (matrix(&case["x"]), matrix(&case["y"]));
            let problem = Problem::new(x.view(), y.view(), 2).unwrap();
            let mut penalties = Vec::new();
            for fit in case["fits"].as_array().unwrap() {
                let penalty = fit["penalty"].as_f64().unwrap();
                let factor = problem.factor(penalty).unwrap();
                let errors =
                    problem.leave_one_out_errors(&problem.model(penalty, &factor), &factor);
                assert_close(&errors, &fit["left_out"], name);
                penalties.push(penalty);
            }
            let chosen = Ridge::fit_chosen(x.view(), y.view(), &penalties).unwrap();
            assert_eq!(chosen.penalty, case["chosen"].as_f64().unwrap(), "{name}");
            assert_close(&chosen.weights, &case["chosen_weights"], name);
            let same = Ridge::fit(x.view(), y.view(), chosen.penalty).unwrap();
            assert_eq!(chosen, same);
        }
    }

    fn wave(rows: usize, columns: usize, speed: f64) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            (speed * (row * columns + column) as f64).sin()
        })
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for (n, p) in [(150, 90), (90, 150)] {
            let (x, y) = (wave(n, p, 1.7), wave(n, 3, 0.3));
            let fit = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| Ridge::fit_chosen(x.view(), y.view(), &PENALTIES).unwrap())
            };
            assert_eq!(fit(1), fit(8));
        }
    }

    #[test]
    fn both_forms_meet_where_there_are_as_many_features_as_cells() {
        // Features of zeros change nothing but the form.
        let (x, y) = (wave(70, 40, 1.3), wave(70, 2, 0.4));
        let wide = concatenate![Axis(1), x, Array2::zeros((70, 60))];
        let (primal, dual) = (
            Ridge::fit(x.view(), y.view(), 0.5).unwrap(),
            Ridge::fit(wide.view(), y.view(), 0.5).unwrap(),
        );
        let difference = &primal.weights - &dual.weights.slice(s![..40, ..]);
        assert!(difference.iter().all(|value| value.abs() < 1e-10));
        assert!(
            dual.weights
                .slice(s![40.., ..])
                .iter()
                .all(|&weight| weight == 0.0)
        );
    }

    #[test]
    fn constant_features_and_one_cell_predict_the_mean() {
        let x = Array2::from_elem((3, 5), 0.1);
        let y = array![[1.0, 4.0], [2.0, 4.0], [6.0, 4.0]];
        for model in [
            Ridge::fit(x.view(), y.view(), 0.1).unwrap(),
            Ridge::fit_chosen(x.view(), y.view(), &PENALTIES).unwrap(),
            Ridge::fit(x.slice(s![.., ..2]), y.view(), 0.1).unwrap(),
            Ridge::fit(x.slice(s![.., ..0]), y.view(), 0.1).unwrap(),
        ] {
            let query = Array2::from_elem((1, model.weights.nrows()), 3.0);
            let predicted = model.predict(query.view()).unwrap() - array![[3.0, 4.0]];
            assert!(predicted.iter().all(|value| value.abs() < 1e-12));
        }
        let one = Ridge::fit(x.slice(s![..1, ..]), y.slice(s![..1, ..]), 1.0).unwrap();
        assert_eq!(one.predict(x.view()).unwrap().row(2), array![1.0, 4.0]);
    }

    #[test]
    fn the_penalty_follows_the_noise() {
        let x = wave(60, 20, 1.1);
        let exact = x.dot(&wave(20, 1, 0.7));
        let chosen = |y: &Array2<f64>| Ridge::fit_chosen(x.view(), y.view(), &PENALTIES).unwrap();
        assert_eq!(chosen(&exact).penalty, 0.01);
        let noise = Array2::from_shape_fn((60, 1), |(row, _)| ((row * row) as f64 * 12.9).sin());
        assert!(chosen(&noise).penalty >= 10.0);
    }

    #[test]
    fn impossible_input_is_rejected() {
        let (x, y) = (wave(5, 3, 1.0), wave(5, 2, 2.0));
        let fit = |x: &Array2<f64>, y: &Array2<f64>, penalty| {
            Ridge::fit(x.view(), y.view(), penalty).unwrap_err()
        };
        assert!(matches!(
            fit(&wave(4, 3, 1.0), &y, 1.0),
            Error::OnePerCell {
                found: 5,
                cells: 4,
                ..
            }
        ));
        let none = Array2::zeros((0, 3));
        assert!(matches!(
            fit(&none, &none, 1.0),
            Error::FewCells {
                needed: 1,
                found: 0,
                ..
            }
        ));
        for penalty in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(fit(&x, &y, penalty), Error::Setting { .. }));
        }
        let huge = &x * 1e300;
        assert_eq!(fit(&huge, &y, 1.0), Error::Singular { penalty: 1.0 });
        let (long, targets) = (wave(20, 3, 1.0), wave(20, 2, 2.0));
        let twice = concatenate![Axis(1), long, long];
        let (small, penalty) = (1e-30, 1e-30);
        assert_eq!(fit(&twice, &targets, small), Error::Singular { penalty });
        let chosen = Ridge::fit_chosen(twice.view(), targets.view(), &[small, 1.0]).unwrap();
        assert_eq!(chosen.penalty, 1.0);
        let none = Ridge::fit_chosen(twice.view(), targets.view(), &[small]);
        assert_eq!(none, Err(Error::Singular { penalty }));
        assert!(matches!(
            fit(&(&x * f64::NAN), &y, 1.0),
            Error::NotFinite { .. }
        ));
        assert!(matches!(fit(&x, &(&y / 0.0), 1.0), Error::NotFinite { .. }));
        let choose = |n: usize, penalties: &[f64]| {
            Ridge::fit_chosen(x.slice(s![..n, ..]), y.slice(s![..n, ..]), penalties).unwrap_err()
        };
        assert_eq!(choose(5, &[]), Error::Zero("penalties"));
        assert!(matches!(
            choose(1, &PENALTIES),
            Error::FewCells {
                needed: 2,
                found: 1,
                ..
            }
        ));
        let model = Ridge::fit(x.view(), y.view(), 1.0).unwrap();
        assert!(matches!(
            model.predict(y.view()),
            Err(Error::Columns {
                found: 2,
                expected: 3,
                ..
            })
        ));
    }
}
