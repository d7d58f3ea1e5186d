//! Over-representation of a list of genes in gene sets.
//!
//! Fisher's exact test, one-sided: of N background genes, K belong to a set; the probability that n genes drawn without
//! replacement hold k or more of them is the upper tail of the hypergeometric distribution (Rivals et al. 2007, Bioinformatics
//! 23:401). Adjusted over all tested sets, also those without a gene of the list; programs that count only sets with an
//! overlap (Enrichr, GSEApy) adjust for fewer tests and are anti-conservative.

use libm::lgamma;

use super::differential::adjust;

/// Terms smaller than this fraction of the sum so far no longer change it.
const NEGLIGIBLE: f64 = 1e-18;

/// Over-representation of a gene list in one gene set. A set without background genes is not tested: its numbers are NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Enriched {
    /// Genes of the list that belong to the set, increasing.
    pub overlap: Vec<usize>,
    /// Background genes of the set.
    pub set_size: usize,
    /// Genes of the overlap over those expected by chance; NaN for an empty list.
    pub fold: f64,
    /// Probability of so large an overlap, or a larger one, by chance.
    pub p_value: f64,
    /// Fraction of false discoveries among the sets with a p-value up to this one (Benjamini and Hochberg 1995).
    pub adjusted_p_value: f64,
    /// P-value times the number of sets tested, at most 1.
    pub bonferroni: f64,
}

impl Enriched {
    /// Whether the set has background genes.
    pub fn is_tested(&self) -> bool {
        self.set_size > 0
    }
}

/// Tests a list of genes for over-representation in each gene set, in the order of sets.
///
/// Genes are numbered from 0; the background (e.g. all measured genes) is `0..background`. Others are dropped from the list
/// and the sets, and a repeated gene counts once.
pub fn enrich(list: &[usize], sets: &[Vec<usize>], background: usize) -> Vec<Enriched> {
    let list = in_background(list, background);
    let mut found: Vec<Enriched> = sets
        .iter()
        .map(|set| test(&list, &in_background(set, background), background))
        .collect();
    let p_values: Vec<f64> = tested(&found).map(|set| set.p_value).collect();
    let adjusted = adjust(&p_values);
    let tested = found.iter_mut().filter(|set| set.is_tested());
    for (set, adjusted) in tested.zip(adjusted) {
        set.adjusted_p_value = adjusted;
        set.bonferroni = (set.p_value * p_values.len() as f64).min(1.0);
    }
    found
}

/// The sets that were tested, each of which counts in the adjusted p-values.
pub fn tested(sets: &[Enriched]) -> impl Iterator<Item = &Enriched> {
    sets.iter().filter(|set| set.is_tested())
}

/// Sorted, each gene once.
fn in_background(genes: &[usize], background: usize) -> Vec<usize> {
    let mut genes: Vec<usize> = genes
        .iter()
        .copied()
        .filter(|&gene| gene < background)
        .collect();
    genes.sort_unstable();
    genes.dedup();
    genes
}

/// One set with its unadjusted p-value; `list` and `set` are sorted.
fn test(list: &[usize], set: &[usize], background: usize) -> Enriched {
    let in_set = |gene: &usize| set.binary_search(gene).is_ok();
    let overlap: Vec<usize> = list.iter().copied().filter(in_set).collect();
    let expected = list.len() as f64 * (set.len() as f64 / background as f64);
    let p_value = if set.is_empty() {
        f64::NAN
    } else {
        upper_tail(overlap.len(), background, set.len(), list.len())
    };
    Enriched {
        set_size: set.len(),
        fold: overlap.len() as f64 / expected,
        p_value,
        adjusted_p_value: f64::NAN,
        bonferroni: f64::NAN,
        overlap,
    }
}

/// Probability that `drawn` of `population` genes, `marked` of which are marked, hold `least` marked ones or more.
///
/// The first term comes from logarithms of factorials, the others from the ratio of neighboring terms. Sums run away from the
/// mode, so that terms shrink; below the mode the lower tail is summed, which is the smaller one. Relative error below 1e-9
/// for 100,000 genes, 1e-8 for a million. `marked` and `drawn` beyond the population count as all of it.
pub fn upper_tail(least: usize, population: usize, marked: usize, drawn: usize) -> f64 {
    let (marked, drawn) = (marked.min(population), drawn.min(population));
    let lowest = (marked + drawn).saturating_sub(population);
    let highest = marked.min(drawn);
    if least <= lowest {
        return 1.0;
    }
    if least > highest {
        return 0.0;
    }
    let draw = Draw {
        population,
        marked,
        drawn,
    };
    let mode = (marked as f64 + 1.0) * (drawn as f64 + 1.0) / (population as f64 + 2.0);
    let tail = if (least as f64) < mode {
        let below = (lowest..least - 1).rev().map(|k| 1.0 / draw.ratio(k));
        1.0 - draw.sum(least - 1, below)
    } else {
        draw.sum(least, (least..highest).map(|k| draw.ratio(k)))
    };
    tail.clamp(0.0, 1.0)
}

/// Genes drawn without replacement.
struct Draw {
    population: usize,
    marked: usize,
    drawn: usize,
}

impl Draw {
    /// Probability of k + 1 marked genes over that of k.
    fn ratio(&self, k: usize) -> f64 {
        let unmarked_left = self.population + k + 1 - self.marked - self.drawn;
        let gained = (self.marked - k) as f64 * (self.drawn - k) as f64;
        gained / ((k + 1) as f64 * unmarked_left as f64)
    }

    fn log_probability(&self, k: usize) -> f64 {
        log_choices(self.marked, k) + log_choices(self.population - self.marked, self.drawn - k)
            - log_choices(self.population, self.drawn)
    }

    /// Sum of the probability of `first` and of those that follow by the ratios, which must be at most about 1.
    fn sum(&self, first: usize, ratios: impl Iterator<Item = f64>) -> f64 {
        let (mut term, mut sum) = (1.0, 1.0);
        for ratio in ratios {
            term *= ratio;
            sum += term;
            if term < NEGLIGIBLE * sum {
                break;
            }
        }
        (self.log_probability(first) + f64::ln(sum)).exp()
    }
}

/// Logarithm of the number of ways to choose `k` of `n`.
fn log_choices(n: usize, k: usize) -> f64 {
    let log_factorial = |n: usize| lgamma(n as f64 + 1.0);
    log_factorial(n) - log_factorial(k) - log_factorial(n - k)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/enrichment.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        let values = value.as_array().unwrap();
        values.iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn genes(value: &Value) -> Vec<usize> {
        numbers(value)
            .into_iter()
            .map(|gene| gene as usize)
            .collect()
    }

    fn close(found: f64, expected: f64, tolerance: f64) -> bool {
        (found - expected).abs() <= tolerance * expected.abs()
    }

    #[test]
    fn tails_are_those_of_scipy() {
        let golden = golden();
        for case in golden["tails"].as_array().unwrap() {
            let numbers = numbers(case);
            let n = |at: usize| numbers[at] as usize;
            let found = upper_tail(n(0), n(1), n(2), n(3));
            let tolerance = if numbers[1] > 1e5 { 1e-8 } else { 1e-9 };
            assert!(close(found, numbers[4], tolerance), "{found} {numbers:?}");
        }
    }

    #[test]
    fn a_library_of_sets_is_tested_as_by_gseapy_and_adjusted_over_all_its_sets() {
        let golden = golden();
        let sets: Vec<Vec<usize>> = golden["sets"]
            .as_array()
            .unwrap()
            .iter()
            .map(genes)
            .collect();
        let background = golden["background"].as_u64().unwrap() as usize;
        let found = enrich(&genes(&golden["list"]), &sets, background);
        let check = |field: &str, value: fn(&Enriched) -> f64| {
            for (set, expected) in found.iter().zip(golden[field].as_array().unwrap()) {
                match expected.as_f64() {
                    Some(expected) => assert!(close(value(set), expected, 1e-9), "{field}"),
                    None => assert!(value(set).is_nan(), "{field} {set:?}"),
                }
            }
        };
        check("p_value", |set| set.p_value);
        check("adjusted", |set| set.adjusted_p_value);
        check("bonferroni", |set| set.bonferroni);
        check("overlap", |set| set.overlap.len() as f64);
        for row in golden["gseapy"].as_array().unwrap() {
            let set = &found[row["set"].as_u64().unwrap() as usize];
            assert!(close(set.p_value, row["p_value"].as_f64().unwrap(), 1e-9));
            assert_eq!(set.overlap, genes(&row["overlap"]));
        }
        assert_eq!(tested(&found).count(), sets.len() - 1);
    }

    #[test]
    fn genes_out_of_play_and_repeated_genes_do_not_count() {
        let plain = enrich(&[0, 1, 2], &[vec![1, 2, 3]], 10);
        assert_eq!(
            enrich(&[2, 1, 0, 1, 10], &[vec![3, 3, 2, 1, 99]], 10),
            plain
        );
        assert_eq!(plain[0].overlap, [1, 2]);
        assert!(close(plain[0].fold, 2.0 / 0.9, 1e-12));
        // (3 choose 2) (7 choose 1) + 1, of (10 choose 3).
        assert!(close(plain[0].p_value, 22.0 / 120.0, 1e-12));
    }

    #[test]
    fn nothing_to_test_is_no_error() {
        let found = enrich(&[], &[vec![0], vec![7], vec![]], 5);
        assert_eq!((found[0].p_value, found[0].bonferroni), (1.0, 1.0));
        assert!(found[0].fold.is_nan());
        assert!(
            found[1..]
                .iter()
                .all(|set| !set.is_tested() && set.p_value.is_nan())
        );
        assert!(enrich(&[1], &[], 5).is_empty());
        assert!(!enrich(&[1], &[vec![1]], 0)[0].is_tested());
        assert_eq!(upper_tail(1, 5, 9, 9), 1.0);
    }
}
