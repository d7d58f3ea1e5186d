//! `scgpt-generate` with the golden model of pre-training: rounds, prompts, imputation, and rejected requests.

use super::pretrain::UNDISTURBED;
use crate::support::cells::Simulated;
use crate::support::data;
use crate::support::programs::{fail, from_to, json, succeed};
use scgpt_tools::checkpoint::Checkpoint;
use scgpt_tools::model::Noise;
use scgpt_tools::predict::generation::{Confidence, Generated, Generator, Query, Rounds};
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

fn query() -> Query {
    Query {
        known: Tokens {
            genes: vec![61, 3, 8, 20],
            values: vec![-2.0, 10.0, 44.0, 27.0],
        },
        cell: None,
        targets: (21..61).filter(|gene| *gene < 60).chain([0]).collect(),
    }
}

fn generate_in_rounds(rounds: u32, confidence: Confidence) -> (Vec<f32>, Generated) {
    let trained = Checkpoint::open(&UNDISTURBED.output).unwrap();
    let model = Generator::new(trained, Device::Cpu).unwrap();
    let rounds = Rounds {
        count: rounds,
        confidence,
        samples: 4,
    };
    let all = model.workers(1).each(1, |network, _| {
        let plain = model.method.predict(network, &query(), &mut Noise::off());
        (
            plain,
            model
                .method
                .generate(network, &query(), rounds, (Seed(1), 0)),
        )
    });
    all.into_iter().next().unwrap()
}

#[test]
fn one_round_is_the_plain_forward_pass() {
    let (plain, generated) = generate_in_rounds(1, Confidence::BinDistance);
    assert_eq!(plain, generated.values);
    assert!(generated.rounds.iter().all(|round| *round == 1));
}

#[test]
fn the_most_confident_values_are_fixed_first_and_do_not_change() {
    for confidence in [Confidence::Spread, Confidence::BinDistance] {
        let (plain, generated) = generate_in_rounds(4, confidence);
        let in_round = |round: u32| {
            (0..40)
                .filter(|at| generated.rounds[*at] == round)
                .collect::<Vec<_>>()
        };
        assert_eq!([1, 2, 3, 4].map(|round| in_round(round).len()), [10; 4]);
        for at in in_round(1) {
            assert_eq!(generated.values[at], plain[at], "fixed in the first round");
        }
        let later = in_round(4);
        assert!(
            later.iter().any(|&at| generated.values[at] != plain[at]),
            "fixed values condition later rounds"
        );
        assert!(generated.confidence.iter().all(|c| (0.0..=1.0).contains(c)));
        assert!(
            generated
                .values
                .iter()
                .all(|value| (0.0..=50.0).contains(value))
        );
    }
}

#[test]
fn observed_genes_are_kept_and_the_others_imputed() {
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
    let messages = succeed(
        generate(&output)
            .args(["--prompt", "both", "--rounds", "1", "--genes"])
            .arg(&list),
    );
    assert!(
        messages.contains("2 of the 3 listed genes are generated"),
        "{messages}"
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
fn held_out_genes_are_evaluated_against_baselines() {
    let folder = tempdir().unwrap();
    let (output, report) = (
        folder.path().join("cells.h5ad"),
        folder.path().join("report.json"),
    );
    let messages = succeed(
        generate(&output)
            .args(["--held-out-fraction", "0.4", "--rounds", "2", "--metrics"])
            .arg(&report),
    );
    let report = json(&report);
    for method in [
        "iterative",
        "single_pass",
        "baseline_gene_mean",
        "baseline_knn",
    ] {
        let correlation = report[method]["correlation"].as_f64().expect("a number");
        assert!((-1.0..=1.0).contains(&correlation), "{report}");
    }
    // The golden model was never trained; the baselines can use the simulated markers.
    assert!(
        report["baseline_knn"]["correlation"].as_f64()
            > report["single_pass"]["correlation"].as_f64()
    );
    assert!(
        messages.contains("warning: a baseline predicts held-out values as well"),
        "{messages}"
    );
}

#[test]
fn wrong_requests_are_rejected_with_clear_messages() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("no.h5ad");
    let messages = fail(
        generate(&output).args(["--group", "cell_type", "--metrics", "r.json"]),
        2,
    );
    assert!(
        messages.contains("`--group` needs `--prompt cell`")
            && messages.contains("`--metrics` needs `--held-out-fraction`"),
        "{messages}"
    );
    let mut other = from_to("scgpt-generate", &CELLS, &output);
    let messages = fail(
        other.arg("--checkpoint").arg(data("annotation/checkpoint")),
        65,
    );
    assert!(
        messages.contains("cannot generate: it has no flag for genes to generate"),
        "{messages}"
    );
    let messages = fail(generate(&output).args(["--memory", "10k"]), 71);
    assert!(messages.contains("24 cells with 60 genes"), "{messages}");
    let list = folder.path().join("genes.txt");
    fs::write(&list, "UNHEARD\n").unwrap();
    let messages = fail(generate(&output).arg("--genes").arg(&list), 65);
    assert!(messages.contains("none of its 1 genes"), "{messages}");
    assert!(!output.exists());
}
