//! A directory of tokenized cells, ours or a cell bank of the original implementation, group by group.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::manifest::Manifest;
use super::shard::checksum;
use super::{Error, Group, Kind, MANIFEST, VOCABULARY, bank, table};
use crate::vocabulary::Vocabulary;

/// Size of a group of cells that are read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cells: u64,
    /// Number of tokens, with one for each empty cell; 0 if unknown before reading.
    pub tokens: u64,
}

/// One file of a corpus.
#[derive(Debug)]
pub struct Table {
    /// Name in the directory.
    pub file: String,
    /// What can be read at once, in order.
    pub groups: Vec<Size>,
    /// Names and types of the annotations.
    pub obs: Vec<(String, Kind)>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Parquet(table::Table),
    Json(bank::Table),
}

impl Table {
    fn parquet(directory: &Path, file: &str) -> Result<Self, Error> {
        let table = table::Table::open(&directory.join(file))?;
        Ok(Self {
            file: file.to_owned(),
            groups: table.groups.clone(),
            obs: table
                .obs()
                .map(|(name, kind)| (name.to_owned(), kind))
                .collect(),
            content: Content::Parquet(table),
        })
    }

    fn json(directory: &Path, file: &str) -> Result<Self, Error> {
        let table = bank::Table::open(&directory.join(file))?;
        Ok(Self {
            file: file.to_owned(),
            groups: table.sizes(),
            obs: Vec::new(),
            content: Content::Json(table),
        })
    }

    /// Number of cells.
    pub fn cells(&self) -> u64 {
        self.groups.iter().map(|group| group.cells).sum()
    }
}

/// A directory of tokenized cells.
#[derive(Debug)]
pub struct Corpus {
    directory: PathBuf,
    vocabulary: Vocabulary,
    tables: Vec<Table>,
    manifest: Option<Manifest>,
}

impl Corpus {
    /// Opens a corpus, or a cell bank of the original implementation: reads the manifest, the vocabulary and the metadata of every file.
    ///
    /// Fails where one of them is absent or damaged, or a shard does not have the number of cells in the manifest.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(MANIFEST);
        let problem = |problem: String| Error::input(&path, problem);
        let json = fs::read(&path).map_err(|error| Error::read(&path, error))?;
        let json: Value =
            serde_json::from_slice(&json).map_err(|error| problem(format!("not JSON: {error}")))?;
        if Manifest::is_ours(&json) {
            return Self::of_shards(directory, Manifest::from_json(json).map_err(problem)?);
        }
        let bank: bank::Manifest = serde_json::from_value(json).map_err(|error| {
            problem(format!(
                "neither the manifest of a corpus nor that of a cell bank: {error}"
            ))
        })?;
        let (file, format) = bank.table().map_err(problem)?;
        let table = match format {
            bank::Format::Parquet => Table::parquet(directory, &file)?,
            bank::Format::Json => Table::json(directory, &file)?,
        };
        Ok(Self {
            vocabulary: Vocabulary::from_json_file(&directory.join(bank::Manifest::VOCABULARY))?,
            directory: directory.to_owned(),
            tables: vec![table],
            manifest: None,
        })
    }

    fn of_shards(directory: &Path, manifest: Manifest) -> Result<Self, Error> {
        let mut tables = Vec::new();
        for shard in &manifest.shards {
            let table = Table::parquet(directory, &shard.file)?;
            if table.cells() != shard.cells {
                let (found, expected) = (table.cells(), shard.cells);
                let problem = format!(
                    "has {found} cells, but the manifest lists {expected}; rebuild the corpus"
                );
                return Err(Error::input(&directory.join(&shard.file), problem));
            }
            tables.push(table);
        }
        let path = directory.join(VOCABULARY);
        let vocabulary = Vocabulary::from_json_file(&path)?;
        if vocabulary.len() as u64 != manifest.genes {
            let (found, expected) = (vocabulary.len(), manifest.genes);
            let problem = format!(
                "has {found} tokens, but the manifest lists {expected}; rebuild the corpus"
            );
            return Err(Error::input(&path, problem));
        }
        Ok(Self {
            directory: directory.to_owned(),
            vocabulary,
            tables,
            manifest: Some(manifest),
        })
    }

    /// Opens the `.parquet` files of a directory without a manifest, in the order of their names; gene ids are those of the given
    /// vocabulary.
    pub fn of_tables(directory: &Path, vocabulary: Vocabulary) -> Result<Self, Error> {
        let read = |error| Error::read(directory, error);
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            files.extend(
                name.into_string()
                    .ok()
                    .filter(|name| name.ends_with(".parquet")),
            );
        }
        files.sort();
        if files.is_empty() {
            return Err(Error::input(directory, "there are no `.parquet` files"));
        }
        let tables = files.iter().map(|file| Table::parquet(directory, file));
        Ok(Self {
            directory: directory.to_owned(),
            vocabulary,
            tables: tables.collect::<Result<_, _>>()?,
            manifest: None,
        })
    }

    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The files, in the order of their cells.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The manifest, of a corpus of ours.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Number of cells.
    pub fn cells(&self) -> u64 {
        self.tables.iter().map(Table::cells).sum()
    }

    /// Reads one group of cells of a file; any number of threads can at once.
    ///
    /// Fails on damaged bytes, a gene outside the vocabulary, lists of different lengths, nulls in them, and values that are
    /// not finite.
    pub fn read_group(&self, table: usize, group: usize) -> Result<Group, Error> {
        let Some(found) = self.tables.get(table) else {
            return Err(Error::input(
                &self.directory,
                format!("file {table} of {}", self.tables.len()),
            ));
        };
        match &found.content {
            Content::Parquet(table) => table.read(group, self.vocabulary.len()),
            Content::Json(table) => table.read(group, self.vocabulary.len()),
        }
    }

    /// Compares every shard with its checksum, where there is a manifest of ours.
    pub fn verify(&self) -> Result<(), Error> {
        for shard in self.manifest.iter().flat_map(|manifest| &manifest.shards) {
            let path = self.directory.join(&shard.file);
            let found = checksum(&path).map_err(|error| Error::read(&path, error))?;
            if found != shard.sha256 {
                let expected = &shard.sha256;
                return Err(Error::input(
                    &path,
                    format!(
                        "its SHA-256 is {found}, but the manifest lists {expected}; copy the file again or rebuild the corpus"
                    ),
                ));
            }
        }
        Ok(())
    }
}
