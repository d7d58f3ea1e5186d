//! From the expression of a cell to what the model reads: a sentence of (gene, value) tokens. No tensors here.
//!
//! Source: reference sections 9.5 (bins) and 10 (tokens, masking, the embedding collator).

pub mod binning;
pub mod conditions;
pub mod masking;
pub mod modalities;
pub mod perception;
mod tokenizer;

pub use tokenizer::{LongCells, Options, Settings, Tokenizer, Tokens, Values};
