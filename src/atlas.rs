//! Reference cells on disk, to be searched for the neighbours of new ones.
//!
//! An atlas is a folder. `manifest.json` says what is in it and has the checksum of every other file:
//!
//! ```text
//! vectors-000.f32    rows of little-endian single precision, list after list    [cells, width]
//! places-000.f32     coordinates in the plane, NaN where there are none          [cells, 2]
//! lists-000.u32      where each list begins, and the end of the last             [lists + 1]
//! cells-000.tsv      names and annotations of the cells
//! centroids.f32      the middle of every list                                    [lists, width]
//! plane.f32          mean and two directions that give new cells coordinates     [3, width]
//! distances.f32      from sampled cells to their neighbours in the atlas         [cells, neighbours]
//! ```
//!
//! One list holds everything unless there are very many cells; then a search looks only into the lists nearest to the query, as
//! many as the atlas found to be enough for its own cells. Cells are added as further numbered files beside the old ones. Nothing
//! but numbers and text is stored, so damaged bytes can give an error and nothing worse.
//!
//! An index of one list stays exact, and so slow, however many cells are added: [`Manifest::is_slow`] says when it is better built anew.

mod calibration;
mod error;
mod folder;
mod manifest;
mod writer;

pub use error::Error;
pub use folder::{Atlas, Labels};
pub use manifest::{MANIFEST, Manifest, Metric, Origin};
pub use writer::{Annotated, Settings, Writer};

/// Numbers of a vector are no larger: the squares of larger ones leave single precision.
pub const LARGEST: f32 = 1e15;

/// Neighbours whose distances an atlas knows of its own cells, and so the most that can be asked for.
pub const MOST_NEIGHBOURS: usize = 50;
