//! `scgpt-integrate` on simulated cells: outputs, mapping of new cells, imputation of missing modalities, and odd data.

use crate::support::cells::{self, Simulated, TYPES};
use crate::support::data;
use crate::support::interruption::{self, end, stop, wait_for, work_folder};
use crate::support::needs::real;
use crate::support::programs::{self, fail, json, obsm, succeed, weights};
use crate::support::python::{check, python};
use crate::support::trained::SIZE;
use assert_cmd::Command;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{Column, h5ad};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

const USAGE: i32 = 2;
const INPUT: i32 = 65;
const READ_WRITE: i32 = 74;
const CELLS: usize = 100;
/// Enough to mix the batches.
const TRAINING: [&str; 8] = [
    "--epochs",
    "12",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.005",
    "--dropout",
    "0",
];
/// Enough to predict a modality from another.
const LONG: [&str; 8] = [
    "--epochs",
    "30",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.005",
    "--dropout",
    "0",
];
/// One epoch, where only the outcome of an option matters.
const SHORT: [&str; 4] = ["--epochs", "1", "--batch-size", "20"];
const COLUMNS: [&str; 4] = ["--batch", "batch", "--labels", "cell_type"];
const ANTIBODIES: usize = 6;

fn integrate(input: &Path, output: &Path) -> Command {
    programs::from_to("scgpt-integrate", input, output)
}

/// Cells of three cell types; those of the second batch have more of some genes.
fn counts(cells: usize, seed: u64) -> Counts {
    let plain = Simulated {
        cells,
        seed,
        ..Simulated::SMALL
    }
    .counts();
    let row = |(cell, (genes, values)): (usize, (&[u32], &[f32]))| {
        let more = if Simulated::batch_of(cell) == "second" {
            3.0
        } else {
            1.0
        };
        let value = |(&gene, &value): (&u32, &f32)| match gene {
            24..40 => (gene, value * more),
            _ => (gene, value),
        };
        genes.iter().zip(values).map(value).collect::<Vec<_>>()
    };
    Counts::from_rows(plain.n_genes, plain.rows().enumerate().map(row))
}

/// Antibodies of the same cells: two for every cell type.
fn antibodies(cells: impl Iterator<Item = usize>) -> Counts {
    let row = |cell: usize| {
        let kind = TYPES.iter().position(|t| *t == Simulated::type_of(cell));
        let value = move |at: usize| {
            let marked = if kind == Some(at / 2) { 40 } else { 1 };
            (at as u32, (marked + (cell + at) % 3) as f32)
        };
        (0..ANTIBODIES).map(value)
    };
    Counts::from_rows(ANTIBODIES, cells.map(row))
}

fn column(cells: usize, of: impl Fn(usize) -> Option<&'static str>) -> Column {
    Column::from_labels(&(0..cells).map(of).collect::<Vec<_>>())
}

fn known_type(cell: usize) -> Option<&'static str> {
    Some(Simulated::type_of(cell))
}

fn known_batch(cell: usize) -> Option<&'static str> {
    Some(Simulated::batch_of(cell))
}

/// Writes cells with the given cell types and batches.
fn write(
    path: &Path,
    (cells, seed): (usize, u64),
    kind: impl Fn(usize) -> Option<&'static str>,
    batch: impl Fn(usize) -> Option<&'static str>,
) {
    let obs = [
        ("cell_type", column(cells, kind)),
        ("batch", column(cells, batch)),
    ];
    let genes = Simulated::SMALL.gene_names();
    cells::write(path, &counts(cells, seed), &genes, obs);
}

/// Writes antibodies of the cells of those numbers, in the order given.
fn write_antibodies(path: &Path, cells: &[usize], prefix: &str) {
    let names: Vec<String> = cells.iter().map(|c| format!("{prefix}{c}")).collect();
    let features: Vec<String> = (0..ANTIBODIES).map(|at| format!("CD{at}")).collect();
    let counts = antibodies(cells.iter().copied());
    cells::write_named(path, &counts, (&names, &features), []);
}

/// A directory with cells in it.
struct Case {
    folder: TempDir,
    input: PathBuf,
}

impl Case {
    fn new(
        cells: usize,
        kind: impl Fn(usize) -> Option<&'static str>,
        batch: impl Fn(usize) -> Option<&'static str>,
    ) -> Self {
        let folder = tempdir().unwrap();
        let input = folder.path().join("cells.h5ad");
        write(&input, (cells, 1), kind, batch);
        Self { folder, input }
    }

    fn usual(cells: usize) -> Self {
        Self::new(cells, known_type, known_batch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self) -> PathBuf {
        self.path("output.h5ad")
    }

    /// From the cells to the output, with a small model from scratch.
    fn command(&self) -> Command {
        let mut command = integrate(&self.input, &self.output());
        command.args(SIZE).args(SHORT);
        command
    }

    /// Also writes the metrics; stderr, and the metrics by method and name.
    fn scores(&self, extra: &[&str]) -> (String, BTreeMap<String, BTreeMap<String, f64>>) {
        let table = self.path("scores.tsv");
        let stderr = succeed(self.command().args(extra).arg("--metrics").arg(&table));
        (stderr, scores(&table))
    }
}

/// Metrics by method and name, without those that are undefined.
fn scores(table: &Path) -> BTreeMap<String, BTreeMap<String, f64>> {
    let text = fs::read_to_string(table).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t'));
    let names: Vec<&str> = lines.next().unwrap().skip(1).collect();
    let of_method = |mut line: std::str::Split<'_, char>| {
        let method = line.next().unwrap().to_owned();
        let values = names
            .iter()
            .zip(line)
            .filter(|(_, value)| !value.is_empty());
        let value = |(name, value): (&&str, &str)| ((*name).to_owned(), value.parse().unwrap());
        (method, values.map(value).collect())
    };
    lines.map(of_method).collect()
}

fn obs(path: &Path, name: &str) -> Column {
    let file = h5ad::File::open(path).unwrap();
    file.obs(name).unwrap()
}

/// Weights of the graph by row and column.
fn graph(path: &Path) -> BTreeMap<(usize, usize), f32> {
    let file = hdf5::File::open(path).unwrap();
    let group = file.group("obsp/X_scGPT_connectivities").unwrap();
    let positions = |name: &str| group.dataset(name).unwrap().read_1d::<usize>().unwrap();
    let (columns, starts) = (positions("indices"), positions("indptr"));
    let values = group.dataset("data").unwrap().read_1d::<f32>().unwrap();
    let rows = starts.windows(2).into_iter().map(|span| span[0]..span[1]);
    let of_row = |(row, span): (usize, std::ops::Range<usize>)| {
        let entry = |at: usize| ((row, columns[at]), values[at]);
        span.map(entry).collect::<Vec<_>>()
    };
    rows.enumerate().flat_map(of_row).collect()
}

#[track_caller]
fn assert_unit_rows(path: &Path, cells: usize) {
    let rows = obsm(path, "X_scGPT");
    assert_eq!(rows.len(), cells);
    for row in rows {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "a row of length {length}");
    }
}

#[track_caller]
fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

/// A model trained once for all tests.
struct Integrated {
    cells: PathBuf,
    output: PathBuf,
    model: PathBuf,
    stderr: String,
}

static INTEGRATED: LazyLock<Integrated> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("integrated");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a directory for the tests");
    let [cells, output, model] = ["cells.h5ad", "output.h5ad", "model"].map(|n| folder.join(n));
    write(&cells, (CELLS, 1), known_type, known_batch);
    let mut command = integrate(&cells, &output);
    command.args(SIZE).args(TRAINING).args(COLUMNS);
    command.arg("--model").arg(&model);
    command.arg("--metrics").arg(folder.join("scores.tsv"));
    command.arg("--plot").arg(folder.join("figure.svg"));
    Integrated {
        stderr: succeed(&mut command),
        cells,
        output,
        model,
    }
});

#[test]
fn cells_get_an_embedding_a_graph_clusters_and_a_layout() {
    let output = &INTEGRATED.output;
    assert_unit_rows(output, CELLS);
    assert_eq!(obsm(output, "X_scGPT")[0].len(), 16);
    let layout = obsm(output, "X_scGPT_umap");
    let is_place = |row: &Vec<f32>| row.len() == 2 && row.iter().all(|at| at.is_finite());
    assert!(layout.len() == CELLS && layout.iter().all(is_place));
    let graph = graph(output);
    for (&(row, column), &weight) in &graph {
        assert!(row != column && weight > 0.0 && weight <= 1.0);
        assert_eq!(graph.get(&(column, row)), Some(&weight), "{row}, {column}");
    }
    let neighbors = |cell: usize| graph.keys().filter(|(row, _)| *row == cell).count();
    assert!((0..CELLS).all(|cell| neighbors(cell) >= 14));
    let Column::Categorical {
        codes, categories, ..
    } = obs(output, "X_scGPT_leiden")
    else {
        panic!("clusters are categories");
    };
    assert!(codes.len() == CELLS && codes.iter().all(Option::is_some));
    assert!((2..20).contains(&categories.len()), "{categories:?}");
    for name in ["cell_type", "batch"] {
        assert_eq!(obs(output, name), obs(&INTEGRATED.cells, name));
    }
}

#[test]
fn three_methods_are_scored_alike_everywhere() {
    let table = scores(&INTEGRATED.output.with_file_name("scores.tsv"));
    assert_eq!(
        table.keys().collect::<Vec<_>>(),
        ["Harmony", "PCA", "scGPT"]
    );
    let record = json(INTEGRATED.output.with_file_name("output.run.json"));
    for (method, scores) in &table {
        assert_eq!(scores.len(), 15, "{method}: {scores:?}");
        for (name, value) in scores {
            assert!((0.0..=1.0).contains(value), "{method}: {name} is {value}");
            let recorded = record["metrics"]["scores"][method][name].as_f64().unwrap();
            assert!((value - recorded).abs() < 1e-6, "{method}: {name}");
        }
        assert_contains(&INTEGRATED.stderr, &[method]);
    }
    let timings = record["timings"].as_array().unwrap();
    for method in ["pca", "harmony"] {
        assert!(
            timings.iter().any(|timing| timing["stage"] == method),
            "{method}: {timings:?}"
        );
    }
    let learned = &table["scGPT"];
    assert!(
        learned["avg_bio"] > 0.6,
        "cell types are not separated: {learned:?}"
    );
    assert!(
        learned["avg_batch"] > 0.7,
        "batches are not mixed: {learned:?}"
    );
    let figure = fs::read_to_string(INTEGRATED.output.with_file_name("figure.svg")).unwrap();
    assert!(figure.starts_with("<svg"));
    assert_contains(&figure, &TYPES);
}

#[test]
fn the_model_directory_states_what_the_model_reads() {
    let model = &INTEGRATED.model;
    let own = &json(model.join("args.json"))["scgpt_tools"];
    assert_eq!(own["task"], "integration");
    assert_eq!(own["batches"], json!(["first", "second"]));
    assert_eq!(own["features"][0]["features"].as_array().unwrap().len(), 60);
    let epochs = fs::read_to_string(model.join("metrics.jsonl")).unwrap();
    assert_eq!(epochs.lines().count(), 12);
    let weights = weights(model);
    for name in ["running_mean", "running_var"] {
        let [first, second] =
            [0, 1].map(|batch| weights[&format!("dsbn.bns.{batch}.{name}")].to_f32());
        assert!(first.iter().chain(&second).all(|value| value.is_finite()));
        assert!(first != second, "{name} of both batches is the same");
    }
    let record = json(INTEGRATED.output.with_file_name("output.run.json"));
    assert_eq!(
        (&record["exit_status"], &record["seed"]),
        (&0.into(), &0.into())
    );
    let written: Vec<&str> = record["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["path"].as_str().unwrap())
        .collect();
    for name in [
        "output.h5ad",
        "model.safetensors",
        "scores.tsv",
        "figure.svg",
    ] {
        assert!(written.iter().any(|path| path.ends_with(name)), "{name}");
    }
    assert!(!work_folder(&INTEGRATED.output).exists());
}

#[test]
fn everything_is_a_function_of_the_seed_alone() {
    let case = Case::usual(60);
    let written = |name: &str, extra: &[&str]| {
        let (output, model) = (case.path(&format!("{name}.h5ad")), case.path(name));
        let tables = ["tsv", "svg"].map(|ending| output.with_extension(ending));
        let mut command = integrate(&case.input, &output);
        command
            .args(SIZE)
            .args(["--epochs", "3", "--batch-size", "12"]);
        command.args(COLUMNS).arg("--model").arg(&model).args(extra);
        command.arg("--metrics").arg(&tables[0]);
        succeed(command.arg("--plot").arg(&tables[1]));
        let model = ["model.safetensors", "metrics.jsonl"].map(|name| model.join(name));
        let files = [&[output][..], &tables, &model].concat();
        files
            .into_iter()
            .map(|file| fs::read(file).unwrap())
            .collect::<Vec<_>>()
    };
    let first = written("first", &["--threads", "1"]);
    assert!(
        first == written("again", &["--threads", "1"]),
        "another run"
    );
    assert!(
        first == written("threads", &["--threads", "3"]),
        "other threads"
    );
    let other = written("seed", &["--threads", "1", "--seed", "1"]);
    assert!(
        first[0] != other[0] && first[3] != other[3],
        "the seed has no effect"
    );
}

#[test]
fn the_order_of_cells_is_an_option() {
    let case = Case::usual(60);
    let mut models = ["mixed", "by-batch", "sequential"].map(|sampling| {
        let model = case.path(sampling);
        let mut command = case.command();
        command.args(COLUMNS).args(["--sampling", sampling]);
        succeed(command.arg("--model").arg(&model));
        fs::read(model.join("model.safetensors")).unwrap()
    });
    models.sort();
    assert!(models[0] != models[1] && models[1] != models[2]);
}

/// Everything random takes part, and a state is saved every few steps.
fn start(output: &Path, extra: &[&str]) -> Child {
    let mut command = std::process::Command::new(programs::path("scgpt-integrate"));
    command.arg("--input").arg(&INTEGRATED.cells);
    command.arg("--output").arg(output.with_extension("h5ad"));
    command
        .arg("--model")
        .arg(output)
        .args(["--batch", "batch"]);
    command.args(["--device", "cpu", "--threads", "2", "--baselines=false"]);
    command.args(["--epochs", "6", "--batch-size", "8", "--save-every", "3"]);
    command.args(SIZE).args(["--seed", "5"]).args(extra);
    command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What must not depend on interruptions.
fn results(output: &Path) -> [Vec<u8>; 3] {
    let model = ["model.safetensors", "metrics.jsonl"].map(|name| output.join(name));
    let [model, metrics] = model.map(|file| fs::read(file).unwrap());
    [
        model,
        metrics,
        fs::read(output.with_extension("h5ad")).unwrap(),
    ]
}

static UNDISTURBED: LazyLock<([Vec<u8>; 3], Duration)> = LazyLock::new(|| {
    let folder = tempdir().unwrap();
    let output = folder.path().join("output");
    LazyLock::force(&INTEGRATED);
    let clock = Instant::now();
    let (code, stderr) = end(start(&output, &[]));
    assert_eq!(code, Some(0), "{stderr}");
    (results(&output), clock.elapsed())
});

fn assert_same(output: &Path, what: &str) {
    let same = results(output) == UNDISTURBED.0;
    assert!(
        same,
        "the run {what} ended elsewhere than the undisturbed one"
    );
}

#[test]
fn killed_runs_end_where_undisturbed_ones_do() {
    let within = UNDISTURBED.1.mul_f64(0.9);
    let resume = |output: &Path| start(output, &["--resume"]);
    interruption::kill_and_resume(("model.safetensors", within), resume, assert_same);
}

#[test]
fn a_stopped_run_resumes_with_the_statistics_of_its_batches() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("output");
    let work = work_folder(&output.with_extension("h5ad"));
    let child = start(&output, &[]);
    wait_for(&work.join("state.safetensors"));
    let (code, stderr) = stop(child);
    assert_eq!(code, Some(75), "{stderr}");
    assert_contains(&stderr, &["--resume"]);
    assert!(!output.exists() && !output.with_extension("h5ad").exists());
    // Options of plots and evaluation may change.
    let figure = folder.path().join("figure.svg");
    let figure = ["--resume", "--plot", figure.to_str().unwrap()];
    let (code, stderr) = end(start(&output, &figure));
    assert_eq!(code, Some(0), "{stderr}");
    assert_same(&output, "stopped by a signal");
    assert!(!work.exists());
}

/// A run that applies the shared model.
fn map(input: &Path, output: &Path) -> Command {
    let mut command = integrate(input, output);
    command.arg("--checkpoint").arg(&INTEGRATED.model);
    command.args(["--zero-shot", "--batch", "batch"]);
    command
}

#[test]
fn cells_of_trained_batches_are_mapped_to_the_same_embedding() {
    let folder = tempdir().unwrap();
    let mapped = |input: &Path, name: &str| {
        let output = folder.path().join(name);
        succeed(&mut map(input, &output));
        obsm(&output, "X_scGPT")
    };
    let trained = obsm(&INTEGRATED.output, "X_scGPT");
    assert_eq!(mapped(&INTEGRATED.cells, "all.h5ad"), trained);
    // The second batch alone, so that the number of its norm is not that of its order here.
    let second: Vec<usize> = (0..CELLS)
        .filter(|&c| Simulated::batch_of(c) == "second")
        .collect();
    let input = folder.path().join("second.h5ad");
    let counts = counts(CELLS, 1).select_cells(&second);
    let batch = column(second.len(), |_| Some("second"));
    cells::write(
        &input,
        &counts,
        &Simulated::SMALL.gene_names(),
        [("batch", batch)],
    );
    let expected: Vec<_> = second.iter().map(|&cell| trained[cell].clone()).collect();
    assert_eq!(mapped(&input, "second_mapped.h5ad"), expected);
}

#[test]
fn a_new_batch_is_mapped_with_both_statistics() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("new.h5ad");
    write(&input, (40, 7), known_type, |_| Some("third"));
    let mapped = |how: &str, expected: &str| {
        let output = folder.path().join(format!("{how}.h5ad"));
        let mut command = map(&input, &output);
        let stderr = succeed(command.args(["--new-batch", how, "--labels", "cell_type"]));
        assert_contains(&stderr, &["batch `third` was not trained on", expected]);
        assert_unit_rows(&output, 40);
        let record = json(output.with_extension("run.json"));
        let scores = record["metrics"]["scores"].as_object().unwrap().clone();
        assert!(scores["scGPT"]["avg_bio"].as_f64().unwrap() > 0.5);
        assert!(scores["scGPT"]["ilisi"].is_null(), "there is one batch");
        assert!(
            !scores.contains_key("Harmony"),
            "there is nothing to correct"
        );
        obsm(&output, "X_scGPT")
    };
    let mean = mapped("mean", "the mean statistics of the training batches");
    assert!(mean != mapped("own", "its own statistics"));
}

#[test]
fn a_mapped_cell_is_sampled_as_its_model_was_trained_to_whatever_the_seed() {
    let case = Case::usual(40);
    let model = case.path("model");
    let mut command = case.command();
    command.args(COLUMNS).args(["--max-length", "12"]);
    succeed(command.arg("--model").arg(&model));
    let mapped = case.path("mapped.h5ad");
    let mut command = integrate(&case.input, &mapped);
    command.arg("--checkpoint").arg(&model).arg("--zero-shot");
    succeed(command.args(COLUMNS).args(["--seed", "5"]));
    assert_eq!(obsm(&mapped, "X_scGPT"), obsm(&case.output(), "X_scGPT"));
}

#[test]
fn a_pretrained_checkpoint_embeds_like_scgpt_embed() {
    let folder = tempdir().unwrap();
    let [here, there] = ["here.h5ad", "there.h5ad"].map(|name| folder.path().join(name));
    let checkpoint = data("embedding/checkpoint");
    let mut command = integrate(&INTEGRATED.cells, &here);
    command
        .arg("--checkpoint")
        .arg(&checkpoint)
        .arg("--zero-shot");
    succeed(command.args(COLUMNS));
    let mut embed = programs::from_to("scgpt-embed", &INTEGRATED.cells, &there);
    succeed(embed.arg("--checkpoint").arg(&checkpoint));
    assert_eq!(obsm(&here, "X_scGPT"), obsm(&there, "X_scGPT"));
}

#[test]
fn a_checkpoint_is_trained_further_and_accounted_for() {
    let case = Case::usual(60);
    let model = case.path("model");
    let checkpoint = data("integration/checkpoint");
    let mut command = integrate(&case.input, &case.output());
    command.args(SHORT).arg("--checkpoint").arg(&checkpoint);
    succeed(command.arg("--model").arg(&model).args(COLUMNS));
    let table = json(model.join("loaded_weights.json"));
    let stored = weights(&checkpoint).len();
    let count = |what: &str| table[what].as_array().unwrap().len();
    assert_eq!(
        count("loaded") + count("unexpected") + count("wrong_shape"),
        stored
    );
    let (before, after) = (weights(&checkpoint), weights(&model));
    let name = "transformer_encoder.layers.0.linear1.weight";
    assert!(before[name] != after[name], "the weights did not change");
    assert_unit_rows(&case.output(), 60);
}

#[test]
fn cells_are_ordered_from_a_root() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("output.h5ad");
    succeed(map(&INTEGRATED.cells, &output).args(["--root", "cell3"]));
    let Column::Number(order) = obs(&output, "X_scGPT_pseudotime") else {
        panic!("pseudotime is a number");
    };
    let order: Vec<f64> = order.into_iter().map(Option::unwrap).collect();
    assert_eq!((order.len(), order[3]), (CELLS, 0.0));
    assert!(order.iter().all(|at| (0.0..=1.0).contains(at)));
    assert!(order.iter().any(|at| *at > 0.5));
}

#[test]
fn batches_that_share_no_type_are_integrated() {
    let kind = |cell| match Simulated::batch_of(cell) {
        "first" => Some(["alpha", "beta"][cell % 2]),
        _ => Some("gamma"),
    };
    let case = Case::new(60, kind, known_batch);
    let (_, scores) = case.scores(&COLUMNS);
    assert!(scores["scGPT"].contains_key("avg_bio"));
    assert!(
        !scores["scGPT"].contains_key("asw_batch"),
        "no type is in two batches"
    );
    assert_unit_rows(&case.output(), 60);
}

#[test]
fn a_batch_of_one_cell_is_integrated() {
    let case = Case::new(60, known_type, |cell| {
        Some(if cell == 7 { "lone" } else { "first" })
    });
    let (stderr, scores) = case.scores(&[&COLUMNS[..], &["--n-hvg", "30"]].concat());
    assert_contains(&stderr, &["first (59), lone (1)"]);
    assert!(
        scores["scGPT"]
            .values()
            .all(|score| (0.0..=1.0).contains(score))
    );
    assert_unit_rows(&case.output(), 60);
}

#[test]
fn one_batch_has_no_batch_metrics() {
    let case = Case::usual(60);
    let (stderr, scores) = case.scores(&["--labels", "cell_type"]);
    assert_contains(&stderr, &["cells (60)"]);
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["PCA", "scGPT"]);
    for scores in scores.values() {
        assert!(scores.contains_key("avg_bio") && scores.contains_key("clisi"));
        for name in ["avg_batch", "asw_batch", "ilisi", "kbet", "pcr_comparison"] {
            assert!(!scores.contains_key(name), "{name}");
        }
    }
}

#[test]
fn cells_without_a_label_are_integrated_but_not_scored() {
    let some = Case::new(60, |c| known_type(c).filter(|_| c % 3 > 0), known_batch);
    let (_, scores) = some.scores(&COLUMNS);
    assert!(scores["scGPT"].contains_key("overall"));
    assert_unit_rows(&some.output(), 60);
    let none = Case::new(60, |_| None, known_batch);
    let (_, scores) = none.scores(&COLUMNS);
    assert!(scores["scGPT"].contains_key("ilisi"));
    for name in ["overall", "avg_bio", "nmi", "clisi"] {
        assert!(!scores["scGPT"].contains_key(name), "{name}");
    }
    assert_unit_rows(&none.output(), 60);
}

#[test]
fn cells_with_the_same_name_keep_their_own_embedding() {
    let case = Case::usual(40);
    let twice = case.path("twice.h5ad");
    let names: Vec<String> = (0..40).map(|cell| format!("cell{}", cell / 2)).collect();
    let genes = Simulated::SMALL.gene_names();
    cells::write_named(&twice, &counts(40, 1), (&names, &genes), []);
    let rows = [&case.input, &twice].map(|input| {
        let output = input.with_extension("out.h5ad");
        succeed(integrate(input, &output).args(SIZE).args(SHORT));
        obsm(&output, "X_scGPT")
    });
    assert!(rows[0] == rows[1], "another name gives another embedding");
}

#[test]
fn what_cannot_be_used_is_named_before_training() {
    let case = Case::new(60, known_type, |c| known_batch(c).filter(|_| c % 3 > 0));
    let figure = case.path("figure.svg");
    let columns = [
        "no file has a column `donor`",
        "`cell_type`, `batch`",
        "cells.h5ad",
    ];
    let wrong: [(&[&str], &[&str]); 6] = [
        (&["--batch", "donor"], &columns),
        (&["--labels", "donor"], &columns),
        (
            &["--color", "donor", "--plot", figure.to_str().unwrap()],
            &columns,
        ),
        (
            &["--batch", "batch"],
            &["20 of 60 cells", "batch column `batch`"],
        ),
        (&["--root", "nobody"], &["`nobody`", "`cell0`"]),
        (
            &["--mask-modality", "protein"],
            &["`--mask-modality`", "Protein"],
        ),
    ];
    for (extra, expected) in wrong {
        let message = fail(case.command().args(extra), INPUT);
        assert_contains(&message, expected);
        assert!(
            !message.contains("epoch"),
            "{extra:?}: training began:\n{message}"
        );
        assert!(!case.output().exists());
    }
}

#[test]
fn no_model_is_overwritten() {
    let case = Case::usual(20);
    let model = case.path("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("thesis.txt"), "mine").unwrap();
    let message = fail(case.command().arg("--model").arg(&model), READ_WRITE);
    assert_contains(&message, &["model", "not empty", "name another output"]);
    assert!(!message.contains("epoch"), "training began:\n{message}");
    assert_eq!(fs::read_dir(&model).unwrap().count(), 1);
}

#[test]
fn problems_of_options_are_reported_together() {
    let case = Case::usual(20);
    let sheet = case.path("sheet.csv");
    fs::write(&sheet, "path\ncells.h5ad\n").unwrap();
    let mut command = integrate(&case.input, &case.output());
    command.arg("--samples").arg(&sheet).arg("--zero-shot");
    command.arg("--model").arg(case.path("model"));
    let extra = [
        "--embedding-dim",
        "30",
        "--n-heads",
        "4",
        "--n-neighbors",
        "1",
        "--epochs",
        "0",
    ];
    let message = fail(command.args(extra), USAGE);
    let parts = [
        "either `--input`",
        "`--zero-shot` needs `--checkpoint`",
        "`--model` is the directory of a trained model",
        "`--embedding-dim` 30 is not a multiple of `--n-heads` 4",
        "`--n-neighbors`: found `1`",
        "`--epochs`: found `0`",
    ];
    assert_contains(&message, &parts);
    let nothing = ["--gep-weight", "0", "--gepc-weight", "0"];
    assert_contains(
        &fail(case.command().args(nothing), USAGE),
        &["`--gepc-weight`", "both 0"],
    );
}

#[test]
fn files_are_batches_unless_a_sheet_gives_them() {
    let case = Case::usual(40);
    let other = case.path("other.h5ad");
    write(&other, (20, 2), known_type, known_batch);
    let both = format!("{},{}", case.input.display(), other.display());
    let mut command = integrate(Path::new(&both), &case.output());
    assert_contains(
        &succeed(command.args(SIZE).args(SHORT)),
        &["cells (40), other (20)"],
    );
    assert_unit_rows(&case.output(), 60);
    let names = h5ad::cell_names(&case.output()).unwrap();
    assert_eq!(
        (&*names[0], &*names[30], &*names[40]),
        ("cell0-cells", "cell30", "cell0-other")
    );

    let sheet = case.path("sheet.csv");
    fs::write(
        &sheet,
        "path,sample,batch\ncells.h5ad,a,north\nother.h5ad,b,south\n",
    )
    .unwrap();
    let mut command = programs::program("scgpt-integrate");
    command.arg("--samples").arg(&sheet).args(SIZE).args(SHORT);
    command
        .arg("--output")
        .arg(case.output())
        .args(["--device", "cpu"]);
    assert_contains(&succeed(&mut command), &["north (40), south (20)"]);
}

/// A case with antibodies: of the cells of those numbers, in that order.
fn with_antibodies(cells: &[usize], prefix: &str) -> (Case, Command) {
    let case = Case::usual(60);
    let protein = case.path("protein.h5ad");
    write_antibodies(&protein, cells, prefix);
    let mut command = integrate(&case.input, &case.output());
    command
        .args(SIZE)
        .args(COLUMNS)
        .arg("--protein")
        .arg(protein);
    (case, command)
}

/// Centered log-ratios of a cell's antibodies: what the model reads.
fn ratios(cell: usize) -> Vec<f32> {
    let counts = antibodies(std::iter::once(cell));
    let values = counts.row(0).1;
    let sum: f64 = values.iter().map(|&value| f64::from(value).ln_1p()).sum();
    let mean = (sum / values.len() as f64).exp();
    values
        .iter()
        .map(|&value| (f64::from(value) / mean).ln_1p() as f32)
        .collect()
}

#[test]
fn modalities_are_matched_by_cell_name() {
    let backwards: Vec<usize> = (0..60).rev().collect();
    let (case, mut command) = with_antibodies(&backwards, "cell");
    let stderr = succeed(command.args(SHORT));
    assert_contains(
        &stderr,
        &[
            "RNA: 60 cells, 60 features",
            "Protein: 60 cells, 6 features",
        ],
    );
    let written = h5ad::File::open(&case.output()).unwrap();
    let source = scgpt_tools::formats::Source::X;
    let matrix = written.matrix(&source).unwrap().read(0..60).unwrap();
    assert_eq!(matrix.n_genes, 66);
    let proteins: Vec<usize> = (60..66).collect();
    assert_eq!(matrix.select_genes(&proteins), antibodies(0..60));
    let kinds = written.var(&source, "feature_types").unwrap().to_labels();
    assert_eq!(kinds[59].as_deref(), Some("Gene Expression"));
    assert_eq!(kinds[60].as_deref(), Some("Antibody Capture"));
    let file = hdf5::File::open(case.output()).unwrap();
    assert!(
        !file.link_exists("obsm/X_scGPT_Protein"),
        "nothing is missing"
    );
}

#[test]
fn a_modality_that_half_of_the_cells_lack_is_imputed() {
    let half: Vec<usize> = (0..30).collect();
    let (case, mut command) = with_antibodies(&half, "cell");
    assert_contains(&succeed(command.args(LONG)), &["30 cells lack it"]);
    let imputed = obsm(&case.output(), "X_scGPT_Protein");
    assert_eq!(imputed.len(), 60);
    for (cell, row) in imputed.iter().enumerate() {
        assert!(row.len() == ANTIBODIES && row.iter().all(|value| value.is_finite()));
        if cell < 30 {
            let off = row.iter().zip(ratios(cell)).map(|(a, b)| (a - b).abs());
            assert!(
                off.fold(0.0, f32::max) < 1e-5,
                "cell {cell} was measured: {row:?}"
            );
        }
    }
    // The first antibody marks the first cell type.
    let mean = |kind: &str| {
        let cells: Vec<usize> = (30..60)
            .filter(|&c| Simulated::type_of(c) == kind)
            .collect();
        cells.iter().map(|&cell| imputed[cell][0]).sum::<f32>() / cells.len() as f32
    };
    assert!(
        mean("alpha") > mean("beta"),
        "{} {}",
        mean("alpha"),
        mean("beta")
    );
}

#[test]
fn the_missing_modality_of_a_new_batch_is_imputed() {
    let all: Vec<usize> = (0..60).collect();
    let (case, mut command) = with_antibodies(&all, "cell");
    let model = case.path("model");
    succeed(command.args(SHORT).arg("--model").arg(&model));
    let (input, mapped) = (case.path("new.h5ad"), case.path("mapped.h5ad"));
    write(&input, (30, 7), known_type, |_| Some("third"));
    let mut command = integrate(&input, &mapped);
    command.arg("--checkpoint").arg(&model).arg("--zero-shot");
    succeed(command.args(COLUMNS));
    let imputed = obsm(&mapped, "X_scGPT_Protein");
    let is_imputed = |row: &Vec<f32>| row.len() == ANTIBODIES && row.iter().all(|v| v.is_finite());
    assert!(imputed.len() == 30 && imputed.iter().all(is_imputed));
}

#[test]
fn a_masked_modality_is_compared_with_baselines() {
    let all: Vec<usize> = (0..60).collect();
    let (case, mut command) = with_antibodies(&all, "cell");
    let stderr = succeed(command.args(LONG).args(["--mask-modality", "protein"]));
    assert_contains(&stderr, &["Protein is masked in 30 cells"]);
    let record = json(case.path("output.run.json"));
    let table = &record["metrics"]["masked_modality"];
    for method in ["scGPT", "nearest cells", "ridge regression"] {
        assert!(table[method]["squared_error"].as_f64().unwrap() >= 0.0);
        assert_contains(&stderr, &[method]);
    }
    let correlation = |method: &str| table[method]["correlation"].as_f64().unwrap();
    assert!(correlation("scGPT") > 0.3, "{table}");
    assert!(correlation("ridge regression") > 0.5, "{table}");
}

#[test]
fn a_model_without_mvc_decoder_cannot_impute() {
    let all: Vec<usize> = (0..60).collect();
    let (_case, mut command) = with_antibodies(&all, "cell");
    let message = fail(
        command
            .args(SHORT)
            .args(["--mask-modality", "protein", "--gepc-weight", "0"]),
        USAGE,
    );
    assert_contains(&message, &["`--mask-modality`", "`--gepc-weight`"]);
    let (_case, mut command) = with_antibodies(&all, "cell");
    command
        .arg("--checkpoint")
        .arg(data("embedding/checkpoint"));
    let message = fail(
        command.args(["--zero-shot", "--mask-modality", "protein"]),
        INPUT,
    );
    assert_contains(&message, &["`--mask-modality`"]);
}

#[test]
fn modalities_without_a_common_cell_are_rejected() {
    let all: Vec<usize> = (0..60).collect();
    let (case, mut command) = with_antibodies(&all, "other");
    let message = fail(command.args(SHORT), INPUT);
    assert_contains(&message, &["RNA", "Protein", "names", "`cell0`"]);
    assert!(!message.contains("epoch") && !case.output().exists());
}

#[test]
fn a_file_of_several_modalities_is_integrated() {
    let case = Case::usual(40);
    let [protein, both] = ["protein.h5ad", "both.h5mu"].map(|name| case.path(name));
    write_antibodies(&protein, &(0..40).collect::<Vec<_>>(), "cell");
    cells::write_multimodal(&both, &[("rna", &case.input), ("prot", &protein)]);
    let [one, two] = ["one.h5mu", "two.h5ad"].map(|name| case.path(name));
    let stderr = succeed(integrate(&both, &one).args(SIZE).args(SHORT));
    assert_contains(
        &stderr,
        &[
            "RNA: 40 cells, 60 features",
            "Protein: 40 cells, 6 features",
        ],
    );
    let mut apart = integrate(&case.input, &two);
    succeed(apart.arg("--protein").arg(&protein).args(SIZE).args(SHORT));
    assert_eq!(obsm(&one, "X_scGPT"), obsm(&two, "X_scGPT"));
}

#[test]
fn measured_modalities_of_another_program_are_integrated() {
    let Some(input) = real("multiomic/citeseq_pbmc_control_500.h5mu") else {
        return;
    };
    let folder = tempdir().unwrap();
    let output = folder.path().join("output.h5mu");
    let mut command = integrate(&input, &output);
    command.args([
        "--n-hvg",
        "100",
        "--n-query-genes",
        "40",
        "--max-length",
        "60",
        "--baselines=false",
    ]);
    let stderr = succeed(command.args(SIZE).args(["--epochs", "1"]));
    assert_contains(
        &stderr,
        &["Protein: 500 cells, 49 features", "`hto` is dropped"],
    );
    assert_unit_rows(&output, 500);
}

#[test]
fn anndata_reads_integrated_cells() {
    let Some(python) = python() else { return };
    let half: Vec<usize> = (0..60).rev().step_by(2).collect();
    let (case, mut command) = with_antibodies(&half, "cell");
    succeed(command.args(SHORT).args(["--root", "cell3"]));
    let files = [&case.input, &case.path("protein.h5ad"), &case.output()];
    check(
        &python,
        "check_integration.py",
        &files.map(PathBuf::as_path),
    );
    // One file is copied with all its contents.
    let output = case.path("alone.h5ad");
    succeed(
        integrate(&case.input, &output)
            .args(SIZE)
            .args(SHORT)
            .args(COLUMNS),
    );
    let graph = graph(&output);
    let of_row = |row: usize| {
        let edges = graph.range((row, 0)..(row + 1, 0));
        edges
            .map(|(&(_, column), &weight)| (column, weight))
            .unzip()
    };
    let rows: Vec<(Vec<usize>, Vec<f32>)> = (0..60).map(of_row).collect();
    let Column::Categorical { categories, .. } = obs(&output, "X_scGPT_leiden") else {
        panic!("clusters are categories");
    };
    let clusters = obs(&output, "X_scGPT_leiden").to_labels();
    let expected = json!({
        "obs": {"X_scGPT_leiden": {"labels": clusters, "categories": categories}},
        "obsm": {"X_scGPT": obsm(&output, "X_scGPT"), "X_scGPT_umap": obsm(&output, "X_scGPT_umap")},
        "obsp": {"X_scGPT_connectivities": rows},
        "uns": {"X_scGPT": {"resolution": 1.0, "neighbors": 15}},
    });
    let path = case.path("expected.json");
    fs::write(&path, expected.to_string()).unwrap();
    check(
        &python,
        "check_additions.py",
        &[&case.input, &output, &path],
    );
}
