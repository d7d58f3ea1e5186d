//! What an atlas says of itself. It says nothing of time, threads or places.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use crate::output;

/// The file that describes the others.
pub const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "scgpt-reference-index";
const VERSION: u32 = 1;
/// Far beyond the width of any model.
const WIDEST: usize = 1 << 16;
/// Far more lists than help.
const MOST_LISTS: usize = 1 << 16;
/// Bytes of a manifest at most: more than a hundred thousand shards need.
const LARGEST_MANIFEST: u64 = 1 << 26;
/// More cells than this are better searched in lists.
const MANY: u64 = 1_000_000;
/// Endings of the files that faiss writes.
const OF_FAISS: [&str; 2] = ["faiss", "index"];

/// How far apart two cells are.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The angle alone: vectors are brought to length 1, then the length of their difference counts.
    #[default]
    Cosine,
    /// The length of the difference.
    Euclidean,
}

/// A file that cells came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name without folders.
    pub file: String,
    pub cells: u64,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub file: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Stored {
    /// Describes a finished file.
    pub fn of(folder: &Path, file: &str) -> Result<Self, Error> {
        let path = folder.join(file);
        Ok(Self {
            file: file.to_owned(),
            sha256: checksum(open(&path)?).map_err(Error::read(&path))?,
        })
    }

    /// Compares the file with its checksum.
    pub fn verify(&self, folder: &Path) -> Result<(), Error> {
        let found = Self::of(folder, &self.file)?.sha256;
        if found != self.sha256 {
            let problem = format!(
                "its SHA-256 is {found}, the manifest says {}; copy or build the index again",
                self.sha256
            );
            return Err(Error::input(&folder.join(&self.file), problem));
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
        .map(|(kind, ending)| format!("{kind}-{number:03}.{ending}"))
    }
}

/// What an atlas holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    pub cells: u64,
    /// Numbers of a vector.
    pub width: usize,
    pub metric: Metric,
    /// Column whose labels are given to new cells unless another is asked for.
    pub label: String,
    /// Columns that cells have, the label among them.
    pub columns: Vec<String>,
    /// Where the coordinates in the plane come from: an element of obsm, or principal components of the vectors.
    pub coordinates: String,
    pub lists: usize,
    /// Lists that a search looks into unless asked otherwise, and the share of true neighbours in them.
    pub probes: usize,
    pub recall: f64,
    pub origins: Vec<Origin>,
    pub(super) centroids: Stored,
    pub(super) plane: Stored,
    pub(super) distances: Stored,
    pub(super) shards: Vec<Shard>,
}

impl Manifest {
    /// One without shards, to which they are added.
    pub(super) fn new(settings: &super::Settings, lists: usize) -> Self {
        let none = |file: &str| Stored {
            file: file.to_owned(),
            sha256: String::new(),
        };
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            cells: 0,
            width: settings.width,
            metric: settings.metric,
            label: settings.label.clone(),
            columns: settings.columns.clone(),
            coordinates: settings.coordinates.clone(),
            lists,
            probes: lists,
            recall: 1.0,
            origins: Vec::new(),
            centroids: none("centroids.f32"),
            plane: none("plane.f32"),
            distances: none("distances.f32"),
            shards: Vec::new(),
        }
    }

    /// Reads the manifest of a folder and checks all that it says before any of it is believed.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        require_index(folder, &path)?;
        let wrong = |problem: String| Error::input(&path, problem);
        let mut text = Vec::new();
        let mut file = open(&path)?.take(LARGEST_MANIFEST + 1);
        file.read_to_end(&mut text).map_err(Error::read(&path))?;
        if text.len() as u64 > LARGEST_MANIFEST {
            return Err(wrong(format!(
                "it has more than {LARGEST_MANIFEST} bytes, which no manifest has"
            )));
        }
        let json: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        if json["format"] != FORMAT || json["version"] != VERSION {
            return Err(wrong(format!(
                "format {} of version {}, expected \"{FORMAT}\" of version {VERSION}; name a folder that scgpt-map-reference build wrote",
                json["format"], json["version"]
            )));
        }
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
            () if !(1..=WIDEST).contains(&self.width) => {
                Some(format!("width {}, expected 1 to {WIDEST}", self.width))
            }
            () if !(1..=MOST_LISTS).contains(&self.lists) => {
                Some(format!("{} lists, expected 1 to {MOST_LISTS}", self.lists))
            }
            () if !(1..=self.lists).contains(&self.probes) => {
                Some(format!("{} probes of {} lists", self.probes, self.lists))
            }
            () if cells != Some(self.cells) || self.cells == 0 => Some(format!(
                "{} cells, but its shards do not add up to that",
                self.cells
            )),
            () if !self.columns.contains(&self.label) => Some(format!(
                "the label `{}` is not among the columns",
                self.label
            )),
            () if bad.is_some() => bad
                .map(|stored| format!("`{}` is not the name of a file in the folder", stored.file)),
            () => again.map(|stored| {
                format!(
                    "`{}` is named twice, but every file is its own",
                    stored.file
                )
            }),
        }
    }

    /// Whether there are so many cells in one list that lists would save much time.
    pub fn is_slow(&self) -> bool {
        self.lists == 1 && self.cells > MANY
    }

    /// Lists that so many cells are divided into, if not told otherwise.
    pub fn usual_lists(cells: u64) -> usize {
        match cells > MANY {
            true => (cells as f64).sqrt().round() as usize,
            false => 1,
        }
    }

    /// Names and checksums of all files that it describes.
    pub fn checksums(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files()
            .map(|stored| (stored.file.as_str(), stored.sha256.as_str()))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Stored> {
        let own = [&self.centroids, &self.plane, &self.distances];
        let shards = self.shards.iter().flat_map(|shard| shard.files());
        own.into_iter().chain(shards)
    }

    /// Writes the manifest, which completes the atlas.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut json = serde_json::to_string_pretty(self).expect("text and numbers are JSON");
        json.push('\n');
        let path = folder.join(MANIFEST);
        Ok(output::write_file(&path, |file| {
            file.write_all(json.as_bytes())
        })?)
    }
}

/// Whether a name is that of a file in a folder, not a path elsewhere.
fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name)
}

/// Fails, and says what to do, where there is no folder with a manifest.
fn require_index(folder: &Path, manifest: &Path) -> Result<(), Error> {
    if manifest.exists() {
        return Ok(());
    }
    let is_of_faiss = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        path.is_file() && ending.is_some_and(|ending| OF_FAISS.contains(&ending))
    };
    let mut inside = fs::read_dir(folder).into_iter().flatten().flatten();
    if is_of_faiss(&folder.to_owned()) || inside.any(|entry| is_of_faiss(&entry.path())) {
        return Err(Error::input(
            folder,
            "it is an index of faiss, which keeps vectors only approximately and is not read: build an index from the embedded cells with `scgpt-map-reference build`",
        ));
    }
    let problem = if folder.is_dir() {
        format!(
            "there is no `{MANIFEST}` in it; name a folder that scgpt-map-reference build wrote"
        )
    } else if folder.exists() {
        "it is not a folder; name one that scgpt-map-reference build wrote".to_owned()
    } else {
        "there is no such folder".to_owned()
    };
    Err(Error::input(folder, problem))
}

/// Opens a regular file; pipes and devices, which may never end, are refused.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let found = fs::metadata(path).map_err(Error::read(path))?;
    if !found.is_file() {
        return Err(Error::input(path, "it is not a regular file"));
    }
    File::open(path).map_err(Error::read(path))
}

fn checksum(mut file: File) -> io::Result<String> {
    let mut sink = Digesting(Sha256::new());
    io::copy(&mut file, &mut sink)?;
    let digits = sink.0.finalize();
    Ok(digits.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Digesting(Sha256);

impl Write for Digesting {
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
    use crate::atlas::Settings;
    use crate::random::Seed;

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
    fn every_file_has_a_name_of_its_own() {
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
    fn more_than_a_million_cells_want_lists() {
        assert_eq!(Manifest::usual_lists(1_000_000), 1);
        assert_eq!(Manifest::usual_lists(4_000_000), 2000);
        let mut manifest = manifest();
        assert!(!manifest.is_slow());
        manifest.cells = 1_000_001;
        assert!(manifest.is_slow());
        manifest.lists = 1000;
        assert!(!manifest.is_slow());
    }
}
