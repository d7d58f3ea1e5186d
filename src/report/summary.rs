//! The summary that MultiQC shows: a table of runs as custom content (<https://docs.seqera.io/multiqc/custom_content>).

use serde_json::{Map, Value, json};

use super::gather::Found;
use super::html::shortened;
use super::lineage;
use super::page::Content;
use super::scores::{self, Row};

/// Custom content of type `table`: a row for each run.
pub fn summary(content: &Content) -> Value {
    let runs = &content.evidence.runs;
    let rows = (0..runs.len()).map(|at| {
        (
            shortened(&lineage::label(at, &runs[at].record)),
            Value::Object(row(at, runs)),
        )
    });
    let data: Map<String, Value> = rows.collect();
    json!({
        "id": "scgpt",
        "section_name": "scGPT",
        "description": "Runs of the scGPT programs, from their run records.",
        "plot_type": "table",
        "pconfig": {"id": "scgpt_table", "title": "scGPT: runs", "namespace": "scGPT"},
        "headers": {
            "program": {"title": "Program"},
            "accuracy": {"title": "Accuracy", "min": 0, "max": 1, "format": "{:,.3f}"},
            "macro_f1": {"title": "Macro F1", "min": 0, "max": 1, "format": "{:,.3f}"},
            "integration": {"title": "Integration", "description": "Overall score, or AvgBIO without batches", "min": 0, "max": 1, "format": "{:,.3f}"},
            "genes_matched": {"title": "Genes matched", "format": "{:,.0f}"},
            "seconds": {"title": "Time", "suffix": " s", "format": "{:,.1f}"},
            "memory": {"title": "Peak memory", "suffix": " MB", "format": "{:,.0f}"},
            "warnings": {"title": "Warnings", "format": "{:,.0f}"}
        },
        "data": data,
    })
}

/// What is known of a run; what is not is left out.
fn row(at: usize, runs: &[Found]) -> Map<String, Value> {
    let record = &runs[at].record;
    let ours = |rows: Vec<Row>| rows.into_iter().find(|row| row.run == at && row.is_ours());
    let (named, joined) = (
        ours(scores::annotation(runs)),
        ours(scores::integration(runs)),
    );
    let score = |row: &Option<Row>, path: &[&str]| row.as_ref().and_then(|row| row.score(path));
    let numbers = [
        ("seconds", lineage::whole(record)),
        ("warnings", Some(record.warnings.len() as f64)),
        ("memory", record.peak_memory.map(|bytes| bytes as f64 / 1e6)),
        (
            "genes_matched",
            lineage::number(&record.metrics, &["genes_matched"]),
        ),
        ("accuracy", score(&named, &["accuracy"])),
        ("macro_f1", score(&named, &["macro", "f1"])),
        (
            "integration",
            score(&joined, &["overall"]).or(score(&joined, &["avg_bio"])),
        ),
    ];
    let known = numbers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    [("program".to_owned(), json!(shortened(&record.program)))]
        .into_iter()
        .chain(known)
        .collect()
}
