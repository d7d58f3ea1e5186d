//! `scgpt-finetune-annotation` on simulated cells: accuracy, output files and options.

use crate::support::cells::{Simulated, TYPES};
use crate::support::programs::{fail, json, succeed, weights};
use crate::support::trained::{SIZE, TRAINED, TRAINING, finetune};
use crate::support::{cells, data};
use scgpt_tools::formats::Column;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// One epoch, for tests of single options.
const SHORT: [&str; 4] = ["--epochs", "1", "--batch-size", "16"];

/// Trains on the shared cells and returns the directory's `model.safetensors`.
fn model_bytes(output: &Path, extra: &[&str]) -> Vec<u8> {
    succeed(
        finetune(&TRAINED.cells, output)
            .args(SIZE)
            .args(SHORT)
            .args(extra),
    );
    fs::read(output.join("model.safetensors")).unwrap()
}

/// Epochs as they were written while training.
fn epochs(model: &Path) -> Vec<Value> {
    let text = fs::read_to_string(model.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn cell_types_are_predicted() {
    let scores = &json(TRAINED.model.join("test_metrics.json"))["scGPT"];
    let accuracy = scores["accuracy"].as_f64().unwrap();
    let tested: Vec<Vec<u64>> = serde_json::from_value(scores["confusion"].clone()).unwrap();
    let sizes: Vec<u64> = tested.iter().map(|row| row.iter().sum()).collect();
    let majority = *sizes.iter().max().unwrap() as f64 / sizes.iter().sum::<u64>() as f64;
    assert_eq!(sizes, [24, 16, 8], "a fifth of each cell type is held out");
    assert!(
        accuracy > 0.9 && accuracy > majority,
        "accuracy {accuracy}, of the most frequent cell type {majority}"
    );
}

#[test]
fn every_documented_file_is_written_and_agrees_with_the_others() {
    let model = &TRAINED.model;
    let mut names: Vec<String> = fs::read_dir(model)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let documented = [
        "args.json",
        "confusion.svg",
        "confusion.tsv",
        "events.out.tfevents.scgpt",
        "metrics.jsonl",
        "model.safetensors",
        "run.json",
        "test_metrics.json",
        "test_metrics.tsv",
        "vocab.json",
    ];
    assert_eq!(names, documented);
    assert!(
        !model.with_extension("partial").exists(),
        "the work directory is removed"
    );

    let scores = json(model.join("test_metrics.json"));
    let record = json(model.join("run.json"));
    assert_eq!(record["metrics"]["test"], scores);
    let methods = [
        "scGPT",
        "PCA + logistic regression",
        "PCA + nearest neighbors",
    ];
    assert_eq!(
        scores.as_object().unwrap().keys().collect::<Vec<_>>(),
        methods
    );
    let table = fs::read_to_string(model.join("test_metrics.tsv")).unwrap();
    for (method, line) in methods.iter().zip(table.lines().skip(1)) {
        assert!(
            line.starts_with(&format!(
                "{method}\t{:.6}\t",
                scores[method]["accuracy"].as_f64().unwrap()
            )),
            "{line}"
        );
        assert!(TRAINED.messages.contains(method), "{}", TRAINED.messages);
    }
    let confusion = fs::read_to_string(model.join("confusion.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = confusion
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows[0], ["true", "alpha", "beta", "gamma", "unassigned"]);
    for (row, (name, counts)) in rows[1..].iter().zip(
        TYPES
            .iter()
            .zip(scores["scGPT"]["confusion"].as_array().unwrap()),
    ) {
        let expected: Vec<String> = counts
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        assert_eq!(
            (row[0], &row[1..]),
            (
                *name,
                &expected.iter().map(String::as_str).collect::<Vec<_>>()[..]
            )
        );
    }
    let figure = fs::read_to_string(model.join("confusion.svg")).unwrap();
    assert!(figure.starts_with("<svg") && TYPES.iter().all(|name| figure.contains(name)));
    assert_eq!(epochs(model).len(), 24);
    let own = &json(model.join("args.json"))["scgpt_tools"];
    assert_eq!(
        (&own["classes"], own["genes"].as_array().unwrap().len()),
        (&json!(TYPES), 60)
    );
}

#[test]
fn weights_of_a_checkpoint_are_accounted_for() {
    let folder = tempdir().unwrap();
    let model = folder.path().join("model");
    let checkpoint = data("embedding/checkpoint");
    let mut command = finetune(&TRAINED.cells, &model);
    let messages = succeed(command.arg("--checkpoint").arg(&checkpoint).args(SHORT));
    let table = json(model.join("loaded_weights.json"));
    assert_eq!(
        json(model.join("run.json"))["metrics"]["loaded_weights"],
        table
    );
    let names =
        |what: &str| -> Vec<String> { serde_json::from_value(table[what].clone()).unwrap() };
    let (before, after) = (weights(&checkpoint), weights(&model));
    let mut accounted = [names("loaded"), names("unexpected")].concat();
    accounted.sort();
    let mut stored: Vec<String> = before.keys().cloned().collect();
    stored.sort();
    assert_eq!(
        accounted, stored,
        "every tensor of the checkpoint is in the table"
    );
    assert_eq!(names("loaded").len() + names("missing").len(), after.len());
    assert!(
        names("missing")
            .iter()
            .all(|name| name.starts_with("cls_decoder."))
            && !names("missing").is_empty()
    );
    assert!(
        names("unexpected")
            .iter()
            .any(|name| name.starts_with("mvc_decoder."))
    );
    for name in names("missing").iter().chain(&names("unexpected")) {
        assert!(
            messages.contains(name),
            "{name} is not in the output:\n{messages}"
        );
    }
    assert!(messages.contains("60 of 60 genes"), "{messages}");
    assert_eq!(json(model.join("run.json"))["metrics"]["genes_matched"], 60);
}

#[test]
fn heads_of_another_shape_are_listed() {
    let folder = tempdir().unwrap();
    let model = folder.path().join("model");
    let mut command = finetune(&TRAINED.cells, &model);
    succeed(
        command
            .arg("--checkpoint")
            .arg(data("annotation/checkpoint"))
            .args(SHORT),
    );
    let table = json(model.join("loaded_weights.json"));
    let wrong: Vec<&str> = table["wrong_shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        wrong,
        ["cls_decoder.out_layer.weight", "cls_decoder.out_layer.bias"],
        "5 classes became 3"
    );
}

#[test]
fn frozen_tensors_do_not_change() {
    let checkpoint = data("annotation/checkpoint");
    let before = weights(&checkpoint);
    for (freeze, frozen) in [
        ("encoders", &["encoder.", "value_encoder."][..]),
        (
            "backbone",
            &["encoder.", "value_encoder.", "transformer_encoder."],
        ),
    ] {
        let folder = tempdir().unwrap();
        let model = folder.path().join("model");
        let mut command = finetune(&TRAINED.cells, &model);
        succeed(
            command
                .arg("--checkpoint")
                .arg(&checkpoint)
                .args(["--freeze", freeze, "--weight-decay", "0.1"])
                .args(SHORT),
        );
        let after = weights(&model);
        let is_frozen = |name: &str| frozen.iter().any(|prefix| name.starts_with(prefix));
        for (name, tensor) in &after {
            if is_frozen(name) {
                assert_eq!(
                    tensor, &before[name],
                    "`{name}` changed with --freeze {freeze}"
                );
            }
        }
        let learned = |prefix: &str| {
            let mut tensors = after.iter().filter(|(name, _)| name.starts_with(prefix));
            tensors.any(|(name, tensor)| {
                before
                    .get(name)
                    .is_some_and(|old| old.shape() == tensor.shape() && old != tensor)
            })
        };
        assert!(
            learned("cls_decoder."),
            "the head learns with --freeze {freeze}"
        );
        assert_eq!(learned("transformer_encoder."), freeze == "encoders");
    }
}

#[test]
fn all_objectives_together_stay_finite() {
    let folder = tempdir().unwrap();
    let model = folder.path().join("model");
    let objectives = [
        "--gep-weight",
        "1",
        "--gepc-weight",
        "1",
        "--cce-weight",
        "10",
        "--ecs-weight",
        "10",
        "--dar-weight",
        "1",
        "--batch",
        "batch",
        "--class-weights",
    ];
    succeed(
        finetune(&TRAINED.cells, &model)
            .args(SIZE)
            .args(objectives)
            .args(["--epochs", "2"]),
    );
    for epoch in epochs(&model) {
        for part in ["training", "validation"] {
            let losses = epoch[part].as_object().unwrap();
            assert!(
                losses.len() >= 7,
                "the total and six objectives: {losses:?}"
            );
            for (name, loss) in losses {
                assert!(
                    loss.as_f64().is_some_and(f64::is_finite),
                    "{part} {name} is {loss}"
                );
            }
        }
    }
    for (name, tensor) in weights(&model) {
        assert!(
            tensor.to_f32().iter().all(|value| value.is_finite()),
            "{name}"
        );
    }
}

#[test]
fn the_model_is_a_function_of_the_seed_alone() {
    let folder = tempdir().unwrap();
    let bytes = |name: &str, extra: &[&str]| model_bytes(&folder.path().join(name), extra);
    let first = bytes("first", &["--threads", "2"]);
    assert!(
        first == bytes("again", &["--threads", "2"]),
        "another run gives another model"
    );
    assert!(
        first == bytes("threads", &["--threads", "1"]),
        "another number of threads gives another model"
    );
    assert!(
        first == bytes("more", &["--threads", "5"]),
        "another number of threads gives another model"
    );
    assert!(
        first != bytes("seed", &["--threads", "2", "--seed", "1"]),
        "the seed has no effect"
    );
}

#[test]
fn test_groups_are_held_out() {
    let folder = tempdir().unwrap();
    let model = folder.path().join("model");
    let groups = [
        "--batch",
        "batch",
        "--test-groups",
        "second",
        "--baselines=false",
    ];
    succeed(
        finetune(&TRAINED.cells, &model)
            .args(SIZE)
            .args(SHORT)
            .args(groups),
    );
    let scores = json(model.join("test_metrics.json"));
    assert_eq!(scores.as_object().unwrap().len(), 1, "no baselines");
    let tested = scores["scGPT"]["n_cells"].as_u64().unwrap();
    let second = (0..Simulated::SMALL.cells)
        .filter(|&cell| Simulated::batch_of(cell) == "second")
        .count();
    assert_eq!(tested, second as u64);

    let unknown = ["--batch", "batch", "--test-groups", "third"];
    let message = fail(
        finetune(&TRAINED.cells, &folder.path().join("other"))
            .args(SIZE)
            .args(unknown),
        65,
    );
    assert!(
        message.contains("`third`") && message.contains("first") && message.contains("second"),
        "{message}"
    );
}

#[test]
fn a_parameter_file_equals_flags() {
    let folder = tempdir().unwrap();
    let flags = folder.path().join("flags");
    let by_flags = model_bytes(&flags, &["--dropout", "0.1", "--class-weights"]);
    let (params, output) = (
        folder.path().join("params.json"),
        folder.path().join("params"),
    );
    let options = json!({
        "input": TRAINED.cells, "output": output, "labels": "cell_type", "device": "cpu", "n_layers": 1,
        "embedding_dim": 16, "n_heads": 2, "ffn_dim": 16, "epochs": 1, "batch_size": 16, "dropout": 0.1, "class_weights": true,
    });
    fs::write(&params, options.to_string()).unwrap();
    succeed(
        crate::support::programs::program("scgpt-finetune-annotation")
            .arg("--params")
            .arg(&params),
    );
    assert!(fs::read(output.join("model.safetensors")).unwrap() == by_flags);
    let resolved = |folder: &Path| {
        let mut options = json(folder.join("run.json"))["options"].clone();
        options["output"] = Value::Null;
        options
    };
    assert_eq!(resolved(&output), resolved(&flags));
    // A flag overrides the file.
    let flag = folder.path().join("flag");
    let mut command = crate::support::programs::program("scgpt-finetune-annotation");
    succeed(
        command
            .arg("--params")
            .arg(&params)
            .arg("--output")
            .arg(&flag)
            .args(["--seed", "7"]),
    );
    assert_eq!(json(flag.join("run.json"))["options"]["seed"], 7);
    assert_eq!(json(flag.join("run.json"))["options"]["dropout"], 0.1);
}

#[test]
fn cells_without_a_label_are_dropped() {
    let folder = tempdir().unwrap();
    let (input, model) = (
        folder.path().join("cells.h5ad"),
        folder.path().join("model"),
    );
    let simulated = Simulated {
        cells: 60,
        ..Simulated::SMALL
    };
    let labels: Vec<_> = (0..60)
        .map(|cell| (cell % 10 != 0).then(|| Simulated::type_of(cell)))
        .collect();
    cells::write(
        &input,
        &simulated.counts(),
        &simulated.gene_names(),
        [("cell_type", Column::from_labels(&labels))],
    );
    let messages = succeed(
        finetune(&input, &model)
            .args(SIZE)
            .args(SHORT)
            .args(&TRAINING[4..]),
    );
    assert!(
        messages.contains("6 cells have no label") && messages.contains("54 cells of 3 cell types"),
        "{messages}"
    );
}
