//! `scgpt-checkpoint inspect` and `convert` on golden checkpoints.

use crate::support::programs::{fail, program, succeed, weights};
use crate::support::{cells, data, programs};
use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_match};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

fn inspect(folder: &str) -> Command {
    let mut command = program("scgpt-checkpoint");
    command.arg("inspect").arg(data(folder));
    command
}

fn report(folder: &str) -> Value {
    let done = inspect(folder).arg("--json").assert().success();
    serde_json::from_slice(&done.get_output().stdout).expect("JSON alone on standard output")
}

#[test]
fn inspect_describes_a_model() {
    inspect("annotation/checkpoint").assert().success().stdout(
        is_match(r"naming +A")
            .unwrap()
            .and(is_match(r"architecture +2 layers, embedding dimension 32, 4 heads, feed-forward dimension 32").unwrap())
            .and(is_match(r"vocabulary +203 tokens \(<pad> 200, <cls> 201, <eoc> 202\)").unwrap())
            .and(is_match(r"problems +none").unwrap())
            .and(contains("start of fine-tuning")),
    );
    let report = report("annotation/checkpoint");
    assert_eq!(
        (
            &report["architecture"]["nlayers"],
            &report["architecture"]["embsize"]
        ),
        (&2.into(), &32.into())
    );
    assert_eq!(
        report["vocabulary"]["specials"],
        json!({"<pad>": 200, "<cls>": 201, "<eoc>": 202})
    );
    assert_eq!(report["problems"], json!([]));
}

#[test]
fn inspect_distinguishes_naming_schemes_and_tasks() {
    let naming = |folder: &str| report(folder)["naming"].to_string();
    let schemes = [
        "annotation/checkpoint",
        "layouts/B_flash_direct",
        "layouts/C_flash_wrapped",
        "layouts/D_data_parallel",
    ]
    .map(naming);
    for (i, one) in schemes.iter().enumerate() {
        assert!(
            schemes[i + 1..].iter().all(|other| other != one),
            "{schemes:?}"
        );
    }
    let uses = |folder: &str| -> Vec<String> {
        serde_json::from_value(report(folder)["uses"].clone()).unwrap()
    };
    let has = |folder: &str, task: &str| uses(folder).iter().any(|found| found == task);
    assert!(has("annotation/checkpoint", "annotation-without-names"));
    assert!(
        has("embedding/checkpoint", "embedding")
            && !has("embedding/checkpoint", "annotation-without-names")
    );
    assert!(
        has("integration/checkpoint", "integration")
            && !has("annotation/checkpoint", "integration")
    );
    assert!(has("perturbation/checkpoint", "perturbation"));
}

#[test]
fn inspect_lists_problems_and_still_reports() {
    let folder = tempdir().unwrap();
    for name in ["args.json", "model.safetensors"] {
        fs::copy(
            data("annotation/checkpoint").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    let mut command = program("scgpt-checkpoint");
    let done = command.arg("inspect").arg(folder.path()).assert().success();
    done.stdout(
        contains("vocab.json")
            .and(is_match("problems +none").unwrap().not())
            .and(contains("architecture")),
    );
}

fn convert(from: &Path, to: &Path, extra: &[&str]) {
    succeed(
        program("scgpt-checkpoint")
            .arg("convert")
            .arg(from)
            .arg(to)
            .args(extra),
    );
}

#[test]
fn a_round_trip_changes_no_bit() {
    for checkpoint in [
        "annotation/checkpoint",
        "integration/checkpoint",
        "layouts/B_flash_direct",
        "multiomic/checkpoint",
    ] {
        let folder = tempdir().unwrap();
        let [pytorch, own, again] =
            ["pytorch", "own", "again"].map(|name| folder.path().join(name));
        convert(&data(checkpoint), &pytorch, &["--to", "pytorch"]);
        convert(&pytorch, &own, &["--to", "safetensors"]);
        convert(&own, &again, &["--to", "pytorch"]);
        let original = weights(&data(checkpoint));
        for written in [&pytorch, &own, &again] {
            let found = weights(written);
            assert_eq!(found.len(), original.len());
            for (name, tensor) in &original {
                assert!(
                    found.get(name) == Some(tensor),
                    "`{name}` of {checkpoint} differs"
                );
            }
        }
        assert!(pytorch.join("best_model.pt").is_file() && own.join("model.safetensors").is_file());
        let twice = folder.path().join("twice");
        convert(&own, &twice, &["--to", "pytorch"]);
        let file = |folder: &Path| fs::read(folder.join("best_model.pt")).unwrap();
        assert!(file(&again) == file(&twice), "the file is not reproducible");
        let vocabulary = |folder: &Path| programs::json(folder.join("vocab.json"));
        assert_eq!(vocabulary(&again), vocabulary(&data(checkpoint)));
        let arguments = programs::json(data(checkpoint).join("args.json"));
        for (key, value) in arguments.as_object().unwrap() {
            assert_eq!(
                &programs::json(again.join("args.json"))[key],
                value,
                "{key}"
            );
        }
    }
}

#[test]
fn an_existing_directory_is_kept() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    let mut command = program("scgpt-checkpoint");
    let message = fail(
        command
            .arg("convert")
            .arg(data("annotation/checkpoint"))
            .arg(folder.path()),
        74,
    );
    assert!(
        message.contains("exists already") && message.contains("another name"),
        "{message}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn models_are_found_by_name() {
    let (empty, models) = (tempdir().unwrap(), tempdir().unwrap());
    convert(
        &data("annotation/checkpoint"),
        &models.path().join("scgpt_human"),
        &[],
    );
    let folders = std::env::join_paths([empty.path(), models.path()]).unwrap();
    let mut command = program("scgpt-checkpoint");
    command
        .env("SCGPT_MODELS", &folders)
        .args(["inspect", "scgpt_human"]);
    command
        .assert()
        .success()
        .stdout(contains("scgpt_human").and(contains("203 tokens")));

    let input = empty.path().join("cells.h5ad");
    cells::Simulated {
        cells: 4,
        ..cells::Simulated::SMALL
    }
    .write(&input);
    let mut command = programs::from_to("scgpt-embed", &input, &empty.path().join("embedded.h5ad"));
    succeed(
        command
            .env("SCGPT_MODELS", &folders)
            .args(["--checkpoint", "scgpt_human"]),
    );

    let message = fail(
        program("scgpt-checkpoint")
            .env("SCGPT_MODELS", &folders)
            .args(["inspect", "scgpt_mouse"]),
        65,
    );
    let (empty, models) = (empty.path().display(), models.path().display());
    for part in [
        "`scgpt_mouse`",
        "SCGPT_MODELS",
        &format!("`{empty}` has no models"),
        &format!("`{models}` has `scgpt_human`"),
    ] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
    let message = fail(
        program("scgpt-checkpoint").args(["inspect", "scgpt_mouse"]),
        65,
    );
    assert!(message.contains("the variable is not set"), "{message}");
}
