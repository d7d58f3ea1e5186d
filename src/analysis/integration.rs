//! Integration metrics: batch mixing and conservation of cell types (docs/methods.md,
//! "Integration metrics")?
//!
//! Definitions follow scib 1.1.7 (Luecken et al. 2022, Nature Methods 19:41) and, for LISI, kBET and isolated labels,
//! scib-metrics 0.5.10. Labels and batches are class codes, one per cell; cells without a label must be dropped before. Codes
//! need not be consecutive. Every score is in [0, 1], and higher is better. A score is `None` where it is undefined; each
//! function documents when.

pub mod connectivity;
mod diffusion;
pub mod isolated;
pub mod kbet;
mod lanczos;
pub mod lisi;
pub mod regression;
pub mod silhouette;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::Error;
use super::graph::Graph;
use super::neighbors::Neighbors;

/// Neighbors of each cell, itself included, that LISI is computed from.
pub const LISI_NEIGHBORS: usize = 90;
/// Neighbors of each cell, itself included, that the graph for kBET is made of.
pub const KBET_NEIGHBORS: usize = 50;
/// Neighbors of each cell, itself included, that the graph for graph connectivity (and clusters) is made of.
pub const GRAPH_NEIGHBORS: usize = 15;

/// Inputs of the scores of one embedding.
#[derive(Debug, Clone, Copy)]
pub struct Integration<'a> {
    /// [cells, dimensions], finite.
    pub embedding: ArrayView2<'a, f64>,
    /// Cell type of each cell, if known.
    pub labels: Option<&'a [usize]>,
    /// Batch of each cell, if there are batches.
    pub batches: Option<&'a [usize]>,
    /// The [`LISI_NEIGHBORS`] nearest cells of each cell.
    pub neighbors: &'a Neighbors,
    /// Connectivities of the [`GRAPH_NEIGHBORS`] nearest cells.
    pub graph: &'a Graph,
    /// Connectivities of the [`KBET_NEIGHBORS`] nearest cells.
    pub kbet_graph: &'a Graph,
    /// How well clusters agree with labels: normalized mutual information, adjusted Rand index.
    pub nmi: Option<f64>,
    pub ari: Option<f64>,
    /// Fraction of variance explained by the batch before and after integration.
    pub pcr_before: Option<f64>,
    pub pcr_after: Option<f64>,
}

/// Scores of one embedding.
///
/// Without labels only `ilisi` and the three of principal component regression are known; without batches, or with one
/// batch, neither these four nor `asw_batch`, `kbet` and `isolated_labels`. An average needs all of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    pub nmi: Option<f64>,
    pub ari: Option<f64>,
    pub asw_label: Option<f64>,
    pub isolated_labels: Option<f64>,
    pub clisi: Option<f64>,
    pub asw_batch: Option<f64>,
    pub graph_connectivity: Option<f64>,
    pub ilisi: Option<f64>,
    pub kbet: Option<f64>,
    /// Fraction of variance explained by the batch: lower is better for these two.
    pub pcr_before: Option<f64>,
    pub pcr_after: Option<f64>,
    pub pcr_comparison: Option<f64>,
    /// Mean of NMI, ARI and ASW of labels.
    pub avg_bio: Option<f64>,
    /// Mean of graph connectivity and ASW of batches.
    pub avg_batch: Option<f64>,
    /// 0.6 `avg_bio` + 0.4 `avg_batch`.
    pub overall: Option<f64>,
}

/// Computes all scores that the inputs allow.
///
/// Fails unless there is one label, batch, row of neighbors and graph node per cell, on values that are not finite and on
/// invalid graphs.
pub fn score(inputs: &Integration<'_>) -> Result<Scores, Error> {
    let with_labels = match inputs.labels {
        Some(labels) => score_labels(inputs, labels)?,
        None => Scores::default(),
    };
    let ilisi = match inputs.batches {
        Some(batches) => lisi::ilisi(inputs.neighbors, batches)?,
        None => None,
    };
    let comparison = inputs.pcr_before.zip(inputs.pcr_after);
    let scores = Scores {
        nmi: inputs.nmi,
        ari: inputs.ari,
        ilisi,
        pcr_before: inputs.pcr_before,
        pcr_after: inputs.pcr_after,
        pcr_comparison: comparison.and_then(|(before, after)| regression::compare(before, after)),
        ..with_labels
    };
    Ok(scores.with_averages())
}

fn score_labels(inputs: &Integration<'_>, labels: &[usize]) -> Result<Scores, Error> {
    let silhouettes = silhouette::samples(inputs.embedding, labels)?;
    let mut scores = Scores {
        asw_label: silhouettes.as_deref().and_then(silhouette::rescaled_mean),
        clisi: lisi::clisi(inputs.neighbors, labels)?,
        graph_connectivity: connectivity::score(inputs.graph, labels)?,
        ..Scores::default()
    };
    if let Some(batches) = inputs.batches {
        scores.asw_batch = silhouette::asw_batch(inputs.embedding, labels, batches)?;
        scores.kbet = kbet::score(inputs.kbet_graph, labels, batches)?;
        if let Some(silhouettes) = silhouettes {
            scores.isolated_labels = isolated::score(&silhouettes, labels, batches)?;
        }
    }
    Ok(scores)
}

impl Scores {
    /// Fills in the averages from their parts.
    #[must_use]
    pub fn with_averages(self) -> Self {
        let avg_bio = average([self.nmi, self.ari, self.asw_label]);
        let avg_batch = average([self.graph_connectivity, self.asw_batch]);
        let overall = avg_bio.zip(avg_batch);
        Self {
            avg_bio,
            avg_batch,
            overall: overall.map(|(bio, batch)| 0.6 * bio + 0.4 * batch),
            ..self
        }
    }
}

/// Mean of the parts if all are known.
fn average<const N: usize>(parts: [Option<f64>; N]) -> Option<f64> {
    let sum: Option<f64> = parts.into_iter().sum();
    sum.map(|sum| sum / N as f64)
}

/// Mean of the values that are known, if any is.
fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut count = 0;
    let sum: f64 = values.into_iter().inspect(|_| count += 1).sum();
    (count > 0).then(|| sum / f64::from(count))
}

/// Class codes made consecutive, in the order of the given codes.
struct Classes {
    codes: Vec<usize>,
    /// Cells of each class: at least one.
    counts: Vec<usize>,
}

impl Classes {
    fn new(given: &[usize]) -> Self {
        let mut distinct = given.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut counts = vec![0; distinct.len()];
        let place = |code: &usize| distinct.partition_point(|other| other < code);
        let codes: Vec<usize> = given.iter().map(place).collect();
        codes.iter().for_each(|&code| counts[code] += 1);
        Self { codes, counts }
    }

    /// Number of classes.
    fn len(&self) -> usize {
        self.counts.len()
    }

    /// Cells of each class, by increasing index.
    fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.len()];
        for (cell, &code) in self.codes.iter().enumerate() {
            members[code].push(cell);
        }
        members
    }
}

/// The values of some cells.
fn pick(values: &[usize], cells: &[usize]) -> Vec<usize> {
    cells.iter().map(|&cell| values[cell]).collect()
}

fn require_one_per_cell(what: &'static str, found: usize, cells: usize) -> Result<(), Error> {
    if found == cells {
        Ok(())
    } else {
        Err(Error::OnePerCell { what, found, cells })
    }
}

#[cfg(test)]
mod tests;
