//! Baselines of perturbation prediction.
//!
//! They are those of Ahlmann-Eltze, Huber and Anders ("Deep-learning-based gene perturbation effect prediction does not yet
//! outperform simple linear baselines", Nature Methods 2025): the mean change, the sum of the changes of single perturbations
//! (additive), and a linear model of gene embeddings. A change is the mean log expression of perturbed cells minus that of
//! control cells, by gene.
//!
//! Targets are sets: their order and repeats are ignored. Rows of the same targets, such as `A+ctrl` and `ctrl+A`, are one
//! condition, whose change is that of its cells together. A row without cells is dropped.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use super::Error;
use crate::analysis;
use crate::analysis::ridge::{PENALTIES, Ridge};

/// Observed effects. Targets are numbers in a list of perturbed genes.
#[derive(Debug, Clone, Copy)]
pub struct ObservedEffects<'a> {
    /// Targets of each training perturbation.
    pub targets: &'a [Vec<usize>],
    /// Its mean change from control, [perturbations, genes].
    pub changes: ArrayView2<'a, f64>,
    /// Its cells.
    pub cells: &'a [usize],
}

/// The mean of the training changes, the same for every query, [queries, genes]. Each condition counts once; 0 without any.
pub fn mean_change(known: &ObservedEffects<'_>, queries: &[Vec<usize>]) -> Array2<f64> {
    let mean = Conditions::of(known).mean();
    predictions(queries, mean.len(), |_| mean.clone())
}

/// The sum of the changes of the single perturbations of the genes of each query, [queries, genes].
///
/// In a combination, a gene never perturbed alone counts as the mean single change, the best constant if changes are additive;
/// zero would predict less change than other combinations show. (The authors had all single changes.) An unknown single
/// perturbation gets the mean change of all conditions, as from [`mean_change`]. If no gene was perturbed alone, the changes of
/// combinations are divided equally among their genes. A query without genes gets 0.
pub fn additive(known: &ObservedEffects<'_>, queries: &[Vec<usize>]) -> Array2<f64> {
    let conditions = Conditions::of(known);
    let (mean, unknown) = (conditions.mean(), conditions.mean_of_one_gene());
    let singles: BTreeMap<usize, _> = conditions.singles().collect();
    predictions(queries, mean.len(), |query| match set(query)[..] {
        [gene] => singles.get(&gene).unwrap_or(&mean.view()).to_owned(),
        ref genes => genes.iter().fold(Array1::zeros(mean.len()), |sum, gene| {
            sum + singles.get(gene).unwrap_or(&unknown.view())
        }),
    })
}

/// A bilinear model of gene and perturbation embeddings, [queries, genes].
///
/// The changes Y [genes, perturbations] are modeled as G W Pᵀ + b, with the gene embeddings G [genes, k], the perturbation
/// embeddings P [perturbations, l], which are the sums of those of their targets, and the mean change b of each gene. W
/// [k, l] has the closed form of the authors: ridge regression from G, then from P. Unlike theirs, both embeddings are centered,
/// so that perturbations may change all genes alike, and each regression has its own penalty. Of all pairs of [`PENALTIES`] the
/// one with the least leave-one-perturbation-out error is chosen, which is exact and needs no refitting. Embeddings may have any
/// scale.
///
/// One training perturbation gives its change, none gives 0, and `target_vectors` without columns give the mean change. Use
/// zeros for a target without embedding.
///
/// Fails unless there is one of everything for each perturbation, an embedding for each gene and each target, and on values that
/// are not finite.
pub fn linear(
    known: &ObservedEffects<'_>,
    gene_vectors: ArrayView2<'_, f64>,
    target_vectors: ArrayView2<'_, f64>,
    queries: &[Vec<usize>],
) -> Result<Array2<f64>, Error> {
    require_complete(known, gene_vectors.nrows())?;
    require_targets(known.targets.iter().chain(queries), target_vectors.nrows())?;
    for matrix in [known.changes, gene_vectors, target_vectors] {
        require_finite(matrix)?;
    }
    let conditions = Conditions::of(known);
    let mean = conditions.mean();
    if conditions.targets.len() < 2 || mean.is_empty() {
        return Ok(predictions(queries, mean.len(), |_| mean.clone()));
    }
    let target_vectors = of_unit_scale(target_vectors);
    let deviations = &conditions.changes - &mean;
    let vectors = sums(&target_vectors, &conditions.targets);
    let fits = Fits::new(&deviations, &of_unit_scale(gene_vectors), &vectors)?;
    let (from_targets, explained) = fits.best(&deviations);
    let weights = from_targets.predict(sums(&target_vectors, queries).view())?;
    Ok(weights.dot(explained) + &mean)
}

/// Training perturbations, each set of targets once.
struct Conditions {
    targets: Vec<Vec<usize>>,
    /// [conditions, genes]
    changes: Array2<f64>,
}

impl Conditions {
    fn of(known: &ObservedEffects<'_>) -> Self {
        let mut rows: BTreeMap<Vec<usize>, (Array1<f64>, f64)> = BTreeMap::new();
        let perturbations = known.targets.iter().zip(known.changes.rows());
        for ((targets, change), &cells) in perturbations.zip(known.cells) {
            if cells > 0 {
                let none = || (Array1::zeros(change.len()), 0.0);
                let (sum, all) = rows.entry(set(targets)).or_insert_with(none);
                sum.scaled_add(cells as f64, &change);
                *all += cells as f64;
            }
        }
        let mut changes = Array2::zeros((rows.len(), known.changes.ncols()));
        for (mut row, (sum, cells)) in changes.rows_mut().into_iter().zip(rows.values()) {
            row.assign(&(sum / *cells));
        }
        Self {
            targets: rows.into_keys().collect(),
            changes,
        }
    }

    fn mean(&self) -> Array1<f64> {
        self.changes.sum_axis(Axis(0)) / self.targets.len().max(1) as f64
    }

    /// Changes of genes that were perturbed alone.
    fn singles(&self) -> impl Iterator<Item = (usize, ArrayView1<'_, f64>)> {
        let conditions = self.targets.iter().zip(self.changes.rows());
        conditions.filter_map(|(targets, change)| match targets[..] {
            [gene] => Some((gene, change)),
            _ => None,
        })
    }

    /// Mean of the single changes; of fractions of combined changes, if there are no others.
    fn mean_of_one_gene(&self) -> Array1<f64> {
        let mut changes: Vec<_> = self
            .singles()
            .map(|(_, change)| change.to_owned())
            .collect();
        if changes.is_empty() {
            let conditions = self.targets.iter().zip(self.changes.rows());
            let combined = conditions.filter(|(targets, _)| !targets.is_empty());
            changes.extend(combined.map(|(targets, change)| &change / targets.len() as f64));
        }
        let n = changes.len().max(1) as f64;
        let none = Array1::zeros(self.changes.ncols());
        changes.into_iter().fold(none, |sum, change| sum + change) / n
    }
}

/// The two regressions, one for each penalty that can be solved.
struct Fits {
    /// From the embeddings of conditions to the weight of each condition, whose training values are the hat matrix.
    from_targets: Vec<(Ridge, Array2<f64>)>,
    /// Deviations explained by the gene embeddings, [conditions, genes].
    from_genes: Vec<Array2<f64>>,
}

impl Fits {
    fn new(
        deviations: &Array2<f64>,
        gene_vectors: &Array2<f64>,
        vectors: &Array2<f64>,
    ) -> Result<Self, analysis::Error> {
        let identity = Array2::eye(vectors.nrows());
        Ok(Self {
            from_targets: for_penalties(|penalty| {
                let model = Ridge::fit(vectors.view(), identity.view(), penalty)?;
                let hat = model.predict(vectors.view())?;
                Ok((model, hat))
            })?,
            from_genes: for_penalties(|penalty| {
                let model = Ridge::fit(gene_vectors.view(), deviations.t(), penalty)?;
                Ok(model.predict(gene_vectors.view())?.reversed_axes())
            })?,
        })
    }

    /// The pair of least leave-one-perturbation-out error, the first of equally good ones.
    fn best(&self, deviations: &Array2<f64>) -> (&Ridge, &Array2<f64>) {
        let targets = self.from_targets.iter();
        let pairs: Vec<_> = targets
            .flat_map(|(model, hat)| self.from_genes.iter().map(move |genes| (model, hat, genes)))
            .collect();
        let error = |(_, hat, explained): &(_, &Array2<f64>, &Array2<f64>)| {
            let errors = leave_one_out_errors(deviations, hat, explained);
            let error = errors.mapv(|error| error * error).sum();
            if error.is_nan() { f64::INFINITY } else { error }
        };
        let errors: Vec<f64> = pairs.par_iter().map(error).collect();
        let least = (0..pairs.len()).fold(
            0,
            |best, at| {
                if errors[at] < errors[best] { at } else { best }
            },
        );
        let (model, _, explained) = pairs[least];
        (model, explained)
    }
}

/// Fits of the penalties that can be solved; fails as the last one does if none can.
fn for_penalties<T>(
    fit: impl Fn(f64) -> Result<T, analysis::Error>,
) -> Result<Vec<T>, analysis::Error> {
    let mut fits = Vec::new();
    let mut unsolved = None;
    for penalty in PENALTIES {
        match fit(penalty) {
            Err(error @ analysis::Error::Singular { .. }) => unsolved = Some(error),
            fit => fits.push(fit?),
        }
    }
    match unsolved {
        Some(error) if fits.is_empty() => Err(error),
        _ => Ok(fits),
    }
}

/// Error in each gene of each condition when it is dropped, mean included, [conditions, genes].
///
/// With the deviations D of n conditions, the hat matrix H of the regression from targets and S = D A, the deviations after the
/// smoother A of the gene embeddings: the mean without condition i is off by cD, c = n / (n - 1), and the regression alone by
/// MD, M = (I - H) / (1 - diag H) (Hastie et al., The Elements of Statistical Learning, equation 7.64). The smoothed part of
/// the latter replaces that of the former: cD + (M - cI) S.
fn leave_one_out_errors(
    deviations: &Array2<f64>,
    hat: &Array2<f64>,
    explained: &Array2<f64>,
) -> Array2<f64> {
    let n = hat.nrows() as f64;
    let of_mean = n / (n - 1.0);
    let rest = hat.diag().mapv(|leverage| 1.0 - leverage);
    let mut alone = (Array2::eye(hat.nrows()) - hat) / &rest.insert_axis(Axis(1));
    alone.diag_mut().map_inplace(|value| *value -= of_mean);
    deviations * of_mean + alone.dot(explained)
}

/// A row for each query.
fn predictions(
    queries: &[Vec<usize>],
    n_genes: usize,
    predict: impl Fn(&[usize]) -> Array1<f64>,
) -> Array2<f64> {
    let mut rows = Array2::zeros((queries.len(), n_genes));
    for (mut row, query) in rows.rows_mut().into_iter().zip(queries) {
        row.assign(&predict(query));
    }
    rows
}

/// Sum of the embeddings of each set of targets.
fn sums(vectors: &Array2<f64>, targets: &[Vec<usize>]) -> Array2<f64> {
    predictions(targets, vectors.ncols(), |targets| {
        vectors.select(Axis(0), &set(targets)).sum_axis(Axis(0))
    })
}

fn set(targets: &[usize]) -> Vec<usize> {
    let mut targets = targets.to_vec();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The embeddings, divided by their root mean square unless that is zero.
fn of_unit_scale(vectors: ArrayView2<'_, f64>) -> Array2<f64> {
    let largest = vectors
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    if largest == 0.0 {
        return vectors.to_owned();
    }
    let vectors = vectors.mapv(|value| value / largest);
    let square: f64 = vectors.iter().map(|value| value * value).sum();
    let scale = (square / vectors.len() as f64).sqrt();
    vectors / scale
}

fn require_complete(known: &ObservedEffects<'_>, gene_vectors: usize) -> Result<(), Error> {
    let perturbations = known.targets.len();
    for (what, found) in [
        ("rows of changes", known.changes.nrows()),
        ("numbers of cells", known.cells.len()),
    ] {
        if found != perturbations {
            return Err(Error::OnePerPerturbation {
                what,
                found,
                perturbations,
            });
        }
    }
    let (found, genes) = (gene_vectors, known.changes.ncols());
    if found == genes {
        Ok(())
    } else {
        Err(Error::GeneVectors { found, genes })
    }
}

fn require_targets<'a>(
    mut perturbations: impl Iterator<Item = &'a Vec<usize>>,
    targets: usize,
) -> Result<(), Error> {
    let unknown = |list: &'a Vec<usize>| list.iter().find(|target| **target >= targets);
    match perturbations.find_map(unknown) {
        Some(&target) => Err(Error::UnknownTarget { target, targets }),
        None => Ok(()),
    }
}

fn require_finite(matrix: ArrayView2<'_, f64>) -> Result<(), analysis::Error> {
    match matrix.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(analysis::Error::NotFinite { row, column, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};
    use serde_json::Value;

    use super::*;
    use crate::random::{Seed, normal_pair};

    fn normal(purpose: &str, shape: (usize, usize)) -> Array2<f64> {
        let mut stream = Seed(1).stream(purpose, &[]);
        Array2::from_shape_simple_fn(shape, || normal_pair(&mut stream).0)
    }

    fn distance(left: &Array2<f64>, right: &Array2<f64>) -> f64 {
        assert_eq!(left.dim(), right.dim());
        let square: f64 = (left - right).iter().map(|value| value * value).sum();
        square.sqrt()
    }

    fn known<'a>(
        targets: &'a [Vec<usize>],
        changes: &'a Array2<f64>,
        cells: &'a [usize],
    ) -> ObservedEffects<'a> {
        ObservedEffects {
            targets,
            changes: changes.view(),
            cells,
        }
    }

    #[test]
    fn the_mean_counts_each_condition_once_and_joins_rows_of_one_by_their_cells() {
        let targets = [vec![0], vec![1, 2], vec![2, 1, 2], vec![3]];
        let changes = array![[3.0, 0.0], [0.0, 4.0], [0.0, 8.0], [f64::NAN, f64::NAN]];
        let mean = mean_change(
            &known(&targets, &changes, &[500, 30, 10, 0]),
            &[vec![9], vec![]],
        );
        assert_eq!(mean, array![[1.5, 2.5], [1.5, 2.5]]);
    }

    #[test]
    fn additive_data_are_predicted_exactly() {
        let effects = normal("effects", (4, 6));
        let targets: Vec<_> = (0..4).map(|gene| vec![gene]).collect();
        let pairs = vec![vec![0, 1], vec![3, 2], vec![2, 0, 3], vec![1], vec![]];
        let found = additive(&known(&targets, &effects, &[9; 4]), &pairs);
        assert!(distance(&found, &sums(&effects, &pairs)) < 1e-12);
        assert!(
            distance(
                &mean_change(&known(&targets, &effects, &[9; 4]), &pairs),
                &found
            ) > 1.0
        );
    }

    #[test]
    fn genes_never_perturbed_alone_have_the_expected_effect() {
        let targets = [vec![0], vec![1], vec![2, 3]];
        let changes = array![[1.0], [3.0], [11.0]];
        let queries = [vec![2], vec![0, 2], vec![2, 3], vec![1, 0]];
        let found = additive(&known(&targets, &changes, &[1; 3]), &queries);
        assert_eq!(found, array![[5.0], [3.0], [4.0], [4.0]]);
        let changes = array![[6.0], [2.0]];
        let combined = known(&targets[1..], &changes, &[1, 1]);
        let without_singles = ObservedEffects {
            targets: &[vec![0, 1], vec![1, 2, 3, 4], vec![]],
            cells: &[1, 1, 0],
            ..combined
        };
        let found = additive(&without_singles, &[vec![0, 1], vec![0], vec![7, 8, 9, 10]]);
        assert_eq!(found, array![[3.5], [4.0], [7.0]]);
    }

    /// Embeddings and changes that are bilinear in them.
    struct Planted {
        genes: Array2<f64>,
        targets: Array2<f64>,
        effects: Array2<f64>,
        base: Array1<f64>,
    }

    impl Planted {
        fn new(n_targets: usize) -> Self {
            let (genes, targets) = (
                normal("genes", (40, 3)),
                normal("targets", (n_targets, 2)) * 1e-3,
            );
            let weights = normal("weights", (3, 2)) * 1e3;
            let effects = targets.dot(&weights.t()).dot(&genes.t());
            let base = normal("base", (1, 40)).row(0).to_owned();
            Self {
                genes,
                targets,
                effects,
                base,
            }
        }

        fn changes(&self, perturbations: &[Vec<usize>]) -> Array2<f64> {
            sums(&self.effects, perturbations) + &self.base
        }
    }

    #[test]
    fn the_linear_model_predicts_unseen_targets() {
        let planted = Planted::new(30);
        let mut training: Vec<_> = (0..20).map(|target| vec![target]).collect();
        training.extend((0..10).map(|target| vec![target, target + 10]));
        let queries = vec![vec![25], vec![29, 21], vec![3, 28]];
        let changes = planted.changes(&training);
        let known = known(&training, &changes, &[50; 30]);
        let predict = |genes: &Array2<f64>, targets: &Array2<f64>| {
            linear(&known, genes.view(), targets.view(), &queries).unwrap()
        };
        let found = predict(&planted.genes, &planted.targets);
        let truth = planted.changes(&queries);
        let of_mean = distance(&mean_change(&known, &queries), &truth);
        assert!(distance(&found, &truth) < 0.01 * of_mean);
        assert!(distance(&additive(&known, &queries), &truth) > 0.3 * of_mean);
        // The scale of embeddings does not matter.
        let scaled = predict(&(&planted.genes * 1e200), &(&planted.targets * 1e-200));
        assert!(distance(&scaled, &found) < 1e-9);
        // Random embeddings do little harm.
        let random = predict(&planted.genes, &normal("noise", (30, 2)));
        assert!(distance(&random, &truth) < 1.3 * of_mean);
    }

    #[test]
    fn leave_one_out_errors_are_those_of_refitting() {
        let planted = Planted::new(8);
        let changes = &planted.effects + normal("errors", (8, 40));
        let vectors = of_unit_scale(planted.targets.view());
        let parts = |changes: Array2<f64>, vectors: &Array2<f64>| {
            let mean = changes.mean_axis(Axis(0)).unwrap();
            let deviations = changes - &mean;
            let fits = Fits::new(&deviations, &planted.genes, vectors).unwrap();
            (mean, deviations, fits)
        };
        let (_, deviations, fits) = parts(changes.clone(), &vectors);
        for (i, j) in [(0, 0), (2, 5), (4, 3)] {
            let errors =
                leave_one_out_errors(&deviations, &fits.from_targets[i].1, &fits.from_genes[j]);
            for out in 0..8 {
                let kept: Vec<_> = (0..8).filter(|other| *other != out).collect();
                let (mean, _, fits) = parts(
                    changes.select(Axis(0), &kept),
                    &vectors.select(Axis(0), &kept),
                );
                let weights = fits.from_targets[i]
                    .0
                    .predict(vectors.slice(s![out..=out, ..]));
                let predicted = weights.unwrap().dot(&fits.from_genes[j]) + &mean;
                let expected = &changes.slice(s![out..=out, ..]) - &predicted;
                let found = errors.slice(s![out..=out, ..]).to_owned();
                assert!(distance(&found, &expected) < 1e-8);
            }
        }
    }

    #[test]
    fn little_training_data_gives_the_mean() {
        let one = array![[1.0, 2.0]];
        let single = [vec![0]];
        let queries = [vec![1], vec![]];
        let (genes, targets) = (array![[1.0], [2.0]], array![[1.0], [5.0]]);
        let predict = |known: &ObservedEffects<'_>, genes: &Array2<f64>, targets: &Array2<f64>| {
            linear(known, genes.view(), targets.view(), &queries).unwrap()
        };
        let twice = array![[1.0, 2.0], [1.0, 2.0]];
        assert_eq!(
            predict(&known(&single, &one, &[3]), &genes, &targets),
            twice
        );
        let nothing = known(&single, &one, &[0]);
        let unchanged = Array2::<f64>::zeros((2, 2));
        assert_eq!(predict(&nothing, &genes, &targets), unchanged);
        assert_eq!(additive(&nothing, &queries), unchanged);
        assert_eq!(mean_change(&nothing, &queries), unchanged);
        let changes = array![[1.0, 0.0], [3.0, 8.0]];
        let singles = [vec![0], vec![1]];
        let both = known(&singles, &changes, &[1, 1]);
        let none = Array2::zeros((2, 0));
        assert_eq!(predict(&both, &none, &none), array![[2.0, 4.0], [2.0, 4.0]]);
        let equal = Array2::ones((2, 3));
        assert!(
            distance(
                &predict(&both, &equal, &equal),
                &array![[2.0, 4.0], [2.0, 4.0]]
            ) < 1e-9
        );
        assert_eq!(
            linear(&both, genes.view(), targets.view(), &[])
                .unwrap()
                .dim(),
            (0, 2)
        );
        let no_genes = Array2::zeros((2, 0));
        let both = known(&singles, &no_genes, &[1, 1]);
        let found = linear(
            &both,
            Array2::zeros((0, 1)).view(),
            targets.view(),
            &queries,
        );
        assert_eq!(found.unwrap().dim(), (2, 0));
    }

    #[test]
    fn impossible_input_is_rejected() {
        let targets = [vec![0], vec![1]];
        let changes = array![[1.0, 2.0], [3.0, f64::NAN]];
        let (genes, vectors) = (array![[1.0], [2.0]], array![[1.0], [5.0]]);
        let reject = |known: ObservedEffects<'_>, genes: &Array2<f64>, target: usize| {
            linear(&known, genes.view(), vectors.view(), &[vec![target]]).unwrap_err()
        };
        let not_finite = reject(known(&targets, &changes, &[1, 1]), &genes, 0);
        assert!(
            not_finite
                .to_string()
                .starts_with("the value in row 1, column 1 is NaN")
        );
        let unknown = reject(known(&targets, &changes, &[1, 1]), &genes, 2);
        assert_eq!(
            unknown,
            Error::UnknownTarget {
                target: 2,
                targets: 2
            }
        );
        let short = reject(known(&targets[..1], &changes, &[1]), &genes, 0);
        let expected = Error::OnePerPerturbation {
            what: "rows of changes",
            found: 2,
            perturbations: 1,
        };
        assert_eq!(short, expected);
        let one = reject(known(&targets, &changes, &[1, 1]), &array![[1.0]], 0);
        assert_eq!(one, Error::GeneVectors { found: 1, genes: 2 });
        // The others take what is there.
        let uneven = known(&targets, &changes, &[1]);
        assert_eq!(mean_change(&uneven, &[vec![5]]), array![[1.0, 2.0]]);
    }

    /// Made by `make_linear_changes.py`.
    fn golden() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/baselines/linear_changes.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn golden_linear_model() {
        let golden = golden();
        let lists = |name: &str| -> Vec<Vec<usize>> {
            serde_json::from_value(golden[name].clone()).unwrap()
        };
        let matrix = |name: &str| {
            let rows: Vec<Vec<f64>> = serde_json::from_value(golden[name].clone()).unwrap();
            let shape = (rows.len(), rows[0].len());
            Array2::from_shape_vec(shape, rows.concat()).unwrap()
        };
        let (targets, changes) = (lists("targets"), matrix("changes"));
        let known = known(&targets, &changes, &[20; 9]);
        let (genes, vectors) = (matrix("gene_vectors"), matrix("target_vectors"));
        let found = linear(&known, genes.view(), vectors.view(), &lists("asked"));
        assert!(distance(&found.unwrap(), &matrix("predicted")) < 1e-9);
    }

    #[test]
    fn threads_change_no_bit() {
        let planted = Planted::new(12);
        let training: Vec<_> = (0..12).map(|target| vec![target]).collect();
        let changes = planted.changes(&training) + normal("errors", (12, 40));
        let known = known(&training, &changes, &[1; 12]);
        let predict = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let vectors = (planted.genes.view(), planted.targets.view());
                linear(&known, vectors.0, vectors.1, &[vec![3, 4]]).unwrap()
            })
        };
        assert_eq!(predict(1), predict(8));
    }
}
