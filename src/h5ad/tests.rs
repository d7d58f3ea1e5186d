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

/// Additions of every kind for `n_cells` cells.
fn additions(n_cells: usize) -> Additions {
    let labels: Vec<Option<&str>> = (0..n_cells).map(|cell| [Some("β cell"), None, Some("acinar")][cell % 3]).collect();
    let number = |cell: usize| (cell % 4 != 0).then_some(cell as f64 / 8.0);
    let text = |cell: usize| (cell % 5 != 0).then(|| format!("note {cell}"));
    let obs = vec![
        ("new label".to_owned(), Column::from_labels(&labels)),
        ("new number".to_owned(), Column::Number((0..n_cells).map(number).collect())),
        ("new text".to_owned(), Column::Text((0..n_cells).map(|cell| Some(format!("{cell}"))).collect())),
        ("new note".to_owned(), Column::Text((0..n_cells).map(text).collect())),
        ("new flag".to_owned(), Column::Boolean((0..n_cells).map(|cell| Some(cell % 2 == 0)).collect())),
        ("new guess".to_owned(), Column::Boolean((0..n_cells).map(|cell| [None, Some(true)][cell % 2]).collect())),
    ];
    let embedding = Embedding { width: 3, values: (0..3 * n_cells).map(|at| at as f32 / 4.0).collect() };
    let value = json!({"tool": "scgpt", "seed": 7, "rate": 0.5, "frozen": false, "classes": ["a", "β"],
        "losses": [1.5, 0.25], "epochs": [1, 2], "nested": {"deeper": {"flags": [true, false], "big": 1e300}}});
    Additions { obs, obsm: vec![("X_new".to_owned(), embedding)], uns: vec![("new".to_owned(), value)], replace: false }
}

/// What `tests/python/check_additions.py` is to find.
fn expectation(additions: &Additions) -> serde_json::Value {
    let column = |column: &Column| match column {
        Column::Categorical { categories, ordered, .. } => {
            json!({"labels": column.to_labels(), "categories": categories, "ordered": ordered})
        }
        Column::Text(entries) => json!({"labels": entries}),
        Column::Number(entries) => json!({"labels": entries}),
        Column::Boolean(entries) => json!({"labels": entries}),
    };
    let obs: serde_json::Map<_, _> = additions.obs.iter().map(|(name, added)| (name.clone(), column(added))).collect();
    let rows = |embedding: &Embedding| json!(embedding.values.chunks(embedding.width).collect::<Vec<_>>());
    let obsm: serde_json::Map<_, _> = additions.obsm.iter().map(|(name, added)| (name.clone(), rows(added))).collect();
    let uns: serde_json::Map<_, _> = additions.uns.iter().cloned().collect();
    json!({"obs": obs, "obsm": obsm, "uns": uns})
}

/// An interpreter with anndata: `ANNDATA_PYTHON`, or the environment `.venv` of the checkout.
fn python() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("ANNDATA_PYTHON").map_or(local, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import anndata"]).output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped the check with Python: {} has no anndata", python.display());
    }
    found.then_some(python)
}

/// Fails unless `written` equals `original` (by default our own re-reading) plus the additions.
fn check_copy(original: &Path, written: &Path, added: &Additions) {
    let (before, after) = (File::open(original).unwrap(), File::open(written).unwrap());
    assert_eq!(before.cell_names().unwrap(), after.cell_names().unwrap());
    for name in before.obs_columns().unwrap() {
        assert_eq!(before.obs(&name).unwrap(), after.obs(&name).unwrap(), "{name}");
    }
    for (name, column) in &added.obs {
        assert_eq!(after.obs(name).unwrap(), *column, "{name}");
    }
    for source in before.sources().unwrap() {
        assert_eq!(read_all(&before, &source), read_all(&after, &source));
        for name in before.var_columns(&source).unwrap() {
            assert_eq!(before.var(&source, &name).unwrap(), after.var(&source, &name).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_copy_keeps_everything_and_has_the_additions() {
    let python = python();
    let folder = tempfile::tempdir().unwrap();
    let (written, again) = (folder.path().join("written.h5ad"), folder.path().join("again.h5ad"));
    let expected_json = folder.path().join("expected.json");
    for (path, _) in expected() {
        let before = std::fs::read(&path).unwrap();
        let added = additions(File::open(&path).unwrap().n_cells());
        write_copy(&path, &written, &added).unwrap();
        write_copy(&path, &again, &added).unwrap();
        assert!(std::fs::read(&written).unwrap() == std::fs::read(&again).unwrap(), "{} is not reproducible", path.display());
        assert!(std::fs::read(&path).unwrap() == before, "{} was modified", path.display());
        check_copy(&path, &written, &added);
        if let Some(python) = &python {
            std::fs::write(&expected_json, expectation(&added).to_string()).unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_additions.py");
            let output = Command::new(python).arg(script).args([&path, &written, &expected_json]).output().unwrap();
            let problem = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {problem}", path.display());
        }
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(left <= 3, "partial output was left behind");
}
