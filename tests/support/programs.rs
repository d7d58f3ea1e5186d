//! The programs as built for these tests, and their outputs.

use assert_cmd::Command;
use hdf5::types::VarLenUnicode;
use scgpt_tools::checkpoint::{Checkpoint, StateDict};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where a program was built, unless `SCGPT_TEST_PROGRAMS` names a directory with others.
pub fn path(program: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("SCGPT_TEST_PROGRAMS") {
        return Path::new(&folder).join(program);
    }
    // All programs are in one directory.
    Path::new(env!("CARGO_BIN_EXE_scgpt-tokenize")).with_file_name(program)
}

/// A program to run, untouched by models that the user of this machine may have.
pub fn program(program: &str) -> Command {
    let mut command = Command::new(path(program));
    command.env_remove("SCGPT_MODELS");
    command
}

/// `--input A --output B --device cpu`.
pub fn from_to(program_name: &str, input: &Path, output: &Path) -> Command {
    let mut command = program(program_name);
    command
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(output)
        .args(["--device", "cpu"]);
    command
}

pub fn tokenize(input: impl AsRef<OsStr>, output: &Path) -> Command {
    let mut command = program("scgpt-tokenize");
    command
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(output);
    command
}

/// Standard error of a command that succeeds.
pub fn succeed(command: &mut Command) -> String {
    let done = command.assert().success();
    String::from_utf8(done.get_output().stderr.clone()).expect("messages are UTF-8")
}

/// Standard error of a command that fails with the given exit code and without a panic.
pub fn fail(command: &mut Command, code: i32) -> String {
    let done = command.assert().code(code);
    let text = String::from_utf8(done.get_output().stderr.clone()).expect("messages are UTF-8");
    assert!(
        text.contains("error: ") && !text.contains("internal error"),
        "{text}"
    );
    text
}

/// A JSON file.
pub fn json(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tensors of a model directory.
pub fn weights(folder: &Path) -> StateDict {
    Checkpoint::open(folder).expect("a complete model").state
}

/// Rows of an embedding in a written file.
pub fn obsm(path: &Path, name: &str) -> Vec<Vec<f32>> {
    let file = hdf5::File::open(path).expect("an HDF5 file");
    let rows = file
        .dataset(&format!("obsm/{name}"))
        .and_then(|rows| rows.read_2d::<f32>());
    rows.expect("an embedding")
        .outer_iter()
        .map(|row| row.to_vec())
        .collect()
}

/// A text in `uns` of a written file.
pub fn uns_text(path: &Path, name: &str) -> String {
    let file = hdf5::File::open(path).expect("an HDF5 file");
    let text = file
        .dataset(&format!("uns/{name}"))
        .and_then(|text| text.read_scalar::<VarLenUnicode>());
    text.expect("a text").to_string()
}
