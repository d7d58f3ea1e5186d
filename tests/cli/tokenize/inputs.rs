//! Several inputs, sample sheets, and corpora as inputs; composition in the manifest.

use super::{INPUT, Input, Made, assert_says, cells, expressions, from_sheet, tokenize};
use crate::support::cells::Simulated;
use crate::support::needs::formats;
use crate::support::programs::{fail, succeed};
use scgpt_tools::formats as tables;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

#[test]
fn inputs_are_concatenated() {
    let (first, second) = (
        Input::small(),
        Input::new(Simulated {
            seed: 2,
            genes: 70,
            ..Simulated::SMALL
        }),
    );
    let both = format!("{},{}", first.path.display(), second.path.display());
    let made = Made::from(both, &["--obs", "batch"]);
    let expected = [expressions(&first.cells), expressions(&second.cells)].concat();
    assert_eq!(expressions(&made.cells()), expected);
    let [known, new] =
        ["GENE059", "GENE060"].map(|name| made.genes().into_iter().find(|row| row[0] == name));
    assert_eq!(
        (&known.unwrap()[4], &new.unwrap()[4]),
        (&"2".to_owned(), &"1".to_owned())
    );
    assert_eq!(made.manifest()["genes"], 73);
}

#[test]
fn a_sample_sheet_annotates_cells_and_paths_are_relative_to_it() {
    let directory = tempdir().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    Simulated {
        cells: 30,
        ..Simulated::SMALL
    }
    .write(&directory.path().join("data/a.h5ad"));
    Simulated {
        cells: 20,
        seed: 2,
        ..Simulated::SMALL
    }
    .write(&directory.path().join("b.h5ad"));
    let (sheet, output) = (
        directory.path().join("samples.csv"),
        directory.path().join("corpus"),
    );
    let text =
        "sample,path,batch,tissue\ns1,data/a.h5ad,run 1,\"lung, left\"\ns2, b.h5ad ,run 2,heart\n";
    fs::write(&sheet, text).unwrap();
    succeed(from_sheet(&sheet, &output).args(["--obs", "cell_type"]));
    let cells = cells(&output);
    assert_eq!(cells.len(), 50);
    for (at, cell) in cells.iter().enumerate() {
        // The batch of the sheet overrides that of the file.
        let [sample, batch, tissue] = match at < 30 {
            true => ["s1", "run 1", "lung, left"],
            false => ["s2", "run 2", "heart"],
        };
        let kind = Simulated::type_of(if at < 30 { at } else { at - 30 });
        let expected = [
            ("batch", batch),
            ("cell_type", kind),
            ("sample", sample),
            ("tissue", tissue),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        assert_eq!(cell.obs, BTreeMap::from(expected));
    }
    let manifest = crate::support::programs::json(output.join("manifest.json"));
    assert_eq!(
        manifest["composition"]["tissue"],
        json!({"heart": 20, "lung, left": 30})
    );
    let chosen = directory.path().join("chosen");
    succeed(from_sheet(&sheet, &chosen).args(["--filter", "batch == run 2"]));
    assert_eq!(self::cells(&chosen).len(), 20);
}

#[test]
fn problems_of_sample_sheets_are_reported() {
    let directory = tempdir().unwrap();
    let (sheet, output) = (
        directory.path().join("samples.csv"),
        directory.path().join("corpus"),
    );
    for (text, parts) in [
        (
            "sample,batch\na,b\n",
            &["expected a column `path`", "`sample`, `batch`"][..],
        ),
        ("path,batch\n", &["it lists no file"]),
        (
            "path,batch\nnone.h5ad,b\n",
            &["does not exist", "none.h5ad"],
        ),
        ("path,batch\na.h5ad\n", &["samples.csv"]),
        ("", &["samples.csv"]),
    ] {
        fs::write(&sheet, text).unwrap();
        assert_says(&fail(&mut from_sheet(&sheet, &output), INPUT), parts);
    }
}

#[test]
fn the_manifest_counts_cells_by_tissue_disease_and_assay() {
    let input = formats("made/cellxgene_style.h5ad");
    let made = Made::from(&input, &[]);
    let composition = made.manifest()["composition"].clone();
    let table = tables::open(&input, &tables::Options::default(), None, 1 << 26).unwrap();
    let counted = ["assay", "disease", "tissue"].map(|name| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for label in table.obs(name).unwrap().to_labels() {
            *counts.entry(label.unwrap()).or_default() += 1;
        }
        (name.to_owned(), json!(counts))
    });
    assert_eq!(composition, Value::Object(Map::from_iter(counted)));
    assert_eq!(composition["tissue"]["heart right ventricle"], 60);
}

#[test]
fn a_corpus_is_an_input() {
    let columns = ["--obs", "celltype,n_int,flag,score"];
    let first = Made::from(
        formats("made/nullable_columns.h5ad"),
        &[&columns[..], &["--shard-cells", "70"]].concat(),
    );
    let again = Made::from(first.path(), &columns);
    assert_eq!(again.cells(), first.cells());
    assert!(
        !again.messages.contains("not in the vocabulary"),
        "{}",
        again.messages
    );
    assert_eq!(
        fs::read(again.path().join("vocab.json")).unwrap(),
        fs::read(first.path().join("vocab.json")).unwrap()
    );
    // Numbers are read as numbers.
    let old = Made::from(
        first.path(),
        &["--obs", "n_int", "--filter", "n_int >= 290"],
    );
    assert!(
        old.cells()
            .iter()
            .all(|cell| cell.obs["n_int"].as_ref().unwrap().parse::<f64>().unwrap() >= 290.0)
    );
    assert!((1..=10).contains(&old.cells().len()));
}

/// A cell bank as the original implementation writes it.
fn write_bank(directory: &Path, input: &Input) {
    let ids: BTreeMap<String, usize> = Simulated::SMALL.gene_names().into_iter().zip(3..).collect();
    let mut vocabulary = json!(ids);
    for (token, id) in [("<pad>", 0), ("<cls>", 1), ("<eoc>", 2)] {
        vocabulary[token] = id.into();
    }
    let line = |(id, cell): (usize, &super::Cell)| {
        let genes = Vec::from_iter(cell.genes.keys().map(|name| ids[name]));
        let values = Vec::from_iter(cell.genes.values());
        json!({"id": id, "genes": genes, "expressions": values}).to_string()
    };
    let lines = Vec::from_iter(input.cells.iter().enumerate().map(line));
    let manifest = json!({"name": "bank", "version": "1.0.1", "on_disk_format": "json", "main_data": "X",
        "gene_vocab_md5": "", "created_with": "scbank"});
    fs::create_dir(directory).unwrap();
    for (name, text) in [
        ("manifest.json", manifest.to_string()),
        ("gene_vocab.json", vocabulary.to_string()),
        ("X.datatable.json", lines.join("\n")),
    ] {
        fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn a_cell_bank_is_an_input() {
    let (input, directory) = (Input::small(), tempdir().unwrap());
    let bank = directory.path().join("bank.scb");
    write_bank(&bank, &input);
    let made = Made::from(&bank, &[]);
    assert_eq!(expressions(&made.cells()), expressions(&input.cells));
    let direct = Made::from(&input.path, &[]);
    assert_eq!(made.genes(), direct.genes());
}

#[test]
fn the_orientation_of_a_text_table_can_be_set() {
    let directory = tempdir().unwrap();
    let table = directory.path().join("table.csv");
    fs::write(&table, ",c1,c2\nr1,1,0\nr2,3,4\nr3,5,0\n").unwrap();
    let found = |orientation| {
        Made::from(&table, &["--orientation", orientation])
            .cells()
            .len()
    };
    assert_eq!((found("cells-by-genes"), found("genes-by-cells")), (3, 2));
}

#[test]
fn files_that_are_not_tables_are_rejected() {
    let directory = tempdir().unwrap();
    let (input, output) = (
        directory.path().join("input"),
        directory.path().join("corpus"),
    );
    for (content, parts) in [
        (
            &b"BAM\x01\0\0\0"[..],
            &["format is not supported", "HDF5", "Matrix Market"][..],
        ),
        (b"", &["input"]),
        (b"PK\x03\x04rest", &["zip archive"]),
        (b"\x1f\x8b\x08\0\0\0\0\0", &["input"]),
    ] {
        fs::write(&input, content).unwrap();
        assert_says(&fail(&mut tokenize(&input, &output), INPUT), parts);
        assert!(!output.exists());
    }
    let empty = directory.path().join("directory");
    fs::create_dir(&empty).unwrap();
    assert_says(
        &fail(&mut tokenize(&empty, &output), INPUT),
        &["directory", "matrix.mtx"],
    );
}

#[test]
fn a_damaged_input_is_found_before_anything_is_written() {
    let (input, directory) = (Input::small(), tempdir().unwrap());
    let (cut, output) = (
        directory.path().join("cut.h5ad"),
        directory.path().join("corpus"),
    );
    let whole = fs::read(&input.path).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let both = format!("{},{}", input.path.display(), cut.display());
    let message = fail(&mut tokenize(both, &output), INPUT);
    assert_says(&message, &["cut.h5ad", "truncated"]);
    assert!(!output.exists() && !output.with_extension("partial").exists());
}
