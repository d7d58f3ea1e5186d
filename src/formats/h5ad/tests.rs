//! Real files in every encoding, round trips, and damaged files.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use hdf5::types::{FixedAscii, FixedUnicode, H5Type};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::counts::Counts;
use crate::formats::{Column, Error, Matrix, Source};
use crate::support::needs::{formats, real};
use crate::support::python;

/// The `.h5ad` files of a directory, with what the Python readers return for them.
fn expected(directory: &Path) -> Vec<(PathBuf, csv::StringRecord)> {
    let mut table = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .flexible(true)
        .from_path(directory.join("EXPECTED.tsv"))
        .unwrap();
    let rows = table
        .records()
        .map(Result::unwrap)
        .filter(|row| &row[1] == "h5ad");
    let files: Vec<_> = rows.map(|row| (directory.join(&row[0]), row)).collect();
    assert!(files.len() > 20);
    files
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
    file.matrix(source)
        .unwrap()
        .read(0..file.n_cells())
        .unwrap()
}

#[test]
fn every_file_reads_as_in_python() {
    assert_reads_as_in_python(&formats(""));
}

#[test]
fn every_real_file_reads_as_in_python() {
    if let Some(directory) = real("formats") {
        assert_reads_as_in_python(&directory);
    }
}

fn assert_reads_as_in_python(directory: &Path) {
    for (path, row) in expected(directory) {
        let name = &row[0];
        let file = File::open(&path).unwrap();
        assert_eq!(file.n_cells().to_string(), row[2], "{name}");
        assert_eq!(file.cell_names().unwrap().len(), file.n_cells(), "{name}");
        assert_eq!(
            file.gene_names(&Source::X).unwrap().len().to_string(),
            row[3],
            "{name}"
        );
        assert_eq!(file.obs_columns().unwrap().join(","), row[7], "{name}");
        for column in file.obs_columns().unwrap() {
            assert_eq!(
                file.obs(&column).unwrap().to_labels().len(),
                file.n_cells(),
                "{name} {column}"
            );
        }
        for column in file.var_columns(&Source::X).unwrap() {
            file.var(&Source::X, &column).unwrap();
        }
        let raw = row[8].strip_prefix("raw.X ");
        assert_eq!(
            file.sources().unwrap().contains(&Source::Raw),
            raw.is_some(),
            "{name}"
        );
        if let Some(shape) = raw {
            let matrix = file.matrix(&Source::Raw).unwrap();
            assert_eq!(
                format!("({}, {})", matrix.n_cells(), matrix.n_genes()),
                shape,
                "{name}"
            );
            assert_eq!(
                file.gene_names(&Source::Raw).unwrap().len(),
                matrix.n_genes(),
                "{name}"
            );
            summary(&matrix, &matrix.blocks(1000).unwrap());
        }
        if &row[4] == "none" {
            assert!(!file.sources().unwrap().contains(&Source::X), "{name}");
            continue;
        }
        let matrix = file.matrix(&Source::X).unwrap();
        let whole = summary(&matrix, &matrix.blocks(usize::MAX).unwrap());
        assert_eq!(whole.0.to_string(), row[5], "{name}");
        let sum: f64 = row[6].parse().unwrap();
        // Python sums in single precision; the sum of scaled values is the small difference of large ones.
        assert!(
            (whole.1 - sum).abs() <= 1e-5 * sum.abs() + 0.1,
            "{name}: {} against {sum}",
            whole.1
        );
        assert_eq!(
            summary(&matrix, &matrix.blocks(5000).unwrap()).0,
            whole.0,
            "{name}"
        );
    }
}

#[test]
fn encodings_of_the_same_cells_agree() {
    let open = |name: &str| File::open(&formats(&format!("made/{name}.h5ad"))).unwrap();
    let reference = open("csr_float32");
    let (expected, celltype) = (
        read_all(&reference, &Source::X),
        reference.obs("celltype").unwrap(),
    );
    let same = "csc_float32 csr_int32 csr_int64_values_and_indices csr_unsorted_indices dense_float32 dense_float64_uncompressed \
                dense_uint16_lzf duplicate_gene_names nullable_columns obsm_obsp_varm_uns unicode_and_named_index";
    for name in same.split_whitespace() {
        let file = open(name);
        assert_eq!(read_all(&file, &Source::X), expected, "{name}");
        let some = file.matrix(&Source::X).unwrap().read(17..23).unwrap();
        assert_eq!(
            some,
            expected.select_cells(&[17, 18, 19, 20, 21, 22]),
            "{name}"
        );
        assert_eq!(
            file.obs("celltype").unwrap().to_labels(),
            celltype.to_labels(),
            "{name}"
        );
    }
    let layered = open("no_X_counts_layer");
    assert_eq!(
        read_all(&layered, &Source::Layer("counts".into())),
        expected
    );
    let problem = layered.matrix(&Source::X).err().unwrap().to_string();
    assert!(
        problem.contains("there is no matrix `X`, it has `layers/counts`"),
        "{problem}"
    );
    let raw = open("scaled_X_counts_in_raw");
    assert_eq!(read_all(&raw, &Source::Raw), expected);
}

/// Additions of every type for `n_cells` cells.
fn additions(n_cells: usize) -> Additions {
    let labels: Vec<Option<&str>> = (0..n_cells)
        .map(|cell| [Some("β cell"), None, Some("acinar")][cell % 3])
        .collect();
    let number = |cell: usize| (!cell.is_multiple_of(4)).then_some(cell as f64 / 8.0);
    let text = |cell: usize| (!cell.is_multiple_of(5)).then(|| format!("note {cell}"));
    let obs = vec![
        ("new label".to_owned(), Column::from_labels(&labels)),
        (
            "new number".to_owned(),
            Column::Number((0..n_cells).map(number).collect()),
        ),
        (
            "new text".to_owned(),
            Column::Text((0..n_cells).map(|cell| Some(format!("{cell}"))).collect()),
        ),
        (
            "new note".to_owned(),
            Column::Text((0..n_cells).map(text).collect()),
        ),
        (
            "new flag".to_owned(),
            Column::Boolean((0..n_cells).map(|cell| Some(cell % 2 == 0)).collect()),
        ),
        (
            "new prediction".to_owned(),
            Column::Boolean(
                (0..n_cells)
                    .map(|cell| [None, Some(true)][cell % 2])
                    .collect(),
            ),
        ),
    ];
    let embedding = Embedding {
        width: 3,
        values: (0..3 * n_cells).map(|at| at as f32 / 4.0).collect(),
    };
    let value = json!({"tool": "scgpt", "seed": 7, "rate": 0.5, "frozen": false, "classes": ["a", "β"],
        "losses": [1.5, 0.25], "epochs": [1, 2], "nested": {"deeper": {"flags": [true, false], "big": 1e300}}});
    Additions {
        obs,
        obsm: vec![("X_new".to_owned(), embedding)],
        obsp: vec![("new".to_owned(), neighbors(n_cells))],
        uns: vec![("new".to_owned(), value)],
        replace: false,
    }
}

/// A graph in which every cell is linked to the next one and some to themselves.
fn neighbors(n_cells: usize) -> Counts {
    let row = |cell: usize| {
        let mut row = vec![((cell + 1) % n_cells, 0.25)];
        if cell.is_multiple_of(3) && n_cells > 1 {
            row.push((cell, 1.5));
        }
        row.sort_by_key(|(other, _)| *other);
        row.into_iter().map(|(other, value)| (other as u32, value))
    };
    Counts::from_rows(n_cells, (0..n_cells).map(row))
}

/// What `tests/python/check_additions.py` is to find.
fn expectation(additions: &Additions) -> serde_json::Value {
    let column = |column: &Column| match column {
        Column::Categorical {
            categories,
            ordered,
            ..
        } => {
            json!({"labels": column.to_labels(), "categories": categories, "ordered": ordered})
        }
        Column::Text(entries) => json!({"labels": entries}),
        Column::Number(entries) => json!({"labels": entries}),
        Column::Boolean(entries) => json!({"labels": entries}),
    };
    let obs: serde_json::Map<_, _> = additions
        .obs
        .iter()
        .map(|(name, added)| (name.clone(), column(added)))
        .collect();
    let rows =
        |embedding: &Embedding| json!(embedding.values.chunks(embedding.width).collect::<Vec<_>>());
    let obsm: serde_json::Map<_, _> = additions
        .obsm
        .iter()
        .map(|(name, added)| (name.clone(), rows(added)))
        .collect();
    let rows = |graph: &Counts| json!(graph.rows().collect::<Vec<_>>());
    let obsp: serde_json::Map<_, _> = additions
        .obsp
        .iter()
        .map(|(name, added)| (name.clone(), rows(added)))
        .collect();
    let uns: serde_json::Map<_, _> = additions.uns.iter().cloned().collect();
    json!({"obs": obs, "obsm": obsm, "obsp": obsp, "uns": uns})
}

/// Fails unless `written` reads as `original` with the additions.
fn check_copy(original: &Path, written: &Path, added: &Additions) {
    let (before, after) = (File::open(original).unwrap(), File::open(written).unwrap());
    assert_eq!(before.cell_names().unwrap(), after.cell_names().unwrap());
    for name in before.obs_columns().unwrap() {
        assert_eq!(
            before.obs(&name).unwrap(),
            after.obs(&name).unwrap(),
            "{name}"
        );
    }
    for (name, column) in &added.obs {
        assert_eq!(after.obs(name).unwrap(), *column, "{name}");
    }
    for source in before.sources().unwrap() {
        assert_eq!(read_all(&before, &source), read_all(&after, &source));
        for name in before.var_columns(&source).unwrap() {
            assert_eq!(
                before.var(&source, &name).unwrap(),
                after.var(&source, &name).unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn a_copy_keeps_everything_and_has_the_additions() {
    assert_copies(&formats(""));
}

#[test]
fn a_copy_of_a_real_file_keeps_everything_and_has_the_additions() {
    if let Some(directory) = real("formats") {
        assert_copies(&directory);
    }
}

fn assert_copies(directory: &Path) {
    let python = python::python();
    let output = tempfile::tempdir().unwrap();
    let (written, again) = (
        output.path().join("written.h5ad"),
        output.path().join("again.h5ad"),
    );
    let expected_json = output.path().join("expected.json");
    for (path, _) in expected(directory) {
        let before = std::fs::read(&path).unwrap();
        let added = additions(File::open(&path).unwrap().n_cells());
        write_copy(&path, &written, &added).unwrap();
        write_copy(&path, &again, &added).unwrap();
        assert!(
            std::fs::read(&written).unwrap() == std::fs::read(&again).unwrap(),
            "{} is not reproducible",
            path.display()
        );
        assert!(
            std::fs::read(&path).unwrap() == before,
            "{} was modified",
            path.display()
        );
        check_copy(&path, &written, &added);
        if let Some(python) = &python {
            std::fs::write(&expected_json, expectation(&added).to_string()).unwrap();
            python::check(
                python,
                "check_additions.py",
                &[&path, &written, &expected_json],
            );
        }
    }
    let left = std::fs::read_dir(output.path()).unwrap().count();
    assert!(left <= 3, "partial output remains");
}

/// A file of three cells and four genes to be changed through HDF5 by `edit`.
fn edited(
    directory: &tempfile::TempDir,
    edit: impl FnOnce(&hdf5::File) -> hdf5::Result<()>,
) -> PathBuf {
    let path = directory.path().join("edited.h5ad");
    let counts = small();
    create(&path, &Cells::new(&counts, &names("c", 3), &names("g", 4))).unwrap();
    let file = write::unlocked().open_rw(&path).unwrap();
    edit(&file).unwrap();
    file.close().unwrap();
    path
}

fn small() -> Counts {
    Counts::from_rows(
        4,
        [vec![(0, 1.0), (3, 2.0)], vec![], vec![(1, 3.0), (2, 0.5)]],
    )
}

fn names(prefix: &str, n: usize) -> Vec<String> {
    (0..n).map(|at| format!("{prefix}{at}")).collect()
}

fn put<T: H5Type>(
    group: &hdf5::Group,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> hdf5::Result<()> {
    if group.link_exists(name) {
        group.unlink(name)?;
    }
    group
        .new_dataset::<T>()
        .shape(shape)
        .create(name)?
        .write_raw(values)
}

fn problem_of<T>(result: Result<T, Error>) -> String {
    let error = result.err().expect("an error was expected");
    assert!(!error.is_io(), "{error}");
    error.to_string()
}

#[test]
fn strings_of_any_fixed_length_are_read() {
    fn check<T: H5Type>(text: impl Fn(&str) -> T, long: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = edited(&directory, |file| {
            let texts = [text("a"), text(""), text(long)];
            put(&file.group("obs")?, "t", &[3], &texts)?;
            encode::column_order(&file.group("obs")?, &["t".to_owned()])
        });
        let entries = ["a", "", long].map(|text| Some(text.to_owned()));
        assert_eq!(
            File::open(&path).unwrap().obs("t").unwrap(),
            Column::Text(entries.to_vec())
        );
    }
    check(|text| FixedAscii::<1>::from_ascii(text).unwrap(), "z");
    check(|text| FixedAscii::<7>::from_ascii(text).unwrap(), "seven_7");
    check(|text| FixedUnicode::<9>::from_str(text).unwrap(), "β-Zell ");
    check(
        |text| FixedUnicode::<300>::from_str(text).unwrap(),
        &"é".repeat(150),
    );
    check(
        |text| FixedAscii::<20011>::from_ascii(text).unwrap(),
        &"x".repeat(20011),
    );
}

#[test]
fn the_index_may_be_a_group_and_codes_of_any_width() {
    let directory = tempfile::tempdir().unwrap();
    let path = edited(&directory, |file| {
        let obs = file.group("obs")?;
        obs.unlink("_index")?;
        let index = obs.create_group("_index")?;
        encode::mark(&index, "nullable-string-array", "0.1.0")?;
        encode::texts(&index, "values", &["x", "y", "z"])?;
        put(&index, "mask", &[3], &[false; 3])?;
        let wide = obs.create_group("wide")?;
        encode::mark(&wide, "categorical", "0.2.0")?;
        put(&wide, "codes", &[3], &[1i64, -1, 0])?;
        let categories = wide.create_group("categories")?;
        encode::texts(&categories, "values", &["low", "high"])?;
        put(&categories, "mask", &[2], &[false; 2])?;
        let unsigned = obs.create_group("unsigned")?;
        put(&unsigned, "codes", &[3], &[0u8, 0, 7])?;
        put(&unsigned, "categories", &[2], &[10i64, 20])?;
        put(&obs, "short", &[2], &[1.0f64, 2.0])?;
        encode::column_order(&obs, &["wide", "unsigned", "short"].map(str::to_owned))
    });
    let file = File::open(&path).unwrap();
    assert_eq!(file.cell_names().unwrap(), ["x", "y", "z"]);
    let wide = Column::Categorical {
        codes: vec![Some(1), None, Some(0)],
        categories: names_of(["low", "high"]),
        ordered: false,
    };
    assert_eq!(file.obs("wide").unwrap(), wide);
    assert!(problem_of(file.obs("unsigned")).contains("code 7 is not one of the 2 categories"));
    assert!(
        problem_of(file.obs("short")).contains("column `short` has 2 entries, 3 were expected")
    );
    assert!(problem_of(file.obs("Wide")).contains("there is no column `Wide`; there are `wide`, "));
    let copy = directory.path().join("copy.h5ad");
    write_copy(&path, &copy, &additions(3)).unwrap();
    assert_eq!(
        File::open(&copy).unwrap().cell_names().unwrap(),
        ["x", "y", "z"]
    );
}

fn names_of<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

#[test]
fn half_precision_repeated_and_unsorted_entries_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = edited(&directory, |file| {
        let x = file.group("X")?;
        put(&x, "indptr", &[4], &[0u32, 3, 3, 5])?;
        put(&x, "indices", &[5], &[3u64, 0, 3, 2, 1])?;
        put(
            &x,
            "data",
            &[5],
            &[1.5f32, 1.0, 0.5, 0.5, 3.0].map(half::f16::from_f32),
        )
    });
    assert_eq!(read_all(&File::open(&path).unwrap(), &Source::X), small());
    let path = edited(&directory, |file| {
        let x = file.group("X")?;
        x.delete_attr("encoding-type")?;
        encode::text_attribute(&x, "encoding-type", "csc_matrix")?;
        put(&x, "indptr", &[5], &[0i64, 1, 3, 4, 5])?;
        put(&x, "indices", &[5], &[0i16, 2, 2, 2, 0])?;
        put(&x, "data", &[5], &[1u8, 1, 2, 1, 2])
    });
    let by_gene = File::open(&path).unwrap();
    let expected = Counts::from_rows(
        4,
        [vec![(0, 1.0), (3, 2.0)], vec![], vec![(1, 3.0), (2, 1.0)]],
    );
    assert_eq!(read_all(&by_gene, &Source::X), expected);
    let matrix = by_gene.matrix(&Source::X).unwrap();
    // A matrix stays open without the file it came from.
    drop(by_gene);
    assert_eq!(matrix.read(2..3).unwrap(), expected.select_cells(&[2]));
    assert_eq!(matrix.blocks(3).unwrap(), [0..2, 2..3]);
    assert_eq!(matrix.n_stored(), Some(5));
}

#[test]
fn impossible_matrices_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let problem = |part: &str, edit: &dyn Fn(&hdf5::Group) -> hdf5::Result<()>| {
        let path = edited(&directory, |file| edit(&file.group("X")?));
        let file = File::open(&path).unwrap();
        let problem = problem_of(file.matrix(&Source::X).and_then(|matrix| matrix.read(0..3)));
        assert!(
            problem.contains(&format!("edited.h5ad`: `{part}`: ")),
            "{problem}"
        );
        problem
    };
    let indptr = problem("X/indptr", &|x| put(x, "indptr", &[4], &[0i32, 3, 2, 4]));
    assert!(indptr.contains("do not increase"), "{indptr}");
    problem("X/indptr", &|x| put(x, "indptr", &[4], &[0i32, 2, 2, 5]));
    problem("X/indptr", &|x| put(x, "indptr", &[4], &[-1i64, 2, 2, 4]));
    problem("X/indptr", &|x| put(x, "indptr", &[3], &[0i32, 2, 4]));
    let index = problem("X/indices", &|x| put(x, "indices", &[4], &[0i32, 4, 1, 2]));
    assert!(index.contains("index 4 is not one of 0 to 3"), "{index}");
    problem("X/indices", &|x| put(x, "indices", &[4], &[0i32, -1, 1, 2]));
    problem("X/indices", &|x| {
        put(x, "indices", &[4], &[0i64, 1 << 40, 1, 2])
    });
    problem("X", &|x| put(x, "indices", &[3], &[0i32, 1, 2]));
    let nan = problem("X", &|x| {
        put(x, "data", &[4], &[1.0f32, 1.0, 1.0, f32::NAN])
    });
    assert!(
        nan.contains("cell 2, gene 2 (counted from 0) is NaN"),
        "{nan}"
    );
    problem("X", &|x| put(x, "data", &[4], &[1e300f64, 1.0, 1.0, 1.0]));
    problem("X/data", &|x| put(x, "data", &[4], &[true; 4]));
    let huge = problem("X/indptr", &|x| {
        x.unlink("indptr")?;
        x.new_dataset::<i64>()
            .chunk([1024])
            .shape([1usize << 40])
            .create("indptr")
            .map(drop)
    });
    assert!(huge.contains("4 were expected"), "{huge}");
    let endless = problem("X/indptr", &|x| {
        let n = (1 << 20) + 3;
        put(x, "indptr", &[4], &[0, n - 2, n - 1, n])?;
        put(x, "indices", &[n as usize], &vec![0i32; n as usize])?;
        put(x, "data", &[n as usize], &vec![1f32; n as usize])
    });
    assert!(endless.contains("row 0 (counted from 0) has 1048577 values"));
    let dense = |shape: [usize; 2], values: &[f64]| {
        let path = edited(&directory, |file| {
            file.unlink("X")?;
            put(file, "X", &shape, values)
        });
        problem_of(
            File::open(&path)
                .unwrap()
                .matrix(&Source::X)
                .and_then(|matrix| matrix.read(0..3)),
        )
    };
    assert!(dense([2, 4], &[0.0; 8]).contains("3 cells and 4 genes"));
    let mut values = [0.0; 12];
    values[6] = f64::INFINITY;
    assert!(dense([3, 4], &values).contains("cell 1, gene 2 (counted from 0) is inf"));
}

#[test]
fn a_size_that_the_file_cannot_hold_is_rejected_before_memory_is_allocated() {
    let directory = tempfile::tempdir().unwrap();
    let path = edited(&directory, |file| {
        let obs = file.group("obs")?;
        obs.unlink("_index")?;
        obs.new_dataset::<i64>()
            .chunk([1024])
            .shape([1usize << 45])
            .create("_index")
            .map(drop)
    });
    let problem = problem_of(File::open(&path).and_then(|file| file.cell_names()));
    assert!(problem.contains("the file is damaged"), "{problem}");
}

#[test]
fn files_that_are_not_anndata_are_named_plainly() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    assert!(problem_of(File::open(&at("missing.h5ad"))).ends_with("there is no such file"));
    assert!(problem_of(File::open(directory.path())).contains("it is a directory"));
    std::fs::write(at("text.h5ad"), "cell,gene\n").unwrap();
    assert!(problem_of(File::open(&at("text.h5ad"))).contains("it is not an HDF5 file"));
    std::fs::write(at("empty.h5ad"), "").unwrap();
    assert!(problem_of(File::open(&at("empty.h5ad"))).contains("it is not an HDF5 file"));
    let other = write::unlocked().create(at("other.h5")).unwrap();
    other.create_group("matrix").unwrap();
    other.close().unwrap();
    let problem = problem_of(File::open(&at("other.h5")));
    assert!(
        problem.contains("`obs` was expected, there are `matrix`"),
        "{problem}"
    );
    let whole = std::fs::read(edited(&directory, |_| Ok(()))).unwrap();
    std::fs::write(at("half.h5ad"), &whole[..whole.len() / 2]).unwrap();
    assert!(problem_of(File::open(&at("half.h5ad"))).contains("the file is truncated"));
    assert!(
        Source::from_str("counts")
            .unwrap_err()
            .contains("`layers/NAME`")
    );
    for text in ["X", "raw", "layers/counts"] {
        assert_eq!(Source::from_str(text).unwrap().to_string(), text);
    }
}

#[test]
fn additions_that_do_not_fit_are_rejected_and_leave_no_partial_output() {
    let directory = tempfile::tempdir().unwrap();
    let input = edited(&directory, |_| Ok(()));
    let output = directory.path().join("output.h5ad");
    let column = |name: &str, n: usize| (name.to_owned(), Column::Number(vec![Some(1.0); n]));
    let with = |obs: Vec<(String, Column)>| Additions {
        obs,
        ..Additions::default()
    };
    let rejected = |added: &Additions| problem_of(write_copy(&input, &output, added));
    assert!(
        rejected(&with(vec![column("a", 2)])).contains("it has 2 entries, but there are 3 cells")
    );
    assert!(rejected(&with(vec![column("a/b", 3)])).contains("slash"));
    assert!(rejected(&with(vec![column("_index", 3)])).contains("`obs/_index`"));
    assert!(rejected(&with(vec![column("a", 3), column("a", 3)])).contains("added twice"));
    let zero = Additions {
        uns: vec![("a".to_owned(), json!({"b": ["c\0"]}))],
        ..Additions::default()
    };
    assert!(rejected(&zero).contains("zero byte"));
    let mixed = Additions {
        uns: vec![("a".to_owned(), json!([1, "b"]))],
        ..Additions::default()
    };
    assert!(rejected(&mixed).contains("only lists of"));
    let narrow = Embedding {
        width: 2,
        values: vec![0.0; 5],
    };
    let narrow = Additions {
        obsm: vec![("X_a".to_owned(), narrow)],
        ..Additions::default()
    };
    assert!(rejected(&narrow).contains("it has 5 values"));
    let small = Additions {
        obsp: vec![("a".to_owned(), Counts::from_rows(3, [[(0, 1.0)]; 2]))],
        ..Additions::default()
    };
    assert!(rejected(&small).contains("2 rows and 3 columns, but 3 cells by 3 cells"));
    assert!(
        problem_of(write_copy(&input, &input, &Additions::default())).contains("never modified")
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

    write_copy(&input, &output, &with(vec![column("a", 3)])).unwrap();
    let second = directory.path().join("second.h5ad");
    let mut added = with(vec![(
        "a".to_owned(),
        Column::from_labels(&[Some("x"), None, Some("y")]),
    )]);
    assert!(problem_of(write_copy(&output, &second, &added)).contains("`obs/a`"));
    added.replace = true;
    write_copy(&output, &second, &added).unwrap();
    let file = File::open(&second).unwrap();
    assert_eq!(
        (file.obs_columns().unwrap(), file.obs("a").unwrap()),
        (names_of(["a"]), added.obs[0].1.clone())
    );

    let nowhere = write_copy(
        &input,
        &directory.path().join("no/such/directory.h5ad"),
        &Additions::default(),
    )
    .unwrap_err();
    assert!(nowhere.is_io(), "{nowhere}");
}

#[test]
fn a_new_file_has_columns_of_genes_embeddings_graphs_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.h5ad");
    let (counts, added) = (small(), additions(3));
    let (cell_names, gene_names) = (names("c", 3), names("g", 4));
    let kinds = ["Gene Expression", "Gene Expression", "Peaks", "Peaks"].map(Some);
    let var = [("feature_types".to_owned(), Column::from_labels(&kinds))];
    let whole = Cells {
        obs: &added.obs,
        var: &var,
        obsm: &added.obsm,
        obsp: &added.obsp,
        uns: &added.uns,
        ..Cells::new(&counts, &cell_names, &gene_names)
    };
    create(&path, &whole).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(file.var(&Source::X, "feature_types").unwrap(), var[0].1);
    assert_eq!(read_all(&file, &Source::X), counts);
    // What `create` writes and what is added to a bare file are the same elements.
    let at = |name: &str| directory.path().join(name);
    let (bare, copy) = (at("bare.h5ad"), at("copy.h5ad"));
    let names_alone = Cells::new(&counts, &cell_names, &gene_names);
    create(
        &bare,
        &Cells {
            var: &var,
            ..names_alone
        },
    )
    .unwrap();
    write_copy(&bare, &copy, &added).unwrap();
    if let Some(python) = python::python() {
        let expected = directory.path().join("expected.json");
        std::fs::write(&expected, expectation(&added).to_string()).unwrap();
        python::check(&python, "check_additions.py", &[&bare, &path, &expected]);
        python::check(&python, "check_additions.py", &[&bare, &copy, &expected]);
    }
    let short = [("a".to_owned(), Column::Number(vec![None; 3]))];
    let wrong = Cells {
        var: &short,
        ..whole
    };
    assert!(problem_of(create(&path, &wrong)).contains("3 entries, but there are 4 genes"));
    let twice = [added.obsp.clone(), added.obsp.clone()].concat();
    let wrong = Cells {
        obsp: &twice,
        ..whole
    };
    assert!(problem_of(create(&path, &wrong)).contains("`obsp/new`"));
}

/// A multimodal file of two modalities: cells c0, c1 with RNA, c2, c1 with protein; its own table has them as c2, c0, c1.
fn multimodal(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("two.h5mu");
    let file = write::unlocked().create(&path).unwrap();
    let build = || -> hdf5::Result<()> {
        encode::mark(&file, "MuData", "0.1.0")?;
        let frame = |parent: &hdf5::Group, name: &str, index: &[&str]| -> hdf5::Result<()> {
            let frame = encode::group(parent, name)?;
            encode::texts(&frame, "_index", index)?;
            encode::mark_frame(&frame, "_index", &[])
        };
        frame(&file, "obs", &["c2", "c0", "c1"])?;
        frame(&file, "var", &["g0", "g1", "CD3"])?;
        let modalities = encode::group(&file, "mod")?;
        for (name, cells, genes) in [
            ("prot", ["c2", "c1"], &["CD3"][..]),
            ("rna", ["c0", "c1"], &["g0", "g1"]),
        ] {
            let modality = encode::group(&modalities, name)?;
            encode::mark(&modality, "anndata", "0.1.0")?;
            frame(&modality, "obs", &cells)?;
            frame(&modality, "var", genes)?;
            let values: Vec<f32> = (1..=2 * genes.len()).map(|at| at as f32).collect();
            encode::array(&modality, "X", &[2, genes.len()], &values)?;
        }
        for name in ["obsm", "obsp", "uns"] {
            encode::dict(&file, name)?;
        }
        Ok(())
    };
    build().unwrap();
    file.close().unwrap();
    path
}

#[test]
fn additions_to_a_multi_modal_file_describe_the_cells_of_all_modalities() {
    let directory = tempfile::tempdir().unwrap();
    let (path, output) = (multimodal(&directory), directory.path().join("out.h5mu"));
    assert_eq!(cell_names(&path).unwrap(), ["c2", "c0", "c1"]);
    assert_eq!(crate::formats::modalities(&path).unwrap(), ["prot", "rna"]);
    let added = additions(3);
    write_copy(&path, &output, &added).unwrap();
    check_copy(&path, &output, &added);
    assert_eq!(cell_names(&output).unwrap(), ["c2", "c0", "c1"]);
    let file = hdf5::File::open(&output).unwrap();
    for element in ["obsm/X_new", "obsp/new/indptr", "uns/new", "mod/rna/X"] {
        assert!(file.link_exists(element), "{element}");
    }
    assert!(!file.link_exists("mod/rna/obsm"));
    let twice = problem_of(write_copy(&output, &path.with_extension("2"), &added));
    assert!(twice.contains("has one of that name already"), "{twice}");
    assert!(problem_of(write_copy(&path, &output, &additions(2))).contains("3 cells"));
}

/// Reads everything there is; errors are fine, everything else is not.
fn exercise(path: &Path) -> Result<(), Error> {
    let file = File::open(path)?;
    let mut results = vec![file.cell_names().map(drop), file.sources().map(drop)];
    for name in file.obs_columns()? {
        results.push(file.obs(&name).map(|column| drop(column.to_labels())));
    }
    for source in file.sources()? {
        results.push(file.gene_names(&source).map(drop));
        for name in file.var_columns(&source)? {
            results.push(file.var(&source, &name).map(drop));
        }
        let matrix = file.matrix(&source)?;
        for block in matrix.blocks(100)? {
            results.push(matrix.read(block).map(drop));
        }
    }
    results.into_iter().collect()
}

/// A small file with every type of element.
fn specimen(directory: &tempfile::TempDir) -> Vec<u8> {
    let path = edited(directory, |file| {
        let dense: Vec<f64> = (0..12).map(f64::from).collect();
        put(&file.group("layers")?, "dense", &[3, 4], &dense)?;
        file.new_dataset::<f64>()
            .shape([3, 4])
            .deflate(4)
            .create("layers/packed")?
            .write_raw(&dense)
    });
    let written = directory.path().join("specimen.h5ad");
    write_copy(&path, &written, &additions(3)).unwrap();
    exercise(&written).unwrap();
    std::fs::read(written).unwrap()
}

#[test]
fn a_heap_cut_by_an_empty_region_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, path) = (specimen(&directory), directory.path().join("cut.h5ad"));
    let heap = memchr::memmem::find(&whole, b"GCOL").unwrap();
    for (from, to) in [(16, 4096), (16, 64), (512, 600), (2048, 4096)] {
        let mut cut = whole.clone();
        cut[heap + from..heap + to].fill(0);
        std::fs::write(&path, &cut).unwrap();
        if let Err(error) = exercise(&path) {
            assert!(!error.is_io(), "{error}");
        }
    }
    // The second object is so large that its end is its start, or that what follows is read within it.
    let wrapped =
        |size: u64| [&[9, 0, 1, 0, 0, 0, 0, 0], &size.to_le_bytes()[..], &[0; 16]].concat();
    let regions = [vec![0; 4080], wrapped(u64::MAX - 15), wrapped(u64::MAX)];
    for region in regions {
        let mut cut = whole.clone();
        cut[heap + 16..][..region.len()].copy_from_slice(&region);
        std::fs::write(&path, &cut).unwrap();
        assert!(problem_of(File::open(&path)).contains("cut by an empty region"));
    }
}

#[test]
fn truncated_files_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, path) = (
        specimen(&directory),
        directory.path().join("truncated.h5ad"),
    );
    for length in (0..whole.len()).step_by(whole.len() / 150) {
        std::fs::write(&path, &whole[..length]).unwrap();
        problem_of(exercise(&path));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_give_a_result_or_an_error(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("changed.h5ad");
        let mut bytes = specimen(&directory);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = exercise(&path);
        let _ = write_copy(&path, &directory.path().join("copy.h5ad"), &additions(3));
    }

    #[test]
    fn what_is_created_reads_back(rows in prop::collection::vec(prop::collection::btree_map(0u32..9, -4.0f32..4.0, 0..6), 0..12)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("created.h5ad");
        let counts = Counts::from_rows(9, rows);
        let n_cells = counts.n_cells();
        let obs = additions(n_cells).obs;
        let (cell_names, gene_names) = (names("c", n_cells), names("g", 9));
        let cells = Cells { obs: &obs, ..Cells::new(&counts, &cell_names, &gene_names) };
        create(&path, &cells).unwrap();
        let file = File::open(&path).unwrap();
        prop_assert_eq!(&read_all(&file, &Source::X), &counts);
        prop_assert_eq!(file.gene_names(&Source::X).unwrap(), names("g", 9));
        prop_assert_eq!(file.cell_names().unwrap(), names("c", n_cells));
        for (name, column) in &obs {
            prop_assert_eq!(&file.obs(name).unwrap(), column);
        }
        let matrix = file.matrix(&Source::X).unwrap();
        let blocks = matrix.blocks(7).unwrap();
        prop_assert_eq!(blocks.iter().map(Range::len).sum::<usize>(), n_cells);
        for block in blocks {
            let cells: Vec<usize> = block.clone().collect();
            prop_assert_eq!(matrix.read(block).unwrap(), counts.select_cells(&cells));
        }
    }
}

#[test]
fn python_reads_what_is_created() {
    let Some(python) = python::python() else {
        return;
    };
    let original = formats("made/categorical_with_nan_ordered_unused.h5ad");
    let file = File::open(&original).unwrap();
    let columns = file.obs_columns().unwrap();
    let obs: Vec<(String, Column)> = columns
        .into_iter()
        .map(|name| (name.clone(), file.obs(&name).unwrap()))
        .collect();
    let counts = read_all(&file, &Source::X);
    let cell_names = file.cell_names().unwrap();
    let gene_names = file.gene_names(&Source::X).unwrap();
    let cells = Cells {
        obs: &obs,
        ..Cells::new(&counts, &cell_names, &gene_names)
    };
    let output = tempfile::tempdir().unwrap();
    let created = output.path().join("created.h5ad");
    create(&created, &cells).unwrap();
    let compare = "import sys, anndata; a, b = map(anndata.read_h5ad, sys.argv[1:]); \
                   assert (a.X != b.X).nnz == 0 and b.X.dtype == 'float32' and a.obs.equals(b.obs) \
                   and (a.obs.dtypes == b.obs.dtypes).all() and (a.var_names == b.var_names).all()";
    let compared = Command::new(python)
        .args(["-c", compare])
        .args([&original, &created])
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{problem}");
}
