//! `scgpt-annotate` with a model from `scgpt-finetune-annotation`, on cells that it was not trained on.

use crate::support::cells::{self, Simulated, TYPES};
use crate::support::programs::{from_to, json, succeed, uns_text};
use crate::support::trained::{SIZE, TRAINED, finetune};
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use scgpt_tools::formats::Source;
use scgpt_tools::formats::h5ad::File;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Simulated cells from another seed than the training cells.
const NEW: Simulated = Simulated {
    cells: 60,
    genes: 60,
    seed: 2,
};

struct Annotated {
    folder: TempDir,
    output: PathBuf,
    messages: String,
}

fn annotate(write: impl Fn(&Path), extra: &[&str]) -> Annotated {
    annotate_by(&TRAINED.model, write, extra)
}

fn annotate_by(model: &Path, write: impl Fn(&Path), extra: &[&str]) -> Annotated {
    let folder = tempdir().unwrap();
    let (input, output) = (
        folder.path().join("new.h5ad"),
        folder.path().join("annotated.h5ad"),
    );
    write(&input);
    let mut command = from_to("scgpt-annotate", &input, &output);
    let messages = succeed(command.arg("--model").arg(model).args(extra));
    Annotated {
        folder,
        output,
        messages,
    }
}

impl Annotated {
    fn record(&self) -> serde_json::Value {
        json(self.folder.path().join("annotated.run.json"))
    }

    fn labels(&self) -> Vec<String> {
        let labels = File::open(&self.output)
            .unwrap()
            .obs("scgpt_label")
            .unwrap()
            .to_labels();
        labels
            .into_iter()
            .map(|label| label.expect("every cell has a label"))
            .collect()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        match File::open(&self.output).unwrap().obs(name).unwrap() {
            Column::Number(numbers) => numbers.into_iter().map(Option::unwrap).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }
}

#[test]
fn cells_are_annotated_and_predictions_evaluated() {
    let done = annotate(|path| NEW.write(path), &["--true-labels", "cell_type"]);
    let labels = done.labels();
    let correct = (0..NEW.cells)
        .filter(|&cell| labels[cell] == Simulated::type_of(cell))
        .count();
    assert!(correct >= 54, "{correct} of 60 are correct");
    let metrics = &done.record()["metrics"];
    assert_eq!(
        metrics["scores"]["accuracy"].as_f64().unwrap(),
        correct as f64 / 60.0
    );
    assert_eq!(
        (&metrics["genes_matched"], &metrics["model_genes"]),
        (&60.into(), &60.into())
    );
    assert!(
        done.messages.contains("60 of the 60 genes"),
        "{}",
        done.messages
    );

    let (best, second) = (
        done.numbers("scgpt_probability"),
        done.numbers("scgpt_second_probability"),
    );
    assert!(
        best.iter()
            .zip(&second)
            .all(|(a, b)| a >= b && *b > 0.0 && a + b <= 1.0 + 1e-6)
    );
    let file = File::open(&done.output).unwrap();
    let seconds = file.obs("scgpt_second_label").unwrap().to_labels();
    assert!(
        seconds
            .iter()
            .zip(&labels)
            .all(|(second, label)| second.as_ref().is_some_and(|s| s != label))
    );
    let Column::Categorical { categories, .. } = file.obs("scgpt_label").unwrap() else {
        panic!("not categorical")
    };
    assert_eq!(categories, [&TYPES[..], &["unassigned"]].concat());
    assert_eq!(
        uns_text(&done.output, "scgpt_annotation/model"),
        TRAINED.model.to_str().unwrap()
    );
    // The content of the input is unchanged.
    assert_eq!(
        file.obs("cell_type").unwrap().to_labels()[5].as_deref(),
        Some("gamma")
    );
    assert_eq!(
        file.matrix(&Source::X).unwrap().read(0..60).unwrap(),
        NEW.counts()
    );
}

#[test]
fn the_seed_is_that_of_the_model_unless_given() {
    let folder = tempdir().unwrap();
    let model = folder.path().join("model");
    let mut training = finetune(&TRAINED.cells, &model);
    let short = ["--epochs", "1", "--max-length", "20", "--seed", "5"];
    succeed(training.args(SIZE).args(short));
    let probabilities = |extra: &[&str]| {
        let done = annotate_by(&model, |path| NEW.write(path), extra);
        (
            done.record()["seed"].clone(),
            done.numbers("scgpt_probability"),
        )
    };
    let own = probabilities(&[]);
    assert_eq!(own.0, 5);
    assert_eq!(own, probabilities(&["--seed", "5"]));
    let other = probabilities(&["--seed", "6"]);
    assert!(other.0 == 6 && other.1 != own.1, "the seed has no effect");
}

#[test]
fn improbable_cells_are_unassigned() {
    let default = annotate(|path| NEW.write(path), &[]);
    let probabilities = default.numbers("scgpt_probability");
    let strict = annotate(|path| NEW.write(path), &["--threshold", "0.9999"]);
    let labels = strict.labels();
    for (cell, label) in labels.iter().enumerate() {
        let expected = if probabilities[cell] < 0.9999 {
            "unassigned"
        } else {
            &default.labels()[cell]
        };
        assert_eq!(
            label, expected,
            "cell {cell}, probability {}",
            probabilities[cell]
        );
    }
    let unassigned = labels.iter().filter(|label| *label == "unassigned").count();
    assert!(unassigned > 0);
    assert_eq!(
        strict.record()["metrics"]["unassigned"].as_f64().unwrap(),
        unassigned as f64 / 60.0
    );
    assert!(
        strict
            .messages
            .contains(&format!("{unassigned} of 60 cells are unassigned"))
    );
}

#[test]
fn few_matched_genes_give_a_warning_and_cells_without_expression_are_unassigned() {
    let names: Vec<String> = (48..108).map(|gene| format!("GENE{gene:03}")).collect();
    let counts = NEW.counts().select_cells(&[0, 1]);
    let silent = Counts::from_rows(60, [vec![(59, 3.0)], vec![]]);
    let rows = counts
        .rows()
        .chain(silent.rows())
        .map(|(genes, values)| genes.iter().copied().zip(values.iter().copied()));
    let counts = Counts::from_rows(60, rows);
    let done = annotate(|path| cells::write(path, &counts, &names, []), &[]);
    assert!(
        done.messages.contains("only 12 of 60 genes matched"),
        "{}",
        done.messages
    );
    assert_eq!(done.record()["metrics"]["genes_matched"], 12);
    assert_eq!(done.labels()[2..], ["unassigned", "unassigned"]);
    assert_eq!(done.numbers("scgpt_probability")[2..], [0.0, 0.0]);
}

#[test]
fn the_file_does_not_depend_on_threads() {
    let shared = tempdir().unwrap();
    let cells = shared.path().join("cells.h5ad");
    NEW.write(&cells);
    let file = |threads: &str| {
        let done = annotate(
            |path| fs::copy(&cells, path).map(drop).unwrap(),
            &["--threads", threads],
        );
        fs::read(done.output).unwrap()
    };
    assert!(file("1") == file("2"));
}

#[test]
fn the_order_of_genes_does_not_matter() {
    let given = annotate(|path| NEW.write(path), &[]);
    let (order, names): (Vec<usize>, Vec<String>) =
        NEW.gene_names().into_iter().enumerate().rev().unzip();
    let turned = annotate(
        |path| cells::write(path, &NEW.counts().select_genes(&order), &names, []),
        &[],
    );
    assert_eq!(
        turned.numbers("scgpt_probability"),
        given.numbers("scgpt_probability")
    );
}

#[test]
fn created_files_are_reproducible() {
    let folder = tempdir().unwrap();
    let [first, second] = ["first.h5ad", "second.h5ad"].map(|name| folder.path().join(name));
    NEW.write(&first);
    // Longer than the time resolution of HDF5, one second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    NEW.write(&second);
    let [a, b] = [first, second].map(|path| fs::read(path).unwrap());
    let differ: Vec<usize> = (0..a.len().min(b.len()))
        .filter(|&at| a[at] != b[at])
        .collect();
    assert!(
        a == b,
        "{} and {} bytes, differing at {differ:?}",
        a.len(),
        b.len()
    );
}
