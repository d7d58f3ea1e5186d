//! `scgpt-map-reference`: cells are named after their neighbours, and an index is complete, exact and never changed.

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

/// Cells around directions of their own, in genes and in vectors; those of other types lie opposite to all of them.
fn cells(path: &Path, types: &[&str], seed: u64, without_vector: usize) {
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
        let is_lost = cell < without_vector;
        vectors.extend(
            row.into_iter()
                .map(|value| if is_lost { f32::NAN } else { value }),
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

/// So many cells of the three types in turn.
fn types(n: usize) -> Vec<&'static str> {
    (0..n).map(|cell| TYPES[cell % 3]).collect()
}

struct Place(TempDir);

impl Place {
    /// A folder with a reference of 120 cells and 30 cells to map: one without a vector, and 6 of a type of their own.
    fn new() -> Self {
        let place = Self(tempdir().unwrap());
        cells(&place.path("reference.h5ad"), &types(120), 1, 0);
        let mut asked = types(24);
        asked.extend(["Other"; 6]);
        cells(&place.path("query.h5ad"), &asked, 2, 1);
        place
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

    fn content(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.path(folder)).unwrap().flatten();
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
fn cells_are_named_placed_and_scored() {
    let place = Place::new();
    place.build();
    let said = place.run(
        "query --input query.h5ad --index index --output mapped.h5ad --novelty 0.99 --table mapped.tsv --figure mapped.svg \
         --truth cell_type --scores scores.tsv --baseline reference.h5ad",
    );
    assert!(said.contains("1 cells have no vector"), "{said}");
    let labels = place.labels("mapped.h5ad");
    for (cell, label) in labels.iter().enumerate() {
        let expected = if cell == 0 || cell >= 24 {
            "unassigned"
        } else {
            TYPES[cell % 3]
        };
        assert_eq!(label.as_deref(), Some(expected), "cell {cell}");
    }
    let table = fs::read_to_string(place.path("mapped.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        rows[0][7..],
        ["neighbours", "nearest_cell_type", "nearest_donor"]
    );
    assert_eq!(rows.len(), 31);
    assert_eq!(rows[5][7].split(',').count(), 10);
    assert!(
        rows[5][7].starts_with("1-") && rows[5][8] == rows[5][1],
        "{:?}",
        rows[5]
    );
    // Reference cells of the same type have places near those of the cell.
    let places = programs::obsm(&place.path("mapped.h5ad"), "X_mapped");
    let apart =
        |a: usize, b: usize| (places[a][0] - places[b][0]).hypot(places[a][1] - places[b][1]);
    assert!(apart(3, 6) < apart(3, 4) && apart(3, 6) < apart(3, 5));
    let shares = programs::obsm(&place.path("mapped.h5ad"), "mapped_probabilities");
    assert!(shares[4].iter().sum::<f32>() > 0.999 && shares[4][1] > 0.5);
    let scores = fs::read_to_string(place.path("scores.tsv")).unwrap();
    let scgpt: Vec<&str> = scores.lines().nth(1).unwrap().split('\t').collect();
    // One of 24 known cells has no vector; all 6 new ones are left unassigned.
    assert_eq!(scgpt[..4], ["scGPT", "24", "0.9583", "1.0000"]);
    assert_eq!(scgpt[8..], ["6", "1.0000"]);
    let pca: Vec<&str> = scores.lines().nth(2).unwrap().split('\t').collect();
    assert_eq!((pca[0], pca[1], pca[2] == pca[3]), ("PCA", "24", true));
    assert!(
        fs::read_to_string(place.path("mapped.svg"))
            .unwrap()
            .contains("reference")
    );
    let record: Value =
        serde_json::from_slice(&fs::read(place.path("mapped.run.json")).unwrap()).unwrap();
    assert_eq!(record["metrics"]["labels"]["NK"], 8);
    let inputs = record["inputs"].as_array().unwrap().iter();
    let mut inputs = inputs.map(|input| input["path"].as_str().unwrap());
    assert!(inputs.any(|input| input.ends_with("manifest.json")));
}

#[test]
fn threads_and_lists_change_nothing_and_all_lists_are_exact() {
    let place = Place::new();
    place.build();
    place.run(
        "build --input reference.h5ad --label cell_type --columns donor --output one --threads 1",
    );
    assert!(place.content("index") == place.content("one"));
    place.run("build --input reference.h5ad --label cell_type --columns donor --lists 7 --output lists --threads 3");
    place.run("build --input reference.h5ad --label cell_type --columns donor --lists 7 --output same --threads 1");
    assert!(place.content("lists") == place.content("same"));
    for (index, name) in [("index", "a"), ("lists", "b")] {
        place.run(&format!("query --input query.h5ad --index {index} --probes 7 --output {name}.h5ad --table {name}.tsv"));
    }
    let tables = ["a.tsv", "b.tsv"].map(|name| fs::read_to_string(place.path(name)).unwrap());
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn cells_are_added_without_changing_the_index() {
    let place = Place::new();
    cells(&place.path("more.h5ad"), &["Other"; 20], 3, 2);
    place.run(
        "build --input reference.h5ad --label cell_type --columns donor --lists 4 --output index",
    );
    let before = place.content("index");
    let said = place.run("build --input more.h5ad --extend index --output both");
    assert!(
        said.contains("2 cells of `more.h5ad` have no vector"),
        "{said}"
    );
    assert!(place.content("index") == before);
    place.run(
        "query --input query.h5ad --index both --probes 4 --output mapped.h5ad --novelty 0.999",
    );
    let labels = place.labels("mapped.h5ad");
    assert!(
        labels[24..]
            .iter()
            .all(|label| label.as_deref() == Some("Other"))
    );
    assert_eq!(labels[4].as_deref(), Some("NK"));
    let manifest: Value = serde_json::from_slice(&place.content("both")["manifest.json"]).unwrap();
    assert_eq!(
        (&manifest["cells"], &manifest["origins"][1]["cells"]),
        (&138.into(), &18.into())
    );
}

#[test]
fn any_damage_to_an_index_is_named() {
    let place = Place::new();
    place.build();
    for (name, bytes) in place.content("index") {
        let file = place.path("index").join(&name);
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 0x55;
        for damage in [&changed[..], &bytes[..bytes.len() - 3], b""] {
            fs::write(&file, damage).unwrap();
            let said = place.fail(
                "query --input query.h5ad --index index --output mapped.h5ad",
                65,
            );
            let problem = said
                .lines()
                .rfind(|line| line.starts_with("error: "))
                .unwrap();
            assert!(problem.contains("index"), "{name}: {said}");
            assert!(
                name == "manifest.json" || problem.contains(&name),
                "{name}: {said}"
            );
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(!place.path("mapped.h5ad").exists());
    place.run("query --input query.h5ad --index index --output mapped.h5ad");
}

/// Writes a file of an index, and its checksum into the manifest, as somebody who means harm would.
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
fn an_index_that_lies_with_right_checksums_is_refused() {
    let place = Place::new();
    place.build();
    let index = place.path("index");
    let query = "query --input query.h5ad --index index --output mapped.h5ad";
    let good = place.content("index");
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
            let said = place.fail(query, 65);
            assert!(said.contains(name), "{name}: {said}");
        }
        forge(&index, name, &good[name]);
    }
    place.run(query);
    // A pipe is never waited for.
    fs::remove_file(index.join("plane.f32")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(index.join("plane.f32"))
        .status();
    assert!(made.unwrap().success());
    let said = place.fail(query, 65);
    assert!(
        said.contains("plane.f32") && said.contains("regular"),
        "{said}"
    );
}

#[test]
fn an_index_that_names_a_file_twice_is_not_extended_and_loses_nothing() {
    let place = Place::new();
    place.build();
    let before = place.content("index");
    let manifest = String::from_utf8(before["manifest.json"].clone()).unwrap();
    let twice = manifest.replace("places-000.f32", "vectors-000.f32");
    fs::write(place.path("index/manifest.json"), twice).unwrap();
    let said = place.fail("build --input query.h5ad --extend index --output both", 65);
    assert!(said.contains("vectors-000.f32"), "{said}");
    assert!(place.content("index")["vectors-000.f32"] == before["vectors-000.f32"]);
}

#[test]
fn a_label_called_unassigned_and_new_names_that_are_taken() {
    let place = Place::new();
    let mut kinds = types(60);
    kinds.extend(["unassigned"; 20]);
    cells(&place.path("reference.h5ad"), &kinds, 1, 0);
    place.build();
    place.run("query --input query.h5ad --index index --output mapped.h5ad");
    let Column::Categorical { categories, .. } = File::open(&place.path("mapped.h5ad"))
        .unwrap()
        .obs("mapped_label")
        .unwrap()
    else {
        panic!("labels are categories");
    };
    assert_eq!(categories, ["B", "NK", "T", "unassigned"]);
    // Names are looked at before the index is.
    for (words, part) in [
        ("--input query.h5ad --prefix a/b", "slash"),
        ("--input mapped.h5ad", "obs/mapped_label"),
        ("--input mapped.h5ad --prefix mapped", "already"),
    ] {
        let said = place.fail(
            &format!("query {words} --index query.h5ad --output o.h5ad"),
            65,
        );
        assert!(said.contains(part), "{words}: {said}");
    }
    place.run("query --input mapped.h5ad --prefix again --index index --output o.h5ad");
}

#[test]
fn principal_components_vote_over_all_files() {
    let place = Place::new();
    place.build();
    let mut shifted = types(100);
    shifted.rotate_left(1);
    cells(&place.path("more.h5ad"), &shifted, 4, 0);
    cells(&place.path("known.h5ad"), &types(24), 5, 0);
    place.run(
        "query --input known.h5ad --index index --output mapped.h5ad --truth cell_type --scores scores.tsv --vote distance \
         --baseline reference.h5ad,more.h5ad",
    );
    let scores = fs::read_to_string(place.path("scores.tsv")).unwrap();
    for (line, method) in scores.lines().skip(1).zip(["scGPT", "PCA"]) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[..4], [method, "24", "1.0000", "1.0000"]);
        // No cell is of a type that the reference lacks.
        assert_eq!(fields[8..], ["0", ""]);
    }
}

#[test]
fn lists_are_no_more_than_cells_can_fill() {
    let place = Place::new();
    let said =
        place.run("build --input reference.h5ad --label cell_type --lists 65536 --output index");
    assert!(
        said.contains("65536 lists are too many for 120 cells"),
        "{said}"
    );
    assert_eq!(
        programs::json(place.path("index/manifest.json"))["lists"],
        15
    );
}

#[test]
fn what_cannot_be_mapped_is_refused_with_a_way_out() {
    let place = Place::new();
    place.build();
    cells(&place.path("none.h5ad"), &[], 1, 0);
    let names: Vec<String> = (0..2001).map(|cell| format!("cell {cell:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cells(&place.path("named.h5ad"), &names, 1, 0);
    place.run("build --input named.h5ad --label donor --columns cell_type --output named");
    fs::write(place.path("flat.index"), "IxFI").unwrap();
    fs::create_dir(place.path("other")).unwrap();
    fs::write(place.path("other/cells.faiss"), "IxFI").unwrap();
    place.run("query --input query.h5ad --index index --output mapped.h5ad");
    fs::create_dir(place.path("atlas")).unwrap();
    fs::write(place.path("atlas/index.faiss"), "IwPQ").unwrap();
    for (words, code, parts) in [
        (
            "query --input query.h5ad --index atlas --output o.h5ad",
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
            ["not a folder", "scgpt-map-reference build"],
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
            "build --input mapped.h5ad --key X_mapped --extend index --output o",
            65,
            ["those of the index have 12", "--key"],
        ),
        (
            "query --input query.h5ad --index index --key X_other --output o.h5ad",
            65,
            ["obsm/X_other", "--key"],
        ),
        (
            "query --input query.h5ad --index index --label tissue --output o.h5ad",
            65,
            ["tissue", "`donor`"],
        ),
        (
            "query --input query.h5ad --index index --truth donor --output o.h5ad",
            65,
            ["donor 0", "nothing to score"],
        ),
        (
            "query --input query.h5ad --index index --scores s.tsv --output o.h5ad",
            2,
            ["--scores", "--truth"],
        ),
        (
            "build --input reference.h5ad --output o",
            2,
            ["--label", "--extend"],
        ),
        (
            "build --input query.h5ad --extend index --label donor --output o",
            2,
            ["--label", "--extend"],
        ),
        (
            "build --input query.h5ad --label tissue --output o",
            65,
            ["tissue", "query.h5ad"],
        ),
    ] {
        let said = place.fail(words, code);
        assert!(
            parts.iter().all(|part| said.contains(part)),
            "{words}: {said}"
        );
    }
    assert!(!place.path("o").exists() && !place.path("o.h5ad").exists());
}
