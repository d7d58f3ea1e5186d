//! Checkpoint directories: tensors by name, architecture, vocabulary. Nothing here computes or needs libtorch.
//!
//! ```text
//! torch_file, safetensors   a weights file           <-> StateDict
//! layout                    naming schemes A to D    ->  naming scheme A
//! architecture, heads       args.json and tensor names -> what the model is
//! names                     the name and shape every tensor should have
//! directory, write          a whole directory in and out
//! inspect, convert          what the program `scgpt-checkpoint` does
//! ```
//! See docs/methods.md, "Checkpoints".

pub mod architecture;
pub mod convert;
pub mod directory;
pub mod heads;
pub mod inspect;
pub mod layout;
pub mod names;
mod pickle;
pub mod safetensors;
pub mod tensor;
pub mod torch_file;
pub mod weights;
pub mod write;

pub use architecture::{Architecture, InputStyle};
pub use directory::{Checkpoint, Error};
pub use heads::Heads;
pub use layout::{Attention, Layout};
pub use tensor::{Dtype, StateDict, Tensor};

#[cfg(test)]
mod tests;
