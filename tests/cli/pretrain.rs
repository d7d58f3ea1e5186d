//! `scgpt-pretrain` on simulated cells: accuracy, reproducibility, and rejected requests.

use crate::support::cells::Simulated;
use crate::support::data;
use crate::support::interruption::{end, kill_and_resume, stop, wait_for, work_folder};
use crate::support::needs::skip;
use crate::support::programs::{self, fail, json, program, succeed, tokenize, weights};
use scgpt_tools::checkpoint::{Checkpoint, Tensor};
use scgpt_tools::corpus::Collection;
use scgpt_tools::random::Seed;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const SIZE: [&str; 8] = [
    "--n-layers",
    "1",
    "--embedding-dim",
    "16",
    "--n-heads",
    "2",
    "--ffn-dim",
    "16",
];
/// Several windows in an epoch, a state every few steps, dropout: everything that an interruption could affect.
const COURSE: [&str; 12] = [
    "--save-every",
    "5",
    "--memory",
    "96k",
    "--prompt-after",
    "40",
    "--validation-fraction",
    "0.1",
    "--learning-rate",
    "0.01",
    "--seed",
    "3",
];
const LENGTH: [&str; 4] = ["--epochs", "12", "--batch-size", "8"];
const SHORT: [&str; 4] = ["--epochs", "2", "--batch-size", "8"];

/// Simulated cells in small shards, tokenized once for all tests.
static CORPUS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pretrain-corpus");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a directory for the tests");
    let cells = folder.join("cells.h5ad");
    Simulated::SMALL.write(&cells);
    let corpus = folder.join("corpus");
    succeed(tokenize(&cells, &corpus).args(["--shard-cells", "30", "--obs", "cell_type,batch"]));
    corpus
});

fn pretrain(input: &Path, output: &Path) -> assert_cmd::Command {
    programs::from_to("scgpt-pretrain", input, output)
}

fn start(output: &Path, extra: &[&str]) -> Child {
    start_on("2", output, extra)
}

fn start_on(threads: &str, output: &Path, extra: &[&str]) -> Child {
    let mut command = Command::new(programs::path("scgpt-pretrain"));
    command
        .arg("--input")
        .arg(&*CORPUS)
        .arg("--output")
        .arg(output);
    command
        .args(["--device", "cpu", "--threads", threads])
        .args(SIZE)
        .args(COURSE)
        .args(LENGTH)
        .args(extra);
    command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What must not depend on interruptions, threads or processes.
fn results(output: &Path) -> [Vec<u8>; 4] {
    [
        "model.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "events.out.tfevents.scgpt",
    ]
    .map(|name| fs::read(output.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}

pub struct Undisturbed {
    pub output: PathBuf,
    messages: String,
    took: Duration,
}

pub static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let output = CORPUS.with_file_name("undisturbed");
    let clock = Instant::now();
    let (code, messages) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{messages}");
    Undisturbed {
        output,
        messages,
        took: clock.elapsed(),
    }
});

#[test]
fn a_model_outperforms_baselines_and_reports_it() {
    let record = json(UNDISTURBED.output.join("run.json"));
    let error = &record["metrics"]["validation_mse"];
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert!(
        number(&error["model"]) < number(&error["baselines"]["baseline_gene_mean"]),
        "{error}"
    );
    assert!(
        UNDISTURBED
            .messages
            .contains("216 training cells, 24 validation cells, 60 genes"),
        "{}",
        UNDISTURBED.messages
    );
    let lines = fs::read_to_string(UNDISTURBED.output.join("metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["epoch"].as_u64(), last["step"].as_u64()),
        (Some(12), Some(324))
    );
    assert!(
        last["training"]["gep_prompted"].is_number(),
        "the second pass is on: {last}"
    );
    let model = Checkpoint::open(&UNDISTURBED.output).unwrap();
    assert!(model.heads.flag_encoder && model.heads.expression && model.heads.mvc.is_some());
}

#[test]
fn the_model_embeds_cells_like_a_published_one() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("embedded.h5ad");
    let mut embed = programs::from_to("scgpt-embed", &CORPUS.with_file_name("cells.h5ad"), &output);
    succeed(embed.arg("--checkpoint").arg(&UNDISTURBED.output));
    assert_eq!(programs::obsm(&output, "X_scGPT").len(), 240);
}

#[test]
fn kills_do_not_change_the_model() {
    kill_and_resume(
        ("run.json", UNDISTURBED.took.mul_f64(1.3)),
        |output| start(output, &["--resume"]),
        |output, what| assert!(results(output) == results(&UNDISTURBED.output), "{what}"),
    );
}

#[test]
fn a_signal_saves_and_resuming_finishes() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let child = start(&output, &[]);
    wait_for(&work_folder(&output).join("state.safetensors"));
    let (code, messages) = stop(child);
    assert_eq!(code, Some(75), "{messages}");
    let (code, messages) = end(start(&output, &["--resume"]));
    assert_eq!(code, Some(0), "{messages}");
    assert!(results(&output) == results(&UNDISTURBED.output));
}

#[test]
fn threads_and_validation_in_between_do_not_change_the_last_weights() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let (code, messages) = end(start_on("1", &output, &[]));
    assert_eq!(code, Some(0), "{messages}");
    assert!(results(&output) == results(&UNDISTURBED.output), "threads");
    let output = folder.path().join("validated");
    let (code, messages) = end(start(
        &output,
        &["--validate-every", "7", "--log-every", "3"],
    ));
    assert_eq!(code, Some(0), "{messages}");
    assert!(
        results(&output)[1] == results(&UNDISTURBED.output)[1],
        "validation"
    );
}

/// Built by `make mpi` where MPI is installed.
fn parallel_program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mpi/scgpt-pretrain");
    let is_there = program.is_file() && Command::new("mpirun").arg("--version").output().is_ok();
    if !is_there {
        skip("no `mpirun`, or no program for it; `make mpi` builds it");
    }
    is_there.then_some(program)
}

#[test]
fn two_processes_match_one_with_twice_the_minibatch() {
    let Some(program) = parallel_program() else {
        return;
    };
    let folder = tempdir().unwrap();
    let train = |command: &mut Command, name: &str, cells: &str| {
        let output = folder.path().join(name);
        command
            .arg("--input")
            .arg(&*CORPUS)
            .arg("--output")
            .arg(&output);
        command
            .args(["--device", "cpu", "--threads", "1", "--dropout", "0"])
            .args(SIZE)
            .args(COURSE);
        let done = command
            .args([
                "--epochs",
                "4", // Without this, Adam turns rounding of gradients near zero into steps of full size.
                "--adam-eps",
                "0.0001",
                "--batch-size",
                cells,
                "--labels",
                "cell_type",
                "--cls-weight",
                "1",
            ])
            .output();
        let done = done.expect("the program starts");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        weights(&output)
    };
    let mut mpirun = Command::new("mpirun");
    mpirun
        .args(["--allow-run-as-root", "--oversubscribe", "-n", "2"])
        .arg(&program);
    let two = train(&mut mpirun, "two", "8");
    let one = train(
        &mut Command::new(programs::path("scgpt-pretrain")),
        "one",
        "16",
    );
    for (name, tensor) in &one {
        let (one, two) = (tensor.to_f32(), two[name].to_f32());
        let off = one
            .iter()
            .zip(&two)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(off < 2e-4, "`{name}` is off by {off}");
    }
}

#[test]
fn every_epoch_reads_every_piece_once_in_its_own_order() {
    let collection = Collection::open(&[CORPUS.clone(), CORPUS.clone()]).unwrap();
    assert_eq!((collection.cells(), collection.pieces().len()), (480, 16));
    let order = |seed, epoch, tokens| -> Vec<u64> {
        let windows = collection.windows(Seed(seed), epoch, tokens);
        for window in &windows {
            let size: u64 = window.iter().map(|piece| piece.tokens).sum();
            assert!(
                size <= tokens || window.len() == 1,
                "{size} tokens in a window of {tokens}"
            );
        }
        windows
            .into_iter()
            .flatten()
            .map(|piece| piece.first)
            .collect()
    };
    let all: BTreeSet<u64> = collection
        .pieces()
        .iter()
        .map(|piece| piece.first)
        .collect();
    for epoch in 0..3 {
        let first = order(1, epoch, 5000);
        assert_eq!(
            (first.len(), first.iter().copied().collect::<BTreeSet<_>>()),
            (16, all.clone())
        );
        assert_eq!(first, order(1, epoch, 5000));
        assert_ne!(first, order(2, epoch, 5000));
        assert_ne!(first, order(1, epoch + 1, 5000));
    }
}

#[test]
fn other_tasks_reduce_the_loss() {
    let folder = tempdir().unwrap();
    let tasks: [&[&str]; 3] = [
        &["--task", "gen"],
        &[
            "--task",
            "pcpt",
            "--mask-ratio",
            "0.15..0.40",
            "--cce-weight",
            "1",
        ],
        &["--labels", "cell_type", "--cls-weight", "1"],
    ];
    for (i, task) in tasks.iter().enumerate() {
        let output = folder.path().join(i.to_string());
        let messages = succeed(
            pretrain(&CORPUS, &output)
                .args(SIZE)
                .args(COURSE)
                .args(SHORT)
                .args(*task),
        );
        let losses: Vec<f64> = fs::read_to_string(output.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .filter_map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["validation"]["gep"]
                    .as_f64()
            })
            .collect();
        assert!(
            losses.len() < 2 || losses.last() < losses.first(),
            "{task:?}: {losses:?}\n{messages}"
        );
    }
}

/// One row of a stored table.
fn row(table: &Tensor, at: usize) -> Vec<f32> {
    let width = table.shape()[1];
    table.to_f32()[at * width..(at + 1) * width].to_vec()
}

#[test]
fn a_checkpoint_is_extended_by_new_genes() {
    let folder = tempdir().unwrap();
    let cells = folder.path().join("cells.h5ad");
    let mut genes = Simulated::SMALL.gene_names();
    genes[7] = "NEW1".into();
    genes[9] = "NEW2".into();
    crate::support::cells::write(&cells, &Simulated::SMALL.counts(), &genes, []);
    let (corpus, output) = (folder.path().join("corpus"), folder.path().join("model"));
    succeed(&mut tokenize(&cells, &corpus));
    let known = data("pretrain/checkpoint");
    let mut command = pretrain(&corpus, &output);
    // With a learning rate of zero the output has the initial weights.
    command
        .arg("--checkpoint")
        .arg(&known)
        .args(["--epochs", "1", "--learning-rate", "0"]);
    let messages = succeed(&mut command);
    assert!(
        messages.contains("2 genes are not in the vocabulary and are added, such as NEW1, NEW2"),
        "{messages}"
    );
    let (before, after) = (
        Checkpoint::open(&known).unwrap(),
        Checkpoint::open(&output).unwrap(),
    );
    let table = "encoder.embedding.weight";
    assert_eq!(after.state[table].shape(), [205, 32]);
    assert_eq!(
        (after.vocabulary.id("GENE199"), after.vocabulary.id("NEW2")),
        (Some(199), Some(204))
    );
    for id in [0, 42, 202] {
        assert_eq!(
            row(&before.state[table], id),
            row(&after.state[table], id),
            "token {id}"
        );
    }
    assert!(
        row(&after.state[table], 204)
            .iter()
            .all(|value| value.abs() <= 0.1)
    );
    let layer = "transformer_encoder.layers.1.linear1.weight";
    assert!(before.state[layer].to_f32() == after.state[layer].to_f32());
}

#[test]
fn gene_conditions_are_read_and_saved() {
    let folder = tempdir().unwrap();
    let sets = folder.path().join("sets.gmt");
    fs::write(
        &sets,
        "MARKERS\tof alpha\tGENE000\tGENE001\nOTHERS\tnone\tGENE020\tGENE000\n",
    )
    .unwrap();
    let output = folder.path().join("model");
    let mut command = pretrain(&CORPUS, &output);
    command
        .args(SIZE)
        .args(COURSE)
        .args(SHORT)
        .arg("--gene-conditions")
        .arg(&sets);
    let messages = succeed(&mut command);
    assert!(messages.contains("2 gene conditions"), "{messages}");
    let model = Checkpoint::open(&output).unwrap();
    assert_eq!(model.state["condition_encoder.weight"].shape(), [3, 16]);
    assert!(
        row(&model.state["condition_encoder.weight"], 0)
            .iter()
            .all(|value| *value == 0.0)
    );
    let kept = &model.arguments["scgpt_pretraining"]["conditions"];
    assert_eq!(
        (
            kept["names"][1].as_str(),
            kept["of_genes"]["GENE000"].as_i64()
        ),
        (Some("OTHERS"), Some(1))
    );
    fs::write(&sets, "MARKERS\tonly a description\n").unwrap();
    let messages = fail(
        pretrain(&CORPUS, &folder.path().join("no"))
            .arg("--gene-conditions")
            .arg(&sets),
        65,
    );
    assert!(
        messages
            .contains("sets.gmt`, line 1: found 2 fields, expected a set, a description and genes"),
        "{messages}"
    );
}

#[test]
fn wrong_requests_are_rejected_with_clear_messages() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let messages = fail(
        pretrain(&CORPUS, &output).args(["--cce-weight", "1", "--cls-weight", "1"]),
        2,
    );
    assert!(
        messages.contains("`--cce-weight` needs `--task pcpt`")
            && messages.contains("`--cls-weight` needs `--labels`"),
        "{messages}"
    );
    let messages = fail(pretrain(&CORPUS, &output).args(["--labels", "tissue"]), 65);
    assert!(
        messages.contains("no corpus has the annotation `tissue`"),
        "{messages}"
    );
    let messages = fail(pretrain(&CORPUS, &output).args(["--mask-ratio", "2"]), 2);
    assert!(
        messages.contains("mask-ratio") && messages.contains("0.15..0.40"),
        "{messages}"
    );
    let messages = fail(
        program("scgpt-pretrain")
            .args(["--input"])
            .arg(folder.path())
            .arg("--output")
            .arg(&output),
        65,
    );
    assert!(messages.contains("manifest.json"), "{messages}");
    let messages = fail(
        pretrain(&CORPUS, &output).env("OMPI_COMM_WORLD_SIZE", "2"),
        65,
    );
    assert!(
        messages.contains("one of 2 processes") && messages.contains("lacks the feature `mpi`"),
        "{messages}"
    );
    assert!(!output.exists());
}

/// The run record of a corpus contains times; the model depends on the cells alone.
#[test]
fn a_corpus_made_again_gives_the_same_model() {
    let directory = tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    Simulated::SMALL.write(&path("cells.h5ad"));
    let [one, two] = ["one", "two"].map(|name| {
        let (corpus, model) = (path(&format!("corpus-{name}")), path(name));
        succeed(&mut tokenize(path("cells.h5ad"), &corpus));
        succeed(pretrain(&corpus, &model).args(SIZE).args(SHORT));
        (corpus, model)
    });
    let read = |file: &Path| fs::read(file).expect("a file");
    assert_ne!(read(&one.0.join("run.json")), read(&two.0.join("run.json")));
    for file in ["args.json", "model.safetensors"] {
        assert!(read(&one.1.join(file)) == read(&two.1.join(file)), "{file}");
    }
    let mut resumed = pretrain(&two.0, &one.1);
    let message = succeed(resumed.args(SIZE).args(SHORT).arg("--resume"));
    assert!(message.contains("already complete"), "{message}");
}
