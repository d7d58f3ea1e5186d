//! Training: one loop for all programs, independent of cells and genes. An [`Objective`] defines the losses.

mod all_reduce;
mod checkpoint;
mod contrastive;
mod events;
mod examples;
mod fit;
mod gradient;
mod metrics;
pub mod objective;
mod optimizer;
mod options;
mod position;
mod schedule;

pub mod annotation;
pub mod integration;
pub mod perturbation;
pub mod pretraining;

pub use checkpoint::StateMismatch;
pub use examples::{BatchPlan, Examples, Groups, InMemory, Minibatch, Minibatches, checksum};
pub use fit::{Diverged, Fit, IncompleteEpoch, Observer, Outcome, Report};
pub use gradient::{Figures, Gradient, Settings};
pub use metrics::FILES as METRICS_FILES;
pub use objective::{At, ForwardOutput, Objective, Pass, Term, Totals};
pub use optimizer::{Adam, clip};
pub use options::{Defaults, Options, Plan};
pub use schedule::{Schedule, cosine};
