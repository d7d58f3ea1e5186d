//! `scgpt-report`: the HTML report.

use crate::support::needs::skip;
use crate::support::programs::{self, fail, json, program, succeed};
use crate::support::python::{self, python_with};
use assert_cmd::Command;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use scgpt_tools::formats::h5ad::{self, Cells, Embedding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Names of cells and types, also malicious ones.
const HOSTILE: [&str; 4] = [
    "<script>alert('owned')</script>",
    "\"><img src=x onerror=alert(1)>",
    "</script><b>'&amp;",
    "\u{202e}שלום & مرحبا\u{202d}",
];

fn report(inputs: &[&Path], output: &Path) -> Command {
    let mut command = program("scgpt-report");
    let paths: Vec<String> = inputs
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    command
        .arg("--input")
        .arg(paths.join(","))
        .arg("--output")
        .arg(output);
    command
}

/// Cells in four groups with one marker gene each, in two batches.
fn write_cells(path: &Path, n_cells: usize, types: &[String]) {
    let genes: Vec<String> = (0..6).map(|gene| format!("GENE{gene}")).collect();
    let row = |cell: usize| {
        (0..6_u32).map(move |gene| {
            (
                gene,
                if gene as usize == cell % 4 {
                    20.0
                } else {
                    1.0 + ((cell + gene as usize) % 3) as f32
                },
            )
        })
    };
    let names: Vec<String> = (0..n_cells)
        .map(|cell| format!("cell {cell} {}", HOSTILE[cell % 4]))
        .collect();
    let counts = Counts::from_rows(6, (0..n_cells).map(row));
    let labels: Vec<Option<&String>> = (0..n_cells).map(|cell| Some(&types[cell % 4])).collect();
    let batches: Vec<Option<String>> = (0..n_cells)
        .map(|cell| (cell % 7 > 0).then(|| format!("batch{}", cell % 2)))
        .collect();
    let depth = Column::Number(
        (0..n_cells)
            .map(|cell| Some((cell as f64 * 0.7).sin()))
            .collect(),
    );
    let place = |cell: usize| {
        [
            (cell % 4) as f32 * 3.0 + (cell as f32 * 1.3).sin(),
            (cell as f32 * 0.9).cos(),
        ]
    };
    let layout = Embedding {
        width: 2,
        values: (0..n_cells).flat_map(place).collect(),
    };
    let content = Cells {
        obs: &[
            ("scgpt_label".into(), Column::from_labels(&labels)),
            ("batch".into(), Column::from_labels(&batches)),
            ("depth".into(), depth),
        ],
        obsm: &[("X_scGPT_umap".into(), layout)],
        ..Cells::new(&counts, &names, &genes)
    };
    h5ad::create(path, &content).expect("a file of cells");
}

fn artefact(path: &Path, recorded: &str) -> Value {
    let bytes = fs::read(path).expect("a file");
    let sha256: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({"path": recorded, "size": bytes.len(), "sha256": sha256})
}

/// The record of an annotation run, as programs write it.
fn record(types: &[String], outputs: &[Value]) -> Value {
    let class = |name: &String| json!({"name": name, "n_true": 10, "n_predicted": 10, "precision": 0.9, "recall": 0.9, "f1": 0.9});
    let scores = |accuracy: f64| {
        json!({
            "n_cells": 40, "accuracy": accuracy, "macro": {"precision": 0.9, "recall": 0.9, "f1": 0.9}, "weighted": {"f1": 0.9},
            "classes": types.iter().map(class).collect::<Vec<_>>(),
            "confusion": (0..4).map(|row| (0..5).map(|column| if row == column { 9 } else { u64::from(column == (row + 1) % 4) }).collect::<Vec<_>>()).collect::<Vec<_>>(),
        })
    };
    json!({
        "program": "scgpt-finetune-annotation", "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:01:00Z",
        "options": {"input": "cells.h5ad", "output": "model", "checkpoint": null, "epochs": 3, "labels": HOSTILE[1]},
        "seed": 0, "device": "CPU", "threads": 1, "inputs": [], "outputs": outputs,
        "timings": [{"stage": "train", "seconds": 61.5, "peak_memory": 300_000_000}, {"stage": "baselines", "seconds": 0.5, "peak_memory": 200_000_000}],
        "metrics": {"genes_matched": 6, "test": {"scGPT": scores(0.925), "PCA + nearest neighbors": scores(0.9)}},
        "notes": [HOSTILE[0]], "warnings": [HOSTILE[2]], "exit_status": 0, "error": null,
    })
}

/// Runs, cells and tables of gene networks, for every tab.
fn write_all(directory: &Path) -> Vec<PathBuf> {
    let types: Vec<String> = HOSTILE
        .iter()
        .map(|name| (*name).to_owned())
        .chain(["x".repeat(10_000)])
        .skip(1)
        .collect();
    write_cells(&directory.join("annotated.h5ad"), 400, &types);
    let curve: Vec<String> = (1..5).map(|epoch| json!({"epoch": epoch, "step": epoch * 10, "learning_rate": 0.001 / f64::from(epoch), "training": {"loss": 1.0 / f64::from(epoch), "accuracy": 0.2 * f64::from(epoch)}, "validation": {"loss": 1.2 / f64::from(epoch)}}).to_string()).collect();
    fs::create_dir(directory.join("model")).expect("a directory");
    fs::write(directory.join("model/metrics.jsonl"), curve.join("\n")).expect("a file");
    // The cells were moved and renamed.
    let outputs = [
        artefact(
            &directory.join("model/metrics.jsonl"),
            "/gone/model/metrics.jsonl",
        ),
        artefact(
            &directory.join("annotated.h5ad"),
            "/gone/work/other_name.h5ad",
        ),
    ];
    fs::write(
        directory.join("model/run.json"),
        record(&types, &outputs).to_string(),
    )
    .expect("a file");
    let corpus = json!({
        "program": "scgpt-tokenize", "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": "2025-12-31T00:00:00Z", "finished": "2025-12-31T00:01:00Z", "options": {"output": "corpus"},
        "seed": 0, "device": null, "threads": 1, "inputs": [], "outputs": [], "timings": [], "notes": [], "warnings": [], "exit_status": 0, "error": null,
        "metrics": {"cells": 30, "composition": {"tissue": {"blood": 20, HOSTILE[0]: 10}}},
    });
    fs::write(directory.join("corpus.run.json"), corpus.to_string()).expect("a file");
    let edges = format!(
        "condition\tregulator\ttarget\tscore\trank\nall\tSTAT1\t{}\t0.5\t1\nall\tIRF1\tSTAT1\t0.4\t2\n",
        HOSTILE[0]
    );
    fs::write(directory.join("edges.tsv"), edges).expect("a file");
    ["annotated.h5ad", "model", "corpus.run.json", "edges.tsv"]
        .map(|name| directory.join(name))
        .to_vec()
}

/// A report with content in every tab.
fn full() -> (TempDir, PathBuf, String) {
    let directory = tempdir().expect("a directory");
    let inputs = write_all(directory.path());
    let page = directory.path().join("report.html");
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let mut command = report(&inputs, &page);
    command
        .arg("--summary")
        .arg(directory.path().join("report_mqc.json"))
        .args(["--title", HOSTILE[0]]);
    let message = succeed(&mut command);
    (directory, page, message)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("UTF-8")
}

#[test]
fn every_tab_is_filled_from_runs() {
    let (directory, page, message) = full();
    assert!(
        message.contains("2 runs, cells of 1 files, 1 tables"),
        "{message}"
    );
    let html = text(&page);
    for expected in [
        "All 400 cells.",
        "The training loss changed from 1.000 to 0.250, the validation loss from 1.200 to 0.300 (lowest 0.300).",
        "20 of 30 cells (67 %) are blood.",
        "The best scGPT run, 2. finetune-annotation model on cells (from scratch), has accuracy 0.925, better than PCA + nearest neighbors with 0.900.",
        "92.5 % of 40 cells are correctly classified; 0 of 4 classes have a recall of 0.",
        "Marker genes of annotated.h5ad by scgpt_label",
        "Network of condition all",
        "1 min 2 s",
        "300 MB",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    let summary = json(directory.path().join("report_mqc.json"));
    assert_eq!(summary["plot_type"], "table");
    assert_eq!(
        summary["data"]["2. finetune-annotation model"]["accuracy"],
        0.925
    );
}

#[test]
fn each_group_has_its_own_marker_gene() {
    let (_folder, page, _) = full();
    let html = text(&page);
    let table = html
        .split("Marker genes of annotated.h5ad")
        .nth(1)
        .and_then(|rest| rest.split("</table>").next())
        .expect("a table");
    let firsts: Vec<&str> = table
        .split("<tr>")
        .filter(|row| row.contains("<td class=\"n\" data-v=\"1\">1</td>"))
        .collect();
    for gene in 0..4 {
        assert_eq!(
            firsts
                .iter()
                .filter(|row| row.contains(&format!("<bdi>GENE{gene}</bdi>")))
                .count(),
            1,
            "GENE{gene}: {firsts:?}"
        );
    }
}

#[test]
fn chosen_columns_and_genes_are_included_or_reported_as_missing() {
    let directory = tempdir().expect("a directory");
    let (cells, page) = (
        directory.path().join("cells.h5ad"),
        directory.path().join("page.html"),
    );
    write_cells(&cells, 60, &["a", "b", "c", "d"].map(str::to_owned));
    let mut command = report(&[&cells], &page);
    let message = succeed(command.args([
        "--color",
        "batch",
        "--genes",
        "GENE5,ABSENT",
        "--markers",
        "2",
    ]));
    assert!(
        message.contains("`--genes ABSENT`: no included file has this gene"),
        "{message}"
    );
    let html = text(&page);
    assert!(html.contains("Marker genes by batch") && html.contains("batch has 2 categories"));
    let plot = html
        .split("Marker genes by batch")
        .nth(1)
        .and_then(|rest| rest.split("</svg>").next())
        .expect("a dot plot");
    assert!(
        plot.contains("GENE5") && !plot.contains("GENE4"),
        "the chosen gene alone"
    );
    let message = succeed(report(&[&cells], &page).args(["--color", "absent"]));
    assert!(message.contains("`--color absent`"), "{message}");
}

#[test]
fn hostile_names_are_shown_as_text() {
    let (_folder, page, _) = full();
    let html = text(&page);
    assert!(html.contains("<h1>&lt;script&gt;alert('owned')&lt;/script&gt;</h1>"));
    assert_eq!(
        html.matches("<script").count(),
        2,
        "the script of the report and the data of the cells"
    );
    assert!(!html.contains("<img") && !html.contains("<b>'"));
    assert!(
        !html.contains(['\u{202e}', '\u{202d}']),
        "no text changes the writing direction"
    );
    assert!(
        html.contains("שלום")
            && html.contains(&"x".repeat(100))
            && !html.contains(&"x".repeat(200))
    );
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (directory, page, _) = full();
    let again = directory.path().join("again.html");
    let inputs = ["annotated.h5ad", "model", "corpus.run.json", "edges.tsv"]
        .map(|name| directory.path().join(name));
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    succeed(report(&inputs, &again).args(["--title", HOSTILE[0], "--threads", "1"]));
    assert!(text(&page) == text(&again));
}

#[test]
fn the_order_of_the_inputs_does_not_matter() {
    let directory = tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["a", "b", "copy"] {
        fs::create_dir(path(name)).expect("a directory");
        write_cells(
            &path(name).join("cells.h5ad"),
            40,
            &["a", "b", "c", "d"].map(str::to_owned),
        );
        // Runs that started in the same second, records of the same bytes, problems.
        let cells = artefact(&path(name).join("cells.h5ad"), "/gone/cells.h5ad");
        let lost = json!({"path": format!("/gone/{name}.tsv"), "size": 3, "sha256": "00"});
        let mut record = record(&HOSTILE.map(str::to_owned), &[cells, lost]);
        record["options"]["output"] = json!(name);
        fs::write(path(name).join("run.json"), record.to_string()).expect("a file");
        let edges = format!("condition\tregulator\ttarget\tscore\nall\tA{name}\tB\t0.5\n");
        fs::write(path(name).join("edges.tsv"), edges).expect("a file");
    }
    let mut inputs = [
        path("a"),
        path("b/cells.h5ad"),
        path("b"),
        path("copy/./run.json"),
        path("copy"),
    ];
    let pages = [path("first.html"), path("second.html")];
    for page in &pages {
        let inputs_of: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        succeed(&mut report(&inputs_of, page));
        inputs.reverse();
    }
    assert!(text(&pages[0]) == text(&pages[1]));
}

#[test]
fn outputs_of_the_latest_runs_come_first() {
    let directory = tempdir().expect("a directory");
    let (path, page) = (
        |name: &str| directory.path().join(name),
        directory.path().join("page.html"),
    );
    let types = ["a", "b", "c", "d"].map(str::to_owned);
    for (at, name) in ["raw1", "raw2", "raw3", "raw4", "output"]
        .into_iter()
        .enumerate()
    {
        write_cells(&path(name).with_extension("h5ad"), 40 + at, &types);
    }
    let output = artefact(&path("output.h5ad"), "output.h5ad");
    fs::write(path("run.json"), record(&types, &[output]).to_string()).expect("a file");
    let message = succeed(&mut report(&[directory.path()], &page));
    assert!(
        message.contains("raw4.h5ad` is omitted: a report includes the cells of 4 files"),
        "{message}"
    );
    let html = text(&page);
    assert!(
        html.contains("Marker genes by scgpt_label, output.h5ad"),
        "the output is included"
    );
    // The record of the report lists its inputs.
    let record = json(path("page.run.json"));
    let read: Vec<&str> = record["inputs"]
        .as_array()
        .expect("inputs")
        .iter()
        .filter_map(|input| input["path"].as_str())
        .collect();
    for (name, is_read) in [
        ("run.json", true),
        ("output.h5ad", true),
        ("raw1.h5ad", true),
        ("raw4.h5ad", false),
    ] {
        assert_eq!(
            read.iter().any(|path| path.ends_with(name)),
            is_read,
            "{name}: {read:?}"
        );
    }
}

#[test]
fn missing_scores_are_not_plotted_as_zero() {
    let directory = tempdir().expect("a directory");
    let (run, page) = (
        directory.path().join("run.json"),
        directory.path().join("page.html"),
    );
    let mut lacking = record(&["a", "b", "c", "d"].map(str::to_owned), &[]);
    let scores = &mut lacking["metrics"]["test"]["scGPT"];
    scores["classes"][0]["f1"] = Value::Null;
    scores["accuracy"] = json!(5e-324);
    scores["n_cells"] = Value::Null;
    fs::write(&run, lacking.to_string()).expect("a file");
    succeed(&mut report(&[&run], &page));
    let html = text(&page);
    assert!(html.contains(
        "0.0 % of the cells are correctly classified; 0 of 4 classes have a recall of 0."
    ));
    assert!(!html.contains("<title>a: 0.00</title>") && html.contains("<title>b: 0.90</title>"));
}

#[test]
fn a_file_without_embedding_is_reported() {
    let directory = tempdir().expect("a directory");
    let (cells, page) = (
        directory.path().join("bare.h5ad"),
        directory.path().join("page.html"),
    );
    let names = ["A", "B", "C"].map(str::to_owned);
    let counts = Counts::from_rows(3, vec![[(0_u32, 1.0_f32)]; 3]);
    h5ad::create(&cells, &Cells::new(&counts, &names, &names)).expect("a file of cells");
    let message = fail(&mut report(&[&cells], &page), 65);
    assert!(
        message.contains("bare.h5ad` has no content for the report: no cell embedding")
            && message.contains("obsm"),
        "{message}"
    );
}

#[test]
fn the_number_of_chosen_genes_is_limited() {
    let directory = tempdir().expect("a directory");
    let (cells, page) = (
        directory.path().join("cells.h5ad"),
        directory.path().join("page.html"),
    );
    write_cells(&cells, 60, &["a", "b", "c", "d"].map(str::to_owned));
    let genes: Vec<String> = (0..800).map(|gene| format!("GENE{gene}")).collect();
    let message = succeed(report(&[&cells], &page).args(["--genes", &genes.join(",")]));
    assert!(
        message.contains("`--genes`: only the first 100 of 800 genes are included"),
        "{message}"
    );
    let message = succeed(report(&[&cells], &page).args(["--color", "depth"]));
    assert!(
        message.contains(
            "this column is numeric and defines no groups; cells are grouped by scgpt_label"
        ),
        "{message}"
    );
}

#[test]
fn unusable_inputs_are_reported() {
    let directory = tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).expect("a file");
    write("damaged.run.json", b"{\"program\": \"scgpt-embed\", ");
    write("other.json", b"[1, 2, 3]");
    write("cells.h5ad", b"no HDF5 file");
    write("table.tsv", &[0xff, 0xfe, b'\t', 0, b'\n']);
    let damaged = [
        path("damaged.run.json"),
        path("other.json"),
        path("cells.h5ad"),
    ];
    let inputs: Vec<&Path> = damaged.iter().map(PathBuf::as_path).collect();
    let message = fail(&mut report(&inputs, &path("page.html")), 65);
    for expected in [
        "damaged.run.json`: not a run record",
        "other.json`: not a run record",
        "not an HDF5 file",
        "the inputs contain no run record",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(!path("page.html").exists());
    // Together with usable inputs they are warnings, which the report lists.
    let mut lost = record(
        &HOSTILE.map(str::to_owned),
        &[json!({"path": "/gone/cells.h5ad", "size": 3, "sha256": "00"})],
    );
    lost["metrics"] = json!({"test": {"scGPT": "damaged", "other": {"accuracy": "high"}}, "composition": [], "scores": 3});
    write("good.run.json", lost.to_string().as_bytes());
    succeed(&mut report(
        &[directory.path(), &path("table.tsv")],
        &path("page.html"),
    ));
    let html = text(&path("page.html"));
    for expected in [
        "damaged.run.json`: not a run record",
        "`/gone/cells.h5ad`: it is not among the inputs",
        "No marker genes.",
        "No cells.",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
}

#[test]
fn a_hundred_thousand_cells_stay_small() {
    let directory = tempdir().expect("a directory");
    let (cells, page) = (
        directory.path().join("cells.h5ad"),
        directory.path().join("page.html"),
    );
    write_cells(&cells, 100_000, &["a", "b", "c", "d"].map(str::to_owned));
    succeed(&mut report(&[&cells], &page));
    let html = text(&page);
    assert!(
        html.contains("A random sample of 20,000 of 100,000 cells."),
        "the sample is reported"
    );
    assert!(html.len() < 5_000_000, "{} bytes", html.len());
    succeed(report(&[&cells], &page).args(["--max-cells", "100000"]));
    let all = text(&page);
    assert!(
        all.contains("All 100,000 cells.") && all.len() < 5_000_000,
        "{} bytes",
        all.len()
    );
    browse(&page);
}

#[test]
fn the_report_works_in_a_browser_and_without_scripts() {
    let (directory, page, _) = full();
    browse(&page);
    if let Some(python) = python_with("html5lib") {
        python::check(&python, "../report/valid.py", &[&page]);
    }
    drop(directory);
}

/// Uses the report in Chromium; skipped if it is not installed.
fn browse(page: &Path) {
    let chromium = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ]
    .map(Path::new)
    .into_iter()
    .find(|path| path.exists());
    let Some(chromium) = chromium else {
        return skip("the report in a browser: no Chromium in /usr/bin");
    };
    if let Some(python) = python_with("playwright") {
        python::check(&python, "../report/browser.py", &[chromium, page]);
    }
}

#[test]
fn all_invalid_options_are_reported() {
    let message = programs::fail(
        program("scgpt-report").args(["--max-cells", "0", "--markers", "many"]),
        2,
    );
    for expected in ["`--max-cells`", "`--markers`", "--input", "--output"] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
