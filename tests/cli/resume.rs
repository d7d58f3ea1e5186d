//! Training that is killed or told to stop, at any moment, ends where an undisturbed run ends.
//!
//! `SCGPT_TEST_KILLS` raises the number of kills from its default, to search longer for a moment that matters.

use crate::support::programs::{self, json};
use crate::support::trained::{SIZE, TRAINED};
use scgpt_tools::random::{Seed, uniform};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Everything random takes part: dropout, masks, both-sided ties, the order of cells.
const COURSE: [&str; 12] = [
    "--epochs",
    "8",
    "--batch-size",
    "8",
    "--save-every",
    "3",
    "--gep-weight",
    "1",
    "--schedule",
    "cosine",
    "--seed",
    "5",
];

fn start(output: &Path, extra: &[&str]) -> Child {
    let mut command = Command::new(programs::path("scgpt-finetune-annotation"));
    command
        .arg("--input")
        .arg(&TRAINED.cells)
        .arg("--output")
        .arg(output);
    command
        .args(["--labels", "cell_type", "--device", "cpu"])
        .args(SIZE)
        .args(COURSE)
        .args(extra);
    command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Lets a run end; its exit code and what it said.
fn end(child: Child) -> (Option<i32>, String) {
    let done = child.wait_with_output().expect("the program ends");
    (
        done.status.code(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    )
}

/// What must not depend on interruptions.
fn results(output: &Path) -> [Vec<u8>; 3] {
    ["model.safetensors", "metrics.jsonl", "test_metrics.json"]
        .map(|name| fs::read(output.join(name)).unwrap())
}

struct Undisturbed {
    results: [Vec<u8>; 3],
    took: Duration,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    LazyLock::force(&TRAINED);
    let clock = Instant::now();
    let (code, said) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{said}");
    Undisturbed {
        results: results(&output),
        took: clock.elapsed(),
    }
});

fn assert_same(output: &Path, what: &str) {
    for (found, expected) in results(output).iter().zip(&UNDISTURBED.results) {
        assert!(
            found == expected,
            "the run {what} ended elsewhere than the undisturbed one"
        );
    }
}

fn work_folder(output: &Path) -> PathBuf {
    output.with_extension("partial")
}

#[test]
fn killed_runs_end_where_undisturbed_ones_do() {
    let kills = std::env::var("SCGPT_TEST_KILLS")
        .map_or(3, |n| n.parse().expect("SCGPT_TEST_KILLS is a number"));
    let mut moments = Seed(0).stream("moments to kill at", &[u64::from(std::process::id())]);
    let (mut done, mut runs) = (0, 0);
    while done < kills {
        let folder = tempdir().unwrap();
        let output = folder.path().join("model");
        let mut hit = 0;
        loop {
            let mut child = start(&output, &["--resume"]);
            let after = UNDISTURBED.took.mul_f64(0.8 * uniform(&mut moments));
            if done + hit < kills {
                sleep(after);
                child.kill().expect("a process of ours");
            }
            let (code, said) = end(child);
            match code {
                None => hit += 1,
                Some(0) => break,
                // The kill came between the last rename and the exit: nothing is left to resume.
                Some(_) if said.contains("exists") && output.join("model.safetensors").exists() => {
                    break;
                }
                Some(code) => panic!("exit code {code} when resumed after {hit} kills:\n{said}"),
            }
        }
        assert_same(&output, &format!("killed {hit} times"));
        (done, runs) = (done + hit, runs + 1);
        assert!(runs < 20 * kills, "no kill hits a running program");
    }
}

#[test]
fn a_run_told_to_stop_saves_and_says_how_to_go_on() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let child = start(&output, &[]);
    let (clock, state) = (
        Instant::now(),
        work_folder(&output).join("state.safetensors"),
    );
    while !state.exists() {
        assert!(
            clock.elapsed() < Duration::from_secs(60),
            "no state is written"
        );
        sleep(Duration::from_millis(2));
    }
    let told = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", child.id())])
        .status()
        .unwrap();
    assert!(told.success());
    let (code, said) = end(child);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert!(!output.exists());
    let (code, said) = end(start(&output, &["--resume"]));
    assert_eq!(code, Some(0), "{said}");
    assert_same(&output, "told to stop");
    assert!(!work_folder(&output).exists());
    assert_eq!(json(output.join("run.json"))["exit_status"], 0);
}

#[test]
fn a_state_of_other_settings_is_not_resumed() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let mut child = start(&output, &[]);
    let (clock, state) = (
        Instant::now(),
        work_folder(&output).join("state.safetensors"),
    );
    while !state.exists() {
        assert!(
            clock.elapsed() < Duration::from_secs(60),
            "no state is written"
        );
        sleep(Duration::from_millis(2));
    }
    child.kill().expect("a process of ours");
    child.wait().unwrap();
    let (code, said) = end(start(&output, &["--resume", "--dropout", "0.4"]));
    assert_eq!(code, Some(65), "{said}");
    assert!(
        said.contains("other settings or data") && said.contains("--resume"),
        "{said}"
    );
}
