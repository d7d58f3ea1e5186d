//! Recorded scores of methods, as rows for comparison.

use serde_json::{Map, Value};

use super::collect::Found;
use super::provenance::{self, Training};

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
    /// Peak memory while the method ran, in bytes.
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

/// Cell type annotation: `accuracy`, `macro`, `weighted`, `classes`, `confusion` by method under `test` or `scores`; scores
/// without a method are those of scGPT.
pub fn annotation(runs: &[Found]) -> Vec<Row> {
    let has_accuracy = |scores: &Value| scores.get("accuracy").is_some();
    let mut rows = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let metrics = &run.record.metrics;
        for found in ["test", "scores"]
            .iter()
            .filter_map(|name| metrics.get(*name))
        {
            if has_accuracy(found) {
                rows.push(row(at, runs, "scGPT", found));
                continue;
            }
            let methods = found.as_object().into_iter().flatten();
            rows.extend(
                methods
                    .filter(|(_, scores)| has_accuracy(scores))
                    .map(|(method, scores)| row(at, runs, method, scores)),
            );
        }
    }
    rows
}

/// Integration: `avg_bio`, `avg_batch`, `nmi`, `ari` and others.
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

/// Perturbation response prediction: by group of conditions, the mean of each score.
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

/// Imputation: `correlation` and `squared_error` of a masked modality, `error` in bins of held-out genes.
pub fn imputation(runs: &[Found]) -> Vec<Row> {
    let is_score = |scores: &Value| scores.get("correlation").is_some();
    let mut found = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for name in ["masked_modality", "held_out"] {
            let methods = run.record.metrics.get(name).and_then(Value::as_object);
            let methods = methods.into_iter().flatten();
            found.extend(
                methods
                    .filter(|(_, scores)| is_score(scores))
                    .map(|(method, scores)| row(at, runs, display_name(method), scores)),
            );
        }
    }
    found
}

/// Names of the methods of scgpt-generate in the report.
fn display_name(method: &str) -> &str {
    match method {
        "iterative" => "scGPT, iterative",
        "single_pass" => "scGPT, single pass",
        "baseline_gene_mean" => "gene mean",
        "baseline_knn" => "kNN",
        other => other,
    }
}

fn rows(at: usize, runs: &[Found], methods: Option<&Map<String, Value>>) -> Vec<Row> {
    let methods = methods.into_iter().flatten();
    methods
        .map(|(method, scores)| row(at, runs, method, scores))
        .collect()
}

fn row(at: usize, runs: &[Found], method: &str, scores: &Value) -> Row {
    let record = &runs[at].record;
    let stages = &stages(&record.program, method);
    let is_own = method.starts_with("scGPT");
    Row {
        run: at,
        method: method.to_owned(),
        training: if is_own {
            Training::of(at, runs)
        } else {
            Training::Unknown
        },
        data: provenance::data(record),
        scores: scores.clone(),
        seconds: provenance::seconds(record, stages),
        memory: provenance::memory(record, stages),
    }
}

/// The stages in which a program runs a method, without scoring. Other methods have a stage of the same name, or share one and
/// have no separate time.
fn stages<'a>(program: &str, method: &'a str) -> Vec<&'a str> {
    match (program, method) {
        ("scgpt-finetune-annotation" | "scgpt-finetune-perturbation", "scGPT") => {
            vec!["train", "predict"]
        }
        ("scgpt-finetune-annotation", "PCA + logistic regression") => {
            vec!["pca", "pca_logistic_regression"]
        }
        ("scgpt-finetune-annotation", "PCA + nearest neighbors") => vec!["pca", "pca_knn"],
        ("scgpt-annotate", "scGPT") => vec!["annotate"],
        ("scgpt-integrate", "scGPT") => vec!["train", "embed"],
        ("scgpt-integrate", "PCA") => vec!["pca"],
        ("scgpt-integrate", "Harmony") => vec!["pca", "harmony"],
        ("scgpt-map-reference query", "scGPT") => vec!["search"],
        ("scgpt-map-reference query", "PCA") => vec!["baseline"],
        _ => vec![method],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(program: &str, timings: Value, metrics: Value) -> Found {
        let record = json!({
            "program": program, "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": "", "finished": "", "options": {}, "seed": 0, "device": null, "threads": 1,
            "inputs": [], "outputs": [], "timings": timings, "metrics": metrics, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        Found {
            record: serde_json::from_value(record).unwrap(),
            path: "run.json".into(),
            curve: Vec::new(),
        }
    }

    #[test]
    fn annotation_methods_of_all_programs_are_rows() {
        let timings =
            json!([{"stage": "search", "seconds": 2.0}, {"stage": "baseline", "seconds": 3.0}]);
        let runs = [
            run(
                "scgpt-map-reference query",
                timings,
                json!({"scores": {"scGPT": {"accuracy": 0.9}, "PCA": {"accuracy": 0.8}}}),
            ),
            run(
                "scgpt-annotate",
                json!([]),
                json!({"scores": {"accuracy": 0.7}}),
            ),
            run(
                "scgpt-integrate",
                json!([]),
                json!({"scores": {"scGPT": {"avg_bio": 0.6}}}),
            ),
        ];
        let rows = annotation(&runs);
        let found: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.run,
                    row.method.as_str(),
                    row.score(&["accuracy"]),
                    row.seconds,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (0, "scGPT", Some(0.9), Some(2.0)),
                (0, "PCA", Some(0.8), Some(3.0)),
                (1, "scGPT", Some(0.7), None)
            ]
        );
        assert_eq!(integration(&runs).len(), 1);
    }

    #[test]
    fn a_method_has_the_time_of_its_own_stages() {
        let timings = json!([
            {"stage": "baselines", "seconds": 9.0}, {"stage": "additive", "seconds": 1.0, "within": "test"},
            {"stage": "predict", "seconds": 2.0, "within": "test"}, {"stage": "test", "seconds": 20.0}, {"stage": "train", "seconds": 5.0},
        ]);
        let scores = json!({"pearson_delta": {"mean": 0.5}});
        let test =
            json!({"test": {"all": {"scGPT": scores, "additive": scores, "control": scores}}});
        let rows = perturbation(&[run("scgpt-finetune-perturbation", timings, test)]);
        let mut found: Vec<_> = rows
            .iter()
            .map(|(_, row)| (row.method.as_str(), row.seconds))
            .collect();
        found.sort_by_key(|(method, _)| *method);
        assert_eq!(
            found,
            [
                ("additive", Some(1.0)),
                ("control", None),
                ("scGPT", Some(7.0))
            ]
        );
    }
}
