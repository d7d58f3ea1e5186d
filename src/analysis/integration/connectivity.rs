//! Graph connectivity: are the cells of a type connected among themselves (Luecken et al. 2022)?

use super::{Classes, mean, require_one_per_cell};
use crate::analysis::{Error, graph::Graph};

/// Mean over labels of the fraction of the label's cells in the largest connected component of the graph between them.
///
/// `None` without cells.
pub fn score(graph: &Graph, labels: &[usize]) -> Result<Option<f64>, Error> {
    graph.validate()?;
    require_one_per_cell("labels", labels.len(), graph.n_nodes())?;
    let largest_share = |cells: Vec<usize>| {
        let components = Classes::new(&graph.induced(&cells).components());
        let largest = components.counts.iter().copied().max().unwrap_or(0);
        largest as f64 / cells.len() as f64
    };
    Ok(mean(
        Classes::new(labels)
            .members()
            .into_iter()
            .map(largest_share),
    ))
}
