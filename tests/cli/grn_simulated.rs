//! `scgpt-grn` on simulated cells with a known network: attention compared with baselines.

use crate::support::programs::{self, program, succeed, tokenize};
use crate::support::simulation::{Network, Noise};
use scgpt_tools::formats::h5ad;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const GENES: usize = 60;
const REGULATORS: usize = 10;
const CELLS: usize = 800;
/// Regulators vary strongly between cells, so that a model can be trained on them.
const NOISE: Noise = Noise {
    variation: 0.8,
    ..Noise::USUAL
};

fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grn-simulated");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory for the tests");
    directory
}

fn name(gene: usize) -> String {
    format!("G{gene:02}")
}

/// Cells and the edges of their network.
fn simulate(cells: &Path, known_edges: &Path) {
    let network = Network::random(GENES, REGULATORS, 6, 0, 1);
    let counts = network.cells(&[], &[], CELLS, &NOISE, 1);
    let names: Vec<String> = (0..CELLS).map(|cell| format!("cell{cell}")).collect();
    let genes: Vec<String> = (0..GENES).map(name).collect();
    h5ad::create(cells, &h5ad::Cells::new(&counts, &names, &genes)).expect("cells");
    let mut text = String::from("regulator\ttarget\n");
    for (regulator, target, _) in &network.edges {
        text.push_str(&format!("{}\t{}\n", name(*regulator), name(*target)));
    }
    fs::write(known_edges, text).expect("a table");
}

/// Scores over all regulators, by method: AUPRC, its interval, random AUPRC, and AUROC.
fn overall(table: &Path) -> BTreeMap<String, [f64; 5]> {
    let text = fs::read_to_string(table).expect("a table");
    let rows = text
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let number = |row: &[&str], at: usize| row[at].parse::<f64>().expect("a number");
    rows.filter(|row| row[1] == "all")
        .map(|row| {
            (
                row[0].to_owned(),
                [4, 5, 6, 7, 9].map(|at| number(&row, at)),
            )
        })
        .collect()
}

#[test]
fn a_known_network_is_found_better_than_random() {
    let directory = directory();
    let file = |name: &str| directory.join(name);
    simulate(&file("cells.h5ad"), &file("known_edges.tsv"));
    succeed(&mut tokenize(file("cells.h5ad"), &file("corpus")));
    let mut train = programs::from_to("scgpt-pretrain", &file("corpus"), &file("model"));
    train.args([
        "--n-layers",
        "2",
        "--embedding-dim",
        "32",
        "--n-heads",
        "4",
        "--ffn-dim",
        "32",
    ]);
    train.args([
        "--epochs",
        "30",
        "--batch-size",
        "32",
        "--learning-rate",
        "0.003",
        "--dropout",
        "0",
    ]);
    succeed(&mut train);
    let mut infer = program("scgpt-grn");
    infer.args([
        "attention",
        "--n-hvg",
        "0",
        "--max-cells",
        "300",
        "--device",
        "cpu",
    ]);
    infer.arg("--checkpoint").arg(file("model"));
    infer.arg("--input").arg(file("cells.h5ad"));
    infer.arg("--output").arg(file("attention.h5ad"));
    succeed(&mut infer);
    let mut evaluate = program("scgpt-grn");
    evaluate
        .arg("evaluate")
        .arg("--networks")
        .arg(file("attention.h5ad"));
    evaluate.arg("--known-edges").arg(file("known_edges.tsv"));
    evaluate.arg("--input").arg(file("cells.h5ad"));
    evaluate.arg("--output").arg(file("scores.tsv"));
    eprintln!("{}", succeed(&mut evaluate));
    let found = overall(&file("scores.tsv"));
    for method in ["absolute Pearson", "absolute Spearman", "boosted trees"] {
        let [_, low, _, random, auroc] = found[method];
        assert!(low > random && auroc > 0.5, "{method}: {:?}", found[method]);
    }
    // Attention has far less information than these baselines, but more than none.
    let [auprc, _, _, random, auroc] = found["attention_all"];
    assert!(
        auprc > random && auroc > 0.5,
        "attention: {:?}",
        found["attention_all"]
    );
}
