//! A corpus: tokenized cells in a directory of Parquet shards, with the vocabulary and a manifest. Written by `scgpt-tokenize`,
//! streamed by pre-training, opened by anything that reads Parquet. The cell banks of the original implementation
//! are read too (docs/methods.md, "Cell banks").

mod bank;
mod collection;
mod directory;
mod encode;
mod error;
mod manifest;
mod pages;
mod shard;
mod table;

pub use collection::{Collection, Piece, TOKEN_BYTES};
pub use directory::{Corpus, Size, Table};
pub use encode::{Encoded, encode};
pub use error::Error;
pub use manifest::{Composition, Manifest};
pub use shard::{Shard, Summary};

use crate::formats::Column;

/// Name of the manifest in the directory of a corpus.
pub const MANIFEST: &str = "manifest.json";
/// Name of the vocabulary in the directory of a corpus.
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
    /// Names and types of the annotations.
    pub obs: Vec<(String, Kind)>,
}

/// Type of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text or categories.
    Text,
    /// Numbers.
    Number,
    /// Booleans.
    Boolean,
}

impl Kind {
    /// The type of a column.
    pub fn of(column: &Column) -> Self {
        match column {
            Column::Categorical { .. } | Column::Text(_) => Self::Text,
            Column::Number(_) => Self::Number,
            Column::Boolean(_) => Self::Boolean,
        }
    }
}

/// Name of a shard in the directory of a corpus.
pub fn shard_name(position: usize) -> String {
    format!("cells-{position:05}.parquet")
}

#[cfg(test)]
mod tests;
