//! `scgpt-map-reference query`: label transfer from the nearest reference cells.

use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::embedded::Embedded;
use super::results::{self, MappedCell};
use super::{Facts, INDEX, MOST_LABELS, Program, SEARCH, TOPICS, scores, steps};
use crate::analysis::knn_vote::{Rule, vote_fractions, weights, winner};
use crate::analysis::search::{Neighbor, Queries};
use crate::failure::Failure;
use crate::formats::h5ad;
use crate::progress::Progress;
use crate::reference_index::{Labels, MANIFEST, MOST_NEIGHBORS, ReferenceIndex};
use crate::run_record::Run;

/// Options of `scgpt-map-reference query`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct QueryOptions {
    /// AnnData with query cells, embedded by scgpt-embed with the same model as the reference.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Reference index, a directory that scgpt-map-reference build wrote.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "input"))]
    pub index: PathBuf,
    /// AnnData: input with transferred labels added.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// TSV of label, probability, distance, novelty, coordinates and neighbors of every cell.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Plot of the query cells over the reference cells, colored by transferred label.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Number of nearest reference cells (k of kNN).
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 50))]
    pub n_neighbors: usize,
    /// Weights of the neighbors. Ties go to the first label in alphabetical order; scGPT in Python, which has no fixed order, may
    /// differ.
    #[arg(long)]
    pub weights: Rule,
    /// Column of the reference with the labels to transfer, at most 2000 distinct ones. Default: --label of the index.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Minimum probability of a label, 0 to 1; other cells stay unassigned. The probability of a label is the weighted fraction
    /// of neighbors that have it; neighbors without a label are ignored.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// Novelty threshold, a quantile of the neighbor distances of reference cells, such as 0.99; cells above it stay unassigned.
    /// Batch effects increase distances: check the column PREFIX_novelty first. 1 turns the threshold off.
    #[arg(long, value_name = "FRACTION")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub novelty: f64,
    /// Prefix of the new elements: obs/PREFIX_label, PREFIX_probability, PREFIX_distance and PREFIX_novelty,
    /// obsm/PREFIX_probabilities and X_PREFIX.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,
    /// Column of obs with the true labels, to evaluate the transferred labels.
    #[arg(long, value_name = "COLUMN")]
    pub true_labels: Option<String>,
    /// TSV of metrics: accuracy over all cells and over assigned cells, macro precision, recall and F1.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub metrics: Option<PathBuf>,
    /// AnnData files with the expression of the reference cells, separated by commas, for a baseline: kNN on principal components
    /// of expression with the same weights. It assigns all cells: compare the accuracy over assigned cells.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "FILE",
        value_delimiter = ','
    )]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub baseline: Vec<PathBuf>,
    /// Element of obsm with the cell embeddings, or X. Default: X_scGPT, or X if the file has no X_scGPT.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub obsm_key: Option<String>,
    /// Number of inverted lists to search for each cell (nprobe in faiss). Default: calibrated to find 99 % of neighbors.
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

/// The program.
pub struct Query;

impl Program for Query {
    const NAME: &'static str = "scgpt-map-reference query";
    const SUMMARY: &'static str = "Transfer labels from the nearest reference cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0226"],
        resources: SEARCH,
        contents: &[
            ("input", &["obsm/X_scGPT"]),
            ("index", INDEX),
            (
                "output",
                &[
                    "obs/mapped_label",
                    "obs/mapped_probability",
                    "obsm/X_mapped",
                ],
            ),
        ],
    };
    type Options = QueryOptions;

    fn check(options: &QueryOptions) -> Vec<String> {
        let needs_labels = [
            ("--metrics", options.metrics.is_some()),
            ("--baseline", !options.baseline.is_empty()),
        ];
        let unmet = needs_labels
            .iter()
            .filter(|(_, given)| *given && options.true_labels.is_none());
        let problem = |(flag, _): &(&str, bool)| {
            format!("`{flag}` needs `--true-labels`, the column of obs with the true labels")
        };
        unmet.map(problem).collect()
    }

    fn run(options: QueryOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.input(&options.input)?;
        let cells = Embedded::open(&options.input, options.obsm_key.as_deref())?;
        let truth = options
            .true_labels
            .as_ref()
            .map(|column| cells.file.obs(column))
            .transpose()?;
        results::check_names(&options, &cells)?;
        let reference = run.stage("open_index", |run| Reference::open(&options, run))?;
        cells.require_width(reference.index.manifest.embedding_dim, "the index")?;
        let baseline = (!options.baseline.is_empty())
            .then(|| Baseline::open(&options, &reference, run))
            .transpose()?;
        let (mapped, probabilities) =
            run.stage("search", |_| map_cells(&options, &cells, &reference))?;
        results::report(&reference, &mapped, run);
        if let Some(truth) = truth {
            let truth = truth.to_labels();
            let mut methods = vec![("scGPT", mapped.iter().map(|p| p.label).collect())];
            if let Some(baseline) = baseline {
                let labels =
                    run.stage("baseline", |run| baseline.labels(&options, &reference, run))?;
                methods.push(("PCA", labels));
            }
            scores::score(&options, &reference.classes, &truth, &methods, run)?;
        }
        results::write_table(&options, &cells, &reference, &mapped, run)?;
        results::plot(&options, &reference, &mapped, run)?;
        let additions = results::additions(&options, &reference, &mapped, probabilities);
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// The index with the labels to transfer.
pub struct Reference {
    pub index: ReferenceIndex,
    /// Labels in alphabetical order, and the index of the label of every cell.
    pub classes: Vec<String>,
    pub codes: Vec<Option<u32>>,
    /// Fractions of the labels among the cells that have one.
    pub frequencies: Vec<f64>,
    /// Coordinates, [cells, 2].
    pub coordinates: Array2<f32>,
    /// Mean distances of reference cells to the same number of neighbors, increasing.
    own_distances: Vec<f64>,
}

impl Reference {
    fn open(options: &QueryOptions, run: &mut Run) -> Result<Self> {
        let index = ReferenceIndex::open(&options.index, true)?;
        run.input(&options.index.join(MANIFEST))?;
        for (file, sha256) in index.manifest.checksums() {
            run.input_known(&options.index.join(file), sha256)?;
        }
        let column = options.label.as_ref().unwrap_or(&index.manifest.label);
        let Labels { classes, codes } = index.labels(column, MOST_LABELS)?;
        if classes.is_empty() {
            return Err(Failure::Input.error(format!(
                "no cell of the index has a label in the column `{column}`: choose another with `--label`"
            )));
        }
        Ok(Self {
            frequencies: frequencies(&codes, classes.len()),
            coordinates: index.coordinates()?,
            own_distances: index.own_distances(options.n_neighbors)?,
            classes,
            codes,
            index,
        })
    }

    /// The fraction of reference cells that are nearer to their neighbors.
    fn novelty(&self, distance: f64) -> f64 {
        let nearer = self.own_distances.partition_point(|&own| own < distance);
        nearer as f64 / self.own_distances.len().max(1) as f64
    }

    /// The mapping of a cell with these neighbors, and the probability of every label.
    fn map(&self, options: &QueryOptions, found: &[Neighbor]) -> (MappedCell, Vec<f64>) {
        let class_of = |row: u64| self.codes[row as usize];
        let fractions = vote_fractions(options.weights, found, class_of, &self.frequencies);
        let best = winner(&fractions);
        let probability = best.map_or(0.0, |class| fractions[class]);
        let total: f64 = found.iter().map(|near| near.squared.sqrt()).sum();
        let distance = total / found.len() as f64;
        let novelty = self.novelty(distance);
        let is_confident = probability >= options.threshold
            && (options.novelty >= 1.0 || novelty <= options.novelty);
        let mapping = MappedCell {
            label: best.filter(|_| is_confident),
            probability,
            distance,
            novelty,
            neighbors: found.iter().map(|near| near.row).collect(),
            coordinates: mean_coordinates(self.coordinates.view(), found),
        };
        (mapping, fractions)
    }
}

/// Distance-weighted mean of the coordinates of the neighbors that have coordinates; NaN if none has.
fn mean_coordinates(coordinates: ArrayView2<'_, f32>, found: &[Neighbor]) -> [f32; 2] {
    let row = |near: &Neighbor| coordinates.row(near.row as usize);
    let is_finite = |near: &Neighbor| row(near).iter().all(|value| value.is_finite());
    let found: Vec<Neighbor> = found.iter().copied().filter(is_finite).collect();
    let (mut sum, mut total) = ([0.0; 2], 0.0);
    for (near, weight) in found.iter().zip(weights(&found)) {
        let row = row(near);
        total += weight;
        sum = [0, 1].map(|axis| sum[axis] + weight * f64::from(row[axis]));
    }
    sum.map(|value| (value / total) as f32)
}

/// Fractions of the classes among the cells that have one.
pub fn frequencies(codes: &[Option<u32>], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    codes
        .iter()
        .flatten()
        .for_each(|&code| counts[code as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| count / total).collect()
}

/// The mapping of every cell, and the probability of every label, [cells, labels].
fn map_cells(
    options: &QueryOptions,
    cells: &Embedded,
    reference: &Reference,
) -> Result<(Vec<MappedCell>, Vec<f32>)> {
    let manifest = &reference.index.manifest;
    let probes = options
        .n_probe
        .unwrap_or(manifest.n_probe)
        .min(manifest.n_lists);
    let k = options.n_neighbors.min(MOST_NEIGHBORS);
    let classes = reference.classes.len();
    let mut mapped = vec![MappedCell::UNMAPPED; cells.n_cells()];
    let mut probabilities = vec![0.0; cells.n_cells() * classes];
    let mut progress = Progress::new("mapping", cells.n_cells() as u64, "cells");
    for range in cells.blocks() {
        let n = range.len();
        let block = cells.read(range, manifest.metric)?;
        let found = reference
            .index
            .search(&Queries::new(block.rows), k, probes)?;
        for (cell, found) in block
            .cells
            .iter()
            .zip(found)
            .filter(|(_, found)| !found.is_empty())
        {
            let (mapping, fractions) = reference.map(options, &found);
            mapped[*cell] = mapping;
            for (to, fraction) in probabilities[cell * classes..].iter_mut().zip(fractions) {
                *to = fraction as f32;
            }
        }
        progress.advance(n as u64);
    }
    progress.finish();
    Ok((mapped, probabilities))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn neighbors_without_coordinates_are_ignored() {
        let coordinates = array![[f32::NAN, 0.0], [1.0, 2.0], [4.0, 8.0]];
        let near = |squared: f64, row: u64| Neighbor { squared, row };
        let found = mean_coordinates(
            coordinates.view(),
            &[near(0.0, 0), near(1.0, 1), near(4.0, 2)],
        );
        assert_eq!(found, [2.0, 4.0]);
        assert!(mean_coordinates(coordinates.view(), &[near(0.0, 0)])[0].is_nan());
    }
}
