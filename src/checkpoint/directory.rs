//! Finds, reads and validates checkpoint directories.
//!
//! See docs/methods.md, "Checkpoint files" and "Gene vocabulary".

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::architecture::{self, Architecture};
use super::heads::Heads;
use super::layout::Layout;
use super::names::{self, Difference};
use super::tensor::StateDict;
use super::weights::{self, Weights};
use crate::file_format::MODEL;
use crate::vocabulary::{self, Vocabulary};

/// Directories that hold checkpoint directories, separated by colons.
pub const MODELS_VARIABLE: &str = "SCGPT_MODELS";
/// Weights in the two forms that are looked for first.
pub const SAFETENSORS_FILE: &str = "model.safetensors";
pub const TORCH_FILE: &str = "best_model.pt";
pub const ARGUMENTS_FILE: &str = "args.json";
pub const VOCABULARY_FILE: &str = "vocab.json";
/// The object in `args.json` that holds the settings of these tools.
pub const OWN_KEY: &str = "scgpt_tools";
/// The object in `args.json` that describes how our own programs pre-trained the model.
pub const PRETRAINING_KEY: &str = "scgpt_pretraining";

/// Why a checkpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no directory `{0}`")]
    NoDirectory(PathBuf),
    #[error(
        "`{name}` is neither a directory nor a model in the directories of `{MODELS_VARIABLE}`: {searched}"
    )]
    UnknownModel { name: String, searched: String },
    #[error("could not read `{path}`")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "`{directory}` has no weights: expected `{SAFETENSORS_FILE}`, `{TORCH_FILE}` or a single other file of these formats"
    )]
    NoWeights { directory: PathBuf },
    #[error("`{directory}` has several weights files ({}); rename the one you mean to `{TORCH_FILE}` or `{SAFETENSORS_FILE}`", files.join(", "))]
    SeveralWeights {
        directory: PathBuf,
        files: Vec<String>,
    },
    #[error(
        "`{path}` does not exist; fine-tuning with the original implementation does not always write it; copy it from the pre-trained model"
    )]
    NoFile { path: PathBuf },
    #[error("`{path}` cannot be read: {problem}")]
    Format { path: PathBuf, problem: String },
    #[error("`{path}` is not a JSON object")]
    Arguments {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Weights(#[from] weights::Error),
    #[error(transparent)]
    Vocabulary(#[from] vocabulary::Error),
    #[error("could not infer the architecture of `{directory}`")]
    Architecture {
        directory: PathBuf,
        source: Box<architecture::Error>,
    },
    #[error(
        "`{directory}` has {tokens} tokens in `{VOCABULARY_FILE}` but weights for {rows}; the files belong to different models"
    )]
    VocabularySize {
        directory: PathBuf,
        tokens: usize,
        rows: usize,
    },
    #[error(
        "{count} backbone tensors are missing from the weights in `{directory}` or have another shape: {examples}"
    )]
    Backbone {
        directory: PathBuf,
        count: usize,
        examples: String,
    },
}

/// A checkpoint with a complete backbone and consistent files.
#[derive(Debug)]
pub struct Checkpoint {
    pub directory: PathBuf,
    pub weights_file: PathBuf,
    /// Naming scheme of the file; `state` is in scheme A.
    pub layout: Layout,
    pub state: StateDict,
    pub architecture: Architecture,
    pub heads: Heads,
    /// All of `args.json`, as it is in the file.
    pub arguments: Map<String, Value>,
    /// `vocab.json`, with missing special tokens appended.
    pub vocabulary: Vocabulary,
    /// Notes on what was inferred, assumed or ignored.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Opens a directory, or a model by the name of its directory in one of the directories of `SCGPT_MODELS`.
    ///
    /// Fails when a file is missing or malformed, when the files contradict each other, and when a backbone tensor is
    /// missing or has the wrong shape.
    pub fn open(path_or_name: &Path) -> Result<Self, Error> {
        let directory = resolve(path_or_name, std::env::var_os(MODELS_VARIABLE).as_deref())?;
        Self::read(&directory)
    }

    fn read(directory: &Path) -> Result<Self, Error> {
        let arguments = read_arguments(directory)?;
        let listed = read_vocabulary(directory)?;
        let Weights {
            file,
            layout,
            state,
            unwrapped,
            ..
        } = Weights::read(&find_weights(directory)?)?;
        let (architecture, mut notes) =
            Architecture::read(&arguments, &state).map_err(|source| Error::Architecture {
                directory: directory.to_owned(),
                source: Box::new(source),
            })?;
        notes.extend(unwrapped.map(|key| format!("the state dict was under the key `{key}`")));
        let vocabulary = complete_vocabulary(listed, &mut notes);
        let heads = Heads::find(&state);
        let checkpoint = Self {
            directory: directory.to_owned(),
            weights_file: file,
            layout,
            state,
            architecture,
            heads,
            arguments,
            vocabulary,
            notes,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// Rows of the gene embedding; at least as many as tokens.
    pub fn embedding_rows(&self) -> usize {
        super::heads::rows_of(&self.state, "encoder.embedding.weight").unwrap_or(0)
    }

    /// What these tools wrote into `args.json`: task, classes, preprocessing.
    pub fn own_settings(&self) -> Option<&Map<String, Value>> {
        self.arguments.get(OWN_KEY)?.as_object()
    }

    fn check(&self) -> Result<(), Error> {
        let rows = self.embedding_rows();
        let backbone = names::backbone(&self.architecture, rows, self.heads.value_rows);
        let differences = names::shortcomings(&self.state, &backbone);
        if !differences.is_empty() {
            let examples: Vec<_> = differences
                .iter()
                .take(3)
                .map(Difference::to_string)
                .collect();
            let (count, examples) = (differences.len(), examples.join("; "));
            return Err(Error::Backbone {
                directory: self.directory.clone(),
                count,
                examples,
            });
        }
        let tokens = self.vocabulary.len();
        if tokens > rows {
            return Err(Error::VocabularySize {
                directory: self.directory.clone(),
                tokens,
                rows,
            });
        }
        Ok(())
    }
}

/// Appends missing special tokens and adds a note.
pub(super) fn complete_vocabulary(listed: Vocabulary, notes: &mut Vec<String>) -> Vocabulary {
    let before = listed.len();
    let vocabulary = listed.with_special_tokens();
    if vocabulary.len() > before {
        let appended: Vec<_> = vocabulary.tokens().skip(before).collect();
        notes.push(format!(
            "special tokens not in `{VOCABULARY_FILE}` were appended: {}",
            appended.join(" ")
        ));
    }
    vocabulary
}

/// The directory meant by a path or by a bare name, which is looked up in `models` (directories separated by colons).
pub fn resolve(path_or_name: &Path, models: Option<&OsStr>) -> Result<PathBuf, Error> {
    if path_or_name.is_dir() {
        return Ok(path_or_name.to_owned());
    }
    let mut components = path_or_name.components();
    let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else {
        return Err(Error::NoDirectory(path_or_name.to_owned()));
    };
    let directories: Vec<_> = models
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| path != Path::new(""))
        .collect();
    let found = directories
        .iter()
        .map(|directory| directory.join(name))
        .find(|directory| directory.is_dir());
    found.ok_or_else(|| {
        let name = name.to_string_lossy().into_owned();
        Error::UnknownModel {
            name,
            searched: describe(&directories),
        }
    })
}

/// The directories searched and the models in them, for the error message.
fn describe(directories: &[PathBuf]) -> String {
    if directories.is_empty() {
        return "the variable is not set".into();
    }
    let describe = |directory: &PathBuf| {
        let models = models_in(directory);
        let models = if models.is_empty() {
            "no models".into()
        } else {
            models.join(", ")
        };
        format!("`{}` has {models}", directory.display())
    };
    directories
        .iter()
        .map(describe)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Names of the directories with a vocabulary, sorted.
fn models_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let models = entries.filter(|entry| entry.path().join(VOCABULARY_FILE).is_file());
    let mut names: Vec<_> = models
        .map(|entry| format!("`{}`", entry.file_name().to_string_lossy()))
        .collect();
    names.sort();
    names
}

/// The weights file of a directory: `model.safetensors`, `best_model.pt`, or the only file of these formats.
pub(super) fn find_weights(directory: &Path) -> Result<PathBuf, Error> {
    let preferred = [SAFETENSORS_FILE, TORCH_FILE].map(|name| directory.join(name));
    if let Some(file) = preferred.into_iter().find(|file| file.is_file()) {
        return Ok(file);
    }
    let read = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.is_file()
            && file
                .extension()
                .is_some_and(|extension| extension == "pt" || extension == "safetensors")
        {
            files.push(file);
        }
    }
    files.sort();
    match files.as_slice() {
        [] => Err(Error::NoWeights {
            directory: directory.to_owned(),
        }),
        [file] => Ok(file.clone()),
        several => {
            let name =
                |file: &PathBuf| format!("`{}`", file.file_name().unwrap_or_default().display());
            Err(Error::SeveralWeights {
                directory: directory.to_owned(),
                files: several.iter().map(name).collect(),
            })
        }
    }
}

/// The contents of `args.json`.
pub(super) fn read_arguments(directory: &Path) -> Result<Map<String, Value>, Error> {
    let path = existing(directory, ARGUMENTS_FILE)?;
    let bytes = std::fs::read(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let arguments: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|source| Error::Arguments {
            path: path.clone(),
            source,
        })?;
    let own = [OWN_KEY, PRETRAINING_KEY].map(|key| arguments.get(key));
    let checked = own
        .into_iter()
        .flatten()
        .try_for_each(|own| MODEL.check(own));
    checked.map_err(|problem| Error::Format { path, problem })?;
    Ok(arguments)
}

/// The contents of `vocab.json`, without additions.
pub(super) fn read_vocabulary(directory: &Path) -> Result<Vocabulary, Error> {
    Ok(Vocabulary::from_json_file(&existing(
        directory,
        VOCABULARY_FILE,
    )?)?)
}

fn existing(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = directory.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NoFile { path })
    }
}
