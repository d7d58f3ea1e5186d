//! Requirements of tests from outside this repository, and how a test is skipped.

use std::fs::OpenOptions;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

/// Reports in one line that the running test, or a part of it, is skipped. `make test` names a file in `SCGPT_TEST_SKIPS`,
/// collects the lines there and prints them at its end; otherwise the line goes to standard error at once.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().expect("the thread of a test");
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("skipped: {name} ({why})\n");
    let written = match variable("SCGPT_TEST_SKIPS") {
        Some(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes())),
        None => stderr().write_all(line.as_bytes()),
    };
    written.expect("to report a skipped test");
}

/// A file or directory of the real data sets in `SCGPT_TEST_DATA`. The test is skipped where there is none.
pub fn real(path: &str) -> Option<PathBuf> {
    let Some(folder) = variable("SCGPT_TEST_DATA") else {
        skip("SCGPT_TEST_DATA is not set");
        return None;
    };
    let found = folder.join(path);
    if !found.exists() {
        skip(&format!("there is no {path} in SCGPT_TEST_DATA"));
        return None;
    }
    Some(found)
}

/// A file or directory of `tests/data/formats`: files of other programs, and synthetic files in many formats.
pub fn formats(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/formats")
        .join(path)
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}
