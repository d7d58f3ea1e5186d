//! How well two groupings of the same cells agree, whatever their labels are.
//!
//! Adjusted Rand index after Hubert and Arabie, "Comparing partitions", Journal of Classification 2:193 (1985); mutual information
//! over the arithmetic mean of the entropies. Both have the values of scikit-learn, which are the ones used to compare clusters
//! with cell types.

use std::collections::BTreeMap;

/// Fraction of the pairs of cells that are together in both groupings or apart in both, adjusted for chance: 1 for equal groupings,
/// about 0 for independent ones, at least -0.5.
///
/// 1 without cells, and if both have one group or both as many as cells. Labels without a partner are dropped.
pub fn adjusted_rand(a: &[usize], b: &[usize]) -> f64 {
    let table = Contingency::new(a, b);
    let together = pairs(&table.both);
    let (in_a, in_b) = (pairs(&table.a), pairs(&table.b));
    if together == in_a && together == in_b {
        return 1.0;
    }
    let expected = in_a * (in_b / pairs(&BTreeMap::from([((), table.n)])));
    (together - expected) / ((in_a + in_b) / 2.0 - expected)
}

/// Mutual information of two groupings over the mean of their entropies: 1 for equal groupings, 0 for independent ones.
///
/// 1 without cells and if both have one group; 0 if only one of them has. Labels without a partner are dropped.
pub fn normalized_mutual_information(a: &[usize], b: &[usize]) -> f64 {
    let table = Contingency::new(a, b);
    let mean_entropy = (entropy(&table.a, table.n) + entropy(&table.b, table.n)) / 2.0;
    if mean_entropy == 0.0 {
        return 1.0;
    }
    // Sum of both entropies less the joint one.
    let mutual = 2.0 * mean_entropy - entropy(&table.both, table.n);
    (mutual / mean_entropy).clamp(0.0, 1.0)
}

/// Cells of each label, and of each pair of labels.
struct Contingency {
    n: u64,
    a: BTreeMap<usize, u64>,
    b: BTreeMap<usize, u64>,
    both: BTreeMap<(usize, usize), u64>,
}

impl Contingency {
    fn new(a: &[usize], b: &[usize]) -> Self {
        let pairs = || a.iter().copied().zip(b.iter().copied());
        Self {
            n: a.len().min(b.len()) as u64,
            a: count(pairs().map(|(a, _)| a)),
            b: count(pairs().map(|(_, b)| b)),
            both: count(pairs()),
        }
    }
}

fn count<L: Ord>(labels: impl Iterator<Item = L>) -> BTreeMap<L, u64> {
    let mut counts = BTreeMap::new();
    for label in labels {
        *counts.entry(label).or_insert(0) += 1;
    }
    counts
}

/// Pairs of cells with the same label.
fn pairs<L>(counts: &BTreeMap<L, u64>) -> f64 {
    counts.values().map(|n| n * (n - 1) / 2).sum::<u64>() as f64
}

/// In nats.
fn entropy<L>(counts: &BTreeMap<L, u64>, n: u64) -> f64 {
    let fractions = counts.values().map(|&count| count as f64 / n as f64);
    fractions.map(|fraction| -fraction * fraction.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `make_agreement.py`.
    const GOLDEN: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/analysis/agreement.json"
    );

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        a: Vec<usize>,
        b: Vec<usize>,
        adjusted_rand: f64,
        #[serde(rename = "normalised_mutual_information")]
        normalized_mutual_information: f64,
    }

    #[test]
    fn golden_scikit_learn() {
        let cases: Vec<Case> =
            serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            for (a, b) in [(&case.a, &case.b), (&case.b, &case.a)] {
                let found = [adjusted_rand(a, b), normalized_mutual_information(a, b)];
                let expected = [case.adjusted_rand, case.normalized_mutual_information];
                let mut pairs = found.iter().zip(expected);
                assert!(
                    pairs.all(|(found, expected)| (found - expected).abs() < 1e-12),
                    "{}: {found:?}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn names_of_groups_do_not_matter() {
        let a = [0, 0, 1, 1, 2, 2, 2, 0];
        let renamed = a.map(|label| usize::MAX - 7 * label);
        assert_eq!(adjusted_rand(&a, &renamed), 1.0);
        assert!((normalized_mutual_information(&a, &renamed) - 1.0).abs() < 1e-15);
    }
}
