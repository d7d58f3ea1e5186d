//! Tables of cells by genes in the formats that users have; the only module that talks to HDF5.
//!
//! [`open`] tells the format by the content and gives a [`Table`]: AnnData, a modality of MuData, 10x (HDF5) or
//! loom. A table reads what is asked for and no more: names, single columns, and any cells of a [`Matrix`].

mod column;
mod error;
pub mod h5ad;
mod matrix;
mod open;
mod plain;
mod source;
mod table;

pub use column::Column;
pub use error::Error;
pub use matrix::Matrix;
pub use open::{Options, open};
pub use plain::Plain;
pub use source::Source;
pub use table::Table;
