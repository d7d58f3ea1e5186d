//! Reference indexes: embedded reference cells on disk, searched for the nearest neighbors of query cells.
//!
//! An index is a directory. `manifest.json` lists its contents with the checksum of every other file:
//!
//! ```text
//! vectors-000.f32    cell embeddings, little-endian single precision, by list    [cells, dimension]
//! places-000.f32     2-D coordinates, NaN if a cell has none                     [cells, 2]
//! lists-000.u32      first row of each inverted list, and the end of the last    [lists + 1]
//! cells-000.tsv      names and annotations of the cells
//! centroids.f32      centroid of every inverted list                             [lists, dimension]
//! plane.f32          mean and two principal components, for coordinates          [3, dimension]
//! distances.f32      from sampled cells to their neighbors in the index          [cells, neighbors]
//! ```
//!
//! Up to a million cells are in one list. Larger indexes have several inverted lists (IVF), and a search reads only those nearest
//! to the query; their number is calibrated on cells of the index. Added cells are stored in further numbered files. Only numbers
//! and text are stored, so damaged bytes can cause an error but nothing worse.
//!
//! An index with one list stays exact, and slow, when cells are added: [`Manifest::is_slow`] reports when to rebuild it.

mod calibration;
mod directory;
mod error;
mod manifest;
mod writer;

pub use directory::{Labels, ReferenceIndex};
pub use error::Error;
pub use manifest::{MANIFEST, Manifest, Metric, Origin};
pub use writer::{Annotated, Settings, Writer};

/// Maximum absolute value of an embedding: squares of larger values exceed single precision.
pub const LARGEST: f32 = 1e15;

/// Neighbors whose distances are stored in an index, and maximum number of neighbors of a query.
pub const MOST_NEIGHBORS: usize = 50;
