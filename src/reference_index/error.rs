use std::io;
use std::path::{Path, PathBuf};

/// Why a reference index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not valid.
    #[error("`{}`: {problem}", path.display())]
    Input { path: PathBuf, problem: String },
    /// The operating system could not read a file.
    #[error("could not read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Output(#[from] crate::output::Error),
    /// Cells do not match the index.
    #[error("{0}")]
    Cells(String),
    #[error(transparent)]
    Analysis(#[from] crate::analysis::Error),
}

impl Error {
    pub(super) fn input(path: &Path, problem: impl Into<String>) -> Self {
        Self::Input {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// The error of the system; an absent or truncated file is an input error.
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::input(&path, "there is no such file"),
            io::ErrorKind::UnexpectedEof => {
                Self::input(&path, "ends too early; it may be truncated")
            }
            _ => Self::Read {
                path: path.clone(),
                source,
            },
        }
    }
}
