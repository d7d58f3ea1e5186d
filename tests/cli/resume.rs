//! Training that is killed or interrupted at any moment and resumed gives the result of an uninterrupted run.

use crate::support::interruption::{self, end, kill, stop, wait_for, work_folder};
use crate::support::programs::{self, json};
use crate::support::trained::{SIZE, TRAINED};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// All sources of randomness: dropout, masks, both-sided ties, the order of cells.
const COURSE: [&str; 12] = [
    "--epochs",
    "8",
    "--batch-size",
    "8",
    "--save-every",
    "3",
    "--gep-weight",
    "1",
    "--lr-schedule",
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
    let (code, messages) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{messages}");
    Undisturbed {
        results: results(&output),
        took: clock.elapsed(),
    }
});

fn assert_same(output: &Path, what: &str) {
    for (found, expected) in results(output).iter().zip(&UNDISTURBED.results) {
        assert!(
            found == expected,
            "the run {what} has other results than the uninterrupted one"
        );
    }
}

#[test]
fn killed_and_resumed_runs_match_uninterrupted_ones() {
    let within = UNDISTURBED.took.mul_f64(0.8);
    let resume = |output: &Path| start(output, &["--resume"]);
    interruption::kill_and_resume(("model.safetensors", within), resume, assert_same);
}

#[test]
fn an_interrupted_run_saves_its_state_and_can_be_resumed() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let child = start(&output, &[]);
    wait_for(&work_folder(&output).join("state.safetensors"));
    let (code, messages) = stop(child);
    assert_eq!(code, Some(75), "{messages}");
    assert!(messages.contains("--resume"), "{messages}");
    assert!(!output.exists());
    let (code, messages) = end(start(&output, &["--resume"]));
    assert_eq!(code, Some(0), "{messages}");
    assert_same(&output, "after an interrupt");
    assert!(!work_folder(&output).exists());
    assert_eq!(json(output.join("run.json"))["exit_status"], 0);
}

#[test]
fn a_state_of_other_settings_is_not_resumed() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let child = start(&output, &[]);
    wait_for(&work_folder(&output).join("state.safetensors"));
    kill(child);
    let (code, messages) = end(start(&output, &["--resume", "--dropout", "0.4"]));
    assert_eq!(code, Some(65), "{messages}");
    assert!(
        messages.contains("other settings or data") && messages.contains("--resume"),
        "{messages}"
    );
}
