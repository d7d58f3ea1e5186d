//! scGPT for workflow engines.
pub mod checkpoint;
pub mod counts;
pub mod vocabulary;
