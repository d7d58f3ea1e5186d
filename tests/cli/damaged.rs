//! Damaged HDF5 files: a result or a clear error, within limits of time and memory, whatever the HDF5 library does with them.
//!
//! `SCGPT_TEST_MUTATIONS` sets the number of mutations of each file. For large numbers, set `SCGPT_TEST_PROGRAMS` to a directory
//! with the program built without libtorch, which starts faster and needs less memory.

use crate::support::needs::formats;
use crate::support::programs;
use hdf5::file::{Sizeof, SizeofInfo};
use rayon::prelude::*;
use scgpt_tools::random::{Seed, Stream, below};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tempfile::tempdir;

/// More than the program waits for the library.
const TIME: Duration = Duration::from_secs(40);
/// Address space in KiB: without libtorch, and with it.
const LEAN: usize = 512 << 10;
const WITH_TORCH: usize = 2 << 20;
const INPUT: i32 = 65;
/// Larger files would take long to write again and again.
const LARGEST: u64 = 300_000;
/// What marks a piece of metadata (HDF5 file format specification).
const SIGNATURES: [&[u8]; 12] = [
    b"TREE", b"HEAP", b"SNOD", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"BTHD", b"BTLF",
    b"FAHD", b"EAHD",
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Done,
    Rejected,
    /// The library crashed or did not return, with a message to the user.
    Explained(String),
    /// Anything else, which must not happen.
    Wrong(String),
}

/// A file of the collection, and the options without which it is rejected whole.
struct Specimen {
    name: String,
    path: PathBuf,
    options: Vec<String>,
}

#[test]
fn damaged_hdf5_files_give_a_result_or_a_clear_error() {
    let given = std::env::var("SCGPT_TEST_MUTATIONS").ok();
    let count = given.map_or(2, |count| count.parse().expect("a number of mutations"));
    let specimens = specimens(&formats(""));
    assert!(!specimens.is_empty());
    let two_threads = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let mut wrong = Vec::new();
    two_threads.expect("two threads").install(|| {
        for specimen in &specimens {
            let endings: Vec<Ending> = (0..count)
                .into_par_iter()
                .map(|seed| ending(specimen, seed))
                .collect();
            println!("{}", summary(&specimen.name, &endings));
            let is_wrong = |(_, ending): &(usize, Ending)| matches!(ending, Ending::Wrong(_));
            wrong.extend(
                endings
                    .into_iter()
                    .enumerate()
                    .filter(is_wrong)
                    .map(|(seed, ending)| {
                        format!("{}, mutation {seed}: {ending:?}", specimen.name)
                    }),
            );
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One line: the file, and the number of mutations by ending.
fn summary(name: &str, endings: &[Ending]) -> String {
    let mut counts: BTreeMap<&Ending, usize> = BTreeMap::new();
    for ending in endings {
        *counts.entry(ending).or_default() += 1;
    }
    format!("{name}: {counts:?}")
}

fn specimens(formats: &Path) -> Vec<Specimen> {
    let mut found = Vec::new();
    let mut folders = vec![formats.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            let extension = path.extension().and_then(|e| e.to_str());
            let is_hdf5 = extension.is_some_and(|e| ["h5ad", "h5", "h5mu", "loom"].contains(&e));
            if path.is_dir() {
                folders.push(path);
            } else if is_hdf5 && fs::metadata(&path).expect("a file").len() < LARGEST {
                let name = path.strip_prefix(formats).expect("below").display();
                found.push(Specimen {
                    name: name.to_string(),
                    options: options(formats, &name.to_string()),
                    path,
                });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// All columns of `obs`, so that they are read; one of several tables.
fn options(formats: &Path, name: &str) -> Vec<String> {
    let table = fs::read_to_string(formats.join("EXPECTED.tsv")).expect("a table");
    let row = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let columns = row
        .filter(|row| row[0] == name && row[1] == "h5ad")
        .find_map(|row| Some((*row.get(7)?).to_owned()));
    match columns.filter(|columns| !columns.is_empty()) {
        Some(columns) => vec!["--obs".to_owned(), columns],
        None if name.starts_with("mudata") => vec!["--modality".into(), "mod1".into()],
        None if name.ends_with("genomes.h5") => vec!["--genome".into(), "hg19".into()],
        None => Vec::new(),
    }
}

fn ending(specimen: &Specimen, seed: usize) -> Ending {
    let place = tempdir().expect("a directory");
    let file = specimen.path.file_name().expect("a name");
    let input = place.path().join(file);
    let whole = fs::read(&specimen.path).expect("a file");
    let mut stream = Seed(4).stream(&specimen.name, &[seed as u64]);
    fs::write(&input, damaged(whole, &mut stream)).expect("a directory to write to");
    let output = tokenize(&input, &specimen.options);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error = stderr.lines().rfind(|line| line.starts_with("error: "));
    match (output.status.code(), error) {
        (Some(0), None) => Ending::Done,
        (Some(INPUT), Some(error)) if error.contains("the library that reads") => {
            Ending::Explained(error.replace(&input.display().to_string(), "it"))
        }
        (Some(INPUT), Some(error)) if error.contains(&*file.to_string_lossy()) => Ending::Rejected,
        _ => Ending::Wrong(format!("{}: {stderr}", output.status)),
    }
}

/// Runs the program within limits.
fn tokenize(input: &Path, options: &[String]) -> Output {
    let is_lean = std::env::var_os("SCGPT_TEST_PROGRAMS").is_some();
    let limit = if is_lean { LEAN } else { WITH_TORCH };
    assert_cmd::Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -v $0; exec \"$@\""])
        .arg(limit.to_string())
        .arg(programs::path("scgpt-tokenize"))
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(input.with_file_name("corpus"))
        .args(["--memory", "128M", "--threads", "2"])
        .args(options)
        .timeout(TIME)
        .output()
        .expect("a program")
}

/// One or two changes, most of them where the metadata is.
fn damaged(mut bytes: Vec<u8>, stream: &mut Stream) -> Vec<u8> {
    let marks: Vec<usize> = (0..bytes.len())
        .filter(|&at| is_metadata(&bytes[at..]))
        .collect();
    for _ in 0..1 + below(stream, 2) {
        let at = place(&marks, bytes.len(), stream);
        let end = |length: usize| (at + length).min(bytes.len());
        match below(stream, 16) {
            0 => bytes.truncate(below(stream, bytes.len()) + 1),
            1 | 2 => {
                let (end, value) = (end(1 + below(stream, 64)), [0, 255][below(stream, 2)]);
                bytes[at..end].fill(value);
            }
            3..=5 => {
                let end = end(1 + below(stream, 16));
                bytes[at..end].fill_with(|| below(stream, 256) as u8);
            }
            6 | 7 => {
                let other = place(&marks, bytes.len(), stream);
                let length = at.abs_diff(other).min(bytes.len() - at.max(other)).min(512);
                let (low, high) = bytes.split_at_mut(at.max(other));
                low[at.min(other)..][..length].swap_with_slice(&mut high[..length]);
            }
            _ => bytes[at] ^= 1 << below(stream, 8),
        }
    }
    bytes
}

/// Whether a signature or an object header of the first version begins here.
fn is_metadata(rest: &[u8]) -> bool {
    let is_header = match rest {
        [1, 0, messages, 0, links, 0, 0, 0, ..] => {
            (1..=32).contains(messages) && (1..=8).contains(links)
        }
        _ => false,
    };
    is_header || SIGNATURES.iter().any(|sign| rest.starts_with(sign))
}

fn place(marks: &[usize], length: usize, stream: &mut Stream) -> usize {
    let at = match below(stream, 10) {
        0 => below(stream, length),
        1 | 2 => below(stream, length.min(20_000)),
        _ if marks.is_empty() => below(stream, length),
        kind => {
            let reach = if kind < 7 { 64 } else { 600 };
            marks[below(stream, marks.len())] + below(stream, reach)
        }
    };
    at.min(length - 1)
}

/// A file on which HDF5 2.2 never returns, with numbers narrower than those for which the program looks before.
fn endless(path: &Path) {
    let narrow = SizeofInfo {
        sizeof_addr: Sizeof::Bytes4,
        sizeof_size: Sizeof::Bytes4,
    };
    let file = hdf5::FileBuilder::new()
        .with_fcpl(|plist| plist.sizes(narrow))
        .create(path);
    let write = |file: hdf5::File| {
        for frame in ["obs", "var"] {
            let names = ["a", "b"].map(|name| name.parse::<hdf5::types::VarLenUnicode>());
            let names = names.map(|name| name.expect("a text"));
            let frame = file.create_group(frame)?;
            frame
                .new_dataset_builder()
                .with_data(&names)
                .create("_index")?;
        }
        let values = ndarray::arr2(&[[1.0_f32, 0.0], [2.0, 3.0]]);
        file.new_dataset_builder().with_data(&values).create("X")
    };
    file.and_then(write).expect("a file");
    let mut bytes = fs::read(path).expect("the file");
    let heap = bytes.windows(4).position(|window| window == b"GCOL");
    let object = heap.expect("a heap of texts") + 16;
    bytes[object..object + 12].fill(0);
    bytes[object + 12..object + 16].fill(255);
    fs::write(path, bytes).expect("the file");
}

#[test]
fn a_library_that_never_returns_is_explained() {
    let place = tempdir().expect("a directory");
    let input = place.path().join("endless.h5ad");
    endless(&input);
    let output = tokenize(&input, &["--log-format".into(), "json".into()]);
    assert_eq!(output.status.code(), Some(INPUT));
    let stderr: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one object");
    let message = stderr["message"].as_str().expect("a text");
    assert!(
        message.contains("endless.h5ad` does not return"),
        "{message}"
    );
}

#[test]
fn a_library_that_crashes_is_explained() {
    let place = tempdir().expect("a directory");
    let input = place.path().join("endless.h5ad");
    endless(&input);
    for signal in ["SEGV", "BUS", "FPE", "ILL", "ABRT"] {
        let script = "\"$@\" & sleep 2; kill -$0 $!; wait $!";
        let output = assert_cmd::Command::new("sh")
            .args(["-c", script, signal])
            .arg(programs::path("scgpt-tokenize"))
            .arg("--input")
            .arg(&input)
            .arg("--output")
            .arg(place.path().join("corpus"))
            .output()
            .expect("a program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(INPUT), "{signal}: {stderr}");
        assert!(
            stderr.contains("endless.h5ad` crashed: most likely"),
            "{stderr}"
        );
    }
}
