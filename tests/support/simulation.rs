//! Simulated cells with a known gene network: effects of knockout and activation are computed, so that predictions can be
//! compared with true values.
//!
//! The log level of a gene is its basal level plus the effects of its regulators. A regulator's activity is a Hill function of its
//! level, one half at its basal level; its effect is its strength, by sign, at full activity and the opposite at none. Effects
//! add up and saturate. Regulators come first and regulate only genes after them, so that one pass finds the steady state.

use scgpt_tools::counts::Counts;
use scgpt_tools::random::{Seed, Stream, below, normal_pair, sample, uniform};

/// How steeply activity follows the level.
const HILL: f64 = 2.0;
/// Maximum change of a log level by all regulators together.
const SATURATION: f64 = 3.0;
/// Increase of the log level of an activated gene.
const ACTIVATION: f64 = 2.0;
/// Standard deviation of the logarithm of cells' sizes.
const SIZES: f64 = 0.2;
/// Targets of an epistatic pair.
const EPISTATIC_TARGETS: usize = 6;

/// Edges from regulators to targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub n_genes: usize,
    /// Regulator, target (a later gene), and signed strength: the change of the target's log level at full activity.
    pub edges: Vec<(usize, usize, f64)>,
    /// Two regulators, a target, and the change of its log level that both cause only if they are gone together.
    pub epistasis: Vec<(usize, usize, usize, f64)>,
    /// Log level of each gene in unperturbed cells.
    basal: Vec<f64>,
}

/// Noise of counts around expression levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Mean total count of an unperturbed cell, before dropout.
    pub depth: f64,
    /// Fraction of counts that are lost, whatever their size.
    pub dropout: f64,
    /// Standard deviation of the log levels of regulators between cells.
    pub variation: f64,
}

impl Noise {
    /// With 60 genes about 20 counts of each, a fifth of which is lost.
    pub const USUAL: Self = Self {
        depth: 1200.0,
        dropout: 0.2,
        variation: 0.3,
    };
}

impl Network {
    /// The first genes are regulators, each with as many targets among all later genes; pairs of them are epistatic.
    pub fn random(
        n_genes: usize,
        n_regulators: usize,
        targets_per_regulator: usize,
        epistatic_pairs: usize,
        seed: u64,
    ) -> Self {
        let n_regulators = n_regulators.min(n_genes);
        let mut draws = Seed(seed).stream("simulated network", &[]);
        let basal = (0..n_genes).map(|gene| {
            let lowest = if gene < n_regulators { 1.0 } else { 0.5 };
            lowest + 1.5 * uniform(&mut draws)
        });
        let basal = basal.collect();
        let mut edges = Vec::new();
        for regulator in 0..n_regulators {
            let later = n_genes - regulator - 1;
            for target in sample(&mut draws, later, targets_per_regulator) {
                let strength = signed(&mut draws, 1.0, 2.0);
                edges.push((regulator, regulator + 1 + target, strength));
            }
        }
        Self {
            n_genes,
            edges,
            epistasis: random_epistasis(n_genes, n_regulators, epistatic_pairs, &mut draws),
            basal,
        }
    }

    /// Expression of each gene without noise, as log-normalized cells have it: ln(1 + counts per 10,000). A gene that is gone
    /// has 0.
    pub fn means(&self, knocked_out: &[usize], activated: &[usize]) -> Vec<f64> {
        let levels = self.levels(
            &self.wiring(),
            knocked_out,
            activated,
            &vec![0.0; self.n_genes],
        );
        let total: f64 = levels.iter().sum();
        let logarithm = |level: &f64| (1e4 * level / total.max(f64::MIN_POSITIVE)).ln_1p();
        levels.iter().map(logarithm).collect()
    }

    /// Counts of `n` cells. Cells of other perturbations have other noise, also with the same seed.
    pub fn cells(
        &self,
        knocked_out: &[usize],
        activated: &[usize],
        n: usize,
        noise: &Noise,
        seed: u64,
    ) -> Counts {
        let wiring = self.wiring();
        let basal_total: f64 = self.basal.iter().map(|level| level.exp()).sum();
        let mut indices = vec![0, knocked_out.len() as u64];
        indices.extend(knocked_out.iter().chain(activated).map(|&gene| gene as u64));
        let row = |cell: usize| {
            indices[0] = cell as u64;
            let mut draws = Seed(seed).stream("simulated cell", &indices);
            let size = noise.depth / basal_total * (SIZES * normal_pair(&mut draws).0).exp();
            let deviations: Vec<f64> = (0..self.n_genes)
                .map(|_| noise.variation * normal_pair(&mut draws).0)
                .collect();
            let levels = self.levels(&wiring, knocked_out, activated, &deviations);
            let count = |(gene, level): (usize, &f64)| {
                let count = poisson(&mut draws, size * level);
                let is_lost = uniform(&mut draws) < noise.dropout;
                (count > 0 && !is_lost).then_some((gene as u32, count as f32))
            };
            levels
                .iter()
                .enumerate()
                .filter_map(count)
                .collect::<Vec<_>>()
        };
        Counts::from_rows(self.n_genes, (0..n).map(row))
    }

    fn wiring(&self) -> Vec<Wiring> {
        let mut genes = vec![Wiring::default(); self.n_genes];
        for &(regulator, target, strength) in &self.edges {
            genes[regulator].is_regulator = true;
            genes[target].causes.push((regulator, strength));
        }
        for &(first, second, target, extra) in &self.epistasis {
            genes[target].pairs.push((first, second, extra));
        }
        genes
    }

    /// Levels of all genes; `deviations` are random deviations of the log levels of regulators.
    fn levels(
        &self,
        wiring: &[Wiring],
        knocked_out: &[usize],
        activated: &[usize],
        deviations: &[f64],
    ) -> Vec<f64> {
        // Log levels less basal levels; a gene that is gone has none.
        let mut shifts = vec![f64::NEG_INFINITY; self.n_genes];
        for (gene, wiring) in wiring.iter().enumerate() {
            if !knocked_out.contains(&gene) {
                let own = if wiring.is_regulator {
                    deviations[gene]
                } else {
                    0.0
                };
                let extra = if activated.contains(&gene) {
                    ACTIVATION
                } else {
                    0.0
                };
                shifts[gene] = own + extra + wiring.effect(&shifts);
            }
        }
        let levels = shifts.iter().zip(&self.basal);
        levels.map(|(shift, basal)| (basal + shift).exp()).collect()
    }
}

/// Regulation of one gene.
#[derive(Debug, Clone, Default)]
struct Wiring {
    is_regulator: bool,
    /// Regulators and their strengths.
    causes: Vec<(usize, f64)>,
    /// Regulators that act if they are gone together.
    pairs: Vec<(usize, usize, f64)>,
}

impl Wiring {
    /// Change of the gene's log level, given those of its regulators.
    fn effect(&self, shifts: &[f64]) -> f64 {
        let activity = |regulator: usize| 1.0 / (1.0 + (-HILL * shifts[regulator]).exp());
        let causes = self.causes.iter();
        let effects: f64 = causes
            .map(|&(regulator, strength)| strength * (2.0 * activity(regulator) - 1.0))
            .sum();
        let is_gone = |regulator: usize| shifts[regulator] == f64::NEG_INFINITY;
        let pairs = self
            .pairs
            .iter()
            .filter(|(a, b, _)| is_gone(*a) && is_gone(*b));
        let together: f64 = pairs.map(|(_, _, extra)| extra).sum();
        SATURATION * (effects / SATURATION).tanh() + together
    }
}

/// Different pairs of regulators, each with targets that regulate nothing.
fn random_epistasis(
    n_genes: usize,
    n_regulators: usize,
    n_pairs: usize,
    draws: &mut Stream,
) -> Vec<(usize, usize, usize, f64)> {
    let pairs: Vec<_> = (0..n_regulators)
        .flat_map(|second| (0..second).map(move |first| (first, second)))
        .collect();
    let mut epistasis = Vec::new();
    for pair in sample(draws, pairs.len(), n_pairs) {
        for target in sample(draws, n_genes - n_regulators, EPISTATIC_TARGETS) {
            let (first, second) = pairs[pair];
            epistasis.push((
                first,
                second,
                n_regulators + target,
                signed(draws, 1.5, 2.5),
            ));
        }
    }
    epistasis
}

/// A number between two, or its negative.
fn signed(draws: &mut Stream, low: f64, high: f64) -> f64 {
    let size = low + (high - low) * uniform(draws);
    if below(draws, 2) == 0 { size } else { -size }
}

/// A Poisson number: waiting times are added up; a rounded normal number for large means.
fn poisson(draws: &mut Stream, mean: f64) -> u64 {
    if mean > 50.0 {
        return (mean + mean.sqrt() * normal_pair(draws).0).round().max(0.0) as u64;
    }
    let mut waited = 0.0;
    let mut events = 0;
    loop {
        waited -= (1.0 - uniform(draws)).ln();
        if waited >= mean {
            return events;
        }
        events += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use ndarray::{Array1, ArrayView1, Axis, s};

    use super::*;

    const REGULATORS: usize = 20;
    const EPISTATIC: usize = 40;
    /// Cells of each observed condition.
    const OBSERVED: usize = 50;

    /// Mean of log-normalized cells.
    fn profile(cells: &Counts) -> Array1<f64> {
        let mut cells = cells.to_dense().mapv(f64::from);
        for mut cell in cells.rows_mut() {
            let total = cell.sum().max(1.0);
            cell.mapv_inplace(|value| (1e4 * value / total).ln_1p());
        }
        cells.mean_axis(Axis(0)).expect("cells")
    }

    /// A hand-made chain: 0 activates 1, which represses 2; 0 represses 3; either of 0 and 1 holds 4 down.
    fn chain() -> Network {
        Network {
            n_genes: 6,
            edges: vec![(0, 1, 1.5), (1, 2, -1.5), (0, 3, -1.2)],
            epistasis: vec![(0, 1, 4, 2.0)],
            basal: vec![1.5; 6],
        }
    }

    #[test]
    fn cells_follow_their_network() {
        let mean = |knocked_out: &[usize], activated: &[usize]| {
            let cells = chain().cells(knocked_out, activated, 400, &Noise::USUAL, 1);
            cells.to_dense().mapv(f64::from).mean_axis(Axis(0)).unwrap()
        };
        let control = mean(&[], &[]);
        let folds = |knocked_out: &[usize], activated: &[usize]| {
            (mean(knocked_out, activated) / &control).mapv(f64::ln)
        };
        let without = folds(&[0], &[]);
        assert_eq!(without[0], f64::NEG_INFINITY);
        assert!(
            without[1] < -1.0 && without[2] > 1.0 && without[3] > 0.8,
            "{without}"
        );
        assert!(without[5].abs() < 0.1);
        let activated = folds(&[], &[0]);
        assert!(
            activated[0] > 1.5 && activated[1] > 1.0 && activated[2] < -0.8 && activated[3] < -0.8
        );
        assert!(without[4].abs() < 0.1 && folds(&[1], &[])[4].abs() < 0.1);
        assert!(folds(&[0, 1], &[])[4] > 1.8);
    }

    #[test]
    fn unperturbed_cells_vary_with_their_regulators() {
        let cells = chain()
            .cells(&[], &[], 2000, &Noise::USUAL, 1)
            .to_dense()
            .mapv(f64::from);
        let correlation = |a: usize, b: usize| {
            let standard =
                |gene: ArrayView1<'_, f64>| (&gene - gene.mean().unwrap()) / gene.std(0.0);
            (standard(cells.column(a)) * standard(cells.column(b)))
                .mean()
                .unwrap()
        };
        let without_cause = correlation(4, 5);
        assert!(correlation(0, 1) > without_cause + 0.1);
        assert!(correlation(0, 3) < without_cause - 0.1);
    }

    #[test]
    fn random_networks_obey_their_edges_and_seeds() {
        let random = |seed| Network::random(60, REGULATORS, 8, EPISTATIC, seed);
        let network = random(1);
        assert_eq!((network.edges.len(), network.epistasis.len()), (160, 240));
        assert!(
            network
                .edges
                .iter()
                .all(|(regulator, target, _)| regulator < target)
        );
        assert_eq!(network, random(1));
        assert_ne!(network, random(2));
        let control = network.means(&[], &[]);
        // The last regulator regulates no other, so its edges are visible; totals change a little.
        let without = network.means(&[REGULATORS - 1], &[]);
        assert_eq!(without[REGULATORS - 1], 0.0);
        let edges = network.edges.iter().filter(|edge| edge.0 == REGULATORS - 1);
        for &(_, target, strength) in edges {
            let change = without[target] - control[target];
            assert!(change * -strength.signum() > 0.1, "{change} {strength}");
        }
        let cells =
            |knocked_out: &[usize], seed| network.cells(knocked_out, &[], 3, &Noise::USUAL, seed);
        assert_eq!(cells(&[1], 1), cells(&[1], 1));
        assert_ne!(cells(&[1], 1), cells(&[1], 2));
        assert_ne!(cells(&[1], 1).row(0).1[5..], cells(&[2], 1).row(0).1[5..]);
        assert!(cells(&[7], 1).rows().all(|(genes, _)| !genes.contains(&7)));
        assert_eq!(Network::random(0, 20, 8, 3, 1).means(&[3], &[]), [0.0; 0]);
        assert_eq!(
            Network::random(2, 5, 9, 9, 1)
                .cells(&[0, 1], &[], 2, &Noise::USUAL, 1)
                .values,
            [0.0; 0]
        );
    }

    #[test]
    fn draws_have_the_mean_and_variance_of_a_poisson_distribution() {
        let mut draws = Seed(1).stream("test", &[]);
        for mean in [0.0, 0.3, 8.0, 200.0] {
            let numbers = Array1::from_shape_simple_fn(4000, || poisson(&mut draws, mean) as f64);
            let (found, variance) = (numbers.mean().unwrap(), numbers.var(0.0));
            assert!((found - mean).abs() <= 0.08 * mean && (variance - mean).abs() <= 0.15 * mean);
        }
    }

    /// Profiles of all perturbations of one or two regulators.
    struct Profiles {
        conditions: Vec<Vec<usize>>,
        epistatic: Vec<bool>,
        truth: Vec<Array1<f64>>,
        /// The true changes of the single perturbations, added up.
        additive: Vec<Array1<f64>>,
        /// Of few other cells.
        observed: Vec<Array1<f64>>,
    }

    impl Profiles {
        fn new(seed: u64) -> Self {
            let network = Network::random(60, REGULATORS, 8, EPISTATIC, seed);
            let pairs = (0..REGULATORS).flat_map(|b| (0..b).map(move |a| vec![a, b]));
            let conditions: Vec<_> = (0..REGULATORS).map(|a| vec![a]).chain(pairs).collect();
            let profiles = |n, seed| {
                let cells = |genes: &Vec<usize>| network.cells(genes, &[], n, &Noise::USUAL, seed);
                conditions
                    .iter()
                    .map(|genes| profile(&cells(genes)))
                    .collect()
            };
            let truth: Vec<Array1<f64>> = profiles(300, 1);
            let control = profile(&network.cells(&[], &[], 300, &Noise::USUAL, 1));
            let sum = |genes: &Vec<usize>| {
                let add = |sum: Array1<f64>, &gene: &usize| sum + &truth[gene] - &control;
                genes.iter().fold(control.clone(), add)
            };
            let is_epistatic = |genes: &Vec<usize>| {
                let mut pairs = network.epistasis.iter();
                pairs.any(|(a, b, ..)| genes[..] == [*a, *b])
            };
            Self {
                epistatic: conditions.iter().map(is_epistatic).collect(),
                additive: conditions.iter().map(sum).collect(),
                observed: profiles(OBSERVED, 2),
                truth,
                conditions,
            }
        }

        /// Fraction of the conditions whose own profile is among the `k` nearest to their observed one.
        fn found(
            &self,
            conditions: &[usize],
            profiles: &[Array1<f64>],
            k: usize,
            genes: Range<usize>,
        ) -> f64 {
            let distance = |at: usize, profile: &Array1<f64>| {
                let difference = &self.observed[at] - profile;
                difference
                    .slice(s![genes.clone()])
                    .mapv(|value| value * value)
                    .sum()
            };
            let is_found = |at: &&usize| {
                let own = distance(**at, &profiles[**at]);
                let nearer = |profile: &&Array1<f64>| distance(**at, profile) < own;
                profiles.iter().filter(nearer).count() < k
            };
            conditions.iter().filter(is_found).count() as f64 / conditions.len() as f64
        }

        /// Mean distance of the additive profiles from the true ones.
        fn additive_error(&self, conditions: &[usize]) -> f64 {
            let distance = |&at: &usize| {
                let difference = &self.additive[at] - &self.truth[at];
                difference.mapv(|value| value * value).sum().sqrt()
            };
            conditions.iter().map(distance).sum::<f64>() / conditions.len() as f64
        }
    }

    #[test]
    fn true_profiles_identify_the_perturbation_and_sums_of_single_changes_miss_epistasis() {
        let profiles = Profiles::new(1);
        let (truth, additive) = (&profiles.truth, &profiles.additive);
        let (singles, pairs): (Vec<_>, Vec<_>) =
            (0..truth.len()).partition(|&at| profiles.conditions[at].len() == 1);
        let (epistatic, others): (Vec<_>, Vec<_>) =
            pairs.iter().partition(|&&at| profiles.epistatic[at]);
        assert_eq!(
            (singles.len(), pairs.len(), epistatic.len()),
            (20, 190, EPISTATIC)
        );
        assert!(profiles.found(&singles, truth, 1, 0..60) > 0.97);
        assert!(profiles.found(&pairs, truth, 8, 0..60) > 0.85);
        // Missing genes identify nearly all perturbations; genes that are never perturbed identify fewer.
        let of_truth = profiles.found(&epistatic, truth, 1, REGULATORS..60);
        let of_sums = profiles.found(&epistatic, additive, 1, REGULATORS..60);
        assert!(
            of_truth > 0.95 && of_sums < of_truth - 0.1,
            "{of_truth} {of_sums}"
        );
        let errors = [&epistatic, &others].map(|pairs| profiles.additive_error(pairs));
        assert!(errors[0] > 1.5 * errors[1], "{errors:?}");
    }
}
