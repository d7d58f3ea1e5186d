//! `scgpt-perturb`: what a trained model tells of perturbations: predictions, a map of them, and which would lead to a state.

mod asking;
pub mod map;
pub mod predict;
pub mod reverse;
pub mod silico;

pub use map::Map;
pub use predict::Predict;
pub use reverse::Reverse;
pub use silico::InSilico;
