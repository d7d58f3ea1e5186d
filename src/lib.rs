//! scGPT, the single-cell foundation model, as small programs for workflow engines.
//!
//! Layers, each of which uses only those below it:
//!
//! ```text
//! cli         parse, run, report, exit code          options, failure, run_record, progress, interrupt
//! programs    one file per program: its options and the order of its steps
//! report      the HTML report of run outputs
//! trainer     one training run of any task: network, plan, work directory, model directory
//! train       the training loop and its objectives   predict      embeddings and labels of cells
//! baselines   baseline methods on the same data      figures      plots
//! model       the network, tensors only              cells        a file as model input
//! tokens      bins, token sequences, masks           analysis     metrics, PCA, neighbors
//! checkpoint  directories of weights, as data        expression   counts to values
//! corpus      tokenized cells on disk                reference_index  reference cells on disk
//! formats     files of cells by genes                vocabulary   gene names and ids
//! distributed processes that train together
//! counts, random, compute, output, signal_handler, malloc, clock   used by all
//! ```
//!
//! Two calls cover most uses from Rust: [`predict::Pretrained::load`] and [`predict::Pretrained::embed`].

pub mod analysis;
#[cfg(feature = "torch")]
pub mod baselines;
pub mod cells;
pub mod checkpoint;
pub mod cli;
pub mod clock;
#[cfg(feature = "torch")]
pub mod compute;
pub mod corpus;
pub mod counts;
pub mod descriptor;
pub mod distributed;
pub mod expression;
pub mod failure;
pub mod figures;
pub mod file_format;
pub mod formats;
#[cfg(test)]
mod fuzz_mutations;
pub mod interrupt;
pub mod malloc;
pub mod memory;
#[cfg(feature = "torch")]
pub mod model;
pub mod options;
pub mod output;
#[cfg(feature = "torch")]
pub mod predict;
pub mod programs;
pub mod progress;
pub mod random;
pub mod reference_index;
pub mod report;
pub mod run_record;
pub mod signal_handler;
pub mod split;
pub mod tokens;
#[cfg(feature = "torch")]
pub mod train;
#[cfg(feature = "torch")]
pub mod trainer;
pub mod vocabulary;

#[cfg(test)]
#[path = "../tests/support"]
mod support {
    pub mod needs;
    pub mod python;
}
