//! Real directories, their variants, what is rejected, and damaged files.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;
use crate::formats::Column;
use crate::formats::tests::{dense, exercise, expected, summary};
use crate::fuzz_mutations;
use crate::support::needs::formats;

const MEMORY: usize = 1 << 20;
const MATRIX: &str =
    "%%MatrixMarket matrix coordinate integer general\n%\n3 2 4\n1 1 5\n3 1 2\n2 2 7\n1 2 1\n";
const CELLS: &str = "AAAC-1\nAAAG-1\n";
const GENES: &str =
    "ENSG01\tTP53\tGene Expression\nENSG02\tMYC\tGene Expression\nENSG03\tCD3\tAntibody Capture\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

fn small(matrix: &str) -> TempDir {
    directory(&[
        ("matrix.mtx", matrix.as_bytes()),
        ("barcodes.tsv", CELLS.as_bytes()),
        ("features.tsv", GENES.as_bytes()),
    ])
}

fn problem(path: &Path) -> String {
    let opened = if path.is_dir() {
        open_directory(path, MEMORY)
    } else {
        open_file(path, MEMORY)
    };
    let error = opened.unwrap_err();
    assert!(!error.is_io(), "{error}");
    error.to_string()
}

#[test]
fn directories_of_cell_ranger_have_what_scanpy_reads() {
    for file in ["made/cell_ranger_2", "made/cell_ranger_3"] {
        let plain = open_directory(&formats(file), MEMORY).unwrap();
        assert_eq!(summary(&plain.matrix), expected(file));
        let [first, last] = [&plain.cell_names[0], plain.gene_names.last().unwrap()];
        match plain.var.len() {
            1 => assert_eq!(
                (first.as_str(), last.as_str()),
                ("AAAAAAAAAAAAAAAA-1", "GENE039")
            ),
            _ => {
                assert_eq!(plain.cell_names[1], "CAAAAAAAAAAAAAAA-1");
                assert_eq!(plain.gene_names[0], "GENE000");
                assert_eq!(
                    plain.var[0].1.to_labels()[0].as_deref(),
                    Some("ENSG00000000001")
                );
                assert_eq!(
                    plain.var[1].1.to_labels()[0].as_deref(),
                    Some("Gene Expression")
                );
            }
        }
    }
}

#[test]
fn ids_may_be_numbers() {
    let plain = open_directory(&formats("10x/int-ids"), MEMORY).unwrap();
    assert_eq!(summary(&plain.matrix), (5, 6, 3, 8.0));
    assert_eq!(plain.gene_names[3], "Gpr17");
    assert_eq!(plain.var[0].1.to_labels()[4].as_deref(), Some("100862323"));
    assert_eq!(dense(&plain.matrix)[2], [0.0, 0.0, 0.0, 6.0, 1.0, 1.0]);
}

#[test]
fn columns_of_features_become_names_and_annotations() {
    let plain = open_directory(small(MATRIX).path(), MEMORY).unwrap();
    assert_eq!(plain.cell_names, ["AAAC-1", "AAAG-1"]);
    assert_eq!(plain.gene_names, ["TP53", "MYC", "CD3"]);
    assert_eq!(dense(&plain.matrix), [[5.0, 0.0, 2.0], [1.0, 7.0, 0.0]]);
    let types = [
        Some("Gene Expression"),
        Some("Gene Expression"),
        Some("Antibody Capture"),
    ];
    let ids = ["ENSG01", "ENSG02", "ENSG03"].map(|id| Some(id.to_owned()));
    assert_eq!(
        plain.var,
        [
            ("gene_ids".to_owned(), Column::Text(ids.to_vec())),
            ("feature_types".to_owned(), Column::from_labels(&types)),
        ]
    );
}

#[test]
fn prefixes_compression_and_names_of_other_tools() {
    let packed = zstd::encode_all(CELLS.as_bytes(), 3).unwrap();
    let plain_genes = b"TP53\nMYC\n\"CD3\"\n";
    let geo = directory(&[
        ("GSM1_matrix.mtx.gz", &gzip(MATRIX.as_bytes())),
        ("GSM1_barcodes.tsv.zst", &packed),
        ("GSM1_genes.tsv.gz", &gzip(plain_genes)),
        ("other.txt", b""),
    ]);
    let kallisto = directory(&[
        ("cells_x_genes.mtx", b"%%MatrixMarket matrix coordinate real general\n2 3 4\n1 1 5.0\n1 3 2e0\n2 2 7\n2 1 1.\n"),
        ("cells_x_genes.barcodes.txt", CELLS.as_bytes()),
        ("cells_x_genes.genes.txt", plain_genes),
    ]);
    let bare = directory(&[
        ("counts.mtx", MATRIX.as_bytes()),
        ("barcodes.tsv", CELLS.as_bytes()),
        ("genes.tsv", plain_genes),
    ]);
    for directory in [geo, kallisto, bare] {
        let plain = open_directory(directory.path(), MEMORY).unwrap();
        assert_eq!(plain.gene_names, ["TP53", "MYC", "CD3"]);
        assert!(plain.var.is_empty());
        assert_eq!(dense(&plain.matrix), [[5.0, 0.0, 2.0], [1.0, 7.0, 0.0]]);
    }
}

#[test]
fn patterns_count_once_and_repeats_add_up() {
    let pattern = "%%MatrixMarket matrix coordinate PATTERN general\n3 2 3\n1 1\n3 2\n1 1\n";
    let plain = open_directory(small(pattern).path(), MEMORY).unwrap();
    assert_eq!(dense(&plain.matrix), [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
}

#[test]
fn several_or_missing_files_are_reported() {
    let several = directory(&[("a_matrix.mtx.gz", b""), ("b_matrix.mtx", b"")]);
    let found = problem(several.path());
    assert!(found.contains("`a_matrix.mtx`, `b_matrix.mtx`"), "{found}");
    assert!(problem(directory(&[]).path()).contains("no `matrix.mtx`"));
    let alone = directory(&[("GSM2_matrix.mtx", MATRIX.as_bytes())]);
    let found = problem(&alone.path().join("GSM2_matrix.mtx"));
    assert!(found.contains("`GSM2_barcodes.tsv`"), "{found}");
}

#[test]
fn what_is_not_read_is_rejected_with_its_line() {
    let cases = [
        (
            "%%MatrixMarket matrix array real general\n3 2\n",
            "`matrix array real general` was found",
        ),
        (
            "%%MatrixMarket matrix coordinate complex general\n",
            "complex general` was found",
        ),
        (
            "%%MatrixMarket matrix coordinate real symmetric\n",
            "symmetric",
        ),
        ("gene,cell\n", "is this a Matrix Market file?"),
        ("", "`` was found"),
        (
            "%%MatrixMarket matrix coordinate real general\n%\n",
            "before the line of sizes",
        ),
        (
            "%%MatrixMarket matrix coordinate real general\n3 2\n",
            "line 2: `3 2`",
        ),
        (
            "%%MatrixMarket matrix coordinate real general\n3 3 0\n",
            "it has 3 rows and 3 columns",
        ),
    ];
    for (matrix, expected) in cases {
        let found = problem(small(matrix).path());
        assert!(found.contains(expected), "{found}");
    }
    let entries = [
        ("0 1 1", "the row `0` is not one of 1 to 3"),
        ("1 3 1", "the column `3` is not one of 1 to 2"),
        ("-1 1 1", "the row `-1`"),
        ("1 1", "row, column and value were expected"),
        ("1 1 1 1", "row, column and value were expected"),
        ("1 1 nan", "`nan` is not a finite number"),
        ("1 1 1e99", "`1e99` is not a finite number"),
        ("1 1 1\n1 2 1", "line 4: there are more than the 1"),
        ("", "ends after 0 of 1"),
    ];
    for (entry, expected) in entries {
        let matrix = format!("%%MatrixMarket matrix coordinate real general\n3 2 1\n{entry}\n");
        let found = problem(small(&matrix).path());
        assert!(
            found.contains(expected) && found.contains("line "),
            "{found}"
        );
    }
}

#[test]
fn lists_with_missing_columns_are_rejected() {
    let directory = small(MATRIX);
    fs::write(directory.path().join("features.tsv"), "a\tb\nc\n").unwrap();
    let found = problem(directory.path());
    assert!(
        found.contains("features.tsv") && found.contains("line 2: `c`"),
        "{found}"
    );
}

#[test]
fn the_memory_given_changes_nothing() {
    let mut matrix = String::from("%%MatrixMarket matrix coordinate integer general\n90 70 6300\n");
    for at in 0..6300 {
        matrix += &format!("{} {} {}\n", at * 37 % 90 + 1, at * 31 % 70 + 1, at % 5);
    }
    let names = |n: usize| (0..n).map(|at| format!("n{at}\n")).collect::<String>();
    let directory = directory(&[
        ("matrix.mtx", matrix.as_bytes()),
        ("barcodes.tsv", names(70).as_bytes()),
        ("genes.tsv", names(90).as_bytes()),
    ]);
    let read = |memory| dense(&open_directory(directory.path(), memory).unwrap().matrix);
    assert_eq!(read(10_000), read(1 << 24));
}

#[test]
fn damaged_files_give_a_result_or_an_error() {
    let directory = small(MATRIX);
    let try_all = |name: &str, text: &str, exercise: &dyn Fn()| {
        let path = directory.path().join(name);
        let file = File::options().write(true).open(path).unwrap();
        for whole in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
            fuzz_mutations::each(&whole, |bytes| {
                fuzz_mutations::overwrite(&file, bytes);
                exercise();
            });
        }
        fuzz_mutations::overwrite(&file, text.as_bytes());
    };
    let matrix = directory.path().join("matrix.mtx");
    try_all("matrix.mtx", MATRIX, &|| {
        exercise(open_file(&matrix, MEMORY))
    });
    try_all("features.tsv", GENES, &|| {
        let companions = Companions::of_matrix(&matrix).unwrap();
        if let Err(error) = companions.read(MEMORY) {
            assert!(!error.is_io(), "{error}");
        }
    });
}
