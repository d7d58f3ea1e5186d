//! Differential expression between a group of cells and a reference group, as scanpy's `rank_genes_groups`.
//!
//! Values are log1p-normalized counts. Welch's t-test (Welch 1947, Biometrika 34:28) and the rank
//! sum test (Wilcoxon 1945; Mann and Whitney 1947) in its normal approximation without continuity correction; p-values are
//! two-sided, adjusted over all genes by Benjamini and Hochberg (1995). Costs grow with the stored values, not with
//! cells x genes, and a [`Reference`] that many groups are compared with is summarized once.

use std::f64::consts::{LOG2_E, SQRT_2};
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::Error;
use super::student::two_sided;
use crate::counts::Counts;

/// Added to the mean counts before they are divided, so that a fold change is defined without counts.
const LEAST_COUNT: f64 = 1e-9;
/// Logarithms from here on are those of the count itself, which would overflow.
const LARGE_LOGARITHM: f64 = 500.0;

/// How the values of a gene in two groups of cells are compared.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Test {
    /// Welch's t-test (unequal variances).
    #[default]
    TTest,
    /// Wilcoxon rank-sum test without tie correction, as scanpy with method='wilcoxon'; conservative for sparse data.
    Wilcoxon,
    /// Wilcoxon rank-sum test with tie correction, as scanpy with tie_correct=True.
    WilcoxonTieCorrected,
}

/// Differential expression of one gene between a group of cells and the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Student's t or the z-score of the rank sum; positive if the group has more.
    pub score: f64,
    /// Two-sided.
    pub p_value: f64,
    /// Fraction of false discoveries among the genes with a p-value up to this one.
    pub adjusted_p_value: f64,
    /// Of the counts that belong to the two means: log2((exp(mean) - 1 + 1e-9) / (exp(reference mean) - 1 + 1e-9)).
    pub log2_fold_change: f64,
    /// Mean log1p value in the group.
    pub mean: f64,
    /// Mean log1p value in the reference.
    pub reference_mean: f64,
}

/// Compares a group of cells with reference cells; one difference per gene, in the order of genes.
///
/// `counts` are log-normalized values, [cells, genes]; the two groups should not overlap. Where nothing can be tested (no
/// variance in either group, or, by the t-test, only one cell in a group), the score is 0 and the p-value 1; scanpy has an
/// infinite score for different means without variance, and rejects single cells. Fails on a group without cells, on cells that
/// are not there, and on values that are negative or not finite.
pub fn differences(
    counts: &Counts,
    group: &[usize],
    reference: &[usize],
    test: Test,
) -> Result<Vec<Difference>, Error> {
    Reference::new(counts, reference)?.compare(counts, group, test)
}

/// Genes from the most to the least changed: by the size of the score, equal ones by index, NaN last.
pub fn ranking(differences: &[Difference]) -> Vec<usize> {
    let size = |&gene: &usize| {
        let size = differences[gene].score.abs();
        if size.is_nan() { -1.0 } else { size }
    };
    let mut genes: Vec<usize> = (0..differences.len()).collect();
    genes.sort_by(|a, b| size(b).total_cmp(&size(a)));
    genes
}

/// P-values adjusted by Benjamini and Hochberg, in the given order; NaN counts as 1.
pub fn adjust(p_values: &[f64]) -> Vec<f64> {
    let value = |&at: &usize| {
        if p_values[at].is_nan() {
            1.0
        } else {
            p_values[at]
        }
    };
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (rank, at) in order.iter().enumerate().rev() {
        least = least.min(value(at) * p_values.len() as f64 / (rank + 1) as f64);
        adjusted[*at] = least;
    }
    adjusted
}

/// Cells that groups are compared with, summarized once: means and variances, and sorted values when first needed.
#[derive(Debug)]
pub struct Reference<'a> {
    counts: &'a Counts,
    cells: Vec<usize>,
    moments: Moments,
    columns: OnceLock<Columns>,
}

impl<'a> Reference<'a> {
    /// Reference cells of log-normalized values; fails as [`differences`] does.
    pub fn new(counts: &'a Counts, cells: &[usize]) -> Result<Self, Error> {
        Ok(Self {
            counts,
            cells: cells.to_vec(),
            moments: Moments::of(counts, cells, "the reference")?,
            columns: OnceLock::new(),
        })
    }

    /// Compares a group of cells with the reference; see [`differences`].
    ///
    /// `counts` may be another matrix than that of the reference cells, but must have the same genes.
    pub fn compare(
        &self,
        counts: &Counts,
        group: &[usize],
        test: Test,
    ) -> Result<Vec<Difference>, Error> {
        if counts.n_genes != self.counts.n_genes {
            return Err(Error::Columns {
                what: "the group",
                found: counts.n_genes,
                expected: self.counts.n_genes,
            });
        }
        let moments = Moments::of(counts, group, "the group")?;
        let tested = match test {
            Test::TTest => welch(&moments, &self.moments),
            Test::Wilcoxon => self.rank_sums(counts, group, false),
            Test::WilcoxonTieCorrected => self.rank_sums(counts, group, true),
        };
        Ok(assemble(&tested, &moments.means, &self.moments.means))
    }

    /// Scores and p-values of the rank-sum test.
    fn rank_sums(&self, counts: &Counts, group: &[usize], correct_ties: bool) -> Vec<(f64, f64)> {
        let columns = self
            .columns
            .get_or_init(|| Columns::sorted(self.counts, &self.cells));
        let group = Columns::sorted(counts, group);
        let genes = (0..counts.n_genes).into_par_iter();
        let test = |gene| {
            let score = rank_sum(&group.sample(gene), &columns.sample(gene), correct_ties);
            (score, libm::erfc(score.abs() / SQRT_2))
        };
        genes.map(test).collect()
    }
}

/// Joins scores and p-values with the means they belong to.
fn assemble(tested: &[(f64, f64)], means: &[f64], reference_means: &[f64]) -> Vec<Difference> {
    let p_values: Vec<f64> = tested.iter().map(|&(_, p_value)| p_value).collect();
    let adjusted = adjust(&p_values);
    let difference = |(gene, &(score, p_value)): (usize, &(f64, f64))| Difference {
        score,
        p_value,
        adjusted_p_value: adjusted[gene],
        log2_fold_change: log2_count(means[gene]) - log2_count(reference_means[gene]),
        mean: means[gene],
        reference_mean: reference_means[gene],
    };
    tested.iter().enumerate().map(difference).collect()
}

/// Binary logarithm of the count that a mean logarithm belongs to.
fn log2_count(mean: f64) -> f64 {
    if mean > LARGE_LOGARITHM {
        mean * LOG2_E
    } else {
        (mean.exp_m1() + LEAST_COUNT).log2()
    }
}

/// Means and unbiased variances by gene over some cells.
#[derive(Debug)]
struct Moments {
    n: f64,
    means: Vec<f64>,
    variances: Vec<f64>,
}

impl Moments {
    /// One pass over the stored values (Welford 1962), to which zeros are joined last (Chan et al. 1983). The variance of equal
    /// values is exactly 0.
    fn of(counts: &Counts, cells: &[usize], what: &'static str) -> Result<Self, Error> {
        check(counts, cells, what)?;
        let mut stored = vec![0.0_f64; counts.n_genes];
        let mut means = vec![0.0; counts.n_genes];
        let mut variances = vec![0.0; counts.n_genes];
        for &cell in cells {
            let (genes, values) = counts.row(cell);
            for (&gene, &value) in genes.iter().zip(values) {
                let gene = gene as usize;
                let deviation = f64::from(value) - means[gene];
                stored[gene] += 1.0;
                means[gene] += deviation / stored[gene];
                variances[gene] += deviation * (f64::from(value) - means[gene]);
            }
        }
        let n = cells.len() as f64;
        for ((mean, variance), stored) in means.iter_mut().zip(&mut variances).zip(stored) {
            *variance += *mean * *mean * stored * (n - stored) / n;
            *variance /= (n - 1.0).max(1.0);
            *mean *= stored / n;
        }
        Ok(Self {
            n,
            means,
            variances,
        })
    }
}

/// Fails without cells, on a cell that is not there and on a value that is not log1p-normalized.
fn check(counts: &Counts, cells: &[usize], what: &'static str) -> Result<(), Error> {
    if cells.is_empty() {
        let (needed, found) = (1, 0);
        return Err(Error::FewCells {
            what,
            needed,
            found,
        });
    }
    let limit = counts.n_cells();
    for &row in cells {
        if row >= limit {
            let found = row;
            return Err(Error::NoSuchCell { what, found, limit });
        }
        let (genes, values) = counts.row(row);
        if let Some(at) = values
            .iter()
            .position(|value| !(0.0..=f32::MAX).contains(value))
        {
            let (column, value) = (genes[at] as usize, f64::from(values[at]));
            return Err(if value.is_finite() {
                Error::Negative { row, column, value }
            } else {
                Error::NotFinite { row, column, value }
            });
        }
    }
    Ok(())
}

/// Scores and p-values of Welch's test, with the degrees of freedom of Welch and Satterthwaite.
fn welch(group: &Moments, reference: &Moments) -> Vec<(f64, f64)> {
    let genes = (0..group.means.len()).into_par_iter();
    let test = |gene: usize| {
        // Squared standard errors of the two means.
        let (a, b) = (
            group.variances[gene] / group.n,
            reference.variances[gene] / reference.n,
        );
        if a + b <= 0.0 || group.n < 2.0 || reference.n < 2.0 {
            return (0.0, 1.0);
        }
        let score = (group.means[gene] - reference.means[gene]) / (a + b).sqrt();
        let (a, b) = (a / (a + b), b / (a + b));
        let freedom = 1.0 / (a * a / (group.n - 1.0) + b * b / (reference.n - 1.0));
        (score, two_sided(score, freedom))
    };
    genes.map(test).collect()
}

/// Values of some cells by gene without zeros, increasing.
#[derive(Debug)]
struct Columns {
    n_cells: usize,
    offsets: Vec<usize>,
    values: Vec<f32>,
    /// Sum of t^3 - t over the t equal values of every run, by gene.
    ties: Vec<f64>,
}

/// A gene in some cells.
struct Sample<'a> {
    n_cells: usize,
    /// Without zeros, increasing.
    values: &'a [f32],
    ties: f64,
}

impl Columns {
    fn sorted(counts: &Counts, cells: &[usize]) -> Self {
        let (offsets, mut values) = transpose(counts, cells);
        let mut rest = values.as_mut_slice();
        let mut columns = Vec::with_capacity(counts.n_genes);
        for span in offsets.windows(2) {
            let (column, others) = rest.split_at_mut(span[1] - span[0]);
            columns.push(column);
            rest = others;
        }
        let sort = |column: &mut [f32]| {
            column.sort_unstable_by(f32::total_cmp);
            let runs = column.chunk_by(|a, b| a == b);
            runs.map(|run| ties(run.len())).sum()
        };
        let ties = columns.into_par_iter().map(sort).collect();
        Self {
            n_cells: cells.len(),
            offsets,
            values,
            ties,
        }
    }

    fn sample(&self, gene: usize) -> Sample<'_> {
        let span: Range<usize> = self.offsets[gene]..self.offsets[gene + 1];
        Sample {
            n_cells: self.n_cells,
            values: &self.values[span],
            ties: self.ties[gene],
        }
    }
}

/// Offsets of genes and their positive values.
fn transpose(counts: &Counts, cells: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let positive = |&cell: &usize| {
        let (genes, values) = counts.row(cell);
        let pairs = genes.iter().zip(values);
        pairs.filter(|(_, value)| **value > 0.0)
    };
    let mut offsets = vec![0; counts.n_genes + 1];
    for (&gene, _) in cells.iter().flat_map(positive) {
        offsets[gene as usize + 1] += 1;
    }
    for gene in 0..counts.n_genes {
        offsets[gene + 1] += offsets[gene];
    }
    let mut next = offsets.clone();
    let mut values = vec![0.0; offsets[counts.n_genes]];
    for (&gene, &value) in cells.iter().flat_map(positive) {
        values[next[gene as usize]] = value;
        next[gene as usize] += 1;
    }
    (offsets, values)
}

/// The z-score of the rank sum of `group` among both samples; 0 if all values are equal.
fn rank_sum(group: &Sample<'_>, reference: &Sample<'_>, correct_ties: bool) -> f64 {
    let (n, m) = (group.n_cells as f64, reference.n_cells as f64);
    let group_zeros = group.n_cells - group.values.len();
    let zeros = group_zeros + reference.n_cells - reference.values.len();
    let mut sum = group_zeros as f64 * (zeros + 1) as f64 / 2.0;
    let mut tied = ties(zeros) + reference.ties;
    let mut below = zeros;
    for run in group.values.chunk_by(|a, b| a == b) {
        let less = reference.values.partition_point(|value| *value < run[0]);
        let equal = reference.values[less..].partition_point(|value| *value == run[0]);
        let size = run.len() + equal;
        // Equal values share the mean of their ranks.
        sum += run.len() as f64 * ((below + less) as f64 + (size + 1) as f64 / 2.0);
        tied += ties(size) - ties(equal);
        below += run.len();
    }
    let untied = if correct_ties {
        1.0 - tied / ties(group.n_cells + reference.n_cells)
    } else {
        1.0
    };
    let deviation = sum - n * (n + m + 1.0) / 2.0;
    if deviation == 0.0 {
        return 0.0;
    }
    deviation / (untied * n * m * (n + m + 1.0) / 12.0).sqrt()
}

/// t^3 - t for a run of t equal values.
fn ties(run: usize) -> f64 {
    let run = run as f64;
    run * run * run - run
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::RngExt;
    use serde::Deserialize;

    use super::super::on_threads;
    use super::*;
    use crate::random::Seed;

    fn golden(name: &str) -> String {
        let directory = if name.ends_with(".tsv") {
            "metrics"
        } else {
            "analysis"
        };
        let path = format!(
            "{}/tests/data/{directory}/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read_to_string(path).unwrap()
    }

    #[derive(Deserialize)]
    struct Golden {
        condition: Vec<String>,
        values: Vec<Vec<f32>>,
        /// By test and group.
        expected: BTreeMap<String, BTreeMap<String, Expected>>,
    }

    #[derive(Deserialize)]
    struct Expected {
        scores: Vec<f64>,
        pvals: Vec<f64>,
        pvals_adj: Vec<f64>,
        logfoldchanges: Vec<f64>,
    }

    fn sparse(rows: &[Vec<f32>]) -> Counts {
        let row = |row: &Vec<f32>| {
            let pairs = (0..).zip(row.clone());
            pairs.filter(|&(_, value)| value != 0.0).collect::<Vec<_>>()
        };
        Counts::from_rows(rows.first().map_or(0, Vec::len), rows.iter().map(row))
    }

    fn cells_of(conditions: &[String], wanted: &str) -> Vec<usize> {
        let cells = (0..conditions.len()).filter(|&cell| conditions[cell] == wanted);
        cells.collect()
    }

    fn assert_close(found: f64, expected: f64, relative: f64, what: &str) {
        let error = (found - expected).abs();
        assert!(
            error <= relative * expected.abs().max(1e-300) || found == expected,
            "{what}: {found:e} instead of {expected:e}"
        );
    }

    fn assert_like_scanpy(found: &[Difference], expected: &Expected, what: &str) {
        assert_eq!(found.len(), expected.scores.len());
        for (gene, found) in found.iter().enumerate() {
            let what = format!("{what}, gene {gene}");
            let change = found.log2_fold_change - expected.logfoldchanges[gene];
            // Rounding errors of a mean show where a difference is nearly nothing.
            if expected.scores[gene].abs() > 1e-12 {
                assert_close(found.score, expected.scores[gene], 1e-10, &what);
            } else {
                assert!(found.score.abs() < 1e-12, "{what}: {}", found.score);
            }
            assert_close(found.p_value, expected.pvals[gene], 1e-9, &what);
            assert_close(
                found.adjusted_p_value,
                expected.pvals_adj[gene],
                1e-9,
                &what,
            );
            assert!(
                change.abs() < 1e-9,
                "{what}: fold changes differ by {change}"
            );
        }
    }

    #[test]
    fn tests_agree_with_scanpy() {
        let golden: Golden = serde_json::from_str(&golden("differential.json")).unwrap();
        let counts = sparse(&golden.values);
        let control = cells_of(&golden.condition, "ctrl");
        let reference = Reference::new(&counts, &control).unwrap();
        let tests = [
            ("t_test", Test::TTest),
            ("wilcoxon", Test::Wilcoxon),
            ("wilcoxon_tie_corrected", Test::WilcoxonTieCorrected),
        ];
        for (name, test) in tests {
            for (condition, expected) in &golden.expected[name] {
                let group = cells_of(&golden.condition, condition);
                let found = reference.compare(&counts, &group, test).unwrap();
                assert_like_scanpy(&found, expected, &format!("{name} of {condition}"));
            }
        }
    }

    #[test]
    fn rankings_and_scores_of_a_screen_agree_with_scanpy() {
        #[derive(Deserialize)]
        struct Screen {
            genes: Vec<String>,
            condition_name: Vec<String>,
            values: Vec<Vec<f32>>,
        }
        let screen: Screen = serde_json::from_str(&golden("perturb_like.json")).unwrap();
        let counts = sparse(&screen.values);
        let control = cells_of(&screen.condition_name, "K562_ctrl_1");
        let (names, scores) = (
            golden("rank_genes_names.tsv"),
            golden("rank_genes_scores.tsv"),
        );
        for (at, condition) in names.lines().next().unwrap().split('\t').enumerate() {
            let group = cells_of(&screen.condition_name, condition);
            let found = differences(&counts, &group, &control, Test::TTest).unwrap();
            let rows = names.lines().zip(scores.lines()).skip(1);
            for (gene, (name, score)) in ranking(&found).into_iter().zip(rows) {
                assert_eq!(screen.genes[gene], name.split('\t').nth(at).unwrap());
                let score: f64 = score.split('\t').nth(at).unwrap().parse().unwrap();
                // Stored in single precision.
                assert_close(found[gene].score, score, 1e-6, condition);
            }
        }
    }

    #[test]
    fn rank_sums_are_those_of_pairs() {
        // 0 < 1 < 2 (tied with the reference) < 3: the group wins 5 of 6 pairs, one of them by half.
        let counts = sparse(&[vec![2.0], vec![3.0], vec![0.0], vec![1.0], vec![2.0]]);
        let test = |test| differences(&counts, &[0, 1], &[2, 3, 4], test).unwrap()[0];
        let variance = 2.0 * 3.0 * 6.0 / 12.0_f64;
        let score = (5.5 - 3.0) / variance.sqrt();
        assert_close(test(Test::Wilcoxon).score, score, 1e-14, "plain");
        let untied = 1.0 - 6.0 / 120.0_f64;
        let corrected = test(Test::WilcoxonTieCorrected).score;
        assert_close(corrected, score / untied.sqrt(), 1e-14, "corrected");
    }

    #[test]
    fn stored_zeros_are_zeros() {
        let rows = [
            vec![0.0, 1.5],
            vec![2.0, 0.0],
            vec![0.0, 0.5],
            vec![1.0, 0.5],
        ];
        // The zero of the first cell is stored, that of the third, which ties with it, is not.
        let stored = [
            vec![(0, 0.0), (1, 1.5)],
            vec![(0, 2.0)],
            vec![(1, 0.5)],
            vec![(0, 1.0), (1, 0.5)],
        ];
        let stored = Counts::from_rows(2, stored);
        for test in [Test::TTest, Test::Wilcoxon, Test::WilcoxonTieCorrected] {
            let compare = |counts| differences(counts, &[0, 1], &[2, 3], test).unwrap();
            for (a, b) in compare(&stored).iter().zip(compare(&sparse(&rows))) {
                assert_close(a.score, b.score, 1e-14, "score");
                assert_close(a.p_value, b.p_value, 1e-14, "p-value");
            }
        }
    }

    #[test]
    fn what_cannot_be_tested_is_no_difference() {
        let counts = sparse(&[
            vec![0.1, 0.4],
            vec![0.1, 0.0],
            vec![0.1, 0.3],
            vec![0.1, 0.9],
        ]);
        let nothing = |found: Difference| (found.score, found.p_value) == (0.0, 1.0);
        for test in [Test::TTest, Test::Wilcoxon, Test::WilcoxonTieCorrected] {
            let equal = differences(&counts, &[0, 1], &[2, 3], test).unwrap();
            assert!(nothing(equal[0]), "{test:?} {:?}", equal[0]);
            assert!(!nothing(equal[1]));
            assert_eq!(equal[0].adjusted_p_value, 1.0);
        }
        let one = differences(&counts, &[1], &[2, 3], Test::TTest).unwrap();
        assert!(one.into_iter().all(nothing));
        let one = differences(&counts, &[1], &[2, 3], Test::Wilcoxon).unwrap();
        assert!(one[1].score < 0.0);
        let huge = sparse(&[vec![900.0], vec![800.0], vec![3e38], vec![700.0]]);
        let found = differences(&huge, &[0, 1], &[1, 3], Test::TTest).unwrap()[0];
        assert_close(found.log2_fold_change, 100.0 * LOG2_E, 1e-12, "fold change");
        assert!(
            !differences(&huge, &[2, 0], &[1, 3], Test::TTest).unwrap()[0]
                .score
                .is_nan()
        );
    }

    #[test]
    fn adjusted_values_are_those_of_the_paper() {
        let adjusted = adjust(&[0.01, 0.04, f64::NAN, 0.03, 0.02]);
        for (found, expected) in adjusted.iter().zip([0.05, 0.05, 1.0, 0.05, 0.05]) {
            assert_close(*found, expected, 1e-15, "adjusted");
        }
        assert_eq!(adjust(&[0.5, 0.001]), [0.5, 0.002]);
        assert!(adjust(&[]).is_empty());
    }

    #[test]
    fn equal_scores_rank_by_gene_and_nan_last() {
        let of = |score| Difference {
            score,
            p_value: 1.0,
            adjusted_p_value: 1.0,
            log2_fold_change: 0.0,
            mean: 0.0,
            reference_mean: 0.0,
        };
        let scores = [f64::NAN, 0.0, -2.0, 1.0, 2.0, 0.0].map(of);
        assert_eq!(ranking(&scores), [2, 4, 3, 1, 5, 0]);
    }

    #[test]
    fn impossible_input_is_rejected() {
        let counts = sparse(&[
            vec![1.0, 2.0],
            vec![0.5, 0.0],
            vec![f32::NAN, 0.0],
            vec![0.0, -1.0],
        ]);
        let fails = |group: &[usize], reference: &[usize]| {
            differences(&counts, group, reference, Test::TTest).unwrap_err()
        };
        assert!(matches!(
            fails(&[], &[0]),
            Error::FewCells {
                what: "the group",
                ..
            }
        ));
        assert!(matches!(
            fails(&[0], &[]),
            Error::FewCells {
                what: "the reference",
                ..
            }
        ));
        let missing = Error::NoSuchCell {
            what: "the group",
            found: 4,
            limit: 4,
        };
        assert_eq!(fails(&[0, 4], &[1]), missing);
        assert!(matches!(
            fails(&[2], &[0]),
            Error::NotFinite {
                row: 2,
                column: 0,
                ..
            }
        ));
        assert!(matches!(
            fails(&[0], &[3]),
            Error::Negative {
                row: 3,
                column: 1,
                ..
            }
        ));
        let reference = Reference::new(&counts, &[0]).unwrap();
        let other = Counts::from_rows(1, [[(0, 1.0)]]);
        let error = reference.compare(&other, &[0], Test::TTest).unwrap_err();
        assert!(matches!(
            error,
            Error::Columns {
                found: 1,
                expected: 2,
                ..
            }
        ));
    }

    #[test]
    fn threads_do_not_change_results() {
        let mut random = Seed(7).stream("differential test", &[]);
        let mut value = || (random.random_range(-3.0..3.0_f32)).max(0.0);
        let rows: Vec<Vec<f32>> = (0..60)
            .map(|_| (0..50).map(|_| value()).collect())
            .collect();
        let counts = sparse(&rows);
        let (group, control): (Vec<usize>, Vec<usize>) = (0..60).partition(|cell| cell % 3 == 0);
        for test in [Test::TTest, Test::WilcoxonTieCorrected] {
            let on = |threads| {
                on_threads(threads, || {
                    differences(&counts, &group, &control, test).unwrap()
                })
            };
            assert_eq!(on(1), on(8));
        }
    }
}
