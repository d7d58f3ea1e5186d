//! Files of this version, committed for Galaxy's tests, are read; those of a newer or an older format are rejected by name.

use crate::support::programs::{fail, program, succeed, tokenize};
use assert_cmd::Command;
use scgpt_tools::file_format::{CORPUS, FileFormat, MODEL, REFERENCE_INDEX, RUN_RECORD};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const INPUT: i32 = 65;

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools/test-data")
        .join(name)
}

/// A committed archive, unpacked.
fn unpacked(name: &str) -> (TempDir, PathBuf) {
    let directory = tempdir().expect("a directory");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xf").arg(committed(&format!("{name}.tar")));
    let done = tar.arg("-C").arg(directory.path()).status().expect("tar");
    assert!(done.success(), "{name}");
    let path = directory.path().join(name);
    (directory, path)
}

/// Changes the statement in a JSON file, found at a pointer.
fn restate(file: &Path, pointer: &str, version: u32) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let statement = json.pointer_mut(pointer).expect("a statement");
    statement["format_version"] = version.into();
    statement["scgpt_tools_version"] = "9.8.7".into();
    fs::write(file, json.to_string()).expect("a file");
}

/// The program reads a directory of this version, and rejects it as of the next and of the first version.
fn assert_versions(format: FileFormat, file: &Path, pointer: &str, run: &dyn Fn() -> Command) {
    succeed(&mut run());
    restate(file, pointer, format.version + 1);
    let message = fail(&mut run(), INPUT);
    assert!(message.contains("use scgpt-tools 9.8.7"), "{message}");
    assert!(message.contains(format.name), "{message}");
    restate(file, pointer, 1);
    let message = fail(&mut run(), INPUT);
    assert!(message.contains("write it again with"), "{message}");
    assert!(message.contains(format.writer), "{message}");
}

#[test]
fn models() {
    for (name, pointer) in [
        ("model", "/scgpt_tools"),
        ("integrated", "/scgpt_tools"),
        ("perturbation_model", "/scgpt_tools"),
        ("generative", "/scgpt_pretraining"),
    ] {
        let (directory, model) = unpacked(name);
        let convert = || {
            let output = directory.path().join("converted");
            let _ = fs::remove_dir_all(&output);
            let mut command = program("scgpt-checkpoint");
            command.arg("convert").arg(&model).arg(output);
            command
        };
        assert_versions(MODEL, &model.join("args.json"), pointer, &convert);
    }
}

#[test]
fn corpora() {
    let (directory, corpus) = unpacked("corpus");
    let again = || {
        let output = directory.path().join("again");
        let _ = fs::remove_dir_all(&output);
        tokenize(&corpus, &output)
    };
    assert_versions(CORPUS, &corpus.join("manifest.json"), "", &again);
}

#[test]
fn reference_indexes() {
    let (directory, index) = unpacked("index");
    let query = || {
        let output = directory.path().join("mapped.h5ad");
        let mut command = program("scgpt-map-reference");
        command
            .arg("query")
            .arg("--input")
            .arg(committed("embedded.h5ad"));
        command
            .arg("--index")
            .arg(&index)
            .arg("--output")
            .arg(output);
        command
    };
    let manifest = index.join("manifest.json");
    assert_versions(REFERENCE_INDEX, &manifest, "", &query);
}

#[test]
fn run_records() {
    let directory = tempdir().expect("a directory");
    let record = directory.path().join("annotated.run.json");
    fs::copy(committed("annotated.run.json"), &record).expect("a copy");
    let output = directory.path().join("report.html");
    let report = || {
        let mut command = program("scgpt-report");
        command
            .arg("--input")
            .arg(&record)
            .arg("--output")
            .arg(&output);
        command
    };
    succeed(&mut report());
    for (version, expected) in [
        (RUN_RECORD.version + 1, "use scgpt-tools 9.8.7"),
        (1, "write it again"),
    ] {
        restate(&record, "", version);
        let message = fail(&mut report(), INPUT);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn attention_and_predictions() {
    let directory = tempdir().expect("a directory");
    let network = directory.path().join("attention.h5ad");
    fs::copy(committed("attention.h5ad"), &network).expect("a copy");
    let evaluate = || {
        let mut command = program("scgpt-grn");
        command.arg("evaluate").arg("--networks").arg(&network);
        command
            .arg("--known-edges")
            .arg(committed("known_edges.tsv"));
        command
            .arg("--output")
            .arg(directory.path().join("scores.tsv"));
        command
    };
    succeed(&mut evaluate());
    for (version, expected) in [(99_u64, "use scgpt-tools"), (1, "write it again")] {
        let file = hdf5::File::open_rw(&network).expect("HDF5");
        let stated = file
            .dataset("uns/scgpt_tools/format_version")
            .expect("a version");
        stated.write_scalar(&version).expect("a number");
        // Both hold the file open, and so its lock.
        drop((stated, file));
        let message = fail(&mut evaluate(), INPUT);
        assert!(message.contains(expected), "{message}");
    }
}
