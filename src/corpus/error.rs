use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// Why a corpus could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Input { path: PathBuf, problem: String },
    /// The operating system could not read a file.
    #[error("could not read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A shard could not be written; a full disk is the usual reason.
    #[error("could not write `{}`", path.display())]
    Write { path: PathBuf, source: ParquetError },
    /// A file of the corpus could not be moved to its final path.
    #[error(transparent)]
    Output(#[from] crate::output::Error),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Vocabulary(#[from] crate::vocabulary::Error),
    /// Cells that do not fit the schema of the corpus they are for.
    #[error("could not store the cells from id {first_id} on: {problem}")]
    Cells { first_id: i64, problem: String },
}

impl Error {
    pub(in crate::corpus) fn input(path: &Path, problem: impl Into<String>) -> Self {
        Self::Input {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// An error of the operating system; a file that is absent or too short is a wrong input.
    pub(in crate::corpus) fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::input(path, "ends too early; it may be truncated")
            }
            _ => Self::Read {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// An error of the Parquet library about a part of a file.
    pub(in crate::corpus) fn parquet(path: &Path, part: &str, error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => Self::read(path, *source),
                Err(other) => Self::input(path, format!("could not decode {part}: {other}")),
            },
            other => Self::input(path, format!("could not decode {part}: {other}")),
        }
    }

    pub(in crate::corpus) fn write(path: &Path) -> impl Fn(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Write {
            path: path.clone(),
            source,
        }
    }
}
