//! Evaluation of the model and the baselines on the test cells.

use anyhow::Result;
use serde_json::{Map, Value};

use super::Options;
use super::data::Data;
use crate::analysis::classification::{self, Scores};
use crate::baselines::{self, Labeled, Prediction, Space, Values};
use crate::expression::state::State;
use crate::figures;
use crate::predict::annotation::probabilities;
use crate::progress;
use crate::run_record::Run;
use crate::trainer::{Files, Trained};

/// Evaluates the model and the baselines on the test cells; returns the files to save with the model.
pub fn test(options: &Options, trained: Trained<'_, Options>, run: &mut Run) -> Result<Files> {
    let data = trained.data;
    if data.split.test.is_empty() {
        run.note("no test cells: evaluation skipped");
        return Ok(Vec::new());
    }
    let truth = data.classes_of(&data.split.test);
    let best =
        |row: &Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    let predicted: Vec<Option<usize>> = run
        .stage("predict", |run| {
            predict(trained, &data.split.test, run.threads())
        })
        .iter()
        .map(best)
        .collect();
    let scores = classification::score(&truth, &predicted, &data.class_names)?;
    let mut table = vec![("scGPT".to_owned(), scores.clone())];
    if options.baselines {
        table.extend(baseline_scores(data, &truth, run)?);
    }
    progress::result(&table_text(&table));
    let by_method: Map<String, Value> = table
        .iter()
        .map(|(name, scores)| Ok((name.clone(), serde_json::to_value(scores)?)))
        .collect::<Result<_>>()?;
    run.metric("test", &by_method);
    Ok(vec![
        (
            "test_metrics.json".into(),
            serde_json::to_vec_pretty(&by_method)?,
        ),
        ("test_metrics.tsv".into(), table_tsv(&table).into_bytes()),
        (
            "confusion.tsv".into(),
            confusion_tsv(&scores, &data.class_names).into_bytes(),
        ),
        (
            "confusion.svg".into(),
            figures::confusion_matrix(&scores.confusion, &data.class_names, "Test cells")
                .into_bytes(),
        ),
    ])
}

/// Class probabilities of some cells, in their order.
fn predict(
    Trained {
        data,
        reader,
        network,
    }: Trained<'_, Options>,
    cells: &[usize],
    threads: usize,
) -> Vec<Vec<f32>> {
    // Cells are tokenized under their index in the file, as in training.
    network
        .workers(threads)
        .rows_of((reader, &data.counts, cells), probabilities)
}

/// Scores of the baselines on the same cells and genes.
fn baseline_scores(data: &Data, truth: &[usize], run: &mut Run) -> Result<Vec<(String, Scores)>> {
    let training: Vec<usize> = [&data.split.training[..], &data.split.validation].concat();
    let labels: Vec<u32> = data
        .classes_of(&training)
        .into_iter()
        .map(|class| class as u32)
        .collect();
    let counts = data.all_genes.select_cells(&training);
    let values = if data.state == State::RawCounts {
        Values::Raw
    } else {
        Values::Log1p
    };
    let known = Labeled {
        counts: &counts,
        labels: &labels,
    };
    let options = baselines::Options {
        genes: data.counts.n_genes,
        ..baselines::Options::default()
    };
    let test = data.all_genes.select_cells(&data.split.test);
    let space = run.stage("pca", |_| Space::new(known, &test, values, options))?;
    let logistic = run.stage("pca_logistic_regression", |_| space.logistic())?;
    let neighbors = run.stage("pca_knn", |_| space.neighbors())?;
    let score = |name: &str, found: Prediction| -> Result<(String, Scores)> {
        let predicted = found.classes.iter().map(|&class| Some(class as usize));
        let predicted: Vec<Option<usize>> = predicted.collect();
        let scores = classification::score(truth, &predicted, &data.class_names)?;
        Ok((name.to_owned(), scores))
    };
    Ok(vec![
        score("PCA + logistic regression", logistic)?,
        score("PCA + nearest neighbors", neighbors)?,
    ])
}

fn table_text(table: &[(String, Scores)]) -> String {
    let line = |(name, scores): &(String, Scores)| {
        format!(
            "{name:<26} {:>8.4} {:>9.4} {:>12.4}",
            scores.accuracy, scores.macro_average.f1, scores.weighted_average.f1
        )
    };
    let lines: Vec<String> = table.iter().map(line).collect();
    format!(
        "{:<26} {:>8} {:>9} {:>12}\n{}",
        "test cells",
        "accuracy",
        "macro F1",
        "weighted F1",
        lines.join("\n")
    )
}

fn table_tsv(table: &[(String, Scores)]) -> String {
    let mut text = String::from(
        "method\taccuracy\tmacro_precision\tmacro_recall\tmacro_f1\tweighted_precision\tweighted_recall\tweighted_f1\n",
    );
    for (name, scores) in table {
        let (m, w) = (&scores.macro_average, &scores.weighted_average);
        let numbers = [
            scores.accuracy,
            m.precision,
            m.recall,
            m.f1,
            w.precision,
            w.recall,
            w.f1,
        ];
        let numbers: Vec<String> = numbers
            .iter()
            .map(|number| format!("{number:.6}"))
            .collect();
        text.push_str(&format!("{name}\t{}\n", numbers.join("\t")));
    }
    text
}

/// Confusion matrix: true cell types in rows, predicted cell types in columns.
fn confusion_tsv(scores: &Scores, names: &[String]) -> String {
    let mut text = format!("true\t{}\tunassigned\n", names.join("\t"));
    for (name, row) in names.iter().zip(&scores.confusion) {
        let counts: Vec<String> = row.iter().map(u64::to_string).collect();
        text.push_str(&format!("{name}\t{}\n", counts.join("\t")));
    }
    text
}
