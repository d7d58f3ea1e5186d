//! Numerical methods on arrays: metrics, PCA, neighbor graphs, clusters, UMAP, pseudotime, batch correction, regression.
//!
//! Rows are cells. Everything computes in f64 and gives the same bits whatever the number of threads. Reads no file and knows
//! nothing of genes or models. What needs libtorch (eigenvectors, large matrix products) is behind the feature `torch`.

pub mod agreement;
pub mod classification;
#[cfg(feature = "torch")]
pub mod coexpression;
pub mod components;
pub mod differential;
pub mod edge_scores;
pub mod enrichment;
#[cfg(feature = "torch")]
pub mod gene_network;
#[cfg(feature = "torch")]
pub mod graph;
pub mod harmony;
#[cfg(feature = "torch")]
pub mod integration;
pub mod ivf;
mod kmeans;
#[cfg(feature = "torch")]
pub mod knn_regression;
pub mod knn_vote;
#[cfg(feature = "torch")]
pub mod layout;
#[cfg(feature = "torch")]
pub mod leiden;
pub mod logistic;
mod matmul;
#[cfg(feature = "torch")]
pub mod neighbors;
pub mod perturbation_metrics;
pub mod program_scores;
#[cfg(feature = "torch")]
pub mod projection;
#[cfg(feature = "torch")]
pub mod pseudotime;
pub mod ridge;
pub mod search;
#[cfg(feature = "torch")]
pub mod spectral;
pub mod student;

use ndarray::{Array2, ArrayView2};

/// Why an array cannot be analyzed; rows are cells, columns are features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{found} {what} for {cells} cells: there must be one per cell")]
    OnePerCell {
        what: &'static str,
        found: usize,
        cells: usize,
    },
    #[error("{what} has {found} columns, but {expected} were expected")]
    Columns {
        what: &'static str,
        found: usize,
        expected: usize,
    },
    #[error(
        "the value in row {row}, column {column} is {value}, but only finite numbers can be analyzed"
    )]
    NotFinite {
        row: usize,
        column: usize,
        value: f64,
    },
    #[error("{what} needs at least {needed} cells, but there are {found}")]
    FewCells {
        what: &'static str,
        needed: usize,
        found: usize,
    },
    #[error("all {cells} cells are equal, so there is no direction to project them on")]
    AllEqual { cells: usize },
    #[error(
        "{found} cells or more, of as many features, are too many to project (at most {limit}): select highly variable genes first"
    )]
    ManyFeatures { found: usize, limit: usize },
    #[error("all cells belong to one class, but at least two classes are required")]
    OneClass,
    #[error("the number of {0} is 0, but must be at least 1")]
    Zero(&'static str),
    #[error("{what} is cell {found}, but there are {limit} cells, counted from 0")]
    NoSuchCell {
        what: &'static str,
        found: usize,
        limit: usize,
    },
    #[error("a neighbor is cell {cell} (counted from 0), but there are only {cells} cells")]
    UnknownCell { cell: usize, cells: usize },
    #[error("not an undirected graph of cells: {0}")]
    Graph(String),
    #[error(
        "the edge from node {from} to node {to} has weight {weight}, but edges must join two nodes of the graph and have the same finite, non-negative weight in both directions"
    )]
    Edge { from: usize, to: usize, weight: f64 },
    #[error("the resolution is {0}, but must be a finite number that is not negative")]
    Resolution(f64),
    #[error("{what} is {found}, but must be {expected}")]
    Setting {
        what: &'static str,
        found: f64,
        expected: &'static str,
    },
    #[error(
        "{what} did not converge after {rounds} iterations: the error is {reached}, but must be at most {wanted}"
    )]
    NotConverged {
        what: &'static str,
        rounds: usize,
        reached: f64,
        wanted: f64,
    },
    #[error(
        "with a penalty of {penalty} the ridge equations have no stable solution: choose a larger penalty"
    )]
    Singular { penalty: f64 },
    #[error("libtorch could not {what}: {message}")]
    Torch { what: &'static str, message: String },
    #[error(
        "the value in row {row}, column {column} is {value}, but logarithms of normalized counts are not negative: give the values before any scaling"
    )]
    Negative {
        row: usize,
        column: usize,
        value: f64,
    },
    #[error(
        "{what} of gene {gene} (counted from 0) is {value}, but only finite numbers can be scored"
    )]
    GeneNotFinite {
        what: &'static str,
        gene: usize,
        value: f64,
    },
    #[error("{what} is gene {found}, but there are {limit} genes, counted from 0")]
    NoSuchGene {
        what: &'static str,
        found: usize,
        limit: usize,
    },
    #[error("{what} needs at least {needed} genes, but there are {found}")]
    FewGenes {
        what: &'static str,
        needed: usize,
        found: usize,
    },
    #[error(
        "{what} is {} x {}, but {} x {} was expected", found.0, found.1, expected.0, expected.1
    )]
    Shape {
        what: &'static str,
        found: (usize, usize),
        expected: (usize, usize),
    },
    #[error(
        "{found} pairs of genes have a similarity of {threshold} or more, but at most {limit} may be listed: choose a higher threshold"
    )]
    ManyEdges {
        found: usize,
        limit: usize,
        threshold: f64,
    },
    #[error(
        "no control gene is left for program {program} (counted from 0): all genes of its expression bins belong to it"
    )]
    NoControls { program: usize },
    #[error("the regression on regulators failed: {0}")]
    Boosting(String),
}

/// The same values in f64 and row by row, whatever the layout in memory.
fn to_f64<T: Copy + Into<f64>>(rows: ArrayView2<'_, T>) -> Array2<f64> {
    let values = rows.iter().map(|&value| value.into()).collect();
    Array2::from_shape_vec(rows.dim(), values).expect("a matrix has as many values as its shape")
}

/// Fails on the first value that is not finite.
fn require_finite<T: Copy + Into<f64>>(rows: ArrayView2<'_, T>) -> Result<(), Error> {
    let mut values = rows.indexed_iter().map(|(at, &value)| (at, value.into()));
    match values.find(|(_, value)| !value.is_finite()) {
        Some(((row, column), value)) => Err(Error::NotFinite { row, column, value }),
        None => Ok(()),
    }
}

/// Runs a computation on a number of threads.
#[cfg(test)]
fn on_threads<T: Send>(threads: usize, compute: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(compute)
}
