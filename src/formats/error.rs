use std::io;
use std::path::{Path, PathBuf};

/// Why a file of cells could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or an element of it, is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Input { path: PathBuf, problem: String },
    /// An element is there, but the HDF5 library cannot decode its bytes.
    #[error("could not read `{element}` in `{}`: the file may be truncated or damaged", path.display())]
    Damaged {
        path: PathBuf,
        element: String,
        source: hdf5::Error,
    },
    /// What was to be added does not fit the file.
    #[error("could not add `{element}` to `{}`: {problem}", path.display())]
    Addition {
        path: PathBuf,
        element: String,
        problem: String,
    },
    /// The operating system could not read a file.
    #[error("could not read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The operating system could not write a file.
    #[error("could not write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The HDF5 library could not store an element; a full disk is the usual reason.
    #[error("could not write `{element}` to `{}`", path.display())]
    Store {
        path: PathBuf,
        element: String,
        source: hdf5::Error,
    },
}

impl Error {
    /// Whether reading or writing failed, rather than the content of a file or a request being wrong.
    pub fn is_io(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::Write { .. } | Self::Store { .. }
        )
    }

    pub(in crate::formats) fn input(path: &Path, problem: impl Into<String>) -> Self {
        Self::Input {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(in crate::formats) fn addition(
        path: &Path,
        element: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self::Addition {
            path: path.to_owned(),
            element: element.into(),
            problem: problem.into(),
        }
    }

    pub(in crate::formats) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    /// The operating system's error on opening a file.
    pub(in crate::formats) fn opening(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::input(path, "there is no such file")
        } else {
            Self::read(path, source)
        }
    }

    pub(in crate::formats) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// An error of the HDF5 library while it read: the operating system's, if that was the reason, or a damaged file.
    pub(in crate::formats) fn damaged(path: &Path, element: &str, source: hdf5::Error) -> Self {
        match os_error(&source) {
            Some(error) => Self::read(path, error),
            None => Self::Damaged {
                path: path.to_owned(),
                element: element.to_owned(),
                source,
            },
        }
    }

    /// An error of the HDF5 library while it wrote.
    pub(in crate::formats) fn store(path: &Path, element: &str, source: hdf5::Error) -> Self {
        match os_error(&source) {
            Some(error) => Self::write(path, error),
            None => Self::Store {
                path: path.to_owned(),
                element: element.to_owned(),
                source,
            },
        }
    }
}

/// The operating system's error behind one of the HDF5 library, which gives its number in the message only.
fn os_error(error: &hdf5::Error) -> Option<io::Error> {
    let message = error.to_string();
    let (_, rest) = message.split_once("errno = ")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits
        .parse()
        .ok()
        .filter(|&code| code != 0)
        .map(io::Error::from_raw_os_error)
}
