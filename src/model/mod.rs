//! The network: tensors only, no files and no options.
//!
//! A gene front-end and a value front-end embed tokens, the trunk (a transformer encoder) contextualises them, and heads read
//! expression, cell type, batch or similarity off its output. Each is a module of its own, so that objectives, and later other
//! model families, plug in without touching the trunk. Source: reference sections 3 and 4; paper, Methods, "scGPT model".

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
pub use encoder::{Encoder, Width};
pub use heads::{
    AffineDecoder, CellDecoder, ClassDecoder, ExpressionDecoder, Line, reverse_gradient,
};
pub use noise::Noise;
pub use norm::{DomainNorm, Moments, PlainNorm};
pub use perceptron::Perceptron;
pub use perturbation::PerturbedCell;
pub use scgpt::{
    Encoded, Generated, Genes, Heads, Inputs, Model, Perturbed, Pooling, SplitInputs, Told,
};
pub use store::{Flat, Init, Store};
