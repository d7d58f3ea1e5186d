//! Options of `scgpt-map-reference query`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::knn_vote::Rule;

/// Options of `scgpt-map-reference query`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct QueryOptions {
    /// AnnData file with query cells, embedded by scgpt-embed with the same model as the reference.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Reference index, a directory written by scgpt-map-reference build.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "input"))]
    pub index: PathBuf,
    /// AnnData file: input with transferred labels added.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Output TSV of label, probability, distance, novelty, coordinates and neighbors of each cell.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Output plot (SVG) of the query cells over the reference cells, colored by transferred label.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Number of nearest reference cells (k of kNN).
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 50))]
    pub n_neighbors: usize,
    /// Weights of the neighbors in the vote. Ties go to the first label in alphabetical order; scGPT in Python has no fixed order
    /// and may differ.
    #[arg(long)]
    pub weights: Rule,
    /// Column of the reference with the labels to transfer, at most 2000 distinct labels. Default: --label of scgpt-map-reference
    /// build.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Minimum probability of a label, 0 to 1; cells below it stay unassigned. It is the weighted fraction of the neighbors with
    /// that label; neighbors without a label are ignored.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// Quantile (0 to 1) of the neighbor distances of reference cells above which a cell stays unassigned, such as 0.99; 1
    /// disables this. Batch effects increase distances: inspect obs/PREFIX_novelty first.
    #[arg(long, value_name = "FRACTION")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub novelty: f64,
    /// Prefix of the new elements: PREFIX_label, PREFIX_probability, PREFIX_distance and PREFIX_novelty in obs,
    /// PREFIX_probabilities and X_PREFIX in obsm, PREFIX_reference in uns.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,
    /// Column of obs with true labels, to evaluate the transferred labels.
    #[arg(long, value_name = "COLUMN")]
    pub true_labels: Option<String>,
    /// Output TSV of metrics: accuracy over all cells and over assigned cells, macro precision, recall and F1. Needs
    /// --true-labels.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub metrics: Option<PathBuf>,
    /// AnnData files with the expression of the reference cells, to evaluate a baseline: kNN on principal components of
    /// expression, with the same weights. It assigns all cells, so compare the accuracy over assigned cells. Needs --true-labels.
    /// Comma-separated.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "FILE",
        value_delimiter = ','
    )]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub baseline: Vec<PathBuf>,
    /// Element of obsm with the cell embeddings, or X. Default: X_scGPT if present, else X.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub obsm_key: Option<String>,
    /// Number of inverted lists to search for each cell (nprobe in faiss). Default: calibrated to find 99% of the neighbors.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 65536))]
    pub n_probe: Option<usize>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            index: PathBuf::new(),
            output: PathBuf::new(),
            table: None,
            plot: None,
            n_neighbors: 10,
            weights: Rule::Uniform,
            label: None,
            threshold: 0.0,
            novelty: 1.0,
            prefix: "mapped".into(),
            true_labels: None,
            metrics: None,
            baseline: Vec::new(),
            obsm_key: None,
            n_probe: None,
        }
    }
}
