//! `scgpt-grn`: gene programs and regulatory networks, from what a model makes of genes and from where it attends to, held
//! against what is known.

mod attention;
mod choice;
mod difference;
mod enrich;
mod evaluate;
mod groups;
mod network;
mod results;
mod scene;
mod scores;
mod similarity;

pub use attention::Attention;
pub use difference::Difference;
pub use enrich::Enrich;
pub use evaluate::Evaluate;
pub use similarity::Programs;

/// Memory for a table of edges or of gene sets.
const TABLE_MEMORY: usize = 1 << 30;
