use std::io;
use std::path::{Path, PathBuf};

/// Why an atlas could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Input { path: PathBuf, problem: String },
    /// The operating system refused to read.
    #[error("could not read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Output(#[from] crate::output::Error),
    /// Cells that do not fit the others.
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

    /// What the system said; a file that is absent or too short is a wrong input.
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
