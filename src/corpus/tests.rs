use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::support::python::{check, python_with};
use crate::vocabulary::Vocabulary;

const GENES: usize = 40;

fn vocabulary() -> Vocabulary {
    Vocabulary::from_tokens((0..GENES).map(|gene| format!("G{gene}"))).unwrap()
}

fn schema() -> Schema {
    let kinds = [Kind::Text, Kind::Number, Kind::Boolean, Kind::Text];
    let names = ["tissue", "age", "is healthy", "a.note"].map(String::from);
    Schema {
        genes: GENES,
        obs: names.into_iter().zip(kinds).collect(),
    }
}

/// Cells drawn by a seed, some of them empty, with every type of annotation.
fn group(seed: u64, cells: usize) -> Group {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut group = Group {
        offsets: vec![0],
        ..Group::default()
    };
    for _ in 0..cells {
        let genes = (0..GENES as u32).filter(|_| random.random_bool(0.3));
        group
            .genes
            .extend(genes.take(if cells.is_multiple_of(3) { 3 } else { GENES }));
        if random.random_bool(0.2) {
            group.genes.truncate(*group.offsets.last().unwrap());
        }
        group.offsets.push(group.genes.len());
    }
    let values = group
        .genes
        .iter()
        .map(|_| random.random_range(1..60) as f32 / 4.0);
    group.values = values.collect();
    let mut some = |cell: usize| random.random_bool(0.7).then_some(cell);
    let texts = (0..cells).map(|cell| Some(["blood", "bone"][some(cell)? % 2].to_owned()));
    let texts: Vec<_> = texts.collect();
    group.obs = vec![
        Column::from_labels(&texts),
        Column::Number(
            (0..cells)
                .map(|cell| Some(some(cell)? as f64 + 0.5))
                .collect(),
        ),
        Column::Boolean((0..cells).map(|cell| Some(some(cell)? % 3 == 0)).collect()),
        Column::Text(
            (0..cells)
                .map(|cell| Some(format!("ä{}", some(cell)?)))
                .collect(),
        ),
    ];
    group
}

/// The group as it is read back: categories are text.
fn stored(mut group: Group) -> Group {
    group.obs[0] = Column::Text(group.obs[0].to_labels());
    group
}

/// Writes groups of the given sizes, encoded in parallel, as shards of two groups each.
fn write(directory: &Path, sizes: &[usize]) -> Vec<Group> {
    let groups: Vec<Group> = (1..)
        .zip(sizes)
        .map(|(seed, &cells)| group(seed, cells))
        .collect();
    let firsts = sizes.iter().scan(0, |next, &cells| {
        Some(std::mem::replace(next, *next + cells as i64))
    });
    let starts: Vec<(&Group, i64)> = groups.iter().zip(firsts).collect();
    let encoded = starts
        .par_iter()
        .map(|(group, first)| encode(group, *first, &schema()).unwrap());
    let mut encoded = encoded.collect::<Vec<_>>().into_iter();
    let mut shards = Vec::new();
    for position in 0..sizes.len().div_ceil(2) {
        let mut shard = Shard::create(&directory.join(shard_name(position)), &schema()).unwrap();
        encoded
            .by_ref()
            .take(2)
            .for_each(|cells| shard.append(cells).unwrap());
        shards.push(shard.finish().unwrap());
    }
    let composition = [("tissue".into(), [("blood".into(), 3)].into())].into();
    let manifest = Manifest::new(&vocabulary(), shards, composition, json!({"min_genes": 3}));
    manifest.write(directory, &vocabulary()).unwrap();
    groups
}

fn read_all(corpus: &Corpus) -> Result<Vec<Group>, Error> {
    let tables = corpus.tables().iter().enumerate();
    tables
        .flat_map(|(table, found)| (0..found.groups.len()).map(move |group| (table, group)))
        .map(|(table, group)| corpus.read_group(table, group))
        .collect()
}

fn message(error: &Error) -> String {
    error.to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let place = tempfile::tempdir().unwrap();
    let groups = write(place.path(), &[7, 12, 1, 0, 400]);
    let corpus = Corpus::open(place.path()).unwrap();
    corpus.verify().unwrap();
    assert_eq!((corpus.cells(), corpus.tables().len()), (420, 3));
    assert_eq!(corpus.vocabulary(), &vocabulary());
    assert_eq!(corpus.tables()[0].obs, schema().obs);
    assert_eq!(corpus.tables()[0].groups[1].cells, 12);
    let manifest = corpus.manifest().unwrap();
    let tokens: usize = groups.iter().map(Group::tokens).sum();
    assert_eq!(manifest.tokens, tokens as u64);
    assert_eq!(manifest.shards[2].genes, GENES as u64);
    assert_eq!(manifest.parameters["min_genes"], 3);
    let expected: Vec<Group> = groups.into_iter().map(stored).collect();
    assert_eq!(read_all(&corpus).unwrap(), expected);
    assert!(corpus.read_group(0, 2).is_err() && corpus.read_group(9, 0).is_err());
}

#[test]
fn many_tokens_and_values_are_read_back() {
    let place = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let schema = Schema {
        genes: 70_000,
        obs: Vec::new(),
    };
    let mut shard = Shard::create(&place.path().join(shard_name(0)), &schema).unwrap();
    let mut groups = Vec::new();
    // The last cell alone is longer than a page; values are few, then too many for a dictionary.
    for distinct in [1, 300, 1 << 20] {
        let offsets = vec![
            0, 0, 100_000, 200_000, 200_000, 290_000, 290_001, 600_000, 600_000,
        ];
        let values = (0..600_000).map(|_| random.random_range(0..distinct) as f32);
        let values = values.collect();
        let genes = (0..600_000)
            .map(|_| random.random_range(0..70_000))
            .collect();
        let group = Group {
            offsets,
            genes,
            values,
            obs: Vec::new(),
        };
        shard
            .append(encode(&group, 8 * groups.len() as i64, &schema).unwrap())
            .unwrap();
        groups.push(group);
    }
    let summary = shard.finish().unwrap();
    assert_eq!(
        (summary.cells, summary.tokens, summary.genes),
        (24, 1_800_000, 70_000)
    );
    let vocabulary = Vocabulary::from_tokens((0..70_000).map(|gene| gene.to_string())).unwrap();
    let corpus = Corpus::of_tables(place.path(), vocabulary).unwrap();
    assert!(read_all(&corpus).unwrap() == groups);
}

#[test]
fn threads_do_not_change_a_byte() {
    let bytes = |threads| {
        let place = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| write(place.path(), &[50, 20, 30, 90, 10, 60, 70]));
        let names = (0..4)
            .map(shard_name)
            .chain([MANIFEST.into(), VOCABULARY.into()]);
        names
            .map(|name| fs::read(place.path().join(name)).unwrap())
            .collect::<Vec<_>>()
    };
    assert!(bytes(1) == bytes(8));
}

#[test]
fn a_shard_is_complete_or_absent() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(shard_name(0));
    let mut shard = Shard::create(&path, &schema()).unwrap();
    shard
        .append(encode(&group(1, 5), 0, &schema()).unwrap())
        .unwrap();
    assert!(!path.exists() && shard.cells() == 5);
    drop(shard);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn cells_that_do_not_fit_are_rejected() {
    let rejection = |change: &dyn Fn(&mut Group)| {
        let mut group = group(1, 5);
        change(&mut group);
        message(&encode(&group, 30, &schema()).err().expect("a rejection"))
    };
    assert!(
        rejection(&|group| group.genes[2] = 40)
            .contains("from id 30 on: gene id 40 is not below 40")
    );
    assert!(rejection(&|group| group.values[2] = f32::NAN).contains("not a finite number"));
    assert!(rejection(&|group| group.values.truncate(3)).contains("disagree"));
    assert!(rejection(&|group| group.offsets.clear()).contains("disagree"));
    assert!(rejection(&|group| group.obs.swap(0, 1)).contains("annotations"));
    assert!(rejection(&|group| group.obs.truncate(3)).contains("annotations"));
    let twice = Schema {
        genes: GENES,
        obs: vec![("genes".into(), Kind::Number)],
    };
    let directory = tempfile::tempdir().unwrap();
    assert!(Shard::create(&directory.path().join("none.parquet"), &twice).is_err());
}

#[test]
fn a_directory_that_does_not_match_its_manifest_is_rejected() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    write(directory, &[7, 12]);
    let rejection = |change: &dyn Fn(&mut Value)| {
        let path = directory.join(MANIFEST);
        let kept = fs::read(&path).unwrap();
        let mut manifest = serde_json::from_slice(&kept).unwrap();
        change(&mut manifest);
        fs::write(&path, manifest.to_string()).unwrap();
        let error = Corpus::open(directory)
            .and_then(|corpus| corpus.verify())
            .unwrap_err();
        fs::write(&path, kept).unwrap();
        message(&error)
    };
    assert!(
        rejection(&|json| json["format_version"] = 3.into()).contains("version 3 of the format")
    );
    assert!(rejection(&|json| json["format"] = "other".into()).contains("neither"));
    assert!(
        rejection(&|json| json["genes"] = 3.into())
            .contains("has 40 tokens, but the manifest lists 3")
    );
    assert!(
        rejection(&|json| json["shards"][0]["cells"] = 3.into())
            .contains("has 19 cells, but the manifest lists 3")
    );
    assert!(
        rejection(&|json| json["shards"][0]["file"] = "../x".into())
            .contains("not the name of a file")
    );
    assert!(rejection(&|json| json["shards"][0]["sha256"] = "0".into()).contains("SHA-256"));
    assert!(rejection(&|json| json["shards"] = Value::Null).contains("not a manifest"));
    fs::write(directory.join(VOCABULARY), "{\"G0\": 0}").unwrap();
    assert!(message(&Corpus::open(directory).unwrap_err()).contains("has 1 tokens"));
    let small = Vocabulary::from_tokens(["G0"]).unwrap();
    let error = Corpus::of_tables(directory, small)
        .unwrap()
        .read_group(0, 1)
        .unwrap_err();
    assert!(message(&error).contains("row group 1: row "), "{error}");
    assert!(message(&error).contains("is not in the vocabulary, whose ids go from 0 to below 1"));
    assert!(Corpus::open(Path::new("no such directory")).is_err());
}

/// A bank with the given table.
fn bank(directory: &Path, table: &str) {
    let manifest = r#"{"on_disk_format": "json", "main_data": "X", "gene_vocab_md5": null}"#;
    fs::write(directory.join(MANIFEST), manifest).unwrap();
    fs::write(directory.join("gene_vocab.json"), vocabulary().to_json()).unwrap();
    fs::write(directory.join("X.datatable.json"), table).unwrap();
}

#[test]
fn banks_in_json_are_read_in_groups() {
    let place = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..2500_u32)
        .map(|id| {
            let genes: Vec<u32> = (0..id % 5).collect();
            let values = vec![1.5; genes.len()];
            json!({"id": id, "genes": genes, "note": "} \\\" {\"", "expressions": values})
                .to_string()
        })
        .collect();
    for table in [lines.join("\n"), format!("[{}]\n", lines.join(",\n "))] {
        bank(place.path(), &table);
        let corpus = Corpus::open(place.path()).unwrap();
        let groups = read_all(&corpus).unwrap();
        let sizes: Vec<usize> = groups.iter().map(Group::cells).collect();
        assert_eq!((sizes, corpus.cells()), (vec![1000, 1000, 500], 2500));
        assert_eq!(groups[1].offsets[..6], [0, 0, 1, 3, 6, 10]);
        assert_eq!(
            (&groups[1].genes[..4], &groups[1].values[..2]),
            (&[0, 0, 1, 0][..], &[1.5, 1.5][..])
        );
        corpus.verify().unwrap();
    }
}

#[test]
fn damaged_banks_are_located() {
    let place = tempfile::tempdir().unwrap();
    let rejection = |cell: &str| {
        bank(
            place.path(),
            &format!("{{\"genes\": [], \"expressions\": []}}\n{cell}\n"),
        );
        let read = Corpus::open(place.path()).and_then(|corpus| corpus.read_group(0, 0));
        message(&read.unwrap_err())
    };
    for (cell, expected) in [
        (
            r#"{"genes": [1, 40], "expressions": [1, 1]}"#,
            "cell 1: gene id 40 is not in the vocabulary",
        ),
        (
            r#"{"genes": [1], "expressions": [1, 1]}"#,
            "cell 1: 1 `genes` and 2 `expressions`",
        ),
        (
            r#"{"genes": [1], "expressions": [null]}"#,
            "cell 1: expected `genes` and `expressions`",
        ),
        (
            r#"{"genes": [1], "expressions": [1e300]}"#,
            "not a finite number",
        ),
        (r#"{"genes": [-1], "expressions": [1]}"#, "cell 1: expected"),
        (r#"{"genes": [1]}"#, "missing field `expressions`"),
        (r#"{"genes": [1], "#, "ends within an object"),
        ("genes", "is outside of the objects"),
    ] {
        assert!(
            rejection(cell).contains(expected),
            "{cell}: {}",
            rejection(cell)
        );
    }
    fs::write(
        place.path().join(MANIFEST),
        r#"{"on_disk_format": "json", "main_data": "../X"}"#,
    )
    .unwrap();
    assert!(message(&Corpus::open(place.path()).unwrap_err()).contains("not the name of a table"));
}

/// Changes, removes or repeats bytes.
fn mutate(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..8) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
            2 => bytes.splice(at..at, [0xff; 5]).for_each(drop),
            3 => bytes[at] = random.random(),
            _ => bytes[at] ^= 1 << random.random_range(0..8),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// Reads a directory with 10,000 mutations of one of its files, and returns how many of them are still read.
fn survive(directory: &Path, file: &str, open: impl Fn() -> Result<Corpus, Error>) -> usize {
    let path = directory.join(file);
    let bytes = fs::read(&path).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut read = || {
        fs::write(&path, mutate(&bytes, &mut random)).unwrap();
        open().and_then(|corpus| read_all(&corpus))
    };
    (0..10_000).filter(|_| read().is_ok()).count()
}

/// The most memory that this process has held, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[test]
fn mutations_give_cells_or_an_error() {
    let place = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let directory = place.path();
    write(directory, &[6, 20]);
    let shard = survive(directory, &shard_name(0), || {
        Corpus::of_tables(directory, vocabulary())
    });
    write(directory, &[6, 20]);
    let manifest = survive(directory, MANIFEST, || Corpus::open(directory));
    let cells: Vec<&str> =
        [r#"{"id": 0, "genes": [3, 0, 39], "expressions": [1, 2.5, -2.0e0]}"#].repeat(4);
    bank(directory, &cells.join("\n"));
    let json = survive(directory, "X.datatable.json", || Corpus::open(directory));
    println!(
        "still read: {shard} shards, {manifest} manifests, {json} banks; peak {} MiB",
        peak()
    );
    assert!(peak() < 1500);
}

#[test]
fn python_reads_a_corpus() {
    let Some(python) = python_with("pyarrow, datasets") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let groups = write(place.path(), &[7, 12, 40]);
    let mut rows = serde_json::Map::new();
    for group in groups.into_iter().map(stored) {
        let [
            Column::Text(tissue),
            Column::Number(age),
            Column::Boolean(healthy),
            Column::Text(note),
        ] = &group.obs[..]
        else {
            panic!("the types of the schema");
        };
        for cell in 0..group.cells() {
            let span = group.offsets[cell]..group.offsets[cell + 1];
            rows.insert(
                rows.len().to_string(),
                json!({
                    "genes": group.genes[span.clone()], "expressions": group.values[span],
                    "tissue": tissue[cell], "age": age[cell], "is healthy": healthy[cell], "a.note": note[cell],
                }),
            );
        }
    }
    let columns =
        json!({"tissue": "string", "age": "double", "is healthy": "bool", "a.note": "string"});
    let expected = json!({"cells": 59, "columns": columns, "rows": rows});
    let path = place.path().join("expected.json");
    fs::write(&path, expected.to_string()).unwrap();
    check(&python, "check_corpus.py", &[place.path(), &path]);
}

#[test]
fn tables_of_other_writers_are_read_or_rejected() {
    let Some(python) = python_with("pyarrow, datasets") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    check(&python, "write_tables.py", &[place.path()]);
    let open = |name: &str| Corpus::of_tables(&place.path().join(name), vocabulary());
    for name in [
        "snappy",
        "zstd",
        "none",
        "types",
        "delta",
        "checksums",
        "datasets",
    ] {
        let corpus = open(&format!("good-{name}")).unwrap();
        let names: Vec<&str> = corpus.tables()[0]
            .obs
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            (corpus.cells(), names),
            (6, vec!["tissue", "age", "healthy"]),
            "{name}"
        );
        let groups = read_all(&corpus).unwrap();
        let genes: Vec<u32> = groups
            .iter()
            .flat_map(|group| group.genes.clone())
            .collect();
        let values: Vec<f32> = groups
            .iter()
            .flat_map(|group| group.values.clone())
            .collect();
        assert_eq!(
            genes,
            [0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4],
            "{name}"
        );
        assert_eq!(
            values,
            genes
                .iter()
                .map(|&gene| gene as f32 + 0.5)
                .collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(
            groups[0].obs[0].to_labels()[..2],
            [Some("a".into()), None],
            "{name}"
        );
        assert_eq!(
            groups[0].obs[2].to_labels()[..2],
            [Some("True".into()), None],
            "{name}"
        );
    }
    for (name, expected) in [
        (
            "gzip",
            "is compressed with GZIP, expected zstd, snappy or none; rewrite it",
        ),
        (
            "gene",
            "row group 1: row 1: gene id 900 is not in the vocabulary",
        ),
        (
            "negative",
            "row group 0: row 1: gene id -1 is not in the vocabulary",
        ),
        ("lengths", "row 4: 1 `genes` and 4 `expressions`"),
        ("null-list", "row 2: a list of `genes` is null"),
        ("null-entry", "row 2: an entry of `expressions` is null"),
        ("nan", "row 1: the expression NaN is not a finite number"),
        ("text", "column `genes` is not a list of numbers"),
        ("columns", "there is no column `genes`"),
    ] {
        let read = open(&format!("bad-{name}")).and_then(|corpus| read_all(&corpus));
        let error = message(&read.unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
    }
}
