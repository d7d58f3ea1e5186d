//! Tokenized cells on their way from an input to a shard.

use std::sync::Arc;

use crate::corpus::Group;
use crate::formats::Column;

/// A row group ends at this number of cells or tokens.
pub const GROUP_CELLS: usize = 512;

/// Tokens of some kept cells of an input, in order.
pub struct Piece {
    pub input: Arc<Annotations>,
    /// Indices of the cells in the input.
    pub cells: Vec<usize>,
    pub tokens: Group,
}

/// Kept annotations of the cells of an input.
pub struct Annotations {
    /// Index of the input.
    pub number: usize,
    /// Columns of the schema.
    pub obs: Vec<Column>,
    /// Columns whose composition the manifest contains.
    pub composition: Vec<(&'static str, Vec<Option<String>>)>,
}
