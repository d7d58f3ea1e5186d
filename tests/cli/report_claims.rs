//! Statements of `scgpt-report`: times, comparisons, provenance of models, and omitted content.

use crate::support::programs::{from_to, json, program, succeed};
use crate::support::trained::TRAINED;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use scgpt_tools::formats::h5ad::{self, Cells, Embedding};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// A report with its summary.
struct Page {
    html: String,
    summary: Value,
}

impl Page {
    fn of(inputs: &[&Path]) -> Self {
        let directory = tempdir().expect("a directory");
        let [page, summary] =
            ["page.html", "page_mqc.json"].map(|name| directory.path().join(name));
        let inputs: Vec<String> = inputs
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let mut command = program("scgpt-report");
        command.arg("--input").arg(inputs.join(","));
        command.arg("--output").arg(&page);
        command.arg("--summary").arg(&summary);
        succeed(&mut command);
        Self {
            html: fs::read_to_string(page).expect("UTF-8"),
            summary: json(summary),
        }
    }

    fn contains(&self, expected: &str) {
        assert!(self.html.contains(expected), "{expected}");
    }
}

/// Records of runs on different data, by start time.
fn records(runs: &[(&str, &str, Value, Value)]) -> (TempDir, PathBuf) {
    let directory = tempdir().expect("a directory");
    for (at, (program, data, timings, metrics)) in runs.iter().enumerate() {
        let record = json!({
            "program": program, "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": format!("2026-01-0{}T00:00:00Z", at + 1), "finished": "",
            "options": {"input": format!("{data}.h5ad"), "output": "out"}, "seed": 0, "device": "CPU", "threads": 1, "inputs": [], "outputs": [],
            "timings": timings, "metrics": metrics, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        let path = directory.path().join(format!("{at}.run.json"));
        fs::write(path, record.to_string()).expect("a file");
    }
    let path = directory.path().to_owned();
    (directory, path)
}

#[test]
fn a_nested_stage_is_counted_once() {
    let timings = json!([
        {"stage": "train", "seconds": 60.0}, {"stage": "baselines", "seconds": 1.0, "within": "test"}, {"stage": "test", "seconds": 2.0},
    ]);
    let (_directory, path) = records(&[("scgpt-finetune-annotation", "A", timings, json!({}))]);
    let page = Page::of(&[&path]);
    page.contains("<b>1 min 2 s</b><span>computing time</span>");
    assert_eq!(
        page.summary["data"]["1. finetune-annotation out"]["seconds"],
        62.0
    );
}

#[test]
fn programs_record_nested_stages() {
    let record = json(TRAINED.model.join("run.json"));
    let timings = record["timings"].as_array().expect("a list");
    let within = |stage: &str| {
        let timing = timings.iter().find(|timing| timing["stage"] == stage);
        timing.unwrap_or_else(|| panic!("no stage {stage}: {timings:?}"))["within"].clone()
    };
    assert_eq!(within("predict"), "test");
    assert_eq!(within("pca_knn"), "test");
    assert_eq!(
        [within("test"), within("train")],
        [Value::Null, Value::Null]
    );
}

#[test]
fn methods_are_compared_within_a_run() {
    let scores = |accuracy: f64| json!({"n_cells": 40, "accuracy": accuracy});
    let (_directory, path) = records(&[
        (
            "scgpt-annotate",
            "A",
            json!([]),
            json!({"scores": scores(0.95)}),
        ),
        (
            "scgpt-map-reference query",
            "B",
            json!([{"stage": "search", "seconds": 7.0}, {"stage": "baseline", "seconds": 3.0}]),
            json!({"scores": {"scGPT": scores(0.5), "PCA": scores(0.6)}}),
        ),
    ]);
    let page = Page::of(&[&path]);
    page.contains(
        "The best scGPT run, 1. annotate out on A, has accuracy 0.950; no baseline available.",
    );
    page.contains("scGPT outperforms the baselines of the same run in 0 of 1 comparison.");
    page.contains("Longest: scGPT: 2. map-reference query out, 7.0 s.");
    assert!(!page.html.contains("better than PCA"));
}

#[test]
fn scores_of_every_program_are_in_the_report() {
    let scores = json!({"correlation": 0.4321, "squared_error": 1.0});
    let accuracy = json!({
        "split": "all", "queries": 9, "top_k": 3, "accuracy": 0.7654, "accuracy_random": 0.1, "partial_match": 0.8, "partial_match_random": 0.2,
    });
    let (_directory, path) = records(&[
        (
            "scgpt-integrate",
            "A",
            json!([]),
            json!({"masked_modality": {"scGPT": scores, "ridge regression": scores}}),
        ),
        (
            "scgpt-generate",
            "B",
            json!([]),
            json!({"held_out": {"cells": 9, "rounds": 2, "iterative": {"correlation": 0.6543, "mse": 2.0}}}),
        ),
        (
            "scgpt-perturb reverse",
            "C",
            json!([]),
            json!({"topk_accuracy": [accuracy]}),
        ),
    ]);
    let page = Page::of(&[&path]);
    for expected in [
        "ridge regression",
        "0.432",
        "scGPT, iterative",
        "0.654",
        "0.765",
    ] {
        page.contains(expected);
    }
}

#[test]
fn a_trained_model_without_its_run_is_not_zero_shot() {
    let directory = tempdir().expect("a directory");
    let output = directory.path().join("embedded.h5ad");
    let mut command = from_to("scgpt-embed", &TRAINED.cells, &output);
    succeed(command.arg("--checkpoint").arg(&TRAINED.model));
    let record = directory.path().join("embedded.run.json");
    // Number of runs with this kind of training in the report.
    let count = |page: &Page, training: &str| {
        let table = page.html.split("Settings of runs").nth(1);
        let table = table.and_then(|rest| rest.split("</table>").next());
        let table = table.expect("a table of runs");
        table.matches(&format!("<bdi>{training}</bdi>")).count()
    };
    let alone = Page::of(&[&record]);
    assert_eq!(
        ["zero-shot", "from scratch"].map(|training| count(&alone, training)),
        [0, 0]
    );
    let with_model = Page::of(&[&record, &TRAINED.model]);
    assert_eq!(
        ["zero-shot", "from scratch"].map(|training| count(&with_model, training)),
        [0, 2]
    );
}

/// Cells of 45 types in 20 batches, the first ten without coordinates.
fn write_cells(path: &Path, n_cells: usize) {
    let names: Vec<String> = (0..n_cells).map(|cell| format!("cell {cell}")).collect();
    let genes = ["GENE0".to_owned(), "GENE1".to_owned()];
    let counts = Counts::from_rows(
        2,
        (0..n_cells).map(|cell| [(0, 1.0), (1, (cell % 3) as f32 + 1.0)]),
    );
    let labels = |word: &str, count: usize| {
        let labels: Vec<Option<String>> = (0..n_cells)
            .map(|cell| Some(format!("{word}{}", cell % count)))
            .collect();
        Column::from_labels(&labels)
    };
    let coordinates = |cell: usize| match cell {
        ..10 => [f32::NAN; 2],
        _ => [(cell as f32).sin(), (cell as f32 * 0.3).cos()],
    };
    let umap = Embedding {
        width: 2,
        values: (0..n_cells).flat_map(coordinates).collect(),
    };
    let content = Cells {
        obs: &[
            ("cell_type".into(), labels("type", 45)),
            ("batch".into(), labels("batch", 20)),
        ],
        obsm: &[("X_scGPT_umap".into(), umap)],
        ..Cells::new(&counts, &names, &genes)
    };
    h5ad::create(path, &content).expect("a file of cells");
}

#[test]
fn omitted_content_is_reported() {
    let directory = tempdir().expect("a directory");
    let cells = directory.path().join("cells.h5ad");
    write_cells(&cells, 900);
    let page = Page::of(&[&cells]);
    page.contains("890 of 900 cells; the others have no coordinates.");
    page.contains("Only the first 40 of 45 groups are included.");
    page.contains("Only the 15 most frequent of 20 categories of batch have their own color.");
    page.contains("5 others");
    assert!(!page.html.contains("random sample"));
}
