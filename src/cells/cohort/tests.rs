//! Cohorts of small synthetic files: matching, odd files, annotations.

use std::path::PathBuf;

use super::*;
use crate::formats::h5ad;
use crate::support::needs::{formats, real};

use ModalityKind::{Atac, Protein, Rna};

type Rows<'a> = &'a [&'a [f32]];

/// A directory with made files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file and gives it as a source without a sample.
    fn file(
        &self,
        name: &str,
        kind: ModalityKind,
        cells: &[&str],
        features: &[&str],
        rows: Rows,
    ) -> Source {
        self.annotated(name, kind, (cells, features, rows), &[], &[])
    }

    fn annotated(
        &self,
        name: &str,
        kind: ModalityKind,
        (cells, features, rows): (&[&str], &[&str], Rows),
        obs: &[(&str, Column)],
        var: &[(&str, Column)],
    ) -> Source {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let row = |row: &&[f32]| -> Vec<(u32, f32)> {
            let values = (0..).zip(row.iter().copied());
            values.filter(|(_, value)| *value != 0.0).collect()
        };
        let counts = Counts::from_rows(features.len(), rows.iter().map(row));
        let named = |columns: &[(&str, Column)]| -> Vec<(String, Column)> {
            let own = |(name, column): &(&str, Column)| ((*name).to_owned(), column.clone());
            columns.iter().map(own).collect()
        };
        let (cells, features) = (texts(cells), texts(features));
        let content = h5ad::Cells {
            obs: &named(obs),
            var: &named(var),
            ..h5ad::Cells::new(&counts, &cells, &features)
        };
        h5ad::create(&path, &content).unwrap();
        Source {
            path,
            kind,
            sample: None,
            batch: None,
        }
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn of_sample(source: &Source, sample: &str) -> Source {
    Source {
        sample: Some(sample.to_owned()),
        ..source.clone()
    }
}

fn labels(labels: &[Option<&str>]) -> Column {
    Column::from_labels(labels)
}

fn read(sources: &[Source]) -> Cohort {
    Cohort::read(sources, &Options::default(), None).unwrap()
}

fn problem(sources: &[Source]) -> String {
    let error = Cohort::read(sources, &Options::default(), None);
    error.expect_err("an error was expected").to_string()
}

/// Rows of a modality; none where a cell was not measured.
fn rows(cohort: &Cohort, kind: ModalityKind) -> Vec<Option<Vec<f32>>> {
    let modality = cohort.modality(kind).unwrap();
    assert_eq!(modality.counts.n_cells(), cohort.n_cells());
    assert_eq!(modality.counts.n_genes, modality.features.len());
    let row = |(cell, measured): (usize, &bool)| {
        let (columns, values) = modality.counts.row(cell);
        assert!(columns.is_sorted() && (*measured || columns.is_empty()));
        let mut row = vec![0.0; modality.features.len()];
        for (&column, &value) in columns.iter().zip(values) {
            row[column as usize] = value;
        }
        measured.then_some(row)
    };
    modality.measured.iter().enumerate().map(row).collect()
}

fn samples(cohort: &Cohort) -> Vec<&str> {
    let name = |&sample: &usize| cohort.sample_names[sample].as_str();
    cohort.samples.iter().map(name).collect()
}

fn has_note(cohort: &Cohort, parts: &[&str]) -> bool {
    let all = |note: &String| parts.iter().all(|part| note.contains(part));
    cohort.notes.iter().any(all)
}

#[test]
fn cells_of_one_name_are_one_cell_and_those_of_one_modality_stay() {
    let folder = Folder::new();
    let rna = folder.file(
        "rna.h5ad",
        Rna,
        &["a", "b", "c"],
        &["G1", "G2"],
        &[&[1., 0.], &[0., 2.], &[3., 4.]],
    );
    let protein = folder.file(
        "adt.h5ad",
        Protein,
        &["d", "c", "a"],
        &["CD3"],
        &[&[7.], &[0.], &[5.]],
    );
    let cohort = read(&[protein, rna]);
    assert_eq!(cohort.names, ["a", "b", "c", "d"]);
    assert_eq!(
        rows(&cohort, Rna),
        [
            Some(vec![1., 0.]),
            Some(vec![0., 2.]),
            Some(vec![3., 4.]),
            None
        ]
    );
    assert_eq!(
        rows(&cohort, Protein),
        [Some(vec![5.]), None, Some(vec![0.]), Some(vec![7.])]
    );
    let kinds: Vec<_> = cohort.modalities.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [Rna, Protein]);
    assert_eq!(samples(&cohort), ["rna", "rna", "rna", "adt"]);
    assert!(has_note(&cohort, &["RNA", "3 cells", "1 cells lack it"]));
    assert_eq!(
        cohort.positions(&texts(&["d", "x", "a"])),
        [Some(3), None, Some(0)]
    );
}

#[test]
fn files_of_a_modality_are_put_together_by_the_names_of_their_features() {
    let folder = Folder::new();
    let one = folder.file("one.h5ad", Rna, &["a"], &["G1", "G2"], &[&[1., 2.]]);
    let two = folder.file(
        "two.h5ad",
        Rna,
        &["b"],
        &["G3", "G2", "G1"],
        &[&[5., 0., 6.]],
    );
    let cohort = read(&[one.clone(), two]);
    assert_eq!(cohort.modalities[0].features, ["G1", "G2", "G3"]);
    assert_eq!(
        rows(&cohort, Rna),
        [Some(vec![1., 2., 0.]), Some(vec![6., 0., 5.])]
    );
    assert!(has_note(&cohort, &["2 of 3 features", "2 files"]));
    let apart = folder.file("apart.h5ad", Rna, &["c"], &["X"], &[&[1.]]);
    assert!(problem(&[one, apart]).contains("none of the 3 features of RNA is common"));
}

#[test]
fn shared_barcodes_make_every_file_a_sample() {
    let folder = Folder::new();
    let file = |name: &str, kind, value| {
        folder.file(
            name,
            kind,
            &["AAAC-1", "AAAG-1"],
            &["G1"],
            &[&[value], &[1.]],
        )
    };
    let (one, two) = (file("s1/m.h5ad", Rna, 2.), file("s2/m.h5ad", Rna, 3.));
    let cohort = read(&[one.clone(), two.clone()]);
    assert_eq!(
        cohort.names,
        ["AAAC-1-s1", "AAAG-1-s1", "AAAC-1-s2", "AAAG-1-s2"]
    );
    assert_eq!(samples(&cohort), ["s1", "s1", "s2", "s2"]);
    let (first, second) = (file("p1.h5ad", Protein, 8.), file("p2.h5ad", Protein, 9.));
    let cohort = read(&[first.clone(), one.clone(), two.clone(), second.clone()]);
    assert_eq!(cohort.n_cells(), 4);
    assert_eq!(rows(&cohort, Protein)[2], Some(vec![9.]));
    assert_eq!(samples(&cohort), ["s1", "s1", "s2", "s2"]);
    let error = problem(&[one.clone(), two.clone(), first.clone()]);
    for part in ["m.h5ad", "`AAAC-1`", "sample sheet"] {
        assert!(error.contains(part), "{error}");
    }
    // Samples that are given decide, in whatever order the files come.
    let cohort = read(&[
        of_sample(&one, "x"),
        of_sample(&two, "y"),
        of_sample(&second, "x"),
    ]);
    assert_eq!(cohort.names[0], "AAAC-1-x");
    assert_eq!(
        rows(&cohort, Protein),
        [Some(vec![9.]), Some(vec![1.]), None, None]
    );
    let both = [of_sample(&one, "x"), of_sample(&two, "x")];
    assert!(problem(&both).contains("both RNA of the sample `x`"));
    assert!(problem(&[of_sample(&one, "x"), two]).contains("has no sample"));
}

#[test]
fn modalities_without_a_common_cell_are_told() {
    let folder = Folder::new();
    let rna = folder.file("rna.h5ad", Rna, &["a"], &["G1"], &[&[1.]]);
    let atac = folder.file("atac.h5ad", Atac, &["b"], &["chr1:1-9"], &[&[1.]]);
    let cohort = read(&[rna, atac]);
    assert_eq!(cohort.names, ["a", "b"]);
    assert!(has_note(&cohort, &["no cell", "RNA and ATAC"]));
}

#[test]
fn odd_files_are_read_or_refused_with_a_reason() {
    let folder = Folder::new();
    assert!(problem(&[]).contains("no file is given"));
    let empty = folder.file("empty.h5ad", Rna, &[], &["G1"], &[]);
    assert!(problem(&[empty]).contains("holds no cells"));
    let zero = folder.file("zero.h5ad", Rna, &["a"], &["G1"], &[&[0.]]);
    assert!(problem(&[zero]).contains("every value is zero"));
    let negative = folder.file("scaled.h5ad", Protein, &["a"], &["P"], &[&[-1.]]);
    assert!(problem(&[negative]).contains("scaled"));

    let repeated = folder.file(
        "repeated.h5ad",
        Protein,
        &["a", "a", "a-1"],
        &["P", "Q", "P"],
        &[&[1., 0., 2.], &[0., 4., 0.], &[5., 0., 0.]],
    );
    let cohort = read(std::slice::from_ref(&repeated));
    assert_eq!(cohort.names, ["a", "a-1", "a-1-1"]);
    assert!(has_note(&cohort, &["repeated.h5ad", "2 cells"]));
    assert_eq!(cohort.modalities[0].features, ["P", "Q"]);
    assert_eq!(rows(&cohort, Protein)[0], Some(vec![3., 0.]));

    let cohort = read(&[repeated.clone(), repeated.clone()]);
    assert_eq!(cohort.n_cells(), 3);
    assert!(has_note(&cohort, &["given twice"]));
    let samples = [of_sample(&repeated, "x"), of_sample(&repeated, "y")];
    assert!(problem(&samples).contains("given twice, for the samples `x` and `y`"));
    let other = Source {
        kind: Atac,
        ..repeated.clone()
    };
    assert!(problem(&[repeated, other]).contains("as Protein and as ATAC"));
}

#[test]
fn files_with_values_of_different_kinds_are_not_put_together() {
    let folder = Folder::new();
    let counts = folder.file(
        "counts.h5ad",
        Rna,
        &["a", "b"],
        &["G1", "G2"],
        &[&[1., 9.], &[3., 1.]],
    );
    let logs = folder.file(
        "logs.h5ad",
        Rna,
        &["c", "d"],
        &["G1", "G2"],
        &[&[0.5, 1.25], &[2.5, 0.125]],
    );
    let error = problem(&[counts, logs]);
    for part in ["counts.h5ad", "logs.h5ad", "raw counts", "--matrix"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn types_of_features_take_a_matrix_apart() {
    let folder = Folder::new();
    let types = |names: &[&str]| {
        let labels: Vec<_> = names.iter().map(|&name| Some(name)).collect();
        [("feature_types", Column::from_labels(&labels))]
    };
    let (cells, features) = (["a", "b"], ["CD4", "CD4", "chr1", "guide", "CD4"]);
    let table: (&[&str], &[&str], Rows) = (
        &cells,
        &features,
        &[&[1., 2., 3., 4., 5.], &[6., 0., 8., 9., 0.]],
    );
    let kinds = types(&[
        "Gene Expression",
        "Antibody Capture",
        "Peaks",
        "CRISPR Guide Capture",
        "Gene Expression",
    ]);
    let source = folder.annotated(
        "all.h5ad",
        Rna,
        table,
        &[("x", labels(&[Some("u"), None]))],
        &kinds,
    );
    let whole = read(std::slice::from_ref(&source));
    assert_eq!(rows(&whole, Rna), [Some(vec![6.]), Some(vec![6.])]);
    assert_eq!(rows(&whole, Protein), [Some(vec![2.]), Some(vec![0.])]);
    assert_eq!(rows(&whole, Atac), [Some(vec![3.]), Some(vec![8.])]);
    assert!(has_note(&whole, &["1 features of other types"]));
    assert_eq!(whole.labels("x").unwrap(), [Some("u".to_owned()), None]);
    let protein = Source {
        kind: Protein,
        ..source.clone()
    };
    let again = read(&[protein.clone(), source]);
    assert_eq!(again.modalities, whole.modalities);
    assert!(has_note(&again, &["given twice"]));
    assert_eq!(read(&[protein]).modalities.len(), 1);
    let genes = types(&["Gene Expression"; 5]);
    let wrong = folder.annotated("genes.h5ad", Protein, table, &[], &genes);
    assert!(problem(&[wrong]).contains("none of its features is of the type `Antibody Capture`"));
    // A column of that name may say something else.
    let biotypes = types(&["protein_coding"; 5]);
    let plain = folder.annotated("plain.h5ad", Rna, table, &[], &biotypes);
    assert_eq!(
        read(&[plain]).modalities[0].features,
        ["CD4", "chr1", "guide"]
    );
}

#[test]
fn known_genes_choose_the_names_of_genes_alone_and_all_are_kept() {
    let folder = Folder::new();
    let names = labels(&[Some("CD4"), Some("other")]);
    let var = [("gene_name", names)];
    let rna = folder.annotated(
        "rna.h5ad",
        Rna,
        (&["a"], &["x1", "x2"], &[&[1., 2.]]),
        &[],
        &var,
    );
    let protein = folder.annotated(
        "adt.h5ad",
        Protein,
        (&["a"], &["P", "Q"], &[&[1., 2.]]),
        &[],
        &var,
    );
    let known = Vocabulary::from_genes(["CD4"]).unwrap();
    let cohort = Cohort::read(&[rna, protein], &Options::default(), Some(&known)).unwrap();
    assert_eq!(cohort.modalities[0].features, ["CD4", "other"]);
    assert_eq!(cohort.modalities[1].features, ["P", "Q"]);
}

#[test]
fn annotations_are_those_of_the_first_file_that_has_them() {
    let folder = Folder::new();
    let number = |numbers: &[Option<f64>]| Column::Number(numbers.to_vec());
    let rna = folder.annotated(
        "rna.h5ad",
        Rna,
        (&["a", "b"], &["G"], &[&[1.], &[2.]]),
        &[
            ("type", labels(&[Some("T"), None])),
            ("n", number(&[Some(1.), None])),
            ("mixed", number(&[Some(1.), None])),
        ],
        &[],
    );
    let mut protein = folder.annotated(
        "adt.h5ad",
        Protein,
        (&["c", "b", "a"], &["P"], &[&[1.], &[2.], &[3.]]),
        &[
            ("n", number(&[Some(7.), Some(8.), Some(9.)])),
            ("type", labels(&[Some("B"), Some("NK"), Some("B")])),
            ("mixed", labels(&[None, Some("y"), Some("z")])),
            ("flag", Column::Boolean(vec![Some(true), None, Some(false)])),
        ],
        &[],
    );
    protein.batch = Some("second".into());
    let cohort = read(&[rna, protein]);
    assert_eq!(cohort.names, ["a", "b", "c"]);
    assert_eq!(
        cohort.labels("type").unwrap(),
        ["T", "NK", "B"].map(|label| Some(label.to_owned()))
    );
    assert_eq!(cohort.batches, vec![Some("second".to_owned()); 3]);
    let expected = [
        (
            "type",
            Column::Categorical {
                codes: vec![Some(0), Some(2), Some(1)],
                categories: texts(&["T", "B", "NK"]),
                ordered: false,
            },
        ),
        ("n", number(&[Some(1.), Some(8.), Some(7.)])),
        (
            "mixed",
            Column::Text(vec![Some("1".into()), Some("y".into()), None]),
        ),
        ("flag", Column::Boolean(vec![Some(false), None, Some(true)])),
    ];
    assert_eq!(cohort.obs(), expected.map(|(name, c)| (name.to_owned(), c)));
    let error = cohort.labels("celltype").unwrap_err().to_string();
    for part in ["`celltype`", "rna.h5ad", "adt.h5ad", "`n`", "`flag`"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn names_of_modalities_are_recognized_as_people_write_them() {
    for (text, kind) in [
        ("rna", Rna),
        ("Gene Expression", Rna),
        ("GEX", Rna),
        ("prot", Protein),
        ("Antibody-Capture", Protein),
        ("ADT", Protein),
        ("atac", Atac),
        ("Peaks", Atac),
    ] {
        assert_eq!(text.parse(), Ok(kind), "{text}");
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(kind.feature_type().parse(), Ok(kind));
    }
    assert!("hto".parse::<ModalityKind>().unwrap_err().contains("`hto`"));
}

fn source(path: PathBuf, kind: ModalityKind) -> Source {
    Source {
        path,
        kind,
        sample: None,
        batch: None,
    }
}

#[test]
fn a_multi_modal_file_and_its_modalities_as_files_are_the_same_cells() {
    let files = ["citeseq.h5mu", "citeseq_prot.h5ad", "citeseq_rna.h5ad"];
    let files = files.map(|name| formats("made").join(name));
    assert_same_cells(files, "cluster", (40, vec![50, 5]), 30);
}

#[test]
fn a_real_multi_modal_file_and_its_modalities_as_files_are_the_same_cells() {
    let Some(folder) = real("multiomic") else {
        return;
    };
    let files = [".h5mu", "_adt.h5ad", "_rna.h5ad"];
    let files = files.map(|end| folder.join(format!("citeseq_pbmc_control_500{end}")));
    assert_same_cells(files, "snf_cluster", (500, vec![14919, 49]), 128);
}

fn assert_same_cells(
    [whole, protein, rna]: [PathBuf; 3],
    label: &str,
    shape: (usize, Vec<usize>),
    n_labels: usize,
) {
    let whole = read(&[source(whole, Atac)]);
    let parts = read(&[source(protein, Protein), source(rna, Rna)]);
    assert!(has_note(&whole, &["`hto`", "dropped"]));
    assert_eq!(whole.names, parts.names);
    assert_eq!(whole.modalities, parts.modalities);
    let n_features: Vec<usize> = whole.modalities.iter().map(|m| m.features.len()).collect();
    assert_eq!((whole.n_cells(), n_features), shape);
    let labels = whole.labels(label).unwrap();
    assert_eq!(labels, parts.labels(label).unwrap());
    assert_eq!(labels.iter().flatten().count(), n_labels);
}
