//! scGPT, the single-cell foundation model, as small programs for workflow engines.
//!
//! Layers, each of which uses only those below it:
//!
//! ```text
//! cli        parse, run, report, exit code          options, failure, run_record, progress, interrupt
//! programs   one file per program: its options and the order of its steps
//! report     the page of everything that runs left behind
//! train      the training loop and its objectives   predict   embeddings and labels of cells
//! baselines  what simpler methods make of the data  figures   pictures
//! model      the network, tensors only              cells     a file as a model sees it
//! tokens     bins, sentences, masks                 analysis  scores, PCA, neighbours
//! checkpoint directories of weights, as data        expression  counts to values
//! corpus     tokenised cells on disk           atlas     reference cells on disk
//! formats    files of cells by genes                vocabulary  gene names and ids
//! ranks      processes that train together
//! counts, random, compute, output, crash, allocation, clock   used by all
//! ```
//!
//! Two calls cover most uses from Rust: [`predict::Pretrained::load`] and [`predict::Pretrained::embed`].

pub mod allocation;
pub mod analysis;
pub mod atlas;
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
pub mod crash;
#[cfg(test)]
mod damage;
pub mod descriptor;
pub mod expression;
pub mod failure;
pub mod figures;
pub mod formats;
pub mod interrupt;
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
pub mod ranks;
pub mod report;
pub mod run_record;
pub mod split;
pub mod tokens;
#[cfg(feature = "torch")]
pub mod train;
pub mod vocabulary;
