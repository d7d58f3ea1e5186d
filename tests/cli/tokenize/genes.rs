//! Mapping of gene names to vocabularies, and its report in `genes.tsv`.

use super::{INPUT, Input, Made, assert_says, expressions, tokenize};
use crate::support::cells::Simulated;
use crate::support::needs::formats;
use crate::support::programs::{fail, json};
use crate::support::{cells, data};
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{self as tables, Source};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Input files of options, by content.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A vocabulary of these tokens in this order.
    fn vocabulary<S: AsRef<str>>(&self, tokens: impl IntoIterator<Item = S>) -> String {
        let ids = tokens.into_iter().zip(0..);
        let ids: Map<String, Value> = ids
            .map(|(name, id)| (name.as_ref().into(), id.into()))
            .collect();
        self.write("vocab.json", Value::Object(ids).to_string())
    }

    /// Two cells with the counts 1, 2, 3, ... and 10, 20, 30, ... of the given columns.
    fn cells(&self, columns: &[&str]) -> PathBuf {
        let row = |factor: f32| {
            (0..columns.len() as u32).map(move |gene| (gene, factor * (gene + 1) as f32))
        };
        let counts = Counts::from_rows(columns.len(), [row(1.0), row(10.0)]);
        let path = self.0.path().join("cells.h5ad");
        let names: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
        cells::write(&path, &counts, &names, []);
        path
    }
}

fn first_cell(made: &Made) -> BTreeMap<String, f32> {
    made.cells().swap_remove(0).genes
}

fn genes<const N: usize>(expected: [(&str, f32); N]) -> BTreeMap<String, f32> {
    expected
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn gene_names(file: &Path) -> Vec<String> {
    let table = tables::open(file, &tables::Options::default(), None, 1 << 26).unwrap();
    table.gene_names(&Source::X).unwrap()
}

#[test]
fn without_a_vocabulary_the_genes_of_all_inputs_are_one() {
    let input = Input::small();
    let made = Made::from(&input.path, &[]);
    let vocabulary = json(made.path().join("vocab.json"));
    assert_eq!(vocabulary.as_object().unwrap().len(), 63);
    assert_eq!(
        (&vocabulary["GENE000"], &vocabulary["<pad>"]),
        (&0.into(), &60.into())
    );
    assert_eq!(expressions(&made.cells()), expressions(&input.cells));
    assert_eq!(made.gene("GENE007"), ["GENE007", "7", "name"]);
    assert_eq!(made.genes().len(), 60);
}

#[test]
fn a_given_vocabulary_keeps_its_ids() {
    let (input, files) = (Input::small(), Files::new());
    let names = Simulated::SMALL.gene_names();
    let tokens = names.iter().rev().map(String::as_str);
    let given = files.vocabulary(
        ["<pad>", "<cls>", "<eoc>", "unseen"]
            .into_iter()
            .chain(tokens),
    );
    let made = Made::from(&input.path, &["--vocab", &given]);
    assert_eq!(json(made.path().join("vocab.json")), json(&given));
    assert_eq!(made.gene("GENE059"), ["GENE059", "4", "name"]);
    assert_eq!(expressions(&made.cells()), expressions(&input.cells));
}

#[test]
fn the_vocabulary_of_a_model_can_be_used() {
    let input = Input::small();
    let model = data("embedding/checkpoint");
    let made = Made::from(&input.path, &["--vocab", model.to_str().unwrap()]);
    let vocabulary = json(made.path().join("vocab.json"));
    assert_eq!(vocabulary, json(model.join("vocab.json")));
    assert_eq!(expressions(&made.cells()), expressions(&input.cells));
}

#[test]
fn special_tokens_are_added_to_a_list_of_genes() {
    let files = Files::new();
    let given = files.vocabulary(["A", "B"]);
    let made = Made::from(files.cells(&["B", "A"]), &["--vocab", &given]);
    let vocabulary = json(made.path().join("vocab.json"));
    let ids = ["A", "B", "<pad>", "<cls>", "<eoc>"].map(|name| vocabulary[name].as_u64());
    assert_eq!(ids, [0, 1, 2, 3, 4].map(Some));
}

#[test]
fn maps_aliases_and_names_are_distinguished_in_the_table() {
    let files = Files::new();
    let given = files.vocabulary(["CD4", "TP53", "ACTB"]);
    let map = files.write("map.tsv", "# old\tnew\nmine\tACTB\n");
    let aliases = files.write("aliases.csv", "p53,TP53\n\"CD4\",TP53\n");
    let input = files.cells(&["CD4", "p53", "mine", "nothing"]);
    let made = Made::from(
        input,
        &["--vocab", &given, "--gene-map", &map, "--aliases", &aliases],
    );
    assert_eq!(
        first_cell(&made),
        genes([("CD4", 1.0), ("TP53", 2.0), ("ACTB", 3.0)])
    );
    assert_eq!(made.gene("CD4"), ["CD4", "0", "name"]);
    assert_eq!(made.gene("p53"), ["TP53", "1", "alias"]);
    assert_eq!(made.gene("mine"), ["ACTB", "2", "map"]);
    assert_eq!(made.gene("nothing"), ["", "dropped", "unmatched"]);
    assert_says(
        &made.messages,
        &[
            "1 gene names are not in the vocabulary",
            "nothing",
            "genes.tsv",
        ],
    );
}

#[test]
fn maps_and_aliases_apply_to_a_new_vocabulary() {
    let files = Files::new();
    let map = files.write("map.tsv", "old\tnew\n");
    let aliases = files.write("aliases.tsv", "ENSG00000000003\tTSPAN6\n");
    let input = files.cells(&["old", "ENSG00000000003.15", "ENSG00000000005.6", "X.1"]);
    let made = Made::from(input, &["--gene-map", &map, "--aliases", &aliases]);
    let expected = [
        ("new", 1.0),
        ("TSPAN6", 2.0),
        ("ENSG00000000005", 3.0),
        ("X.1", 4.0),
    ];
    assert_eq!(first_cell(&made), genes(expected));
    assert_eq!(
        made.gene("ENSG00000000003.15"),
        ["TSPAN6", "1", "version removed"]
    );
}

#[test]
fn duplicate_genes_are_summed_or_the_first_is_read_or_rejected() {
    let files = Files::new();
    let (input, output) = (files.cells(&["B", "A", "B"]), files.0.path().join("corpus"));
    let made = Made::from(&input, &[]);
    assert_eq!(first_cell(&made), genes([("A", 2.0), ("B", 4.0)]));
    let made = Made::from(&input, &["--duplicates", "first"]);
    assert_eq!(first_cell(&made), genes([("A", 2.0), ("B", 1.0)]));
    let message = fail(
        tokenize(&input, &output).args(["--duplicates", "error"]),
        INPUT,
    );
    assert_says(
        &message,
        &["cells.h5ad", "both the gene `B`", "--duplicates"],
    );
    let odd = formats("made/duplicate_gene_names.h5ad");
    let tokens = |rule| Made::from(&odd, &["--duplicates", rule]).manifest()["tokens"].as_u64();
    assert!(tokens("first") < tokens("sum"));
    let message = fail(
        tokenize(&odd, &output).args(["--duplicates", "error"]),
        INPUT,
    );
    assert_says(&message, &["duplicate_gene_names.h5ad", "--duplicates"]);
}

#[test]
fn versions_of_ensembl_ids_do_not_matter() {
    let (input, files) = (formats("made/ensembl_versioned_index.h5ad"), Files::new());
    let names = gene_names(&input);
    let given = files.vocabulary(names.iter().map(|name| name.split('.').next().unwrap()));
    let made = Made::from(&input, &["--vocab", &given]);
    let found = made.manifest();
    assert_eq!(
        (&found["cells"], &found["tokens"]),
        (&300.into(), &9839.into())
    );
    let [_, id, how] = made.gene(&names[7]);
    assert_eq!([id.as_str(), how.as_str()], ["7", "version removed"]);
    // The symbols are in a column, which is used if the vocabulary matches it.
    let symbols = files.vocabulary(gene_names(&formats("made/csr_float32.h5ad")));
    let made = Made::from(&input, &["--vocab", &symbols, "--gene-column", "symbol"]);
    assert_eq!(made.manifest()["tokens"], 9839);
}

#[test]
fn lower_case_names_are_rejected_with_advice() {
    let files = Files::new();
    let given = files.vocabulary(gene_names(&formats("made/csr_float32.h5ad")));
    let (input, output) = (
        formats("made/lowercase_gene_names.h5ad"),
        files.0.path().join("corpus"),
    );
    let message = fail(tokenize(input, &output).args(["--vocab", &given]), INPUT);
    let parts = [
        "of the 60 genes",
        "`gene000`",
        "`GENE000`",
        "in upper case",
        "--gene-map",
    ];
    assert_says(&message, &parts);
}

#[test]
fn too_few_known_genes_are_rejected_unless_allowed() {
    let files = Files::new();
    let given = files.vocabulary(["A", "CD4", "CD8", "TP53", "ACTB", "GAPDH"]);
    let input = files.cells(&["A", "x1", "x2", "x3", "x4", "x5"]);
    let output = files.0.path().join("corpus");
    let message = fail(tokenize(&input, &output).args(["--vocab", &given]), INPUT);
    let parts = [
        "only 1 of the 6 genes",
        "`x1`",
        "`CD4`",
        "--gene-column",
        "--min-match",
    ];
    assert_says(&message, &parts);
    let made = Made::from(&input, &["--vocab", &given, "--min-match", "0.1"]);
    assert_eq!(first_cell(&made), genes([("A", 1.0)]));
    // No match at all is always an error.
    let none = files.vocabulary(["CD4", "CD8"]);
    fail(
        tokenize(&input, &output).args(["--vocab", &none, "--min-match", "0"]),
        INPUT,
    );
}

#[test]
fn antibodies_are_dropped_unless_requested() {
    let files = Files::new();
    let matrix =
        "%%MatrixMarket matrix coordinate integer general\n3 2 4\n1 1 5\n3 1 7\n2 2 1\n3 2 2\n";
    files.write("matrix.mtx", matrix);
    files.write("barcodes.tsv", "AAAC-1\nAAAG-1\n");
    let features = [
        "ENSG00000010610\tCD4\tGene Expression",
        "ENSG00000141510\tTP53\tGene Expression",
        "CD3\tCD3_TotalSeqB\tAntibody Capture",
    ];
    files.write("features.tsv", features.join("\n"));
    let made = Made::from(files.0.path(), &[]);
    assert_eq!(first_cell(&made), genes([("CD4", 5.0)]));
    assert_says(
        &made.messages,
        &["1 features are not of the type `Gene Expression`"],
    );
    let made = Made::from(files.0.path(), &["--feature-type", "Antibody Capture"]);
    assert_eq!(first_cell(&made), genes([("CD3_TotalSeqB", 7.0)]));
    let output = files.0.path().join("corpus");
    let message = fail(
        tokenize(files.0.path(), &output).args(["--feature-type", "Peaks"]),
        INPUT,
    );
    assert_says(
        &message,
        &[
            "no feature of the type `Peaks`",
            "`Gene Expression`",
            "--feature-type",
        ],
    );
}

#[test]
fn files_of_cellxgene_need_no_options() {
    let made = Made::from(formats("made/gears_style.h5ad"), &[]);
    let named = made
        .genes()
        .iter()
        .filter(|row| !row[0].starts_with("ENSG"))
        .count();
    assert!(named > 40, "{named} genes have symbols");
    let parts = ["column `feature_name`", "`layers/counts`: raw counts"];
    assert_says(&made.messages, &parts);
    let made = Made::from(formats("made/scaled_X_counts_in_raw.h5ad"), &[]);
    assert_says(
        &made.messages,
        &["instead of `X`", "matrix `raw`: raw counts"],
    );
}
