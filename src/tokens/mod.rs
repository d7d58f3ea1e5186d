//! Tokenization of cells: expression to a sequence of (gene, value) tokens. No tensors here.
//!
//! See docs/methods.md, "Binning" and "Tokens".

pub mod binning;
pub mod conditions;
pub mod masking;
pub mod modalities;
pub mod prompt_mask;
mod tokenizer;

pub use tokenizer::{LongCells, Options, Settings, Tokenizer, Tokens, Values};
