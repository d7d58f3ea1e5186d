//! Tables of cells by genes in the formats that users have; the only module that talks to HDF5.
//!
//! [`open`] tells the format by the content and gives a [`Table`]: AnnData, a modality of MuData, 10x (HDF5 or
//! folder), loom, Matrix Market, CSV or TSV. A table reads what is asked for and no more: names, single columns, and any cells of a [`Matrix`].

mod column;
mod compressed;
mod delimited;
pub mod edges;
mod error;
pub mod gene_sets;
pub mod graphml;
pub mod h5ad;
mod market;
mod matrix;
mod open;
mod plain;
mod source;
mod spool;
mod table;
mod text;

#[cfg(test)]
mod tests;

pub use column::Column;
pub use delimited::Orientation;
pub use error::Error;
pub use matrix::Matrix;
pub use open::{Options, is_hdf5, modalities, open, read_text};
pub use plain::Plain;
pub use source::Source;
pub use spool::Spool;
pub use table::Table;
