//! Baseline gene networks from expression alone: how certain it is that a regulator acts on a target.
//!
//! All take log-normalized values `[cells, genes]` and give scores `[regulators, targets]`, larger for more certain edges: only
//! their order means something, and not the sign of the action. NaN stands for a gene with itself. A gene that is the same in
//! all cells has scores of 0.
//!
//! * [`pearson`], [`spearman`]: absolute correlation over cells.
//! * [`lagged`]: absolute correlation of the regulator with the target a little later in pseudotime, as LEAP does (Specht and Li
//!   2017, Bioinformatics 33:764).
//! * [`boosting`]: each target predicted from the regulators by gradient-boosted trees, as GRNBoost2 does (Moerman et al. 2019,
//!   Bioinformatics 35:2159), after GENIE3 (Huynh-Thu et al. 2010, PLoS ONE 5:e12776).

use forust_ml::gradientbooster::ImportanceMethod;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};
use rand::Rng;
use rayon::prelude::*;

use super::matmul::product;
use super::{Error, require_finite};
use crate::random::{Seed, sample};

/// Minimum number of windows that are compared with later ones.
const LEAST_WINDOWS: usize = 3;

/// Cells, and the genes between which edges are scored.
#[derive(Debug, Clone, Copy)]
pub struct Expression<'a> {
    /// Log-normalized, `[cells, genes]`.
    pub values: ArrayView2<'a, f64>,
    /// Columns of the regulators.
    pub regulators: &'a [usize],
    /// Columns of the targets, which may be regulators too.
    pub targets: &'a [usize],
}

impl Expression<'_> {
    fn check(&self) -> Result<(), Error> {
        let limit = self.values.ncols();
        let lists = [("a regulator", self.regulators), ("a target", self.targets)];
        for (what, genes) in lists {
            if let Some(&found) = genes.iter().find(|&&gene| gene >= limit) {
                return Err(Error::NoSuchGene { what, found, limit });
            }
        }
        require_finite(self.values)
    }

    /// Absolute correlations of the columns of two matrices, which hold the regulators and the targets.
    fn correlations(&self, regulators: Array2<f64>, targets: Array2<f64>) -> Array2<f64> {
        let (regulators, targets) = (standardized(regulators), standardized(targets));
        let mut scores = product(regulators.t(), targets.view());
        scores.mapv_inplace(|value| value.abs().min(1.0));
        scores
    }

    /// No gene regulates itself.
    fn without_selves(&self, mut scores: Array2<f64>) -> Array2<f64> {
        for ((regulator, target), score) in scores.indexed_iter_mut() {
            if self.regulators[regulator] == self.targets[target] {
                *score = f64::NAN;
            }
        }
        scores
    }
}

/// Columns with mean 0 and length 1, or all zeros if their values are equal.
fn standardized(mut values: Array2<f64>) -> Array2<f64> {
    let columns: Vec<_> = values.columns_mut().into_iter().collect();
    columns.into_par_iter().for_each(standardize);
    values
}

fn standardize(mut values: ArrayViewMut1<'_, f64>) {
    let equal = values
        .first()
        .is_none_or(|first| values.iter().all(|value| value == first));
    if equal {
        return values.fill(0.0);
    }
    // Divided by the largest value first, so that no square overflows.
    let largest = values
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    values.mapv_inplace(|value| value / largest);
    let mean = values.sum() / values.len() as f64;
    values.mapv_inplace(|value| value - mean);
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 {
        values.mapv_inplace(|value| value / length);
    }
}

/// Absolute Pearson correlation of each regulator with each target, `[regulators, targets]`.
///
/// Fails on genes that are not there and on values that are not finite.
pub fn pearson(expression: Expression<'_>) -> Result<Array2<f64>, Error> {
    expression.check()?;
    let columns = |genes| expression.values.select(Axis(1), genes);
    let scores =
        expression.correlations(columns(expression.regulators), columns(expression.targets));
    Ok(expression.without_selves(scores))
}

/// Absolute Spearman correlation: that of the ranks, equal values sharing the mean of theirs. Fails as [`pearson`] does.
pub fn spearman(expression: Expression<'_>) -> Result<Array2<f64>, Error> {
    expression.check()?;
    let columns = |genes| ranks(expression.values.select(Axis(1), genes));
    let scores =
        expression.correlations(columns(expression.regulators), columns(expression.targets));
    Ok(expression.without_selves(scores))
}

/// Ranks of each column.
fn ranks(mut values: Array2<f64>) -> Array2<f64> {
    let columns: Vec<_> = values.columns_mut().into_iter().collect();
    columns.into_par_iter().for_each(|mut column| {
        let ranks = mid_ranks(column.view());
        column.assign(&ranks);
    });
    values
}

fn mid_ranks(values: ArrayView1<'_, f64>) -> Array1<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = Array1::zeros(values.len());
    let mut first = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = first as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&at| ranks[at] = rank);
        first += group.len();
    }
    ranks
}

/// Settings of the lagged correlation along pseudotime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lags {
    /// Windows of pseudotime with equally many cells.
    pub windows: usize,
    /// Largest lag from the regulator to the target, in windows.
    pub longest: usize,
}

impl Default for Lags {
    /// 50 windows, and lags up to a tenth of the time.
    fn default() -> Self {
        Self {
            windows: 50,
            longest: 5,
        }
    }
}

/// Largest absolute correlation of each regulator with each target one or more windows of pseudotime later.
///
/// Cells are ordered by pseudotime (equal ones by index; cells whose pseudotime is not finite are dropped) and cut into windows
/// of equally many cells, over which expression is averaged. The regulator in windows 1 to W - L is compared with the target
/// in windows 1 + l to W - L + l, for each lag l from 1 to L: always as many windows, so that lags are comparable. LEAP
/// slides over single cells and has lag 0 too, which cannot distinguish regulator from target.
///
/// Fails as [`pearson`] does, if there is not one pseudotime per cell, if windows are fewer than the longest lag and three
/// more or more than ordered cells, and without lags.
pub fn lagged(
    expression: Expression<'_>,
    pseudotime: &[f64],
    lags: Lags,
) -> Result<Array2<f64>, Error> {
    expression.check()?;
    let order = order(pseudotime, expression.values.nrows())?;
    check_lags(lags, order.len())?;
    let means = |genes| {
        window_means(
            expression.values.select(Axis(1), genes),
            &order,
            lags.windows,
        )
    };
    let (regulators, targets) = (means(expression.regulators), means(expression.targets));
    let compared = lags.windows - lags.longest;
    let early = regulators.slice(s![..compared, ..]);
    let mut scores = Array2::zeros((regulators.ncols(), targets.ncols()));
    for lag in 1..=lags.longest {
        let late = targets.slice(s![lag..lag + compared, ..]).to_owned();
        let found = expression.correlations(early.to_owned(), late);
        scores.zip_mut_with(&found, |most: &mut f64, &score| *most = most.max(score));
    }
    Ok(expression.without_selves(scores))
}

/// Cells by pseudotime.
fn order(pseudotime: &[f64], cells: usize) -> Result<Vec<usize>, Error> {
    if pseudotime.len() != cells {
        return Err(Error::OnePerCell {
            what: "pseudotimes",
            found: pseudotime.len(),
            cells,
        });
    }
    let mut order: Vec<usize> = (0..cells)
        .filter(|&cell| pseudotime[cell].is_finite())
        .collect();
    // Not total_cmp: -0 and 0 are equal.
    order.sort_by(|&a, &b| {
        let known = pseudotime[a].partial_cmp(&pseudotime[b]);
        known.expect("finite numbers have an order")
    });
    Ok(order)
}

fn check_lags(lags: Lags, cells: usize) -> Result<(), Error> {
    if lags.longest == 0 {
        return Err(Error::Zero("lags"));
    }
    if lags.windows < lags.longest.saturating_add(LEAST_WINDOWS) {
        return Err(Error::Setting {
            what: "the number of windows of pseudotime",
            found: lags.windows as f64,
            expected: "at least three more than the longest lag",
        });
    }
    if cells < lags.windows {
        return Err(Error::FewCells {
            what: "a window of pseudotime for every mean",
            needed: lags.windows,
            found: cells,
        });
    }
    Ok(())
}

/// `[windows, genes]`.
fn window_means(values: Array2<f64>, order: &[usize], windows: usize) -> Array2<f64> {
    let mut means = Array2::zeros((windows, values.ncols()));
    for (window, mut mean) in means.rows_mut().into_iter().enumerate() {
        let cut = |at: usize| at * order.len() / windows;
        let cells = &order[cut(window)..cut(window + 1)];
        for &cell in cells {
            mean += &values.row(cell);
        }
        mean /= cells.len() as f64;
    }
    means
}

/// Settings of the gradient boosting of targets on regulators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boosting {
    /// Trees per target, each of at most 8 leaves.
    pub trees: usize,
    /// Fraction of its prediction that each tree adds.
    pub learning_rate: f32,
    /// Maximum number of training cells; of more, a random subset is used.
    pub max_cells: usize,
    /// Fraction of the cells each tree is trained on.
    pub cell_fraction: f32,
    /// Fraction of the regulators each tree may use, but at least ten of them.
    pub regulator_fraction: f64,
}

impl Default for Boosting {
    fn default() -> Self {
        Self {
            trees: 100,
            learning_rate: 0.1,
            max_cells: 2000,
            cell_fraction: 0.5,
            regulator_fraction: 0.1,
        }
    }
}

/// Importance of each regulator for predicting each target: the squared error that splits by the regulator take away, of a
/// target scaled to variance 1, so that targets can be compared.
///
/// Depth 3, and regulators and cells drawn for each tree, as GRNBoost2; unlike it, the number of trees is fixed and the learning
/// rate ten times as large, which is faster. Each target has its own stream and is computed by one thread, so threads and
/// the other targets change nothing. Fails as [`pearson`] does, on settings out of range and if the trees cannot be grown.
pub fn boosting(
    expression: Expression<'_>,
    settings: Boosting,
    seed: Seed,
) -> Result<Array2<f64>, Error> {
    expression.check()?;
    settings.check()?;
    let cells = drawn_cells(expression.values.nrows(), settings.max_cells, seed);
    let columns = |genes| {
        let chosen = expression.values.select(Axis(1), genes);
        standardized(chosen.select(Axis(0), &cells))
    };
    let (regulators, targets) = (columns(expression.regulators), columns(expression.targets));
    let rows = (0..expression.targets.len())
        .into_par_iter()
        .map(|at| {
            let target = expression.targets[at];
            let used = (0..expression.regulators.len())
                .filter(|&regulator| expression.regulators[regulator] != target)
                .collect();
            let seed = seed.stream("boosting", &[target as u64]).next_u64();
            importances(&regulators, used, targets.column(at), settings, seed)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let shape = (expression.targets.len(), expression.regulators.len());
    let scores = Array2::from_shape_vec(shape, rows.into_iter().flatten().collect())
        .expect("every target has a score per regulator");
    Ok(expression.without_selves(scores.reversed_axes()))
}

impl Boosting {
    fn check(&self) -> Result<(), Error> {
        if self.trees == 0 {
            return Err(Error::Zero("trees"));
        }
        if self.max_cells < 2 {
            return Err(Error::FewCells {
                what: "a regression on regulators",
                needed: 2,
                found: self.max_cells,
            });
        }
        let fractions = [
            ("the learning rate", f64::from(self.learning_rate)),
            (
                "the fraction of cells per tree",
                f64::from(self.cell_fraction),
            ),
            (
                "the fraction of regulators per tree",
                self.regulator_fraction,
            ),
        ];
        match fractions
            .into_iter()
            .find(|(_, fraction)| !(*fraction > 0.0 && *fraction <= 1.0))
        {
            Some((what, found)) => Err(Error::Setting {
                what,
                found,
                expected: "above 0 and at most 1",
            }),
            None => Ok(()),
        }
    }
}

/// All cells, or some of them, increasing.
fn drawn_cells(cells: usize, most: usize, seed: Seed) -> Vec<usize> {
    if cells <= most {
        return (0..cells).collect();
    }
    let mut drawn = sample(&mut seed.stream("boosting cells", &[]), cells, most);
    drawn.sort_unstable();
    drawn
}

/// Importance of all regulators for one target, 0 for those not used; columns are standardized.
fn importances(
    regulators: &Array2<f64>,
    used: Vec<usize>,
    target: ArrayView1<'_, f64>,
    settings: Boosting,
    seed: u64,
) -> Result<Vec<f64>, Error> {
    let mut scores = vec![0.0; regulators.ncols()];
    let cells = target.len();
    if used.is_empty() || target.iter().all(|&value| value == 0.0) {
        return Ok(scores);
    }
    let columns = used.iter().flat_map(|&at| regulators.column(at));
    let columns: Vec<f64> = columns.copied().collect();
    // Of variance 1 rather than length 1.
    let target: Vec<f64> = target
        .iter()
        .map(|value| value * (cells as f64).sqrt())
        .collect();
    let mut trees = settings.booster(used.len(), seed);
    trees
        .fit_unweighted(&Matrix::new(&columns, cells, used.len()), &target, None)
        .map_err(|error| Error::Boosting(error.to_string()))?;
    let found = trees.calculate_feature_importance(ImportanceMethod::TotalGain, false);
    for (at, gain) in found {
        scores[used[at]] = f64::from(gain) / cells as f64;
    }
    Ok(scores)
}

impl Boosting {
    fn booster(&self, regulators: usize, seed: u64) -> GradientBooster {
        let fraction = self
            .regulator_fraction
            .max(10.0 / regulators as f64)
            .min(1.0);
        // A little more, since the number is rounded down.
        let fraction = (fraction + 1e-9).min(1.0);
        GradientBooster::default()
            .set_objective_type(ObjectiveType::SquaredLoss)
            .set_iterations(self.trees)
            .set_learning_rate(self.learning_rate)
            .set_max_depth(3)
            .set_max_leaves(8)
            .set_nbins(64)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(self.cell_fraction)
            .set_colsample_bytree(fraction)
            .set_initialize_base_score(true)
            .set_parallel(false)
            .set_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::analysis::on_threads;
    use crate::random::{normal_pair, uniform};

    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/coexpression.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn matrix(value: &Value) -> Array2<f64> {
        let rows: Vec<Vec<Option<f64>>> = serde_json::from_value(value.clone()).unwrap();
        let shape = (rows.len(), rows[0].len());
        let values = rows.into_iter().flatten().map(|v| v.unwrap_or(f64::NAN));
        Array2::from_shape_vec(shape, values.collect()).unwrap()
    }

    fn assert_close(found: &Array2<f64>, expected: &Array2<f64>) {
        assert_eq!(found.dim(), expected.dim());
        for (at, &value) in found.indexed_iter() {
            let expected = expected[at];
            let both = value.is_nan() && expected.is_nan();
            assert!(
                both || (value - expected).abs() < 1e-12,
                "{at:?} {value} {expected}"
            );
        }
    }

    #[test]
    fn correlations_are_those_of_scipy() {
        let golden = golden();
        let values = matrix(&golden["values"]);
        let genes =
            |field: &str| -> Vec<usize> { serde_json::from_value(golden[field].clone()).unwrap() };
        let (regulators, targets) = (genes("regulators"), genes("targets"));
        let expression = Expression {
            values: values.view(),
            regulators: &regulators,
            targets: &targets,
        };
        assert_close(&pearson(expression).unwrap(), &matrix(&golden["pearson"]));
        assert_close(&spearman(expression).unwrap(), &matrix(&golden["spearman"]));
        let pseudotime: Vec<Option<f64>> =
            serde_json::from_value(golden["pseudotime"].clone()).unwrap();
        let pseudotime: Vec<f64> = pseudotime.iter().map(|t| t.unwrap_or(f64::NAN)).collect();
        let lags = Lags {
            windows: 10,
            longest: 3,
        };
        let found = lagged(expression, &pseudotime, lags).unwrap();
        assert_close(&found, &matrix(&golden["lagged"]));
    }

    #[test]
    fn what_comes_later_follows_what_comes_before() {
        // Noise of a period of time, that gene 1 repeats two windows later.
        let mut stream = Seed(2).stream("test", &[]);
        let levels: Vec<f64> = (0..42).map(|_| normal_pair(&mut stream).0).collect();
        let values = Array2::from_shape_fn((400, 2), |(cell, gene)| {
            levels[cell / 10 + 2 * (1 - gene)] + 0.1 * normal_pair(&mut stream).0
        });
        let pseudotime: Vec<f64> = (0..400).map(f64::from).collect();
        let expression = Expression {
            values: values.view(),
            regulators: &[0, 1],
            targets: &[0, 1],
        };
        let lags = Lags {
            windows: 40,
            longest: 4,
        };
        let found = lagged(expression, &pseudotime, lags).unwrap();
        assert!(found[[0, 1]] > 0.95 && found[[1, 0]] < 0.6, "{found}");
        assert!(found[[0, 0]].is_nan());
    }

    /// Regulators 0 to 19, and targets 20 to 25 that depend on two of them each, not linearly on the second.
    fn simulated(cells: usize) -> Array2<f64> {
        let mut stream = Seed(4).stream("test", &[]);
        let mut values = Array2::from_shape_simple_fn((cells, 26), || {
            (3.0 * uniform(&mut stream) - 1.0).max(0.0)
        });
        for target in 0..6 {
            for cell in 0..cells {
                let second = (values[[cell, 2 * target + 1]] - 0.7).abs();
                let noise = 0.3 * normal_pair(&mut stream).0;
                values[[cell, 20 + target]] = values[[cell, 2 * target]] + 2.0 * second + noise;
            }
        }
        values
    }

    const REGULATORS: [usize; 20] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    ];

    #[test]
    fn trees_find_the_regulators_also_where_correlation_does_not() {
        let values = simulated(600);
        let expression = Expression {
            values: values.view(),
            regulators: &REGULATORS,
            targets: &[20, 21, 22, 23, 24, 25, 3],
        };
        let found = boosting(expression, Boosting::default(), Seed(0)).unwrap();
        for target in 0..6 {
            let mut order: Vec<usize> = (0..20).collect();
            order.sort_by(|&a, &b| found[[b, target]].total_cmp(&found[[a, target]]));
            order.truncate(2);
            order.sort_unstable();
            assert_eq!(order, [2 * target, 2 * target + 1]);
        }
        assert!(found[[3, 6]].is_nan());
        assert!(found.iter().filter(|score| score.is_nan()).count() == 1);
    }

    #[test]
    fn threads_and_other_targets_change_nothing() {
        let values = simulated(150);
        let settings = Boosting {
            trees: 20,
            max_cells: 100,
            ..Boosting::default()
        };
        let run = |threads, targets: &[usize]| {
            let expression = Expression {
                values: values.view(),
                regulators: &REGULATORS,
                targets,
            };
            on_threads(threads, || {
                let trees = boosting(expression, settings, Seed(0)).unwrap();
                (trees, pearson(expression).unwrap())
            })
        };
        let all = run(1, &[20, 21, 22]);
        assert_eq!(all, run(8, &[20, 21, 22]));
        assert_eq!(run(1, &[21]).0.column(0), all.0.column(1));
    }

    #[test]
    fn constant_genes_and_single_cells_score_nothing() {
        for cells in [0, 1, 5] {
            let values = Array2::from_elem((cells, 3), 0.1);
            let expression = Expression {
                values: values.view(),
                regulators: &[0, 1],
                targets: &[1, 2],
            };
            let expected = ndarray::array![[0.0, 0.0], [f64::NAN, 0.0]];
            assert_close(&pearson(expression).unwrap(), &expected);
            assert_close(&spearman(expression).unwrap(), &expected);
            let found = boosting(expression, Boosting::default(), Seed(0)).unwrap();
            assert_close(&found, &expected);
        }
    }

    #[test]
    fn few_cells_and_regulators_that_do_not_vary_are_no_error() {
        let values = Array2::from_shape_fn((3, 3), |(cell, gene)| (cell * gene) as f64);
        let run = |regulators: &[usize]| {
            let expression = Expression {
                values: values.view(),
                regulators,
                targets: &[1],
            };
            boosting(expression, Boosting::default(), Seed(0)).unwrap()
        };
        assert!(run(&[0, 2]).iter().all(|score| score.is_finite()));
        assert_eq!(run(&[0])[[0, 0]], 0.0);
        assert!(run(&[1])[[0, 0]].is_nan());
        assert_eq!(run(&[]).dim(), (0, 1));
    }

    #[test]
    fn bad_input_is_rejected() {
        let values = Array2::<f64>::zeros((6, 2));
        let expression = |regulators| Expression {
            values: values.view(),
            regulators,
            targets: &[0],
        };
        assert!(matches!(
            pearson(expression(&[2])),
            Err(Error::NoSuchGene { found: 2, .. })
        ));
        let time = |times: &[f64], windows, longest| {
            lagged(expression(&[1]), times, Lags { windows, longest }).unwrap_err()
        };
        assert!(matches!(time(&[0.0], 4, 1), Error::OnePerCell { .. }));
        assert!(matches!(time(&[0.0; 6], 4, 0), Error::Zero(_)));
        assert!(matches!(time(&[0.0; 6], 4, 2), Error::Setting { .. }));
        assert!(matches!(
            time(&[0.0; 6], 7, 2),
            Error::FewCells { found: 6, .. }
        ));
        assert!(matches!(
            time(&[f64::NAN; 6], 4, 1),
            Error::FewCells { found: 0, .. }
        ));
        let settings = Boosting {
            cell_fraction: f32::NAN,
            ..Boosting::default()
        };
        let found = boosting(expression(&[1]), settings, Seed(0));
        assert!(matches!(found, Err(Error::Setting { .. })));
        let bad = ndarray::array![[0.0, f64::NAN]];
        let expression = Expression {
            values: bad.view(),
            regulators: &[0],
            targets: &[1],
        };
        assert!(matches!(spearman(expression), Err(Error::NotFinite { .. })));
    }
}
