//! The manifest: the contents of a corpus, shard by shard. It contains no timestamps, thread counts or paths.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, MANIFEST, Summary, VOCABULARY};
use crate::file_format::{CORPUS, Statement};
use crate::output;
use crate::vocabulary::Vocabulary;

/// Cells by value of an annotation, by annotation.
pub type Composition = BTreeMap<String, BTreeMap<String, u64>>;

/// What a corpus holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(flatten)]
    statement: Statement,
    pub cells: u64,
    pub tokens: u64,
    /// Size of the vocabulary.
    pub genes: u64,
    pub shards: Vec<Summary>,
    pub composition: Composition,
    /// Options that the corpus was made with.
    pub parameters: Value,
}

impl Manifest {
    /// Describes finished shards, in the order of their cells.
    pub fn new(
        vocabulary: &Vocabulary,
        shards: Vec<Summary>,
        composition: Composition,
        parameters: Value,
    ) -> Self {
        Self {
            statement: CORPUS.statement(),
            cells: shards.iter().map(|shard| shard.cells).sum(),
            tokens: shards.iter().map(|shard| shard.tokens).sum(),
            genes: vocabulary.len() as u64,
            shards,
            composition,
            parameters,
        }
    }

    /// Writes the vocabulary, then the manifest, which completes the corpus.
    pub fn write(&self, directory: &Path, vocabulary: &Vocabulary) -> Result<(), Error> {
        let mut json = serde_json::to_string_pretty(self).expect("text, numbers and JSON are JSON");
        json.push('\n');
        for (name, text) in [(VOCABULARY, vocabulary.to_json()), (MANIFEST, json)] {
            output::write_file(&directory.join(name), |file| {
                file.write_all(text.as_bytes())
            })?;
        }
        Ok(())
    }

    /// Whether a JSON manifest is one of ours, of whatever version.
    pub(super) fn is_ours(manifest: &Value) -> bool {
        CORPUS.is_stated(manifest)
    }

    /// Takes the manifest from JSON. Fails on another version, missing entries and names that lead out of the directory.
    pub(super) fn from_json(json: Value) -> Result<Self, String> {
        CORPUS.check(&json)?;
        let manifest: Self =
            serde_json::from_value(json).map_err(|error| format!("not a manifest: {error}"))?;
        match manifest.shards.iter().find(|shard| !is_plain(&shard.file)) {
            Some(shard) => Err(format!(
                "the shard `{}` is not the name of a file in the directory",
                shard.file
            )),
            None => Ok(manifest),
        }
    }
}

/// Whether a name is that of a file in a directory, not a path elsewhere.
pub(super) fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name)
}
