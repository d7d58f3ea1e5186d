//! Harmony batch correction of principal components (Korsunsky et al. 2019, Nature Methods 16:1289).
//!
//! Cells are clustered softly on the unit sphere, with a penalty on clusters in which batches are not as frequent as
//! overall; then, within each cluster, a ridge regression on the batch gives the correction. Both repeat until the
//! objective converges. Smoothing by one cell, blocks and rules of convergence are those of harmonypy 0.0.x; harmonypy 2
//! follows Harmony2, with looser tolerances and a penalty `lambda` of its own for each cluster.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use super::kmeans::kmeans;
use super::matmul::product;
use super::{Error, require_finite, to_f64};
use crate::random::{Seed, permutation};

const KMEANS_STARTS: u64 = 10;
const KMEANS_ROUNDS: usize = 25;
/// Consecutive objectives that are compared to test convergence.
const WINDOW: usize = 3;

/// Settings of Harmony. The defaults are those of harmonypy 0.0.x, except `theta`, 1 there but 2 in later versions and in R.
#[derive(Debug, Clone, PartialEq)]
pub struct Harmony {
    /// Weight of the penalty on clusters of unequal batches; 0 ignores the batch when clustering.
    pub theta: f64,
    /// Ridge penalty of the batch terms, in cells.
    pub lambda: f64,
    /// Softness of clusters.
    pub sigma: f64,
    /// Number of clusters; if none, a thirtieth of the cells, at least 1 and at most 100.
    pub clusters: Option<usize>,
    /// Most rounds of clustering and correction.
    pub max_rounds: usize,
    /// Most rounds of clustering before each correction.
    pub max_cluster_rounds: usize,
    /// Fraction of the cells that change clusters at a time.
    pub block_size: f64,
    /// Relative change of the objective, over three rounds, at which clustering has converged.
    pub epsilon_cluster: f64,
    /// Relative fall of the objective below which correction ends.
    pub epsilon_harmony: f64,
}

impl Default for Harmony {
    fn default() -> Self {
        Self {
            theta: 2.0,
            lambda: 1.0,
            sigma: 0.1,
            clusters: None,
            max_rounds: 10,
            max_cluster_rounds: 20,
            block_size: 0.05,
            epsilon_cluster: 1e-5,
            epsilon_harmony: 1e-4,
        }
    }
}

impl Harmony {
    fn check(&self) -> Result<(), Error> {
        let is_share = self.block_size > 0.0 && self.block_size <= 1.0;
        let above_zero = |value: f64| value > 0.0 && value.is_finite();
        let settings = [
            (
                "theta",
                self.theta,
                self.theta == 0.0 || above_zero(self.theta),
                "at least 0",
            ),
            (
                "lambda",
                self.lambda,
                above_zero(self.lambda),
                "greater than 0",
            ),
            (
                "sigma",
                self.sigma,
                above_zero(self.sigma),
                "greater than 0",
            ),
            (
                "block_size",
                self.block_size,
                is_share,
                "greater than 0 and at most 1",
            ),
        ];
        match settings.into_iter().find(|(_, _, is_valid, _)| !is_valid) {
            Some((name, value, _, expected)) => Err(Error::Setting {
                what: name,
                found: value,
                expected,
            }),
            None if self.clusters == Some(0) => Err(Error::Zero("clusters")),
            None => Ok(()),
        }
    }

    fn n_clusters(&self, cells: usize) -> usize {
        let usual = (cells as f64 / 30.0).round_ties_even() as usize;
        self.clusters.unwrap_or(usual.min(100)).clamp(1, cells)
    }
}

/// Corrects principal components [cells, components] for the batch of each cell, any numbers.
///
/// Components of a single batch are returned as they are. Fails unless there is one batch per cell, on values that are
/// not finite, or so large that their sums are not, and on impossible settings.
pub fn harmony(
    components: ArrayView2<'_, f64>,
    batches: &[usize],
    options: &Harmony,
    seed: u64,
) -> Result<Array2<f64>, Error> {
    let cells = components.nrows();
    if batches.len() != cells {
        let (what, found) = ("batches", batches.len());
        return Err(Error::OnePerCell { what, found, cells });
    }
    require_finite(components)?;
    options.check()?;
    let components = to_f64(components);
    let batches = Batches::new(batches);
    if batches.fractions.len() < 2 || components.is_empty() {
        return Ok(components);
    }
    let (k, seed) = (options.n_clusters(cells), Seed(seed));
    let directions = unit_rows(&components);
    let centroids = kmeans(directions.view(), k, KMEANS_STARTS, KMEANS_ROUNDS, seed);
    let mut stream = seed.stream("harmony", &[]);
    let order = || permutation(&mut stream, cells);
    let corrected = correct_from(&components, &batches, options, &centroids, order);
    require_finite(corrected.view())?;
    Ok(corrected)
}

/// Runs from given centroids, with the order in which cells are visited in each round of clustering.
fn correct_from(
    components: &Array2<f64>,
    batches: &Batches,
    options: &Harmony,
    centroids: &Array2<f64>,
    mut order: impl FnMut() -> Vec<usize>,
) -> Array2<f64> {
    let mut corrected = components.clone();
    let mut clusters = Clusters::new(unit_rows(components), batches, options, centroids);
    let mut objective = clusters.objective();
    for _ in 0..options.max_rounds {
        let reached = clusters.resolve(&mut order);
        corrected = clusters.correct(components);
        if objective - reached < options.epsilon_harmony * objective.abs() {
            break;
        }
        objective = reached;
        clusters.directions = unit_rows(&corrected);
    }
    corrected
}

/// Rows of unit length; rows of zeros stay.
fn unit_rows(rows: &Array2<f64>) -> Array2<f64> {
    let mut unit = rows.clone();
    for mut row in unit.rows_mut() {
        let largest = row
            .iter()
            .fold(0.0, |most: f64, value| most.max(value.abs()));
        if largest > 0.0 {
            // First the scale, so that squares neither overflow nor vanish.
            row /= largest;
            let length = row.dot(&row).sqrt();
            row /= length;
        }
    }
    unit
}

/// Which cells belong to which batch, batches numbered from 0.
struct Batches {
    of_cells: Vec<usize>,
    /// Fraction of all cells.
    fractions: Array1<f64>,
}

impl Batches {
    fn new(names: &[usize]) -> Self {
        let mut distinct = names.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let number = |name: &usize| distinct.partition_point(|other| other < name);
        let of_cells: Vec<usize> = names.iter().map(number).collect();
        let mut fractions = Array1::zeros(distinct.len());
        of_cells.iter().for_each(|&batch| fractions[batch] += 1.0);
        fractions /= names.len().max(1) as f64;
        Self {
            of_cells,
            fractions,
        }
    }
}

/// Soft clusters of cells.
struct Clusters<'a> {
    options: &'a Harmony,
    batches: &'a Batches,
    /// Corrected cells scaled to unit length, [cells, components].
    directions: Array2<f64>,
    /// Probability of each cluster, [cells, clusters].
    probabilities: Array2<f64>,
    /// Cells of each batch in each cluster, by probability, [batches, clusters].
    observed: Array2<f64>,
    /// Each cell's part of the objective, without the penalty.
    costs: Vec<f64>,
}

impl<'a> Clusters<'a> {
    /// Clusters around given centroids, regardless of batch.
    fn new(
        directions: Array2<f64>,
        batches: &'a Batches,
        options: &'a Harmony,
        centroids: &Array2<f64>,
    ) -> Self {
        let (n, k) = (directions.nrows(), centroids.nrows());
        let mut clusters = Self {
            options,
            batches,
            directions,
            probabilities: Array2::zeros((n, k)),
            observed: Array2::zeros((batches.fractions.len(), k)),
            costs: vec![0.0; n],
        };
        let cosines = product(clusters.directions.view(), unit_rows(centroids).t());
        let penalties = Array2::zeros(clusters.observed.dim());
        let all: Vec<usize> = (0..n).collect();
        clusters.assign(&all, &cosines, &penalties);
        clusters
    }

    /// Logarithm of observed over expected cells, each with one cell more, times theta, [batches, clusters].
    fn penalties(&self) -> Array2<f64> {
        let sizes = self.observed.sum_axis(Axis(0));
        let mut penalties = self.observed.clone();
        for (mut row, fraction) in penalties
            .rows_mut()
            .into_iter()
            .zip(&self.batches.fractions)
        {
            row.zip_mut_with(&sizes, |value, size| {
                *value = self.options.theta * ((*value + 1.0) / (fraction * size + 1.0)).ln();
            });
        }
        penalties
    }

    /// Distances to centroids, entropy and penalty.
    fn objective(&self) -> f64 {
        let costs: f64 = self.costs.iter().sum();
        costs + self.options.sigma * (&self.observed * &self.penalties()).sum()
    }

    /// Rounds of clustering until the objective converges; returns it.
    fn resolve(&mut self, order: &mut impl FnMut() -> Vec<usize>) -> f64 {
        let mut objectives: Vec<f64> = Vec::new();
        for _ in 0..self.options.max_cluster_rounds {
            self.update(&order());
            objectives.push(self.objective());
            let n = objectives.len();
            let sum = |range: Range<usize>| objectives[range].iter().sum::<f64>();
            if n > WINDOW + 1 {
                let (old, new) = (sum(n - WINDOW - 1..n - 1), sum(n - WINDOW..n));
                if (old - new).abs() < self.options.epsilon_cluster * old.abs() {
                    break;
                }
            }
        }
        self.objective()
    }

    /// One round: centroids from probabilities, then probabilities block by block.
    fn update(&mut self, order: &[usize]) {
        let centroids = unit_rows(&product(self.probabilities.t(), self.directions.view()));
        let cosines = product(self.directions.view(), centroids.t());
        for block in blocks(order, self.options.block_size) {
            for &cell in block {
                let mut observed = self.observed.row_mut(self.batches.of_cells[cell]);
                observed -= &self.probabilities.row(cell);
            }
            self.assign(block, &cosines, &self.penalties());
        }
    }

    /// Puts cells that `observed` does not count into clusters.
    fn assign(&mut self, cells: &[usize], cosines: &Array2<f64>, penalties: &Array2<f64>) {
        let assigned: Vec<(Array1<f64>, f64)> = cells
            .par_iter()
            .map(|&cell| {
                let penalties = penalties.row(self.batches.of_cells[cell]);
                self.options.probabilities(cosines.row(cell), penalties)
            })
            .collect();
        for (&cell, (probabilities, cost)) in cells.iter().zip(assigned) {
            let mut observed = self.observed.row_mut(self.batches.of_cells[cell]);
            observed += &probabilities;
            self.probabilities.row_mut(cell).assign(&probabilities);
            self.costs[cell] = cost;
        }
    }

    /// The components less what ridge regression on the batch, in each cluster, explains.
    fn correct(&self, components: &Array2<f64>) -> Array2<f64> {
        let mut corrected = components.clone();
        for (batch, effects) in self.effects(components).iter().enumerate() {
            let cells = self.cells_of(batch);
            let probabilities = self.probabilities.select(Axis(0), &cells);
            let explained = product(probabilities.view(), effects.view());
            for (cell, explained) in cells.into_iter().zip(explained.rows()) {
                let mut row = corrected.row_mut(cell);
                row -= &explained;
            }
        }
        corrected
    }

    fn cells_of(&self, batch: usize) -> Vec<usize> {
        let of_cells = &self.batches.of_cells;
        (0..of_cells.len())
            .filter(|&cell| of_cells[cell] == batch)
            .collect()
    }

    /// Coefficients of each batch in each cluster, a matrix [clusters, components] for each batch.
    ///
    /// With n cells of a batch in a cluster, their sum s, and an unpenalized intercept a, the normal equations give that
    /// the coefficient is (s - n a) / (n + lambda); summed over batches, that a is the mean of s by the mean of n, both
    /// weighted with 1 / (n + lambda).
    fn effects(&self, components: &Array2<f64>) -> Vec<Array2<f64>> {
        let shrunken = self
            .observed
            .mapv(|n| n + self.options.lambda)
            .insert_axis(Axis(2));
        let counts = self.observed.view().insert_axis(Axis(2));
        let mut effects: Vec<Array2<f64>> = (0..self.observed.nrows())
            .map(|batch| self.sums(batch, components))
            .collect();
        let mut intercepts = Array2::<f64>::zeros(effects[0].dim());
        let mut weights = Array2::<f64>::zeros((self.observed.ncols(), 1));
        for (batch, sums) in effects.iter().enumerate() {
            let shrunken = shrunken.index_axis(Axis(0), batch);
            intercepts += &(sums / &shrunken);
            weights += &(&counts.index_axis(Axis(0), batch) / &shrunken);
        }
        intercepts /= &weights.mapv(|weight| if weight > 0.0 { weight } else { 1.0 });
        for (batch, sums) in effects.iter_mut().enumerate() {
            *sums -= &(&intercepts * &counts.index_axis(Axis(0), batch));
            *sums /= &shrunken.index_axis(Axis(0), batch);
        }
        effects
    }

    /// Sum of the components of one batch's cells in each cluster, by probability, [clusters, components].
    fn sums(&self, batch: usize, components: &Array2<f64>) -> Array2<f64> {
        let cells = self.cells_of(batch);
        let probabilities = self.probabilities.select(Axis(0), &cells);
        product(probabilities.t(), components.select(Axis(0), &cells).view())
    }
}

impl Harmony {
    /// Probability of each cluster for one cell from its cosines with the centroids, and its part of the objective.
    fn probabilities(
        &self,
        cosines: ArrayView1<'_, f64>,
        penalties: ArrayView1<'_, f64>,
    ) -> (Array1<f64>, f64) {
        let distances = cosines.mapv(|cosine| 2.0 * (1.0 - cosine));
        let mut scores = -&distances / self.sigma - penalties;
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores -= largest;
        let mut probabilities = scores.mapv(f64::exp);
        let sum = probabilities.sum();
        probabilities /= sum;
        // The logarithm of a probability is its score less that of the sum.
        let entropy = probabilities.dot(&scores) - sum.ln();
        let cost = probabilities.dot(&distances) + self.sigma * entropy;
        (probabilities, cost)
    }
}

/// The order cut into blocks of nearly equal length, the longer ones first.
fn blocks(order: &[usize], block_size: f64) -> Vec<&[usize]> {
    let n = ((1.0 / block_size).ceil() as usize).clamp(1, order.len().max(1));
    let (short, longer) = (order.len() / n, order.len() % n);
    let (with_longer, rest) = order.split_at(longer * (short + 1));
    let rest = rest.chunks(short.max(1));
    with_longer.chunks(short + 1).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/harmony.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn matrix(value: &Value) -> Array2<f64> {
        let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
        let shape = (rows.len(), rows[0].len());
        Array2::from_shape_vec(shape, rows.into_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn golden_harmony() {
        let golden = golden();
        let (cells, start) = (matrix(&golden["cells"]), matrix(&golden["start"]));
        let names: Vec<usize> = serde_json::from_value(golden["batches"].clone()).unwrap();
        for (name, run) in golden["runs"].as_object().unwrap() {
            let number = |field: &str| run[field].as_f64().unwrap();
            let options = Harmony {
                theta: number("theta"),
                lambda: number("lambda"),
                sigma: number("sigma"),
                ..Harmony::default()
            };
            let order = || (0..cells.nrows()).collect();
            let corrected = correct_from(&cells, &Batches::new(&names), &options, &start, order);
            for (found, expected) in corrected.iter().zip(&matrix(&run["corrected"])) {
                assert!(
                    (found - expected).abs() < 1e-8,
                    "{name}: {found} {expected}"
                );
            }
        }
    }

    /// Three cell types in two batches, the second shifted.
    fn shifted(n: usize) -> (Array2<f64>, Vec<usize>) {
        let centers = array![[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]];
        let batches: Vec<usize> = (0..n).map(|cell| cell / 3 % 2 * 5).collect();
        let cells = Array2::from_shape_fn((n, 3), |(row, column)| {
            let noise = ((row * 3 + column) as f64 * 12.9898).sin();
            centers[[row % 3, column]] + noise + [0.0, 2.0][batches[row] / 5]
        });
        (cells, batches)
    }

    #[test]
    fn batches_meet_and_types_stay_apart() {
        let (cells, batches) = shifted(300);
        let corrected = harmony(cells.view(), &batches, &Harmony::default(), 0).unwrap();
        let mean = |of: &Array2<f64>, kind: usize, batch: usize| {
            let own: Vec<usize> = (0..300)
                .filter(|&cell| cell % 3 == kind && batches[cell] == batch)
                .collect();
            of.select(Axis(0), &own).mean_axis(Axis(0)).unwrap()
        };
        let distance = |a: Array1<f64>, b: Array1<f64>| (&a - &b).mapv(|v| v * v).sum().sqrt();
        for kind in 0..3 {
            assert!(distance(mean(&cells, kind, 0), mean(&cells, kind, 5)) > 3.0);
            assert!(distance(mean(&corrected, kind, 0), mean(&corrected, kind, 5)) < 0.3);
            let other = (kind + 1) % 3;
            assert!(distance(mean(&corrected, kind, 0), mean(&corrected, other, 5)) > 10.0);
        }
    }

    #[test]
    fn threads_change_no_bit_and_seeds_are_kept() {
        let (cells, batches) = shifted(240);
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| harmony(cells.view(), &batches, &Harmony::default(), seed).unwrap())
        };
        assert_eq!(run(1, 3), run(8, 3));
        assert_ne!(run(1, 3), run(1, 4));
    }

    #[test]
    fn layout_and_names_of_batches_do_not_matter() {
        let (cells, batches) = shifted(90);
        let by_column = cells.t().as_standard_layout().into_owned();
        let renamed: Vec<usize> = batches.iter().map(|batch| batch * 1000 + 7).collect();
        let run = |cells: ArrayView2<'_, f64>, batches: &[usize]| {
            harmony(cells, batches, &Harmony::default(), 1).unwrap()
        };
        assert_eq!(run(cells.view(), &batches), run(by_column.t(), &renamed));
    }

    #[test]
    fn one_batch_is_unchanged_and_a_batch_of_one_cell_is_not_lost() {
        let (cells, mut batches) = shifted(60);
        let run = |cells: &Array2<f64>, batches: &[usize]| {
            harmony(cells.view(), batches, &Harmony::default(), 0).unwrap()
        };
        assert_eq!(run(&cells, &[8; 60]), cells);
        let no_rounds = Harmony {
            max_rounds: 0,
            ..Harmony::default()
        };
        assert_eq!(
            harmony(cells.view(), &batches, &no_rounds, 0).unwrap(),
            cells
        );
        batches[11] = 99;
        assert!(run(&cells, &batches).iter().all(|value| value.is_finite()));
        let distinct: Vec<usize> = (0..60).collect();
        assert!(run(&cells, &distinct).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn odd_input_ends_without_panic() {
        let run = |cells: &Array2<f64>, batches: &[usize]| {
            harmony(cells.view(), batches, &Harmony::default(), 0).unwrap()
        };
        assert_eq!(run(&Array2::zeros((0, 4)), &[]).dim(), (0, 4));
        assert_eq!(run(&Array2::zeros((2, 0)), &[0, 1]).dim(), (2, 0));
        assert_eq!(
            run(&Array2::zeros((4, 2)), &[0, 1, 0, 1]),
            Array2::<f64>::zeros((4, 2))
        );
        let equal = run(
            &Array2::from_elem((40, 2), 3.0),
            &[[0; 20], [1; 20]].concat(),
        );
        assert!(equal.iter().all(|value| (value - 3.0).abs() < 1e-9));
        assert_eq!(run(&array![[5.0, 1.0]], &[3]), array![[5.0, 1.0]]);
        let two = run(&array![[5.0, 1.0], [4.0, 2.0]], &[3, 4]);
        // Each batch has one cell; half of its way to the common mean is taken back.
        assert!(
            (two - array![[4.75, 1.25], [4.25, 1.75]])
                .iter()
                .all(|v| v.abs() < 1e-9)
        );
        let extreme = Harmony {
            theta: 1e5,
            sigma: 1e-9,
            block_size: 1e-9,
            ..Harmony::default()
        };
        let (cells, batches) = shifted(30);
        let many = Harmony {
            clusters: Some(1000),
            ..Harmony::default()
        };
        for options in [extreme, many] {
            let corrected = harmony(cells.view(), &batches, &options, 0).unwrap();
            assert!(corrected.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn impossible_input_is_rejected() {
        let (cells, batches) = shifted(30);
        let run = |cells: &Array2<f64>, batches: &[usize], options: Harmony| {
            harmony(cells.view(), batches, &options, 0).unwrap_err()
        };
        let usual = Harmony::default;
        let (what, found) = ("batches", 29);
        assert_eq!(
            run(&cells, &batches[1..], usual()),
            Error::OnePerCell {
                what,
                found,
                cells: 30
            }
        );
        let mut broken = cells.clone();
        broken[[3, 1]] = f64::NAN;
        assert!(matches!(
            run(&broken, &batches, usual()),
            Error::NotFinite {
                row: 3,
                column: 1,
                ..
            }
        ));
        assert!(matches!(
            run(&(&cells * 1e307), &batches, usual()),
            Error::NotFinite { .. }
        ));
        for options in [
            Harmony {
                theta: -1.0,
                ..usual()
            },
            Harmony {
                lambda: 0.0,
                ..usual()
            },
            Harmony {
                sigma: f64::NAN,
                ..usual()
            },
            Harmony {
                block_size: 1.5,
                ..usual()
            },
        ] {
            assert!(matches!(
                run(&cells, &batches, options),
                Error::Setting { .. }
            ));
        }
        let none = Harmony {
            clusters: Some(0),
            ..usual()
        };
        assert_eq!(run(&cells, &batches, none), Error::Zero("clusters"));
    }

    #[test]
    fn blocks_are_nearly_equal_and_keep_the_order() {
        let order: Vec<usize> = (0..11).collect();
        let found = blocks(&order, 0.25);
        let lengths: Vec<usize> = found.iter().map(|block| block.len()).collect();
        assert_eq!((lengths, found.concat()), (vec![3, 3, 3, 2], order.clone()));
        assert_eq!(blocks(&order[..3], 0.05).len(), 3);
        assert_eq!(blocks(&order, 1.0), [&order[..]]);
        let unit = unit_rows(&array![[3e200, 4e200], [0.0, 0.0]]);
        assert!(
            (&unit.slice(s![0, ..]) - &array![0.6, 0.8])
                .iter()
                .all(|v| v.abs() < 1e-15)
        );
        assert_eq!(unit.row(1), array![0.0, 0.0]);
    }
}
