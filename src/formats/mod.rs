//! Tables of cells by genes in the formats that users have; the only module that talks to HDF5.

mod column;
mod compressed;
mod error;
pub mod h5ad;
mod spool;

pub use column::Column;
pub use error::Error;
pub use spool::{Spool, Spooled};
