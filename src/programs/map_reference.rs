//! `scgpt-map-reference build` and `scgpt-map-reference query`: reference indexes, and label transfer from the nearest reference
//! cells.

mod baseline;
mod build;
mod embedded;
mod query;
mod query_options;
mod reference;
mod results;
mod scores;

pub use build::{Build, BuildOptions};
pub use query::Query;
pub use query_options::QueryOptions;

use super::{Facts, Program, Resources, TOPICS, label_column, steps};

/// Resources for searching a reference of typical size.
const SEARCH: Resources = Resources {
    cpus: 4,
    memory_gb: 8,
    gpu: false,
};
/// Maximum number of distinct labels: far more than there are cell types.
const MOST_LABELS: usize = 2000;
/// Files that a directory with an index must contain.
const INDEX: &[&str] = &["manifest.json"];
