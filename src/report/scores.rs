//! Scores that runs recorded, as rows to be compared.

use serde_json::{Map, Value};

use super::gather::Found;
use super::lineage::{self, Training};

/// A method in a run with its scores.
#[derive(Debug, Clone)]
pub struct Row {
    /// Index of the run.
    pub run: usize,
    pub method: String,
    pub training: Training,
    pub data: String,
    /// As the run recorded them.
    pub scores: Value,
    pub seconds: Option<f64>,
    /// Peak of memory while the method ran, in bytes.
    pub memory: Option<u64>,
}

impl Row {
    /// A score at a path of keys.
    pub fn score(&self, path: &[&str]) -> Option<f64> {
        let value = path
            .iter()
            .try_fold(&self.scores, |value, key| value.get(key))?;
        value.as_f64().filter(|value| value.is_finite())
    }

    /// Method and how its model was trained.
    pub fn name(&self) -> String {
        if self.training == Training::Unknown || !self.is_ours() {
            return self.method.clone();
        }
        format!("{}, {}", self.method, self.training.name())
    }

    pub fn is_ours(&self) -> bool {
        self.method.starts_with("scGPT")
    }
}

/// Methods that named cells: `accuracy`, `macro`, `weighted`, `classes`, `confusion`.
pub fn annotation(runs: &[Found]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let metrics = &run.record.metrics;
        if let Some(Value::Object(methods)) = metrics.get("test") {
            let scored = methods
                .iter()
                .filter(|(_, scores)| scores.get("accuracy").is_some());
            rows.extend(scored.map(|(method, scores)| row(at, runs, method, scores)));
        }
        if let Some(scores) = metrics
            .get("scores")
            .filter(|scores| scores.get("accuracy").is_some())
        {
            rows.push(row(at, runs, "scGPT", scores));
        }
    }
    rows
}

/// Methods that joined batches: `avg_bio`, `avg_batch`, `nmi`, `ari` and others.
pub fn integration(runs: &[Found]) -> Vec<Row> {
    let scored = |at: usize| {
        let methods = runs[at]
            .record
            .metrics
            .get("scores")
            .and_then(Value::as_object);
        let methods = methods.filter(|methods| {
            methods
                .values()
                .any(|scores| scores.get("avg_bio").is_some() || scores.get("avg_batch").is_some())
        });
        rows(at, runs, methods)
    };
    (0..runs.len()).flat_map(scored).collect()
}

/// Methods that predicted perturbations: by group of conditions, the mean of each score.
pub fn perturbation(runs: &[Found]) -> Vec<(String, Row)> {
    let mut found = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let groups = run.record.metrics.get("test").and_then(Value::as_object);
        for (group, methods) in groups.into_iter().flatten() {
            let methods = methods.as_object().filter(|methods| {
                methods
                    .values()
                    .any(|scores| scores.get("pearson_delta").is_some())
            });
            found.extend(
                rows(at, runs, methods)
                    .into_iter()
                    .map(|row| (group.clone(), row)),
            );
        }
    }
    found
}

fn rows(at: usize, runs: &[Found], methods: Option<&Map<String, Value>>) -> Vec<Row> {
    let methods = methods.into_iter().flatten();
    methods
        .map(|(method, scores)| row(at, runs, method, scores))
        .collect()
}

fn row(at: usize, runs: &[Found], method: &str, scores: &Value) -> Row {
    let record = &runs[at].record;
    let stages = stages(&record.program, method);
    let ours = method.starts_with("scGPT");
    Row {
        run: at,
        method: method.to_owned(),
        training: if ours {
            Training::of(at, runs)
        } else {
            Training::Unknown
        },
        data: lineage::data(record),
        scores: scores.clone(),
        seconds: lineage::seconds(record, stages),
        memory: lineage::memory(record, stages),
    }
}

/// The stages in which a program computes what a method needs.
fn stages(program: &str, method: &str) -> &'static [&'static str] {
    match (program, method) {
        ("scgpt-finetune-annotation" | "scgpt-finetune-perturbation", "scGPT") => &["train"],
        ("scgpt-annotate", "scGPT") => &["annotate"],
        ("scgpt-integrate", "scGPT") => &["train", "embed"],
        ("scgpt-integrate", "PCA") => &["principal components"],
        ("scgpt-integrate", "Harmony") => &["principal components", "Harmony"],
        ("scgpt-finetune-perturbation", "perceptron") => &["perceptron"],
        ("scgpt-finetune-annotation" | "scgpt-finetune-perturbation", _) => &["baselines"],
        _ => &[],
    }
}
