//! Finds what runs left behind: records, tables, training curves and files of cells, wherever they lie now.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
/// Files and folders that are looked at, and how deep folders are searched.
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 8;
/// Tables that are read.
const MOST_TABLES: usize = 200;
/// Lines of a training curve that are read.
const MOST_STEPS: usize = 200_000;

/// A run and where its record lies.
#[derive(Debug, Clone)]
pub struct Found {
    pub record: Record,
    pub path: PathBuf,
    /// The loss and other values after each epoch or interval, as `metrics.jsonl` has them.
    pub course: Vec<Value>,
}

/// All that the inputs hold, in an order that is not that of the inputs.
#[derive(Debug, Default)]
pub struct Evidence {
    /// In the order of their start.
    pub runs: Vec<Found>,
    pub tables: Vec<Table>,
    /// Files of cells with the run that wrote each, if it is among `runs`: outputs of the latest runs first, files of no run last.
    pub cells: Vec<(PathBuf, Option<usize>)>,
    /// Files that were read here: records, training curves and tables.
    pub read: Vec<PathBuf>,
    /// What could not be read or found, and why; what is left out.
    pub problems: Vec<String>,
    /// Tables that were found, shown or not.
    n_tables: usize,
    /// Given tables of no kind that is shown.
    others: Vec<PathBuf>,
}

impl Evidence {
    /// Reads records, and finds the other outputs that they name among the inputs, else where the record says.
    pub fn gather(inputs: &[PathBuf]) -> Self {
        let mut evidence = Self::default();
        let given: HashSet<PathBuf> = inputs.iter().map(|path| plain(path)).collect();
        let mut files = Files::list(&given, &mut evidence.problems);
        for path in files.all.clone() {
            evidence.take(&path, given.contains(&path));
        }
        evidence.runs.sort_by_cached_key(order);
        evidence.runs.dedup_by(|a, b| a.record == b.record);
        for at in 0..evidence.runs.len() {
            evidence.follow(at, &mut files);
        }
        evidence.settle();
        evidence
    }

    /// Puts what was found into its order.
    fn settle(&mut self) {
        self.cells.sort_by_cached_key(|(path, run)| {
            let name = path.file_name().map(ToOwned::to_owned);
            (run.is_none(), Reverse(*run), name, path.clone())
        });
        self.tables
            .sort_by_cached_key(|table| (table.name(), table.path.clone()));
        if self.n_tables > MOST_TABLES {
            self.problems.push(format!(
                "{} tables are not shown: a page shows {MOST_TABLES}",
                self.n_tables - MOST_TABLES
            ));
        }
        for path in std::mem::take(&mut self.others) {
            self.problem(
                &path,
                "not shown: its columns are not those of a table that the page shows",
            );
        }
        self.read.sort();
        self.read.dedup();
        self.problems.sort();
        self.problems.dedup();
    }

    /// Takes a file that was given or found by what its name says it is.
    fn take(&mut self, path: &Path, given: bool) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_record = name == "run.json" || name.ends_with(".run.json");
        if is_record || given && name.ends_with(".json") {
            match read_record(path) {
                // Of pages that were written before there is nothing to tell.
                Ok(record) if record.program == "scgpt-report" => {}
                Ok(record) => {
                    self.read.push(path.to_owned());
                    self.runs.push(Found {
                        record,
                        path: path.to_owned(),
                        course: Vec::new(),
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

    /// Reads what a record says was written.
    fn follow(&mut self, at: usize, files: &mut Files) {
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
                self.add_course(at, &found);
            } else if is_table(&found) || is_table(&artefact.path) {
                self.add_table(&found);
                // The numbers of this one are in the record.
                self.others.retain(|known| *known != found);
            } else {
                self.cells.retain(|(known, _)| *known != found);
                self.cells.push((found, Some(at)));
            }
        }
    }

    fn add_course(&mut self, run: usize, path: &Path) {
        match read_course(path) {
            Ok((course, is_cut)) => {
                self.runs[run].course = course;
                self.read.push(path.to_owned());
                if is_cut {
                    self.problem(path, &format!("only the first lines are shown: a page shows up to {MOST_STEPS} lines or {LARGEST_RECORD} bytes of a training curve"));
                }
            }
            Err(error) => self.problem(path, &error.to_string()),
        }
    }

    /// Adds a table once; false if it is of no kind that the page shows.
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

/// A path as the page and its record write it.
fn plain(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().collect();
    match path.strip_prefix(".") {
        Ok(rest) if rest != Path::new("") => rest.to_owned(),
        _ => path,
    }
}

/// Runs by their start; of those that started in the same second, by program and output rather than by the place of the record,
/// which engines choose.
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

/// The files of the inputs, by size, so that a moved or renamed one is found by its checksum.
struct Files {
    /// Every file once, in the order of their paths.
    all: Vec<PathBuf>,
    by_size: BTreeMap<u64, Vec<PathBuf>>,
    /// What files are called in `all`, by what they are called without links.
    names: HashMap<PathBuf, PathBuf>,
    /// Checksums of the files that were read to compare them; none of those that could not be read.
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

    /// The file that a record means: same size and checksum, beside the record, among the inputs or at its old place.
    fn find(&mut self, artefact: &Artefact, record: &Path) -> Option<PathBuf> {
        let beside = record.with_file_name(artefact.path.file_name()?);
        let known = self.by_size.get(&artefact.size).into_iter().flatten();
        let candidates: Vec<PathBuf> = [beside]
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
        let is_alike =
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == artefact.size);
        if !is_alike {
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

/// The files of folders, nearest first, by what they are called without links. Links to folders, as engines make them, are followed;
/// every file and folder is taken once.
fn search(inputs: &HashSet<PathBuf>, problems: &mut Vec<String>) -> HashMap<PathBuf, PathBuf> {
    let mut queue: Vec<(PathBuf, usize)> = inputs.iter().map(|path| (path.clone(), 0)).collect();
    queue.sort();
    let mut queue = VecDeque::from(queue);
    let (mut files, mut folders, mut deep) = (HashMap::new(), HashSet::new(), Vec::new());
    while let Some((path, depth)) = queue.pop_front() {
        if files.len() + folders.len() >= MOST_FILES {
            problems.push(format!(
                "only the first {MOST_FILES} files and folders of the inputs were looked at"
            ));
            break;
        }
        match fs::canonicalize(&path) {
            Ok(place) if !place.is_dir() => {
                files.entry(place).or_insert(path);
            }
            Ok(place) if folders.contains(&place) => {}
            Ok(_) if depth > DEEPEST => deep.push(path),
            Ok(place) => {
                folders.insert(place);
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
            "`{}` and {} more folders were not searched: they are more than {DEEPEST} folders deep",
            first.display(),
            deep.len() - 1
        ));
    }
    files
}

/// The files and folders of a folder in the order of their paths, without links that lead nowhere.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(plain(&entry?.path())));
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

/// The objects of a file of lines, and whether there are more. Lines that are no JSON object, as the last of an interrupted run, are
/// left out.
fn read_course(path: &Path) -> io::Result<(Vec<Value>, bool)> {
    let file = File::open(path)?;
    let is_long = file.metadata()?.len() > LARGEST_RECORD;
    let mut lines = BufReader::new(file.take(LARGEST_RECORD)).split(b'\n');
    let mut course = Vec::new();
    for line in lines.by_ref().take(MOST_STEPS) {
        course.extend(serde_json::from_slice::<Value>(&line?).ok());
    }
    course.retain(Value::is_object);
    Ok((course, is_long || lines.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.tsv"), "").unwrap();
        for link in 0..12 {
            std::os::unix::fs::symlink(".", folder.path().join(format!("link{link}"))).unwrap();
        }
        let mut problems = Vec::new();
        let inputs = [folder.path().to_owned(), folder.path().join("a.tsv")];
        let files = Files::list(&inputs.into(), &mut problems);
        assert_eq!(files.all, [folder.path().join("a.tsv")]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn folders_that_are_too_deep_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..12).map(|at| format!("f{at}")).collect();
        let near: PathBuf = (0..DEEPEST).map(|at| format!("f{at}")).collect();
        fs::create_dir_all(folder.path().join(&deep)).unwrap();
        for place in [&deep, &near] {
            fs::write(folder.path().join(place).join("a.tsv"), "").unwrap();
        }
        let mut problems = Vec::new();
        let files = Files::list(&[folder.path().to_owned()].into(), &mut problems);
        assert_eq!(files.all, [folder.path().join(near).join("a.tsv")]);
        assert!(
            problems.len() == 1 && problems[0].contains("not searched"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_path_has_one_name() {
        assert_eq!(plain(Path::new("./x/./y/")), Path::new("x/y"));
        assert_eq!(plain(Path::new("./")), Path::new("."));
    }
}
