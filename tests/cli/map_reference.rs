//! `scgpt-map-reference`: cells are named after their neighbours, and an index is complete, exact and never changed.

use crate::support::programs;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use scgpt_tools::formats::h5ad::{self, Embedding, File};
use scgpt_tools::random::{Seed, normal_pair};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const WIDTH: usize = 12;
const TYPES: [&str; 3] = ["B", "NK", "T"];

/// Cells around directions of their own, in genes and in vectors; those of type `Other` lie opposite to all others.
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
    assert_eq!(scgpt[..3], ["scGPT", "24", "0.9583"]);
    assert_eq!(scgpt[7..], ["6", "1.0000"]);
    assert!(scores.lines().nth(2).unwrap().starts_with("PCA\t24\t"));
    assert!(
        fs::read_to_string(place.path("mapped.svg"))
            .unwrap()
            .contains("reference")
    );
    let record: Value =
        serde_json::from_slice(&fs::read(place.path("mapped.run.json")).unwrap()).unwrap();
    assert_eq!(record["metrics"]["labels"]["NK"], 8);
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

#[test]
fn what_cannot_be_mapped_is_refused_with_a_way_out() {
    let place = Place::new();
    place.build();
    fs::create_dir(place.path("atlas")).unwrap();
    fs::write(place.path("atlas/index.faiss"), "IwPQ").unwrap();
    for (words, code, parts) in [
        (
            "query --input query.h5ad --index atlas --output o.h5ad",
            65,
            ["faiss", "scgpt-map-reference build"],
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
