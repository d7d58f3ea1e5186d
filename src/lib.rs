//! scGPT for workflow engines.
pub mod checkpoint;
#[cfg(feature = "torch")]
pub mod compute;
pub mod counts;
#[cfg(feature = "torch")]
pub mod model;
pub mod output;
#[cfg(feature = "torch")]
pub mod predict;
pub mod random;
pub mod tokens;
#[cfg(feature = "torch")]
pub mod train;
pub mod vocabulary;
