//! Manifest of an index. It contains no timestamps, thread counts or paths.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use crate::file_format::{REFERENCE_INDEX, Statement};
use crate::output;

/// File that describes the others.
pub const MANIFEST: &str = "manifest.json";
/// Far beyond the embedding dimension of any model.
const MOST_DIMENSIONS: usize = 1 << 16;
/// Far more inverted lists than are useful.
const MOST_LISTS: usize = 1 << 16;
/// Maximum bytes of a manifest: more than a hundred thousand shards need.
const LARGEST_MANIFEST: u64 = 1 << 26;
/// Number of cells above which inverted lists are the default.
const MANY: u64 = 1_000_000;
/// Extensions of files that faiss writes.
const FAISS_EXTENSIONS: [&str; 2] = ["faiss", "index"];

/// Distance between two cells.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Euclidean distance after scaling the embeddings to length 1, as in scGPT in Python.
    #[default]
    Cosine,
    /// Euclidean distance.
    Euclidean,
}

/// A file with reference cells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name without directories.
    pub file: String,
    pub cells: u64,
}

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub file: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Stored {
    /// Describes a finished file.
    pub fn of(directory: &Path, file: &str) -> Result<Self, Error> {
        let path = directory.join(file);
        Ok(Self {
            file: file.to_owned(),
            sha256: checksum(open(&path)?).map_err(Error::read(&path))?,
        })
    }

    /// Compares the file with its checksum.
    pub fn verify(&self, directory: &Path) -> Result<(), Error> {
        let found = Self::of(directory, &self.file)?.sha256;
        if found != self.sha256 {
            let problem = format!(
                "its SHA-256 is {found}, but the manifest contains {}: copy or build the index again",
                self.sha256
            );
            return Err(Error::input(&directory.join(&self.file), problem));
        }
        Ok(())
    }
}

/// Cells that were written together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shard {
    pub cells: u64,
    pub vectors: Stored,
    pub places: Stored,
    pub lists: Stored,
    pub annotations: Stored,
}

impl Shard {
    pub fn files(&self) -> [&Stored; 4] {
        [&self.vectors, &self.places, &self.lists, &self.annotations]
    }

    pub fn files_mut(&mut self) -> [&mut Stored; 4] {
        [
            &mut self.vectors,
            &mut self.places,
            &mut self.lists,
            &mut self.annotations,
        ]
    }

    /// Names of the files of the shard with this number, in the order of [`Self::files`].
    pub fn names(number: usize) -> [String; 4] {
        [
            ("vectors", "f32"),
            ("places", "f32"),
            ("lists", "u32"),
            ("cells", "tsv"),
        ]
        .map(|(stem, extension)| format!("{stem}-{number:03}.{extension}"))
    }
}

/// Contents of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(flatten)]
    statement: Statement,
    pub cells: u64,
    /// Embedding dimension.
    pub embedding_dim: usize,
    pub metric: Metric,
    /// Default column of labels to transfer.
    pub label: String,
    /// Columns of the annotations, including the label.
    pub columns: Vec<String>,
    /// Source of the 2-D coordinates: an element of obsm, or principal components of the embeddings.
    pub coordinates: String,
    pub n_lists: usize,
    /// Default number of inverted lists that a search reads, and its recall.
    pub n_probe: usize,
    pub recall: f64,
    pub origins: Vec<Origin>,
    pub(super) centroids: Stored,
    pub(super) plane: Stored,
    pub(super) distances: Stored,
    pub(super) shards: Vec<Shard>,
}

impl Manifest {
    /// A manifest without shards, which are added later.
    pub(super) fn new(settings: &super::Settings, lists: usize) -> Self {
        let none = |file: &str| Stored {
            file: file.to_owned(),
            sha256: String::new(),
        };
        Self {
            statement: REFERENCE_INDEX.statement(),
            cells: 0,
            embedding_dim: settings.width,
            metric: settings.metric,
            label: settings.label.clone(),
            columns: settings.columns.clone(),
            coordinates: settings.coordinates.clone(),
            n_lists: lists,
            n_probe: lists,
            recall: 1.0,
            origins: Vec::new(),
            centroids: none("centroids.f32"),
            plane: none("plane.f32"),
            distances: none("distances.f32"),
            shards: Vec::new(),
        }
    }

    /// Reads the manifest of a directory and validates all of it.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(MANIFEST);
        require_index(directory, &path)?;
        let wrong = |problem: String| Error::input(&path, problem);
        let mut text = Vec::new();
        let mut file = open(&path)?.take(LARGEST_MANIFEST + 1);
        file.read_to_end(&mut text).map_err(Error::read(&path))?;
        if text.len() as u64 > LARGEST_MANIFEST {
            return Err(wrong(format!(
                "it has more than {LARGEST_MANIFEST} bytes, the maximum of a manifest"
            )));
        }
        let json: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        if !REFERENCE_INDEX.is_stated(&json) {
            return Err(wrong(format!(
                "format {}, expected \"{}\": choose a directory that {} wrote",
                json["format"], REFERENCE_INDEX.name, REFERENCE_INDEX.writer
            )));
        }
        REFERENCE_INDEX.check(&json).map_err(wrong)?;
        let manifest: Self = serde_json::from_value(json)
            .map_err(|error| wrong(format!("not a manifest: {error}")))?;
        match manifest.problem() {
            Some(problem) => Err(wrong(problem)),
            None => Ok(manifest),
        }
    }

    fn problem(&self) -> Option<String> {
        let cells = self
            .shards
            .iter()
            .try_fold(0u64, |sum, shard| sum.checked_add(shard.cells));
        let mut names = HashSet::from([MANIFEST]);
        let bad = self.files().find(|stored| !is_plain(&stored.file));
        let again = self.files().find(|stored| !names.insert(&stored.file));
        match () {
            () if !(1..=MOST_DIMENSIONS).contains(&self.embedding_dim) => Some(format!(
                "embedding dimension {}, expected 1 to {MOST_DIMENSIONS}",
                self.embedding_dim
            )),
            () if !(1..=MOST_LISTS).contains(&self.n_lists) => Some(format!(
                "{} inverted lists, expected 1 to {MOST_LISTS}",
                self.n_lists
            )),
            () if !(1..=self.n_lists).contains(&self.n_probe) => Some(format!(
                "searches read {} of {} inverted lists",
                self.n_probe, self.n_lists
            )),
            () if cells != Some(self.cells) || self.cells == 0 => Some(format!(
                "{} cells, but the sum over its shards differs",
                self.cells
            )),
            () if !self.columns.contains(&self.label) => Some(format!(
                "the label `{}` is not among the columns",
                self.label
            )),
            () if bad.is_some() => bad.map(|stored| {
                format!(
                    "`{}` is not the name of a file in the directory",
                    stored.file
                )
            }),
            () => again.map(|stored| {
                format!(
                    "`{}` is listed twice, expected a separate file",
                    stored.file
                )
            }),
        }
    }

    /// Whether one list has so many cells that several lists would be much faster.
    pub fn is_slow(&self) -> bool {
        self.n_lists == 1 && self.cells > MANY
    }

    /// Default number of inverted lists.
    pub fn default_lists(cells: u64) -> usize {
        match cells > MANY {
            true => (cells as f64).sqrt().round() as usize,
            false => 1,
        }
    }

    /// Names and checksums of all listed files.
    pub fn checksums(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files()
            .map(|stored| (stored.file.as_str(), stored.sha256.as_str()))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Stored> {
        let own = [&self.centroids, &self.plane, &self.distances];
        let shards = self.shards.iter().flat_map(|shard| shard.files());
        own.into_iter().chain(shards)
    }

    /// Writes the manifest, which completes the index.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        let mut json = serde_json::to_string_pretty(self).expect("text and numbers are JSON");
        json.push('\n');
        let path = directory.join(MANIFEST);
        Ok(output::write_file(&path, |file| {
            file.write_all(json.as_bytes())
        })?)
    }
}

/// Whether a name is a plain file name, not a path.
fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name)
}

/// Fails, with advice, if there is no directory with a manifest.
fn require_index(directory: &Path, manifest: &Path) -> Result<(), Error> {
    if manifest.exists() {
        return Ok(());
    }
    let is_of_faiss = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        path.is_file() && extension.is_some_and(|extension| FAISS_EXTENSIONS.contains(&extension))
    };
    let mut inside = fs::read_dir(directory).into_iter().flatten().flatten();
    if is_of_faiss(&directory.to_owned()) || inside.any(|entry| is_of_faiss(&entry.path())) {
        return Err(Error::input(
            directory,
            "faiss indexes are not supported: build an index from the embedded cells with `scgpt-map-reference build`",
        ));
    }
    let problem = if directory.is_dir() {
        format!(
            "it contains no `{MANIFEST}`: choose a directory that `scgpt-map-reference build` wrote"
        )
    } else if directory.exists() {
        "it is not a directory: choose one that `scgpt-map-reference build` wrote".to_owned()
    } else {
        "there is no such directory".to_owned()
    };
    Err(Error::input(directory, problem))
}

/// Opens a regular file; pipes and devices, which may be endless, are rejected.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let found = fs::metadata(path).map_err(Error::read(path))?;
    if !found.is_file() {
        return Err(Error::input(path, "it is not a regular file"));
    }
    File::open(path).map_err(Error::read(path))
}

fn checksum(mut file: File) -> io::Result<String> {
    let mut sink = HashingWriter(Sha256::new());
    io::copy(&mut file, &mut sink)?;
    let digits = sink.0.finalize();
    Ok(digits.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct HashingWriter(Sha256);

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;
    use crate::reference_index::Settings;

    fn manifest() -> Manifest {
        let settings = Settings {
            width: 2,
            metric: Metric::Cosine,
            label: "type".into(),
            columns: vec!["type".into()],
            coordinates: "pca".into(),
            seed: Seed(1),
        };
        let stored = |file: &String| Stored {
            file: file.clone(),
            sha256: String::new(),
        };
        let [vectors, places, lists, annotations] = Shard::names(0);
        let mut manifest = Manifest::new(&settings, 1);
        manifest.cells = 3;
        manifest.shards.push(Shard {
            cells: 3,
            vectors: stored(&vectors),
            places: stored(&places),
            lists: stored(&lists),
            annotations: stored(&annotations),
        });
        manifest
    }

    #[test]
    fn every_file_has_a_distinct_name() {
        let good = manifest();
        assert_eq!(good.problem(), None);
        for name in [
            "places-000.f32",
            "plane.f32",
            MANIFEST,
            "../vectors-000.f32",
        ] {
            let mut bad = good.clone();
            bad.shards[0].vectors.file = name.to_owned();
            assert!(bad.problem().unwrap().contains(name), "{name}");
        }
    }

    #[test]
    fn more_than_a_million_cells_need_lists() {
        assert_eq!(Manifest::default_lists(1_000_000), 1);
        assert_eq!(Manifest::default_lists(4_000_000), 2000);
        let mut manifest = manifest();
        assert!(!manifest.is_slow());
        manifest.cells = 1_000_001;
        assert!(manifest.is_slow());
        manifest.n_lists = 1000;
        assert!(!manifest.is_slow());
    }
}
