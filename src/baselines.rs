//! Baselines of cell type annotation.
//!
//! Log-normalized values of highly variable genes are projected on 50 principal components; cell types are predicted by
//! (a) logistic regression and (b) majority vote of the nearest neighbors. Genes, means and components come from the training
//! cells alone.

pub mod imputation;
pub mod perturbation;

use ndarray::Array2;
use rayon::prelude::*;

use crate::analysis::logistic::Logistic;
use crate::analysis::neighbors::{Metric, nearest, vote};
use crate::analysis::projection::Pca;
use crate::counts::Counts;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::expression::select_genes::{Flavor, select_genes};
use crate::{analysis, expression};

/// Form of the values of both matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Raw counts: genes are selected by seurat_v3, then counts are normalized to 10,000 per cell and log1p-transformed.
    Raw,
    /// Log-normalized: genes are selected by cell_ranger.
    Log1p,
}

/// Sizes of the baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Highly variable genes to keep.
    pub genes: usize,
    /// Principal components, at most; fewer if the training cells span fewer dimensions.
    pub components: usize,
    /// Nearest neighbors that vote; all training cells if there are fewer.
    pub neighbors: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            genes: 2000,
            components: 50,
            neighbors: 15,
        }
    }
}

/// Cells with known classes; genes are the same, in the same order, as those of the cells to predict.
#[derive(Debug, Clone, Copy)]
pub struct Labeled<'a> {
    pub counts: &'a Counts,
    /// Class of each cell.
    pub labels: &'a [u32],
}

/// Class of each predicted cell and its probability.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    pub classes: Vec<u32>,
    /// Model probability (logistic regression) or fraction of the votes (neighbors).
    pub probabilities: Vec<f64>,
}

/// Labeled and query cells in the principal components of the labeled cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Space<'a> {
    labels: &'a [u32],
    /// `[labeled cells, components]`.
    known: Array2<f64>,
    /// `[query cells, components]`.
    unknown: Array2<f64>,
    neighbors: usize,
    /// Number of selected genes.
    pub n_genes: usize,
}

/// Why there are no baselines.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(
        "baselines need the same genes in both sets of cells, but one has {train} and the other {test}"
    )]
    Genes { train: usize, test: usize },
    #[error("{found} {what} for {perturbations} perturbations: there must be one for each")]
    OnePerPerturbation {
        what: &'static str,
        found: usize,
        perturbations: usize,
    },
    #[error("{found} gene embeddings for changes of {genes} genes: there must be one for each")]
    GeneVectors { found: usize, genes: usize },
    #[error(
        "a perturbation has target {target} (counted from 0), but there are embeddings of only {targets} targets"
    )]
    UnknownTarget { target: usize, targets: usize },
    #[error(transparent)]
    Expression(#[from] expression::Error),
    #[error(transparent)]
    Analysis(#[from] analysis::Error),
}

impl<'a> Space<'a> {
    /// Fits the principal components on labeled cells, and projects the cells of `test` on them.
    pub fn new(
        train: Labeled<'a>,
        test: &Counts,
        values: Values,
        options: Options,
    ) -> Result<Self, Error> {
        let (genes, test_genes) = (train.counts.n_genes, test.n_genes);
        if genes != test_genes {
            return Err(Error::Genes {
                train: genes,
                test: test_genes,
            });
        }
        let kept = select_genes(train.counts, options.genes, values.flavor(), None)?.kept;
        let known = dense(train.counts, values, &kept)?;
        let pca = Pca::fit(known.view(), options.components)?;
        Ok(Self {
            labels: train.labels,
            known: pca.transform(known.view())?,
            unknown: pca.transform(dense(test, values, &kept)?.view())?,
            neighbors: options.neighbors,
            n_genes: kept.len(),
        })
    }

    /// Predicts by logistic regression.
    pub fn logistic(&self) -> Result<Prediction, Error> {
        let model = Logistic::fit(self.known.view(), self.labels)?;
        let mut prediction = Prediction::default();
        for row in model.probabilities(self.unknown.view())?.rows() {
            // The first of equal probabilities.
            let best = (0..row.len()).fold(
                0,
                |best, class| if row[class] > row[best] { class } else { best },
            );
            prediction.classes.push(model.classes[best]);
            prediction.probabilities.push(row[best]);
        }
        Ok(prediction)
    }

    /// Predicts by the vote of the nearest labeled cells.
    pub fn neighbors(&self) -> Result<Prediction, Error> {
        let (known, unknown) = (self.known.view(), self.unknown.view());
        let found = nearest(unknown, known, self.neighbors, Metric::Euclidean)?;
        let rows: Vec<_> = found.indices.rows().into_iter().collect();
        let winner = |row: &ndarray::ArrayView1<'_, usize>| {
            vote(row.iter().map(|&index| self.labels[index])).expect("at least one neighbor votes")
        };
        let votes: Vec<_> = rows.par_iter().map(winner).collect();
        Ok(Prediction {
            classes: votes.iter().map(|vote| vote.class).collect(),
            probabilities: votes.iter().map(|vote| vote.fraction).collect(),
        })
    }
}

/// Principal components of cells `[cells, components]`: at most `(genes, components)`, genes chosen within batches as far as these
/// are large enough.
pub fn principal_components(
    counts: &Counts,
    values: Values,
    (genes, components): (usize, usize),
    batches: &[u32],
) -> Result<Array2<f64>, Error> {
    let size = |batch: u32| batches.iter().filter(|other| **other == batch).count();
    let small = batches.iter().any(|&batch| size(batch) < 2);
    let kept = select_genes(counts, genes, values.flavor(), (!small).then_some(batches))?.kept;
    let cells = dense(counts, values, &kept)?;
    Ok(Pca::fit(cells.view(), components)?.transform(cells.view())?)
}

impl Values {
    /// How genes are selected.
    fn flavor(self) -> Flavor {
        match self {
            Self::Raw => Flavor::SeuratV3,
            Self::Log1p => Flavor::CellRanger,
        }
    }
}

/// Log-normalized values (normalized over all genes) of the kept genes, [cells, genes].
fn dense(
    counts: &Counts,
    values: Values,
    kept: &[usize],
) -> Result<Array2<f32>, expression::Error> {
    let mut counts = counts.clone();
    if values == Values::Raw {
        normalize_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    Ok(counts.select_genes(kept).to_dense())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells of two classes that differ in the first four of twelve genes.
    fn cells(n: u32) -> (Counts, Vec<u32>) {
        let count = |cell: u32, gene: u32| {
            let noise = (cell * cell * 7 + gene * gene * 13 + cell * gene * 5) % 6;
            let is_marker = gene < 4 && (gene < 2) == cell.is_multiple_of(2);
            (noise + if is_marker { 12 } else { 0 }) as f32
        };
        let row = |cell| (0..12).map(move |gene| (gene, count(cell, gene)));
        (
            Counts::from_rows(12, (0..n).map(row)),
            (0..n).map(|cell| cell % 2 + 5).collect(),
        )
    }

    const OPTIONS: Options = Options {
        genes: 6,
        components: 3,
        neighbors: 5,
    };

    #[test]
    fn separable_classes_are_predicted_from_counts_and_from_log1p() {
        let (mut known, labels) = cells(40);
        let (mut unknown, expected) = cells(61);
        for values in [Values::Raw, Values::Log1p] {
            let train = Labeled {
                counts: &known,
                labels: &labels,
            };
            let space = Space::new(train, &unknown, values, OPTIONS).unwrap();
            // Every gene has an interval of means of its own and none stands out, so cell_ranger keeps the ties.
            let n_genes = if values == Values::Raw { 6 } else { 12 };
            assert_eq!((space.n_genes, space.known.ncols()), (n_genes, 3));
            for prediction in [space.logistic().unwrap(), space.neighbors().unwrap()] {
                assert_eq!(prediction.classes, expected);
                assert!(
                    prediction
                        .probabilities
                        .iter()
                        .all(|probability| (0.5..=1.0).contains(probability))
                );
            }
            for counts in [&mut known, &mut unknown] {
                normalize_total(counts, Target::Sum(1e4)).unwrap();
                log1p(counts).unwrap();
            }
        }
    }

    #[test]
    fn a_cell_gets_the_same_prediction_alone() {
        let (known, labels) = cells(40);
        let train = Labeled {
            counts: &known,
            labels: &labels,
        };
        let alone = known.select_cells(&[17]);
        let [all, one] =
            [&known, &alone].map(|test| Space::new(train, test, Values::Raw, OPTIONS).unwrap());
        for method in [Space::logistic, Space::neighbors] {
            let [all, one] = [&all, &one].map(|space| method(space).unwrap().probabilities);
            assert_eq!(one[0].to_bits(), all[17].to_bits());
        }
    }

    #[test]
    fn more_of_everything_than_there_is_is_reduced() {
        let (known, labels) = cells(4);
        let train = Labeled {
            counts: &known,
            labels: &labels,
        };
        let space = Space::new(train, &known, Values::Raw, Options::default()).unwrap();
        assert_eq!((space.n_genes, space.known.ncols()), (12, 3));
        // All four cells vote; ties go to the nearest, which is the cell itself.
        let found = space.neighbors().unwrap();
        assert_eq!(found.classes, labels);
        assert_eq!(found.probabilities, [0.5; 4]);
        let none = Space::new(train, &Counts::empty(12), Values::Raw, OPTIONS).unwrap();
        assert_eq!(none.logistic().unwrap(), Prediction::default());
    }

    #[test]
    fn impossible_input_is_rejected() {
        let (known, labels) = cells(6);
        let predict = |counts: &Counts, labels: &[u32], test: &Counts| {
            let space = Space::new(Labeled { counts, labels }, test, Values::Raw, OPTIONS);
            space.and_then(|space| space.logistic()).unwrap_err()
        };
        assert_eq!(
            predict(&known, &labels, &Counts::empty(3)),
            Error::Genes { train: 12, test: 3 }
        );
        assert_eq!(
            predict(&known, &[1; 6], &known),
            Error::Analysis(analysis::Error::OneClass)
        );
        let short = analysis::Error::OnePerCell {
            what: "labels",
            found: 5,
            cells: 6,
        };
        assert_eq!(
            predict(&known, &labels[1..], &known),
            Error::Analysis(short)
        );
        let silent = Counts::from_rows(2, [vec![], vec![], vec![]]);
        assert_eq!(
            predict(&silent, &[0, 1, 1], &silent),
            Error::Analysis(analysis::Error::AllEqual { cells: 3 })
        );
    }
}
