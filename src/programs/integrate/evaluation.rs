//! Integration metrics of the embedding and of baselines.

use std::collections::BTreeMap;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::Options;
use super::data::Data;
use crate::analysis::agreement::{adjusted_rand, normalized_mutual_information};
use crate::analysis::graph::Graph;
use crate::analysis::harmony::{Harmony, harmony};
use crate::analysis::integration::{
    self, GRAPH_NEIGHBORS, Integration, KBET_NEIGHBORS, LISI_NEIGHBORS, Scores, regression,
};
use crate::analysis::leiden::leiden;
use crate::analysis::neighbors::{Metric, Neighbors, nearest};
use crate::analysis::projection::Pca;
use crate::baselines;
use crate::cells::cohort::ModalityKind;
use crate::expression::state::State;
use crate::run_record::Run;

/// Components of the baselines, and of the regression of components on batches.
const COMPONENTS: usize = 50;
/// Highly variable genes of the baselines.
const GENES: usize = 2000;
/// Resolutions of Leiden clusters, of which those that fit the labels best are used (docs/methods.md, "Integration metrics").
const RESOLUTIONS: [f64; 10] = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0];

/// Metrics of the embedding of the cells `[cells, embedding dimension]` and of baselines, by name.
pub fn score(
    options: &Options,
    data: &Data,
    (vectors, placed): (&Array2<f64>, &[usize]),
    run: &mut Run,
) -> Result<Vec<(String, Scores)>> {
    let scorer = Scorer::new(data, placed);
    // Stages time the methods; scoring is not part of them.
    let principal = run.stage("pca", |_| components(data, placed))?;
    let before = principal
        .as_ref()
        .map(|pca| scorer.batch_effect(pca.view()))
        .transpose()?
        .flatten();
    let score = |name: &str, vectors: &Array2<f64>| -> Result<(String, Scores)> {
        Ok((name.to_owned(), scorer.score(vectors.view(), before)?))
    };
    let mut table = vec![score("scGPT", vectors)?];
    if let Some(principal) = principal.filter(|_| options.baselines) {
        table.push(score("PCA", &principal)?);
        if scorer.batches.is_some() {
            let batches: Vec<usize> = placed
                .iter()
                .map(|&cell| data.batches[cell] as usize)
                .collect();
            let corrected = run.stage("harmony", |_| {
                harmony(
                    principal.view(),
                    &batches,
                    &Harmony::default(),
                    options.seed,
                )
            })?;
            table.push(score("Harmony", &corrected)?);
        }
    }
    let by_method: Map<String, Value> = table
        .iter()
        .map(|(name, scores)| Ok((name.clone(), serde_json::to_value(scores)?)))
        .collect::<Result<_>>()?;
    run.metric("scores", &by_method);
    Ok(table)
}

/// Principal components of log-normalized highly variable genes: the cells before integration. None without gene expression of
/// all cells.
fn components(data: &Data, placed: &[usize]) -> Result<Option<Array2<f64>>> {
    let rna = data.cohort.modality(ModalityKind::Rna);
    let Some(rna) = rna.filter(|rna| placed.iter().all(|&cell| rna.measured[cell])) else {
        return Ok(None);
    };
    let values = match rna.state {
        State::LogNormalized => baselines::Values::Log1p,
        _ => baselines::Values::Raw,
    };
    let counts = rna.counts.select_cells(placed);
    let codes: Vec<u32> = placed
        .iter()
        .map(|&cell| data.batches[cell] as u32)
        .collect();
    Ok(Some(baselines::principal_components(
        &counts,
        values,
        (GENES, COMPONENTS),
        &codes,
    )?))
}

/// Labels and batches that an embedding is scored with.
struct Scorer {
    /// Rows that have a label, and class codes of them; all rows without labels.
    rows: Vec<usize>,
    labels: Option<Vec<usize>>,
    batches: Option<Vec<usize>>,
}

impl Scorer {
    fn new(data: &Data, placed: &[usize]) -> Self {
        let label = |cell: usize| {
            data.labels
                .as_ref()
                .and_then(|labels| labels[cell].as_ref())
        };
        let labeled: Vec<usize> = (0..placed.len())
            .filter(|&row| label(placed[row]).is_some())
            .collect();
        let rows = if labeled.is_empty() {
            (0..placed.len()).collect()
        } else {
            labeled
        };
        let mut codes: BTreeMap<&String, usize> = BTreeMap::new();
        let names: Vec<Option<&String>> = rows.iter().map(|&row| label(placed[row])).collect();
        names.iter().flatten().for_each(|name| {
            codes.insert(name, 0);
        });
        codes
            .values_mut()
            .enumerate()
            .for_each(|(code, slot)| *slot = code);
        let labels: Option<Vec<usize>> = names
            .iter()
            .map(|name| name.map(|name| codes[name]))
            .collect();
        let batches: Vec<usize> = rows
            .iter()
            .map(|&row| data.batches[placed[row]] as usize)
            .collect();
        let several = batches.iter().any(|batch| *batch != batches[0]);
        Self {
            labels: labels.filter(|_| codes.len() > 1),
            batches: several.then_some(batches),
            rows,
        }
    }

    fn score(&self, vectors: ArrayView2<'_, f64>, before: Option<f64>) -> Result<Scores> {
        let vectors = vectors.select(Axis(0), &self.rows);
        let neighbors = nearest(
            vectors.view(),
            vectors.view(),
            LISI_NEIGHBORS,
            Metric::Euclidean,
        )?;
        let graph = Graph::connectivities(&first(&neighbors, GRAPH_NEIGHBORS))?;
        let kbet_graph = Graph::connectivities(&first(&neighbors, KBET_NEIGHBORS))?;
        let agreement = self
            .labels
            .as_ref()
            .map(|labels| best_agreement(&graph, labels))
            .transpose()?;
        let after = match self.batches {
            Some(_) => self.effect(vectors.view())?,
            None => None,
        };
        Ok(integration::score(&Integration {
            embedding: vectors.view(),
            labels: self.labels.as_deref(),
            batches: self.batches.as_deref(),
            neighbors: &neighbors,
            graph: &graph,
            kbet_graph: &kbet_graph,
            nmi: agreement.map(|(nmi, _)| nmi),
            ari: agreement.map(|(_, ari)| ari),
            pcr_before: before,
            pcr_after: after,
        })?)
    }

    /// Fraction of the variance explained by the batch.
    fn batch_effect(&self, vectors: ArrayView2<'_, f64>) -> Result<Option<f64>> {
        self.effect(vectors.select(Axis(0), &self.rows).view())
    }

    fn effect(&self, vectors: ArrayView2<'_, f64>) -> Result<Option<f64>> {
        let Some(batches) = &self.batches else {
            return Ok(None);
        };
        let pca = Pca::fit(vectors, COMPONENTS)?;
        let scores = pca.transform(vectors)?;
        Ok(regression::principal_component_regression(
            scores.view(),
            &pca.explained_variance,
            batches,
        )?)
    }
}

/// The nearest of the neighbors of each cell.
pub fn first(neighbors: &Neighbors, k: usize) -> Neighbors {
    let k = k.min(neighbors.indices.ncols());
    Neighbors {
        indices: neighbors.indices.slice(s![.., ..k]).to_owned(),
        distances: neighbors.distances.slice(s![.., ..k]).to_owned(),
    }
}

/// NMI and ARI of labels with clusters at the resolution of the highest NMI.
fn best_agreement(graph: &Graph, labels: &[usize]) -> Result<(f64, f64)> {
    let at = |resolution: &f64| -> Result<(f64, f64)> {
        let clusters = leiden(graph, *resolution, 0)?;
        let nmi = normalized_mutual_information(labels, &clusters);
        Ok((nmi, adjusted_rand(labels, &clusters)))
    };
    let all: Vec<(f64, f64)> = RESOLUTIONS.par_iter().map(at).collect::<Result<_>>()?;
    Ok(all.into_iter().fold(
        (f64::MIN, 0.0),
        |best, found| if found.0 > best.0 { found } else { best },
    ))
}

type Column = (&'static str, fn(&Scores) -> Option<f64>);

/// Metrics by their usual names, in the order of the table.
const COLUMNS: [Column; 15] = [
    ("overall", |s| s.overall),
    ("avg_bio", |s| s.avg_bio),
    ("avg_batch", |s| s.avg_batch),
    ("nmi", |s| s.nmi),
    ("ari", |s| s.ari),
    ("asw_label", |s| s.asw_label),
    ("asw_batch", |s| s.asw_batch),
    ("graph_connectivity", |s| s.graph_connectivity),
    ("pcr_comparison", |s| s.pcr_comparison),
    ("ilisi", |s| s.ilisi),
    ("clisi", |s| s.clisi),
    ("kbet", |s| s.kbet),
    ("isolated_labels", |s| s.isolated_labels),
    ("pcr_before", |s| s.pcr_before),
    ("pcr_after", |s| s.pcr_after),
];

/// The metrics as a printed table.
pub fn text(table: &[(String, Scores)]) -> String {
    let known: Vec<&Column> = COLUMNS[..13]
        .iter()
        .filter(|(_, score)| table.iter().any(|(_, scores)| score(scores).is_some()))
        .collect();
    let header: Vec<String> = table.iter().map(|(name, _)| format!("{name:>8}")).collect();
    let line = |(name, score): &&Column| {
        let cells = table.iter().map(|(_, scores)| {
            score(scores).map_or_else(|| format!("{:>8}", "-"), |value| format!("{value:>8.4}"))
        });
        format!("{name:<20} {}", cells.collect::<Vec<_>>().join(" "))
    };
    let lines: Vec<String> = known.iter().map(line).collect();
    format!("{:<20} {}\n{}", "score", header.join(" "), lines.join("\n"))
}

/// The metrics as TSV; empty where undefined.
pub fn tsv(table: &[(String, Scores)]) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut text = format!("method\t{}\n", names.join("\t"));
    for (name, scores) in table {
        let values = COLUMNS.iter().map(|(_, score)| {
            score(scores).map_or_else(String::new, |value| format!("{value:.6}"))
        });
        text.push_str(&format!(
            "{name}\t{}\n",
            values.collect::<Vec<_>>().join("\t")
        ));
    }
    text
}
