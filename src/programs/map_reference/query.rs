//! `scgpt-map-reference query`: labels of new cells from the reference cells near them.

use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::embedded::Embedded;
use super::results::{self, Placement};
use super::{Facts, INDEX, MOST_LABELS, Program, SEARCH, TOPICS, scores, steps};
use crate::analysis::search::{Neighbour, Queries};
use crate::analysis::vote::{Rule, shares, weights, winner};
use crate::atlas::{Atlas, Labels, MANIFEST, MOST_NEIGHBOURS};
use crate::failure::Failure;
use crate::formats::h5ad;
use crate::progress::Progress;
use crate::run_record::Run;

/// Options of `scgpt-map-reference query`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct QueryOptions {
    /// Cells to map, an AnnData file that scgpt-embed wrote with the model that embedded the reference. It is never changed.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Index of the reference, a folder that scgpt-map-reference build wrote.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "input"))]
    pub index: PathBuf,
    /// Where to write a copy of the input with the labels in it.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Also write label, probability, distance and neighbours of every cell as a table.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Also draw the cells among those of the reference, coloured by the label they were given.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub figure: Option<PathBuf>,
    /// Reference cells that vote on the label of a cell.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 50))]
    pub neighbours: usize,
    /// How they vote. Of labels with equally many votes the first in the alphabet wins; the Python scGPT, which sorts them in no fixed
    /// order, may take another.
    #[arg(long)]
    pub vote: Rule,
    /// Column of the reference to take labels from, if not the one that the index was built for. At most 2000 different labels.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Cells whose best label is less probable than this are left unassigned. The probability of a label is its share of the votes of
    /// the neighbours that have a label; neighbours without one do not count.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// Cells farther from their neighbours than this share of reference cells are from theirs are left unassigned, such as 0.99.
    /// Cells of other laboratories lie farther off: look at the column PREFIX_novelty first. 1 leaves none.
    #[arg(long, value_name = "SHARE")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub novelty: f64,
    /// First part of the names of what is added: obs/PREFIX_label, PREFIX_probability, PREFIX_distance and PREFIX_novelty,
    /// obsm/PREFIX_probabilities and X_PREFIX.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,
    /// Column of obs with the true labels, where they are known: the answers are then scored against it.
    #[arg(long, value_name = "COLUMN")]
    pub truth: Option<String>,
    /// Also write the scores as a table: accuracy over all cells and over those that were given a label, and the macro averages.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub scores: Option<PathBuf>,
    /// Expression of the reference cells, AnnData files with commas between them: neighbours among principal components of expression,
    /// which vote by the same rule, are then scored too. They leave no cell unassigned: compare the accuracy of assigned cells.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub baseline: Vec<PathBuf>,
    /// Element of obsm with the vectors, or X. Default: X_scGPT, or X where there is none.
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Lists of the index to look into for each cell. Default: as many as the index found to hold 99 % of neighbours.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 65536))]
    pub probes: Option<usize>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            index: PathBuf::new(),
            output: PathBuf::new(),
            table: None,
            figure: None,
            neighbours: 10,
            vote: Rule::Majority,
            label: None,
            threshold: 0.0,
            novelty: 1.0,
            prefix: "mapped".into(),
            truth: None,
            scores: None,
            baseline: Vec::new(),
            key: None,
            probes: None,
        }
    }
}

/// The program.
pub struct Query;

impl Program for Query {
    const NAME: &'static str = "scgpt-map-reference query";
    const SUMMARY: &'static str = "Name new cells after the reference cells that they lie near";
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
        let needs_truth = [
            ("--scores", options.scores.is_some()),
            ("--baseline", !options.baseline.is_empty()),
        ];
        let needless = needs_truth
            .iter()
            .filter(|(_, given)| *given && options.truth.is_none());
        let problem = |(flag, _): &(&str, bool)| {
            format!("`{flag}` needs the true labels: name their column in `--truth`")
        };
        needless.map(problem).collect()
    }

    fn run(options: QueryOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.input(&options.input)?;
        let cells = Embedded::open(&options.input, options.key.as_deref())?;
        let truth = options
            .truth
            .as_ref()
            .map(|column| cells.file.obs(column))
            .transpose()?;
        results::check_names(&options, &cells)?;
        let reference = run.stage("open the index", |run| Reference::open(&options, run))?;
        cells.require_width(reference.atlas.manifest.width, "the index")?;
        let baseline = (!options.baseline.is_empty())
            .then(|| Baseline::open(&options, &reference, run))
            .transpose()?;
        let (placements, shares) = run.stage("search", |_| place(&options, &cells, &reference))?;
        results::report(&reference, &placements, run);
        if let Some(truth) = truth {
            let truth = truth.to_labels();
            let mut methods = vec![("scGPT", placements.iter().map(|p| p.label).collect())];
            if let Some(baseline) = baseline {
                let labels =
                    run.stage("baseline", |run| baseline.labels(&options, &reference, run))?;
                methods.push(("PCA", labels));
            }
            scores::score(&options, &reference.classes, &truth, &methods, run)?;
        }
        results::write_table(&options, &cells, &reference, &placements, run)?;
        results::draw(&options, &reference, &placements, run)?;
        let additions = results::additions(&options, &reference, &placements, shares);
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// The index with the labels to be given.
pub struct Reference {
    pub atlas: Atlas,
    /// Labels in alphabetical order, and the one of every cell.
    pub classes: Vec<String>,
    pub codes: Vec<Option<u32>>,
    /// Shares of the labels among the cells that have one.
    pub frequencies: Vec<f64>,
    /// [cells, 2].
    pub places: Array2<f32>,
    /// Mean distances of cells of the reference to as many neighbours, increasing.
    own_distances: Vec<f64>,
}

impl Reference {
    fn open(options: &QueryOptions, run: &mut Run) -> Result<Self> {
        let atlas = Atlas::open(&options.index, true)?;
        run.input(&options.index.join(MANIFEST))?;
        for (file, sha256) in atlas.manifest.checksums() {
            run.input_known(&options.index.join(file), sha256)?;
        }
        let column = options.label.as_ref().unwrap_or(&atlas.manifest.label);
        let Labels { classes, codes } = atlas.labels(column, MOST_LABELS)?;
        if classes.is_empty() {
            return Err(Failure::Input.error(format!(
                "no cell of the index has a label in its column `{column}`"
            )));
        }
        Ok(Self {
            frequencies: frequencies(&codes, classes.len()),
            places: atlas.places()?,
            own_distances: atlas.own_distances(options.neighbours)?,
            classes,
            codes,
            atlas,
        })
    }

    /// The share of reference cells that lie nearer to their neighbours.
    fn novelty(&self, distance: f64) -> f64 {
        let nearer = self.own_distances.partition_point(|&own| own < distance);
        nearer as f64 / self.own_distances.len().max(1) as f64
    }

    /// Where a cell with these neighbours belongs, and the share of the vote of every label.
    fn placement(&self, options: &QueryOptions, found: &[Neighbour]) -> (Placement, Vec<f64>) {
        let class_of = |row: u64| self.codes[row as usize];
        let shares = shares(options.vote, found, class_of, &self.frequencies);
        let best = winner(&shares);
        let probability = best.map_or(0.0, |class| shares[class]);
        let total: f64 = found.iter().map(|near| near.squared.sqrt()).sum();
        let distance = total / found.len() as f64;
        let novelty = self.novelty(distance);
        let is_sure = probability >= options.threshold
            && (options.novelty >= 1.0 || novelty <= options.novelty);
        let placement = Placement {
            label: best.filter(|_| is_sure),
            probability,
            distance,
            novelty,
            neighbours: found.iter().map(|near| near.row).collect(),
            place: mean_place(self.places.view(), found),
        };
        (placement, shares)
    }
}

/// The mean of those neighbours' places that have one, nearer ones weighing more; NaN if none has.
fn mean_place(places: ArrayView2<'_, f32>, found: &[Neighbour]) -> [f32; 2] {
    let place = |near: &Neighbour| places.row(near.row as usize);
    let has_place = |near: &Neighbour| place(near).iter().all(|value| value.is_finite());
    let found: Vec<Neighbour> = found.iter().copied().filter(has_place).collect();
    let (mut sum, mut total) = ([0.0; 2], 0.0);
    for (near, weight) in found.iter().zip(weights(&found)) {
        let place = place(near);
        total += weight;
        sum = [0, 1].map(|axis| sum[axis] + weight * f64::from(place[axis]));
    }
    sum.map(|value| (value / total) as f32)
}

/// Shares of the classes among the cells that have one.
pub fn frequencies(codes: &[Option<u32>], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    codes
        .iter()
        .flatten()
        .for_each(|&code| counts[code as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| count / total).collect()
}

/// Where every cell belongs, and the votes for every label, [cells, labels].
fn place(
    options: &QueryOptions,
    cells: &Embedded,
    reference: &Reference,
) -> Result<(Vec<Placement>, Vec<f32>)> {
    let manifest = &reference.atlas.manifest;
    let probes = options
        .probes
        .unwrap_or(manifest.probes)
        .min(manifest.lists);
    let k = options.neighbours.min(MOST_NEIGHBOURS);
    let classes = reference.classes.len();
    let mut placements = vec![Placement::NOWHERE; cells.n_cells()];
    let mut votes = vec![0.0; cells.n_cells() * classes];
    let mut progress = Progress::new("mapping", cells.n_cells() as u64, "cells");
    for range in cells.blocks() {
        let n = range.len();
        let block = cells.read(range, manifest.metric)?;
        let found = reference
            .atlas
            .search(&Queries::new(block.rows), k, probes)?;
        for (cell, found) in block
            .cells
            .iter()
            .zip(found)
            .filter(|(_, found)| !found.is_empty())
        {
            let (placement, shares) = reference.placement(options, &found);
            placements[*cell] = placement;
            for (vote, share) in votes[cell * classes..].iter_mut().zip(shares) {
                *vote = share as f32;
            }
        }
        progress.advance(n as u64);
    }
    progress.finish();
    Ok((placements, votes))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn neighbours_without_a_place_do_not_take_the_place_of_others() {
        let places = array![[f32::NAN, 0.0], [1.0, 2.0], [4.0, 8.0]];
        let near = |squared: f64, row: u64| Neighbour { squared, row };
        let found = mean_place(places.view(), &[near(0.0, 0), near(1.0, 1), near(4.0, 2)]);
        assert_eq!(found, [2.0, 4.0]);
        assert!(mean_place(places.view(), &[near(0.0, 0)])[0].is_nan());
    }
}
