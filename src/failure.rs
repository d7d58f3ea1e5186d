//! What kind of failure an error is, and the exit code that tells a workflow engine.
//!
//! The codes follow `sysexits.h`, so that an engine can retry with more memory (71) or on another node (69), and leave
//! wrong input (65) alone. Wrong usage (2) never becomes an error value: the runner reports it before any work starts.

use std::error::Error;
use std::fmt;
use std::io;

/// The kinds of failure that have an exit code of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An input cannot be used as it is: 65.
    Input,
    /// The accelerator is missing or failed: 69.
    Device,
    /// Not enough memory, on the device or the host: 71.
    Memory,
    /// Reading or writing failed, for instance because the disk is full: 74.
    ReadWrite,
    /// Stopped by a signal after saving; the run can be resumed: 75.
    Interrupted,
}

/// Every exit code: its name, what it means, and whether an engine should try again.
pub const CODES: [(u8, &str, &str, bool); 8] = [
    (0, "done", "the outputs are complete", false),
    (
        INTERNAL,
        "internal",
        "a fault of the program, to be reported",
        false,
    ),
    (USAGE, "usage", "wrong options; nothing was done", false),
    (
        Failure::Input.code(),
        "input",
        "an input cannot be used as it is",
        false,
    ),
    (
        Failure::Device.code(),
        "device",
        "the accelerator is missing or failed; try another node",
        true,
    ),
    (
        Failure::Memory.code(),
        "memory",
        "not enough memory; try with more",
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
        "stopped by a signal; the same command with --resume goes on",
        true,
    ),
];

/// Exit code of a failure of no known kind, which is ours to repair.
pub const INTERNAL: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;

/// An error that knows its kind. Library errors implement it, and [`Failure::of`] lists them.
pub trait Classify: Error + 'static {
    /// The kind of this error.
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

impl Classify for crate::atlas::Error {
    fn failure(&self) -> Failure {
        match self {
            Self::Read { .. } => Failure::ReadWrite,
            Self::Output(error) => error.failure(),
            Self::Input { .. } | Self::Cells(_) | Self::Analysis(_) => Failure::Input,
        }
    }
}

impl Classify for crate::ranks::Error {
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

/// An error that can only be the fault of an input.
fn input<E: Error + 'static>(error: &(dyn Error + 'static)) -> Option<Failure> {
    error.downcast_ref::<E>().map(|_| Failure::Input)
}

/// The error types that are recognised anywhere in a chain. What the operating system says comes first: a checkpoint that
/// cannot be read is not a wrong one.
const KNOWN: &[Known] = &[
    known::<io::Error>,
    known::<crate::output::Error>,
    known::<crate::formats::Error>,
    known::<crate::corpus::Error>,
    known::<crate::atlas::Error>,
    known::<crate::ranks::Error>,
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
    input::<crate::train::Unusable>,
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

    /// What the user can do, where that does not depend on the error's own words.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Failure::Memory => Some(
                "use a smaller `--batch-size` or `--max-length`, or a machine with more memory",
            ),
            Failure::Device => Some(
                "run with `--device cpu`, or check the accelerator and its driver with `nvidia-smi`",
            ),
            Failure::Input | Failure::ReadWrite | Failure::Interrupted => None,
        }
    }

    /// An error of this kind with the given message.
    pub fn error(self, message: impl Into<String>) -> anyhow::Error {
        self.mark(anyhow::Error::msg(message.into()))
    }

    /// The given error, marked as one of this kind. Its message and its sources stay as they are.
    pub fn mark(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Marked {
            failure: self,
            error: error.into(),
        })
    }

    /// The kind of an error: as marked, as its type says, or as its text says; `None` if it is of no known kind.
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

    /// The kind that the words of libtorch, CUDA or the allocator betray; they arrive as text only.
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
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match () {
            () if says(&MEMORY) => Some(Failure::Memory),
            () if says(&DEVICE) => Some(Failure::Device),
            () => None,
        }
    }
}

/// An error with a mark. It shows itself and its sources exactly as the error inside does.
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
    fn a_mark_survives_context_and_wins_over_types() {
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
    fn types_and_texts_are_recognised() {
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
