//! A corpus: tokenised cells in a folder of Parquet shards, with the vocabulary and a manifest. Written by `scgpt-tokenize`,
//! streamed by pre-training, opened by anything that reads Parquet. The cell banks of the reference are read too: reference
//! sections 7.5 and 13.

mod bank;
mod collection;
mod encode;
mod error;
mod folder;
mod manifest;
mod pages;
mod shard;
mod table;

pub use collection::{Collection, Piece, TOKEN_BYTES};
pub use encode::{Encoded, encode};
pub use error::Error;
pub use folder::{Corpus, Size, Table};
pub use manifest::{Composition, Manifest};
pub use shard::{Shard, Summary};

use crate::formats::Column;

/// Name of the manifest in the folder of a corpus.
pub const MANIFEST: &str = "manifest.json";
/// Name of the vocabulary in the folder of a corpus.
pub const VOCABULARY: &str = "vocab.json";

const ID: &str = "id";
const GENES: &str = "genes";
const EXPRESSIONS: &str = "expressions";

/// Some cells: their tokens, and their annotations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// `cells + 1` offsets into `genes` and `values`, starting at 0.
    pub offsets: Vec<usize>,
    /// Vocabulary id of every token.
    pub genes: Vec<u32>,
    /// Expression of every token, finite.
    pub values: Vec<f32>,
    /// Annotations of the cells, in the order of the schema.
    pub obs: Vec<Column>,
}

impl Group {
    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Number of tokens of all cells.
    pub fn tokens(&self) -> usize {
        self.genes.len()
    }
}

/// What a shard stores of every cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// Size of the vocabulary: every gene id is below it.
    pub genes: usize,
    /// Names and kinds of the annotations.
    pub obs: Vec<(String, Kind)>,
}

/// What an annotation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text or categories.
    Text,
    /// Numbers.
    Number,
    /// Truth values.
    Boolean,
}

impl Kind {
    /// The kind of a column.
    pub fn of(column: &Column) -> Self {
        match column {
            Column::Categorical { .. } | Column::Text(_) => Self::Text,
            Column::Number(_) => Self::Number,
            Column::Boolean(_) => Self::Boolean,
        }
    }
}

/// Name of a shard in the folder of a corpus.
pub fn shard_name(position: usize) -> String {
    format!("cells-{position:05}.parquet")
}

#[cfg(test)]
mod tests;
