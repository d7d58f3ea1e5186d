//! `scgpt-tokenize`: count matrices to a corpus.

mod bytes;
mod files;
mod genes;
mod inputs;
mod options;
mod python;
mod resume;

use crate::support::cells::Simulated;
use crate::support::programs::{json, program, succeed, tokenize};
use assert_cmd::Command;
use scgpt_tools::corpus::Corpus;
use scgpt_tools::formats::Column;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::{TempDir, tempdir};

/// An input cannot be used; reading or writing failed.
const INPUT: i32 = 65;
const READ_WRITE: i32 = 74;

fn from_sheet(sheet: &Path, output: &Path) -> Command {
    let mut command = program("scgpt-tokenize");
    command
        .arg("--samples")
        .arg(sheet)
        .arg("--output")
        .arg(output);
    command
}

/// More values than are read at once with the minimum memory.
static LARGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("large.h5ad");
    let large = Simulated {
        cells: 40_000,
        ..Simulated::SMALL
    };
    large.write(&path);
    path
});

/// A corpus in a temporary directory, read back.
struct Made {
    directory: TempDir,
    /// Messages of the program.
    messages: String,
}

impl Made {
    fn from(input: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let directory = tempdir().unwrap();
        let output = directory.path().join("corpus");
        let messages = succeed(tokenize(input, &output).args(arguments));
        Self {
            directory,
            messages,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("corpus")
    }

    fn manifest(&self) -> Value {
        json(self.path().join("manifest.json"))
    }

    fn cells(&self) -> Vec<Cell> {
        cells(&self.path())
    }

    /// Rows of `genes.tsv`: name, gene, id, mapping status and inputs.
    fn genes(&self) -> Vec<[String; 5]> {
        let table = fs::read_to_string(self.path().join("genes.tsv")).unwrap();
        let row = |line: &str| Vec::from_iter(line.split('\t').map(str::to_owned));
        let rows = table.lines().map(|line| row(line).try_into().unwrap());
        let mut rows: Vec<[String; 5]> = rows.collect();
        let header = rows.remove(0);
        assert_eq!(header, ["name", "gene", "id", "recognized_by", "inputs"]);
        rows
    }

    /// Mapping status of a gene name: gene, id and how it was recognized.
    fn gene(&self, name: &str) -> [String; 3] {
        let found = self.genes().into_iter().find(|row| row[0] == name);
        let [_, gene, id, how, _] = found.unwrap_or_else(|| panic!("no row for `{name}`"));
        [gene, id, how]
    }
}

/// A cell of a corpus: expression by gene, and annotations as text.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cell {
    genes: BTreeMap<String, f32>,
    obs: BTreeMap<String, Option<String>>,
}

/// The cells of a corpus, read by the library.
fn cells(directory: &Path) -> Vec<Cell> {
    let corpus = Corpus::open(directory).unwrap();
    corpus.verify().unwrap();
    let mut cells = Vec::new();
    for (at, table) in corpus.tables().iter().enumerate() {
        for group in 0..table.groups.len() {
            let read = corpus.read_group(at, group).unwrap();
            for cell in 0..read.cells() {
                let tokens = read.offsets[cell]..read.offsets[cell + 1];
                let token = |at: usize| {
                    let name = corpus.vocabulary().token(read.genes[at]).unwrap();
                    (name.to_owned(), read.values[at])
                };
                let label = |((name, _), column): (&(String, _), &Column)| {
                    (name.clone(), column.label(cell))
                };
                cells.push(Cell {
                    genes: tokens.map(token).collect(),
                    obs: table.obs.iter().zip(&read.obs).map(label).collect(),
                });
            }
        }
    }
    cells
}

/// Simulated cells, as an AnnData file and in memory.
struct Input {
    path: PathBuf,
    cells: Vec<Cell>,
    _directory: TempDir,
}

impl Input {
    fn new(simulated: Simulated) -> Self {
        let directory = tempdir().unwrap();
        let path = directory.path().join("cells.h5ad");
        simulated.write(&path);
        let names = simulated.gene_names();
        let (counts, text) = (simulated.counts(), |text: &str| Some(text.to_owned()));
        let cell = |(at, (genes, values)): (usize, (&[u32], &[f32]))| Cell {
            genes: genes
                .iter()
                .map(|&gene| names[gene as usize].clone())
                .zip(values.iter().copied())
                .collect(),
            obs: BTreeMap::from([
                ("cell_type".to_owned(), text(Simulated::type_of(at))),
                ("batch".to_owned(), text(Simulated::batch_of(at))),
            ]),
        };
        Self {
            cells: counts.rows().enumerate().map(cell).collect(),
            path,
            _directory: directory,
        }
    }

    fn small() -> Self {
        Self::new(Simulated::SMALL)
    }
}

/// Expression values.
fn expressions(cells: &[Cell]) -> Vec<&BTreeMap<String, f32>> {
    cells.iter().map(|cell| &cell.genes).collect()
}

/// Files that must not depend on threads, memory or interruptions: all but the run record.
fn bytes(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let files = files.filter(|entry| name(entry) != "run.json");
    files
        .map(|entry| (name(&entry), fs::read(entry.path()).unwrap()))
        .collect()
}

#[track_caller]
fn assert_same(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    what: &str,
) {
    assert_eq!(
        Vec::from_iter(found.keys()),
        Vec::from_iter(expected.keys()),
        "{what}"
    );
    for (name, content) in found {
        assert!(*content == expected[name], "{what}: `{name}` differs");
    }
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}
