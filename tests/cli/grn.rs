//! `scgpt-grn` on simulated cells with a known network, and on unusual files.

use crate::support::data;
use crate::support::programs::{fail, program, succeed};
use crate::support::python::{check, python};
use crate::support::simulation::{Network, Noise};
use crate::support::trained::TRAINED;
use assert_cmd::Command;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{Column, h5ad};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const INPUT: i32 = 65;
const GENES: usize = 40;
const REGULATORS: usize = 8;
/// Cells of each condition, more than `--max-cells 20` reads.
const CELLS: usize = 30;

fn network() -> Network {
    Network::random(GENES, REGULATORS, 6, 0, 1)
}

/// Names in the vocabulary of the golden checkpoints.
fn name(gene: usize) -> String {
    format!("GENE{gene:03}")
}

/// A directory with control cells and cells without one of two genes.
struct Case {
    directory: TempDir,
    cells: PathBuf,
}

impl Case {
    fn new() -> Self {
        Self::of(["ctrl", "one", "two"])
    }

    /// Cells of three conditions, of which the first is the control.
    fn of(labels: [&str; 3]) -> Self {
        let [control, one, two] = labels;
        let directory = tempdir().expect("a directory");
        let cells = directory.path().join("cells.h5ad");
        let (network, mut counts, mut labels) = (network(), Counts::empty(GENES), Vec::new());
        let conditions: [(&str, &[usize]); 3] = [(control, &[]), (one, &[0]), (two, &[1])];
        for (label, knocked_out) in conditions {
            let own = network.cells(knocked_out, &[], CELLS, &Noise::USUAL, 1);
            for (genes, values) in own.rows() {
                counts.push(genes.iter().copied().zip(values.iter().copied()));
                labels.push(Some(label));
            }
        }
        let names: Vec<String> = (0..labels.len())
            .map(|cell| format!("cell{cell}"))
            .collect();
        let genes: Vec<String> = (0..GENES).map(name).collect();
        let content = h5ad::Cells {
            obs: &[("condition".to_owned(), Column::from_labels(&labels))],
            ..h5ad::Cells::new(&counts, &names, &genes)
        };
        h5ad::create(&cells, &content).expect("a file of cells");
        Self { directory, cells }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `scgpt-grn attention` with a golden checkpoint, and all pairs in the table.
    fn attention(&self, output: &str) -> Command {
        let mut command = program("scgpt-grn");
        command.arg("attention").arg("--input").arg(&self.cells);
        command.arg("--checkpoint").arg(data("grn/checkpoint"));
        command.args(["--conditions", "condition", "--device", "cpu"]);
        command.args(["--max-cells", "20", "--top", "100"]);
        command.arg("--output").arg(self.path(output));
        command
    }

    /// `scgpt-grn WORD` with files of the directory as option values.
    fn command(&self, word: &str, files: &[(&str, &str)]) -> Command {
        let mut command = program("scgpt-grn");
        command.arg(word);
        for (option, file) in files {
            command.arg(option).arg(self.path(file));
        }
        command
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("a file");
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn text(&self, file: &str) -> String {
        String::from_utf8(self.bytes(file)).expect("UTF-8")
    }

    /// Rows of a table by column.
    fn table(&self, file: &str) -> Vec<BTreeMap<String, String>> {
        let text = self.text(file);
        let mut lines = text.lines();
        let heads: Vec<&str> = lines.next().expect("a heading").split('\t').collect();
        let row = |line: &str| {
            let fields = line.split('\t').map(str::to_owned);
            let heads = heads.iter().map(|head| (*head).to_owned());
            heads.zip(fields).collect()
        };
        lines.map(row).collect()
    }

    /// Scores of pairs: condition, regulator, target.
    fn scores(&self, file: &str) -> BTreeMap<[String; 3], f64> {
        let rows = self.table(file);
        let score = |row: &BTreeMap<String, String>| {
            let key = ["condition", "regulator", "target"].map(|column| row[column].clone());
            (key, number(row, "score"))
        };
        rows.iter().map(score).collect()
    }

    /// The planted edges as a table with a score for each.
    fn write_known_edges(&self, file: &str) {
        let mut text = "tf\ttarget\tscore\n".to_owned();
        for (regulator, target, strength) in network().edges {
            let (regulator, target) = (name(regulator), name(target));
            text += &format!("{regulator}\t{target}\t{}\n", strength.abs());
        }
        self.write(file, &text);
    }
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column]
        .parse()
        .unwrap_or_else(|_| panic!("`{column}` of {row:?}"))
}

#[test]
fn differences_from_the_control_are_written_and_read_back() {
    let case = Case::new();
    let mut command = case.attention("all.h5ad");
    command.args(["--control", "ctrl"]);
    for (option, file) in [
        ("--edges", "all.tsv"),
        ("--graph", "all.graphml"),
        ("--network-plot", "network.svg"),
        ("--plot", "scores.svg"),
    ] {
        command.arg(option).arg(case.path(file));
    }
    let message = succeed(&mut command);
    assert!(message.contains("condition `one`: 20 cells"), "{message}");
    let scores = case.scores("all.tsv");
    assert_eq!(scores.len(), 5 * GENES * (GENES - 1));
    let of = |condition: &str, [_, regulator, target]: &[String; 3]| {
        scores[&[condition.to_owned(), regulator.clone(), target.clone()]]
    };
    for (key, score) in &scores {
        if let Some(condition) = key[0].strip_prefix("difference_") {
            let expected = of(condition, key) - of("ctrl", key);
            assert!((score - expected).abs() < 1e-5, "{key:?}");
        } else {
            assert!((0.0..=1.0).contains(score), "{key:?}");
        }
    }
    assert!(case.text("scores.svg").contains("difference_one"));
    assert!(case.text("network.svg").starts_with("<svg"));
    let edges = case.text("all.graphml").matches("<edge ").count();
    assert_eq!(edges, scores.len());
    if let Some(python) = python() {
        let files = ["all.h5ad", "all.tsv"].map(|file| case.path(file));
        check(&python, "check_grn.py", &[&files[0], &files[1]]);
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let case = Case::new();
    let run = |threads: &str| {
        let file = |extension: &str| format!("{threads}.{extension}");
        let mut command = case.attention(&file("h5ad"));
        command.args(["--control", "ctrl", "--threads", threads]);
        command.arg("--edges").arg(case.path(&file("tsv")));
        command.arg("--plot").arg(case.path(&file("svg")));
        succeed(&mut command);
        ["h5ad", "tsv", "svg"].map(|extension| case.bytes(&file(extension)))
    };
    assert!(run("1") == run("3"));
}

#[test]
fn conditions_of_separate_runs_are_those_of_one_run() {
    let case = Case::new();
    succeed(case.attention("all.h5ad").args(["--control", "ctrl"]));
    let mut files = Vec::new();
    for condition in ["two", "ctrl", "one"] {
        let file = format!("{condition}.h5ad");
        // With the file of another run, the genes are the same.
        let mut command = case.attention(&file);
        command.arg("--genes-file").arg(case.path("all.h5ad"));
        succeed(command.args(["--subset", condition]));
        files.push(case.path(&file).display().to_string());
    }
    let mut join = case.command("difference", &[("--output", "joined.h5ad")]);
    succeed(join.args(["--control", "ctrl", "--input", &files.join(",")]));
    assert!(case.bytes("joined.h5ad") == case.bytes("all.h5ad"));
    let mut alone = case.command("difference", &[("--output", "joined.h5ad")]);
    let message = fail(
        alone.args(["--control", "ctrl", "--input", &files[1]]),
        INPUT,
    );
    assert!(
        message.contains("`ctrl` is the only condition"),
        "{message}"
    );
    let mut twice = case.command("difference", &[("--output", "joined.h5ad")]);
    let again = [files[1].clone(), files[1].clone()].join(",");
    let message = fail(twice.args(["--control", "ctrl", "--input", &again]), INPUT);
    assert!(
        message.contains("`attention_ctrl` is in two files"),
        "{message}"
    );
}

/// `scgpt-grn programs` with the model that was trained on the simulated types, and all of its genes.
fn programs(case: &Case) -> Command {
    let files = [("--output", "genes.h5ad")];
    let mut command = case.command("programs", &files);
    command.arg("--checkpoint").arg(&TRAINED.model);
    command.args(["--device", "cpu", "--n-neighbors", "5"]);
    command
}

#[test]
fn sets_edges_graph_and_column_contain_the_same_programs() {
    let case = Case::new();
    let mut command = programs(&case);
    command.arg("--input").arg(&TRAINED.cells);
    command.args(["--groups", "cell_type"]);
    for (option, file) in [
        ("--programs", "programs.gmt"),
        ("--edges", "edges.tsv"),
        ("--graph", "network.graphml"),
        ("--network-plot", "network.svg"),
        ("--program-scores", "scores.tsv"),
        ("--plot", "scores.svg"),
        ("--scored-cells", "scored.h5ad"),
    ] {
        command.arg(option).arg(case.path(file));
    }
    succeed(command.args(["--resolution", "2", "--min-genes", "3"]));
    let text = case.text("programs.gmt");
    let program_of: BTreeMap<&str, &str> = text
        .lines()
        .flat_map(|line| {
            let mut fields = line.split('\t');
            let program = fields.next().expect("a name");
            fields.skip(1).map(move |gene| (gene, program))
        })
        .collect();
    let edges = case.table("edges.tsv");
    assert!(!edges.is_empty());
    for edge in &edges {
        for end in ["source", "target"] {
            assert_eq!(program_of[edge[end].as_str()], edge["program"], "{edge:?}");
        }
        assert!(number(edge, "similarity") >= 0.4, "{edge:?}");
    }
    let graph = case.text("network.graphml");
    assert_eq!(graph.matches("<edge ").count(), edges.len());
    let scores = case.table("scores.tsv");
    let n_programs = program_of.values().collect::<BTreeSet<_>>().len();
    assert_eq!(scores.len(), 3 * n_programs);
    assert!(
        scores
            .iter()
            .all(|row| (0.0..=1.0).contains(&number(row, "score")))
    );
    if let Some(python) = python() {
        let files = ["genes.h5ad", "programs.gmt", "scored.h5ad"].map(|file| case.path(file));
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        check(&python, "check_grn.py", &files);
    }
}

#[test]
fn marker_genes_of_a_type_are_similar() {
    let case = Case::new();
    let family = |name: &str, genes: std::ops::Range<usize>| {
        let genes: Vec<String> = genes.map(self::name).collect();
        format!("{name}\tsimulated\t{}\n", genes.join("\t"))
    };
    case.write(
        "families.gmt",
        &(family("markers", 0..8) + &family("others", 30..60)),
    );
    let mut command = programs(&case);
    command.args(["--similar-to", "GENE003", "--top", "5"]);
    for (option, file) in [
        ("--gene-families", "families.gmt"),
        ("--family-test", "families.tsv"),
        ("--similar-genes", "nearest.tsv"),
    ] {
        command.arg(option).arg(case.path(file));
    }
    succeed(&mut command);
    let families = case.table("families.tsv");
    assert!(number(&families[0], "p_value") < 0.01, "{families:?}");
    assert!(number(&families[0], "similarity") > number(&families[0], "similarity_random") + 0.2);
    let nearest = case.table("nearest.tsv");
    assert_eq!(nearest.len(), 5);
    let markers: Vec<String> = (0..8).map(name).collect();
    let near = nearest
        .iter()
        .filter(|row| markers.contains(&row["neighbor"]));
    assert!(near.count() >= 3, "{nearest:?}");
}

#[test]
fn a_planted_set_is_found() {
    let case = Case::new();
    let set = |name: &str, genes: &[usize]| {
        let genes: Vec<String> = genes.iter().map(|gene| self::name(*gene)).collect();
        format!("{name}\tplanted\t{}\n", genes.join("\t"))
    };
    let background: String = (0..100).map(|gene| name(gene) + "\n").collect();
    case.write("genes.txt", &background);
    case.write("lists.gmt", &set("list", &[0, 1, 2, 3, 4, 5, 50]));
    let sets = set("planted", &[0, 1, 2, 3, 4, 5, 6])
        + &set("chance", &[5, 60, 61, 62, 63, 64, 65, 66])
        + &set("apart", &[90, 91]);
    case.write("sets.gmt", &sets);
    let files = [
        ("--gene-lists", "lists.gmt"),
        ("--gene-sets", "sets.gmt"),
        ("--background", "genes.txt"),
        ("--output", "enrichment.tsv"),
    ];
    succeed(&mut case.command("enrich", &files));
    let rows = case.table("enrichment.tsv");
    let names: Vec<&str> = rows.iter().map(|row| row["gene_set"].as_str()).collect();
    assert_eq!(names, ["planted", "chance"]);
    assert_eq!(rows[0]["overlap"], "6");
    assert_eq!(rows[0]["genes"].split(',').count(), 6);
    assert!(number(&rows[0], "fdr_bh") < 1e-6 && number(&rows[1], "fdr_bh") > 0.05);
    succeed(case.command("enrich", &files).args(["--max-fdr", "0.05"]));
    assert_eq!(case.table("enrichment.tsv").len(), 1);
    case.write("sets.gmt", &(sets + "broken\tno genes\n"));
    let message = fail(&mut case.command("enrich", &files), INPUT);
    assert!(
        message.contains("sets.gmt") && message.contains("line 4"),
        "{message}"
    );
    case.write("lists.gmt", "");
    let message = fail(&mut case.command("enrich", &files), INPUT);
    assert!(
        message.contains("lists.gmt") && message.contains("empty"),
        "{message}"
    );
}

#[test]
fn a_planted_network_is_ranked_above_random() {
    let case = Case::new();
    succeed(&mut case.attention("network.h5ad"));
    case.write_known_edges("planted.tsv");
    let files = [
        ("--networks", "network.h5ad"),
        ("--known-edges", "planted.tsv"),
        ("--edges", "planted.tsv"),
        ("--input", "cells.h5ad"),
        ("--output", "evaluation.tsv"),
    ];
    succeed(&mut case.command("evaluate", &files));
    let rows = case.table("evaluation.tsv");
    let auroc = |method: &str| {
        let found = rows
            .iter()
            .find(|row| row["method"] == method && row["regulator"] == "all");
        number(
            found.unwrap_or_else(|| panic!("{method}: {rows:?}")),
            "auroc",
        )
    };
    assert_eq!(auroc("planted"), 1.0);
    let simple = auroc("absolute Spearman");
    assert!(simple > 0.6, "{simple}");
    for method in ["absolute Pearson", "boosted trees"] {
        assert!(auroc(method) > 0.5, "{method}: {}", auroc(method));
    }
    // A model with random weights has no information.
    assert!(auroc("attention_ctrl") < simple, "{rows:?}");
    case.write("planted.tsv", "tf\ttarget\nSTAT1\tIRF1\n");
    let message = fail(&mut case.command("evaluate", &files), INPUT);
    assert!(
        message.contains("no known edge connects genes") && message.contains("`STAT1`"),
        "{message}"
    );
}

#[test]
fn conditions_with_a_slash_are_distinguished_and_found_again() {
    let case = Case::of(["CD14+/CD16+", "B", "T\tNK"]);
    let mut command = case.attention("network.h5ad");
    command.args(["--control", "CD14+/CD16+"]);
    succeed(command.arg("--edges").arg(case.path("edges.tsv")));
    let rows = case.table("edges.tsv");
    let conditions: BTreeSet<&str> = rows.iter().map(|row| row["condition"].as_str()).collect();
    let expected = [
        "B",
        "CD14+_CD16+",
        "T NK",
        "difference_B",
        "difference_T NK",
    ];
    assert_eq!(conditions, expected.into());
    let files = [("--input", "network.h5ad"), ("--output", "difference.h5ad")];
    succeed(
        case.command("difference", &files)
            .args(["--control", "CD14+/CD16+"]),
    );
    let case = Case::of(["T/NK", "T_NK", "B"]);
    let message = fail(&mut case.attention("network.h5ad"), INPUT);
    assert!(message.contains("`T/NK` and `T_NK`"), "{message}");
    assert!(!case.path("network.h5ad").exists());
}

#[test]
fn unknown_genes_layers_and_conditions_are_reported() {
    let case = Case::new();
    let wrong: [(&[&str], &str); 6] = [
        (&["--regulators", "GENE001,NOSUCHGENE"], "`NOSUCHGENE`"),
        (&["--layers", "1,3"], "no layer 3"),
        (&["--layers", "1,3"], "only layers 1 to 2"),
        (&["--control", "none"], "`none` of `--control`"),
        (&["--subset", "three"], "`three`"),
        (&["--genes", "NOSUCHGENE"], "`NOSUCHGENE`"),
    ];
    for (options, what) in wrong {
        let message = fail(case.attention("out.h5ad").args(options), INPUT);
        assert!(message.contains(what), "{options:?}: {message}");
        assert!(!case.path("out.h5ad").exists(), "{options:?}");
    }
    let mut command = programs(&case);
    command.arg("--input").arg(&TRAINED.cells);
    command.args([
        "--groups",
        "cell_type",
        "--min-genes",
        "61",
        "--program-scores",
    ]);
    let message = fail(command.arg(case.path("scores.tsv")), INPUT);
    assert!(message.contains("no program was found"), "{message}");
    let mut command = case.command("enrich", &[("--output", "out.tsv")]);
    command.arg("--gene-sets").arg(&case.cells);
    let message = fail(command.arg("--background").arg(&case.cells), 2);
    assert!(message.contains("`--gene-lists` or `--edges`"), "{message}");
}
