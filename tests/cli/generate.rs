//! `scgpt-generate` with the golden model of pre-training: rounds, prompts, filling in, and what it refuses.

use super::pretrain::UNDISTURBED;
use crate::support::cells::Simulated;
use crate::support::data;
use crate::support::programs::{fail, from_to, json, succeed};
use scgpt_tools::checkpoint::Checkpoint;
use scgpt_tools::model::Noise;
use scgpt_tools::predict::generation::{Answer, Confidence, Generator, Question, Rounds};
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::Tokens;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tch::Device;
use tempfile::tempdir;

static CELLS: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generate.h5ad");
    Simulated {
        cells: 24,
        ..Simulated::SMALL
    }
    .write(&path);
    path
});

fn generate(output: &Path) -> assert_cmd::Command {
    let mut command = from_to("scgpt-generate", &CELLS, output);
    command.arg("--checkpoint").arg(data("pretrain/checkpoint"));
    command
}

/// Rows of a matrix of a written file, dense.
fn rows(path: &Path, matrix: &str) -> Vec<Vec<f32>> {
    let file = hdf5::File::open(path).expect("an HDF5 file");
    let part = |name: &str| {
        file.dataset(&format!("{matrix}/{name}"))
            .expect("a sparse matrix")
    };
    let offsets = part("indptr").read_1d::<i64>().unwrap();
    let (genes, values) = (
        part("indices").read_1d::<i32>().unwrap(),
        part("data").read_1d::<f32>().unwrap(),
    );
    let row = |span: &[i64]| {
        let mut row = vec![0.0; 60];
        (span[0] as usize..span[1] as usize).for_each(|at| row[genes[at] as usize] = values[at]);
        row
    };
    offsets.to_vec().windows(2).map(row).collect()
}

fn question() -> Question {
    Question {
        known: Tokens {
            genes: vec![61, 3, 8, 20],
            values: vec![-2.0, 10.0, 44.0, 27.0],
        },
        cell: None,
        asked: (21..61).filter(|gene| *gene < 60).chain([0]).collect(),
    }
}

fn answer(rounds: u32, confidence: Confidence) -> (Vec<f32>, Answer) {
    let trained = Checkpoint::open(&UNDISTURBED.output).unwrap();
    let model = Generator::new(trained, Device::Cpu).unwrap();
    let rounds = Rounds {
        count: rounds,
        confidence,
        samples: 4,
    };
    let all = model.workers(1).each(1, |network, _| {
        let plain = model.method.tell(network, &question(), &mut Noise::off());
        (
            plain,
            model
                .method
                .answer(network, &question(), rounds, (Seed(1), 0)),
        )
    });
    all.into_iter().next().unwrap()
}

#[test]
fn one_round_is_the_plain_forward_pass() {
    let (plain, answer) = answer(1, Confidence::BinDistance);
    assert_eq!(plain, answer.values);
    assert!(answer.rounds.iter().all(|round| *round == 1));
}

#[test]
fn the_surest_become_known_first_and_stay_what_they_are() {
    for confidence in [Confidence::Spread, Confidence::BinDistance] {
        let (plain, answer) = answer(4, confidence);
        let in_round = |round: u32| {
            (0..40)
                .filter(|at| answer.rounds[*at] == round)
                .collect::<Vec<_>>()
        };
        assert_eq!([1, 2, 3, 4].map(|round| in_round(round).len()), [10; 4]);
        for at in in_round(1) {
            assert_eq!(answer.values[at], plain[at], "known since the first round");
        }
        let later = in_round(4);
        assert!(
            later.iter().any(|&at| answer.values[at] != plain[at]),
            "what is known helps to tell the others"
        );
        assert!(answer.confidence.iter().all(|c| (0.0..=1.0).contains(c)));
        assert!(
            answer
                .values
                .iter()
                .all(|value| (0.0..=50.0).contains(value))
        );
    }
}

#[test]
fn known_genes_are_kept_and_the_others_filled_in() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("filled.h5ad");
    succeed(generate(&output).args(["--prompt", "genes", "--rounds", "3"]));
    let (values, rounds, counts) = (
        rows(&output, "X"),
        rows(&output, "layers/round"),
        Simulated {
            cells: 24,
            ..Simulated::SMALL
        }
        .counts(),
    );
    assert_eq!(values.len(), 24);
    for (cell, (genes, _)) in counts.rows().enumerate() {
        for gene in 0..60 {
            let is_known = genes.contains(&(gene as u32));
            assert_eq!(
                rounds[cell][gene] == 0.0,
                is_known,
                "cell {cell}, gene {gene}"
            );
            assert!((0.0..=50.0).contains(&values[cell][gene]));
        }
    }
    let again = folder.path().join("again.h5ad");
    succeed(generate(&again).args(["--prompt", "genes", "--rounds", "3", "--threads", "1"]));
    assert!(
        fs::read(&output).unwrap() == fs::read(&again).unwrap(),
        "threads must not change a byte"
    );
}

#[test]
fn listed_genes_are_generated_whether_expressed_or_not() {
    let folder = tempdir().unwrap();
    let (output, list) = (
        folder.path().join("some.h5ad"),
        folder.path().join("genes.txt"),
    );
    fs::write(&list, "GENE003\nGENE010\nUNHEARD\n").unwrap();
    let said = succeed(
        generate(&output)
            .args(["--prompt", "both", "--rounds", "1", "--genes"])
            .arg(&list),
    );
    assert!(
        said.contains("2 of the 3 listed genes are generated"),
        "{said}"
    );
    for row in rows(&output, "layers/round") {
        let generated: Vec<usize> = (0..60).filter(|gene| row[*gene] > 0.0).collect();
        assert_eq!(generated, [3, 10]);
    }
}

#[test]
fn groups_become_one_cell_each() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("types.h5ad");
    succeed(generate(&output).args([
        "--prompt",
        "cell",
        "--group",
        "cell_type",
        "--confidence",
        "bin-distance",
    ]));
    let rounds = rows(&output, "layers/round");
    assert_eq!(rounds.len(), 3);
    assert!(
        rounds
            .iter()
            .flatten()
            .all(|round| (1.0..=4.0).contains(round)),
        "all genes are generated"
    );
}

#[test]
fn hidden_genes_are_reported_beside_simpler_methods() {
    let folder = tempdir().unwrap();
    let (output, report) = (
        folder.path().join("cells.h5ad"),
        folder.path().join("report.json"),
    );
    let said = succeed(
        generate(&output)
            .args(["--held-out", "0.4", "--rounds", "2", "--report"])
            .arg(&report),
    );
    let report = json(&report);
    for method in ["by_rounds", "at_once", "gene_mean", "nearest_cells"] {
        let correlation = report[method]["correlation"].as_f64().expect("a number");
        assert!((-1.0..=1.0).contains(&correlation), "{report}");
    }
    // The golden model was never trained; the simulated markers give simpler methods something to see.
    assert!(
        report["nearest_cells"]["correlation"].as_f64() > report["at_once"]["correlation"].as_f64()
    );
    assert!(
        said.contains("warning: a simpler method tells hidden values as well"),
        "{said}"
    );
}

#[test]
fn wrong_requests_are_refused_in_plain_words() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("no.h5ad");
    let said = fail(
        generate(&output).args(["--group", "cell_type", "--report", "r.json"]),
        2,
    );
    assert!(
        said.contains("`--group` needs `--prompt cell`")
            && said.contains("`--report` needs `--held-out`"),
        "{said}"
    );
    let mut other = from_to("scgpt-generate", &CELLS, &output);
    let said = fail(
        other.arg("--checkpoint").arg(data("annotation/checkpoint")),
        65,
    );
    assert!(
        said.contains("cannot generate: it has no mark for genes to generate"),
        "{said}"
    );
    let said = fail(generate(&output).args(["--memory", "10k"]), 71);
    assert!(said.contains("24 cells with 60 genes"), "{said}");
    let list = folder.path().join("genes.txt");
    fs::write(&list, "UNHEARD\n").unwrap();
    let said = fail(generate(&output).arg("--genes").arg(&list), 65);
    assert!(said.contains("none of its 1 genes"), "{said}");
    assert!(!output.exists());
}
