//! Writes checkpoint directories, which appear only once they are complete.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::architecture::Architecture;
use super::directory::{ARGUMENTS_FILE, SAFETENSORS_FILE, TORCH_FILE, VOCABULARY_FILE};
use super::layout::{self, Attention};
use super::tensor::StateDict;
use super::weights::Format;
use super::{safetensors, torch_file};
use crate::vocabulary::Vocabulary;

/// Contents of a checkpoint directory.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// Tensors in naming scheme A.
    pub state: &'a StateDict,
    pub architecture: &'a Architecture,
    /// Further keys of `args.json`; those of the architecture are set from it.
    pub arguments: &'a Map<String, Value>,
    pub vocabulary: &'a Vocabulary,
    /// Further files by name.
    pub files: &'a [(String, Vec<u8>)],
}

/// Format and naming of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub format: Format,
    pub attention: Attention,
}

impl Form {
    /// The form that these tools write: `model.safetensors` in naming scheme A.
    pub const OWN: Self = Self {
        format: Format::Safetensors,
        attention: Attention::A,
    };
}

/// Why a directory could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` exists already; remove it or choose another name")]
    Exists(PathBuf),
    #[error("`{0}` cannot be the name of a file in a checkpoint directory")]
    FileName(String),
    #[error("could not write the checkpoint `{directory}`")]
    Write { directory: PathBuf, source: Cause },
}

/// What went wrong while writing.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Torch(#[from] torch_file::Error),
    #[error(transparent)]
    Safetensors(#[from] safetensors::Error),
}

/// Writes a checkpoint directory under a temporary name and renames it when complete.
///
/// Fails if it exists and is not an empty directory, if the name of a further file is taken or leads elsewhere, and if writing
/// fails; then no partial output remains.
pub fn write(directory: &Path, contents: Contents, form: Form) -> Result<(), Error> {
    check_names(contents.files)?;
    if is_occupied(directory) {
        return Err(Error::Exists(directory.to_owned()));
    }
    write_aside(directory, contents, form).map_err(|source| Error::Write {
        directory: directory.to_owned(),
        source,
    })
}

fn check_names(files: &[(String, Vec<u8>)]) -> Result<(), Error> {
    let mut taken = vec![
        ARGUMENTS_FILE,
        SAFETENSORS_FILE,
        TORCH_FILE,
        VOCABULARY_FILE,
    ];
    for (name, _) in files {
        if taken.contains(&name.as_str()) || Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::FileName(name.clone()));
        }
        taken.push(name);
    }
    Ok(())
}

/// Renaming replaces an empty directory but nothing else.
fn is_occupied(directory: &Path) -> bool {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => directory.symlink_metadata().is_ok(),
    }
}

fn write_aside(directory: &Path, contents: Contents, form: Form) -> Result<(), Cause> {
    let parent = directory
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let aside = create_aside(parent)?;
    write_files(aside.path(), contents, form)?;
    std::fs::rename(aside.path(), directory)?;
    // The directory has its final name; what is to be cleaned up no longer exists.
    let _ = aside.keep();
    Ok(())
}

/// A new directory with the permissions that the user's settings give to any new directory.
fn create_aside(parent: &Path) -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".checkpoint-")
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir_in(parent)
}

fn write_files(directory: &Path, contents: Contents, form: Form) -> Result<(), Cause> {
    let mut arguments = contents.arguments.clone();
    contents.architecture.write_to(&mut arguments);
    let arguments = serde_json::to_string_pretty(&arguments).expect("a JSON map is always JSON");
    write_file(&directory.join(ARGUMENTS_FILE), arguments.as_bytes())?;
    write_file(
        &directory.join(VOCABULARY_FILE),
        contents.vocabulary.to_json().as_bytes(),
    )?;
    for (name, bytes) in contents.files {
        write_file(&directory.join(name), bytes)?;
    }
    write_weights(directory, contents.state, form)
}

fn write_weights(directory: &Path, state: &StateDict, form: Form) -> Result<(), Cause> {
    let renamed;
    let state = if form.attention == Attention::A {
        state
    } else {
        let rename = |name: &String| layout::from_plain(name, form.attention);
        renamed = state
            .iter()
            .map(|(name, tensor)| (rename(name), tensor.clone()))
            .collect();
        &renamed
    };
    match form.format {
        Format::Safetensors => safetensors::write(&directory.join(SAFETENSORS_FILE), state)?,
        Format::Torch => torch_file::write(&directory.join(TORCH_FILE), state)?,
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
