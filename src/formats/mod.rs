//! Tables of cells by genes in common file formats; the only module that uses HDF5.
//!
//! [`open`] detects the format by the content and returns a [`Table`]: AnnData, a modality of MuData, 10x (HDF5 or directory),
//! loom, Matrix Market, CSV or TSV. A table reads what is requested and no more: names, single columns, and any cells of a
//! [`Matrix`].

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
mod table;
mod text;
mod transpose_spool;

#[cfg(test)]
mod tests;

pub use column::Column;
pub use delimited::Orientation;
pub use error::Error;
pub use matrix::Matrix;
pub use open::{Options, is_hdf5, modalities, open, read_text};
pub use plain::Plain;
pub use source::Source;
pub use table::Table;
pub use transpose_spool::Spool;
