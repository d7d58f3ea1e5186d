//! `scgpt-map-reference`: label transfer from neighbors, and indexes that are complete, exact and never changed.

use crate::support::programs;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use scgpt_tools::formats::h5ad::{self, Embedding, File};
use scgpt_tools::random::{Seed, normal_pair};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const WIDTH: usize = 12;
const TYPES: [&str; 3] = ["B", "NK", "T"];

/// Cells around one direction per type, in genes and in embeddings; those of other types are opposite to all of them.
fn cells(path: &Path, types: &[&str], seed: u64, without_embedding: usize) {
    let mut draws = Seed(seed).stream("cells", &[]);
    let mut noise = || 0.15 * normal_pair(&mut draws).0 as f32;
    let (mut vectors, mut counts) = (Vec::new(), Counts::empty(WIDTH));
    for (cell, kind) in types.iter().enumerate() {
        let axis = TYPES.iter().position(|known| known == kind);
        let center = |at: usize| match axis {
            Some(axis) => f32::from(u8::from(at == axis)),
            None => -1.0,
        };
        let row: Vec<f32> = (0..WIDTH).map(|at| center(at) + noise()).collect();
        let count = |(at, value): (usize, &f32)| (at as u32, (10.0 * value.abs()).round() + 1.0);
        counts.push(row.iter().enumerate().map(count));
        let has_none = cell < without_embedding;
        vectors.extend(
            row.into_iter()
                .map(|value| if has_none { f32::NAN } else { value }),
        );
    }
    let names: Vec<String> = (0..types.len())
        .map(|cell| format!("{seed}-{cell}"))
        .collect();
    let genes: Vec<String> = (0..WIDTH).map(|gene| format!("G{gene}")).collect();
    let labels: Vec<Option<&str>> = types.iter().map(|kind| Some(*kind)).collect();
    let donors: Vec<Option<String>> = (0..types.len())
        .map(|cell| Some(format!("donor {}", cell % 2)))
        .collect();
    let content = h5ad::Cells {
        obs: &[
            ("cell_type".to_owned(), Column::from_labels(&labels)),
            ("donor".to_owned(), Column::from_labels(&donors)),
        ],
        obsm: &[(
            "X_scGPT".to_owned(),
            Embedding {
                width: WIDTH,
                values: vectors,
            },
        )],
        ..h5ad::Cells::new(&counts, &names, &genes)
    };
    h5ad::create(path, &content).unwrap();
}

/// Cells of the three types in turn.
fn types(n: usize) -> Vec<&'static str> {
    (0..n).map(|cell| TYPES[cell % 3]).collect()
}

struct Workspace(TempDir);

impl Workspace {
    /// A directory with 120 reference cells and 30 query cells: one without an embedding, and 6 of a new type.
    fn new() -> Self {
        let workspace = Self(tempdir().unwrap());
        cells(&workspace.path("reference.h5ad"), &types(120), 1, 0);
        let mut queries = types(24);
        queries.extend(["Other"; 6]);
        cells(&workspace.path("query.h5ad"), &queries, 2, 1);
        workspace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &str) -> assert_cmd::Command {
        let mut command = programs::program("scgpt-map-reference");
        command.current_dir(self.0.path()).args(words.split(' '));
        command
    }

    fn run(&self, words: &str) -> String {
        programs::succeed(&mut self.command(words))
    }

    fn fail(&self, words: &str, code: i32) -> String {
        programs::fail(&mut self.command(words), code)
    }

    fn build(&self) {
        self.run("build --input reference.h5ad --label cell_type --columns donor --output index");
    }

    fn labels(&self, file: &str) -> Vec<Option<String>> {
        File::open(&self.path(file))
            .unwrap()
            .obs("mapped_label")
            .unwrap()
            .to_labels()
    }

    fn content(&self, directory: &str) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.path(directory)).unwrap().flatten();
        let read = |file: fs::DirEntry| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        };
        files.map(read).collect()
    }
}

#[test]
fn cells_are_labeled_mapped_and_scored() {
    let workspace = Workspace::new();
    workspace.build();
    let message = workspace.run(
        "query --input query.h5ad --index index --output mapped.h5ad --novelty 0.99 --table mapped.tsv --plot mapped.svg \
         --true-labels cell_type --metrics scores.tsv --baseline reference.h5ad",
    );
    assert!(message.contains("1 cells have no embedding"), "{message}");
    let labels = workspace.labels("mapped.h5ad");
    for (cell, label) in labels.iter().enumerate() {
        let expected = if cell == 0 || cell >= 24 {
            "unassigned"
        } else {
            TYPES[cell % 3]
        };
        assert_eq!(label.as_deref(), Some(expected), "cell {cell}");
    }
    let table = fs::read_to_string(workspace.path("mapped.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        rows[0][7..],
        ["neighbors", "nearest_cell_type", "nearest_donor"]
    );
    assert_eq!(rows.len(), 31);
    assert_eq!(rows[5][7].split(',').count(), 10);
    assert!(
        rows[5][7].starts_with("1-") && rows[5][8] == rows[5][1],
        "{:?}",
        rows[5]
    );
    // Cells of the same type have similar coordinates.
    let coordinates = programs::obsm(&workspace.path("mapped.h5ad"), "X_mapped");
    let apart = |a: usize, b: usize| {
        (coordinates[a][0] - coordinates[b][0]).hypot(coordinates[a][1] - coordinates[b][1])
    };
    assert!(apart(3, 6) < apart(3, 4) && apart(3, 6) < apart(3, 5));
    let probabilities = programs::obsm(&workspace.path("mapped.h5ad"), "mapped_probabilities");
    assert!(probabilities[4].iter().sum::<f32>() > 0.999 && probabilities[4][1] > 0.5);
    let scores = fs::read_to_string(workspace.path("scores.tsv")).unwrap();
    let scgpt: Vec<&str> = scores.lines().nth(1).unwrap().split('\t').collect();
    // One of 24 known cells has no embedding; all 6 new ones stay unassigned.
    assert_eq!(scgpt[..4], ["scGPT", "24", "0.9583", "1.0000"]);
    assert_eq!(scgpt[8..], ["6", "1.0000"]);
    let pca: Vec<&str> = scores.lines().nth(2).unwrap().split('\t').collect();
    assert_eq!((pca[0], pca[1], pca[2] == pca[3]), ("PCA", "24", true));
    assert!(
        fs::read_to_string(workspace.path("mapped.svg"))
            .unwrap()
            .contains("reference")
    );
    let record: Value =
        serde_json::from_slice(&fs::read(workspace.path("mapped.run.json")).unwrap()).unwrap();
    assert_eq!(record["metrics"]["labels"]["NK"], 8);
    let inputs = record["inputs"].as_array().unwrap().iter();
    let mut inputs = inputs.map(|input| input["path"].as_str().unwrap());
    assert!(inputs.any(|input| input.ends_with("manifest.json")));
}

#[test]
fn threads_and_lists_change_nothing_and_all_lists_are_exact() {
    let workspace = Workspace::new();
    workspace.build();
    workspace.run(
        "build --input reference.h5ad --label cell_type --columns donor --output one --threads 1",
    );
    assert!(workspace.content("index") == workspace.content("one"));
    workspace.run("build --input reference.h5ad --label cell_type --columns donor --n-lists 7 --output lists --threads 3");
    workspace.run("build --input reference.h5ad --label cell_type --columns donor --n-lists 7 --output same --threads 1");
    assert!(workspace.content("lists") == workspace.content("same"));
    for (index, name) in [("index", "a"), ("lists", "b")] {
        workspace.run(&format!("query --input query.h5ad --index {index} --n-probe 7 --output {name}.h5ad --table {name}.tsv"));
    }
    let tables = ["a.tsv", "b.tsv"].map(|name| fs::read_to_string(workspace.path(name)).unwrap());
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn cells_are_added_without_changing_the_index() {
    let workspace = Workspace::new();
    cells(&workspace.path("more.h5ad"), &["Other"; 20], 3, 2);
    workspace.run(
        "build --input reference.h5ad --label cell_type --columns donor --n-lists 4 --output index",
    );
    let before = workspace.content("index");
    let message = workspace.run("build --input more.h5ad --add-to index --output both");
    assert!(
        message.contains("2 cells of `more.h5ad` have no embedding"),
        "{message}"
    );
    assert!(workspace.content("index") == before);
    workspace.run(
        "query --input query.h5ad --index both --n-probe 4 --output mapped.h5ad --novelty 0.999",
    );
    let labels = workspace.labels("mapped.h5ad");
    assert!(
        labels[24..]
            .iter()
            .all(|label| label.as_deref() == Some("Other"))
    );
    assert_eq!(labels[4].as_deref(), Some("NK"));
    let manifest: Value =
        serde_json::from_slice(&workspace.content("both")["manifest.json"]).unwrap();
    assert_eq!(
        (&manifest["cells"], &manifest["origins"][1]["cells"]),
        (&138.into(), &18.into())
    );
}

#[test]
fn any_damage_to_an_index_is_reported() {
    let workspace = Workspace::new();
    workspace.build();
    for (name, bytes) in workspace.content("index") {
        let file = workspace.path("index").join(&name);
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 0x55;
        for damage in [&changed[..], &bytes[..bytes.len() - 3], b""] {
            fs::write(&file, damage).unwrap();
            let message = workspace.fail(
                "query --input query.h5ad --index index --output mapped.h5ad",
                65,
            );
            let problem = message
                .lines()
                .rfind(|line| line.starts_with("error: "))
                .unwrap();
            assert!(problem.contains("index"), "{name}: {message}");
            assert!(
                name == "manifest.json" || problem.contains(&name),
                "{name}: {message}"
            );
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(!workspace.path("mapped.h5ad").exists());
    workspace.run("query --input query.h5ad --index index --output mapped.h5ad");
}

/// Writes a file of an index, and its checksum into the manifest, as an attacker would.
fn forge(index: &Path, name: &str, bytes: &[u8]) {
    fs::write(index.join(name), bytes).unwrap();
    let digits = Sha256::digest(bytes);
    let sha256: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = index.join("manifest.json");
    let mut manifest: Value = programs::json(&path);
    let parts = ["distances", "plane", "centroids"].map(|part| format!("/{part}"));
    let kinds =
        ["vectors", "places", "lists", "annotations"].map(|part| format!("/shards/0/{part}"));
    for pointer in parts.iter().chain(&kinds) {
        let stored = manifest.pointer_mut(pointer).unwrap();
        if stored["file"] == name {
            stored["sha256"] = sha256.clone().into();
        }
    }
    fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn a_wrong_index_with_matching_checksums_is_rejected() {
    let workspace = Workspace::new();
    workspace.build();
    let index = workspace.path("index");
    let query = "query --input query.h5ad --index index --output mapped.h5ad";
    let good = workspace.content("index");
    for (name, value) in [
        ("distances.f32", f32::NAN),
        ("distances.f32", -1.0),
        ("vectors-000.f32", 1e30),
        ("vectors-000.f32", f32::NAN),
        ("centroids.f32", f32::INFINITY),
        ("lists-000.u32", 1.0),
    ] {
        let mut bytes = good[name].clone();
        bytes[..4].copy_from_slice(&value.to_le_bytes());
        for bytes in [&bytes[..], &good[name][..good[name].len() - 4]] {
            forge(&index, name, bytes);
            let message = workspace.fail(query, 65);
            assert!(message.contains(name), "{name}: {message}");
        }
        forge(&index, name, &good[name]);
    }
    workspace.run(query);
    // Pipes are rejected without waiting.
    fs::remove_file(index.join("plane.f32")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(index.join("plane.f32"))
        .status();
    assert!(made.unwrap().success());
    let message = workspace.fail(query, 65);
    assert!(
        message.contains("plane.f32") && message.contains("regular"),
        "{message}"
    );
}

#[test]
fn an_index_that_lists_a_file_twice_is_not_extended_and_stays_intact() {
    let workspace = Workspace::new();
    workspace.build();
    let before = workspace.content("index");
    let manifest = String::from_utf8(before["manifest.json"].clone()).unwrap();
    let twice = manifest.replace("places-000.f32", "vectors-000.f32");
    fs::write(workspace.path("index/manifest.json"), twice).unwrap();
    let message = workspace.fail("build --input query.h5ad --add-to index --output both", 65);
    assert!(message.contains("vectors-000.f32"), "{message}");
    assert!(workspace.content("index")["vectors-000.f32"] == before["vectors-000.f32"]);
}

#[test]
fn a_label_named_unassigned_and_existing_element_names() {
    let workspace = Workspace::new();
    let mut kinds = types(60);
    kinds.extend(["unassigned"; 20]);
    cells(&workspace.path("reference.h5ad"), &kinds, 1, 0);
    workspace.build();
    workspace.run("query --input query.h5ad --index index --output mapped.h5ad");
    let Column::Categorical { categories, .. } = File::open(&workspace.path("mapped.h5ad"))
        .unwrap()
        .obs("mapped_label")
        .unwrap()
    else {
        panic!("labels are categories");
    };
    assert_eq!(categories, ["B", "NK", "T", "unassigned"]);
    // Names are checked before the index is read.
    for (words, part) in [
        ("--input query.h5ad --prefix a/b", "slash"),
        ("--input mapped.h5ad", "obs/mapped_label"),
        ("--input mapped.h5ad --prefix mapped", "already"),
    ] {
        let message = workspace.fail(
            &format!("query {words} --index query.h5ad --output o.h5ad"),
            65,
        );
        assert!(message.contains(part), "{words}: {message}");
    }
    workspace.run("query --input mapped.h5ad --prefix again --index index --output o.h5ad");
}

#[test]
fn the_baseline_uses_all_files() {
    let workspace = Workspace::new();
    workspace.build();
    let mut shifted = types(100);
    shifted.rotate_left(1);
    cells(&workspace.path("more.h5ad"), &shifted, 4, 0);
    cells(&workspace.path("known.h5ad"), &types(24), 5, 0);
    workspace.run(
        "query --input known.h5ad --index index --output mapped.h5ad --true-labels cell_type --metrics scores.tsv --weights distance \
         --baseline reference.h5ad,more.h5ad",
    );
    let scores = fs::read_to_string(workspace.path("scores.tsv")).unwrap();
    for (line, method) in scores.lines().skip(1).zip(["scGPT", "PCA"]) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[..4], [method, "24", "1.0000", "1.0000"]);
        // All cell types are in the reference.
        assert_eq!(fields[8..], ["0", ""]);
    }
}

#[test]
fn the_number_of_lists_is_limited_by_cells() {
    let workspace = Workspace::new();
    let message = workspace
        .run("build --input reference.h5ad --label cell_type --n-lists 65536 --output index");
    assert!(
        message.contains("65536 inverted lists are too many for 120 cells"),
        "{message}"
    );
    assert_eq!(
        programs::json(workspace.path("index/manifest.json"))["n_lists"],
        15
    );
}

#[test]
fn unusable_inputs_are_rejected_with_advice() {
    let workspace = Workspace::new();
    workspace.build();
    cells(&workspace.path("none.h5ad"), &[], 1, 0);
    let names: Vec<String> = (0..2001).map(|cell| format!("cell {cell:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cells(&workspace.path("named.h5ad"), &names, 1, 0);
    workspace.run("build --input named.h5ad --label donor --columns cell_type --output named");
    fs::write(workspace.path("flat.index"), "IxFI").unwrap();
    fs::create_dir(workspace.path("other")).unwrap();
    fs::write(workspace.path("other/cells.faiss"), "IxFI").unwrap();
    workspace.run("query --input query.h5ad --index index --output mapped.h5ad");
    fs::create_dir(workspace.path("reference")).unwrap();
    fs::write(workspace.path("reference/index.faiss"), "IwPQ").unwrap();
    for (words, code, parts) in [
        (
            "query --input query.h5ad --index reference --output o.h5ad",
            65,
            ["faiss", "scgpt-map-reference build"],
        ),
        (
            "query --input query.h5ad --index flat.index --output o.h5ad",
            65,
            ["faiss", "scgpt-map-reference build"],
        ),
        (
            "query --input query.h5ad --index other --output o.h5ad",
            65,
            ["faiss", "scgpt-map-reference build"],
        ),
        (
            "query --input query.h5ad --index query.h5ad --output o.h5ad",
            65,
            ["not a directory", "scgpt-map-reference build"],
        ),
        (
            "query --input none.h5ad --index index --output o.h5ad",
            65,
            ["none.h5ad", "no cells"],
        ),
        (
            "build --input none.h5ad --label cell_type --output o",
            65,
            ["none.h5ad", "no cells"],
        ),
        (
            "query --input query.h5ad --index named --label cell_type --output o.h5ad",
            65,
            ["`cell_type` has more than 2000", "`donor`"],
        ),
        (
            "build --input named.h5ad --label cell_type --output o",
            65,
            ["`cell_type` of obs has more than 2000", "`cell 0000`"],
        ),
        (
            "build --input mapped.h5ad --obsm-key X_mapped --add-to index --output o",
            65,
            ["that of the index is 12", "--obsm-key"],
        ),
        (
            "query --input query.h5ad --index index --obsm-key X_other --output o.h5ad",
            65,
            ["obsm/X_other", "--obsm-key"],
        ),
        (
            "query --input query.h5ad --index index --label tissue --output o.h5ad",
            65,
            ["tissue", "`donor`"],
        ),
        (
            "query --input query.h5ad --index index --true-labels donor --output o.h5ad",
            65,
            ["donor 0", "--true-labels"],
        ),
        (
            "query --input query.h5ad --index index --metrics s.tsv --output o.h5ad",
            2,
            ["--metrics", "--true-labels"],
        ),
        (
            "build --input reference.h5ad --output o",
            2,
            ["--label", "--add-to"],
        ),
        (
            "build --input query.h5ad --add-to index --label donor --output o",
            2,
            ["--label", "--add-to"],
        ),
        (
            "build --input query.h5ad --label tissue --output o",
            65,
            ["tissue", "query.h5ad"],
        ),
    ] {
        let message = workspace.fail(words, code);
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{words}: {message}"
        );
    }
    assert!(!workspace.path("o").exists() && !workspace.path("o.h5ad").exists());
}
