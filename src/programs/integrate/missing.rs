//! Modalities that some cells lack: told by the model, and how well, beside simpler methods.

use anyhow::Result;
use ndarray::{Array2, ArrayView1, Axis};
use serde::Serialize;
use serde_json::{Map, Value};

use super::data::Data;
use super::learner::Learner;
use crate::analysis::nearest_mean::predict_nearest_mean;
use crate::analysis::neighbours::{Metric, nearest};
use crate::analysis::projection::Pca;
use crate::analysis::ridge::{PENALTIES, Ridge};
use crate::progress;
use crate::run_record::Run;

/// Cells whose mean is the simplest guess.
const NEIGHBOURS: usize = 10;
const COMPONENTS: usize = 50;

/// How well hidden values are told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Told {
    /// Mean over features of the correlation with the true values over cells; features that do not vary are left out.
    pub correlation: f64,
    /// Mean squared error over cells and features.
    pub squared_error: f64,
}

/// The values of a part of the data for all cells `[cells, features]`: measured where they were, else told.
pub fn complete(
    data: &Data,
    learner: &Learner,
    part: usize,
    placed: &[usize],
    threads: usize,
) -> Array2<f64> {
    let mut values = learner.reader.values(data, part, placed);
    let lacking: Vec<usize> = (0..placed.len())
        .filter(|&row| !data.parts[part].measured[placed[row]])
        .collect();
    let cells: Vec<usize> = lacking.iter().map(|&row| placed[row]).collect();
    let told = learner.tell(data, part, &cells, threads);
    for (row, told) in lacking.into_iter().zip(told.rows()) {
        values.row_mut(row).assign(&told);
    }
    values
}

/// Scores what the model tells of the hidden modality, beside the mean of the nearest cells and ridge regression.
pub fn score(data: &Data, learner: &Learner, run: &mut Run) -> Result<Vec<(String, Told)>> {
    let Some((part, hidden)) = data.hidden.as_ref().filter(|_| learner.tells()) else {
        return Ok(Vec::new());
    };
    let others: Vec<usize> = (0..data.parts.len())
        .filter(|other| other != part)
        .collect();
    let complete = |cell: &usize| {
        others
            .iter()
            .chain([part])
            .all(|&at| data.parts[at].measured[*cell])
    };
    let known: Vec<usize> = (0..data.n_cells()).filter(complete).collect();
    let hidden: Vec<usize> = hidden
        .iter()
        .copied()
        .filter(|&cell| others.iter().all(|&at| data.parts[at].measured[cell]))
        .collect();
    if known.len() < 2 || hidden.is_empty() {
        run.warning("no cell is left to score the hidden modality on");
        return Ok(Vec::new());
    }
    let truth = learner.reader.values(data, *part, &hidden);
    let told = learner.tell(data, *part, &hidden, run.threads());
    let predictors = |cells: &[usize]| -> Array2<f64> {
        let blocks: Vec<Array2<f64>> = others
            .iter()
            .map(|&at| learner.reader.values(data, at, cells))
            .collect();
        let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        ndarray::concatenate(Axis(1), &views).expect("a row for every cell")
    };
    let (known_x, hidden_x) = (predictors(&known), predictors(&hidden));
    let pca = Pca::fit(known_x.view(), COMPONENTS)?;
    let (x, asked) = (
        pca.transform(known_x.view())?,
        pca.transform(hidden_x.view())?,
    );
    let y = learner.reader.values(data, *part, &known);
    let neighbours = nearest(asked.view(), x.view(), NEIGHBOURS, Metric::Euclidean)?;
    let near = predict_nearest_mean(&neighbours, y.view());
    let ridge = Ridge::fit_chosen(x.view(), y.view(), &PENALTIES)?.predict(asked.view())?;
    let table: Vec<(String, Told)> = [
        ("scGPT", told),
        ("nearest cells", near),
        ("ridge regression", ridge),
    ]
    .into_iter()
    .map(|(name, predicted)| (name.to_owned(), compare(&predicted, &truth)))
    .collect();
    progress::result(&text(&table, data.parts[*part].kind.name()));
    let by_method: Map<String, Value> = table
        .iter()
        .map(|(name, told)| Ok((name.clone(), serde_json::to_value(told)?)))
        .collect::<Result<_>>()?;
    run.metric("hidden_modality", &by_method);
    Ok(table)
}

fn compare(predicted: &Array2<f64>, truth: &Array2<f64>) -> Told {
    let columns = predicted.columns().into_iter().zip(truth.columns());
    let correlations: Vec<f64> = columns.filter_map(|(p, t)| correlation(p, t)).collect();
    let squares = (predicted - truth).mapv(|difference| difference * difference);
    Told {
        correlation: correlations.iter().sum::<f64>() / correlations.len().max(1) as f64,
        squared_error: squares.mean().unwrap_or(f64::NAN),
    }
}

/// Pearson's correlation; 0 for a guess that does not vary, none for a truth that does not.
fn correlation(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> Option<f64> {
    let centred = |x: ArrayView1<'_, f64>| &x - x.mean().unwrap_or(0.0);
    let (a, b) = (centred(a), centred(b));
    let (aa, bb) = (a.dot(&a), b.dot(&b));
    (bb > 0.0).then(|| {
        if aa > 0.0 {
            a.dot(&b) / (aa * bb).sqrt()
        } else {
            0.0
        }
    })
}

fn text(table: &[(String, Told)], kind: &str) -> String {
    let line = |(name, told): &(String, Told)| {
        format!(
            "{name:<20} {:>11.4} {:>13.4}",
            told.correlation, told.squared_error
        )
    };
    let lines: Vec<String> = table.iter().map(line).collect();
    let header = format!("hidden {kind}");
    format!(
        "{header:<20} {:>11} {:>13}\n{}",
        "correlation",
        "squared error",
        lines.join("\n")
    )
}
