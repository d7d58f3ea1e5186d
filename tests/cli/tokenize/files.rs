//! Every file of the collection, as read by the library and by the program.

use super::{INPUT, Made, assert_says, tokenize};
use crate::support::needs::{formats, real};
use crate::support::programs::fail;
use scgpt_tools::formats::{self, Matrix, Orientation, Source, Table};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

const MEMORY: usize = 1 << 26;

/// Expected result of a file.
enum Outcome {
    /// Cells and tokens of the corpus.
    Corpus(u64, u64),
    /// Fragments of the message.
    Rejected(&'static [&'static str]),
}
use Outcome::{Corpus, Rejected};

const MADE: Outcome = Corpus(300, 9839);
const NOT_ZIP: Outcome = Rejected(&["zip archive", "write the table as .h5ad"]);
const WHICH_SIDE: Outcome = Rejected(&["orientation cannot be inferred", "--orientation"]);
const NO_FIELDS: Outcome = Rejected(&["line 1", "to separate fields"]);

/// File or directory, options, and expected result.
const FILES: &[(&str, &[&str], Outcome)] = &[
    ("anndata_v0.7.0.h5ad", &[], Corpus(30, 228)),
    ("anndata_v0.7.8.h5ad", &[], Corpus(30, 239)),
    ("anndata_v0.11.4.h5ad", &[], Rejected(&["no matrix at all"])),
    ("anndata_v0.7.0.zarr.zip", &[], NOT_ZIP),
    ("anndata_v0.11.4.zarr.zip", &[], NOT_ZIP),
    (
        "mudata_v0.1.2.h5mu",
        &[],
        Rejected(&["no modality `rna`", "`mod1`", "`mod2`", "--modality"]),
    ),
    (
        "mudata_v0.1.2.h5mu",
        &["--modality", "mod1"],
        Corpus(100, 1999),
    ),
    (
        "mudata_v0.1.2.h5mu",
        &["--modality", "mod2"],
        Corpus(100, 3000),
    ),
    (
        "mudata_v0.4.1.h5mu",
        &["--modality", "mod3"],
        Rejected(&["no modality `mod3`", "`mod1`"]),
    ),
    (
        "mudata_v0.4.1.h5mu",
        &["--modality", "mod1"],
        Corpus(100, 1999),
    ),
    (
        "mudata_v0.4.1.h5mu",
        &["--modality", "mod2"],
        Corpus(100, 3000),
    ),
    ("made/categorical_with_nan_ordered_unused.h5ad", &[], MADE),
    ("made/csc_float32.h5ad", &[], MADE),
    ("made/csr_float32.h5ad", &[], MADE),
    ("made/csr_int32.h5ad", &[], MADE),
    ("made/csr_int64_values_and_indices.h5ad", &[], MADE),
    ("made/csr_unsorted_indices.h5ad", &[], MADE),
    ("made/dense_float32.h5ad", &[], MADE),
    ("made/dense_float64_uncompressed.h5ad", &[], MADE),
    ("made/dense_uint16_lzf.h5ad", &[], MADE),
    ("made/duplicate_cell_names.h5ad", &[], MADE),
    // Columns of the same gene are summed, which gives fewer tokens.
    ("made/duplicate_gene_names.h5ad", &[], Corpus(300, 9821)),
    // Two cells express no gene.
    ("made/empty_cells_and_gene.h5ad", &[], Corpus(298, 9552)),
    ("made/ensembl_versioned_index.h5ad", &[], MADE),
    ("made/lognorm_X_counts_layer.h5ad", &[], MADE),
    ("made/lognorm_X_counts_layer.h5ad", &["--matrix", "X"], MADE),
    ("made/lowercase_gene_names.h5ad", &[], MADE),
    ("made/no_X_counts_layer.h5ad", &[], MADE),
    ("made/nullable_columns.h5ad", &[], MADE),
    ("made/obsm_obsp_varm_uns.h5ad", &[], MADE),
    ("made/scaled_X_counts_in_raw.h5ad", &[], MADE),
    (
        "made/scaled_X_counts_in_raw.h5ad",
        &["--matrix", "X"],
        Rejected(&["matrix `X`", "scaled", "`raw`", "--matrix"]),
    ),
    ("made/string_labels_numeric_codes.h5ad", &[], MADE),
    ("made/unicode_and_named_index.h5ad", &[], MADE),
    ("made/zero_cells.h5ad", &[], Rejected(&["holds no cells"])),
    ("made/genes_by_cells.loom", &[], MADE),
    ("10x/int-ids", &[], Corpus(1, 3)),
    ("10x/int-ids/matrix.mtx", &[], Corpus(1, 3)),
    ("10x/int-ids/barcodes.tsv", &[], NO_FIELDS),
    ("10x/int-ids/features.tsv", &[], WHICH_SIDE),
    ("text/adata.csv", &[], WHICH_SIDE),
    (
        "text/adata.csv",
        &["--orientation", "cells-by-genes"],
        Corpus(3, 4),
    ),
    ("text/adata-comments.tsv", &[], WHICH_SIDE),
    (
        "text/adata-comments.tsv",
        &["--orientation", "genes-by-cells"],
        Corpus(2, 4),
    ),
    ("text/umi_tools.tsv.gz", &[], Corpus(2, 22)),
    ("made/compound_tables.h5ad", &[], MADE),
    ("made/gears_style.h5ad", &[], Corpus(48, 1365)),
    ("made/cellxgene_style.h5ad", &[], Corpus(120, 2521)),
    ("made/citeseq.h5mu", &[], Corpus(40, 1387)),
    (
        "made/citeseq.h5mu",
        &["--modality", "prot"],
        Corpus(40, 118),
    ),
    ("made/citeseq_prot.h5ad", &[], Corpus(40, 118)),
    ("made/citeseq_rna.h5ad", &[], Corpus(40, 1387)),
    ("made/genes_by_cells_of_r.csv.gz", &[], MADE),
    ("made/cell_ranger_2.h5", &[], Corpus(12, 74)),
    (
        "made/cell_ranger_2_two_genomes.h5",
        &[],
        Rejected(&["--genome", "`hg19`", "`mm10`"]),
    ),
    (
        "made/cell_ranger_2_two_genomes.h5",
        &["--genome", "hg19"],
        Corpus(12, 74),
    ),
    (
        "made/cell_ranger_2_two_genomes.h5",
        &["--genome", "mm10"],
        Corpus(12, 53),
    ),
    ("made/cell_ranger_2", &[], Corpus(12, 74)),
    ("made/cell_ranger_2/matrix.mtx", &[], Corpus(12, 74)),
    ("made/cell_ranger_2/barcodes.tsv", &[], NO_FIELDS),
    (
        "made/cell_ranger_2/genes.tsv",
        &[],
        Rejected(&["line 2", "is not a finite number"]),
    ),
    ("made/cell_ranger_3.h5", &[], Corpus(895, 5703)),
    ("made/cell_ranger_3", &[], Corpus(895, 5703)),
    ("made/cell_ranger_3/matrix.mtx.gz", &[], Corpus(895, 5703)),
    ("made/cell_ranger_3/barcodes.tsv.gz", &[], NO_FIELDS),
    (
        "made/cell_ranger_3/features.tsv.gz",
        &[],
        Rejected(&["line 2", "is not a finite number"]),
    ),
];

/// Files that are too large for this repository or have other licenses.
const REAL: &[(&str, &[&str], Outcome)] = &[
    ("anndata_v0.5.0.h5ad", &[], Corpus(700, 174400)),
    ("cellxgene_example_invalid_CL.h5ad", &[], Corpus(320, 20991)),
    (
        "cellxgene_example_with_labels.h5ad",
        &[],
        Corpus(320, 19430),
    ),
    ("norman2019_50x50_gears_style.h5ad", &[], Corpus(50, 167)),
    ("pbmc68k_reduced_scanpy.h5ad", &[], Corpus(700, 174400)),
    (
        "10x/v1.2.0/filtered_gene_bc_matrices_h5.h5",
        &[],
        Corpus(12, 12),
    ),
    (
        "10x/v1.2.0/multiple_genomes.h5",
        &[],
        Rejected(&["--genome", "`hg19_chr21`", "`another_genome`"]),
    ),
    (
        "10x/v1.2.0/multiple_genomes.h5",
        &["--genome", "hg19_chr21"],
        Corpus(12, 12),
    ),
    (
        "10x/v1.2.0/multiple_genomes.h5",
        &["--genome", "another_genome"],
        Corpus(12, 12),
    ),
    ("10x/v1.2.0/hg19_chr21", &[], Corpus(12, 12)),
    ("10x/v1.2.0/hg19_chr21/matrix.mtx", &[], Corpus(12, 12)),
    ("10x/v1.2.0/hg19_chr21/barcodes.tsv", &[], NO_FIELDS),
    ("10x/v1.2.0/hg19_chr21/genes.tsv", &[], WHICH_SIDE),
    (
        "10x/v3.0.0/filtered_feature_bc_matrix.h5",
        &[],
        Corpus(1107, 23866),
    ),
    (
        "10x/v3.0.0/filtered_feature_bc_matrix",
        &[],
        Corpus(1107, 23866),
    ),
    (
        "10x/v3.0.0/filtered_feature_bc_matrix/matrix.mtx.gz",
        &[],
        Corpus(1107, 23866),
    ),
    (
        "10x/v3.0.0/filtered_feature_bc_matrix/barcodes.tsv.gz",
        &[],
        NO_FIELDS,
    ),
    (
        "10x/v3.0.0/filtered_feature_bc_matrix/features.tsv.gz",
        &[],
        Rejected(&["line 2", "is not a finite number"]),
    ),
    (
        "10x/visium_2.1.0_raw_probe_bc_matrix.h5",
        &[],
        Corpus(717, 858),
    ),
    ("text/sc_dropseq.count.csv.gz", &[], Corpus(225, 1290921)),
    ("text/sc_dropseq.metadata.csv.gz", &[], WHICH_SIDE),
];

#[test]
fn every_file_is_tokenized_or_rejected_with_a_reason() {
    assert_outcomes(&formats(""), FILES);
}

#[test]
fn every_real_file_is_tokenized_or_rejected_with_a_reason() {
    if let Some(directory) = real("formats") {
        assert_outcomes(&directory, REAL);
    }
}

fn assert_outcomes(directory: &Path, files: &[(&str, &[&str], Outcome)]) {
    for (file, arguments, outcome) in files {
        let input = directory.join(file);
        match outcome {
            Corpus(cells, tokens) => {
                let manifest = Made::from(&input, arguments).manifest();
                let found = [&manifest["cells"], &manifest["tokens"]];
                assert_eq!(found, [cells, tokens], "{file} {arguments:?}");
            }
            Rejected(parts) => {
                let output = tempdir().unwrap();
                let output = output.path().join("corpus");
                let message = fail(tokenize(&input, &output).args(*arguments), INPUT);
                assert_says(&message, parts);
                assert_says(&message, &[file]);
                assert!(!output.exists());
            }
        }
    }
}

#[test]
fn all_files_are_tested() {
    let directory = formats("");
    let known: BTreeSet<&str> = FILES.iter().map(|(file, ..)| *file).collect();
    let mut directories = vec![directory.clone()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&directory).unwrap().to_str().unwrap();
            if path.is_dir() {
                directories.push(path);
            } else if !["EXPECTED.tsv", "README.md", "make.py"].contains(&name) {
                assert!(known.contains(name), "`{name}` has no expectation");
            }
        }
    }
}

/// Number of nonzero values, and their sum.
fn summary(matrix: &Matrix) -> (usize, f64) {
    let (mut n_values, mut sum) = (0, 0.0);
    for block in matrix.blocks(100_000).unwrap() {
        let values = matrix.read(block).unwrap().values;
        n_values += values.iter().filter(|value| **value != 0.0).count();
        sum += values.iter().copied().map(f64::from).sum::<f64>();
    }
    (n_values, sum)
}

fn open(
    path: &Path,
    modality: Option<&str>,
    genome: Option<&str>,
) -> Result<Table, formats::Error> {
    let options = formats::Options {
        modality: modality.map(str::to_owned),
        genome: genome.map(str::to_owned),
        orientation: Orientation::default(),
    };
    formats::open(path, &options, None, MEMORY)
}

fn assert_matrix(table: &Table, shape: [usize; 2], n_values: usize, sum: f64, what: &str) {
    let matrix = table.matrix(&Source::X).unwrap();
    let (found, found_sum) = summary(&matrix);
    assert_eq!([matrix.n_cells(), matrix.n_genes()], shape, "{what}");
    assert_eq!(found, n_values, "{what}");
    assert!(
        (found_sum - sum).abs() <= 1e-6 * sum.abs() + 0.02,
        "{what}: {found_sum}"
    );
    assert_eq!(table.n_cells(), shape[0], "{what}");
    assert_eq!(
        table.gene_names(&Source::X).unwrap().len(),
        shape[1],
        "{what}"
    );
}

/// `raw.X (700, 765)` in a note.
fn assert_raw(table: &Table, note: &str, what: &str) {
    let raw = table.matrix(&Source::Raw);
    let Some((_, shape)) = note.split_once("raw.X ") else {
        assert!(raw.is_err(), "{what}");
        return;
    };
    let raw = raw.unwrap();
    assert_eq!(
        format!("({}, {})", raw.n_cells(), raw.n_genes()),
        shape,
        "{what}"
    );
    assert_eq!(
        table.gene_names(&Source::Raw).unwrap().len(),
        raw.n_genes(),
        "{what}"
    );
}

#[test]
fn every_matrix_has_the_shape_and_sum_that_other_programs_read() {
    assert_matrices(&formats(""));
}

#[test]
fn every_real_matrix_has_the_shape_and_sum_that_other_programs_read() {
    if let Some(directory) = real("formats") {
        assert_matrices(&directory);
    }
}

fn assert_matrices(directory: &Path) {
    let expected = fs::read_to_string(directory.join("EXPECTED.tsv")).unwrap();
    for line in expected.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        let [file, kind, cells, genes, storage, n_values, sum, obs] = row[..8] else {
            panic!("{line}");
        };
        let note = row.get(8).copied().unwrap_or_default();
        let genome = kind.split_once("genome=").map(|(_, genome)| genome);
        let table = open(&directory.join(file), None, genome);
        if matches!(kind, "zarr.zip" | "h5mu") {
            assert!(table.is_err(), "{file}");
            continue;
        }
        let table = table.unwrap();
        if storage == "none" {
            assert!(table.matrix(&Source::X).is_err(), "{file}");
        } else {
            let shape = [cells, genes].map(|n| n.parse().unwrap());
            assert_matrix(
                &table,
                shape,
                n_values.parse().unwrap(),
                sum.parse().unwrap(),
                line,
            );
        }
        if kind == "h5ad" {
            assert_eq!(table.obs_columns().unwrap().join(","), obs, "{file}");
            assert_raw(&table, note, file);
        }
    }
}

#[test]
fn modalities_are_what_mudata_reads() {
    for file in ["mudata_v0.1.2.h5mu", "mudata_v0.4.1.h5mu"] {
        let modality = |name| open(&formats(file), Some(name), None).unwrap();
        assert_matrix(&modality("mod1"), [100, 20], 1999, 199_900.0, file);
        assert_matrix(&modality("mod2"), [100, 30], 3000, 4_801_500.0, file);
        let genes = modality("mod2").gene_names(&Source::X).unwrap();
        assert_eq!(genes[..2], ["mod2_var_0", "mod2_var_1"]);
        // Annotations of all modalities describe the cells of each.
        let columns = modality("mod2").obs_columns().unwrap();
        assert!(columns.contains(&"arange".to_owned()), "{columns:?}");
    }
}
