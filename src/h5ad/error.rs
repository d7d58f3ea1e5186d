use std::path::{Path, PathBuf};

/// Why a file of cells could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or an element of it, is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Input { path: PathBuf, problem: String },
    /// An element is there, but its bytes do not make sense to the HDF5 library.
    #[error("could not read `{element}` in `{}`: the file may be truncated or damaged", path.display())]
    Damaged { path: PathBuf, element: String, source: hdf5::Error },
    /// What was to be added does not fit the file.
    #[error("could not add `{element}` to `{}`: {problem}", path.display())]
    Addition { path: PathBuf, element: String, problem: String },
    /// The operating system refused to read.
    #[error("could not read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The operating system refused to write.
    #[error("could not write `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// The HDF5 library could not store an element; a full disk is the usual reason.
    #[error("could not write `{element}` to `{}`", path.display())]
    Store { path: PathBuf, element: String, source: hdf5::Error },
}

impl Error {
    /// Whether reading or writing failed, rather than the content of a file or a request being wrong.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Write { .. } | Self::Store { .. })
    }

    pub(super) fn input(path: &Path, problem: impl Into<String>) -> Self {
        Self::Input { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn addition(path: &Path, element: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Addition { path: path.to_owned(), element: element.into(), problem: problem.into() }
    }

    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}
