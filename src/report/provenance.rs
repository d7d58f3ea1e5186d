//! Provenance of the models of runs, and labels of runs.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::collect::Found;
use crate::run_record::{Artefact, Record};

/// How a model was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Training {
    FineTuned,
    FromScratch,
    ZeroShot,
    /// Not recorded, or no model.
    Unknown,
}

impl Training {
    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::FineTuned => "fine-tuned",
            Self::FromScratch => "from scratch",
            Self::ZeroShot => "zero-shot",
            Self::Unknown => "unknown",
        }
    }

    /// By the options of a run that trains; otherwise by those of the run that wrote its model, or if that is missing, by the
    /// files next to the weights.
    pub fn of(at: usize, runs: &[Found]) -> Self {
        let (mut at, mut visited) = (at, HashSet::new());
        while visited.insert(at) {
            let record = &runs[at].record;
            if let Some(training) = Self::by_options(record) {
                return training;
            }
            match source(at, runs) {
                Some(source) if runs[source].record.program == "scgpt-pretrain" => {
                    return Self::ZeroShot;
                }
                Some(source) => at = source,
                None => return Self::by_files(record),
            }
        }
        Self::Unknown
    }

    /// For a run that trains.
    fn by_options(record: &Record) -> Option<Self> {
        let option = |name: &str| record.options.get(name);
        let trains = option("epochs").is_some() && option("zero_shot") != Some(&Value::Bool(true));
        let starts = option("checkpoint").is_some_and(|value| !value.is_null());
        trains.then_some(if starts {
            Self::FineTuned
        } else {
            Self::FromScratch
        })
    }

    /// For a run whose model has no run record: zero-shot requires weights as released, and no trace of training.
    fn by_files(record: &Record) -> Self {
        let Some(weights) = record.inputs.iter().find(|input| is_weights(input)) else {
            return Self::Unknown;
        };
        let has = |name: &str| {
            let path = weights.path.with_file_name(name);
            record.inputs.iter().any(|input| input.path == path)
        };
        if has(STARTED_FROM) {
            Self::FineTuned
        } else if has(RELEASED) && !TRACES.iter().any(|name| has(name)) {
            Self::ZeroShot
        } else {
            Self::Unknown
        }
    }
}

/// File next to fine-tuned weights.
const STARTED_FROM: &str = "loaded_weights.json";
/// Files next to any trained weights.
const TRACES: [&str; 2] = ["metrics.jsonl", "run.json"];
/// File name of weights as released by the authors of scGPT; others may be fine-tuned.
const RELEASED: &str = "best_model.pt";

fn is_weights(file: &Artefact) -> bool {
    let extension = file.path.extension();
    extension.is_some_and(|extension| extension == "safetensors" || extension == "pt")
}

/// The run that wrote the model of this run; for a run without a model, the run that wrote its inputs, such as embedded cells.
/// None if it is not among the runs.
pub fn source(at: usize, runs: &[Found]) -> Option<usize> {
    let inputs = &runs[at].record.inputs;
    let reads_weights = inputs.iter().any(is_weights);
    // Vocabularies and other JSON files are shared by many models.
    let is_specific = |input: &&Artefact| {
        if reads_weights {
            is_weights(input)
        } else {
            input
                .path
                .extension()
                .is_none_or(|extension| extension != "json")
        }
    };
    let is_written = |run: &Found, read: &Artefact| {
        let mut written = run.record.outputs.iter();
        written.any(|output| output.sha256 == read.sha256)
    };
    inputs
        .iter()
        .filter(|input| !input.sha256.is_empty())
        .filter(is_specific)
        .find_map(|read| {
            let mut others = (0..runs.len()).filter(|other| *other != at);
            others.find(|&other| is_written(&runs[other], read))
        })
}

/// File names of the first inputs.
pub fn data(record: &Record) -> String {
    let given = match record.options.get("input") {
        Some(Value::Array(paths)) => paths
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(path)) => vec![path.clone()],
        _ => Vec::new(),
    };
    let names: Vec<String> = given
        .iter()
        .map(|path| file_name(path).trim_end_matches(".h5ad").to_owned())
        .collect();
    match names.len() {
        0 => record.inputs.first().map_or_else(String::new, |input| {
            file_name(&input.path.to_string_lossy())
        }),
        1 | 2 => names.join(", "),
        n => format!("{}, {} and {} more", names[0], names[1], n - 2),
    }
}

fn file_name(path: &str) -> String {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Label of a run in the report: its number, program and main output.
pub fn label(at: usize, record: &Record) -> String {
    let output = record
        .options
        .get("output")
        .and_then(Value::as_str)
        .map(file_name)
        .unwrap_or_default();
    let program = record.program.trim_start_matches("scgpt-");
    format!("{}. {program} {output}", at + 1)
        .trim_end()
        .to_owned()
}

/// Seconds of all stages, nested ones counted once; none for a run without stages.
pub fn total(record: &Record) -> Option<f64> {
    let outermost = record
        .timings
        .iter()
        .filter(|timing| timing.within.is_none());
    (!record.timings.is_empty()).then(|| outermost.map(|timing| timing.seconds).sum())
}

/// Total seconds of the named stages; none if there are none.
pub fn seconds(record: &Record, stages: &[&str]) -> Option<f64> {
    let found: Vec<f64> = record
        .timings
        .iter()
        .filter(|timing| stages.contains(&timing.stage.as_str()))
        .map(|timing| timing.seconds)
        .collect();
    (!found.is_empty()).then(|| found.iter().sum())
}

/// Peak memory (bytes) over the named stages.
pub fn memory(record: &Record, stages: &[&str]) -> Option<u64> {
    record
        .timings
        .iter()
        .filter(|timing| stages.contains(&timing.stage.as_str()))
        .filter_map(|timing| timing.peak_memory)
        .max()
}

/// A number at a path of keys.
pub fn number(map: &Map<String, Value>, path: &[&str]) -> Option<f64> {
    let (first, rest) = path.split_first()?;
    let value = rest
        .iter()
        .try_fold(map.get(*first)?, |value, key| value.get(key))?;
    value.as_f64().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Weights unless the name has an extension.
    fn file(name: &str) -> String {
        let extension = if name.contains('.') {
            ""
        } else {
            ".safetensors"
        };
        format!("model/{name}{extension}")
    }

    fn run(program: &str, options: Value, read: &[&str], written: &[&str]) -> Found {
        let files = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({"path": file(name), "size": 1, "sha256": name}))
                .collect::<Vec<_>>()
        };
        let record = json!({
            "program": program, "format": "scgpt-run-record", "format_version": 2, "scgpt_tools_version": "0.1.0", "started": "", "finished": "", "options": options, "seed": 0, "device": null, "threads": 1,
            "inputs": files(read), "outputs": files(written), "timings": [], "metrics": {}, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        Found {
            record: serde_json::from_value(record).unwrap(),
            path: "run.json".into(),
            curve: Vec::new(),
        }
    }

    #[test]
    fn training_follows_from_options_and_from_the_run_that_wrote_the_model() {
        let runs = [
            run(
                "scgpt-pretrain",
                json!({"epochs": 2, "checkpoint": null}),
                &[],
                &["a"],
            ),
            run(
                "scgpt-finetune-annotation",
                json!({"epochs": 2, "checkpoint": "a"}),
                &["a"],
                &["b"],
            ),
            run("scgpt-annotate", json!({"model": "b"}), &["b"], &[]),
            run(
                "scgpt-integrate",
                json!({"epochs": null, "checkpoint": null, "zero_shot": false}),
                &[],
                &["c"],
            ),
            run(
                "scgpt-integrate",
                json!({"epochs": null, "checkpoint": "a", "zero_shot": true}),
                &["a"],
                &[],
            ),
            run("scgpt-embed", json!({"checkpoint": "c"}), &["c"], &[]),
            run("scgpt-tokenize", json!({}), &[], &[]),
        ];
        assert_eq!(
            names(&runs),
            [
                "from scratch",
                "fine-tuned",
                "fine-tuned",
                "from scratch",
                "zero-shot",
                "from scratch",
                "unknown"
            ]
        );
    }

    fn names(runs: &[Found]) -> Vec<&'static str> {
        (0..runs.len())
            .map(|at| Training::of(at, runs).name())
            .collect()
    }

    #[test]
    fn a_model_without_a_record_is_zero_shot_only_without_traces_of_training() {
        let read = |files: &[&str]| {
            run(
                "scgpt-integrate",
                json!({"epochs": null, "checkpoint": "m", "zero_shot": true}),
                files,
                &[],
            )
        };
        let runs = [
            read(&["args.json", "best_model.pt", "vocab.json"]),
            read(&["best_model.pt", "metrics.jsonl"]),
            read(&["args.json", "metrics.jsonl", "model", "vocab.json"]),
            read(&["args.json", "loaded_weights.json", "model"]),
            read(&["args.json", "model"]),
        ];
        assert_eq!(
            names(&runs),
            ["zero-shot", "unknown", "unknown", "fine-tuned", "unknown"]
        );
    }

    #[test]
    fn the_model_of_embedded_cells_is_found() {
        let runs = [
            run(
                "scgpt-pretrain",
                json!({"epochs": 2}),
                &[],
                &["a", "vocab.json"],
            ),
            run(
                "scgpt-finetune-annotation",
                json!({"epochs": 2, "checkpoint": "a"}),
                &["a"],
                &["b", "vocab.json"],
            ),
            run(
                "scgpt-embed",
                json!({"checkpoint": "b"}),
                &["cells.h5ad", "b", "vocab.json"],
                &["embedded.h5ad"],
            ),
            run(
                "scgpt-map-reference query",
                json!({}),
                &["embedded.h5ad"],
                &["mapped.h5ad"],
            ),
            // A vocabulary alone does not identify a model.
            run("scgpt-tokenize", json!({}), &["vocab.json"], &[]),
        ];
        assert_eq!(names(&runs)[2..], ["fine-tuned", "fine-tuned", "unknown"]);
    }

    #[test]
    fn models_written_from_each_other_are_unknown() {
        let convert =
            |read, written| run("scgpt-checkpoint convert", json!({}), &[read], &[written]);
        let runs = [convert("a", "b"), convert("b", "a"), convert("c", "c")];
        assert_eq!(names(&runs), ["unknown"; 3]);
    }

    #[test]
    fn nested_stages_are_counted_once() {
        let mut found = run("scgpt-integrate", json!({}), &[], &[]);
        let timing = |stage: &str, seconds: f64, within: Option<&str>| crate::run_record::Timing {
            stage: stage.into(),
            seconds,
            peak_memory: None,
            within: within.map(str::to_owned),
        };
        assert_eq!(total(&found.record), None);
        found.record.timings = vec![
            timing("train", 2.0, None),
            timing("Harmony", 0.5, Some("score")),
            timing("score", 1.0, None),
        ];
        assert_eq!(total(&found.record), Some(3.0));
    }
}
