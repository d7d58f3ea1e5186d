//! Where a run's model came from, and how a run is told from the others.

use serde_json::{Map, Value};

use super::gather::Found;
use crate::run_record::Record;

/// How a model came to its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Training {
    FineTuned,
    FromScratch,
    ZeroShot,
    /// The record does not tell, or there is no model.
    Unknown,
}

impl Training {
    /// As the page says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FineTuned => "fine-tuned",
            Self::FromScratch => "from scratch",
            Self::ZeroShot => "zero-shot",
            Self::Unknown => "not told",
        }
    }

    /// What the options of a run say; of a run that only uses a model, what the run that made the model says.
    pub fn of(at: usize, runs: &[Found]) -> Self {
        Self::trace(at, runs, runs.len())
    }

    fn trace(at: usize, runs: &[Found], steps: usize) -> Self {
        let record = &runs[at].record;
        let is_given = |name: &str| {
            record
                .options
                .get(name)
                .is_some_and(|value| !value.is_null())
        };
        let trains = record.options.contains_key("epochs")
            && record.options.get("no_train") != Some(&Value::Bool(true));
        match maker(at, runs) {
            _ if trains && is_given("checkpoint") => Self::FineTuned,
            _ if trains => Self::FromScratch,
            Some(maker) if steps > 0 && runs[maker].record.program != "scgpt-pretrain" => {
                Self::trace(maker, runs, steps - 1)
            }
            _ if is_given("checkpoint") => Self::ZeroShot,
            _ => Self::Unknown,
        }
    }
}

/// The run whose model this run read, if it is there and another one.
pub fn maker(at: usize, runs: &[Found]) -> Option<usize> {
    let is_weights = |path: &std::path::Path| {
        path.extension()
            .is_some_and(|extension| extension == "safetensors" || extension == "pt")
    };
    let read = runs[at]
        .record
        .inputs
        .iter()
        .find(|input| is_weights(&input.path) && !input.sha256.is_empty())?;
    runs.iter()
        .position(|run| {
            let mut written = run.record.outputs.iter();
            written.any(|output| is_weights(&output.path) && output.sha256 == read.sha256)
        })
        .filter(|maker| *maker != at)
}

/// The names of the first inputs that hold cells, without their folders.
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

/// How a run is called on the page: its number, program and main output.
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

/// Seconds of all stages; none of a run that ended before the first.
pub fn whole(record: &Record) -> Option<f64> {
    (!record.timings.is_empty()).then(|| record.timings.iter().map(|timing| timing.seconds).sum())
}

/// Seconds that the named stages took together; none if there is none of them.
pub fn seconds(record: &Record, stages: &[&str]) -> Option<f64> {
    let found: Vec<f64> = record
        .timings
        .iter()
        .filter(|timing| stages.contains(&timing.stage.as_str()))
        .map(|timing| timing.seconds)
        .collect();
    (!found.is_empty()).then(|| found.iter().sum())
}

/// Peak of memory (bytes) over the named stages.
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

    fn run(program: &str, options: Value, read: &[&str], written: &[&str]) -> Found {
        let files = |names: &[&str]| {
            names.iter().map(|name| json!({"path": format!("{name}.safetensors"), "size": 1, "sha256": name})).collect::<Vec<_>>()
        };
        let record = json!({
            "program": program, "version": "0.1.0", "started": "", "finished": "", "options": options, "seed": 0, "device": null, "threads": 1,
            "inputs": files(read), "outputs": files(written), "timings": [], "metrics": {}, "notes": [], "warnings": [], "exit_status": 0, "error": null,
        });
        Found {
            record: serde_json::from_value(record).unwrap(),
            path: "run.json".into(),
            course: Vec::new(),
        }
    }

    #[test]
    fn training_is_told_by_options_and_by_the_run_that_made_the_model() {
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
                json!({"epochs": null, "checkpoint": null, "no_train": false}),
                &[],
                &["c"],
            ),
            run(
                "scgpt-integrate",
                json!({"epochs": null, "checkpoint": "a", "no_train": true}),
                &["a"],
                &[],
            ),
            run("scgpt-embed", json!({"checkpoint": "c"}), &["c"], &[]),
            run("scgpt-tokenize", json!({}), &[], &[]),
        ];
        let told = (0..runs.len())
            .map(|at| Training::of(at, &runs).name())
            .collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                "from scratch",
                "fine-tuned",
                "fine-tuned",
                "from scratch",
                "zero-shot",
                "from scratch",
                "not told"
            ]
        );
    }
}
