//! `scgpt-map-reference build` and `scgpt-map-reference query`: labels of new cells from reference cells near them.

mod baseline;
mod build;
mod embedded;
mod query;
mod results;
mod scores;

pub use build::{Build, BuildOptions};
pub use query::{Query, QueryOptions};

use super::{Facts, Program, Resources, TOPICS, given_labels, steps};

/// Searching a reference of usual size.
const SEARCH: Resources = Resources {
    cpus: 4,
    memory_gb: 8,
    gpu: false,
};
/// Distinct labels that can be given: far more than there are types of cells.
const MOST_LABELS: usize = 2000;
/// What a folder with an index must hold.
const INDEX: &[&str] = &["manifest.json"];
