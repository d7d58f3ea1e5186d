//! Reads from the environment which processes were started together.

use super::Error;
use std::fmt::Display;
use std::str::FromStr;

/// How this process was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    SingleProcess,
    /// By an MPI launcher.
    Mpi {
        size: usize,
    },
    /// By a launcher that gives every process its rank and the address of rank 0 (torchrun, Slurm).
    Addressed(Place),
}

/// A process among others, and the address of rank 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    pub size: usize,
    pub address: String,
    pub port: u16,
}

/// Default port of rank 0.
const PORT: u16 = 29500;

/// The number of this process among those on its machine, which selects its GPU.
pub fn local_rank() -> usize {
    const NAMES: [&str; 4] = [
        "LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "MPI_LOCALRANKID",
        "SLURM_LOCALID",
    ];
    let value = |name| std::env::var(name).ok()?.parse().ok();
    NAMES.into_iter().find_map(value).unwrap_or(0)
}

/// Reads the environment. A program that trains on a GPU uses addresses if there are any, any other uses MPI.
///
/// # Errors
///
/// If there are several processes, but what they need to find each other is missing.
pub fn read(variable: impl Fn(&str) -> Option<String>, on_gpu: bool) -> Result<Launch, Error> {
    let environment = Environment(variable);
    let mpi = environment.mpi_size()?.filter(|size| *size > 1);
    match (environment.place()?, mpi) {
        (Some(place), None) => Ok(Launch::Addressed(place)),
        (Some(place), Some(_)) if on_gpu => Ok(Launch::Addressed(place)),
        (_, Some(size)) => Ok(Launch::Mpi { size }),
        (None, None) => match environment.tasks()? {
            Some(tasks) if tasks > 1 => Err(no_rendezvous(tasks)),
            _ => Ok(Launch::SingleProcess),
        },
    }
}

struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = (self.0)(name) else {
            return Ok(None);
        };
        let wrong = |_| {
            wrong(format_args!(
                "{name}={text} in the environment is not a number"
            ))
        };
        text.trim().parse().map(Some).map_err(wrong)
    }

    /// Processes of this step of a Slurm job. A batch script is in no step, however many tasks its job has.
    fn tasks(&self) -> Result<Option<usize>, Error> {
        self.number("SLURM_STEP_NUM_TASKS")
    }

    /// Processes of an MPI launcher, or of a Slurm step with PMIx.
    fn mpi_size(&self) -> Result<Option<usize>, Error> {
        for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
            if let Some(size) = self.number(name)? {
                return Ok(Some(size));
            }
        }
        match (self.0)("PMIX_RANK") {
            Some(_) => self.tasks(),
            None => Ok(None),
        }
    }

    /// The place among several processes; with an address, Slurm's own numbers are enough.
    fn place(&self) -> Result<Option<Place>, Error> {
        let address = (self.0)("MASTER_ADDR").filter(|address| !address.is_empty());
        let (size, rank) = match (self.number("WORLD_SIZE")?, &address) {
            (Some(size), _) => (size, "RANK"),
            (None, Some(_)) => (self.tasks()?.unwrap_or(1), "SLURM_PROCID"),
            (None, None) => return Ok(None),
        };
        if size <= 1 {
            return Ok(None);
        }
        let missing = |name| {
            wrong(format_args!(
                "this is one of {size} processes, but {name} is not in the environment"
            ))
        };
        let rank = self.number(rank)?.ok_or_else(|| missing(rank))?;
        if rank >= size {
            let message = format_args!("rank {rank} of {size} processes: ranks count from 0");
            return Err(wrong(message));
        }
        Ok(Some(Place {
            rank,
            size,
            address: address.ok_or_else(|| missing("MASTER_ADDR"))?,
            port: self.port()?,
        }))
    }

    /// If the agent of torchrun listens at the port itself, the first process takes the next one.
    fn port(&self) -> Result<u16, Error> {
        let port = self.number("MASTER_PORT")?.unwrap_or(PORT);
        let taken = (self.0)("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        Ok(port.saturating_add(u16::from(taken)))
    }
}

fn wrong(message: impl Display) -> Error {
    Error::Launch(message.to_string())
}

fn no_rendezvous(tasks: usize) -> Error {
    wrong(format_args!(
        "srun started {tasks} processes that cannot find each other: use `srun --mpi=pmix` to train on CPUs over MPI, set MASTER_ADDR \
         to the first node to train on GPUs, or start one process (`srun --ntasks=1`)"
    ))
}

pub fn no_mpi_launcher(size: usize) -> Error {
    wrong(format_args!(
        "this is one of {size} processes that were started to train together, but processes on CPUs connect over MPI only: start \
         them with `mpirun` or `srun --mpi=pmix`"
    ))
}

#[cfg_attr(all(feature = "mpi", feature = "nccl"), allow(dead_code))]
pub fn no_engine(size: usize, feature: &str) -> Error {
    wrong(format_args!(
        "this is one of {size} processes that were started to train together, but this build cannot: it lacks the feature `{feature}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)], on_gpu: bool) -> Result<Launch, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        read(variable, on_gpu).map_err(|error| error.to_string())
    }

    const TORCHRUN: [(&str, &str); 4] = [
        ("WORLD_SIZE", "4"),
        ("RANK", "3"),
        ("MASTER_ADDR", "node1"),
        ("MASTER_PORT", "1234"),
    ];

    fn place(port: u16) -> Launch {
        Launch::Addressed(Place {
            rank: 3,
            size: 4,
            address: "node1".into(),
            port,
        })
    }

    #[test]
    fn a_process_is_alone_unless_the_environment_specifies_more() {
        assert_eq!(launch(&[], false), Ok(Launch::SingleProcess));
        assert_eq!(
            launch(&[("WORLD_SIZE", "1")], true),
            Ok(Launch::SingleProcess)
        );
        let batch_script = [
            ("SLURM_NTASKS", "2"),
            ("SLURM_PROCID", "0"),
            ("MASTER_ADDR", "node1"),
        ];
        assert_eq!(launch(&batch_script, true), Ok(Launch::SingleProcess));
        let singleton = [("OMPI_COMM_WORLD_SIZE", "1")];
        assert_eq!(launch(&singleton, false), Ok(Launch::SingleProcess));
    }

    #[test]
    fn launchers_are_distinguished() {
        assert_eq!(launch(&TORCHRUN, true), Ok(place(1234)));
        let mpirun = ("OMPI_COMM_WORLD_SIZE", "2");
        assert_eq!(launch(&[mpirun], false), Ok(Launch::Mpi { size: 2 }));
        let srun = [("PMIX_RANK", "0"), ("SLURM_STEP_NUM_TASKS", "3")];
        assert_eq!(launch(&srun, false), Ok(Launch::Mpi { size: 3 }));
        let both = [&TORCHRUN[..], &srun].concat();
        assert_eq!(launch(&both, true), Ok(place(1234)));
        assert_eq!(launch(&both, false), Ok(Launch::Mpi { size: 3 }));
    }

    #[test]
    fn a_port_that_an_agent_holds_is_left_to_it() {
        let agent = ("TORCHELASTIC_USE_AGENT_STORE", "True");
        let variables = [&TORCHRUN[..], &[agent]].concat();
        assert_eq!(launch(&variables, true), Ok(place(1235)));
    }

    #[test]
    fn slurm_numbers_do_where_an_address_is_given() {
        let variables = [
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_PROCID", "3"),
            ("MASTER_ADDR", "node1"),
        ];
        assert_eq!(launch(&variables, true), Ok(place(PORT)));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let rejected = |variables: &[_]| launch(variables, true).unwrap_err();
        assert!(rejected(&[("SLURM_STEP_NUM_TASKS", "2")]).contains("srun --mpi=pmix"));
        assert!(rejected(&[("WORLD_SIZE", "two")]).contains("WORLD_SIZE=two"));
        assert!(rejected(&TORCHRUN[..1]).contains("RANK is not in the environment"));
        assert!(rejected(&TORCHRUN[..2]).contains("MASTER_ADDR is not in the environment"));
        assert!(rejected(&[("WORLD_SIZE", "2"), ("RANK", "2")]).contains("count from 0"));
    }
}
