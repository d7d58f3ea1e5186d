//! scGPT compared with baselines: metrics, time, memory, and settings of runs.

use std::collections::HashSet;

use maud::{Markup, html};
use serde_json::Value;

use super::runs::first;
use crate::report::collect::Found;
use crate::report::content::Content;
use crate::report::figures::bars::{Bar, bars};
use crate::report::html::{Cell, Table, bytes, empty, figure, plural, seconds, shortened};
use crate::report::provenance::{self, Training};
use crate::report::scores::{self, Row};

/// Maximum number of bars of a figure.
const BARS: usize = 24;
/// Maximum number of rows of a table.
const ROWS: usize = 500;
/// Integration scores: key, name; the first three summarize the others.
const INTEGRATION: [(&str, &str); 12] = [
    ("overall", "overall"),
    ("avg_bio", "AvgBIO"),
    ("avg_batch", "AvgBATCH"),
    ("nmi", "NMI"),
    ("ari", "ARI"),
    ("asw_label", "ASW of cell types"),
    ("asw_batch", "ASW of batches"),
    ("graph_connectivity", "connectivity"),
    ("pcr_comparison", "PCR comparison"),
    ("ilisi", "iLISI"),
    ("clisi", "cLISI"),
    ("kbet", "kBET"),
];
/// Scores of perturbation response prediction.
const PERTURBATION: [(&str, &str); 5] = [
    ("pearson_delta", "Pearson delta"),
    ("pearson_de_delta", "Pearson delta, DE genes"),
    ("mse", "MSE"),
    ("mse_de", "MSE, DE genes"),
    ("discrimination", "discrimination"),
];
/// Settings that distinguish runs: option, heading.
const SETTINGS: [(&str, &str); 14] = [
    ("checkpoint", "checkpoint"),
    ("labels", "labels"),
    ("batch", "batches"),
    ("zero_shot", "zero-shot"),
    ("freeze", "frozen"),
    ("n_layers", "layers"),
    ("embedding_dim", "embedding dimension"),
    ("n_heads", "heads"),
    ("value_encoding", "value encoder"),
    ("n_hvg", "variable genes"),
    ("max_length", "maximum length"),
    ("epochs", "epochs"),
    ("learning_rate", "learning rate"),
    ("precision", "precision"),
];

/// The tab.
pub fn section(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    let (annotated, integrated, predicted, imputed) = (
        scores::annotation(runs),
        scores::integration(runs),
        scores::perturbation(runs),
        scores::imputation(runs),
    );
    html! {
        h3.part { "Cell type annotation" }
        @if annotated.is_empty() { (empty("No annotation scores.", "Provide a run of scgpt-finetune-annotation (with --baselines), or of scgpt-annotate or scgpt-map-reference query with --true-labels, to show this section.")) }
        (accuracy(&annotated, runs))
        h3.part { "Integration" }
        @if integrated.is_empty() { (empty("No integration scores.", "Provide a run of scgpt-integrate with --labels or --batch and --baselines to show this section; --zero-shot evaluates a pre-trained model without training.")) }
        (integration(&integrated, runs))
        h3.part { "Perturbation response prediction" }
        @if predicted.is_empty() { (empty("No predicted perturbations.", "Provide a run of scgpt-finetune-perturbation with held-out perturbations to show this section.")) }
        (perturbation(&predicted, runs))
        (reverse_perturbation(runs))
        h3.part { "Imputation" }
        @if imputed.is_empty() { (empty("No imputation results.", "Provide a run of scgpt-generate with --held-out-fraction, or of scgpt-integrate with --mask-modality, to show this section.")) }
        (imputation(&imputed, runs))
        (pretraining(runs))
        h3.part { "Time and memory" }
        (cost(&annotated, &integrated, &predicted, runs))
        h3.part { "Settings" }
        (settings(runs))
    }
}

/// The two figures of the overview.
pub fn summary(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    let (annotated, integrated) = (scores::annotation(runs), scores::integration(runs));
    html! {
        @if annotated.is_empty() && integrated.is_empty() { (empty("Nothing to compare.", "Provide runs of scgpt-finetune-annotation or scgpt-integrate with --baselines to show this section.")) }
        div.pair { (accuracy_figure(&annotated, runs)) (integration_figure(&integrated, runs)) }
    }
}

fn accuracy(rows: &[Row], runs: &[Found]) -> Markup {
    let note = "Macro averages weight all classes equally. Zero-shot rows are from runs that used a pre-trained model without training. The label transfer time is that of the search, without the embedding of the cells.";
    let mut table = Table::new(
        "Accuracy of methods",
        note,
        &[
            "method",
            "model",
            "data",
            "cells",
            "accuracy",
            "precision (macro)",
            "recall (macro)",
            "F1 (macro)",
            "F1 (weighted)",
            "time",
            "peak memory",
            "run",
        ],
    );
    for row in rows {
        let mut cells = beginning(row);
        cells.push(Cell::number(row.score(&["n_cells"]), 0));
        let paths: [&[&str]; 5] = [
            &["accuracy"],
            &["macro", "precision"],
            &["macro", "recall"],
            &["macro", "f1"],
            &["weighted", "f1"],
        ];
        cells.extend(paths.map(|path| Cell::number(row.score(path), 3)));
        cells.extend(end(row, runs));
        table.rows.push(cells);
    }
    html! { (accuracy_figure(rows, runs)) (limited(table)) }
}

fn accuracy_figure(rows: &[Row], runs: &[Found]) -> Markup {
    let takeaway = headline(rows, runs, &["accuracy"], "accuracy");
    score_figure(
        rows,
        &["accuracy"],
        "Accuracy of methods",
        "accuracy",
        &takeaway,
    )
}

fn integration_figure(rows: &[Row], runs: &[Found]) -> Markup {
    let has_all = rows.iter().any(|row| row.score(&["overall"]).is_some());
    let (key, name) = if has_all {
        ("overall", "overall integration score")
    } else {
        ("avg_bio", "AvgBIO")
    };
    score_figure(
        rows,
        &[key],
        "Integration of methods",
        name,
        &headline(rows, runs, &[key], name),
    )
}

fn score_figure(rows: &[Row], path: &[&str], title: &str, axis: &str, takeaway: &str) -> Markup {
    let is_many = rows.iter().any(|row| row.data != rows[0].data);
    let name = |row: &Row| {
        if is_many {
            format!("{}: {}", row.name(), row.data)
        } else {
            row.name()
        }
    };
    let mut drawn: Vec<Bar> = rows
        .iter()
        .filter_map(|row| {
            Some(Bar {
                name: name(row),
                value: row.score(path)?,
                group: usize::from(!row.is_ours()),
            })
        })
        .collect();
    if drawn.is_empty() {
        return html! {};
    }
    drawn.sort_by(|a, b| {
        b.value
            .total_cmp(&a.value)
            .then_with(|| a.name.cmp(&b.name))
    });
    drawn.dedup_by(|a, b| a.name == b.name && a.value == b.value);
    let note = if drawn.len() > BARS {
        format!(" Only the {BARS} best of {} are plotted.", drawn.len())
    } else {
        String::new()
    };
    drawn.truncate(BARS);
    figure(
        title,
        &format!("{takeaway}{note}"),
        &bars(
            &drawn,
            axis,
            &|value| format!("{value:.3}"),
            &["scGPT".into(), "other methods".into()],
        ),
    )
}

/// The best scGPT result, compared with the best baseline of the same run and data; and how often scGPT outperforms the
/// baselines.
fn headline(rows: &[Row], runs: &[Found], path: &[&str], what: &str) -> String {
    let Some((ours, score)) = best(rows.iter().filter(|row| row.is_ours()), path) else {
        return String::new();
    };
    let comparison = match best_baseline(rows, ours, path) {
        Some((baseline, other)) => format!(
            ", {} {} with {other:.3}",
            verdict(score, other),
            shortened(&baseline.method)
        ),
        None => "; no baseline available".to_owned(),
    };
    let training = match ours.training {
        Training::Unknown => String::new(),
        known => format!(" ({})", known.name()),
    };
    format!(
        "The best scGPT run, {} on {}{training}, has {what} {score:.3}{comparison}.{}",
        shortened(&provenance::label(ours.run, &runs[ours.run].record)),
        shortened(&ours.data),
        wins(rows, path)
    )
}

fn best<'a>(rows: impl Iterator<Item = &'a Row>, path: &[&str]) -> Option<(&'a Row, f64)> {
    rows.filter_map(|row| Some((row, row.score(path)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The best baseline on the same data in the same run.
fn best_baseline<'a>(rows: &'a [Row], ours: &Row, path: &[&str]) -> Option<(&'a Row, f64)> {
    let is_comparable =
        |row: &&Row| !row.is_ours() && (row.run, &row.data) == (ours.run, &ours.data);
    best(rows.iter().filter(is_comparable), path)
}

fn verdict(score: f64, baseline: f64) -> &'static str {
    if score > baseline {
        "better than"
    } else if score < baseline {
        "worse than"
    } else {
        "equal to"
    }
}

/// In how many comparisons within a run scGPT outperforms the baselines, if there are several scGPT rows.
fn wins(rows: &[Row], path: &[&str]) -> String {
    let ours: Vec<(&Row, f64)> = rows
        .iter()
        .filter(|row| row.is_ours())
        .filter_map(|row| Some((row, row.score(path)?)))
        .collect();
    let compared: Vec<bool> = ours
        .iter()
        .filter_map(|(row, score)| Some(*score > best_baseline(rows, row, path)?.1))
        .collect();
    if ours.len() < 2 || compared.is_empty() {
        return String::new();
    }
    format!(
        " scGPT outperforms the baselines of the same run in {} of {}.",
        compared.iter().filter(|is_win| **is_win).count(),
        plural(compared.len(), "comparison")
    )
}

fn integration(rows: &[Row], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Clustering and integration of methods",
        "Higher is better, 1 is best. The worst is 0, except ARI, which is about 0 for random labels and can be negative (Luecken et al. 2022).",
        &["method", "model", "data"],
    );
    table
        .columns
        .extend(INTEGRATION.map(|(_, name)| name.to_owned()));
    table
        .columns
        .extend(["time", "peak memory", "run"].map(str::to_owned));
    for row in rows {
        let scores = INTEGRATION.map(|(key, _)| Cell::number(row.score(&[key]), 3));
        table.rows.push(
            beginning(row)
                .into_iter()
                .chain(scores)
                .chain(end(row, runs))
                .collect(),
        );
    }
    html! { (integration_figure(rows, runs)) (limited(table)) }
}

fn perturbation(rows: &[(String, Row)], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Predicted perturbations",
        "Means over the held-out perturbations of each group.",
        &["method", "model", "data", "group"],
    );
    table
        .columns
        .extend(PERTURBATION.map(|(_, name)| name.to_owned()));
    table
        .columns
        .extend(["time", "peak memory", "run"].map(str::to_owned));
    for (group, row) in rows {
        let scores = PERTURBATION.map(|(key, _)| Cell::number(row.score(&[key, "mean"]), 3));
        table.rows.push(
            beginning(row)
                .into_iter()
                .chain([Cell::text(group)])
                .chain(scores)
                .chain(end(row, runs))
                .collect(),
        );
    }
    let all: Vec<Row> = rows
        .iter()
        .map(|(group, row)| Row {
            data: format!("{}, {group}", row.data),
            ..row.clone()
        })
        .collect();
    let path = ["pearson_delta", "mean"];
    html! {
        @if !all.is_empty() { (score_figure(&all, &path, "Predicted perturbation responses", "Pearson delta", &headline(&all, runs, &path, "Pearson delta"))) }
        (limited(table))
    }
}

fn beginning(row: &Row) -> Vec<Cell> {
    vec![
        Cell::text(&row.method),
        model(row.training),
        Cell::text(&row.data),
    ]
}

fn model(training: Training) -> Cell {
    match training {
        Training::Unknown => Cell::Missing,
        known => Cell::text(known.name()),
    }
}

fn end(row: &Row, runs: &[Found]) -> [Cell; 3] {
    [
        row.seconds.map_or(Cell::Missing, Cell::Seconds),
        row.memory.map_or(Cell::Missing, Cell::Bytes),
        Cell::text(provenance::label(row.run, &runs[row.run].record)),
    ]
}

/// How often the true perturbation was among the top candidates.
fn reverse_perturbation(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Reverse perturbation: top-k accuracy",
        "Fraction of queries with the true perturbation among the k best candidates; a partial match has a gene in common with it. Random: expected for random candidates.",
        &[
            "run",
            "split",
            "queries",
            "k",
            "accuracy",
            "accuracy, random",
            "partial match",
            "partial match, random",
        ],
    );
    for (at, run) in runs.iter().enumerate() {
        let found = run
            .record
            .metrics
            .get("topk_accuracy")
            .and_then(Value::as_array);
        for hit in found.into_iter().flatten() {
            let number =
                |key: &str, decimals| Cell::number(hit.get(key).and_then(Value::as_f64), decimals);
            table.rows.push(vec![
                Cell::text(provenance::label(at, &run.record)),
                hit.get("split")
                    .and_then(Value::as_str)
                    .map_or(Cell::Missing, Cell::text),
                number("queries", 0),
                number("top_k", 0),
                number("accuracy", 3),
                number("accuracy_random", 3),
                number("partial_match", 3),
                number("partial_match_random", 3),
            ]);
        }
    }
    limited(table)
}

/// Truncates a table to the first rows, with a note.
fn limited(mut table: Table) -> Markup {
    table.note += &first(ROWS, table.rows.len(), "row");
    table.rows.truncate(ROWS);
    table.render()
}

/// Predictions of a masked modality or of held-out genes.
fn imputation(rows: &[Row], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Predicted and true values",
        "Correlation of predicted and true values, higher is better; mean squared error (MSE), lower is better, in squared bins for scgpt-generate.",
        &["method", "model", "data", "correlation", "MSE", "run"],
    );
    for row in rows {
        let error = row.score(&["squared_error"]).or(row.score(&["mse"]));
        let mut cells = beginning(row);
        cells.push(Cell::number(row.score(&["correlation"]), 3));
        cells.push(Cell::number(error, 3));
        cells.push(Cell::text(provenance::label(
            row.run,
            &runs[row.run].record,
        )));
        table.rows.push(cells);
    }
    limited(table)
}

/// Errors of masked value prediction after pre-training.
fn pretraining(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Masked value prediction after pre-training",
        "Mean squared error, lower is better.",
        &["run", "model", "gene mean", "kNN"],
    );
    for (at, run) in runs.iter().enumerate() {
        let error = |path: &[&str]| Cell::number(provenance::number(&run.record.metrics, path), 3);
        if run.record.metrics.contains_key("validation_mse") {
            table.rows.push(vec![
                Cell::text(provenance::label(at, &run.record)),
                error(&["validation_mse", "model"]),
                error(&["validation_mse", "baselines", "baseline_gene_mean"]),
                error(&["validation_mse", "baselines", "baseline_knn"]),
            ]);
        }
    }
    table.render()
}

/// Time and memory of methods, if recorded.
fn cost(
    annotated: &[Row],
    integrated: &[Row],
    predicted: &[(String, Row)],
    runs: &[Found],
) -> Markup {
    let predicted = predicted.iter().map(|(_, row)| row);
    let (times, peaks) = expenses(annotated.iter().chain(integrated).chain(predicted), runs);
    let longest = times.first().map(|bar| {
        format!(
            "Longest: {}, {}. Scoring is excluded; methods that share a stage have no separate time.",
            shortened(&bar.name),
            seconds(bar.value)
        )
    });
    let most = "Maximum memory of the process while the method ran, including data and program.";
    html! {
        @if times.is_empty() { (empty("No times.", "Provide run records of the programs above to show this section.")) }
        @else { (cost_figure("Execution time", &longest.unwrap_or_default(), &times, ("seconds", &seconds))) }
        @if peaks.is_empty() { (empty("No peak memory by method.", "Provide run records of this version; those of older versions do not contain it.")) }
        @else { (cost_figure("Peak memory", most, &peaks, ("bytes", &|value| bytes(value as u64)))) }
        (stages(runs))
    }
}

/// Time and memory of each method of each run, once, the largest first.
fn expenses<'a>(rows: impl Iterator<Item = &'a Row>, runs: &[Found]) -> (Vec<Bar>, Vec<Bar>) {
    let (mut seen, mut times, mut peaks) = (HashSet::new(), Vec::new(), Vec::new());
    for row in rows.filter(|row| seen.insert((row.run, row.method.as_str()))) {
        let bar = |value: f64| Bar {
            name: format!(
                "{}: {}",
                row.name(),
                provenance::label(row.run, &runs[row.run].record)
            ),
            value,
            group: usize::from(!row.is_ours()),
        };
        times.extend(row.seconds.map(bar));
        peaks.extend(row.memory.map(|peak| bar(peak as f64)));
    }
    for bars in [&mut times, &mut peaks] {
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
    }
    (times, peaks)
}

fn cost_figure(
    title: &str,
    takeaway: &str,
    all: &[Bar],
    (axis, shown): (&str, &dyn Fn(f64) -> String),
) -> Markup {
    let groups = ["scGPT".to_owned(), "other methods".to_owned()];
    let takeaway = format!("{takeaway}{}", first(BARS, all.len(), "bar"));
    let drawn = &all[..all.len().min(BARS)];
    figure(title, &takeaway, &bars(drawn, axis, shown, &groups))
}

fn stages(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Time and memory of runs",
        "The time of a stage includes nested stages.",
        &[
            "run",
            "stage",
            "within",
            "time",
            "peak memory",
            "device",
            "threads",
            "processor",
        ],
    );
    for (at, run) in runs.iter().enumerate() {
        for timing in &run.record.timings {
            table.rows.push(vec![
                Cell::text(provenance::label(at, &run.record)),
                Cell::text(&timing.stage),
                timing.within.as_ref().map_or(Cell::Missing, Cell::text),
                Cell::Seconds(timing.seconds),
                timing.peak_memory.map_or(Cell::Missing, Cell::Bytes),
                run.record.device.as_ref().map_or(Cell::Missing, Cell::text),
                Cell::count(run.record.threads),
                run.record
                    .processor
                    .as_ref()
                    .map_or(Cell::Missing, Cell::text),
            ]);
        }
    }
    html! { details { summary { "All stages of all runs" } (limited(table)) } }
}

/// Settings of runs, from their records.
fn settings(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Settings of runs",
        "From the run records; – if a program has no such option or it was not given.",
        &["run", "model", "seed"],
    );
    table
        .columns
        .extend(SETTINGS.map(|(_, name)| name.to_owned()));
    for (at, run) in runs.iter().enumerate() {
        let mut cells = vec![
            Cell::text(provenance::label(at, &run.record)),
            model(Training::of(at, runs)),
            run.record.seed.map_or(Cell::Missing, Cell::count),
        ];
        cells.extend(SETTINGS.map(|(key, _)| setting(run.record.options.get(key))));
        table.rows.push(cells);
    }
    limited(table)
}

fn setting(value: Option<&Value>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Missing,
        Some(Value::String(text)) => Cell::text(
            text.trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default(),
        ),
        Some(Value::Bool(yes)) => Cell::text(if *yes { "yes" } else { "no" }),
        Some(other) => Cell::text(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(run: usize, method: &str, data: &str, accuracy: f64) -> Row {
        Row {
            run,
            method: method.into(),
            training: Training::FineTuned,
            data: data.into(),
            scores: json!({"accuracy": accuracy}),
            seconds: Some(accuracy),
            memory: None,
        }
    }

    fn runs(count: usize) -> Vec<Found> {
        let record = json!({
            "program": "scgpt-annotate", "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": "", "finished": "", "options": {}, "seed": 0, "device": null, "threads": 1,
            "inputs": [], "outputs": [], "timings": [], "metrics": {}, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        let found = Found {
            record: serde_json::from_value(record).unwrap(),
            path: "run.json".into(),
            curve: Vec::new(),
        };
        vec![found; count]
    }

    #[test]
    fn methods_are_compared_within_a_run() {
        let rows = [
            row(0, "scGPT", "A", 0.95),
            row(1, "scGPT", "B", 0.5),
            row(1, "PCA", "B", 0.6),
        ];
        let text = |rows: &[Row]| headline(rows, &runs(2), &["accuracy"], "accuracy");
        assert_eq!(
            text(&rows),
            "The best scGPT run, 1. annotate on A (fine-tuned), has accuracy 0.950; no baseline available. scGPT outperforms the baselines of the same run in 0 of 1 comparison."
        );
        assert_eq!(
            text(&rows[1..]),
            "The best scGPT run, 2. annotate on B (fine-tuned), has accuracy 0.500, worse than PCA with 0.600."
        );
        assert_eq!(text(&rows[2..]), "");
    }

    #[test]
    fn a_method_with_several_groups_has_one_bar() {
        let rows = [
            row(0, "scGPT", "A, seen", 0.5),
            row(0, "PCA", "A, seen", 0.7),
            row(0, "scGPT", "A, unseen", 0.5),
            row(1, "scGPT", "A", 0.9),
        ];
        let (times, peaks) = expenses(rows.iter(), &runs(2));
        let values: Vec<f64> = times.iter().map(|bar| bar.value).collect();
        assert_eq!((values, peaks.len()), (vec![0.9, 0.7, 0.5], 0));
    }
}
