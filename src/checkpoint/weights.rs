//! A weights file of either format, with names converted to naming scheme A.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::layout::{self, Layout};
use super::tensor::StateDict;
use super::{safetensors, torch_file};

/// File formats of state dicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Safetensors,
    /// What Python's `torch.save` writes.
    Torch,
}

/// The tensors of one file, its format and naming scheme.
#[derive(Debug)]
pub struct Weights {
    pub file: PathBuf,
    pub format: Format,
    pub layout: Layout,
    /// Tensors in naming scheme A.
    pub state: StateDict,
    /// The key under which a dictionary around the state dict held it.
    pub unwrapped: Option<String>,
}

/// Why a weights file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("could not read the weights `{file}`")]
pub struct Error {
    pub file: PathBuf,
    pub source: Box<Cause>,
}

/// What was wrong with a weights file.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Torch(#[from] torch_file::Error),
    #[error(transparent)]
    Safetensors(#[from] safetensors::Error),
    #[error(transparent)]
    Layout(#[from] layout::Error),
}

impl Weights {
    /// Reads a weights file, as safetensors if its name ends in `.safetensors`, as a PyTorch file otherwise.
    pub fn read(file: &Path) -> Result<Self, Error> {
        Self::read_named(file).map_err(|source| Error {
            file: file.to_owned(),
            source: Box::new(source),
        })
    }

    fn read_named(file: &Path) -> Result<Self, Cause> {
        let format = Format::of(file);
        let (state, unwrapped) = match format {
            Format::Safetensors => (safetensors::read(file)?, None),
            Format::Torch => {
                let contents = torch_file::read(file)?;
                (contents.state, contents.unwrapped)
            }
        };
        let (state, layout) = layout::normalize(state)?;
        Ok(Self {
            file: file.to_owned(),
            format,
            layout,
            state,
            unwrapped,
        })
    }
}

impl Format {
    fn of(file: &Path) -> Self {
        if file
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            Self::Safetensors
        } else {
            Self::Torch
        }
    }
}
