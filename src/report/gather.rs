//! Finds what runs left behind: records, tables, training curves and files of cells, wherever they lie now.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::table::Table;
use crate::run_record::{Artefact, Record};

/// Larger records are not read (bytes).
const LARGEST_RECORD: u64 = 64 << 20;
/// Larger files are not read to find out whether they are those of a record (bytes).
const LARGEST_COMPARED: u64 = 4 << 30;
/// Files looked at in folders, and how deep folders are searched.
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 8;
/// Tables that are read.
const MOST_TABLES: usize = 200;
/// Lines of training curves that are read.
const MOST_STEPS: u64 = 200_000;

/// A run and where its record lies.
#[derive(Debug, Clone)]
pub struct Found {
    pub record: Record,
    pub path: PathBuf,
    /// The loss and other values after each epoch or interval, as `metrics.jsonl` has them.
    pub course: Vec<Value>,
}

/// All that the inputs hold.
#[derive(Debug, Default)]
pub struct Evidence {
    /// In the order of their start.
    pub runs: Vec<Found>,
    pub tables: Vec<Table>,
    /// Files of cells with the run that wrote each, if it is among `runs`.
    pub cells: Vec<(PathBuf, Option<usize>)>,
    /// What could not be read or found, and why.
    pub problems: Vec<String>,
}

impl Evidence {
    /// Reads records, and finds the other outputs that they name among the inputs, else where the record says.
    pub fn gather(inputs: &[PathBuf]) -> Self {
        let mut evidence = Self::default();
        let files = Files::list(inputs, &mut evidence.problems);
        for path in &files.all {
            evidence.take(path, inputs.contains(path));
        }
        evidence.runs.sort_by(|a, b| {
            let key = |run: &Found| (run.record.started.clone(), run.path.clone());
            key(a).cmp(&key(b))
        });
        evidence.runs.dedup_by(|a, b| a.record == b.record);
        for at in 0..evidence.runs.len() {
            evidence.follow(at, &files);
        }
        evidence
            .cells
            .sort_by_key(|(path, run)| (run.is_none(), *run, path.clone()));
        evidence.cells.dedup_by(|a, b| a.0 == b.0);
        evidence.tables.sort_by(|a, b| a.path.cmp(&b.path));
        evidence.tables.dedup_by(|a, b| a.path == b.path);
        evidence
    }

    /// Takes a file that was given or found by what its name says it is.
    fn take(&mut self, path: &Path, given: bool) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_record = name == "run.json" || name.ends_with(".run.json");
        if is_record || given && name.ends_with(".json") {
            match read_record(path) {
                // Of pages that were written before there is nothing to tell.
                Ok(record) if record.program == "scgpt-report" => {}
                Ok(record) => self.runs.push(Found {
                    record,
                    path: path.to_owned(),
                    course: Vec::new(),
                }),
                Err(problem) => self.problem(path, &problem),
            }
        } else if name.ends_with(".h5ad") {
            self.cells.push((path.to_owned(), None));
        } else if is_table(path) {
            self.add_table(path);
        }
    }

    /// Reads what a record says was written.
    fn follow(&mut self, at: usize, files: &Files) {
        let Found { record, path, .. } = self.runs[at].clone();
        for artefact in &record.outputs {
            let name = artefact.path.to_string_lossy();
            let is_course = name.ends_with("metrics.jsonl");
            if !(is_course || name.ends_with(".h5ad") || is_table(&artefact.path)) {
                continue;
            }
            let Some(found) = files.find(artefact, &path) else {
                let problem = "it is not among the inputs, and is not (or no longer the same) where the record says";
                self.problem(
                    &artefact.path,
                    &format!("{problem}: give it, or its folder, with `--input`"),
                );
                continue;
            };
            if is_course {
                match read_course(&found) {
                    Ok(course) => self.runs[at].course = course,
                    Err(error) => self.problem(&found, &error.to_string()),
                }
            } else if is_table(&found) || is_table(&artefact.path) {
                self.add_table(&found);
            } else {
                self.cells.retain(|(known, _)| *known != found);
                self.cells.push((found, Some(at)));
            }
        }
    }

    fn add_table(&mut self, path: &Path) {
        let is_known = self.tables.iter().any(|table| table.path == path);
        if is_known || self.tables.len() >= MOST_TABLES {
            return;
        }
        match Table::read(path) {
            Ok(table) => self.tables.push(table),
            Err(error) => self.problem(path, &error.to_string()),
        }
    }

    fn problem(&mut self, path: &Path, problem: &str) {
        self.problems
            .push(format!("`{}`: {problem}", path.display()));
    }
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tsv")
}

/// The files of the inputs, by size, so that a moved or renamed one is found by its checksum.
struct Files {
    all: Vec<PathBuf>,
    by_size: HashMap<u64, Vec<PathBuf>>,
}

impl Files {
    fn list(inputs: &[PathBuf], problems: &mut Vec<String>) -> Self {
        let mut all = Vec::new();
        for input in inputs {
            if let Err(error) = walk(input, DEEPEST, &mut all) {
                problems.push(format!("`{}`: {error}", input.display()));
            }
        }
        if all.len() >= MOST_FILES {
            problems.push(format!(
                "only the first {MOST_FILES} files of the inputs were looked at"
            ));
        }
        let mut by_size: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        for path in &all {
            if let Ok(metadata) = fs::metadata(path) {
                by_size
                    .entry(metadata.len())
                    .or_default()
                    .push(path.clone());
            }
        }
        Self { all, by_size }
    }

    /// The file that a record means: same size and checksum, beside the record, among the inputs or at its old place.
    fn find(&self, artefact: &Artefact, record: &Path) -> Option<PathBuf> {
        let beside = record.with_file_name(artefact.path.file_name()?);
        let known = self.by_size.get(&artefact.size).into_iter().flatten();
        let candidates = [beside]
            .into_iter()
            .chain(known.cloned())
            .chain([artefact.path.clone()]);
        candidates.into_iter().find(|path| is_same(path, artefact))
    }
}

fn is_same(path: &Path, artefact: &Artefact) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == artefact.size)
        && match artefact.sha256.as_str() {
            "" => path.file_name() == artefact.path.file_name(),
            _ if artefact.size > LARGEST_COMPARED => path.file_name() == artefact.path.file_name(),
            expected => checksum(path).is_ok_and(|found| found == expected),
        }
}

fn checksum(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The file, or the files of a folder in the order of their paths. Links to folders, as engines make them, are followed as far as
/// folders are: a circle ends there.
fn walk(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        fs::metadata(path)?;
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        if found.len() >= MOST_FILES {
            break;
        }
        if entry.is_file() || depth > 0 && entry.is_dir() {
            walk(&entry, depth.saturating_sub(1), found)?;
        }
    }
    Ok(())
}

fn read_record(path: &Path) -> Result<Record, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_RECORD {
        return Err(format!("{size} bytes are too many for a run record"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| format!("not a run record: {error}"))?;
    if !record.program.starts_with("scgpt-") {
        return Err(format!(
            "a run record of `{}`, which is not one of these programs",
            super::html::shortened(&record.program)
        ));
    }
    Ok(record)
}

/// Lines that are no JSON object, as the last of an interrupted run, are left out.
fn read_course(path: &Path) -> io::Result<Vec<Value>> {
    let lines = BufReader::new(File::open(path)?.take(LARGEST_RECORD)).split(b'\n');
    let values = lines
        .take(MOST_STEPS as usize)
        .map(|line| Ok(serde_json::from_slice::<Value>(&line?).ok()));
    let values: io::Result<Vec<_>> = values.collect();
    Ok(values?
        .into_iter()
        .flatten()
        .filter(Value::is_object)
        .collect())
}
