//! scGPT for workflow engines.
pub mod counts;
pub mod h5ad;
