//! `--log-format json`: every line on standard error is one JSON object, on success and failure.

use crate::support::{data, programs};
use serde_json::Value;
use std::fs;
use tempfile::tempdir;

/// The objects of a log, each checked for what all of them have.
#[track_caller]
fn objects(log: &str) -> Vec<Value> {
    let object = |line: &str| {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["time", "level", "message"] {
            assert!(object[key].is_string(), "no `{key}` in {line}");
        }
        object
    };
    log.lines().map(object).collect()
}

fn messages<'a>(objects: &'a [Value], level: &str) -> Vec<&'a str> {
    let of_level = objects.iter().filter(|object| object["level"] == level);
    of_level
        .map(|object| object["message"].as_str().unwrap())
        .collect()
}

/// The log of a command that fails with the given code.
#[track_caller]
fn failed(command: &mut assert_cmd::Command, code: i32) -> Vec<Value> {
    let done = command.assert().code(code);
    objects(&String::from_utf8(done.get_output().stderr.clone()).unwrap())
}

#[test]
fn wrong_usage_is_an_object_for_every_problem() {
    let log = failed(
        programs::program("scgpt-annotate").args([
            "--log-format",
            "json",
            "--threshold",
            "2",
            "--model",
            "m",
            "--modle",
        ]),
        2,
    );
    let errors = messages(&log, "error");
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert_eq!(
        errors[0],
        "unknown option `--modle`; did you mean `--model`?"
    );
    assert!(
        errors[3].starts_with("`--threshold`: found `2.0`"),
        "{errors:?}"
    );
    assert!(messages(&log, "usage")[0].contains("scgpt-annotate"));
}

#[test]
fn a_parameter_file_sets_the_log_format() {
    let folder = tempdir().unwrap();
    let params = folder.path().join("p.json");
    fs::write(&params, r#"{"log_format": "json", "epochs": 0}"#).unwrap();
    let mut command = programs::program("scgpt-finetune-annotation");
    let log = failed(command.arg("--params").arg(&params), 2);
    assert!(
        messages(&log, "error")
            .iter()
            .any(|text| text.contains("`epochs` in"))
    );
}

#[test]
fn a_wrong_subcommand_is_an_object_too() {
    let mut command = programs::program("scgpt-checkpoint");
    let log = failed(command.args(["inspct", "--log-format=json"]), 2);
    assert!(messages(&log, "error")[0].contains("inspct"));
}

#[test]
fn a_rejected_input_is_an_error_object() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("text.h5ad");
    fs::write(&input, "hello").unwrap();
    let mut command = programs::from_to("scgpt-embed", &input, &folder.path().join("out.h5ad"));
    command
        .arg("--checkpoint")
        .arg(data("embedding/checkpoint"))
        .args(["--log-format", "json"]);
    let log = failed(&mut command, 65);
    assert!(messages(&log, "error")[0].contains("not an HDF5 file"));
}

#[test]
fn notes_and_progress_are_objects_with_figures() {
    let folder = tempdir().unwrap();
    let run = |extra: &[&str]| {
        let mut command = programs::from_to(
            "scgpt-embed",
            &data("embedding/cells_counts.h5ad"),
            &folder.path().join("out.h5ad"),
        );
        command
            .arg("--checkpoint")
            .arg(data("embedding/checkpoint"))
            .args(["--log-format", "json"])
            .args(extra);
        objects(&programs::succeed(&mut command))
    };
    let log = run(&["--verbose"]);
    assert!(messages(&log, "note").contains(&"computing on CPU"));
    assert!(messages(&log, "detail").contains(&"load_model"));
    let progress: Vec<_> = log.iter().filter(|o| o["level"] == "progress").collect();
    let (first, last) = (progress[0], progress[progress.len() - 1]);
    assert_eq!(first["done"], 0);
    assert!(first["seconds_left"].is_null());
    assert_eq!(
        (&last["done"], &last["unit"]),
        (&last["total"], &"cells".into())
    );
    assert!(last["per_second"].as_f64().unwrap() > 0.0);
    let record = programs::json(folder.path().join("out.run.json"));
    assert_eq!(record["options"]["log_format"], "json");
    assert!(run(&["--quiet"]).is_empty());
}
