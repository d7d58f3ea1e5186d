//! `scgpt-grn`: gene programs and gene regulatory networks from gene embeddings and attention, and their evaluation against known
//! gene sets and regulation.

mod attention;
mod cell_reader;
mod difference;
mod enrich;
mod evaluate;
mod gene_selection;
mod groups;
mod network;
mod programs;
mod results;
mod scores;

pub use attention::Attention;
pub use difference::Difference;
pub use enrich::Enrich;
pub use evaluate::Evaluate;
pub use programs::Programs;

/// Memory for a table of edges or of gene sets.
const TABLE_MEMORY: usize = 1 << 30;
