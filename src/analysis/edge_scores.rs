//! How well a ranked list of regulatory edges agrees with a table of known ones.
//!
//! Every pair of a regulator and another gene is a possible edge. Area under the precision-recall curve as average precision
//! (sum of precision x gain in recall, without interpolation; Davis and Goadrich 2006, ICML), area under the ROC curve (Hanley
//! and McNeil 1982) and early precision among the first edges (Pratapa et al. 2020, Nature Methods 17:147), each
//! compared with a random ranking. Edges of equal score are a group without order, so no result depends on the order of genes.

use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::Serialize;

use super::Error;
use crate::random::{Seed, below};

/// Agreement of one ranking with the truth. Without true edges all scores are NaN; the AUROC is also if all edges are true.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EdgeScore {
    /// Edges that were ranked, or could have been.
    pub possible: usize,
    /// Those of them that are true.
    pub true_edges: usize,
    /// Area under the precision-recall curve: average precision.
    pub auprc: f64,
    /// AUPRC of a random ranking: the fraction of true edges.
    pub random_auprc: f64,
    /// AUPRC over that of a random ranking.
    pub auprc_ratio: f64,
    /// Area under the ROC curve: the probability that a true edge scores higher than a false one, ties counting half.
    pub auroc: f64,
    /// Fraction of true edges among the first so many edges as are true. Of a group of equal scores that fits only in part,
    /// each edge counts as the part.
    pub early_precision: f64,
    /// Early precision over the fraction of true edges.
    pub early_precision_ratio: f64,
}

/// Agreement for each regulator and for all of them together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeScores {
    /// One per regulator: only its targets are ranked.
    pub regulators: Vec<EdgeScore>,
    /// All edges in one ranking.
    pub overall: EdgeScore,
}

/// Scores of all possible edges, and which are true.
#[derive(Debug, Clone, Copy)]
pub struct Edges<'a> {
    /// `[regulators, targets]`, larger for more certain edges; NaN was not scored and comes last, with minus infinity.
    pub scores: ArrayView2<'a, f64>,
    /// `[regulators, targets]`.
    pub truth: ArrayView2<'a, bool>,
    /// The column of each regulator among the targets, if it is one: this pair is no possible edge.
    pub own: &'a [Option<usize>],
}

impl Edges<'_> {
    /// Scores each regulator's edges and all together.
    ///
    /// Fails if the shapes differ or there is not one own column, or none, per regulator.
    pub fn score(&self) -> Result<EdgeScores, Error> {
        let rankings = self.rankings()?;
        let regulators = rankings
            .iter()
            .map(|ranking| ranking.score(&vec![1; ranking.len()]))
            .collect();
        let overall = Ranking::join(rankings);
        Ok(EdgeScores {
            regulators,
            overall: overall.score(&vec![1; overall.len()]),
        })
    }

    /// Percentile bootstrap interval (2.5 % to 97.5 %) of the overall AUPRC; None without true edges or resamples.
    ///
    /// Edges are drawn with replacement within each regulator, true and false ones apart, so that every resample has the
    /// same regulators, the same number of edges and hence the same random AUPRC. This is the uncertainty about further
    /// edges of these regulators. Resampling whole regulators would cover further regulators, but too few have
    /// known targets for that.
    pub fn interval(&self, resamples: usize, seed: Seed) -> Result<Option<[f64; 2]>, Error> {
        let ranking = Ranking::join(self.rankings()?);
        let strata = ranking.strata();
        let mut found: Vec<f64> = (0..resamples as u64)
            .into_par_iter()
            .map(|resample| {
                let mut stream = seed.stream("edge bootstrap", &[resample]);
                let mut counts = vec![0; ranking.len()];
                for stratum in &strata {
                    for _ in stratum {
                        counts[stratum[below(&mut stream, stratum.len())]] += 1;
                    }
                }
                ranking.score(&counts).auprc
            })
            .collect();
        found.sort_by(f64::total_cmp);
        let known = found.last().is_some_and(|value| !value.is_nan());
        Ok(known.then(|| [0.025, 0.975].map(|fraction| quantile(&found, fraction))))
    }

    fn check(&self) -> Result<(), Error> {
        if self.truth.dim() != self.scores.dim() {
            return Err(Error::Shape {
                what: "the truth table of edges",
                found: self.truth.dim(),
                expected: self.scores.dim(),
            });
        }
        if self.own.len() != self.scores.nrows() {
            return Err(Error::Shape {
                what: "the list of the regulators' own columns",
                found: (self.own.len(), 1),
                expected: (self.scores.nrows(), 1),
            });
        }
        Ok(())
    }

    /// The possible edges of each regulator.
    fn rankings(&self) -> Result<Vec<Ranking>, Error> {
        self.check()?;
        let rows = self.scores.rows().into_iter().zip(self.truth.rows());
        let rankings = rows.zip(self.own).enumerate();
        Ok(rankings
            .map(|(regulator, ((scores, truth), own))| {
                let edges = scores.iter().zip(truth).enumerate();
                let edges = edges.filter(|(target, _)| Some(*target) != *own).map(
                    |(_, (&score, &truth))| Edge {
                        score: if score.is_nan() {
                            f64::NEG_INFINITY
                        } else {
                            score
                        },
                        truth,
                        regulator,
                    },
                );
                Ranking::new(edges.collect())
            })
            .collect())
    }
}

/// Linear between the two nearest of sorted values, as NumPy's default.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let at = fraction * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = sorted[(low + 1).min(sorted.len() - 1)];
    sorted[low] + part * (high - sorted[low])
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    score: f64,
    truth: bool,
    regulator: usize,
}

/// Edges from the highest to the lowest score.
struct Ranking {
    edges: Vec<Edge>,
    /// Where each group of equal scores ends.
    ends: Vec<usize>,
}

/// True and false edges of a group of equal score.
#[derive(Clone, Copy, Default)]
struct Group {
    truths: usize,
    all: usize,
}

impl Ranking {
    fn new(mut edges: Vec<Edge>) -> Self {
        edges.sort_by(|a, b| b.score.partial_cmp(&a.score).expect("NaN was replaced"));
        let last = |at: &usize| {
            edges
                .get(at + 1)
                .is_none_or(|e| e.score != edges[*at].score)
        };
        let ends = (0..edges.len()).filter(last).map(|at| at + 1).collect();
        Self { edges, ends }
    }

    fn join(rankings: Vec<Self>) -> Self {
        Self::new(
            rankings
                .into_iter()
                .flat_map(|ranking| ranking.edges)
                .collect(),
        )
    }

    fn len(&self) -> usize {
        self.edges.len()
    }

    /// Positions of the true and of the false edges of each regulator.
    fn strata(&self) -> Vec<Vec<usize>> {
        let regulators = self.edges.iter().map(|edge| edge.regulator + 1).max();
        let mut strata = vec![Vec::new(); 2 * regulators.unwrap_or(0)];
        for (at, edge) in self.edges.iter().enumerate() {
            strata[2 * edge.regulator + usize::from(edge.truth)].push(at);
        }
        strata
    }

    /// Groups of equal score, each edge counted so many times.
    fn groups(&self, counts: &[usize]) -> Vec<Group> {
        let mut start = 0;
        self.ends
            .iter()
            .map(|&end| {
                let mut group = Group::default();
                for (edge, count) in self.edges[start..end].iter().zip(&counts[start..end]) {
                    group.truths += count * usize::from(edge.truth);
                    group.all += count;
                }
                start = end;
                group
            })
            .collect()
    }

    fn score(&self, counts: &[usize]) -> EdgeScore {
        let groups = self.groups(counts);
        let true_edges: usize = groups.iter().map(|group| group.truths).sum();
        let possible: usize = groups.iter().map(|group| group.all).sum();
        let random = if true_edges > 0 {
            true_edges as f64 / possible as f64
        } else {
            f64::NAN
        };
        let auprc = average_precision(&groups, true_edges);
        let early = early_precision(&groups, true_edges);
        EdgeScore {
            possible,
            true_edges,
            auprc,
            random_auprc: random,
            auprc_ratio: auprc / random,
            auroc: roc_area(&groups, true_edges, possible - true_edges),
            early_precision: early,
            early_precision_ratio: early / random,
        }
    }
}

fn average_precision(groups: &[Group], true_edges: usize) -> f64 {
    let (mut truths, mut all, mut sum) = (0, 0, 0.0);
    for group in groups.iter().filter(|group| group.all > 0) {
        truths += group.truths;
        all += group.all;
        sum += group.truths as f64 * (truths as f64 / all as f64);
    }
    sum / true_edges as f64
}

fn roc_area(groups: &[Group], true_edges: usize, false_edges: usize) -> f64 {
    let (mut above, mut area) = (0, 0.0);
    for group in groups {
        let tied_false = group.all - group.truths;
        let below = (false_edges - above - tied_false) as f64;
        area += group.truths as f64 * (below + tied_false as f64 / 2.0);
        above += tied_false;
    }
    area / (true_edges as f64 * false_edges as f64)
}

fn early_precision(groups: &[Group], first: usize) -> f64 {
    let (mut left, mut hits) = (first, 0.0);
    for group in groups.iter().filter(|group| group.all > 0) {
        let taken = left.min(group.all);
        hits += group.truths as f64 * (taken as f64 / group.all as f64);
        left -= taken;
    }
    hits / first as f64
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use serde_json::Value;

    use super::*;
    use crate::analysis::on_threads;

    struct Case {
        scores: Array2<f64>,
        truth: Array2<bool>,
        own: Vec<Option<usize>>,
    }

    impl Case {
        fn edges(&self) -> Edges<'_> {
            Edges {
                scores: self.scores.view(),
                truth: self.truth.view(),
                own: &self.own,
            }
        }
    }

    fn golden() -> (Case, Value) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/edge_scores.json"
        );
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows = |field: &str| golden[field].as_array().unwrap().clone();
        let shape = (
            rows("scores").len(),
            rows("scores")[0].as_array().unwrap().len(),
        );
        let flat = |field: &str| -> Vec<Value> {
            let rows = rows(field);
            rows.iter()
                .flat_map(|row| row.as_array().unwrap().clone())
                .collect()
        };
        let scores = flat("scores")
            .iter()
            .map(|v| v.as_f64().unwrap_or(f64::NAN))
            .collect();
        let truth = flat("truth")
            .iter()
            .map(|v| v.as_u64() == Some(1))
            .collect();
        let case = Case {
            scores: Array2::from_shape_vec(shape, scores).unwrap(),
            truth: Array2::from_shape_vec(shape, truth).unwrap(),
            own: rows("own")
                .iter()
                .map(|v| v.as_u64().map(|v| v as usize))
                .collect(),
        };
        (case, golden)
    }

    fn same(found: f64, expected: &Value) -> bool {
        match expected.as_f64() {
            Some(expected) => (found - expected).abs() < 1e-12,
            None => found.is_nan(),
        }
    }

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let (case, golden) = golden();
        let found = case.edges().score().unwrap();
        let expected = golden["regulators"].as_array().unwrap().iter();
        let pairs = found.regulators.iter().zip(expected);
        for (found, expected) in pairs.chain([(&found.overall, &golden["overall"])]) {
            assert_eq!(Some(found.possible as u64), expected["possible"].as_u64());
            assert_eq!(Some(found.true_edges as u64), expected["true"].as_u64());
            assert!(
                same(found.auprc, &expected["auprc"]),
                "{found:?} {expected}"
            );
            assert!(
                same(found.auroc, &expected["auroc"]),
                "{found:?} {expected}"
            );
            assert!(
                same(found.early_precision, &expected["early"]),
                "{found:?} {expected}"
            );
            assert!(same(found.auprc / found.auprc_ratio, &expected["random"]));
        }
    }

    #[test]
    fn a_ranking_worked_by_hand_counts_ties_as_a_group() {
        let case = Case {
            scores: array![[0.9, 0.5, 0.5, f64::NAN, 7.0]],
            truth: array![[false, true, false, true, true]],
            own: vec![Some(4)],
        };
        let found = case.edges().score().unwrap().overall;
        assert_eq!((found.possible, found.true_edges), (4, 2));
        // Groups: false; true and false; true. Precisions at the true ones: 1/3 and 2/4.
        assert!((found.auprc - (1.0 / 3.0 + 0.5) / 2.0).abs() < 1e-15);
        assert!((found.auroc - 0.5 / 4.0).abs() < 1e-15);
        // One false edge, and half of a group with one true edge.
        assert!((found.early_precision - 0.25).abs() < 1e-15);
        assert!((found.early_precision_ratio - 0.5).abs() < 1e-15);
    }

    #[test]
    fn the_interval_holds_the_value_and_no_thread_changes_it() {
        let (case, _) = golden();
        let value = case.edges().score().unwrap().overall.auprc;
        let run = |threads, seed| {
            on_threads(threads, || case.edges().interval(200, Seed(seed)))
                .unwrap()
                .unwrap()
        };
        let [low, high] = run(1, 3);
        assert!(
            low < value && value < high && high - low < 0.3,
            "{low} {value} {high}"
        );
        assert_eq!([low, high], run(8, 3));
        assert_ne!([low, high], run(8, 4));
    }

    #[test]
    fn resampling_keeps_a_perfect_ranking_perfect() {
        let case = Case {
            scores: array![[3.0, 2.0, 1.0], [5.0, 4.0, 0.0]],
            truth: array![[true, true, false], [true, true, false]],
            own: vec![None, None],
        };
        assert_eq!(
            case.edges().interval(50, Seed(0)).unwrap(),
            Some([1.0, 1.0])
        );
        assert_eq!(case.edges().interval(0, Seed(0)).unwrap(), None);
    }

    #[test]
    fn no_edges_no_truth_and_wrong_shapes() {
        let mut case = Case {
            scores: array![[1.0, 2.0]],
            truth: array![[false, false]],
            own: vec![None],
        };
        let found = case.edges().score().unwrap().overall;
        assert!(found.auprc.is_nan() && found.auroc.is_nan() && found.early_precision.is_nan());
        assert_eq!(case.edges().interval(9, Seed(0)).unwrap(), None);
        case.truth.fill(true);
        let found = case.edges().score().unwrap().overall;
        assert!(found.auprc == 1.0 && found.auroc.is_nan());
        case.own.clear();
        assert!(matches!(case.edges().score(), Err(Error::Shape { .. })));
        case.truth = array![[true]];
        assert!(matches!(case.edges().score(), Err(Error::Shape { .. })));
        let none = Case {
            scores: Array2::zeros((0, 0)),
            truth: Array2::default((0, 0)),
            own: Vec::new(),
        };
        assert_eq!(none.edges().score().unwrap().overall.possible, 0);
    }
}
