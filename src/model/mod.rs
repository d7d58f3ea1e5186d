//! The network: tensors only, no files and no options.
//!
//! A gene encoder and a value encoder embed tokens, a transformer contextualizes them, and output heads predict expression, cell
//! type or batch. Each is a module of its own, so that objectives, and later other model families, plug in without changes to
//! the transformer. See docs/methods.md, "Model"; paper, Methods, "scGPT model".

mod attention;
mod embedding;
mod encoder;
mod heads;
mod layers;
pub mod losses;
mod noise;
mod norm;
mod perceptron;
mod perturbation;
mod scgpt;
mod store;
pub mod weights;

pub use attention::{Sequences, Split};
pub use embedding::{ConditionEncoder, Flag, GeneEncoder, ValueEncoder};
pub use encoder::{Encoder, OutputTokens};
pub use heads::{
    AffineDecoder, CellDecoder, ClassDecoder, ExpressionDecoder, Line, reverse_gradient,
};
pub use noise::Noise;
pub use norm::{DomainNorm, Moments, PlainNorm};
pub use perceptron::Perceptron;
pub use perturbation::PerturbedCell;
pub use scgpt::{
    Encoded, Generated, Genes, Heads, Inputs, Model, Perturbed, Pooling, Predictions, SplitInputs,
};
pub use store::{Flat, Init, Store};
