//! scGPT for workflow engines.
pub mod cli;
pub mod counts;
pub mod failure;
pub mod figures;
pub mod interrupt;
pub mod options;
pub mod output;
pub mod programs;
pub mod progress;
pub mod run_record;
