//! Metrics of predicted against observed responses to perturbations (docs/methods.md, "Perturbation metrics").
//!
//! A response is the mean expression by gene of the cells of one condition; its change is the difference from the mean of
//! control cells. Correlations are Pearson's. A prediction (or observation) that is the same for all genes, above all a
//! predicted change of zero everywhere, does not order the genes: its correlation is 0 here by convention, where the
//! formula has 0 / 0, so that averages over conditions stay defined. A fraction of no genes is 0 as well.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use serde::Serialize;

use super::student::critical;
use super::{Error, require_finite, to_f64};

/// Number of most changed genes that are scored.
pub const MOST_CHANGED: usize = 20;
/// Probability outside of an interval.
const OUTSIDE: f64 = 0.05;

/// Mean expression by gene of one condition, predicted and observed, and of control.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// Mean of the control cells, one value per gene.
    pub control: &'a [f64],
    /// Mean of the predicted cells.
    pub predicted: &'a [f64],
    /// Mean of the observed cells.
    pub observed: &'a [f64],
    /// Genes from the most changed on, of which the first [`MOST_CHANGED`] are used.
    pub changed: &'a [usize],
    /// The perturbed genes, which the `non_target` scores exclude.
    pub targets: &'a [usize],
}

/// Scores of one condition. `de` are the most changed (differentially expressed) genes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// Correlation of predicted and observed expression over all genes.
    pub pearson: f64,
    /// Correlation of predicted and observed changes over all genes.
    pub pearson_delta: f64,
    /// Correlation of expression over the most changed genes.
    pub pearson_de: f64,
    /// Correlation of changes over the most changed genes.
    pub pearson_de_delta: f64,
    /// Mean squared error over all genes.
    pub mse: f64,
    /// Mean squared error over the most changed genes.
    pub mse_de: f64,
    /// Fraction of the most changed genes whose predicted change has the right sign; a predicted change of 0 is wrong.
    pub direction_accuracy_de: f64,
    /// The same fraction of all genes whose observed change is not 0.
    pub direction_accuracy: f64,
    /// `direction_accuracy_de` of those of the most changed genes that are not targets.
    pub direction_accuracy_de_non_target: f64,
    /// `pearson_delta` of all genes but the targets.
    pub pearson_delta_non_target: f64,
}

/// Scores one condition.
///
/// Fails without genes or changed genes, on different numbers of genes, on genes that are not there and on values that are not
/// finite.
pub fn score(response: &Response) -> Result<Scores, Error> {
    check(response)?;
    let all: Vec<usize> = (0..response.control.len()).collect();
    let top = &response.changed[..response.changed.len().min(MOST_CHANGED)];
    let (others, top_others) = (response.others(&all), response.others(top));
    Ok(Scores {
        pearson: response.pearson(&all),
        pearson_delta: response.pearson_delta(&all),
        pearson_de: response.pearson(top),
        pearson_de_delta: response.pearson_delta(top),
        mse: response.mse(&all),
        mse_de: response.mse(top),
        direction_accuracy_de: response.direction_accuracy(top),
        direction_accuracy: response.direction_accuracy(&all),
        direction_accuracy_de_non_target: response.direction_accuracy(&top_others),
        pearson_delta_non_target: response.pearson_delta(&others),
    })
}

fn check(response: &Response) -> Result<(), Error> {
    let limit = response.control.len();
    if limit == 0 {
        return Err(Error::Zero("genes"));
    }
    if response.changed.is_empty() {
        return Err(Error::Zero("changed genes"));
    }
    check_values("the mean of control", response.control, limit)?;
    check_values("the predicted mean", response.predicted, limit)?;
    check_values("the observed mean", response.observed, limit)?;
    check_genes("a changed gene", response.changed, limit)?;
    check_genes("a target", response.targets, limit)
}

fn check_values(what: &'static str, values: &[f64], expected: usize) -> Result<(), Error> {
    let found = values.len();
    if found != expected {
        return Err(Error::Columns {
            what,
            found,
            expected,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(gene) => {
            let value = values[gene];
            Err(Error::GeneNotFinite { what, gene, value })
        }
        None => Ok(()),
    }
}

fn check_genes(what: &'static str, genes: &[usize], limit: usize) -> Result<(), Error> {
    match genes.iter().find(|&&gene| gene >= limit) {
        Some(&found) => Err(Error::NoSuchGene { what, found, limit }),
        None => Ok(()),
    }
}

impl Response<'_> {
    fn others(&self, genes: &[usize]) -> Vec<usize> {
        let genes = genes.iter().copied();
        genes.filter(|gene| !self.targets.contains(gene)).collect()
    }

    /// Predicted and observed change of a gene.
    fn change(&self, gene: usize) -> (f64, f64) {
        let control = self.control[gene];
        (
            self.predicted[gene] - control,
            self.observed[gene] - control,
        )
    }

    fn pearson(&self, genes: &[usize]) -> f64 {
        let pair = |&gene: &usize| (self.predicted[gene], self.observed[gene]);
        correlation(genes.iter().map(pair))
    }

    fn pearson_delta(&self, genes: &[usize]) -> f64 {
        correlation(genes.iter().map(|&gene| self.change(gene)))
    }

    fn mse(&self, genes: &[usize]) -> f64 {
        let square = |&gene: &usize| (self.predicted[gene] - self.observed[gene]).powi(2);
        ratio(genes.iter().map(square).sum(), genes.len())
    }

    /// Fraction of genes whose change has the right sign, of those with an observed change.
    fn direction_accuracy(&self, genes: &[usize]) -> f64 {
        let changes = genes.iter().map(|&gene| self.change(gene));
        let observed: Vec<_> = changes.filter(|&(_, observed)| observed != 0.0).collect();
        let right = observed.iter().filter(|&&(predicted, observed)| {
            predicted != 0.0 && (predicted > 0.0) == (observed > 0.0)
        });
        ratio(right.count() as f64, observed.len())
    }
}

fn ratio(sum: f64, n: usize) -> f64 {
    if n == 0 { 0.0 } else { sum / n as f64 }
}

/// Pearson's correlation; 0 if either side is constant.
fn correlation(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
    match (direction(&a), direction(&b)) {
        (Some(a), Some(b)) => dot(&a, &b).clamp(-1.0, 1.0),
        _ => 0.0,
    }
}

/// Deviations from the mean, of unit length together; none if there are no deviations.
fn direction(values: &[f64]) -> Option<Vec<f64>> {
    let center = average(values)?;
    let mut deviations: Vec<f64> = values.iter().map(|value| value - center).collect();
    let largest = deviations
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    if !(largest > 0.0 && largest.is_finite()) {
        return None;
    }
    // Scaled first, so that squares neither overflow nor vanish.
    deviations.iter_mut().for_each(|value| *value /= largest);
    let length = dot(&deviations, &deviations).sqrt();
    deviations.iter_mut().for_each(|value| *value /= length);
    Some(deviations)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Mean as the first value plus the mean distance from it, which is exact for equal values.
fn average(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    let sum: f64 = values.iter().map(|value| value - first).sum();
    Some(first + sum / values.len() as f64)
}

/// How far two changes are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// Straight line: size and direction count.
    #[default]
    Euclidean,
    /// One minus the cosine of the angle: only the direction counts; 1 from a change that is zero everywhere.
    Cosine,
}

/// Discrimination of each prediction: the fraction of the other observed changes that are farther from it than the observed
/// change of its own condition, equally far ones counting half; 1 is best, 0.5 is random.
///
/// `predicted` and `observed` are changes from control, [predictions, genes] and [conditions, genes]; `own` is the condition of
/// each prediction. Fails on other shapes, fewer than two conditions and values that are not finite.
pub fn discrimination(
    predicted: ArrayView2<f64>,
    own: &[usize],
    observed: ArrayView2<f64>,
    distance: Distance,
) -> Result<Vec<f64>, Error> {
    check_conditions(predicted, own, observed)?;
    let (predicted, observed) = (distance.prepare(predicted), distance.prepare(observed));
    let n = observed.nrows();
    let fraction = |(at, &condition): (usize, &usize)| {
        let to = |other: usize| distance.between(predicted.row(at), observed.row(other));
        let own = to(condition);
        let others = (0..n).filter(|&other| other != condition).map(to);
        let points: f64 = others.map(|far| farther(far, own)).sum();
        points / (n - 1) as f64
    };
    Ok(own.par_iter().enumerate().map(fraction).collect())
}

fn check_conditions(
    predicted: ArrayView2<f64>,
    own: &[usize],
    observed: ArrayView2<f64>,
) -> Result<(), Error> {
    if observed.ncols() != predicted.ncols() {
        return Err(Error::Columns {
            what: "the matrix of observed changes",
            found: observed.ncols(),
            expected: predicted.ncols(),
        });
    }
    if own.len() != predicted.nrows() {
        return Err(Error::Setting {
            what: "the number of conditions that are predicted",
            found: own.len() as f64,
            expected: "the number of predictions",
        });
    }
    if let Some(&found) = own.iter().find(|&&condition| condition >= observed.nrows()) {
        return Err(Error::Setting {
            what: "a condition that is predicted",
            found: found as f64,
            expected: "one of the observed conditions",
        });
    }
    if observed.nrows() < 2 {
        return Err(Error::Setting {
            what: "the number of conditions to discriminate",
            found: observed.nrows() as f64,
            expected: "at least 2",
        });
    }
    require_finite(predicted)?;
    require_finite(observed)
}

fn farther(other: f64, own: f64) -> f64 {
    if other == own {
        0.5
    } else {
        f64::from(u8::from(other > own))
    }
}

impl Distance {
    /// The rows to compare: of unit length (or zero) if only the direction counts.
    fn prepare(self, rows: ArrayView2<f64>) -> Array2<f64> {
        let mut rows = to_f64(rows);
        if self == Self::Cosine {
            for mut row in rows.rows_mut() {
                let length = row.dot(&row).sqrt();
                if length > 0.0 {
                    row /= length;
                }
            }
        }
        rows
    }

    /// Between prepared rows; squared if Euclidean, which orders alike.
    fn between(self, a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
        match self {
            Self::Euclidean => {
                let difference = &a - &b;
                difference.dot(&difference)
            }
            Self::Cosine => 1.0 - a.dot(&b),
        }
    }
}

/// Mean of some values and its 95 % interval by Student's t.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Values averaged, those that are NaN dropped.
    pub n: usize,
}

/// Mean over conditions (or seeds) with a 95 % interval by Student's t; NaN values are skipped.
///
/// One value is its own interval; the mean of none is NaN.
pub fn mean(values: &[f64]) -> Mean {
    let values: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    let n = values.len();
    let mean = average(&values).unwrap_or(f64::NAN);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = if n > 1 {
        let freedom = (n - 1) as f64;
        critical(OUTSIDE, freedom) * (squares / freedom / n as f64).sqrt()
    } else {
        0.0
    };
    Mean {
        mean,
        low: mean - half,
        high: mean + half,
        n,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use ndarray::array;
    use serde::Deserialize;

    use super::super::on_threads;
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let directory = if name == "perturb_like.json" {
            "analysis"
        } else {
            "metrics"
        };
        let path = format!(
            "{}/tests/data/{directory}/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read(path).unwrap()
    }

    #[derive(Deserialize)]
    struct Cells {
        genes: Vec<String>,
        condition: Vec<String>,
        values: Vec<Vec<f64>>,
        non_dropout: BTreeMap<String, Vec<String>>,
    }

    #[derive(Deserialize)]
    struct Conditions {
        pert_cat: Vec<String>,
    }

    const NAMES: [&str; 4] = ["pearson", "pearson_de", "pearson_delta", "pearson_de_delta"];

    #[derive(Deserialize)]
    struct Metrics {
        default: BTreeMap<String, f64>,
        raw_per_condition: BTreeMap<String, Vec<f64>>,
        non_zero_genes: BTreeMap<String, f64>,
        mse_of_condition_means: BTreeMap<String, f64>,
    }

    /// A condition of the golden files: means, and genes from the most changed on, all and those that do not drop out.
    struct Case {
        name: String,
        predicted: Vec<f64>,
        observed: Vec<f64>,
        changed: Vec<usize>,
        non_dropout: Vec<usize>,
    }

    fn means<'a>(rows: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
        let rows: Vec<&[f64]> = rows.collect();
        let mean = |gene: usize| rows.iter().map(|row| row[gene]).sum::<f64>() / rows.len() as f64;
        (0..rows[0].len()).map(mean).collect()
    }

    /// A matrix of a safetensors file by rows.
    fn rows(file: &safetensors::SafeTensors, name: &str) -> Vec<Vec<f64>> {
        let tensor = file.tensor(name).unwrap();
        let bytes = tensor.data().chunks_exact(8);
        let values: Vec<f64> = bytes
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        values
            .chunks(tensor.shape()[1])
            .map(<[f64]>::to_vec)
            .collect()
    }

    /// Columns of the ids in one column of the table of rankings.
    fn ranked(condition: &str, genes: &[String]) -> Vec<usize> {
        let table = String::from_utf8(golden("rank_genes_names.tsv")).unwrap();
        let mut lines = table.lines().map(|line| line.split('\t'));
        let mut header = lines.next().unwrap();
        let at = header.position(|name| name == condition).unwrap();
        lines
            .map(|mut ids| column(genes, ids.nth(at).unwrap()))
            .collect()
    }

    fn column(genes: &[String], id: &str) -> usize {
        genes.iter().position(|gene| gene == id).unwrap()
    }

    fn cases() -> (Vec<f64>, Vec<Case>) {
        let cells: Cells = serde_json::from_slice(&golden("perturb_like.json")).unwrap();
        let conditions: Conditions =
            serde_json::from_slice(&golden("perturbation_conditions.json")).unwrap();
        let bytes = golden("perturbation_inputs.safetensors");
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (predicted, observed) = (rows(&file, "pred"), rows(&file, "truth"));
        let control = cells.condition.iter().zip(&cells.values);
        let control = control
            .filter(|(name, _)| *name == "ctrl")
            .map(|(_, row)| &row[..]);
        let case = |name: &String| {
            let of = |rows: &[Vec<f64>]| {
                let rows = conditions.pert_cat.iter().zip(rows);
                means(rows.filter(|(of, _)| *of == name).map(|(_, row)| &row[..]))
            };
            let long = format!("K562_{name}_1+1");
            let non_dropout = cells.non_dropout[&long].iter();
            Case {
                predicted: of(&predicted),
                observed: of(&observed),
                changed: ranked(&long, &cells.genes),
                non_dropout: non_dropout.map(|id| column(&cells.genes, id)).collect(),
                name: name.clone(),
            }
        };
        let names: BTreeSet<&String> = conditions.pert_cat.iter().collect();
        (means(control), names.into_iter().map(case).collect())
    }

    fn assert_within(tolerance: f64, found: f64, expected: f64) {
        let error = (found - expected).abs();
        assert!(error < tolerance, "{found} instead of {expected}");
    }

    fn assert_close(found: f64, expected: f64) {
        assert_within(1e-13, found, expected);
    }

    /// The original implementation averages cells in single precision.
    fn assert_golden(found: f64, expected: f64) {
        assert_within(5e-8, found, expected);
    }

    #[test]
    fn scores_agree_with_the_reference() {
        let metrics: Metrics =
            serde_json::from_slice(&golden("perturbation_metrics.json")).unwrap();
        let (control, cases) = cases();
        let scores = |case: &Case| {
            let response = Response {
                control: &control,
                predicted: &case.predicted,
                observed: &case.observed,
                changed: &case.changed,
                targets: &[],
            };
            score(&response).unwrap()
        };
        let found: Vec<Scores> = cases.iter().map(scores).collect();
        let correlations = |scores: &Scores| {
            [
                scores.pearson,
                scores.pearson_de,
                scores.pearson_delta,
                scores.pearson_de_delta,
            ]
        };
        for (at, name) in NAMES.into_iter().enumerate() {
            let values: Vec<f64> = found.iter().map(|of| correlations(of)[at]).collect();
            for (&found, &expected) in values.iter().zip(&metrics.raw_per_condition[name]) {
                assert_golden(found, expected);
            }
            assert_golden(mean(&values).mean, metrics.default[name]);
        }
        for (case, scores) in cases.iter().zip(found) {
            assert_golden(scores.mse, metrics.mse_of_condition_means[&case.name]);
        }
    }

    #[test]
    fn scores_of_non_zero_genes_agree_with_the_reference() {
        let metrics: Metrics =
            serde_json::from_slice(&golden("perturbation_metrics.json")).unwrap();
        let (control, cases) = cases();
        let scores = |case: &Case| {
            // Correlations over all genes are restricted to those observed; the most changed genes are looked up in full.
            let seen: Vec<usize> = (0..control.len())
                .filter(|&gene| case.observed[gene] != 0.0)
                .collect();
            let of = |values: &[f64]| seen.iter().map(|&gene| values[gene]).collect::<Vec<_>>();
            let (control_seen, predicted, observed) =
                (of(&control), of(&case.predicted), of(&case.observed));
            let restricted = Response {
                control: &control_seen,
                predicted: &predicted,
                observed: &observed,
                changed: &[0],
                targets: &[],
            };
            let full = Response {
                control: &control,
                predicted: &case.predicted,
                observed: &case.observed,
                changed: &case.non_dropout,
                targets: &[],
            };
            let (all, top) = (score(&restricted).unwrap(), score(&full).unwrap());
            [
                all.pearson,
                top.pearson_de,
                all.pearson_delta,
                top.pearson_de_delta,
            ]
        };
        let found: Vec<[f64; 4]> = cases.iter().map(scores).collect();
        for (at, name) in NAMES.into_iter().enumerate() {
            let values: Vec<f64> = found.iter().map(|scores| scores[at]).collect();
            assert_golden(mean(&values).mean, metrics.non_zero_genes[name]);
        }
    }

    fn small<'a>(predicted: &'a [f64], changed: &'a [usize], targets: &'a [usize]) -> Response<'a> {
        Response {
            control: &[1.0, 1.0, 1.0, 1.0],
            predicted,
            observed: &[0.0, 2.0, 1.0, 4.0],
            changed,
            targets,
        }
    }

    #[test]
    fn signs_errors_and_targets_are_counted() {
        // Observed changes -1, 1, 0, 3; predicted -2, -1, 1, 0.
        let predicted = [-1.0, 0.0, 2.0, 1.0];
        let scores = score(&small(&predicted, &[3, 0, 2], &[3])).unwrap();
        assert_eq!(scores.direction_accuracy, 1.0 / 3.0);
        assert_eq!(scores.direction_accuracy_de, 0.5);
        assert_eq!(scores.direction_accuracy_de_non_target, 1.0);
        assert_eq!(scores.mse, (1.0 + 4.0 + 1.0 + 9.0) / 4.0);
        assert_eq!(scores.mse_de, (9.0 + 1.0 + 1.0) / 3.0);
        // Without gene 3: (-2, -1, 1) and (-1, 1, 0), whose products sum to 1 and squares (centered) to 14/3 and 2.
        assert_close(
            scores.pearson_delta_non_target,
            1.0 / (28.0_f64 / 3.0).sqrt(),
        );
        let alone = score(&small(&predicted, &[3], &[3])).unwrap();
        assert_eq!(alone.direction_accuracy_de_non_target, 0.0);
    }

    #[test]
    fn only_the_twenty_most_changed_genes_count() {
        let control = vec![0.0; 30];
        let observed: Vec<f64> = (1..=30).map(f64::from).collect();
        let mut predicted = observed.clone();
        predicted[20..].fill(-1.0);
        let changed: Vec<usize> = (0..30).collect();
        let response = Response {
            control: &control,
            predicted: &predicted,
            observed: &observed,
            changed: &changed,
            targets: &[0],
        };
        let scores = score(&response).unwrap();
        assert_eq!(
            (
                scores.direction_accuracy_de,
                scores.direction_accuracy_de_non_target,
                scores.mse_de
            ),
            (1.0, 1.0, 0.0)
        );
        assert_eq!(scores.direction_accuracy, 2.0 / 3.0);
        assert_close(scores.pearson_de, 1.0);
        assert!(scores.pearson < 0.9);
    }

    #[test]
    fn no_predicted_change_is_no_correlation() {
        let scores = score(&small(&[1.0; 4], &[3, 1], &[])).unwrap();
        let correlations = [
            scores.pearson,
            scores.pearson_delta,
            scores.pearson_de,
            scores.pearson_de_delta,
            scores.pearson_delta_non_target,
        ];
        assert_eq!(correlations, [0.0; 5]);
        assert_eq!(scores.direction_accuracy_de, 0.0);
        // Equal values whose sum is rounded are still equal.
        assert_eq!(
            correlation([(0.1, 1.0), (0.1, 2.0), (0.1, 3.0)].into_iter()),
            0.0
        );
        assert_close(
            correlation([(1e200, 1e-200), (-1e200, -1e-200)].into_iter()),
            1.0,
        );
    }

    #[test]
    fn impossible_responses_are_rejected() {
        let fails = |response: Response| score(&response).unwrap_err();
        let predicted = [0.0; 4];
        assert_eq!(
            fails(small(&predicted, &[], &[])),
            Error::Zero("changed genes")
        );
        let columns = fails(small(&predicted[..3], &[0], &[]));
        assert!(matches!(
            columns,
            Error::Columns {
                found: 3,
                expected: 4,
                ..
            }
        ));
        let gene = fails(small(&predicted, &[0, 4], &[]));
        assert!(matches!(
            gene,
            Error::NoSuchGene {
                what: "a changed gene",
                found: 4,
                limit: 4
            }
        ));
        assert!(matches!(
            fails(small(&predicted, &[0], &[9])),
            Error::NoSuchGene { found: 9, .. }
        ));
        let value = fails(small(&[0.0, 0.0, f64::NAN, 0.0], &[0], &[]));
        assert!(matches!(value, Error::GeneNotFinite { gene: 2, .. }));
        let empty = Response {
            control: &[],
            predicted: &[],
            observed: &[],
            changed: &[0],
            targets: &[],
        };
        assert_eq!(fails(empty), Error::Zero("genes"));
    }

    #[test]
    fn discrimination_is_the_fraction_of_farther_conditions() {
        let observed = array![[0.0, 1.0], [0.0, 2.0], [3.0, 0.0]];
        let fraction = |predicted: &Array2<f64>, distance| {
            discrimination(predicted.view(), &[0, 1, 2], observed.view(), distance).unwrap()
        };
        assert_eq!(fraction(&observed, Distance::Euclidean), [1.0; 3]);
        // Directions of the first two conditions are the same.
        assert_eq!(fraction(&observed, Distance::Cosine), [0.75, 0.75, 1.0]);
        let wrong = array![[3.0, 0.0], [0.0, 1.5], [0.0, 1.0]];
        assert_eq!(fraction(&wrong, Distance::Euclidean), [0.5, 0.75, 0.0]);
        let nothing = Array2::zeros((3, 2));
        assert_eq!(fraction(&nothing, Distance::Cosine), [0.5; 3]);
    }

    #[test]
    fn impossible_conditions_are_rejected() {
        let fails = |predicted: Array2<f64>, observed: Array2<f64>| {
            let own: Vec<usize> = (0..predicted.nrows()).collect();
            discrimination(predicted.view(), &own, observed.view(), Distance::Euclidean)
                .unwrap_err()
        };
        let zeros = |rows, columns| Array2::zeros((rows, columns));
        assert!(matches!(
            fails(zeros(2, 2), zeros(2, 3)),
            Error::Columns { .. }
        ));
        assert!(matches!(
            fails(zeros(3, 2), zeros(2, 2)),
            Error::Setting { .. }
        ));
        assert!(matches!(
            fails(zeros(1, 2), zeros(1, 2)),
            Error::Setting { .. }
        ));
        let nan = array![[0.0], [f64::NAN]];
        assert!(matches!(
            fails(zeros(2, 1), nan),
            Error::NotFinite { row: 1, .. }
        ));
    }

    #[test]
    fn threads_do_not_change_discrimination() {
        let predicted = Array2::from_shape_fn((20, 37), |(i, j)| ((i * 37 + j) as f64).sin());
        let observed = Array2::from_shape_fn((20, 37), |(i, j)| ((i * 37 + j) as f64 * 1.01).sin());
        for distance in [Distance::Euclidean, Distance::Cosine] {
            let on = |threads| {
                on_threads(threads, || {
                    let own: Vec<usize> = (0..20).collect();
                    discrimination(predicted.view(), &own, observed.view(), distance).unwrap()
                })
            };
            assert_eq!(on(1), on(8));
        }
    }

    #[test]
    fn intervals_are_those_of_student() {
        let found = mean(&[1.0, f64::NAN, 2.0, 3.0]);
        // t of 2 degrees of freedom is 4.302653; the standard error is 1 / sqrt(3).
        let half = 4.302_652_729_749_462 / 3.0_f64.sqrt();
        assert_eq!((found.mean, found.n), (2.0, 3));
        assert_close(found.low, 2.0 - half);
        assert_close(found.high, 2.0 + half);
        let one = mean(&[0.3]);
        assert_eq!((one.mean, one.low, one.high, one.n), (0.3, 0.3, 0.3, 1));
        let equal = mean(&[0.1; 3]);
        assert_eq!((equal.low, equal.high), (0.1, 0.1));
        let none = mean(&[f64::NAN]);
        assert!(none.mean.is_nan() && none.n == 0);
    }
}
