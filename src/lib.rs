//! scGPT for workflow engines.
pub mod counts;
