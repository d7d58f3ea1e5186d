//! `scgpt-finetune-perturbation` and `scgpt-perturb` on simulated knockouts whose effects are known, and odd files.

use crate::support::data;
use crate::support::interruption;
use crate::support::needs::formats;
use crate::support::programs::{self, fail, json, succeed, weights};
use crate::support::python::{check, python};
use crate::support::simulation::{Network, Noise};
use assert_cmd::Command;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{Column, h5ad};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Instant;
use tempfile::tempdir;

const INPUT: i32 = 65;
const GENES: usize = 40;
const REGULATORS: usize = 8;
const CELLS: usize = 24;
/// Size of the model, and training that suffices to predict the simulated knockouts.
const SIZE: [&str; 8] = [
    "--n-layers",
    "2",
    "--embedding-dim",
    "32",
    "--n-heads",
    "2",
    "--ffn-dim",
    "32",
];
const TRAINING: [&str; 10] = [
    "--epochs",
    "60",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.002",
    "--dropout",
    "0",
    "--pseudobulk-size",
    "8",
];
const SHORT: [&str; 4] = ["--epochs", "1", "--pseudobulk-size", "8"];

fn network() -> Network {
    Network::random(GENES, REGULATORS, 6, 4, 1)
}

/// Names in the vocabulary of the golden checkpoints.
fn name(gene: usize) -> String {
    format!("GENE{gene:03}")
}

/// Cells of some conditions, as a file with the column `condition`.
fn write(path: &Path, conditions: &[(String, Vec<usize>, usize)]) {
    let network = network();
    let (mut counts, mut labels) = (Counts::empty(GENES), Vec::new());
    for (label, knocked_out, cells) in conditions {
        let own = network.cells(knocked_out, &[], *cells, &Noise::USUAL, 1);
        for (genes, values) in own.rows() {
            counts.push(genes.iter().copied().zip(values.iter().copied()));
            labels.push(Some(label.clone()));
        }
    }
    let names: Vec<String> = (0..labels.len())
        .map(|cell| format!("cell{cell}"))
        .collect();
    let genes: Vec<String> = (0..GENES).map(name).collect();
    let batches: Vec<Option<&str>> = (0..labels.len())
        .map(|cell| Some(["one", "two"][cell % 2]))
        .collect();
    let content = h5ad::Cells {
        obs: &[
            ("condition".to_owned(), Column::from_labels(&labels)),
            ("batch".to_owned(), Column::from_labels(&batches)),
        ],
        ..h5ad::Cells::new(&counts, &names, &genes)
    };
    h5ad::create(path, &content).expect("a file of cells");
}

/// Controls, all single knockouts and all pairs of them.
fn screen() -> Vec<(String, Vec<usize>, usize)> {
    let mut conditions = vec![("ctrl".to_owned(), Vec::new(), 4 * CELLS)];
    for one in 0..REGULATORS {
        conditions.push((format!("{}+ctrl", name(one)), vec![one], CELLS));
        for other in one + 1..REGULATORS {
            conditions.push((
                format!("{}+{}", name(one), name(other)),
                vec![one, other],
                CELLS,
            ));
        }
    }
    conditions
}

/// A few conditions, where only the outcome of an option matters.
fn few() -> Vec<(String, Vec<usize>, usize)> {
    let mut conditions = screen();
    conditions.truncate(6);
    conditions.iter_mut().for_each(|condition| condition.2 = 8);
    conditions
}

fn finetune(input: &Path, output: &Path) -> Command {
    let mut command = programs::from_to("scgpt-finetune-perturbation", input, output);
    command.args(SIZE);
    command
}

fn perturb(word: &str, trained: &Trained, output: &Path) -> Command {
    let mut command = programs::program("scgpt-perturb");
    command
        .arg(word)
        .arg("--input")
        .arg(&trained.cells)
        .arg("--model")
        .arg(&trained.model);
    command
        .arg("--output")
        .arg(output)
        .args(["--device", "cpu"]);
    command
}

/// A model trained once for all tests, and the cells it was trained on.
struct Trained {
    cells: PathBuf,
    model: PathBuf,
    messages: String,
}

static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("perturbed");
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("the directory of an earlier test run");
    }
    fs::create_dir_all(&folder).expect("a directory for the tests");
    let (cells, model) = (folder.join("cells.h5ad"), folder.join("model"));
    write(&cells, &screen());
    let messages = succeed(finetune(&cells, &model).args(TRAINING));
    Trained {
        cells,
        model,
        messages,
    }
});

/// Rows of a table by their columns.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).expect("a table");
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().expect("a heading").split('\t').collect();
    let row = |line: &str| {
        heads
            .iter()
            .map(|head| (*head).to_owned())
            .zip(line.split('\t').map(str::to_owned))
            .collect()
    };
    lines.map(row).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column]
        .parse()
        .unwrap_or_else(|_| panic!("`{column}` of {row:?}"))
}

#[test]
fn responses_to_unseen_knock_outs_are_predicted_and_compared_with_baselines() {
    let messages = &TRAINED.messages;
    assert!(
        messages.contains("864 cells of 36 perturbations, 96 control cells"),
        "{messages}"
    );
    let scores = json(TRAINED.model.join("test_metrics.json"));
    let all = scores["all"].as_object().expect("methods");
    let methods: Vec<&String> = all.keys().collect();
    let baselines = ["control", "training_mean", "additive", "linear", "mlp"];
    assert!(
        baselines
            .iter()
            .all(|method| methods.iter().any(|found| found == method)),
        "{methods:?}"
    );
    let of = |method: &str, score: &str| {
        scores["all"][method][score]["mean"]
            .as_f64()
            .expect("a number")
    };
    assert!(of("scGPT", "pearson_delta") > 0.5, "{scores:#}");
    assert!(
        of("scGPT", "mse") < 0.7 * of("control", "mse"),
        "{scores:#}"
    );
    assert!(of("scGPT", "discrimination") > 0.7, "{scores:#}");
    assert_eq!(of("control", "pearson_delta"), 0.0);
    let conditions = table(&TRAINED.model.join("test_conditions.tsv"));
    let subgroups: std::collections::BTreeSet<&String> =
        conditions.iter().map(|row| &row["subgroup"]).collect();
    assert_eq!(subgroups.len(), 4, "{subgroups:?}");
    let grid = fs::read_to_string(TRAINED.model.join("perturbation_splits.svg")).expect("a figure");
    assert!(grid.starts_with("<svg") && grid.contains(&name(0)));
}

#[test]
fn threads_do_not_change_the_model() {
    let work = tempdir().expect("a directory");
    let cells = work.path().join("cells.h5ad");
    write(&cells, &few());
    let train = |threads: &str| {
        let output = work.path().join(threads);
        let options = ["--threads", threads, "--split", "no-test"];
        succeed(finetune(&cells, &output).args(SHORT).args(options));
        weights(&output)
    };
    assert!(train("1") == train("3"));
}

#[test]
fn a_killed_run_resumes_where_it_was() {
    let work = tempdir().expect("a directory");
    let cells = work.path().join("cells.h5ad");
    write(&cells, &few());
    let command_for = |output: &Path| {
        let mut command = finetune(&cells, output);
        command.args([
            "--epochs",
            "20",
            "--pseudobulk-size",
            "2",
            "--batch-size",
            "4",
        ]);
        command.args(["--save-every", "1", "--split", "no-test", "--resume"]);
        command
    };
    let whole = work.path().join("whole");
    let began = Instant::now();
    succeed(&mut command_for(&whole));
    let start = |output: &Path| {
        let command = command_for(output);
        let mut process = std::process::Command::new(command.get_program());
        process
            .args(command.get_args())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        process.spawn().expect("a program")
    };
    interruption::kill_and_resume(
        ("model.safetensors", began.elapsed()),
        start,
        |output, what| {
            assert!(weights(output) == weights(&whole), "{what}");
        },
    );
}

#[test]
fn predictions_are_read_by_anndata_with_observed_and_predicted_changes() {
    let work = tempdir().expect("a directory");
    let (output, ranked, figures) = (
        work.path().join("predicted.h5ad"),
        work.path().join("predicted.tsv"),
        work.path().join("figures"),
    );
    let genes = [name(0), name(1), name(2)].join(",");
    let mut command = perturb("predict", &TRAINED, &output);
    command
        .args(["--genes", &genes, "--pairs", "--top", "5"])
        .arg("--table")
        .arg(&ranked)
        .arg("--plot-dir")
        .arg(&figures);
    succeed(&mut command);
    let rows = table(&ranked);
    assert_eq!(rows.len(), 6 * 5);
    // The perturbed gene itself changes most.
    assert_eq!(
        (rows[0]["perturbation"].as_str(), rows[0]["gene"].as_str()),
        ("GENE000", "GENE000")
    );
    assert!(number(&rows[0], "change") < -1.0 && number(&rows[0], "observed_change") < -1.0);
    assert_eq!(fs::read_dir(&figures).expect("figures").count(), 6);
    if let Some(python) = python() {
        check(&python, "check_perturbation.py", &[&output]);
    }
    let again = work.path().join("again.h5ad");
    succeed(perturb("predict", &TRAINED, &again).args([
        "--genes",
        &genes,
        "--pairs",
        "--threads",
        "1",
    ]));
    assert!(fs::read(&output).expect("a file") == fs::read(&again).expect("a file"));
}

#[test]
fn the_true_perturbation_of_a_state_is_found() {
    let work = tempdir().expect("a directory");
    let (output, hits) = (
        work.path().join("ranked.tsv"),
        work.path().join("topk_accuracy.tsv"),
    );
    let genes: Vec<String> = (0..REGULATORS).map(name).collect();
    let causes: Vec<String> = screen()[1..]
        .iter()
        .map(|(label, ..)| label.clone())
        .collect();
    let mut command = perturb("reverse", &TRAINED, &output);
    command.args([
        "--genes",
        &genes.join(","),
        "--pairs",
        "--query",
        &causes.join(","),
    ]);
    succeed(command.arg("--evaluate").arg(&hits));
    let rows = table(&hits);
    let of_k = |k: &str| {
        rows.iter()
            .find(|row| row["split"] == "all" && row["top_k"] == k)
            .expect("a row")
    };
    assert!(number(of_k("8"), "accuracy") > 0.8, "{:?}", of_k("8"));
    assert!(number(of_k("8"), "accuracy_random") < 0.25);
    // The same with a target state given by a column.
    let named = work.path().join("named.tsv");
    let state = format!("{}+ctrl", name(3));
    let mut command = perturb("reverse", &TRAINED, &named);
    command.args([
        "--genes",
        &genes.join(","),
        "--target-column",
        "condition",
        "--target",
        &state,
    ]);
    succeed(&mut command);
    assert_eq!(table(&named)[0]["perturbation"], name(3));
}

#[test]
fn perturbations_with_similar_responses_are_clustered() {
    let work = tempdir().expect("a directory");
    let (output, placed, figure, groups) = (
        work.path().join("map.h5ad"),
        work.path().join("map.tsv"),
        work.path().join("map.svg"),
        work.path().join("groups.tsv"),
    );
    fs::write(&groups, "GENE000\tone\nGENE001\tother\n").expect("groups");
    let genes: Vec<String> = (0..REGULATORS).map(name).collect();
    let mut command = perturb("map", &TRAINED, &output);
    command.args(["--genes", &genes.join(","), "--pairs", "--n-neighbors", "6"]);
    command
        .arg("--table")
        .arg(&placed)
        .arg("--plot")
        .arg(&figure);
    let stderr = command.arg("--groups").arg(&groups).assert().success();
    let stderr = String::from_utf8(stderr.get_output().stderr.clone()).expect("UTF-8");
    assert!(stderr.contains("dominant gene"), "{stderr}");
    let rows = table(&placed);
    assert_eq!(rows.len(), 36);
    assert!(
        rows.iter().any(|row| number(row, "p_value") <= 0.05),
        "clusters of random perturbations"
    );
    assert!(rows.iter().any(|row| row["group"] == "one + other"));
    fs::write(&groups, "GENE000 one\n").expect("groups");
    let wrong = fail(
        perturb("map", &TRAINED, &output)
            .args(["--genes", &genes.join(",")])
            .arg("--groups")
            .arg(&groups),
        INPUT,
    );
    assert!(wrong.contains("line 1") && wrong.contains("tab"), "{wrong}");
}

#[test]
fn deleting_a_gene_shifts_cell_embeddings() {
    let work = tempdir().expect("a directory");
    let output = work.path().join("in_silico_shifts.tsv");
    let command = || {
        let mut command = programs::from_to("scgpt-perturb", &TRAINED.cells, &output);
        let rest: Vec<std::ffi::OsString> = command.get_args().map(Into::into).collect();
        command = programs::program("scgpt-perturb");
        command
            .arg("in-silico")
            .args(rest)
            .arg("--checkpoint")
            .arg(data("embedding/checkpoint"));
        command.args([
            "--groups",
            "condition",
            "--start",
            "ctrl",
            "--target",
            "GENE000+ctrl",
        ]);
        command
    };
    let stderr = succeed(command().args(["--genes", "GENE000,GENE001,ABSENT"]));
    assert!(stderr.contains("`ABSENT`"), "{stderr}");
    let rows = table(&output);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| number(row, "cells") > 50.0 && (0.0..=1.0).contains(&number(row, "p_value"))));
    assert!(number(&rows[0], "target_shift") >= number(&rows[1], "target_shift"));
    let wrong = fail(command().args(["--genes", "ABSENT"]), INPUT);
    assert!(wrong.contains("`ABSENT`"), "{wrong}");
}

/// The error for a file that cannot be used.
fn rejected(conditions: &[(String, Vec<usize>, usize)], options: &[&str]) -> String {
    let work = tempdir().expect("a directory");
    let cells = work.path().join("cells.h5ad");
    write(&cells, conditions);
    fail(
        finetune(&cells, &work.path().join("model"))
            .args(SHORT)
            .args(options),
        INPUT,
    )
}

#[test]
fn odd_conditions_are_rejected_and_named() {
    let with = |label: &str, cells: usize| {
        let mut conditions = few();
        conditions.push((label.to_owned(), vec![1], cells));
        conditions
    };
    let stderr = rejected(&few()[1..], &[]);
    assert!(
        stderr.contains("no control cells") && stderr.contains("`GENE000+ctrl` (8 cells)"),
        "{stderr}"
    );
    let stderr = rejected(&with("GENE005", 1), &[]);
    assert!(
        stderr.contains("single cell")
            && stderr.contains("`GENE005`")
            && stderr.contains("--min-cells"),
        "{stderr}"
    );
    let stderr = rejected(&with("NOGENE", 8), &[]);
    assert!(
        stderr.contains("`NOGENE`") && stderr.contains("--missing-genes"),
        "{stderr}"
    );
    let stderr = rejected(&with("GENE004+GENE004", 8), &[]);
    assert!(stderr.contains("`GENE004+GENE004` (8 cells)"), "{stderr}");
    let stderr = rejected(&with("GENE004++GENE005", 8), &[]);
    assert!(stderr.contains("`GENE004++GENE005` (8 cells)"), "{stderr}");
    let stderr = rejected(&few(), &["--control", "non-targeting"]);
    assert!(
        stderr.contains("`non-targeting`") && stderr.contains("--control ctrl"),
        "{stderr}"
    );
    let stderr = rejected(&few(), &["--test", "GENE039"]);
    assert!(stderr.contains("`GENE039`"), "{stderr}");
}

#[test]
fn unmeasured_genes_are_kept_or_dropped_by_option() {
    let work = tempdir().expect("a directory");
    let cells = work.path().join("cells.h5ad");
    let mut conditions = few();
    conditions.push(("NOGENE".to_owned(), vec![1], 8));
    write(&cells, &conditions);
    for (how, is_known) in [("token", true), ("drop", false)] {
        let output = work.path().join(how);
        let stderr = succeed(finetune(&cells, &output).args(SHORT).args([
            "--missing-genes",
            how,
            "--split",
            "no-test",
        ]));
        assert!(stderr.contains("`NOGENE`"), "{stderr}");
        assert_eq!(
            json(output.join("vocab.json")).get("NOGENE").is_some(),
            is_known
        );
    }
}

#[test]
fn a_pretrained_model_is_fine_tuned_with_new_genes() {
    let work = tempdir().expect("a directory");
    let cells = work.path().join("cells.h5ad");
    let mut conditions = few();
    conditions.push(("NOGENE".to_owned(), Vec::new(), 8));
    write(&cells, &conditions);
    let output = work.path().join("model");
    let checkpoint = data("embedding/checkpoint");
    let mut command = programs::from_to("scgpt-finetune-perturbation", &cells, &output);
    command
        .args(SHORT)
        .args(["--split", "no-test", "--missing-genes", "token"])
        .arg("--checkpoint")
        .arg(&checkpoint);
    succeed(&mut command);
    let table = json(output.join("loaded_weights.json"));
    let loaded = table["loaded"].as_array().expect("names");
    let is_loaded = |wanted: &str| loaded.iter().any(|name| name == wanted);
    assert!(is_loaded(
        "transformer_encoder.layers.0.self_attn.in_proj_weight"
    ));
    let published = json(checkpoint.join("vocab.json"));
    let grown = json(output.join("vocab.json"));
    let id = |vocabulary: &serde_json::Value, gene: &str| vocabulary[gene].as_u64();
    assert_eq!(id(&published, "NOGENE"), None);
    let new = id(&grown, "NOGENE").expect("a new gene") as usize;
    assert_eq!(id(&grown, &name(3)), id(&published, &name(3)));
    let state = weights(&output);
    let rows = state["encoder.embedding.weight"].shape()[0];
    assert!(rows > new, "{rows} embeddings, one of them for gene {new}");
}

#[test]
fn a_model_of_another_task_is_rejected_with_its_task() {
    let work = tempdir().expect("a directory");
    let output = work.path().join("out.h5ad");
    let model = TRAINED.model.to_str().expect("a name");
    for program in ["scgpt-embed", "scgpt-annotate"] {
        let mut command = programs::from_to(program, &TRAINED.cells, &output);
        let option = match program {
            "scgpt-embed" => "--checkpoint",
            _ => "--model",
        };
        let stderr = fail(command.args([option, model]), INPUT);
        assert!(
            stderr.contains("trained for the task `perturbation`"),
            "{stderr}"
        );
        assert!(stderr.contains("use it with `scgpt-perturb"), "{stderr}");
    }
}

#[test]
fn a_gene_that_is_not_in_the_vocabulary_is_named() {
    let work = tempdir().expect("a directory");
    let mut command = perturb("predict", &TRAINED, &work.path().join("predicted.h5ad"));
    let stderr = fail(command.args(["--perturb", "GENE001,NOGENE"]), INPUT);
    assert!(stderr.contains("has no gene `NOGENE`"), "{stderr}");
}

#[test]
fn files_of_gears_are_read_directly() {
    let work = tempdir().expect("a directory");
    let cells = formats("made/gears_style.h5ad");
    let stderr = succeed(
        finetune(&cells, &work.path().join("model"))
            .args(SHORT)
            .args([
                "--min-cells",
                "1",
                "--missing-genes",
                "token",
                "--activation",
            ]),
    );
    assert!(stderr.contains("6 control cells"), "{stderr}");
}
