//! scGPT for workflow engines.
pub mod analysis;
#[cfg(feature = "torch")]
pub mod baselines;
pub mod counts;
pub mod expression;
