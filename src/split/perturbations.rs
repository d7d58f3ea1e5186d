//! Splits of perturbations into training, validation (model selection) and test.
//!
//! The schemes are those of GEARS (Roohani et al. 2024, Nat Biotechnol 42:927; docs/methods.md, "Perturbation splits"). A
//! fraction of the perturbed genes is drawn as training genes, and only perturbations with no other gene can be in the training
//! split. Sets of genes are sorted before anything is drawn from them: the order of the perturbations changes
//! nothing, and perturbations of the same genes (such as up and down) stay together.
//!
//! A gene is called seen if a perturbation of it, alone or with others, remains for training or validation. In GEARS every
//! training gene is seen, which is the same where all genes are perturbed singly too.
//!
//! GEARS draws from NumPy's global generator, this from its own streams: single draws differ, fractions do not.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::{self, Seed};

/// How test perturbations are chosen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// All perturbations with an unseen gene, and a fraction of the combinations of seen genes.
    #[default]
    Simulation,
    /// Single perturbations of unseen genes. Combinations of seen genes are trained on (GEARS uses none); other combinations are
    /// excluded.
    SimulationSingle,
    /// Combinations without a seen gene, and single perturbations of unseen genes. Combinations of seen and unseen genes are
    /// excluded.
    ComboSeen0,
    /// Combinations of seen and unseen genes, and single perturbations of unseen genes. Combinations without a seen gene are
    /// excluded.
    ComboSeen1,
    /// A fraction of the combinations, of seen genes only. A combination with a gene that no other perturbation has is excluded.
    ComboSeen2,
    /// A fraction of the single perturbations. Combinations with their genes are excluded.
    Single,
    /// No test set: all perturbations are used for training or validation.
    NoTest,
    /// All perturbations. None is left for training, so that the run ends with an error.
    NoSplit,
}

/// What a test perturbation requires of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subgroup {
    /// One gene, not seen.
    UnseenSingle,
    /// Two or more genes, none seen.
    ComboSeen0,
    /// Two or more genes, some seen but not all.
    ComboSeen1,
    /// Two or more genes, all seen, but not together.
    ComboSeen2,
    /// Chosen by the user.
    Given,
}

impl fmt::Display for Subgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnseenSingle => "unseen single",
            Self::ComboSeen0 => "combo, 0 of 2 seen",
            Self::ComboSeen1 => "combo, 1 of 2 seen",
            Self::ComboSeen2 => "combo, 2 of 2 seen",
            Self::Given => "given",
        })
    }
}

/// The split that a perturbation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Training,
    Validation,
    Test(Subgroup),
    /// Not used: neither trained on nor tested by the scheme.
    Unused,
}

/// Fractions that are drawn, 0 to 1; numbers that remain for training are rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fractions {
    /// Of the genes that are training genes, in the simulation schemes.
    pub training_genes: f64,
    /// Of the combinations of training genes that are trained on, in the scheme simulation.
    pub seen_combos: f64,
    /// Of what the other schemes draw from that is tested on: genes, combinations (combo-seen2) or single perturbations (single).
    pub tested: f64,
    /// Of the training genes that are kept from validation.
    pub validation_genes: f64,
    /// Of the combinations of the genes so kept that are kept from validation as well.
    pub validation_combos: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self {
            training_genes: 0.75,
            seen_combos: 0.75,
            tested: 0.1,
            validation_genes: 0.9,
            validation_combos: 0.9,
        }
    }
}

/// The split of each perturbation, given as the names of its genes (without control).
///
/// The rest is split again into training and validation, as in the scheme simulation: validation takes
/// the perturbations with a gene kept for validation, and a fraction of the other combinations. The training split is never empty,
/// but for the scheme no-split. A perturbation without genes is trained on. In small files validation or test may be empty.
pub fn split(
    perturbations: &[Vec<&str>],
    scheme: Scheme,
    fractions: &Fractions,
    seed: Seed,
) -> Vec<Part> {
    let sets = sorted_sets(perturbations);
    let parts = sets.iter().map(|set| match scheme {
        Scheme::NoSplit if !set.is_empty() => Part::Test(Subgroup::Given),
        _ => Part::Training,
    });
    let mut parts: Vec<Part> = parts.collect();
    if !matches!(scheme, Scheme::NoSplit | Scheme::NoTest) {
        let (genes, combos) = fractions.of(scheme);
        let draw = Draw::new(&learned(&sets, &parts), scheme, genes, combos, seed, "test");
        draw.assign(&sets, &mut parts, |subgroup| match scheme.tests(subgroup) {
            true => Part::Test(subgroup),
            false => Part::Unused,
        });
    }
    validate(&sets, &mut parts, fractions, seed);
    parts
}

/// Holds out the given perturbations (indices) for testing; the rest is split into training and validation as by [`split`].
pub fn hold_out(
    perturbations: &[Vec<&str>],
    tested: &[usize],
    fractions: &Fractions,
    seed: Seed,
) -> Vec<Part> {
    let sets = sorted_sets(perturbations);
    let tested: HashSet<usize> = tested.iter().copied().collect();
    let part = |index| match tested.contains(&index) {
        true => Part::Test(Subgroup::Given),
        false => Part::Training,
    };
    let mut parts: Vec<Part> = (0..sets.len()).map(part).collect();
    validate(&sets, &mut parts, fractions, seed);
    parts
}

impl Scheme {
    /// Whether the scheme tests on such perturbations.
    fn tests(self, subgroup: Subgroup) -> bool {
        match self {
            Self::Simulation | Self::NoSplit => true,
            Self::SimulationSingle | Self::Single => subgroup == Subgroup::UnseenSingle,
            Self::ComboSeen0 => [Subgroup::UnseenSingle, Subgroup::ComboSeen0].contains(&subgroup),
            Self::ComboSeen1 => [Subgroup::UnseenSingle, Subgroup::ComboSeen1].contains(&subgroup),
            Self::ComboSeen2 => subgroup == Subgroup::ComboSeen2,
            Self::NoTest => false,
        }
    }
}

impl Fractions {
    /// Fractions of the genes, and of the combinations of these genes, that are not tested on.
    fn of(&self, scheme: Scheme) -> (f64, f64) {
        match scheme {
            Scheme::Simulation => (self.training_genes, self.seen_combos),
            Scheme::SimulationSingle => (self.training_genes, 1.0),
            Scheme::ComboSeen0 | Scheme::ComboSeen1 | Scheme::Single => (1.0 - self.tested, 1.0),
            Scheme::ComboSeen2 => (1.0, 1.0 - self.tested),
            Scheme::NoTest | Scheme::NoSplit => (1.0, 1.0),
        }
    }
}

/// Genes of one perturbation, sorted, each once.
type Set<'a> = Vec<&'a str>;

fn sorted_sets<'a>(perturbations: &[Vec<&'a str>]) -> Vec<Set<'a>> {
    let sorted = |genes: &Vec<&'a str>| BTreeSet::from_iter(genes.iter().copied());
    let sets = perturbations.iter().map(sorted);
    sets.map(|set| set.into_iter().collect()).collect()
}

/// Distinct sets of genes in the training split so far.
fn learned<'a>(sets: &[Set<'a>], parts: &[Part]) -> BTreeSet<Set<'a>> {
    let pairs = sets.iter().zip(parts);
    let kept = pairs.filter(|(set, part)| **part == Part::Training && !set.is_empty());
    kept.map(|(set, _)| set.clone()).collect()
}

/// Moves perturbations from training to validation.
fn validate(sets: &[Set<'_>], parts: &mut [Part], fractions: &Fractions, seed: Seed) {
    let (genes, combos) = (fractions.validation_genes, fractions.validation_combos);
    let pool = learned(sets, parts);
    let draw = Draw::new(&pool, Scheme::Simulation, genes, combos, seed, "validation");
    draw.assign(sets, parts, |_| Part::Validation);
}

/// The sets that remain for training, and their genes.
struct Draw<'a> {
    sets: BTreeSet<Set<'a>>,
    seen: BTreeSet<&'a str>,
}

impl<'a> Draw<'a> {
    /// Draws a fraction of the genes, then a fraction of the combinations of these genes; at least one set remains of any.
    fn new(
        pool: &BTreeSet<Set<'a>>,
        scheme: Scheme,
        genes: f64,
        combos: f64,
        seed: Seed,
        purpose: &str,
    ) -> Self {
        let stream = |what: &str| seed.stream(&format!("{what} of the {purpose} split"), &[]);
        let genes = remaining_genes(pool, scheme, genes, &mut stream("genes"));
        let genes = with_one_set(genes, pool, &mut stream("spared set"));
        let may_stay = |set: &&Set<'a>| set.iter().all(|gene| genes.contains(gene));
        let (singles, combinations): (Vec<_>, Vec<_>) =
            pool.iter().filter(may_stay).partition(|set| set.len() == 1);
        let least = usize::from(singles.is_empty());
        let count = portion(combinations.len(), combos).max(least);
        let drawn = random::sample(&mut stream("combinations"), combinations.len(), count);
        let combos = drawn.into_iter().map(|i| combinations[i]);
        let sets: BTreeSet<Set<'a>> = singles.into_iter().chain(combos).cloned().collect();
        let seen = sets.iter().flatten().copied().collect();
        Self { sets, seen }
    }

    /// The subgroup of a perturbation that does not remain; none if it remains.
    fn subgroup(&self, set: &Set<'a>) -> Option<Subgroup> {
        if set.is_empty() || self.sets.contains(set) {
            return None;
        }
        let seen = set.iter().filter(|gene| self.seen.contains(*gene)).count();
        Some(match (set.len(), seen) {
            (1, _) => Subgroup::UnseenSingle,
            (_, 0) => Subgroup::ComboSeen0,
            (n, seen) if seen < n => Subgroup::ComboSeen1,
            _ => Subgroup::ComboSeen2,
        })
    }

    /// Assigns a split to perturbations that no longer remain for training.
    fn assign(&self, sets: &[Set<'a>], parts: &mut [Part], part_of: impl Fn(Subgroup) -> Part) {
        for (set, part) in sets.iter().zip(parts) {
            if *part == Part::Training {
                *part = self.subgroup(set).map_or(Part::Training, &part_of);
            }
        }
    }
}

/// The fraction of `n`, rounded down.
fn portion(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction + 1e-9).floor() as usize).min(n)
}

/// A fraction of all genes; or, where single perturbations are tested, of those that are perturbed singly, and all others.
fn remaining_genes<'a>(
    pool: &BTreeSet<Set<'a>>,
    scheme: Scheme,
    fraction: f64,
    stream: &mut random::Stream,
) -> BTreeSet<&'a str> {
    let all: BTreeSet<&str> = pool.iter().flatten().copied().collect();
    let is_candidate = |gene: &&str| scheme != Scheme::Single || pool.contains(&vec![*gene]);
    let candidates: Vec<&str> = all.iter().copied().filter(is_candidate).collect();
    let count = portion(candidates.len(), fraction);
    let order = random::permutation(stream, candidates.len());
    let taken: BTreeSet<&str> = order[count..].iter().map(|&i| candidates[i]).collect();
    all.difference(&taken).copied().collect()
}

/// If no set has all its genes among these, the genes of one that lacks the fewest are added; which one is drawn.
fn with_one_set<'a>(
    mut genes: BTreeSet<&'a str>,
    pool: &BTreeSet<Set<'a>>,
    stream: &mut random::Stream,
) -> BTreeSet<&'a str> {
    let sets: Vec<&Set<'a>> = pool.iter().collect();
    let order = random::permutation(stream, sets.len());
    let lacking = |&i: &usize| sets[i].iter().filter(|gene| !genes.contains(*gene)).count();
    if let Some(nearest) = order.into_iter().min_by_key(lacking) {
        genes.extend(sets[nearest]);
    }
    genes
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Some genes perturbed singly, and 120 pairs and 20 triples of all.
    fn screen(names: &[String], singles: usize) -> Vec<Vec<&str>> {
        let mut stream = Seed(5).stream("screen", &[]);
        let mut sets: BTreeSet<Vec<usize>> = (0..singles).map(|gene| vec![gene]).collect();
        while sets.len() < singles + 140 {
            let size = if sets.len() < singles + 120 { 2 } else { 3 };
            let mut genes = random::sample(&mut stream, names.len(), size);
            genes.sort_unstable();
            sets.insert(genes);
        }
        let named =
            |genes: Vec<usize>| genes.into_iter().map(|gene| names[gene].as_str()).collect();
        sets.into_iter().map(named).collect()
    }

    fn names() -> Vec<String> {
        (0..100).map(|gene| format!("G{gene}")).collect()
    }

    fn with_part<'a>(
        sets: &[Vec<&'a str>],
        parts: &[Part],
        wanted: impl Fn(Part) -> bool,
    ) -> Vec<Vec<&'a str>> {
        let pairs = sets.iter().zip(parts);
        let chosen = pairs.filter(|(_, part)| wanted(**part));
        chosen.map(|(set, _)| set.clone()).collect()
    }

    fn tested<'a>(sets: &[Vec<&'a str>], parts: &[Part], subgroup: Subgroup) -> Vec<Vec<&'a str>> {
        with_part(sets, parts, |part| part == Part::Test(subgroup))
    }

    fn genes<'a>(sets: &[Vec<&'a str>]) -> BTreeSet<&'a str> {
        sets.iter().flatten().copied().collect()
    }

    fn subgroups(parts: &[Part]) -> BTreeSet<Subgroup> {
        let subgroup = |part: &Part| match part {
            Part::Test(subgroup) => Some(*subgroup),
            _ => None,
        };
        parts.iter().filter_map(subgroup).collect()
    }

    fn is_fitted(part: Part) -> bool {
        matches!(part, Part::Training | Part::Validation)
    }

    fn count(parts: &[Part], part: Part) -> usize {
        parts.iter().filter(|found| **found == part).count()
    }

    #[test]
    fn no_training_perturbation_has_an_unseen_gene() {
        let (names, fractions) = (names(), Fractions::default());
        let sets = screen(&names, 90);
        for scheme in Scheme::value_variants() {
            let parts = split(&sets, *scheme, &fractions, Seed(1));
            assert_eq!(parts.len(), sets.len());
            let fitted = genes(&with_part(&sets, &parts, is_fitted));
            let unseen = genes(&tested(&sets, &parts, Subgroup::UnseenSingle));
            assert!(fitted.is_disjoint(&unseen), "{scheme:?}");
            let none = genes(&tested(&sets, &parts, Subgroup::ComboSeen0));
            assert!(fitted.is_disjoint(&none), "{scheme:?}");
            for set in tested(&sets, &parts, Subgroup::ComboSeen2) {
                assert!(set.len() > 1 && set.iter().all(|gene| fitted.contains(gene)));
            }
            let training = genes(&with_part(&sets, &parts, |part| part == Part::Training));
            let validating = with_part(&sets, &parts, |part| part == Part::Validation);
            let is_new = |set: &&Vec<&str>| set.len() == 1;
            let new: Vec<_> = validating.iter().filter(is_new).cloned().collect();
            assert!(genes(&new).is_disjoint(&training), "{scheme:?}");
        }
    }

    #[test]
    fn schemes_test_the_subgroups_of_their_names() {
        use Subgroup::{ComboSeen0, ComboSeen1, ComboSeen2, Given, UnseenSingle};
        let (names, fractions) = (
            names(),
            Fractions {
                tested: 0.3,
                ..Fractions::default()
            },
        );
        let sets = screen(&names, 90);
        for (scheme, expected, has_unused) in [
            (
                Scheme::Simulation,
                &[UnseenSingle, ComboSeen0, ComboSeen1, ComboSeen2][..],
                false,
            ),
            (Scheme::SimulationSingle, &[UnseenSingle], true),
            (Scheme::ComboSeen0, &[UnseenSingle, ComboSeen0], true),
            (Scheme::ComboSeen1, &[UnseenSingle, ComboSeen1], true),
            (Scheme::ComboSeen2, &[ComboSeen2], true),
            (Scheme::Single, &[UnseenSingle], true),
            (Scheme::NoTest, &[], false),
            (Scheme::NoSplit, &[Given], false),
        ] {
            let parts = split(&sets, scheme, &fractions, Seed(2));
            let expected: BTreeSet<Subgroup> = expected.iter().copied().collect();
            assert_eq!(subgroups(&parts), expected, "{scheme:?}");
            assert_eq!(parts.contains(&Part::Unused), has_unused, "{scheme:?}");
            let is_fitted = scheme != Scheme::NoSplit;
            assert_eq!(parts.contains(&Part::Training), is_fitted, "{scheme:?}");
            assert_eq!(parts.contains(&Part::Validation), is_fitted, "{scheme:?}");
        }
    }

    #[test]
    fn shares_are_met() {
        let names = names();
        let sets = screen(&names, 100);
        let of = |scheme| split(&sets, scheme, &Fractions::default(), Seed(3));
        let singles = |parts: &[Part], wanted: Part| {
            let chosen = with_part(&sets, parts, |part| part == wanted);
            chosen.iter().filter(|set| set.len() == 1).count()
        };
        let parts = of(Scheme::Simulation);
        assert_eq!(count(&parts, Part::Test(Subgroup::UnseenSingle)), 25);
        assert_eq!(singles(&parts, Part::Validation), 8);
        assert_eq!(singles(&parts, Part::Training), 67);
        let combos = with_part(&sets, &parts, is_fitted).len() - 75;
        let tested = count(&parts, Part::Test(Subgroup::ComboSeen2));
        assert_eq!(combos, (combos + tested) * 3 / 4);
        let parts = of(Scheme::ComboSeen2);
        assert_eq!(count(&parts, Part::Test(Subgroup::ComboSeen2)), 14);
        assert!(!parts.contains(&Part::Unused));
        for scheme in [Scheme::Single, Scheme::ComboSeen0, Scheme::ComboSeen1] {
            let parts = of(scheme);
            assert_eq!(count(&parts, Part::Test(Subgroup::UnseenSingle)), 10);
        }
        assert_eq!(singles(&of(Scheme::NoTest), Part::Validation), 10);
    }

    #[test]
    fn subgroups_count_seen_genes() {
        let sets = [vec!["A"], vec!["B"], vec!["C"], vec!["D"]];
        let combos = [
            vec!["A", "B"],
            vec!["C", "D"],
            vec!["A", "C", "D"],
            vec!["B", "A", "D"],
        ];
        let sets = [&sets[..], &combos].concat();
        let fractions = Fractions {
            training_genes: 0.5,
            validation_genes: 1.0,
            ..Fractions::default()
        };
        for seed in 0..20 {
            let parts = split(&sets, Scheme::Simulation, &fractions, Seed(seed));
            let is_seen = |gene: &&&str| {
                let place = sets.iter().position(|set| set == &[**gene]);
                parts[place.expect("perturbed singly")] == Part::Training
            };
            for (set, part) in sets.iter().zip(&parts).skip(4) {
                let expected = match set.iter().filter(is_seen).count() {
                    0 => Subgroup::ComboSeen0,
                    seen if seen == set.len() => Subgroup::ComboSeen2,
                    _ => Subgroup::ComboSeen1,
                };
                assert_eq!(*part, Part::Test(expected), "{set:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_parts_in_any_order() {
        let (names, fractions) = (names(), Fractions::default());
        let sets = screen(&names, 90);
        let mut reversed: Vec<Vec<&str>> = sets.iter().rev().cloned().collect();
        reversed.iter_mut().for_each(|set| set.reverse());
        for scheme in Scheme::value_variants() {
            let parts = split(&sets, *scheme, &fractions, Seed(4));
            assert_eq!(parts, split(&sets, *scheme, &fractions, Seed(4)));
            let mut other = split(&reversed, *scheme, &fractions, Seed(4));
            other.reverse();
            assert_eq!(parts, other, "{scheme:?}");
            let changes = parts != split(&sets, *scheme, &fractions, Seed(5));
            assert_eq!(changes, *scheme != Scheme::NoSplit, "{scheme:?}");
        }
    }

    #[test]
    fn small_files_keep_training_perturbations() {
        let few: [&[&[&str]]; 7] = [
            &[&["A"]],
            &[&["A"], &["B"]],
            &[&["A"], &["A"]],
            &[&["A", "B"], &["C", "D"]],
            &[&["A", "B"]],
            &[&["A", "B"], &["B", "C"], &["C"]],
            &[&["A", "B", "C"], &["D", "E"], &["A", "E"], &[]],
        ];
        let extremes = [0.0, 1.0, f64::NAN, -1.0, 9.0].map(|fraction| Fractions {
            training_genes: fraction,
            seen_combos: fraction,
            tested: fraction,
            validation_genes: fraction,
            validation_combos: fraction,
        });
        let schemes = Scheme::value_variants().iter();
        for scheme in schemes.filter(|scheme| **scheme != Scheme::NoSplit) {
            for fractions in extremes.iter().chain([&Fractions::default()]) {
                for (sets, seed) in few.iter().flat_map(|sets| (0..5).map(move |s| (sets, s))) {
                    let sets: Vec<Vec<&str>> = sets.iter().map(|set| set.to_vec()).collect();
                    let parts = split(&sets, *scheme, fractions, Seed(seed));
                    let pairs = sets.iter().zip(&parts);
                    let mut learned = pairs.filter(|(set, _)| !set.is_empty());
                    assert!(
                        learned.any(|(_, part)| *part == Part::Training),
                        "{scheme:?} {sets:?}"
                    );
                }
            }
        }
        assert!(split(&[], Scheme::Simulation, &Fractions::default(), Seed(0)).is_empty());
        let both = split(
            &[vec!["A"], vec!["B"]],
            Scheme::Simulation,
            &Fractions::default(),
            Seed(0),
        );
        assert!(both.contains(&Part::Test(Subgroup::UnseenSingle)));
    }

    #[test]
    fn given_perturbations_alone_are_tested() {
        let (names, fractions) = (names(), Fractions::default());
        let sets = screen(&names, 90);
        let parts = hold_out(&sets, &[3, 100, 3, 9999], &fractions, Seed(0));
        for (index, part) in parts.iter().enumerate() {
            let is_tested = *part == Part::Test(Subgroup::Given);
            assert_eq!(is_tested, [3, 100].contains(&index));
        }
        assert!(parts.contains(&Part::Validation) && !parts.contains(&Part::Unused));
        let training = count(&parts, Part::Training);
        assert!(training > count(&parts, Part::Validation), "{training}");
    }

    #[test]
    fn names_are_those_of_options_and_records() {
        for scheme in Scheme::value_variants() {
            let option = scheme.to_possible_value().expect("not hidden");
            let record = serde_json::to_value(scheme).expect("a name");
            assert_eq!(record, option.get_name());
        }
        assert_eq!(
            serde_json::to_value(Scheme::ComboSeen0).unwrap(),
            "combo-seen0"
        );
        assert_eq!(Subgroup::ComboSeen1.to_string(), "combo, 1 of 2 seen");
    }
}
