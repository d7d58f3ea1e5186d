//! Round trips: anndata reads the same from a file as pyarrow and `datasets` from its corpus.

use super::Made;
use crate::support::needs::{formats, real};
use crate::support::programs::json;
use crate::support::python::{check, python};
use scgpt_tools::formats::{self, Source};
use scgpt_tools::random::{Seed, sample};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// File, expected matrix, location of the gene names, and columns of obs.
type Case = (&'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    ("made/csr_float32.h5ad", "X", "index", "celltype,batch"),
    ("made/csc_float32.h5ad", "X", "index", "celltype_coarse"),
    ("made/dense_uint16_lzf.h5ad", "X", "index", "batch"),
    ("made/duplicate_gene_names.h5ad", "X", "index", "batch"),
    ("made/empty_cells_and_gene.h5ad", "X", "index", "celltype"),
    (
        "made/lognorm_X_counts_layer.h5ad",
        "counts",
        "index",
        "batch",
    ),
    ("made/scaled_X_counts_in_raw.h5ad", "raw", "index", "batch"),
    (
        "made/nullable_columns.h5ad",
        "X",
        "index",
        "n_int,flag,plain_bool,score,note",
    ),
    (
        "made/categorical_with_nan_ordered_unused.h5ad",
        "X",
        "index",
        "celltype,stage",
    ),
    ("made/unicode_and_named_index.h5ad", "X", "index", "type α"),
    (
        "made/gears_style.h5ad",
        "counts",
        "feature_name",
        "condition,control",
    ),
    ("made/cellxgene_style.h5ad", "X", "index", "tissue,assay"),
    ("anndata_v0.7.8.h5ad", "X", "index", "obs_cat,int64,uint8"),
];

const REAL: &[Case] = &[
    (
        "norman2019_50x50_gears_style.h5ad",
        "counts",
        "feature_name",
        "condition,control",
    ),
    (
        "pbmc68k_reduced_scanpy.h5ad",
        "raw",
        "index",
        "louvain,percent_mito",
    ),
    (
        "cellxgene_example_with_labels.h5ad",
        "X",
        "index",
        "tissue,assay",
    ),
];

#[test]
fn random_cells_are_those_that_anndata_reads() {
    assert_anndata_reads_the_same(&formats(""), CASES);
}

#[test]
fn random_cells_of_real_files_are_those_that_anndata_reads() {
    if let Some(directory) = real("formats") {
        assert_anndata_reads_the_same(&directory, REAL);
    }
}

fn assert_anndata_reads_the_same(directory: &Path, cases: &[Case]) {
    let Some(python) = python() else { return };
    let made = cases.iter().map(|(file, _, _, obs)| {
        let arguments = ["--obs", obs, "--shard-cells", "70", "--quiet"];
        Made::from(directory.join(file), &arguments)
    });
    let made = Vec::from_iter(made);
    let case = |((file, matrix, genes, _), made): (&Case, &Made)| {
        let file = directory.join(file);
        json!({"folder": made.path(), "file": file, "matrix": matrix, "genes": genes})
    };
    let cases: Value = cases.iter().zip(&made).map(case).collect();
    let path = made[0].directory.path().join("cases.json");
    fs::write(&path, cases.to_string()).unwrap();
    check(&python, "check_cells.py", &[&path]);
}

/// Rows of some cells as the library reads them from the file, with `columns` of obs.
fn rows(file: &Path, vocabulary: &Value, columns: &[&str]) -> Map<String, Value> {
    let table = formats::open(file, &formats::Options::default(), None, 1 << 26).unwrap();
    let matrix = table.matrix(&Source::X).unwrap();
    let names = table.gene_names(&Source::X).unwrap();
    let counts = matrix.read(0..matrix.n_cells()).unwrap();
    let obs = columns.iter().map(|name| (*name, table.obs(name).unwrap()));
    let obs = Vec::from_iter(obs);
    let drawn = sample(
        &mut Seed(4).stream("cells to check", &[]),
        counts.n_cells(),
        50,
    );
    let row = |cell: usize| {
        let (genes, values) = counts.row(cell);
        let ids = genes
            .iter()
            .map(|&gene| vocabulary[&names[gene as usize]].clone());
        let mut row = Map::from_iter([
            ("genes".to_owned(), ids.collect()),
            ("expressions".to_owned(), json!(values)),
        ]);
        for (name, column) in &obs {
            let number = column.number(cell).map(|number| json!(number));
            let flag = column.flag(cell).map(|flag| json!(flag));
            let value = number
                .or(flag)
                .or_else(|| column.label(cell).map(|label| json!(label)));
            row.insert((*name).to_owned(), value.unwrap_or_default());
        }
        (cell.to_string(), row.into())
    };
    drawn.into_iter().map(row).collect()
}

#[test]
fn pyarrow_and_datasets_read_what_the_manifest_states() {
    let Some(python) = python() else { return };
    let file = formats("made/nullable_columns.h5ad");
    let made = Made::from(
        &file,
        &[
            "--obs",
            "celltype,n_int,flag,score,note",
            "--shard-cells",
            "128",
        ],
    );
    let vocabulary = json(made.path().join("vocab.json"));
    let expected = json!({
        "cells": 300,
        "columns": {"celltype": "string", "n_int": "double", "flag": "bool", "score": "double", "note": "string"},
        "rows": rows(&file, &vocabulary, &["celltype", "n_int", "flag", "score", "note"]),
    });
    let path = made.directory.path().join("expected.json");
    fs::write(&path, expected.to_string()).unwrap();
    check(&python, "check_corpus.py", &[&made.path(), &path]);
}
