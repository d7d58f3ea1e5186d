//! Real files in every encoding, round trips, and damaged files.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::counts::Counts;

fn formats() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/formats");
    if !folder.is_dir() {
        println!("skipped: {} is absent", folder.display());
        return None;
    }
    Some(folder)
}

/// The `.h5ad` files of the collection, with what the Python readers return for them.
fn expected() -> Vec<(PathBuf, csv::StringRecord)> {
    let Some(folder) = formats() else { return Vec::new() };
    let mut table = csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_path(folder.join("EXPECTED.tsv")).unwrap();
    let rows = table.records().map(Result::unwrap).filter(|row| &row[1] == "h5ad");
    rows.map(|row| (folder.join(&row[0]), row)).collect()
}

fn summary(matrix: &Matrix, blocks: &[Range<usize>]) -> (usize, f64) {
    let mut summary = (0, 0.0);
    for block in blocks {
        for value in matrix.read(block.clone()).unwrap().values {
            summary.0 += usize::from(value != 0.0);
            summary.1 += f64::from(value);
        }
    }
    summary
}

fn read_all(file: &File, source: &Source) -> Counts {
    file.matrix(source).unwrap().read(0..file.n_cells()).unwrap()
}

#[test]
fn every_file_of_the_collection_reads_as_in_python() {
    for (path, row) in expected() {
        let name = &row[0];
        let file = File::open(&path).unwrap();
        assert_eq!(file.n_cells().to_string(), row[2], "{name}");
        assert_eq!(file.cell_names().unwrap().len(), file.n_cells(), "{name}");
        assert_eq!(file.gene_names(&Source::X).unwrap().len().to_string(), row[3], "{name}");
        assert_eq!(file.obs_columns().unwrap().join(","), row[7], "{name}");
        for column in file.obs_columns().unwrap() {
            assert_eq!(file.obs(&column).unwrap().to_labels().len(), file.n_cells(), "{name} {column}");
        }
        for column in file.var_columns(&Source::X).unwrap() {
            file.var(&Source::X, &column).unwrap();
        }
        let raw = row[8].strip_prefix("raw.X ");
        assert_eq!(file.sources().unwrap().contains(&Source::Raw), raw.is_some(), "{name}");
        if let Some(shape) = raw {
            let matrix = file.matrix(&Source::Raw).unwrap();
            assert_eq!(format!("({}, {})", matrix.n_cells(), matrix.n_genes()), shape, "{name}");
            assert_eq!(file.gene_names(&Source::Raw).unwrap().len(), matrix.n_genes(), "{name}");
            summary(&matrix, &matrix.blocks(1000).unwrap());
        }
        if &row[4] == "none" {
            assert!(!file.sources().unwrap().contains(&Source::X), "{name}");
            continue;
        }
        let matrix = file.matrix(&Source::X).unwrap();
        let whole = summary(&matrix, &[0..file.n_cells()]);
        assert_eq!(whole.0.to_string(), row[5], "{name}");
        let sum: f64 = row[6].parse().unwrap();
        // Python sums in single precision; the sum of scaled values is the small difference of large ones.
        assert!((whole.1 - sum).abs() <= 1e-5 * sum.abs() + 0.1, "{name}: {} against {sum}", whole.1);
        assert_eq!(summary(&matrix, &matrix.blocks(5000).unwrap()).0, whole.0, "{name}");
    }
}

#[test]
fn encodings_of_the_same_cells_agree() {
    let Some(folder) = formats() else { return };
    let reference = File::open(&folder.join("odd/csr_float32.h5ad")).unwrap();
    let (expected, celltype) = (read_all(&reference, &Source::X), reference.obs("celltype").unwrap());
    let same = "csc_float32 csr_int32 csr_int64_values_and_indices csr_unsorted_indices dense_float32 dense_float64_uncompressed \
                dense_uint16_lzf duplicate_gene_names nullable_columns obsm_obsp_varm_uns unicode_and_named_index";
    for name in same.split_whitespace() {
        let file = File::open(&folder.join(format!("odd/{name}.h5ad"))).unwrap();
        assert_eq!(read_all(&file, &Source::X), expected, "{name}");
        let some = file.matrix(&Source::X).unwrap().read(17..23).unwrap();
        assert_eq!(some, expected.select_cells(&[17, 18, 19, 20, 21, 22]), "{name}");
        assert_eq!(file.obs("celltype").unwrap().to_labels(), celltype.to_labels(), "{name}");
    }
    let layered = File::open(&folder.join("odd/no_X_counts_layer.h5ad")).unwrap();
    assert_eq!(read_all(&layered, &Source::Layer("counts".into())), expected);
    let problem = layered.matrix(&Source::X).err().unwrap().to_string();
    assert!(problem.contains("there is no matrix `X`, it has `layers/counts`"), "{problem}");
    let raw = File::open(&folder.join("odd/scaled_X_counts_in_raw.h5ad")).unwrap();
    assert_eq!(read_all(&raw, &Source::Raw), expected);
}
