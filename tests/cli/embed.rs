//! `scgpt-embed` against stored embeddings of the original implementation, and against itself.

use crate::support::{Stored, cells, data, programs};
use scgpt_tools::formats::Source;
use scgpt_tools::formats::h5ad::File;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Tolerance for activations of the golden model; see the notes of the fixtures.
const TOLERANCE: f32 = 1e-5;

fn embed(input: &Path, output: &Path, extra: &[&str]) -> String {
    let mut command = programs::from_to("scgpt-embed", input, output);
    programs::succeed(
        command
            .arg("--checkpoint")
            .arg(data("embedding/checkpoint"))
            .args(extra),
    )
}

/// Embeds a golden file and compares with the tensor of that name.
fn check(cells: &str, extra: &[&str], golden: &str, tensor: &str) {
    let folder = tempdir().unwrap();
    let output = folder.path().join("embedded.h5ad");
    embed(&data(cells), &output, extra);
    let stored = Stored::read(golden);
    let expected: Vec<Vec<f32>> = stored.rows(tensor);
    let found = programs::obsm(&output, "X_scGPT");
    assert_eq!(found.len(), expected.len());
    for (cell, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= TOLERANCE, "cell {cell}: {a} is not {b}");
        }
    }
}

#[test]
fn continuous_cells_match_the_original_implementation() {
    check(
        "embedding/cells_continuous.h5ad",
        &[],
        "embedding/continuous_outputs.safetensors",
        "cell_embeddings_l2norm",
    );
}

#[test]
fn counts_with_one_sided_ties_match_the_original_implementation() {
    let (golden, tensor) = (
        "embedding/counts_outputs.safetensors",
        "onesided.cell_embeddings_l2norm",
    );
    check(
        "embedding/cells_counts.h5ad",
        &["--ties", "one-sided"],
        golden,
        tensor,
    );
}

#[test]
fn truncated_cells_match_the_original_implementation() {
    let (golden, tensor) = (
        "embedding/truncated_outputs.safetensors",
        "cell_embeddings_l2norm",
    );
    let extra = ["--max-length", "20", "--long-cells", "truncate"];
    check("embedding/cells_continuous.h5ad", &extra, golden, tensor);
}

/// Random ties and random sampling of long cells: every source of randomness.
const RANDOM: [&str; 6] = [
    "--ties",
    "both-sided",
    "--max-length",
    "20",
    "--long-cells",
    "sample",
];

#[test]
fn the_file_does_not_depend_on_threads_and_does_on_the_seed() {
    let folder = tempdir().unwrap();
    let file = |name: &str, extra: &[&str]| {
        let output = folder.path().join(name);
        embed(
            &data("embedding/cells_counts.h5ad"),
            &output,
            &[&RANDOM[..], extra].concat(),
        );
        fs::read(output).unwrap()
    };
    let one = file("one.h5ad", &["--threads", "1"]);
    assert!(
        one == file("two.h5ad", &["--threads", "2"]),
        "another number of threads gives another file"
    );
    assert!(
        one == file("again.h5ad", &["--threads", "2"]),
        "another run gives another file"
    );
    assert!(
        one != file("seed.h5ad", &["--threads", "2", "--seed", "1"]),
        "the seed has no effect"
    );
}

#[test]
fn a_cell_has_the_same_embedding_in_a_smaller_file() {
    let folder = tempdir().unwrap();
    let whole = File::open(&data("embedding/cells_counts.h5ad")).unwrap();
    let names = whole.var(&Source::X, "feature_name").unwrap().to_labels();
    let names: Vec<String> = names.into_iter().map(Option::unwrap).collect();
    let few = folder.path().join("few.h5ad");
    cells::write(
        &few,
        &whole.matrix(&Source::X).unwrap().read(0..7).unwrap(),
        &names,
        [],
    );
    let embeddings = |input: &Path, name: &str| {
        let output = folder.path().join(name);
        embed(input, &output, &RANDOM);
        programs::obsm(&output, "X_scGPT")
    };
    let all = embeddings(whole.path(), "all.h5ad");
    assert_eq!(embeddings(&few, "few_embedded.h5ad"), all[..7]);
}

#[test]
fn the_record_lists_inputs_and_loaded_weights() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("embedded.h5ad");
    let messages = embed(
        &data("embedding/cells_continuous.h5ad"),
        &output,
        &["--seed", "3"],
    );
    let record = programs::json(folder.path().join("embedded.run.json"));
    assert_eq!(
        (&record["exit_status"], &record["seed"], &record["device"]),
        (&0.into(), &3.into(), &"CPU".into())
    );
    assert_eq!(
        (
            &record["metrics"]["genes_matched"],
            &record["metrics"]["genes_unmatched"]["count"]
        ),
        (&190.into(), &30.into())
    );
    assert!(messages.contains("190 of 220 genes"), "{messages}");
    assert!(messages.contains("`feature_name`"), "{messages}");
    let weights = &record["metrics"]["loaded_weights"];
    assert!(
        weights["missing"].as_array().unwrap().is_empty()
            && !weights["loaded"].as_array().unwrap().is_empty()
    );
    for artefact in [&record["inputs"], &record["outputs"]]
        .into_iter()
        .flat_map(|all| all.as_array().unwrap())
    {
        let bytes = fs::read(artefact["path"].as_str().unwrap()).unwrap();
        assert_eq!(artefact["size"], bytes.len());
        assert_eq!(artefact["sha256"], crate::support::sha256(&bytes));
    }
}
