//! Summary for MultiQC: a table of runs as custom content (<https://docs.seqera.io/multiqc/custom_content>).

use serde_json::{Map, Value, json};

use super::content::Content;
use super::html::shortened;
use super::provenance;
use super::scores::{self, Row};
use crate::run_record::Record;

/// Custom content of type `table`: a row for each run.
pub fn summary(content: &Content) -> Value {
    let runs = &content.evidence.runs;
    let (annotated, integrated) = (scores::annotation(runs), scores::integration(runs));
    let rows = runs.iter().enumerate().map(|(at, run)| {
        let scored = [&annotated, &integrated].map(|rows| {
            let mut own = rows.iter().filter(|row| row.run == at && row.is_ours());
            own.next()
        });
        (
            shortened(&provenance::label(at, &run.record)),
            Value::Object(row(&run.record, scored)),
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

/// The recorded numbers of a run; missing ones are omitted.
fn row(record: &Record, [annotated, integrated]: [Option<&Row>; 2]) -> Map<String, Value> {
    let score = |row: Option<&Row>, path: &[&str]| row.and_then(|row| row.score(path));
    let numbers = [
        ("seconds", provenance::total(record)),
        ("warnings", Some(record.warnings.len() as f64)),
        ("memory", record.peak_memory.map(|bytes| bytes as f64 / 1e6)),
        (
            "genes_matched",
            provenance::number(&record.metrics, &["genes_matched"]),
        ),
        ("accuracy", score(annotated, &["accuracy"])),
        ("macro_f1", score(annotated, &["macro", "f1"])),
        (
            "integration",
            score(integrated, &["overall"]).or(score(integrated, &["avg_bio"])),
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
