//! Filters of cells and genes, and expression values.

use super::{Cell, INPUT, Input, Made, assert_says, bytes, expressions, tokenize};
use crate::support::cells::{self, Simulated};
use crate::support::needs::formats;
use crate::support::programs::{fail, json, program};
use scgpt_tools::counts::Counts;
use scgpt_tools::expression::normalize::{Target, log1p, normalize_total};
use scgpt_tools::expression::select_genes::{Flavor, select_genes};
use scgpt_tools::formats::Column;
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::binning::{Ties, bin};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

/// Ten cells that express three genes, with every type of column.
fn described() -> (TempDir, PathBuf) {
    let directory = tempdir().unwrap();
    let path = directory.path().join("cells.h5ad");
    let row = |cell: usize| (0..3).map(move |gene| (gene, (cell + 1) as f32 * (gene + 1) as f32));
    let types = ["T cell", "CD4-positive, alpha-beta T cell", "neuron"];
    let kind = |cell: usize| (cell < 9).then(|| types[cell % 3]);
    let numbers = (0..10).map(|cell| (cell != 4).then_some(cell as f64));
    let obs = [
        (
            "cell_type",
            Column::from_labels(&Vec::from_iter((0..10).map(kind))),
        ),
        ("age", Column::Number(numbers.collect())),
    ];
    let names = ["A", "B", "C"].map(str::to_owned);
    cells::write(&path, &Counts::from_rows(3, (0..10).map(row)), &names, obs);
    (directory, path)
}

/// The cells, by their count of `A`, that meet filter expressions.
fn kept(conditions: &[&str]) -> Vec<u32> {
    let (_directory, path) = described();
    let flags = conditions
        .iter()
        .flat_map(|condition| ["--filter", condition]);
    let made = Made::from(path, &Vec::from_iter(flags));
    let cell = |cell: &Cell| cell.genes["A"] as u32 - 1;
    made.cells().iter().map(cell).collect()
}

#[test]
fn filters_select_cells() {
    assert_eq!(kept(&["cell_type == neuron"]), [2, 5, 8]);
    assert_eq!(kept(&["cell_type == neuron|T cell"]), [0, 2, 3, 5, 6, 8]);
    // A cell without a type does not equal any.
    assert_eq!(kept(&["cell_type != neuron"]), [0, 1, 3, 4, 6, 7, 9]);
    assert_eq!(kept(&["age >= 7"]), [7, 8, 9]);
    assert_eq!(kept(&["age<2"]), [0, 1]);
    assert_eq!(kept(&["age == 3|4|5"]), [3, 5]);
    assert_eq!(kept(&["cell_type == neuron, age > 2"]), [5, 8]);
    assert_eq!(kept(&["cell_type == neuron", "age <= 5"]), [2, 5]);
}

#[test]
fn filter_values_may_contain_commas() {
    assert_eq!(
        kept(&["cell_type == CD4-positive, alpha-beta T cell"]),
        [1, 4, 7]
    );
    assert_eq!(
        kept(&["cell_type == CD4-positive, alpha-beta T cell|neuron,age < 5"]),
        [1, 2]
    );
}

#[test]
fn filters_of_a_parameter_file_are_those_of_the_flag() {
    let (directory, path) = described();
    let params = directory.path().join("params.json");
    fs::write(
        &params,
        r#"{"filter": ["cell_type == neuron", "age > 2"], "obs": ["age"]}"#,
    )
    .unwrap();
    let made = Made::from(&path, &["--params", params.to_str().unwrap()]);
    let flags = Made::from(
        &path,
        &["--filter", "cell_type == neuron,age > 2", "--obs", "age"],
    );
    assert_eq!(made.cells(), flags.cells());
    assert_eq!(made.cells().len(), 2);
    let run = json(flags.path().join("run.json"));
    assert_eq!(
        run["options"]["filter"],
        serde_json::json!(["cell_type == neuron", "age > 2"])
    );
}

#[test]
fn invalid_filters_are_wrong_usage() {
    let (directory, path) = described();
    let output = directory.path().join("corpus");
    let message = fail(tokenize(&path, &output).args(["--filter", "neuron"]), 2);
    assert_says(
        &message,
        &[
            "`--filter`",
            "`neuron` is not a condition",
            "COLUMN == VALUE",
        ],
    );
    let message = fail(tokenize(&path, &output).args(["--filter", "age > old"]), 2);
    assert_says(&message, &["`--filter`", "`age > old`"]);
    for flags in [["--filter", "celltype == neuron"], ["--obs", "celltype"]] {
        let message = fail(tokenize(&path, &output).args(flags), INPUT);
        assert_says(
            &message,
            &["no column `celltype`", "`cell_type`", "cells.h5ad"],
        );
    }
    let message = fail(
        tokenize(&path, &output).args(["--filter", "age > 100"]),
        INPUT,
    );
    assert_says(&message, &["no cell is left", "`--filter`"]);
    assert!(!output.exists());
}

#[test]
fn annotations_keep_their_type_and_missing_values() {
    let (_directory, path) = described();
    let made = Made::from(path, &["--obs", "age,cell_type,age"]);
    let obs = |cell: usize| made.cells()[cell].obs.clone();
    let expected = |age: Option<&str>, kind: Option<&str>| {
        let entry =
            |(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(str::to_owned));
        BTreeMap::from([("age", age), ("cell_type", kind)].map(entry))
    };
    assert_eq!(obs(3), expected(Some("3"), Some("T cell")));
    assert_eq!(
        obs(4),
        expected(None, Some("CD4-positive, alpha-beta T cell"))
    );
    assert_eq!(obs(9), expected(Some("9"), None));
}

#[test]
fn cells_with_few_genes_are_dropped() {
    let input = Input::small();
    let expected = Vec::from_iter(input.cells.iter().filter(|cell| cell.genes.len() >= 42));
    assert!((1..240).contains(&expected.len()));
    let made = Made::from(&input.path, &["--min-genes", "42"]);
    let expected = Vec::from_iter(expected.iter().map(|cell| &cell.genes));
    assert_eq!(expressions(&made.cells()), expected);
    assert_says(
        &made.messages,
        &[&format!("{} of 240 cells", expected.len())],
    );
}

/// How many cells express each gene.
fn cells_by_gene(input: &Input) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in input.cells.iter().flat_map(|cell| cell.genes.keys()) {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// The cells with only the kept genes.
fn with_genes(input: &Input, keeps: impl Fn(&str) -> bool) -> Vec<BTreeMap<String, f32>> {
    let kept = |cell: &Cell| {
        let mut genes = cell.genes.clone();
        genes.retain(|name, _| keeps(name));
        genes
    };
    input.cells.iter().map(kept).collect()
}

/// Genes of the vocabulary of a corpus, without special tokens.
fn vocabulary(made: &Made) -> BTreeSet<String> {
    let vocabulary = json(made.path().join("vocab.json"));
    let names = vocabulary.as_object().unwrap().keys();
    names
        .filter(|name| !name.starts_with('<'))
        .cloned()
        .collect()
}

#[test]
fn genes_of_few_cells_are_dropped() {
    let input = Input::small();
    let cells = cells_by_gene(&input);
    let made = Made::from(&input.path, &["--min-cells", "160"]);
    let expected = with_genes(&input, |gene| cells[gene] >= 160);
    assert_eq!(expressions(&made.cells()), Vec::from_iter(&expected));
    assert_eq!(
        vocabulary(&made).len(),
        cells.values().filter(|cells| **cells >= 160).count()
    );
    let dropped = cells.iter().find(|(_, cells)| **cells < 160).unwrap().0;
    assert_eq!(made.gene(dropped)[1], "dropped");
}

#[test]
fn genes_of_a_list_are_kept() {
    let (input, directory) = (Input::small(), tempdir().unwrap());
    let list = directory.path().join("genes.txt");
    fs::write(&list, "GENE003\nGENE050\r\n\nGENE007\nunheard-of\n").unwrap();
    let made = Made::from(&input.path, &["--genes", list.to_str().unwrap()]);
    let listed = ["GENE003", "GENE007", "GENE050"];
    assert_eq!(vocabulary(&made), listed.map(str::to_owned).into());
    let mut expected = with_genes(&input, |gene| listed.contains(&gene));
    expected.retain(|genes| !genes.is_empty());
    assert_eq!(expressions(&made.cells()), Vec::from_iter(&expected));
    assert_eq!(made.gene("GENE003"), ["GENE003", "0", "name"]);
    assert_eq!(made.gene("GENE004"), ["GENE004", "dropped", "name"]);
    fs::write(&list, "unheard-of\n").unwrap();
    let mut command = tokenize(&input.path, &directory.path().join("corpus"));
    let message = fail(command.arg("--genes").arg(&list), INPUT);
    assert_says(&message, &["no gene is left"]);
}

#[test]
fn highly_variable_genes_are_those_of_the_library() {
    let (input, simulated) = (Input::small(), Simulated::SMALL);
    let chosen = select_genes(&simulated.counts(), 24, Flavor::SeuratV3, None).unwrap();
    let names = simulated.gene_names();
    let expected = chosen.kept.iter().map(|&gene| names[gene].clone());
    let expected = BTreeSet::from_iter(expected);
    let made = Made::from(&input.path, &["--n-hvg", "24"]);
    assert_eq!(vocabulary(&made), expected);
    assert_says(
        &made.messages,
        &["24 highly variable genes selected from 240 cells"],
    );
    let found = with_genes(&input, |gene| expected.contains(gene));
    assert_eq!(expressions(&made.cells()), Vec::from_iter(&found));
}

#[test]
fn a_given_vocabulary_is_unchanged_by_gene_filters() {
    let (input, directory) = (Input::small(), tempdir().unwrap());
    let all = Made::from(&input.path, &[]);
    let given = all.path().join("vocab.json");
    let given = given.to_str().unwrap();
    let list = directory.path().join("genes.txt");
    fs::write(&list, "GENE030\n").unwrap();
    let made = Made::from(
        &input.path,
        &["--vocab", given, "--genes", list.to_str().unwrap()],
    );
    assert_eq!(json(made.path().join("vocab.json")), json(given));
    assert_eq!(made.gene("GENE030"), ["GENE030", "30", "name"]);
    assert_eq!(made.gene("GENE031"), ["GENE031", "dropped", "name"]);
}

#[test]
fn log1p_values_are_those_of_the_library() {
    let input = Input::small();
    let mut counts = Simulated::SMALL.counts();
    normalize_total(&mut counts, Target::Sum(1e4)).unwrap();
    log1p(&mut counts).unwrap();
    let made = Made::from(&input.path, &["--values", "log1p"]);
    for (cell, (_, expected)) in made.cells().iter().zip(counts.rows()) {
        for (found, expected) in cell.genes.values().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected,
                "{found} against {expected}"
            );
        }
    }
}

#[test]
fn log_normalized_values_are_not_transformed_twice() {
    let input = formats("made/lognorm_X_counts_layer.h5ad");
    let of = |matrix| Made::from(&input, &["--values", "log1p", "--matrix", matrix]).cells();
    for (a, b) in of("X").iter().zip(of("layers/counts")) {
        assert_eq!(
            Vec::from_iter(a.genes.keys()),
            Vec::from_iter(b.genes.keys())
        );
        let pairs = a.genes.values().zip(b.genes.values());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn bins_are_those_of_the_library() {
    let input = Input::small();
    for (ties, name) in [
        (Ties::OneSided, "one-sided"),
        (Ties::BothSided, "both-sided"),
    ] {
        let flags = [
            "--values", "binned", "--n-bins", "11", "--seed", "9", "--ties", name,
        ];
        let made = Made::from(&input.path, &flags);
        for (at, (cell, expected)) in made.cells().iter().zip(&input.cells).enumerate() {
            let mut values = Vec::from_iter(expected.genes.values().copied());
            bin(
                &mut values,
                11,
                ties,
                &mut Seed(9).stream("bins", &[0, at as u64]),
            );
            assert_eq!(
                Vec::from_iter(cell.genes.values().copied()),
                values,
                "{name}"
            );
        }
    }
}

#[test]
fn shards_have_the_requested_number_of_cells() {
    let made = Made::from(&Input::small().path, &["--shard-cells", "100"]);
    let manifest = made.manifest();
    let shards = manifest["shards"].as_array().unwrap();
    let cells = Vec::from_iter(shards.iter().map(|shard| shard["cells"].as_u64().unwrap()));
    assert_eq!(cells, [100, 100, 40]);
    let names = bytes(&made.path()).into_keys();
    let expected = [
        "cells-00000.parquet",
        "cells-00001.parquet",
        "cells-00002.parquet",
        "genes.tsv",
        "manifest.json",
        "vocab.json",
    ];
    assert_eq!(Vec::from_iter(names), expected);
}

#[test]
fn record_and_manifest_contain_the_parameters() {
    let made = Made::from(&Input::small().path, &["--min-genes", "3", "--seed", "5"]);
    let (manifest, run) = (made.manifest(), json(made.path().join("run.json")));
    assert_eq!(
        (&manifest["parameters"]["min_genes"], &run["seed"]),
        (&3.into(), &5.into())
    );
    assert_eq!(run["exit_status"], 0);
    assert_eq!(
        (&run["metrics"]["cells"], &manifest["cells"]),
        (&240.into(), &240.into())
    );
}

#[test]
fn all_invalid_options_are_reported() {
    let directory = tempdir().unwrap();
    let mut command = program("scgpt-tokenize");
    command.arg("--output").arg(directory.path().join("corpus"));
    let message = fail(
        command.args(["--memory", "1M", "--n-bins", "2", "--filter", "x"]),
        2,
    );
    let parts = [
        "`--input` or `--samples`",
        "`--memory`: 1M is too small",
        "`--n-bins`",
        "`--filter`",
    ];
    assert_says(&message, &parts);
}
