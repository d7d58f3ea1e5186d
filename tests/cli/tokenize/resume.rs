//! A run that is killed or told to stop ends, once it is resumed, with the bytes of one that was not.

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
const COURSE: [&str; 10] = [
    "--shard-cells",
    "3500",
    "--values",
    "bins",
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
        .args(COURSE)
        .args(extra)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

struct Undisturbed {
    bytes: BTreeMap<String, Vec<u8>>,
    took: Duration,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    LazyLock::force(&LARGE);
    let folder = tempdir().unwrap();
    let output = folder.path().join("corpus");
    let clock = Instant::now();
    let (code, said) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{said}");
    Undisturbed {
        took: clock.elapsed(),
        bytes: bytes(&output),
    }
});

/// Waits until the first shard is finished.
fn wait_for_a_shard(output: &Path) {
    wait_for(&work_folder(output).join("progress.json"));
}

#[test]
fn killed_runs_end_with_the_bytes_of_undisturbed_ones() {
    let resume = |output: &Path| start(output, &["--resume"]);
    let check = |output: &Path, what: &str| {
        assert_same(&bytes(output), &UNDISTURBED.bytes, what);
        assert!(!work_folder(output).exists());
    };
    interruption::kill_and_resume(("manifest.json", UNDISTURBED.took), resume, check);
}

#[test]
fn a_run_told_to_stop_says_how_to_go_on() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("corpus");
    let child = start(&output, &[]);
    wait_for_a_shard(&output);
    let (code, said) = stop(child);
    assert_eq!(code, Some(75), "{said}");
    assert_says(&said, &["stopped by a signal", "--resume"]);
    assert!(!output.exists());
    // What the result does not depend on may change.
    let (code, said) = end(start(&output, &["--resume", "--threads", "1"]));
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["finished shards are kept"]);
    assert_same(&bytes(&output), &UNDISTURBED.bytes, "told to stop");
}

#[test]
fn shards_of_other_options_are_not_resumed() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("corpus");
    let child = start(&output, &[]);
    wait_for_a_shard(&output);
    kill(child);
    for other in [["--seed", "8"], ["--n-bins", "11"], ["--min-genes", "5"]] {
        let (code, said) = end(start(&output, &[&["--resume"], &other[..]].concat()));
        assert_eq!(code, Some(INPUT), "{said}");
        assert_says(
            &said,
            &["other inputs, options or version", "without `--resume`"],
        );
    }
    // Without the flag, it starts again.
    let (code, said) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{said}");
    assert_same(&bytes(&output), &UNDISTURBED.bytes, "started again");
}

#[test]
fn shards_of_other_genes_are_not_resumed() {
    let folder = tempdir().unwrap();
    let (output, list) = (
        folder.path().join("corpus"),
        folder.path().join("genes.txt"),
    );
    fs::write(&list, "GENE001\nGENE002\n").unwrap();
    let genes = ["--genes", list.to_str().unwrap()];
    let child = start(&output, &genes);
    wait_for_a_shard(&output);
    kill(child);
    fs::write(&list, "GENE001\nGENE003\n").unwrap();
    let (code, said) = end(start(&output, &[&genes[..], &["--resume"]].concat()));
    assert_eq!(code, Some(INPUT), "{said}");
}

#[test]
fn what_is_there_already_is_not_written_over() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    for resume in [&[][..], &["--resume"]] {
        let message = fail(tokenize(&*LARGE, folder.path()).args(resume), READ_WRITE);
        assert_says(&message, &["not empty", "name another output"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
