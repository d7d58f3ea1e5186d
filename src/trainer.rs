//! One trainer for all tasks: the network and its weights, the training plan, the loop, and the directory of the model.
//!
//! A task brings data, the shape of the network, losses, defaults and what is written (see [`Task`]). What tasks have in common
//! exists here once: work directory, resume, fingerprint, progress, best weights, run record.

mod fingerprint;
mod network;
mod progress;
mod task;

pub use fingerprint::fingerprint;
pub use network::{Description, Network, Shape, open_checkpoint, report_weights};
pub use task::{Files, Fitting, Task, Trained, build, distributed, is_complete, run, train, write};
