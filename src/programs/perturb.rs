//! `scgpt-perturb`: perturbation responses, their embedding, reverse perturbation, and in silico deletion or overexpression.

pub mod in_silico;
pub mod map;
pub mod predict;
mod request;
pub mod reverse;

pub use in_silico::InSilico;
pub use map::Map;
pub use predict::Predict;
pub use reverse::Reverse;
