//! The same cells give the same bytes, independently of storage, threads and memory.

use super::{LARGE, assert_same, bytes, from_sheet, tokenize};
use crate::support::needs::formats;
use crate::support::programs::succeed;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use tempfile::tempdir;

/// Options with random choices, and with shards that end within groups of cells.
const OPTIONS: [&str; 8] = [
    "--values",
    "binned",
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
    let directory = tempdir().unwrap();
    let output = directory.path().join("corpus");
    succeed(tokenize(input, &output).args(OPTIONS).args(arguments));
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
    for file in [
        "csc_float32.h5ad",
        "dense_float32.h5ad",
        "cell_ranger_3",
        "genes_by_cells_of_r.csv.gz",
    ] {
        assert_computing_changes_nothing(formats("made").join(file).as_os_str(), &[]);
    }
}

#[test]
fn chosen_genes_do_not_depend_on_threads_and_memory() {
    let chosen = ["--min-cells", "20", "--n-hvg", "30", "--min-genes", "15"];
    assert_computing_changes_nothing(LARGE.as_os_str(), &chosen);
}

#[test]
fn several_inputs_do_not_depend_on_threads_and_memory() {
    let inputs = ["csr_float32.h5ad", "cell_ranger_3", "csc_float32.h5ad"];
    let inputs = inputs.map(|name| formats("made").join(name).display().to_string());
    let inputs = inputs.join(",");
    assert_computing_changes_nothing(inputs.as_ref(), &[]);
}

#[test]
fn a_sample_sheet_does_not_depend_on_threads_and_memory() {
    let directory = tempdir().unwrap();
    let sheet = directory.path().join("samples.csv");
    fs::hard_link(&*LARGE, directory.path().join("a.h5ad"))
        .or_else(|_| fs::copy(&*LARGE, directory.path().join("a.h5ad")).map(drop))
        .unwrap();
    fs::write(&sheet, "sample,path\none,a.h5ad\ntwo,a.h5ad\n").unwrap();
    let found = COMPUTING.map(|computing| {
        let output = directory.path().join(computing.concat());
        succeed(from_sheet(&sheet, &output).args(OPTIONS).args(computing));
        bytes(&output)
    });
    for (other, computing) in found.iter().zip(&COMPUTING) {
        assert_same(other, &found[0], &format!("{computing:?}"));
    }
}

#[test]
fn other_storage_of_the_same_cells_gives_the_same_corpus() {
    let of = |file: &str| corpus(formats("made").join(file).as_os_str(), &[]);
    let expected = of("csr_float32.h5ad");
    for file in [
        "csc_float32.h5ad",
        "csr_int32.h5ad",
        "csr_int64_values_and_indices.h5ad",
        "csr_unsorted_indices.h5ad",
        "dense_float32.h5ad",
        "dense_float64_uncompressed.h5ad",
        "dense_uint16_lzf.h5ad",
        "lognorm_X_counts_layer.h5ad",
        "no_X_counts_layer.h5ad",
        "scaled_X_counts_in_raw.h5ad",
        "genes_by_cells.loom",
    ] {
        assert_same(&of(file), &expected, file);
    }
    assert_same(
        &of("cell_ranger_3.h5"),
        &of("cell_ranger_3"),
        "a 10x file and directory",
    );
}
