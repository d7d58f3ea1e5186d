//! Diffusion maps of graphs (Coifman et al. 2005, PNAS 102:7426; Haghverdi et al. 2016, Nature Methods 13:845).

use ndarray::{Array2, Axis, concatenate};

use super::{Classes, lanczos};
use crate::analysis::graph::Graph;

/// An eigenvalue this near to 1 is taken for 1 (half of the last digit of single precision).
const NEAR_ONE: f64 = 1.0 / (1 << 25) as f64;

/// Coordinates of nodes such that Euclidean distances are diffusion distances over all numbers of steps, [nodes, components].
///
/// Each of the components has an eigenvector of the symmetric transition matrix, those with eigenvalues of largest magnitude,
/// times e / (1 - e) for the eigenvalue e, or 1 for the stationary ones (e = 1, one for each connected component).
/// Every node must have a neighbor.
pub(super) fn map(graph: &Graph, components: usize) -> Array2<f64> {
    let (transitions, roots) = transitions(graph);
    let stationary = stationary(&transitions, &roots, components);
    let rest = components - stationary.nrows();
    let (values, mut vectors) = lanczos::largest(&transitions, stationary.view(), rest);
    for (mut vector, value) in vectors.rows_mut().into_iter().zip(values) {
        if 1.0 - value > NEAR_ONE {
            vector *= value / (1.0 - value);
        }
    }
    let both = concatenate![Axis(0), stationary, vectors];
    both.reversed_axes().as_standard_layout().into_owned()
}

/// Transition probabilities independent of the density of nodes and made symmetric, and the square roots of nodes' degrees.
fn transitions(graph: &Graph) -> (Graph, Vec<f64>) {
    let density: Vec<f64> = strengths(graph);
    let kernel = scaled(graph, &density);
    let roots: Vec<f64> = strengths(&kernel).into_iter().map(f64::sqrt).collect();
    (scaled(&kernel, &roots), roots)
}

fn strengths(graph: &Graph) -> Vec<f64> {
    (0..graph.n_nodes())
        .map(|node| graph.strength(node))
        .collect()
}

/// Every weight divided by the scales of its ends, one after the other: their product may be too small for an f64.
fn scaled(graph: &Graph, scales: &[f64]) -> Graph {
    let row = |node: usize| {
        let edges = graph.row(node);
        edges.map(move |(end, weight)| {
            let (a, b) = (scales[node], scales[end]);
            weight / a.max(b) / a.min(b)
        })
    };
    Graph {
        weights: (0..graph.n_nodes()).flat_map(row).collect(),
        ..graph.clone()
    }
}

/// Eigenvectors of eigenvalue 1: the roots of the degrees within one connected component, [components or `most`, nodes].
fn stationary(graph: &Graph, roots: &[f64], most: usize) -> Array2<f64> {
    let mut members = Classes::new(&graph.components()).members();
    members.truncate(most);
    let mut vectors = Array2::zeros((members.len(), roots.len()));
    for (mut vector, nodes) in vectors.rows_mut().into_iter().zip(members) {
        nodes.iter().for_each(|&node| vector[node] = roots[node]);
        let length = vector.dot(&vector).sqrt();
        vector /= length;
    }
    vectors
}
