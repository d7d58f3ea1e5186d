//! A resumed run gives the same bytes as an uninterrupted one.

use super::{INPUT, LARGE, READ_WRITE, assert_same, assert_says, bytes, tokenize};
use crate::support::interruption::{self, end, kill, stop, wait_for, work_folder};
use crate::support::programs::{self, fail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Shards end within inputs and within groups of cells.
const OPTIONS: [&str; 10] = [
    "--shard-cells",
    "3500",
    "--values",
    "binned",
    "--ties",
    "both-sided",
    "--memory",
    "128M",
    "--obs",
    "cell_type",
];

fn start(output: &Path, extra: &[&str]) -> Child {
    let input = LARGE.to_str().unwrap();
    Command::new(programs::path("scgpt-tokenize"))
        .args(["--input", &[input; 4].join(",")])
        .arg("--output")
        .arg(output)
        .args(OPTIONS)
        .args(extra)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

struct Uninterrupted {
    bytes: BTreeMap<String, Vec<u8>>,
    took: Duration,
}

static UNINTERRUPTED: LazyLock<Uninterrupted> = LazyLock::new(|| {
    LazyLock::force(&LARGE);
    let directory = tempdir().unwrap();
    let output = directory.path().join("corpus");
    let clock = Instant::now();
    let (code, message) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{message}");
    Uninterrupted {
        took: clock.elapsed(),
        bytes: bytes(&output),
    }
});

/// Waits until the first shard is finished.
fn wait_for_a_shard(output: &Path) {
    wait_for(&work_folder(output).join("progress.json"));
}

#[test]
fn killed_runs_give_the_bytes_of_uninterrupted_ones() {
    let resume = |output: &Path| start(output, &["--resume"]);
    let check = |output: &Path, what: &str| {
        assert_same(&bytes(output), &UNINTERRUPTED.bytes, what);
        assert!(!work_folder(output).exists());
    };
    interruption::kill_and_resume(("manifest.json", UNINTERRUPTED.took), resume, check);
}

#[test]
fn a_stopped_run_reports_how_to_continue() {
    let directory = tempdir().unwrap();
    let output = directory.path().join("corpus");
    let child = start(&output, &[]);
    wait_for_a_shard(&output);
    let (code, message) = stop(child);
    assert_eq!(code, Some(75), "{message}");
    assert_says(&message, &["stopped by a signal", "--resume"]);
    assert!(!output.exists());
    // Options that do not affect the result may change.
    let (code, message) = end(start(&output, &["--resume", "--threads", "1"]));
    assert_eq!(code, Some(0), "{message}");
    assert_says(&message, &["finished shards are kept"]);
    assert_same(&bytes(&output), &UNINTERRUPTED.bytes, "stopped");
}

#[test]
fn shards_of_other_options_are_not_resumed() {
    let directory = tempdir().unwrap();
    let output = directory.path().join("corpus");
    let child = start(&output, &[]);
    wait_for_a_shard(&output);
    kill(child);
    for other in [["--seed", "8"], ["--n-bins", "11"], ["--min-genes", "5"]] {
        let (code, message) = end(start(&output, &[&["--resume"], &other[..]].concat()));
        assert_eq!(code, Some(INPUT), "{message}");
        assert_says(
            &message,
            &["other inputs, options or version", "without `--resume`"],
        );
    }
    // Without the flag, it starts from the beginning.
    let (code, message) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{message}");
    assert_same(&bytes(&output), &UNINTERRUPTED.bytes, "started again");
}

#[test]
fn shards_of_other_genes_are_not_resumed() {
    let directory = tempdir().unwrap();
    let (output, list) = (
        directory.path().join("corpus"),
        directory.path().join("genes.txt"),
    );
    fs::write(&list, "GENE001\nGENE002\n").unwrap();
    let genes = ["--genes", list.to_str().unwrap()];
    let child = start(&output, &genes);
    wait_for_a_shard(&output);
    kill(child);
    fs::write(&list, "GENE001\nGENE003\n").unwrap();
    let (code, message) = end(start(&output, &[&genes[..], &["--resume"]].concat()));
    assert_eq!(code, Some(INPUT), "{message}");
}

#[test]
fn existing_files_are_not_overwritten() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "mine").unwrap();
    for resume in [&[][..], &["--resume"]] {
        let message = fail(tokenize(&*LARGE, directory.path()).args(resume), READ_WRITE);
        assert_says(&message, &["not empty", "name another output"]);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
