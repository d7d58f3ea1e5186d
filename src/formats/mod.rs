//! Tables of cells by genes in the formats that users have; the only module that talks to HDF5.

mod column;
mod compressed;
pub mod delimited;
mod error;
pub mod h5ad;
pub mod market;
mod plain;
mod spool;

#[cfg(test)]
mod tests;

pub use column::Column;
pub use error::Error;
pub use plain::Plain;
pub use spool::{Spool, Spooled};
