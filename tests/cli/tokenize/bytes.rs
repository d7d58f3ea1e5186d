//! The same cells give the same bytes, however they are stored and whatever they are read with.

use super::{LARGE, assert_same, bytes, from_sheet, tokenize};
use crate::support::formats;
use crate::support::programs::succeed;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use tempfile::tempdir;

/// Random draws take part, and shards end within groups of cells.
const COURSE: [&str; 8] = [
    "--values",
    "bins",
    "--ties",
    "both-sided",
    "--seed",
    "3",
    "--shard-cells",
    "1100",
];
const COMPUTING: [[&str; 4]; 4] = [
    ["--threads", "1", "--memory", "1G"],
    ["--threads", "2", "--memory", "128M"],
    ["--threads", "8", "--memory", "256M"],
    ["--threads", "8", "--memory", "1G"],
];

fn corpus(input: &OsStr, arguments: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let folder = tempdir().unwrap();
    let output = folder.path().join("corpus");
    succeed(tokenize(input, &output).args(COURSE).args(arguments));
    bytes(&output)
}

fn assert_computing_changes_nothing(input: &OsStr, arguments: &[&str]) {
    let with = |computing: &[&str]| corpus(input, &[arguments, computing].concat());
    let expected = with(&COMPUTING[0]);
    for computing in &COMPUTING[1..] {
        let what = format!("{} with {computing:?}", input.display());
        assert_same(&with(computing), &expected, &what);
    }
}

#[test]
fn threads_and_memory_change_no_byte() {
    assert_computing_changes_nothing(LARGE.as_os_str(), &["--obs", "cell_type"]);
    let Some(folder) = formats() else { return };
    for file in [
        "odd/csc_float32.h5ad",
        "odd/dense_float32.h5ad",
        "10x/v3.0.0/filtered_feature_bc_matrix",
        "text/sc_dropseq.count.csv.gz",
    ] {
        assert_computing_changes_nothing(folder.join(file).as_os_str(), &[]);
    }
}

#[test]
fn chosen_genes_do_not_depend_on_threads_and_memory() {
    let chosen = ["--min-cells", "20", "--n-hvg", "30", "--min-genes", "15"];
    assert_computing_changes_nothing(LARGE.as_os_str(), &chosen);
}

#[test]
fn several_inputs_are_one_corpus_whatever_it_takes() {
    let Some(folder) = formats() else { return };
    let file = |name: &str| folder.join(name).display().to_string();
    let inputs = [
        file("odd/csr_float32.h5ad"),
        file("10x/v3.0.0/filtered_feature_bc_matrix"),
        file("odd/csc_float32.h5ad"),
    ];
    let inputs = inputs.join(",");
    assert_computing_changes_nothing(inputs.as_ref(), &[]);
}

#[test]
fn a_sample_sheet_is_one_corpus_whatever_it_takes() {
    let folder = tempdir().unwrap();
    let sheet = folder.path().join("samples.csv");
    fs::hard_link(&*LARGE, folder.path().join("a.h5ad"))
        .or_else(|_| fs::copy(&*LARGE, folder.path().join("a.h5ad")).map(drop))
        .unwrap();
    fs::write(&sheet, "sample,path\none,a.h5ad\ntwo,a.h5ad\n").unwrap();
    let found = COMPUTING.map(|computing| {
        let output = folder.path().join(computing.concat());
        succeed(from_sheet(&sheet, &output).args(COURSE).args(computing));
        bytes(&output)
    });
    for (other, computing) in found.iter().zip(&COMPUTING) {
        assert_same(other, &found[0], &format!("{computing:?}"));
    }
}

#[test]
fn the_same_cells_stored_otherwise_are_the_same_corpus() {
    let Some(folder) = formats() else { return };
    let of = |file: &str| corpus(folder.join(file).as_os_str(), &[]);
    let expected = of("odd/csr_float32.h5ad");
    for file in [
        "odd/csc_float32.h5ad",
        "odd/csr_int32.h5ad",
        "odd/csr_int64_values_and_indices.h5ad",
        "odd/csr_unsorted_indices.h5ad",
        "odd/dense_float32.h5ad",
        "odd/dense_float64_uncompressed.h5ad",
        "odd/dense_uint16_lzf.h5ad",
        "odd/lognorm_X_counts_layer.h5ad",
        "odd/no_X_counts_layer.h5ad",
        "odd/scaled_X_counts_in_raw.h5ad",
        "odd/genes_by_cells.loom",
    ] {
        assert_same(&of(file), &expected, file);
    }
    assert_same(
        &of("10x/v3.0.0/filtered_feature_bc_matrix.h5"),
        &of("10x/v3.0.0/filtered_feature_bc_matrix"),
        "a 10x file and folder",
    );
}
