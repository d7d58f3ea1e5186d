//! The only training loop, and what it needs. What is learnt is an [`Objective`]; the loop knows nothing of cells or genes.

mod checkpoint;
mod fit;
mod gradient;
mod metrics;
pub mod objective;
mod optimizer;
mod options;
mod schedule;

pub mod annotation;

pub use checkpoint::Unusable;
pub use fit::{Diverged, Fit, Observer, Outcome, Report};
pub use gradient::{Figures, Gradient, Pass, Settings};
pub use objective::{Objective, Part, Term, Totals};
pub use optimizer::{Adam, clip};
pub use options::{Options, Plan, Usual};
pub use schedule::Schedule;
