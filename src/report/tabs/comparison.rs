//! scGPT beside simpler methods: quality, time, memory, and what each run did.

use maud::{Markup, html};
use serde_json::Value;

use crate::report::figures::bars::{Bar, bars};
use crate::report::gather::Found;
use crate::report::html::{Cell, Table, empty, figure, shortened};
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
    let (named, joined, told) = (
        scores::annotation(runs),
        scores::integration(runs),
        scores::perturbation(runs),
    );
    html! {
        h3.part { "Naming cells" }
        @if named.is_empty() { (empty("No accuracy was measured.", "A run of scgpt-finetune-annotation (with its baselines), or of scgpt-annotate with --truth, fills this.")) }
        (accuracy(&named, runs))
        h3.part { "Clusters and batches" }
        @if joined.is_empty() { (empty("No integration was scored.", "A run of scgpt-integrate with --labels or --batch and its baselines fills this; with --no-train it is zero-shot.")) }
        (integration(&joined, runs))
        h3.part { "Predicting perturbations" }
        @if told.is_empty() { (empty("No perturbation was predicted.", "A run of scgpt-finetune-perturbation with held-out perturbations fills this.")) }
        (perturbation(&told, runs))
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
        div.pair { (accuracy_figure(&named)) (integration_figure(&joined)) }
    }
}

fn accuracy(rows: &[Row], runs: &[Found]) -> Markup {
    let note = "Macro averages give each class the same weight. Zero-shot rows come from runs that used a pre-trained model as it was.";
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
    for row in rows.iter().take(ROWS) {
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
    html! { (accuracy_figure(rows)) (table.render()) }
}

fn accuracy_figure(rows: &[Row]) -> Markup {
    let takeaway = against(rows, &["accuracy"], "accuracy");
    score_figure(
        rows,
        &["accuracy"],
        "Accuracy of methods",
        "accuracy",
        &takeaway,
    )
}

fn integration_figure(rows: &[Row]) -> Markup {
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
        &against(rows, &[key], name),
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

/// The best of ours beside the best of the others, in the same run.
fn against(rows: &[Row], path: &[&str], what: &str) -> String {
    let best = |ours: bool| {
        rows.iter()
            .filter(|row| row.is_ours() == ours)
            .filter_map(|row| Some((row, row.score(path)?)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    };
    match (best(true), best(false)) {
        (Some((ours, score)), Some((other, beside))) => {
            let verdict = if score > beside {
                "ahead of"
            } else if score < beside {
                "behind"
            } else {
                "level with"
            };
            format!(
                "The best scGPT ({}) has {what} {score:.3}, {verdict} {} with {beside:.3}.",
                ours.training.name(),
                shortened(&other.method)
            )
        }
        (Some((ours, score)), None) => format!(
            "The best scGPT ({}) has {what} {score:.3}; no simpler method was run beside it.",
            ours.training.name()
        ),
        _ => String::new(),
    }
}

fn integration(rows: &[Row], runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Clustering and integration of methods",
        "Scores from 0 to 1, higher is better (Luecken et al. 2022).",
        &["method", "model", "data"],
    );
    table
        .columns
        .extend(INTEGRATION.map(|(_, name)| name.to_owned()));
    table
        .columns
        .extend(["time", "peak memory", "run"].map(str::to_owned));
    for row in rows.iter().take(ROWS) {
        let scores = INTEGRATION.map(|(key, _)| Cell::number(row.score(&[key]), 3));
        table.rows.push(
            beginning(row)
                .into_iter()
                .chain(scores)
                .chain(end(row, runs))
                .collect(),
        );
    }
    html! { (integration_figure(rows)) (table.render()) }
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
    for (group, row) in rows.iter().take(ROWS) {
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
        @if !all.is_empty() { (score_figure(&all, &path, "Predicted changes of expression", "Pearson correlation of changes", &against(&all, &path, "correlation"))) }
        (table.render())
    }
}

fn beginning(row: &Row) -> Vec<Cell> {
    let training = if row.training == Training::Unknown {
        Cell::Missing
    } else {
        Cell::text(row.training.name())
    };
    vec![Cell::text(&row.method), training, Cell::text(&row.data)]
}

fn end(row: &Row, runs: &[Found]) -> [Cell; 3] {
    [
        row.seconds.map_or(Cell::Missing, Cell::Seconds),
        row.memory.map_or(Cell::Missing, Cell::Bytes),
        Cell::text(lineage::label(row.run, &runs[row.run].record)),
    ]
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
    let mut rows: Vec<&Row> = named
        .iter()
        .chain(joined)
        .chain(told.iter().map(|(_, row)| row))
        .filter(|row| row.seconds.is_some())
        .collect();
    rows.dedup_by(|a, b| a.run == b.run && a.method == b.method);
    rows.sort_by(|a, b| {
        b.seconds
            .unwrap_or(0.0)
            .total_cmp(&a.seconds.unwrap_or(0.0))
    });
    let bar = |row: &&Row, value: f64| Bar {
        name: format!(
            "{}: {}",
            row.name(),
            lineage::label(row.run, &runs[row.run].record)
        ),
        value,
        group: usize::from(!row.is_ours()),
    };
    let times: Vec<Bar> = rows
        .iter()
        .take(DRAWN)
        .map(|row| bar(row, row.seconds.unwrap_or(0.0)))
        .collect();
    let peaks: Vec<Bar> = rows
        .iter()
        .filter_map(|row| Some(bar(row, row.memory? as f64)))
        .take(DRAWN)
        .collect();
    let groups = ["scGPT".to_owned(), "other methods".to_owned()];
    let longest = rows.first().map(|row| {
        format!(
            "{} took longest, {}. Methods that a program runs together are timed together.",
            row.name(),
            crate::report::html::seconds(row.seconds.unwrap_or(0.0))
        )
    });
    html! {
        @if times.is_empty() { (empty("No times.", "Run records of the programs above fill this.")) }
        @else { (figure("Execution time", &longest.unwrap_or_default(), &bars(&times, "seconds", &crate::report::html::seconds, &groups))) }
        @if peaks.is_empty() { (empty("No peak memory by method.", "Records of this version of the programs tell it; older ones do not.")) }
        @else { (figure("Peak memory", "The most that the process held while the method ran, data and program included.", &bars(&peaks, "bytes", &|value| crate::report::html::bytes(value as u64), &groups))) }
        (stages(runs))
    }
}

fn stages(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Time and memory of runs",
        "",
        &[
            "run",
            "stage",
            "time",
            "peak memory",
            "device",
            "threads",
            "processor",
        ],
    );
    for (at, run) in runs.iter().enumerate() {
        for timing in run.record.timings.iter().take(50) {
            table.rows.push(vec![
                Cell::text(lineage::label(at, &run.record)),
                Cell::text(&timing.stage),
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
    table.rows.truncate(ROWS);
    html! { details { summary { "Every stage of every run" } (table.render()) } }
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
    for (at, run) in runs.iter().enumerate().take(ROWS) {
        let training = Training::of(at, runs);
        let mut cells = vec![
            Cell::text(lineage::label(at, &run.record)),
            if training == Training::Unknown {
                Cell::Missing
            } else {
                Cell::text(training.name())
            },
            run.record.seed.map_or(Cell::Missing, Cell::count),
        ];
        cells.extend(SETTINGS.map(|(key, _)| setting(run.record.options.get(key))));
        table.rows.push(cells);
    }
    table.render()
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
