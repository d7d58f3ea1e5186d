//! Conversion of checkpoint directories between formats, without changing a bit of the tensors.

use std::ffi::OsStr;
use std::path::Path;

use super::directory::{self, ARGUMENTS_FILE, Checkpoint, VOCABULARY_FILE};
use super::layout::Attention;
use super::weights::Format;
use super::write::{self, Contents, Form};

/// What to convert to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// model.safetensors, the format of these tools.
    Safetensors,
    /// best_model.pt, the format of scGPT in Python.
    Pytorch,
}

impl Target {
    /// The default naming scheme.
    ///
    /// The original implementation renames scheme B as it needs but never A, so that a file in scheme A silently loses its
    /// attention weights in a model with flash attention (docs/methods.md, "Naming schemes"); released checkpoints are in
    /// scheme B.
    pub fn attention(self) -> Attention {
        match self {
            Self::Safetensors => Attention::A,
            Self::Pytorch => Attention::B,
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Safetensors => Format::Safetensors,
            Self::Pytorch => Format::Torch,
        }
    }
}

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Open(#[from] directory::Error),
    #[error("could not read `{path}`")]
    Read {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Write(#[from] write::Error),
}

/// Writes `source` (a directory or the name of a model) to the new directory `out`, with its other JSON files.
///
/// Returns the opened source, for reports. Fails when the source is not a complete checkpoint or `out` cannot be written.
pub fn convert(
    source: &Path,
    out: &Path,
    target: Target,
    attention: Option<Attention>,
) -> Result<Checkpoint, Error> {
    let checkpoint = Checkpoint::open(source)?;
    let files = further_files(&checkpoint.directory)?;
    let contents = Contents {
        state: &checkpoint.state,
        architecture: &checkpoint.architecture,
        arguments: &checkpoint.arguments,
        vocabulary: &checkpoint.vocabulary,
        files: &files,
    };
    let attention = attention.unwrap_or(target.attention());
    write::write(
        out,
        contents,
        Form {
            format: target.format(),
            attention,
        },
    )?;
    Ok(checkpoint)
}

/// JSON files other than those that every checkpoint has, such as a vocabulary of modalities; sorted by name.
fn further_files(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let failed = |path: &Path, source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| failed(directory, source))? {
        let path = entry.map_err(|source| failed(directory, source))?.path();
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if is_json && path.is_file() && ![ARGUMENTS_FILE, VOCABULARY_FILE].contains(&name) {
            let bytes = std::fs::read(&path).map_err(|source| failed(&path, source))?;
            files.push((name.to_owned(), bytes));
        }
    }
    files.sort();
    Ok(files)
}
