//! Device selection, with one libtorch thread per thread of the program.

use crate::distributed::local_rank;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use tch::{Cuda, Device, Kind};

/// Device options.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Device: auto (a GPU if available), cpu, cuda, or cuda:N for GPU number N.
    #[arg(long)]
    #[schemars(regex(pattern = r"^(auto|cpu|cuda(:[0-9]+)?)$"), extend("x-fingerprint" = false, "examples" = ["auto", "cpu", "cuda:0"]))]
    pub device: String,
}

/// Numerical precision of training.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 on a GPU, f32 on a CPU.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16: 16-bit floats with the range of 32-bit floats.
    Bf16,
}

impl Precision {
    /// The tensor type on a device.
    pub fn kind(self, device: Device) -> Kind {
        match self {
            Self::Auto if device == Device::Cpu => Kind::Float,
            Self::F32 => Kind::Float,
            Self::Auto | Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: "auto".into(),
        }
    }
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`--device {0}` is not a device: expected auto, cpu, cuda or cuda:N")]
    Unknown(String),
    #[error(
        "`--device {0}` needs a GPU, but {1}: use `--device cpu`, or a build with the CUDA libraries on a machine with a GPU"
    )]
    Unusable(String, &'static str),
}

impl Options {
    /// Loads the CUDA library of libtorch if available, and selects the device.
    pub fn resolve(&self) -> Result<Device, Error> {
        // Every thread of the program computes its own cells; more threads in libtorch would only change the order of sums.
        tch::set_num_threads(1);
        if self.device == "cpu" {
            return Ok(Device::Cpu);
        }
        let loaded = cuda::load();
        let devices = if loaded { Cuda::device_count() } else { 0 };
        match (self.device.as_str(), devices) {
            ("auto", 0) => Ok(Device::Cpu),
            // Processes on the same node use one GPU each.
            ("auto" | "cuda", 1..) => Ok(Device::Cuda(local_rank() % devices as usize)),
            _ => self.numbered(loaded, devices),
        }
    }

    fn numbered(&self, loaded: bool, devices: i64) -> Result<Device, Error> {
        let unusable = |why| Err(Error::Unusable(self.device.clone(), why));
        let number = match self.device.strip_prefix("cuda") {
            Some("") => 0,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|n| usize::from_str(n).ok())
                .ok_or_else(|| Error::Unknown(self.device.clone()))?,
            None => return Err(Error::Unknown(self.device.clone())),
        };
        match devices {
            _ if !loaded => unusable("this installation has no CUDA libraries"),
            0 => unusable("no GPU was found"),
            n if (number as i64) < n => Ok(Device::Cuda(number)),
            _ => unusable("no GPU has this number"),
        }
    }
}

/// The CUDA library of libtorch, loaded at run time, so that one binary works with and without a GPU.
#[allow(unsafe_code)]
mod cuda {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    /// True if the library was loaded and registered its kernels.
    pub fn load() -> bool {
        // SAFETY: libtorch's own library, found by the run path of this program; its initializers only register kernels.
        match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                // Kernels stay registered for the life of the program, so the library must too.
                std::mem::forget(library);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(device: &str) -> Result<Device, Error> {
        Options {
            device: device.into(),
        }
        .resolve()
    }

    #[test]
    fn the_cpu_is_always_available() {
        assert_eq!(resolve("cpu"), Ok(Device::Cpu));
        assert_eq!(tch::get_num_threads(), 1);
    }

    #[test]
    fn unknown_devices_are_rejected_by_name() {
        assert_eq!(resolve("tpu"), Err(Error::Unknown("tpu".into())));
        assert_eq!(resolve("cuda:x"), Err(Error::Unknown("cuda:x".into())));
        assert!(
            matches!(resolve("cuda:99"), Err(Error::Unusable(device, _)) if device == "cuda:99")
        );
    }
}
