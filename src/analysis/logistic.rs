//! Multinomial logistic regression with an L2 penalty, a baseline for annotation.
//!
//! Minimizes C times the summed cross-entropy plus half the squared length of the weights, C = 1, intercepts free: the objective
//! and default of scikit-learn. There, two classes share one weight vector; the same optimum has twice the penalty here. The
//! solver is L-BFGS in f64 with sums in a fixed order. The library at hand (linfa-logistic) brings some fifty packages, stops
//! at a loose tolerance and sums in an order of its own.

use std::collections::VecDeque;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::{Error, require_finite, to_f64};

/// Cells summed by one task; part of the result's last bits, so not to be chosen by the number of threads.
const CHUNK: usize = 256;
/// Largest gradient component, per cell, at which the minimum counts as found.
const TOLERANCE: f64 = 1e-8;
const MOST_STEPS: usize = 5000;
/// Steps remembered by L-BFGS.
const MEMORY: usize = 20;

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// The classes it knows, increasing.
    pub classes: Vec<u32>,
    /// Weights and, in the last column, the intercept of each class, [classes, features + 1].
    pub weights: Array2<f64>,
    /// Whether the minimum was reached, as opposed to the limit on steps or on precision.
    pub is_converged: bool,
}

impl Logistic {
    /// Fits the classes that occur among `labels` to rows of cells.
    pub fn fit(cells: ArrayView2<'_, f64>, labels: &[u32]) -> Result<Self, Error> {
        let (n, features) = cells.dim();
        if labels.len() != n {
            return Err(Error::OnePerCell {
                what: "labels",
                found: labels.len(),
                cells: n,
            });
        }
        require_finite(cells)?;
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        if classes.len() < 2 {
            return Err(Error::OneClass);
        }
        let labels = labels
            .iter()
            .map(|label| classes.partition_point(|class| class < label))
            .collect();
        let penalty = if classes.len() == 2 { 2.0 } else { 1.0 };
        let problem = Problem {
            cells: to_f64(cells),
            labels,
            n_classes: classes.len(),
            penalty,
        };
        let (weights, is_converged) = minimize(&problem);
        let weights = Array2::from_shape_vec((classes.len(), features + 1), weights)
            .expect("one row of weights per class");
        Ok(Self {
            classes,
            weights,
            is_converged,
        })
    }

    /// Probability of each known class for rows of cells, [cells, classes].
    pub fn probabilities(&self, cells: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        let (found, expected) = (cells.ncols(), self.weights.ncols() - 1);
        if found != expected {
            return Err(Error::Columns {
                what: "the matrix to classify",
                found,
                expected,
            });
        }
        require_finite(cells)?;
        let weights = self.weights.as_slice().expect("weights are contiguous");
        let mut all = Vec::with_capacity(cells.nrows() * self.classes.len());
        for row in cells.as_standard_layout().rows() {
            let row = row
                .to_slice()
                .expect("rows in standard layout are contiguous");
            all.extend(softmax(scores(weights, row)).1);
        }
        Ok(
            Array2::from_shape_vec((cells.nrows(), self.classes.len()), all)
                .expect("one row of probabilities per cell"),
        )
    }
}

/// Score of each class for one cell.
fn scores(weights: &[f64], cell: &[f64]) -> Vec<f64> {
    let of_class = |weights: &[f64]| dot(&weights[..cell.len()], cell) + weights[cell.len()];
    weights.chunks_exact(cell.len() + 1).map(of_class).collect()
}

/// Logarithm of the summed exponentials, and the probabilities.
fn softmax(mut scores: Vec<f64>) -> (f64, Vec<f64>) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores
        .iter_mut()
        .for_each(|score| *score = (*score - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    (largest + sum.ln(), scores)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What is minimized, as a function of the flattened weights.
struct Problem {
    cells: Array2<f64>,
    labels: Vec<usize>,
    n_classes: usize,
    penalty: f64,
}

impl Problem {
    fn width(&self) -> usize {
        self.cells.ncols() + 1
    }

    /// Objective and gradient.
    fn evaluate(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let starts: Vec<usize> = (0..self.labels.len()).step_by(CHUNK).collect();
        let parts: Vec<(f64, Vec<f64>)> = starts
            .into_par_iter()
            .map(|start| self.evaluate_chunk(weights, start))
            .collect();
        let (mut objective, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for (loss, part) in parts {
            objective += loss;
            add(&mut gradient, 1.0, &part);
        }
        for (at, weight) in weights
            .iter()
            .enumerate()
            .filter(|(at, _)| (at + 1) % self.width() != 0)
        {
            objective += 0.5 * self.penalty * weight * weight;
            gradient[at] += self.penalty * weight;
        }
        (objective, gradient)
    }

    fn evaluate_chunk(&self, weights: &[f64], start: usize) -> (f64, Vec<f64>) {
        let (mut loss, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for at in start..(start + CHUNK).min(self.labels.len()) {
            let cell = self
                .cells
                .row(at)
                .to_slice()
                .expect("rows in standard layout are contiguous");
            let scores = scores(weights, cell);
            let true_score = scores[self.labels[at]];
            let (normalizer, mut errors) = softmax(scores);
            loss += normalizer - true_score;
            errors[self.labels[at]] -= 1.0;
            for (gradient, error) in gradient.chunks_exact_mut(self.width()).zip(errors) {
                add(&mut gradient[..cell.len()], error, cell);
                gradient[cell.len()] += error;
            }
        }
        (loss, gradient)
    }

    /// Rough inverse of the curvature along each weight: features differ in scale a thousandfold.
    fn step_sizes(&self) -> Vec<f64> {
        let fraction = (self.n_classes as f64).recip();
        let spread = fraction * (1.0 - fraction);
        let squares = self
            .cells
            .columns()
            .into_iter()
            .map(|column| column.iter().map(|value| value * value).sum::<f64>());
        let mut sizes: Vec<f64> = squares
            .map(|squares| (self.penalty + spread * squares).recip())
            .collect();
        sizes.push((spread * self.labels.len() as f64).recip());
        sizes.repeat(self.n_classes)
    }
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(to, from)| *to += factor * from);
}

/// L-BFGS with halved steps, from zero (Nocedal and Wright, Numerical Optimization, algorithm 7.5).
fn minimize(problem: &Problem) -> (Vec<f64>, bool) {
    let sizes = problem.step_sizes();
    let mut weights = vec![0.0; sizes.len()];
    let (mut objective, mut gradient) = problem.evaluate(&weights);
    let mut history = VecDeque::with_capacity(MEMORY);
    let tolerance = TOLERANCE * problem.labels.len() as f64;
    for _ in 0..MOST_STEPS {
        if gradient.iter().all(|slope| slope.abs() <= tolerance) {
            return (weights, true);
        }
        let direction = direction(&gradient, &history, &sizes);
        let slope = dot(&direction, &gradient);
        let at = |length: f64| {
            let mut moved = weights.clone();
            add(&mut moved, length, &direction);
            let (objective, gradient) = problem.evaluate(&moved);
            (moved, objective, gradient)
        };
        let lengths = (0..50).map(|halvings| 0.5_f64.powi(halvings));
        let mut steps = lengths.map(|length| (length, at(length)));
        let step = steps.find(|(length, step)| step.1 <= objective + 1e-4 * length * slope);
        let Some((_, (moved, reached, new_gradient))) = step else {
            return (weights, false);
        };
        let change: Vec<f64> = moved
            .iter()
            .zip(&weights)
            .map(|(new, old)| new - old)
            .collect();
        let turn: Vec<f64> = new_gradient
            .iter()
            .zip(&gradient)
            .map(|(new, old)| new - old)
            .collect();
        if dot(&change, &turn) > 0.0 {
            history.truncate(MEMORY - 1);
            history.push_front((change, turn));
        }
        (weights, objective, gradient) = (moved, reached, new_gradient);
    }
    (weights, false)
}

/// Downhill direction from the remembered changes of weights and gradient, newest first.
fn direction(
    gradient: &[f64],
    history: &VecDeque<(Vec<f64>, Vec<f64>)>,
    sizes: &[f64],
) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut amounts = Vec::with_capacity(history.len());
    for (change, turn) in history {
        let amount = dot(change, &direction) / dot(change, turn);
        add(&mut direction, -amount, turn);
        amounts.push(amount);
    }
    let scaled: Vec<f64> = history.front().map_or(Vec::new(), |(_, turn)| {
        turn.iter().zip(sizes).map(|(t, s)| t * s).collect()
    });
    let scale = history
        .front()
        .map_or(1.0, |(change, turn)| dot(change, turn) / dot(turn, &scaled));
    direction
        .iter_mut()
        .zip(sizes)
        .for_each(|(value, size)| *value *= scale * size);
    for ((change, turn), amount) in history.iter().zip(amounts).rev() {
        let correction = amount - dot(turn, &direction) / dot(change, turn);
        add(&mut direction, correction, change);
    }
    direction
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};
    use safetensors::SafeTensors;

    use super::*;

    struct Golden(&'static [u8]);

    impl Golden {
        fn read<const N: usize, T>(&self, name: &str, decode: fn([u8; N]) -> T) -> Vec<T> {
            let tensors = SafeTensors::deserialize(self.0).unwrap();
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(N)
                .map(|bytes| decode(bytes.try_into().unwrap()))
                .collect()
        }
    }

    const GOLDEN: Golden = Golden(include_bytes!(
        "../../tests/data/baselines/logistic.safetensors"
    ));

    /// 500 cells by 20 components; the first 350 are for training.
    fn golden_cells() -> (Array2<f64>, Vec<u32>) {
        let cells = GOLDEN
            .read("components", f32::from_le_bytes)
            .into_iter()
            .map(f64::from)
            .collect();
        let labels = GOLDEN
            .read("labels", i64::from_le_bytes)
            .into_iter()
            .map(|label| label as u32)
            .collect();
        (Array2::from_shape_vec((500, 20), cells).unwrap(), labels)
    }

    fn assert_golden(labels: &[u32], name: &str) {
        let (cells, _) = golden_cells();
        let model = Logistic::fit(cells.slice(s![..350, ..]), &labels[..350]).unwrap();
        assert!(model.is_converged);
        let probabilities = model.probabilities(cells.slice(s![350.., ..])).unwrap();
        let expected = GOLDEN.read(name, f64::from_le_bytes);
        assert_eq!(probabilities.len(), expected.len());
        let worst = probabilities
            .iter()
            .zip(&expected)
            .map(|(a, e)| (a - e).abs())
            .fold(0.0, f64::max);
        // Both solvers stop where the gradient nearly vanishes, not at the very minimum.
        assert!(worst < 1e-5, "{name}: {worst}");
    }

    #[test]
    fn golden_baselines_logistic() {
        let (_, labels) = golden_cells();
        assert_golden(&labels, "probabilities");
        let two: Vec<u32> = labels.iter().map(|&label| u32::from(label < 5)).collect();
        assert_golden(&two, "probabilities_two_classes");
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (cells, labels) = golden_cells();
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| Logistic::fit(cells.view(), &labels).unwrap())
        };
        assert_eq!(fit(1), fit(3));
    }

    #[test]
    fn class_numbers_may_have_gaps_and_features_may_be_constant() {
        let cells = array![[0.0, 5.0], [0.1, 5.0], [3.0, 5.0], [3.1, 5.0]];
        let model = Logistic::fit(cells.view(), &[7, 7, 90, 90]).unwrap();
        assert_eq!(
            (model.classes.as_slice(), model.is_converged),
            (&[7, 90][..], true)
        );
        let probabilities = model.probabilities(cells.view()).unwrap();
        assert!(probabilities[[0, 0]] > 0.8 && probabilities[[3, 1]] > 0.8);
    }

    #[test]
    fn huge_values_end_without_panic() {
        let cells = array![[1e38, -3e38], [2e37, 0.0], [-1e38, 3.0], [0.5, 3e38]];
        let model = Logistic::fit(cells.view(), &[0, 1, 2, 1]).unwrap();
        assert!(
            model
                .probabilities(cells.view())
                .unwrap()
                .iter()
                .all(|probability| probability.is_finite())
        );
    }

    #[test]
    fn impossible_input_is_rejected() {
        let fit =
            |cells: Array2<f64>, labels: &[u32]| Logistic::fit(cells.view(), labels).unwrap_err();
        assert_eq!(fit(array![[1.0], [2.0]], &[3, 3]), Error::OneClass);
        assert_eq!(fit(Array2::zeros((0, 2)), &[]), Error::OneClass);
        assert_eq!(
            fit(array![[1.0]], &[3, 3]),
            Error::OnePerCell {
                what: "labels",
                found: 2,
                cells: 1
            }
        );
        assert!(matches!(
            fit(array![[1.0], [f64::NAN]], &[0, 1]),
            Error::NotFinite { row: 1, .. }
        ));
    }
}
