//! The only training loop, and what it needs. What is learnt is an [`Objective`]; the loop knows nothing of cells or genes.

mod checkpoint;
mod events;
mod examples;
mod fit;
mod gradient;
mod metrics;
pub mod objective;
mod optimizer;
mod options;
mod schedule;
mod terms;
mod together;

pub mod annotation;
pub mod integration;
pub mod perturbation;
pub mod pretraining;

pub use checkpoint::Unusable;
pub use examples::{Cut, Examples, Groups, InMemory, Minibatch, Minibatches, checksum};
pub use fit::{Diverged, Fit, Missed, Observer, Outcome, Report};
pub use gradient::{Figures, Gradient, Settings};
pub use metrics::FILES as METRICS_FILES;
pub use objective::{At, Objective, Part, Pass, Term, Totals};
pub use optimizer::{Adam, clip};
pub use options::{Options, Plan, Usual};
pub use schedule::{Schedule, cosine};
