//! scGPT beside simpler methods: quality, time, memory, and what each run did.

use std::collections::HashSet;

use maud::{Markup, html};
use serde_json::Value;

use super::runs::first;
use crate::report::figures::bars::{Bar, bars};
use crate::report::gather::Found;
use crate::report::html::{Cell, Table, bytes, empty, figure, plural, seconds, shortened};
use crate::report::lineage::{self, Training};
use crate::report::page::Content;
use crate::report::scores::{self, Row};

/// Bars of a figure.
const DRAWN: usize = 24;
/// Rows of a table.
const ROWS: usize = 500;
/// Scores of integration: key, name; the first three are those that the others are summed up in.
const INTEGRATION: [(&str, &str); 12] = [
    ("overall", "overall"),
    ("avg_bio", "clusters (AvgBIO)"),
    ("avg_batch", "batches (AvgBATCH)"),
    ("nmi", "NMI"),
    ("ari", "ARI"),
    ("asw_label", "ASW of types"),
    ("asw_batch", "ASW of batches"),
    ("graph_connectivity", "connectivity"),
    ("pcr_comparison", "PCR comparison"),
    ("ilisi", "iLISI"),
    ("clisi", "cLISI"),
    ("kbet", "kBET"),
];
/// Scores of predicted perturbations.
const PERTURBATION: [(&str, &str); 5] = [
    ("pearson_delta", "Pearson of changes"),
    ("pearson_de_delta", "Pearson of changes, DE genes"),
    ("mse", "squared error"),
    ("mse_de", "squared error, DE genes"),
    ("discrimination", "discrimination"),
];
/// Settings that tell methods apart: option, heading.
const SETTINGS: [(&str, &str); 14] = [
    ("checkpoint", "starts from"),
    ("labels", "labels"),
    ("batch", "batches"),
    ("no_train", "without training"),
    ("freeze", "frozen"),
    ("layers", "layers"),
    ("width", "width"),
    ("heads", "heads"),
    ("value_encoding", "values as"),
    ("n_hvg", "variable genes"),
    ("max_length", "longest sentence"),
    ("epochs", "epochs"),
    ("learning_rate", "learning rate"),
    ("precision", "precision"),
];

/// The tab.
pub fn section(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    let (named, joined, told, hidden) = (
        scores::annotation(runs),
        scores::integration(runs),
        scores::perturbation(runs),
        scores::hidden(runs),
    );
    html! {
        h3.part { "Naming cells" }
        @if named.is_empty() { (empty("No accuracy was measured.", "A run of scgpt-finetune-annotation (with its baselines), or of scgpt-annotate or scgpt-map-reference query with --truth, fills this.")) }
        (accuracy(&named, runs))
        h3.part { "Clusters and batches" }
        @if joined.is_empty() { (empty("No integration was scored.", "A run of scgpt-integrate with --labels or --batch and its baselines fills this; of a pre-trained model with --no-train it is zero-shot.")) }
        (integration(&joined, runs))
        h3.part { "Predicting perturbations" }
        @if told.is_empty() { (empty("No perturbation was predicted.", "A run of scgpt-finetune-perturbation with held-out perturbations fills this.")) }
        (perturbation(&told, runs))
        (hits(runs))
        h3.part { "Telling hidden values" }
        @if hidden.is_empty() { (empty("No hidden values were told.", "A run of scgpt-generate with --held-out, or of scgpt-integrate with --hide, fills this.")) }
        (hidden_values(&hidden, runs))
        (pretraining(runs))
        h3.part { "Time and memory" }
        (cost(&named, &joined, &told, runs))
        h3.part { "What each run did" }
        (settings(runs))
    }
}

/// The two figures that the overview repeats.
pub fn summary(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    let (named, joined) = (scores::annotation(runs), scores::integration(runs));
    html! {
        @if named.is_empty() && joined.is_empty() { (empty("Nothing to compare.", "Runs of scgpt-finetune-annotation or scgpt-integrate with their baselines fill this.")) }
        div.pair { (accuracy_figure(&named, runs)) (integration_figure(&joined, runs)) }
    }
}

fn accuracy(rows: &[Row], runs: &[Found]) -> Markup {
    let note = "Macro averages give each class the same weight. Zero-shot rows come from runs that used a pre-trained model as it was. The time of naming cells after a reference is that of the search, without the run that embedded the cells.";
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
    let takeaway = against(rows, runs, &["accuracy"], "accuracy");
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
        &against(rows, runs, &[key], name),
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
    let note = if drawn.len() > DRAWN {
        format!(" The {DRAWN} best of {}.", drawn.len())
    } else {
        String::new()
    };
    drawn.truncate(DRAWN);
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

/// The best of ours, beside the best of the others on the same data in the same run; and how often ours is ahead there.
fn against(rows: &[Row], runs: &[Found], path: &[&str], what: &str) -> String {
    let Some((ours, score)) = best(rows.iter().filter(|row| row.is_ours()), path) else {
        return String::new();
    };
    let beside = match beside(rows, ours, path) {
        Some((other, beside)) => format!(
            ", {} {} with {beside:.3}",
            verdict(score, beside),
            shortened(&other.method)
        ),
        None => "; no simpler method was run beside it".to_owned(),
    };
    let training = match ours.training {
        Training::Unknown => String::new(),
        told => format!(" ({})", told.name()),
    };
    format!(
        "The best scGPT{training} has {what} {score:.3}{beside}. This is run {} on {}.{}",
        shortened(&lineage::label(ours.run, &runs[ours.run].record)),
        shortened(&ours.data),
        ahead(rows, path)
    )
}

fn best<'a>(rows: impl Iterator<Item = &'a Row>, path: &[&str]) -> Option<(&'a Row, f64)> {
    rows.filter_map(|row| Some((row, row.score(path)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The best simpler method on the same data in the same run.
fn beside<'a>(rows: &'a [Row], ours: &Row, path: &[&str]) -> Option<(&'a Row, f64)> {
    let is_beside = |row: &&Row| !row.is_ours() && (row.run, &row.data) == (ours.run, &ours.data);
    best(rows.iter().filter(is_beside), path)
}

fn verdict(score: f64, beside: f64) -> &'static str {
    if score > beside {
        "ahead of"
    } else if score < beside {
        "behind"
    } else {
        "level with"
    }
}

/// In how many comparisons within a run ours is ahead, where there are several rows of ours.
fn ahead(rows: &[Row], path: &[&str]) -> String {
    let ours: Vec<(&Row, f64)> = rows
        .iter()
        .filter(|row| row.is_ours())
        .filter_map(|row| Some((row, row.score(path)?)))
        .collect();
    let compared: Vec<bool> = ours
        .iter()
        .filter_map(|(row, score)| Some(*score > beside(rows, row, path)?.1))
        .collect();
    if ours.len() < 2 || compared.is_empty() {
        return String::new();
    }
    format!(
        " Beside simpler methods of the same run and data, scGPT is ahead in {} of {}.",
        compared.iter().filter(|ahead| **ahead).count(),
        plural(compared.len(), "comparison")
    )
}

fn integration(rows: &[Row], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Clustering and integration of methods",
        "Higher is better, 1 is best. The worst is 0, but ARI is about 0 by chance and can be negative (Luecken et al. 2022).",
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
        "Means over the held-out perturbations of a group.",
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
        @if !all.is_empty() { (score_figure(&all, &path, "Predicted changes of expression", "Pearson correlation of changes", &against(&all, runs, &path, "correlation"))) }
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
        told => Cell::text(told.name()),
    }
}

fn end(row: &Row, runs: &[Found]) -> [Cell; 3] {
    [
        row.seconds.map_or(Cell::Missing, Cell::Seconds),
        row.memory.map_or(Cell::Missing, Cell::Bytes),
        Cell::text(lineage::label(row.run, &runs[row.run].record)),
    ]
}

/// How often the cause of a change was among the best candidates.
fn hits(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Causes found for changes of expression",
        "Share of changes whose cause is among so many best candidates; a candidate is relevant if it has one of the cause's genes. By chance: what guessing would give.",
        &[
            "run",
            "part",
            "changes",
            "among",
            "cause found",
            "by chance",
            "relevant found",
            "relevant by chance",
        ],
    );
    for (at, run) in runs.iter().enumerate() {
        let found = run.record.metrics.get("hits").and_then(Value::as_array);
        for hit in found.into_iter().flatten() {
            let number =
                |key: &str, decimals| Cell::number(hit.get(key).and_then(Value::as_f64), decimals);
            table.rows.push(vec![
                Cell::text(lineage::label(at, &run.record)),
                hit.get("part")
                    .and_then(Value::as_str)
                    .map_or(Cell::Missing, Cell::text),
                number("queries", 0),
                number("among", 0),
                number("correct", 3),
                number("correct_by_chance", 3),
                number("relevant", 3),
                number("relevant_by_chance", 3),
            ]);
        }
    }
    limited(table)
}

/// A table of the first rows that says so.
fn limited(mut table: Table) -> Markup {
    table.note += &first(ROWS, table.rows.len(), "row");
    table.rows.truncate(ROWS);
    table.render()
}

/// Values of a modality or of genes that were hidden from the model.
fn hidden_values(rows: &[Row], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Hidden values",
        "Correlation of told and true values, higher is better; mean squared error, lower is better: in squared bins for scgpt-generate.",
        &[
            "method",
            "model",
            "data",
            "correlation",
            "squared error",
            "run",
        ],
    );
    for row in rows {
        let error = row.score(&["squared_error"]).or(row.score(&["error"]));
        let mut cells = beginning(row);
        cells.push(Cell::number(row.score(&["correlation"]), 3));
        cells.push(Cell::number(error, 3));
        cells.push(Cell::text(lineage::label(row.run, &runs[row.run].record)));
        table.rows.push(cells);
    }
    limited(table)
}

/// Errors of hidden values after pre-training.
fn pretraining(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Hidden values after pre-training",
        "Mean squared error, lower is better.",
        &["run", "model", "mean of the gene", "nearest cells"],
    );
    for (at, run) in runs.iter().enumerate() {
        let error = |path: &[&str]| Cell::number(lineage::number(&run.record.metrics, path), 3);
        if run.record.metrics.contains_key("validation_error") {
            table.rows.push(vec![
                Cell::text(lineage::label(at, &run.record)),
                error(&["validation_error", "model"]),
                error(&["validation_error", "baselines", "gene_mean"]),
                error(&["validation_error", "baselines", "nearest_cells"]),
            ]);
        }
    }
    table.render()
}

/// What methods took, where the record tells it.
fn cost(named: &[Row], joined: &[Row], told: &[(String, Row)], runs: &[Found]) -> Markup {
    let told = told.iter().map(|(_, row)| row);
    let (times, peaks) = expenses(named.iter().chain(joined).chain(told), runs);
    let longest = times.first().map(|bar| {
        format!(
            "Longest: {}, {}. Scoring is not counted; methods that share a stage have no time of their own.",
            shortened(&bar.name),
            seconds(bar.value)
        )
    });
    let most = "The most that the process held while the method ran, data and program included.";
    html! {
        @if times.is_empty() { (empty("No times.", "Run records of the programs above fill this.")) }
        @else { (cost_figure("Execution time", &longest.unwrap_or_default(), &times, ("seconds", &seconds))) }
        @if peaks.is_empty() { (empty("No peak memory by method.", "Records of this version of the programs tell it; older ones do not.")) }
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
                lineage::label(row.run, &runs[row.run].record)
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
    let takeaway = format!("{takeaway}{}", first(DRAWN, all.len(), "bar"));
    let drawn = &all[..all.len().min(DRAWN)];
    figure(title, &takeaway, &bars(drawn, axis, shown, &groups))
}

fn stages(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Time and memory of runs",
        "The time of a stage includes that of its parts.",
        &[
            "run",
            "stage",
            "part of",
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
                Cell::text(lineage::label(at, &run.record)),
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
    html! { details { summary { "Every stage of every run" } (limited(table)) } }
}

/// Qualities of runs, all as the records have them.
fn settings(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "What runs used",
        "As the run records tell it; – where a program has no such option or it was not given.",
        &["run", "model", "seed"],
    );
    table
        .columns
        .extend(SETTINGS.map(|(_, name)| name.to_owned()));
    for (at, run) in runs.iter().enumerate() {
        let mut cells = vec![
            Cell::text(lineage::label(at, &run.record)),
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
            "program": "scgpt-annotate", "version": "0.1.0", "started": "", "finished": "", "options": {}, "seed": 0, "device": null, "threads": 1,
            "inputs": [], "outputs": [], "timings": [], "metrics": {}, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        let found = Found {
            record: serde_json::from_value(record).unwrap(),
            path: "run.json".into(),
            course: Vec::new(),
        };
        vec![found; count]
    }

    #[test]
    fn methods_are_compared_within_a_run_alone() {
        let rows = [
            row(0, "scGPT", "A", 0.95),
            row(1, "scGPT", "B", 0.5),
            row(1, "PCA", "B", 0.6),
        ];
        let told = |rows: &[Row]| against(rows, &runs(2), &["accuracy"], "accuracy");
        assert_eq!(
            told(&rows),
            "The best scGPT (fine-tuned) has accuracy 0.950; no simpler method was run beside it. This is run 1. annotate on A. Beside simpler methods of the same run and data, scGPT is ahead in 0 of 1 comparison."
        );
        assert_eq!(
            told(&rows[1..]),
            "The best scGPT (fine-tuned) has accuracy 0.500, behind PCA with 0.600. This is run 2. annotate on B."
        );
        assert_eq!(told(&rows[2..]), "");
    }

    #[test]
    fn a_method_of_several_groups_has_one_bar() {
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
