//! Output files read by Python `anndata` and `safetensors`: old content unchanged, new content as expected.

use crate::support::programs::{from_to, obsm, program, succeed, uns_text, weights};
use crate::support::python::{check, python};
use crate::support::trained::TRAINED;
use crate::support::{cells::Simulated, data, sha256};
use scgpt_tools::formats::Column;
use scgpt_tools::formats::h5ad::File;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// A column as the checking script expects it.
fn column(column: &Column) -> Value {
    match column {
        Column::Categorical {
            categories,
            ordered,
            ..
        } => {
            json!({"labels": column.to_labels(), "categories": categories, "ordered": ordered})
        }
        Column::Number(numbers) => json!({"labels": numbers}),
        Column::Text(_) | Column::Boolean(_) => panic!("no program writes such a column"),
    }
}

fn check_additions(python: &Path, original: &Path, written: &Path, expected: &Value) {
    let path = written.with_extension("expected.json");
    fs::write(&path, expected.to_string()).unwrap();
    check(python, "check_additions.py", &[original, written, &path]);
}

#[test]
fn anndata_reads_annotated_cells() {
    let Some(python) = python() else { return };
    let folder = tempdir().unwrap();
    let (input, output) = (
        folder.path().join("new.h5ad"),
        folder.path().join("annotated.h5ad"),
    );
    Simulated {
        cells: 60,
        seed: 2,
        ..Simulated::SMALL
    }
    .write(&input);
    let mut command = from_to("scgpt-annotate", &input, &output);
    succeed(
        command
            .arg("--model")
            .arg(&TRAINED.model)
            .args(["--threshold", "0.9"]),
    );
    let file = File::open(&output).unwrap();
    let names = ["label", "probability", "second_label", "second_probability"]
        .map(|part| format!("scgpt_{part}"));
    let obs: serde_json::Map<String, Value> = names
        .into_iter()
        .map(|name| (name.clone(), column(&file.obs(&name).unwrap())))
        .collect();
    let uns = json!({"scgpt_annotation": {"model": uns_text(&output, "scgpt_annotation/model"), "threshold": 0.9}});
    check_additions(&python, &input, &output, &json!({"obs": obs, "uns": uns}));
}

#[test]
fn anndata_reads_embedded_cells() {
    let Some(python) = python() else { return };
    let folder = tempdir().unwrap();
    let (input, output) = (
        data("embedding/cells_counts.h5ad"),
        folder.path().join("embedded.h5ad"),
    );
    let mut command = from_to("scgpt-embed", &input, &output);
    succeed(
        command
            .arg("--checkpoint")
            .arg(data("embedding/checkpoint"))
            .args(["--obsm-key", "X_mine"]),
    );
    check_additions(
        &python,
        &input,
        &output,
        &json!({"obsm": {"X_mine": obsm(&output, "X_mine")}}),
    );
}

#[test]
fn anndata_notices_a_value_that_differs() {
    let Some(python) = python() else { return };
    let folder = tempdir().unwrap();
    let (input, output) = (
        data("embedding/cells_counts.h5ad"),
        folder.path().join("embedded.h5ad"),
    );
    succeed(
        from_to("scgpt-embed", &input, &output)
            .arg("--checkpoint")
            .arg(data("embedding/checkpoint")),
    );
    let mut rows = obsm(&output, "X_scGPT");
    rows[29][31] += 1e-6;
    let expected = json!({"obsm": {"X_scGPT": rows}});
    let differs = std::panic::catch_unwind(|| check_additions(&python, &input, &output, &expected));
    assert!(differs.is_err(), "the script accepts a wrong value");
}

#[test]
fn safetensors_reads_every_written_model() {
    let Some(python) = python() else { return };
    let folder = tempdir().unwrap();
    let converted = folder.path().join("converted");
    succeed(
        program("scgpt-checkpoint")
            .arg("convert")
            .arg(data("integration/checkpoint"))
            .arg(&converted),
    );
    for model in [&TRAINED.model, &converted] {
        let entry = |(name, tensor): (&String, &scgpt_tools::checkpoint::Tensor)| {
            (
                name.clone(),
                json!({"shape": tensor.shape(), "sha256": sha256(tensor.bytes())}),
            )
        };
        let expected: serde_json::Map<String, Value> = weights(model).iter().map(entry).collect();
        let path = folder.path().join("expected.json");
        fs::write(&path, Value::Object(expected).to_string()).unwrap();
        check(&python, "check_model.py", &[model, &path]);
    }
}
