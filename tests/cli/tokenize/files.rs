//! Every file of the collection: what the library reads of it, and what the program makes of it.

use super::{INPUT, Made, assert_says, tokenize};
use crate::support::formats;
use crate::support::programs::fail;
use scgpt_tools::formats::{self, Matrix, Orientation, Source, Table};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

const MEMORY: usize = 1 << 26;

/// What becomes of a file.
enum Outcome {
    /// Cells and tokens of the corpus.
    Corpus(u64, u64),
    /// What the message says.
    Refused(&'static [&'static str]),
}
use Outcome::{Corpus, Refused};

const ODD: Outcome = Corpus(300, 81155);
const NOT_ZIP: Outcome = Refused(&["zip archive", "write the table as .h5ad"]);
const WHICH_SIDE: Outcome = Refused(&["are cells or genes", "--orientation"]);
const NO_FIELDS: Outcome = Refused(&["line 1", "to separate fields"]);

/// File or folder, options, and what becomes of it.
const FILES: &[(&str, &[&str], Outcome)] = &[
    ("anndata_v0.5.0.h5ad", &[], Corpus(700, 174400)),
    ("anndata_v0.7.0.h5ad", &[], Corpus(30, 228)),
    ("anndata_v0.7.8.h5ad", &[], Corpus(30, 239)),
    ("anndata_v0.11.4.h5ad", &[], Refused(&["no matrix at all"])),
    ("anndata_v0.7.0.zarr.zip", &[], NOT_ZIP),
    ("anndata_v0.11.4.zarr.zip", &[], NOT_ZIP),
    ("cellxgene_example_invalid_CL.h5ad", &[], Corpus(320, 20991)),
    (
        "cellxgene_example_with_labels.h5ad",
        &[],
        Corpus(320, 19430),
    ),
    ("norman2019_50x50_gears_style.h5ad", &[], Corpus(50, 167)),
    ("pbmc68k_reduced_scanpy.h5ad", &[], Corpus(700, 174400)),
    (
        "mudata_v0.1.2.h5mu",
        &[],
        Refused(&["no modality `rna`", "`mod1`", "`mod2`", "--modality"]),
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
        Refused(&["no modality `mod3`", "`mod1`"]),
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
    ("odd/categorical_with_nan_ordered_unused.h5ad", &[], ODD),
    ("odd/csc_float32.h5ad", &[], ODD),
    ("odd/csr_float32.h5ad", &[], ODD),
    ("odd/csr_int32.h5ad", &[], ODD),
    ("odd/csr_int64_values_and_indices.h5ad", &[], ODD),
    ("odd/csr_unsorted_indices.h5ad", &[], ODD),
    ("odd/dense_float32.h5ad", &[], ODD),
    ("odd/dense_float64_uncompressed.h5ad", &[], ODD),
    ("odd/dense_uint16_lzf.h5ad", &[], ODD),
    ("odd/duplicate_cell_names.h5ad", &[], ODD),
    // Columns of one gene are added up, which makes fewer tokens.
    ("odd/duplicate_gene_names.h5ad", &[], Corpus(300, 80936)),
    // Two cells express nothing.
    ("odd/empty_cells_and_gene.h5ad", &[], Corpus(298, 80327)),
    ("odd/ensembl_versioned_index.h5ad", &[], ODD),
    ("odd/lognorm_X_counts_layer.h5ad", &[], ODD),
    ("odd/lognorm_X_counts_layer.h5ad", &["--matrix", "X"], ODD),
    ("odd/lowercase_gene_names.h5ad", &[], ODD),
    ("odd/no_X_counts_layer.h5ad", &[], ODD),
    ("odd/nullable_columns.h5ad", &[], ODD),
    ("odd/obsm_obsp_varm_uns.h5ad", &[], ODD),
    ("odd/scaled_X_counts_in_raw.h5ad", &[], ODD),
    (
        "odd/scaled_X_counts_in_raw.h5ad",
        &["--matrix", "X"],
        Refused(&["matrix `X`", "scaled", "`raw`", "--matrix"]),
    ),
    ("odd/string_labels_numeric_codes.h5ad", &[], ODD),
    ("odd/unicode_and_named_index.h5ad", &[], ODD),
    ("odd/zero_cells.h5ad", &[], Refused(&["holds no cells"])),
    ("odd/genes_by_cells.loom", &[], ODD),
    ("10x/int-ids", &[], Corpus(1, 3)),
    ("10x/int-ids/matrix.mtx", &[], Corpus(1, 3)),
    ("10x/int-ids/barcodes.tsv", &[], NO_FIELDS),
    ("10x/int-ids/features.tsv", &[], WHICH_SIDE),
    (
        "10x/v1.2.0/filtered_gene_bc_matrices_h5.h5",
        &[],
        Corpus(12, 12),
    ),
    (
        "10x/v1.2.0/multiple_genomes.h5",
        &[],
        Refused(&["--genome", "`hg19_chr21`", "`another_genome`"]),
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
        Refused(&["line 2", "is not a finite number"]),
    ),
    (
        "10x/visium_2.1.0_raw_probe_bc_matrix.h5",
        &[],
        Corpus(717, 858),
    ),
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
    ("text/sc_dropseq.count.csv.gz", &[], Corpus(225, 1290921)),
    ("text/sc_dropseq.metadata.csv.gz", &[], WHICH_SIDE),
    ("text/umi_tools.tsv.gz", &[], Corpus(2, 22)),
];

#[test]
fn every_file_becomes_a_corpus_or_is_refused_for_a_reason() {
    let Some(folder) = formats() else { return };
    for (file, arguments, outcome) in FILES {
        let input = folder.join(file);
        match outcome {
            Corpus(cells, tokens) => {
                let manifest = Made::from(&input, arguments).manifest();
                let found = [&manifest["cells"], &manifest["tokens"]];
                assert_eq!(found, [cells, tokens], "{file} {arguments:?}");
            }
            Refused(parts) => {
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
fn no_file_is_forgotten() {
    let Some(folder) = formats() else { return };
    let known: BTreeSet<&str> = FILES.iter().map(|(file, ..)| *file).collect();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if name != "EXPECTED.tsv" {
                assert!(known.contains(name), "`{name}` has no expectation");
            }
        }
    }
}

/// Values that are not zero, and their sum.
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
    let Some(folder) = formats() else { return };
    let expected = fs::read_to_string(folder.join("EXPECTED.tsv")).unwrap();
    for line in expected.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        let [file, kind, cells, genes, storage, n_values, sum, obs] = row[..8] else {
            panic!("{line}");
        };
        let note = row.get(8).copied().unwrap_or_default();
        let genome = kind.split_once("genome=").map(|(_, genome)| genome);
        let table = open(&folder.join(file), None, genome);
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
    let Some(folder) = formats() else { return };
    for file in ["mudata_v0.1.2.h5mu", "mudata_v0.4.1.h5mu"] {
        let modality = |name| open(&folder.join(file), Some(name), None).unwrap();
        assert_matrix(&modality("mod1"), [100, 20], 1999, 199_900.0, file);
        assert_matrix(&modality("mod2"), [100, 30], 3000, 4_801_500.0, file);
        let genes = modality("mod2").gene_names(&Source::X).unwrap();
        assert_eq!(genes[..2], ["mod2_var_0", "mod2_var_1"]);
        // Annotations of all modalities describe the cells of each.
        let columns = modality("mod2").obs_columns().unwrap();
        assert!(columns.contains(&"arange".to_owned()), "{columns:?}");
    }
}
