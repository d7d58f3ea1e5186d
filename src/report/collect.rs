//! Finds run outputs: records, tables, training curves and h5ad files, also if they have moved.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::table::Table;
use crate::file_format::RUN_RECORD;
use crate::run_record::{Artefact, Record};

/// Larger records are not read (bytes).
const LARGEST_RECORD: u64 = 64 << 20;
/// Checksums of larger files are not computed (bytes).
const LARGEST_COMPARED: u64 = 4 << 30;
/// Maximum number of files and directories, and depth of the search.
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 8;
/// Maximum number of tables.
const MOST_TABLES: usize = 200;
/// Maximum number of lines of a training curve.
const MOST_STEPS: usize = 200_000;

/// A run and the path of its record.
#[derive(Debug, Clone)]
pub struct Found {
    pub record: Record,
    pub path: PathBuf,
    /// Losses and other values after each epoch or interval, from `metrics.jsonl`.
    pub curve: Vec<Value>,
}

/// Contents of the inputs, in an order independent of that of the inputs.
#[derive(Debug, Default)]
pub struct Evidence {
    /// By start time.
    pub runs: Vec<Found>,
    pub tables: Vec<Table>,
    /// h5ad files with the run that wrote each, if it is among `runs`: outputs of the latest runs first, files of no run last.
    pub cells: Vec<(PathBuf, Option<usize>)>,
    /// Files that were read here: records, training curves and tables.
    pub read: Vec<PathBuf>,
    /// Files that could not be read or found or are omitted, with the reason.
    pub problems: Vec<String>,
    /// Number of tables found.
    n_tables: usize,
    /// Given tables of unsupported types.
    others: Vec<PathBuf>,
}

impl Evidence {
    /// Reads run records, and finds the outputs that they list among the inputs, else at the recorded path.
    pub fn collect(inputs: &[PathBuf]) -> Self {
        let mut evidence = Self::default();
        let given: HashSet<PathBuf> = inputs.iter().map(|path| normalized(path)).collect();
        let mut files = Files::list(&given, &mut evidence.problems);
        for path in files.all.clone() {
            evidence.add(&path, given.contains(&path));
        }
        evidence.runs.sort_by_cached_key(order);
        evidence.runs.dedup_by(|a, b| a.record == b.record);
        for at in 0..evidence.runs.len() {
            evidence.add_outputs(at, &mut files);
        }
        evidence.resolve();
        evidence
    }

    /// Sorts the contents.
    fn resolve(&mut self) {
        self.cells.sort_by_cached_key(|(path, run)| {
            let name = path.file_name().map(ToOwned::to_owned);
            (run.is_none(), Reverse(*run), name, path.clone())
        });
        self.tables
            .sort_by_cached_key(|table| (table.name(), table.path.clone()));
        if self.n_tables > MOST_TABLES {
            self.problems.push(format!(
                "{} tables are omitted: a report includes {MOST_TABLES}",
                self.n_tables - MOST_TABLES
            ));
        }
        for path in std::mem::take(&mut self.others) {
            self.problem(
                &path,
                "omitted: its columns are not those of a supported table",
            );
        }
        self.read.sort();
        self.read.dedup();
        self.problems.sort();
        self.problems.dedup();
    }

    /// Adds a file by its name.
    fn add(&mut self, path: &Path, given: bool) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_record = name == "run.json" || name.ends_with(".run.json");
        if is_record || given && name.ends_with(".json") {
            match read_record(path) {
                // Records of earlier reports are ignored.
                Ok(record) if record.program == "scgpt-report" => {}
                Ok(record) => {
                    self.read.push(path.to_owned());
                    self.runs.push(Found {
                        record,
                        path: path.to_owned(),
                        curve: Vec::new(),
                    });
                }
                Err(problem) => self.problem(path, &problem),
            }
        } else if name.ends_with(".h5ad") {
            self.cells.push((path.to_owned(), None));
        } else if is_table(path) && !self.add_table(path) && given {
            self.others.push(path.to_owned());
        }
    }

    /// Reads the outputs that a record lists.
    fn add_outputs(&mut self, at: usize, files: &mut Files) {
        let Found { record, path, .. } = self.runs[at].clone();
        for artefact in &record.outputs {
            let name = artefact.path.to_string_lossy();
            let is_curve = name.ends_with("metrics.jsonl");
            if !(is_curve || name.ends_with(".h5ad") || is_table(&artefact.path)) {
                continue;
            }
            let Some(found) = files.find(artefact, &path) else {
                let problem =
                    "it is not among the inputs, and is missing or changed at the recorded path";
                self.problem(
                    &artefact.path,
                    &format!("{problem}: add it, or its directory, to `--input`"),
                );
                continue;
            };
            if is_curve {
                self.add_curve(at, &found);
            } else if is_table(&found) || is_table(&artefact.path) {
                self.add_table(&found);
                // Its numbers are in the record.
                self.others.retain(|known| *known != found);
            } else {
                self.cells.retain(|(known, _)| *known != found);
                self.cells.push((found, Some(at)));
            }
        }
    }

    fn add_curve(&mut self, run: usize, path: &Path) {
        match read_curve(path) {
            Ok((curve, is_cut)) => {
                self.runs[run].curve = curve;
                self.read.push(path.to_owned());
                if is_cut {
                    self.problem(path, &format!("only the first lines are included: a report reads up to {MOST_STEPS} lines or {LARGEST_RECORD} bytes of a training curve"));
                }
            }
            Err(error) => self.problem(path, &error.to_string()),
        }
    }

    /// Adds a table once; false if its type is not supported.
    fn add_table(&mut self, path: &Path) -> bool {
        if self.tables.iter().any(|table| table.path == path) {
            return true;
        }
        match Table::read(path) {
            Ok(None) => return false,
            Ok(Some(table)) => {
                self.n_tables += 1;
                if self.tables.len() < MOST_TABLES {
                    self.read.push(path.to_owned());
                    self.tables.push(table);
                }
            }
            Err(error) => self.problem(path, &error.to_string()),
        }
        true
    }

    fn problem(&mut self, path: &Path, problem: &str) {
        self.problems
            .push(format!("`{}`: {problem}", path.display()));
    }
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tsv")
}

/// A path in normal form.
fn normalized(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().collect();
    match path.strip_prefix(".") {
        Ok(rest) if rest != Path::new("") => rest.to_owned(),
        _ => path,
    }
}

/// Sort key of runs: start time, then program and output, then the path of the record, which workflow engines choose.
fn order(run: &Found) -> (String, String, String, String, PathBuf) {
    let record = &run.record;
    let output = record.options.get("output").map(Value::to_string);
    (
        record.started.clone(),
        record.program.clone(),
        output.unwrap_or_default(),
        serde_json::to_string(record).unwrap_or_default(),
        run.path.clone(),
    )
}

/// The files of the inputs, by size, to find moved or renamed files by their checksums.
struct Files {
    /// Every file once, by path.
    all: Vec<PathBuf>,
    by_size: BTreeMap<u64, Vec<PathBuf>>,
    /// Paths in `all`, by canonical path.
    names: HashMap<PathBuf, PathBuf>,
    /// Checksums computed so far; none of files that could not be read.
    checksums: HashMap<PathBuf, Option<String>>,
}

impl Files {
    fn list(inputs: &HashSet<PathBuf>, problems: &mut Vec<String>) -> Self {
        let names = search(inputs, problems);
        let mut all: Vec<PathBuf> = names.values().cloned().collect();
        all.sort();
        let mut by_size: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for path in &all {
            if let Ok(metadata) = fs::metadata(path) {
                by_size
                    .entry(metadata.len())
                    .or_default()
                    .push(path.clone());
            }
        }
        Self {
            all,
            by_size,
            names,
            checksums: HashMap::new(),
        }
    }

    /// The file of a record: same size and checksum, next to the record, among the inputs or at the recorded path.
    fn find(&mut self, artefact: &Artefact, record: &Path) -> Option<PathBuf> {
        let sibling = record.with_file_name(artefact.path.file_name()?);
        let known = self.by_size.get(&artefact.size).into_iter().flatten();
        let candidates: Vec<PathBuf> = [sibling]
            .into_iter()
            .chain(known.cloned())
            .chain([artefact.path.clone()])
            .collect();
        let found = candidates
            .into_iter()
            .find(|path| self.is_same(path, artefact))?;
        let name = fs::canonicalize(&found)
            .ok()
            .and_then(|path| self.names.get(&path));
        Some(name.cloned().unwrap_or(found))
    }

    fn is_same(&mut self, path: &Path, artefact: &Artefact) -> bool {
        let is_candidate =
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == artefact.size);
        if !is_candidate {
            return false;
        }
        if artefact.sha256.is_empty() || artefact.size > LARGEST_COMPARED {
            return path.file_name() == artefact.path.file_name();
        }
        let found = self
            .checksums
            .entry(path.to_owned())
            .or_insert_with(|| checksum(path).ok());
        found.as_ref() == Some(&artefact.sha256)
    }
}

/// The files of directories, nearest first, by canonical path. Links to directories, which workflow engines create, are followed;
/// every file and directory is visited once.
fn search(inputs: &HashSet<PathBuf>, problems: &mut Vec<String>) -> HashMap<PathBuf, PathBuf> {
    let mut queue: Vec<(PathBuf, usize)> = inputs.iter().map(|path| (path.clone(), 0)).collect();
    queue.sort();
    let mut queue = VecDeque::from(queue);
    let (mut files, mut directories, mut deep) = (HashMap::new(), HashSet::new(), Vec::new());
    while let Some((path, depth)) = queue.pop_front() {
        if files.len() + directories.len() >= MOST_FILES {
            problems.push(format!(
                "only the first {MOST_FILES} files and directories of the inputs were searched"
            ));
            break;
        }
        match fs::canonicalize(&path) {
            Ok(canonical) if !canonical.is_dir() => {
                files.entry(canonical).or_insert(path);
            }
            Ok(canonical) if directories.contains(&canonical) => {}
            Ok(_) if depth > DEEPEST => deep.push(path),
            Ok(canonical) => {
                directories.insert(canonical);
                match entries(&path) {
                    Ok(entries) => {
                        queue.extend(entries.into_iter().map(|entry| (entry, depth + 1)))
                    }
                    Err(error) => problems.push(format!("`{}`: {error}", path.display())),
                }
            }
            Err(error) => problems.push(format!("`{}`: {error}", path.display())),
        }
    }
    if let Some(first) = deep.first() {
        problems.push(format!(
            "`{}` and {} more directories were not searched: the maximum depth is {DEEPEST} directories",
            first.display(),
            deep.len() - 1
        ));
    }
    files
}

/// The files and directories of a directory, by path, without broken links.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(normalized(&entry?.path())));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.retain(|entry| entry.is_file() || entry.is_dir());
    entries.sort();
    Ok(entries)
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

fn read_record(path: &Path) -> Result<Record, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_RECORD {
        return Err(format!("{size} bytes, too large for a run record"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("not a run record: {error}"))?;
    if !RUN_RECORD.is_stated(&json) {
        let name = RUN_RECORD.name;
        return Err(format!("not a run record: its `format` is not `{name}`"));
    }
    RUN_RECORD.check(&json)?;
    let record: Record =
        serde_json::from_value(json).map_err(|error| format!("not a run record: {error}"))?;
    if !record.program.starts_with("scgpt-") {
        return Err(format!(
            "a run record of `{}`, which is not a program of scgpt-tools",
            super::html::shortened(&record.program)
        ));
    }
    Ok(record)
}

/// The JSON objects of a file, one per line, and whether there are more. Other lines, such as the incomplete last line of an
/// interrupted run, are dropped.
fn read_curve(path: &Path) -> io::Result<(Vec<Value>, bool)> {
    let file = File::open(path)?;
    let is_long = file.metadata()?.len() > LARGEST_RECORD;
    let mut lines = BufReader::new(file.take(LARGEST_RECORD)).split(b'\n');
    let mut curve = Vec::new();
    for line in lines.by_ref().take(MOST_STEPS) {
        curve.extend(serde_json::from_slice::<Value>(&line?).ok());
    }
    curve.retain(Value::is_object);
    Ok((curve, is_long || lines.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn circular_links_end() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.tsv"), "").unwrap();
        for link in 0..12 {
            std::os::unix::fs::symlink(".", directory.path().join(format!("link{link}"))).unwrap();
        }
        let mut problems = Vec::new();
        let inputs = [directory.path().to_owned(), directory.path().join("a.tsv")];
        let files = Files::list(&inputs.into(), &mut problems);
        assert_eq!(files.all, [directory.path().join("a.tsv")]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn too_deep_directories_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..12).map(|at| format!("f{at}")).collect();
        let near: PathBuf = (0..DEEPEST).map(|at| format!("f{at}")).collect();
        fs::create_dir_all(directory.path().join(&deep)).unwrap();
        for path in [&deep, &near] {
            fs::write(directory.path().join(path).join("a.tsv"), "").unwrap();
        }
        let mut problems = Vec::new();
        let files = Files::list(&[directory.path().to_owned()].into(), &mut problems);
        assert_eq!(files.all, [directory.path().join(near).join("a.tsv")]);
        assert!(
            problems.len() == 1 && problems[0].contains("not searched"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_path_has_one_normal_form() {
        assert_eq!(normalized(Path::new("./x/./y/")), Path::new("x/y"));
        assert_eq!(normalized(Path::new("./")), Path::new("."));
    }
}
