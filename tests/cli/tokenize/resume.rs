//! A run that is killed or told to stop ends, once it is resumed, with the bytes of one that was not.
//!
//! `SCGPT_TEST_KILLS` raises the number of kills from its default, to search longer for a moment that matters.

use super::{INPUT, LARGE, READ_WRITE, assert_same, assert_says, bytes, tokenize};
use crate::support::programs::{self, fail};
use scgpt_tools::random::{Seed, uniform};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
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

/// Lets a run end; its exit code and what it said.
fn end(child: Child) -> (Option<i32>, String) {
    let done = child.wait_with_output().expect("the program ends");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), said)
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

fn work_folder(output: &Path) -> PathBuf {
    output.with_extension("partial")
}

/// Waits until the first shard is finished.
fn wait_for_a_shard(output: &Path) {
    let (clock, state) = (Instant::now(), work_folder(output).join("progress.json"));
    while !state.exists() {
        assert!(
            clock.elapsed() < Duration::from_secs(60),
            "no shard is finished"
        );
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_runs_end_with_the_bytes_of_undisturbed_ones() {
    let kills = std::env::var("SCGPT_TEST_KILLS")
        .map_or(5, |n| n.parse().expect("SCGPT_TEST_KILLS is a number"));
    let mut moments = Seed(0).stream("moments to kill at", &[u64::from(std::process::id())]);
    let (mut done, mut runs) = (0, 0);
    while done < kills {
        let folder = tempdir().unwrap();
        let output = folder.path().join("corpus");
        let mut hit = 0;
        loop {
            let mut child = start(&output, &["--resume"]);
            let after = UNDISTURBED.took.mul_f64(uniform(&mut moments));
            if done + hit < kills {
                sleep(after);
                child.kill().expect("a process of ours");
            }
            let (code, said) = end(child);
            match code {
                None => hit += 1,
                Some(0) => break,
                // The kill came between the last rename and the exit: nothing is left to resume.
                Some(_) if said.contains("exists") && output.join("manifest.json").exists() => {
                    break;
                }
                Some(code) => panic!("exit code {code} when resumed after {hit} kills:\n{said}"),
            }
        }
        assert_same(
            &bytes(&output),
            &UNDISTURBED.bytes,
            &format!("killed {hit} times"),
        );
        assert!(!work_folder(&output).exists());
        (done, runs) = (done + hit, runs + 1);
        assert!(runs < 20 * kills, "no kill hits a running program");
    }
}

#[test]
fn a_run_told_to_stop_says_how_to_go_on() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("corpus");
    let child = start(&output, &[]);
    wait_for_a_shard(&output);
    let told = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", child.id())])
        .status()
        .unwrap();
    assert!(told.success());
    let (code, said) = end(child);
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
    let mut child = start(&output, &[]);
    wait_for_a_shard(&output);
    child.kill().expect("a process of ours");
    child.wait().unwrap();
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
    let mut child = start(&output, &genes);
    wait_for_a_shard(&output);
    child.kill().expect("a process of ours");
    child.wait().unwrap();
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
