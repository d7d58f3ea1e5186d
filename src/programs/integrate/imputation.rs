//! Imputation of missing modalities, and its evaluation against baselines.

use anyhow::Result;
use ndarray::{Array2, ArrayView1, Axis};
use serde::Serialize;
use serde_json::{Map, Value};

use super::data::Data;
use super::{Options, task};
use crate::analysis::knn_regression::predict_nearest_mean;
use crate::analysis::neighbors::{Metric, nearest};
use crate::analysis::projection::Pca;
use crate::analysis::ridge::{PENALTIES, Ridge};
use crate::progress;
use crate::run_record::Run;
use crate::trainer::Trained;

/// Number of nearest cells whose mean is a baseline.
const NEIGHBORS: usize = 10;
const COMPONENTS: usize = 50;

/// Metrics of imputed values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Imputed {
    /// Mean over features of the correlation with the true values over cells; features that do not vary are dropped.
    pub correlation: f64,
    /// Mean squared error over cells and features.
    pub squared_error: f64,
}

/// Values of a modality for all cells, `[cells, features]`: measured values, predicted ones where not measured.
pub fn complete(
    data: &Data,
    trained: Trained<'_, Options>,
    part: usize,
    placed: &[usize],
    threads: usize,
) -> Array2<f64> {
    let mut values = trained.reader.values(data, part, placed);
    let lacking: Vec<usize> = (0..placed.len())
        .filter(|&row| !data.parts[part].measured[placed[row]])
        .collect();
    let cells: Vec<usize> = lacking.iter().map(|&row| placed[row]).collect();
    let predicted = task::predict(trained, part, &cells, threads);
    for (row, predicted) in lacking.into_iter().zip(predicted.rows()) {
        values.row_mut(row).assign(&predicted);
    }
    values
}

/// Evaluates imputation of the masked modality, compared with the mean of the nearest cells and ridge regression.
pub fn score(trained: Trained<'_, Options>, run: &mut Run) -> Result<Vec<(String, Imputed)>> {
    let data = trained.data;
    let masked = data.masked.as_ref();
    let masked = masked.filter(|_| trained.network.has_mvc_decoder());
    let Some((part, masked)) = masked else {
        return Ok(Vec::new());
    };
    let others = (0..data.parts.len()).filter(|other| other != part);
    let others: Vec<usize> = others.collect();
    let complete = |cell: &usize| {
        others
            .iter()
            .chain([part])
            .all(|&at| data.parts[at].measured[*cell])
    };
    let known: Vec<usize> = (0..data.n_cells()).filter(complete).collect();
    let masked: Vec<usize> = masked
        .iter()
        .copied()
        .filter(|&cell| others.iter().all(|&at| data.parts[at].measured[cell]))
        .collect();
    if known.len() < 2 || masked.is_empty() {
        run.warning("no cells left to evaluate the masked modality on");
        return Ok(Vec::new());
    }
    let truth = trained.reader.values(data, *part, &masked);
    let predicted = task::predict(trained, *part, &masked, run.threads());
    let predictors = |cells: &[usize]| -> Array2<f64> {
        let blocks: Vec<Array2<f64>> = others
            .iter()
            .map(|&at| trained.reader.values(data, at, cells))
            .collect();
        let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        ndarray::concatenate(Axis(1), &views).expect("a row for every cell")
    };
    let (known_x, masked_x) = (predictors(&known), predictors(&masked));
    let pca = Pca::fit(known_x.view(), COMPONENTS)?;
    let x = pca.transform(known_x.view())?;
    let queries = pca.transform(masked_x.view())?;
    let y = trained.reader.values(data, *part, &known);
    let neighbors = nearest(queries.view(), x.view(), NEIGHBORS, Metric::Euclidean)?;
    let near = predict_nearest_mean(&neighbors, y.view());
    let ridge = Ridge::fit_chosen(x.view(), y.view(), &PENALTIES)?.predict(queries.view())?;
    let table: Vec<(String, Imputed)> = [
        ("scGPT", predicted),
        ("nearest cells", near),
        ("ridge regression", ridge),
    ]
    .into_iter()
    .map(|(name, predicted)| (name.to_owned(), compare(&predicted, &truth)))
    .collect();
    progress::result(&text(&table, data.parts[*part].kind.name()));
    let by_method: Map<String, Value> = table
        .iter()
        .map(|(name, predicted)| Ok((name.clone(), serde_json::to_value(predicted)?)))
        .collect::<Result<_>>()?;
    run.metric("masked_modality", &by_method);
    Ok(table)
}

fn compare(predicted: &Array2<f64>, truth: &Array2<f64>) -> Imputed {
    let columns = predicted.columns().into_iter().zip(truth.columns());
    let correlations: Vec<f64> = columns.filter_map(|(p, t)| correlation(p, t)).collect();
    let squares = (predicted - truth).mapv(|difference| difference * difference);
    Imputed {
        correlation: correlations.iter().sum::<f64>() / correlations.len().max(1) as f64,
        squared_error: squares.mean().unwrap_or(f64::NAN),
    }
}

/// Pearson correlation; 0 for predictions that do not vary, none for true values that do not.
fn correlation(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> Option<f64> {
    let centered = |x: ArrayView1<'_, f64>| &x - x.mean().unwrap_or(0.0);
    let (a, b) = (centered(a), centered(b));
    let (aa, bb) = (a.dot(&a), b.dot(&b));
    (bb > 0.0).then(|| {
        if aa > 0.0 {
            a.dot(&b) / (aa * bb).sqrt()
        } else {
            0.0
        }
    })
}

fn text(table: &[(String, Imputed)], kind: &str) -> String {
    let line = |(name, predicted): &(String, Imputed)| {
        format!(
            "{name:<20} {:>11.4} {:>13.4}",
            predicted.correlation, predicted.squared_error
        )
    };
    let lines: Vec<String> = table.iter().map(line).collect();
    let header = format!("masked {kind}");
    format!(
        "{header:<20} {:>11} {:>13}\n{}",
        "correlation",
        "squared error",
        lines.join("\n")
    )
}
