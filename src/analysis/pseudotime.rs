//! Diffusion pseudotime: how far each cell is from a root along all random walks on a graph of cells.
//!
//! Haghverdi et al. 2016 (Nat Methods 13:845), on the density-normalized transitions of Coifman et al. 2005 (PNAS 102:7426).
//! With eigenvalues l and eigenvectors v of the symmetric transitions, the squared distance of cells i and j is the sum of
//! (l / (1 - l))^2 (v_i - v_j)^2; components with l of 0.9994 or more (the stationary state, and what single precision cannot
//! distinguish from it) count once each instead, as in scanpy.

use ndarray::ArrayView1;

use super::Error;
use super::graph::Graph;
use super::spectral::{Order, Wanted, eigenpairs};
use crate::random::Seed;

/// Eigenvalues from here on count as 1.
const STATIONARY: f64 = 0.9994;
/// Largest residual of an eigenvector.
const TOLERANCE: f64 = 1e-8;
/// Distances up to here are rounding errors.
const ROUNDING: f64 = 1e-9;

/// Diffusion pseudotime of each cell from the cell `root`, scaled so that the furthest cell has 1; NaN where no path leads.
///
/// `components` is the number of eigenvectors, the stationary state included: usually 15, all if there are fewer cells. Only
/// cells connected with the root are computed with. Fails on a root that is no cell, without components and if the
/// eigenvectors cannot be found.
pub fn diffusion_pseudotime(
    graph: &Graph,
    root: usize,
    components: usize,
) -> Result<Vec<f64>, Error> {
    graph.validate()?;
    if root >= graph.n_nodes() {
        let (what, found, limit) = ("the root", root, graph.n_nodes());
        return Err(Error::NoSuchCell { what, found, limit });
    }
    if components == 0 {
        return Err(Error::Zero("components"));
    }
    let parts = graph.components();
    let connected: Vec<usize> = (0..parts.len())
        .filter(|&cell| parts[cell] == parts[root])
        .collect();
    let at = connected.partition_point(|&cell| cell < root);
    let mut pseudotime = vec![f64::NAN; parts.len()];
    let distances = distances(&graph.induced(&connected), at, components)?;
    let furthest = distances.iter().copied().fold(0.0, f64::max);
    for (&cell, distance) in connected.iter().zip(distances) {
        pseudotime[cell] = if furthest > ROUNDING {
            distance / furthest
        } else {
            0.0
        };
    }
    Ok(pseudotime)
}

/// Distances of all nodes of a connected graph from one of them.
fn distances(graph: &Graph, root: usize, components: usize) -> Result<Vec<f64>, Error> {
    let wanted = Wanted {
        pairs: components,
        order: Order::Magnitude,
        tolerance: TOLERANCE,
    };
    // The result does not depend on the seed but for rounding errors.
    let found = eigenpairs(graph, &scaling(graph), wanted, Seed(0))?;
    let mut squares = vec![0.0; graph.n_nodes()];
    for (&value, vector) in found.values.iter().zip(found.vectors.rows()) {
        add_squares(&mut squares, vector, root, importance(value));
    }
    Ok(squares.into_iter().map(f64::sqrt).collect())
}

fn importance(eigenvalue: f64) -> f64 {
    if eigenvalue >= STATIONARY {
        1.0
    } else {
        eigenvalue / (1.0 - eigenvalue)
    }
}

fn add_squares(squares: &mut [f64], vector: ArrayView1<'_, f64>, root: usize, importance: f64) {
    for (square, value) in squares.iter_mut().zip(vector) {
        *square += (importance * (value - vector[root])).powi(2);
    }
}

/// What makes the graph's weights symmetric transitions once they are divided by both cells' densities.
fn scaling(graph: &Graph) -> Vec<f64> {
    let nodes = 0..graph.n_nodes();
    let density: Vec<f64> = nodes.clone().map(|node| graph.strength(node)).collect();
    nodes
        .map(|node| {
            let sum: f64 = graph
                .row(node)
                .map(|(end, weight)| weight / density[end])
                .sum();
            // sqrt(sum / density) is the square root of the row's sum of normalized weights.
            if sum > 0.0 {
                1.0 / (density[node] * (sum / density[node]).sqrt())
            } else {
                0.0
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::graph::tests::{golden, golden_graph, ring};
    use crate::analysis::on_threads;

    #[test]
    fn golden_pseudotime() {
        let graph = golden_graph("trajectory");
        let pseudotime = diffusion_pseudotime(&graph, 0, 15).unwrap();
        for (value, expected) in pseudotime.iter().zip(golden("trajectory", "pseudotime")) {
            // The expected values have single precision.
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
    }

    #[test]
    fn the_other_side_of_a_ring_is_furthest() {
        let pseudotime = diffusion_pseudotime(&ring(61), 7, 15).unwrap();
        assert_eq!(pseudotime[7], 0.0);
        assert!((pseudotime[37] - 1.0).abs() < 1e-12);
        for step in 1..30 {
            let (left, right) = (pseudotime[(68 - step) % 61], pseudotime[7 + step]);
            assert!((left - right).abs() < 1e-7, "both methods agree");
            assert!(pseudotime[7 + step] < pseudotime[8 + step]);
        }
    }

    #[test]
    fn other_components_have_none_and_change_nothing() {
        let graph = golden_graph("trajectory");
        let alone = diffusion_pseudotime(&graph, 20, 10).unwrap();
        let edges = (0..150).flat_map(|node| {
            graph
                .row(node)
                .map(move |(end, weight)| (node, end, weight))
        });
        let mut edges: Vec<(u32, u32, f64)> = edges
            .filter(|(node, end, _)| node < end)
            .map(|(node, end, weight)| (node as u32 + 2, end as u32 + 2, weight))
            .collect();
        edges.push((0, 152, 1.0));
        let together = Graph::from_edges(153, &edges).unwrap();
        let together = diffusion_pseudotime(&together, 22, 10).unwrap();
        assert!([0, 1, 152].iter().all(|&cell| together[cell].is_nan()));
        assert_eq!(together[2..152], alone);
    }

    #[test]
    fn few_cells_and_impossible_input() {
        let graph = Graph::from_edges(3, &[(0, 1, 1.0)]).unwrap();
        assert_eq!(
            diffusion_pseudotime(&graph, 0, 15).unwrap()[..2],
            [0.0, 1.0]
        );
        assert_eq!(diffusion_pseudotime(&graph, 2, 15).unwrap()[2], 0.0);
        assert!(matches!(
            diffusion_pseudotime(&graph, 3, 15),
            Err(Error::NoSuchCell {
                found: 3,
                limit: 3,
                ..
            })
        ));
        assert_eq!(
            diffusion_pseudotime(&graph, 0, 0),
            Err(Error::Zero("components"))
        );
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let graph = golden_graph("trajectory");
        let time = || diffusion_pseudotime(&graph, 5, 15).unwrap();
        assert_eq!(on_threads(1, time), on_threads(8, time));
    }
}
