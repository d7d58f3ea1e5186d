//! `scgpt-map-reference build` and `scgpt-map-reference query`: labels of new cells from reference cells near them.

mod baseline;
mod build;
mod embedded;
mod query;
mod results;
mod scores;

pub use build::{Build, BuildOptions};
pub use query::{Query, QueryOptions};

use super::{Facts, Program, Resources, TOPICS, steps};

/// Searching a reference of usual size.
const SEARCH: Resources = Resources {
    cpus: 4,
    memory_gb: 8,
    gpu: false,
};
/// What a folder with an index must hold.
const INDEX: &[&str] = &["manifest.json"];
