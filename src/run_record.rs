//! Run records: program, version, options, inputs and outputs with checksums, timings and metrics. One JSON file per run.
//!
//! Only this file may contain times. Every other output is a function of inputs, options, seed and version.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::clock::timestamp;
use crate::file_format::{RUN_RECORD, Statement};
use crate::interrupt::Interrupt;
use crate::memory::{self, Peak};
use crate::output;
use crate::progress;

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub statement: Statement,
    pub program: String,
    /// Start and end, RFC 3339 in UTC.
    pub started: String,
    pub finished: String,
    /// All options in effect: from flags, parameter file, or defaults.
    pub options: Map<String, Value>,
    pub seed: Option<u64>,
    pub device: Option<String>,
    pub threads: usize,
    /// CPU model, if available from the system.
    #[serde(default)]
    pub processor: Option<String>,
    /// Peak memory of the process (bytes), if available from the system.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    pub inputs: Vec<Artefact>,
    pub outputs: Vec<Artefact>,
    pub timings: Vec<Timing>,
    pub metrics: Map<String, Value>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
    /// Exit code; 0 is success.
    pub exit_status: u8,
    /// Error message, on one line.
    pub error: Option<String>,
}

/// A file that was read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// Duration of a named stage; a stage that ran twice is listed twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub stage: String,
    pub seconds: f64,
    /// Peak memory of the process during the stage (bytes), including what was in use before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The enclosing stage, whose seconds include those of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

/// The run in progress: collects the record and prints messages.
#[derive(Debug)]
pub struct Run {
    record: Record,
    path: Option<PathBuf>,
    memory: Peak,
    /// Running stages, the innermost last.
    stages: Vec<String>,
}

impl Run {
    /// Starts the clock.
    pub fn start(program: &str, options: Map<String, Value>, threads: usize) -> Self {
        let record = Record {
            statement: RUN_RECORD.statement(),
            program: program.into(),
            started: timestamp(SystemTime::now()),
            finished: String::new(),
            options,
            seed: None,
            device: None,
            threads,
            processor: memory::processor(),
            peak_memory: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            timings: Vec::new(),
            metrics: Map::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            exit_status: 0,
            error: None,
        };
        Self {
            record,
            path: None,
            memory: Peak::default(),
            stages: Vec::new(),
        }
    }

    /// Sets the path of the record, unless it is already set, as by `--record`.
    pub fn record_at(&mut self, path: impl Into<PathBuf>) {
        self.path.get_or_insert_with(|| path.into());
    }

    /// The files read so far, with their checksums.
    pub fn inputs(&self) -> &[Artefact] {
        &self.record.inputs
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.record.threads
    }

    /// Records the random seed.
    pub fn seed(&mut self, seed: u64) {
        self.record.seed = Some(seed);
    }

    /// Records and prints the device.
    pub fn device(&mut self, device: impl Into<String>) {
        let device = device.into();
        progress::note(&format!("computing on {device}"));
        self.record.device = Some(device);
    }

    /// Records an input file, or every file of a directory, with size and checksum.
    pub fn input(&mut self, path: &Path) -> io::Result<()> {
        self.record.inputs.extend(artefacts(path)?);
        Ok(())
    }

    /// Records an input file that is too large to be read twice: size only, without checksum.
    pub fn input_unread(&mut self, path: &Path) -> io::Result<()> {
        let size = fs::metadata(path).map_err(named(path))?.len();
        self.record.inputs.push(Artefact {
            path: path.to_owned(),
            size,
            sha256: String::new(),
        });
        Ok(())
    }

    /// Records an input file whose checksum was verified when it was opened.
    pub fn input_known(&mut self, path: &Path, sha256: &str) -> io::Result<()> {
        self.record.inputs.push(known(path, sha256)?);
        Ok(())
    }

    /// Records a finished file or directory, with sizes and checksums.
    pub fn output(&mut self, path: &Path) -> io::Result<()> {
        self.record.outputs.extend(artefacts(path)?);
        Ok(())
    }

    /// Records a finished file whose checksum was taken while it was written.
    pub fn output_known(&mut self, path: &Path, sha256: &str) -> io::Result<()> {
        self.record.outputs.push(known(path, sha256)?);
        Ok(())
    }

    /// Runs a stage and records its duration and peak memory, even if it fails.
    pub fn stage<T>(&mut self, stage: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        progress::detail(stage);
        let (start, outer) = (Instant::now(), self.memory.begin());
        self.stages.push(stage.into());
        let result = work(self);
        self.stages.pop();
        self.record.timings.push(Timing {
            stage: stage.into(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory: self.memory.end(outer),
            within: self.stages.last().cloned(),
        });
        result
    }

    /// Records a result under a name; a later one of the same name replaces it.
    pub fn metric(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value)
            .expect("metrics are numbers, texts, lists and objects with text keys");
        self.record.metrics.insert(name.into(), value);
    }

    /// Records and prints a note.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        progress::note(&text);
        self.record.notes.push(text);
    }

    /// Records and prints a warning.
    pub fn warning(&mut self, text: impl Into<String>) {
        let text = text.into();
        progress::warning(&text);
        self.record.warnings.push(text);
    }

    /// The interrupt flag, for loops that can save and exit; after the first call, signals no longer end the program.
    pub fn interrupt(&self) -> Interrupt {
        Interrupt::watch()
    }

    /// Whether the run was interrupted by a signal.
    pub fn interrupted(&self) -> bool {
        self.interrupt().requested()
    }

    /// Stops the clock and writes the record, if it has a path and the directory of that path exists.
    pub fn finish(
        mut self,
        exit_status: u8,
        error: Option<String>,
    ) -> Result<Record, output::Error> {
        self.record.finished = timestamp(SystemTime::now());
        self.record.exit_status = exit_status;
        self.record.peak_memory = self.memory.total();
        self.record.error = error;
        // An output directory of a failed run does not exist, and then there is no record either.
        match &self.path {
            Some(path) if exit_status == 0 || output::parent(path).is_dir() => {
                self.record.write(path)?
            }
            _ => {}
        }
        Ok(self.record)
    }
}

impl Record {
    /// Writes the record as indented JSON.
    pub fn write(&self, path: &Path) -> Result<(), output::Error> {
        output::write_file(path, |w| {
            serde_json::to_writer_pretty(&mut *w, self)?;
            w.write_all(b"\n")
        })
    }
}

fn known(path: &Path, sha256: &str) -> io::Result<Artefact> {
    Ok(Artefact {
        path: path.to_owned(),
        size: fs::metadata(path).map_err(named(path))?.len(),
        sha256: sha256.to_owned(),
    })
}

/// The file, or all files of the directory in the order of their paths.
fn artefacts(path: &Path) -> io::Result<Vec<Artefact>> {
    if !path.is_dir() {
        return Ok(vec![artefact(path)?]);
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    // A link to a directory could form a cycle.
    entries.retain(|entry| !(entry.is_symlink() && entry.is_dir()));
    entries.sort();
    let found = entries
        .iter()
        .map(|entry| artefacts(entry))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(found.concat())
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| {
        let problem = format!("could not read `{}`: {error}", path.display());
        io::Error::new(error.kind(), problem)
    }
}

fn artefact(path: &Path) -> io::Result<Artefact> {
    let named = named(path);
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(&named)?);
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let n = file.read(&mut buffer).map_err(&named)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
    let sha256 = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Artefact {
        path: path.to_owned(),
        size,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/abc"), "abc").unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let found = artefacts(folder.path()).unwrap();
        assert_eq!(found[0].path, folder.path().join("a/abc"));
        assert_eq!((found[0].size, found[1].size), (3, 0));
        assert_eq!(
            found[0].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            found[1].sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = Run::start("toy", Map::new(), 1)
            .input(Path::new("absent.h5ad"))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("`absent.h5ad`"), "{error}");
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(output::RECORD);
        let mut run = Run::start("toy", Map::from_iter([("epochs".into(), 3.into())]), 2);
        run.record_at(&path);
        run.seed(42);
        run.device("cpu");
        let doubled = run.stage("doubling", |run| {
            run.metric("accuracy", 0.1 + 0.2);
            2 * 21
        });
        run.note("12 of 20 genes match");
        let record = run.finish(0, None).unwrap();
        let read: Record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((doubled, &read), (42, &record));
        assert_eq!(
            (
                read.timings[0].stage.as_str(),
                read.metrics["accuracy"].as_f64()
            ),
            ("doubling", Some(0.1 + 0.2))
        );
    }

    #[test]
    fn memory_is_that_of_the_stage_and_stages_name_their_enclosing_one() {
        let mut run = Run::start("toy", Map::new(), 1);
        run.stage("much", |run| {
            let held = std::hint::black_box(vec![1_u8; 100 << 20]);
            run.stage("more", |_| std::hint::black_box(held.clone()).len());
        });
        run.stage("little", |_| ());
        let record = run.finish(0, None).unwrap();
        let within = [0, 1, 2].map(|at| record.timings[at].within.as_deref());
        assert_eq!(within, [Some("much"), None, None]);
        let [more, much, little] = [0, 1, 2].map(|at| record.timings[at].peak_memory);
        if let (Some(more), Some(much), Some(little)) = (more, much, little) {
            assert!(more >= 200 << 20 && much >= more, "{more} {much}");
            assert!(little + (50 << 20) < more, "{little} {more}");
            assert!(record.peak_memory >= Some(much));
        }
    }

    #[test]
    fn records_from_before_memory_was_measured_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(output::RECORD);
        let mut run = Run::start("toy", Map::new(), 1);
        run.record_at(&path);
        run.finish(0, None).unwrap();
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let object = json.as_object_mut().unwrap();
        object.remove("peak_memory").unwrap();
        object.remove("processor").unwrap();
        let read: Record = serde_json::from_value(json).unwrap();
        assert_eq!((read.peak_memory, read.processor), (None, None));
    }

    #[test]
    fn a_failed_run_without_its_directory_writes_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::start("toy", Map::new(), 1);
        run.record_at(folder.path().join("model/run.json"));
        assert_eq!(
            run.finish(65, Some("no".into())).unwrap().error.as_deref(),
            Some("no")
        );
        assert!(!folder.path().join("model").exists());
    }
}
