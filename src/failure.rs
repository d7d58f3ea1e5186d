//! Classification of errors, and the exit codes for workflow engines.
//!
//! The codes follow `sysexits.h`, so that an engine can retry with more memory (71) or on another node (69), but not on wrong
//! input (65). Wrong usage (2) never becomes an error value: the runner reports it before any work starts.

use std::error::Error;
use std::fmt;
use std::io;

/// Types of failure with their own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Wrong input: 65.
    Input,
    /// The GPU is missing or failed: 69.
    Device,
    /// Not enough memory, on the device or the host: 71.
    Memory,
    /// Reading or writing failed, for instance because the disk is full: 74.
    ReadWrite,
    /// Stopped by a signal after saving; the run can be resumed: 75.
    Interrupted,
}

/// Every exit code: its name, its meaning, and whether an engine should retry.
pub const CODES: [(u8, &str, &str, bool); 8] = [
    (0, "done", "the outputs are complete", false),
    (
        INTERNAL,
        "internal",
        "internal error; please report it",
        false,
    ),
    (USAGE, "usage", "wrong options; nothing was run", false),
    (Failure::Input.code(), "input", "wrong input", false),
    (
        Failure::Device.code(),
        "device",
        "the GPU is missing or failed; retry on another node",
        true,
    ),
    (
        Failure::Memory.code(),
        "memory",
        "not enough memory; retry with more",
        true,
    ),
    (
        Failure::ReadWrite.code(),
        "read_write",
        "reading or writing failed, as on a full disk",
        true,
    ),
    (
        Failure::Interrupted.code(),
        "interrupted",
        "stopped by a signal; rerun with --resume to continue",
        true,
    ),
];

/// Exit code of an internal error.
pub const INTERNAL: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;

/// An error with a [`Failure`]. Library errors implement it, and [`Failure::of`] lists them.
pub trait Classify: Error + 'static {
    /// The failure of this error.
    fn failure(&self) -> Failure;
}

impl Classify for io::Error {
    fn failure(&self) -> Failure {
        match self.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Failure::Input
            }
            io::ErrorKind::OutOfMemory => Failure::Memory,
            _ => Failure::ReadWrite,
        }
    }
}

impl Classify for crate::output::Error {
    fn failure(&self) -> Failure {
        Failure::ReadWrite
    }
}

impl Classify for crate::formats::Error {
    fn failure(&self) -> Failure {
        if self.is_io() {
            Failure::ReadWrite
        } else {
            Failure::Input
        }
    }
}

impl Classify for crate::corpus::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::Read { .. } | Self::Write { .. } => Failure::ReadWrite,
            Self::Output(error) => error.failure(),
            Self::Input { .. } | Self::Vocabulary(_) | Self::Cells { .. } => Failure::Input,
        }
    }
}

impl Classify for crate::reference_index::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::Read { .. } => Failure::ReadWrite,
            Self::Output(error) => error.failure(),
            Self::Input { .. } | Self::Cells(_) | Self::Analysis(_) => Failure::Input,
        }
    }
}

impl Classify for crate::distributed::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::Launch(_) => Failure::Input,
            Self::Lost(_) => Failure::Device,
        }
    }
}

impl Classify for crate::cells::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::File(error) => error.failure(),
            _ => Failure::Input,
        }
    }
}

impl Classify for crate::checkpoint::write::Error {
    fn failure(&self) -> Failure {
        Failure::ReadWrite
    }
}

impl Classify for crate::checkpoint::convert::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::Write(error) => error.failure(),
            _ => Failure::Input,
        }
    }
}

type Known = fn(&(dyn Error + 'static)) -> Option<Failure>;

fn known<E: Classify>(error: &(dyn Error + 'static)) -> Option<Failure> {
    error.downcast_ref::<E>().map(E::failure)
}

/// An error that is always caused by an input.
fn input<E: Error + 'static>(error: &(dyn Error + 'static)) -> Option<Failure> {
    error.downcast_ref::<E>().map(|_| Failure::Input)
}

/// Error types that are recognized anywhere in a chain. Errors of the operating system come first: a checkpoint that cannot be
/// read is not a wrong one.
const KNOWN: &[Known] = &[
    known::<io::Error>,
    known::<crate::output::Error>,
    known::<crate::formats::Error>,
    known::<crate::corpus::Error>,
    known::<crate::reference_index::Error>,
    known::<crate::distributed::Error>,
    known::<crate::cells::Error>,
    known::<crate::checkpoint::write::Error>,
    input::<crate::checkpoint::Error>,
    known::<crate::checkpoint::convert::Error>,
    input::<crate::vocabulary::Error>,
    input::<crate::expression::Error>,
    input::<crate::analysis::Error>,
    input::<crate::analysis::classification::Error>,
    #[cfg(feature = "torch")]
    input::<crate::baselines::Error>,
    #[cfg(feature = "torch")]
    input::<crate::model::weights::Incomplete>,
    #[cfg(feature = "torch")]
    input::<crate::predict::annotation::Error>,
    #[cfg(feature = "torch")]
    input::<crate::predict::generation::Error>,
    #[cfg(feature = "torch")]
    input::<crate::predict::perturbation::Error>,
    #[cfg(feature = "torch")]
    input::<crate::predict::settings::Error>,
    #[cfg(feature = "torch")]
    input::<crate::train::Diverged>,
    #[cfg(feature = "torch")]
    input::<crate::train::StateMismatch>,
];

impl Failure {
    /// The exit code of a program that ends with this failure.
    pub const fn code(self) -> u8 {
        match self {
            Failure::Input => 65,
            Failure::Device => 69,
            Failure::Memory => 71,
            Failure::ReadWrite => 74,
            Failure::Interrupted => 75,
        }
    }

    /// What the user can do, if that does not depend on the message.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Failure::Memory => Some(
                "use a smaller `--batch-size` or `--max-length`, or a machine with more memory",
            ),
            Failure::Device => {
                Some("run with `--device cpu`, or check the GPU and its driver with `nvidia-smi`")
            }
            Failure::Input | Failure::ReadWrite | Failure::Interrupted => None,
        }
    }

    /// An error with this failure and the given message.
    pub fn error(self, message: impl Into<String>) -> anyhow::Error {
        self.mark(anyhow::Error::msg(message.into()))
    }

    /// The given error, marked with this failure. Message and sources are unchanged.
    pub fn mark(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Marked {
            failure: self,
            error: error.into(),
        })
    }

    /// The failure of an error: by mark, by type, or by message; `None` if it is unknown.
    pub fn of(error: &anyhow::Error) -> Option<Failure> {
        let marked = || {
            error
                .chain()
                .find_map(|e| e.downcast_ref::<Marked>())
                .map(|m| m.failure)
        };
        let typed = || {
            let kind = |known: &Known| error.chain().find_map(known);
            KNOWN.iter().find_map(kind)
        };
        marked()
            .or_else(typed)
            .or_else(|| Failure::of_text(&format!("{error:#}")))
    }

    /// The failure from a message of libtorch, CUDA or the allocator, which have no error types.
    pub fn of_text(text: &str) -> Option<Failure> {
        const MEMORY: [&str; 5] = [
            "out of memory",
            "not enough memory",
            "can't allocate memory",
            "cannot allocate memory",
            "bad_alloc",
        ];
        const DEVICE: [&str; 6] = [
            "cuda error",
            "cuda driver",
            "cudnn",
            "cublas",
            "no cuda",
            "nvrtc",
        ];
        let text = text.to_lowercase();
        let contains = |patterns: &[&str]| patterns.iter().any(|pattern| text.contains(pattern));
        match () {
            () if contains(&MEMORY) => Some(Failure::Memory),
            () if contains(&DEVICE) => Some(Failure::Device),
            () => None,
        }
    }
}

/// An error with a mark. Message and sources are those of the inner error.
#[derive(Debug)]
struct Marked {
    failure: Failure,
    error: anyhow::Error,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Marked {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_mark_survives_context_and_overrides_types() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let marked = Err::<(), _>(Failure::Interrupted.mark(full))
            .context("saving")
            .unwrap_err();
        assert_eq!(Failure::of(&marked), Some(Failure::Interrupted));
        let chain = format!(
            "{:#}",
            Failure::Input
                .error("no gene matches")
                .context("could not read `a`")
        );
        assert_eq!(chain, "could not read `a`: no gene matches");
    }

    #[test]
    fn a_mark_keeps_the_chain_of_sources() {
        let inner = anyhow::Error::new(io::Error::other("disk")).context("could not write `b`");
        assert_eq!(
            format!("{:#}", Failure::ReadWrite.mark(inner)),
            "could not write `b`: disk"
        );
    }

    #[test]
    fn types_and_texts_are_recognized() {
        let of = |error: anyhow::Error| Failure::of(&error.context("outer"));
        assert_eq!(
            of(io::Error::from(io::ErrorKind::StorageFull).into()),
            Some(Failure::ReadWrite)
        );
        assert_eq!(
            of(io::Error::from(io::ErrorKind::NotFound).into()),
            Some(Failure::Input)
        );
        assert_eq!(
            of(anyhow::anyhow!("CUDA out of memory. Tried to allocate")),
            Some(Failure::Memory)
        );
        assert_eq!(
            of(anyhow::anyhow!(
                "DefaultCPUAllocator: can't allocate memory"
            )),
            Some(Failure::Memory)
        );
        assert_eq!(
            of(anyhow::anyhow!("CUDA error: device-side assert")),
            Some(Failure::Device)
        );
        assert_eq!(of(anyhow::anyhow!("index out of range")), None);
    }
}
