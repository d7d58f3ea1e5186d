//! Undirected weighted graphs of cells, and UMAP's graph of nearest neighbors.
//!
//! McInnes, Healy and Melville 2018 (arXiv:1802.03426), section 3.1 and algorithms 2 and 3: a cell's distances to its
//! neighbors, less the distance to the nearest of them and divided by a scale of its own, become memberships in (0, 1]; the
//! memberships of the two directions are joined by the probabilistic union a + b - ab.

use ndarray::ArrayView1;
use rayon::prelude::*;

use super::Error;
use super::neighbors::Neighbors;

/// Largest error of a cell's sum of memberships.
const TOLERANCE: f64 = 1e-5;
/// Bisections at most for a cell's scale.
const BISECTIONS: usize = 64;
/// A cell's scale is at least this fraction of the mean distance.
const LEAST_SCALE: f64 = 1e-3;

/// An undirected weighted graph in compressed rows.
///
/// Row `i` is the range `offsets[i]..offsets[i + 1]` of `neighbors` and `weights`. Columns increase within a row, the matrix is
/// symmetric, no node is its own neighbor, weights are positive.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Where each row starts, and where the last ends: nodes + 1 numbers.
    pub offsets: Vec<usize>,
    /// The other end of each edge, row by row.
    pub neighbors: Vec<u32>,
    /// The weight of each edge.
    pub weights: Vec<f64>,
}

impl Graph {
    /// The fuzzy simplicial set of cells and their nearest neighbors, with memberships as weights.
    ///
    /// Row `i` has the neighbors of cell `i` among the same cells, nearest first, and the cell itself is one of them (the
    /// first, unless other cells are at distance 0 too); it counts toward the number of neighbors. Edges whose membership is
    /// too small for an f64 are dropped. Fails on neighbors that are no such cells, on more cells than fit in u32 and on
    /// distances that are not finite or negative.
    pub fn connectivities(neighbors: &Neighbors) -> Result<Self, Error> {
        check(neighbors)?;
        let distances = &neighbors.distances;
        let mean = distances.mean().unwrap_or(0.0);
        let rows: Vec<Row> = (0..distances.nrows())
            .into_par_iter()
            .map(|cell| memberships(cell, neighbors.indices.row(cell), distances.row(cell), mean))
            .collect();
        let turned = transpose(&rows);
        let united: Vec<Row> = rows
            .par_iter()
            .zip(&turned)
            .map(|(a, b)| unite(a, b))
            .collect();
        Ok(Self::from_rows(united))
    }

    /// A graph of given edges (one end, other end, weight), each given once and in either direction.
    ///
    /// Fails on ends that are no nodes, on edges from a node to itself or given twice and on weights that are not positive.
    pub fn from_edges(nodes: usize, edges: &[(u32, u32, f64)]) -> Result<Self, Error> {
        let mut rows = vec![Row::new(); nodes];
        for &(a, b, weight) in edges {
            let end = a.max(b) as usize;
            if end >= nodes {
                return Err(Error::Graph(format!(
                    "node {end} of {nodes} is an end of an edge"
                )));
            }
            rows[a as usize].push((b, weight));
            rows[b as usize].push((a, weight));
        }
        for row in &mut rows {
            row.sort_by_key(|&(node, _)| node);
        }
        let graph = Self::from_rows(rows);
        graph.validate()?;
        Ok(graph)
    }

    fn from_rows(rows: Vec<Row>) -> Self {
        let mut offsets = vec![0];
        offsets.extend(rows.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        }));
        let (neighbors, weights) = rows.into_iter().flatten().unzip();
        Self {
            offsets,
            neighbors,
            weights,
        }
    }

    /// Number of nodes.
    pub fn n_nodes(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Neighbors of a node, increasing, and the weights of its edges.
    pub fn edges(&self, node: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[node]..self.offsets[node + 1];
        (&self.neighbors[range.clone()], &self.weights[range])
    }

    /// The same, edge by edge.
    pub fn row(&self, node: usize) -> impl ExactSizeIterator<Item = (usize, f64)> + Clone + '_ {
        let (ends, weights) = self.edges(node);
        let ends = ends.iter().map(|&end| end as usize);
        ends.zip(weights.iter().copied())
    }

    /// Sum of the weights of a node's edges.
    pub fn strength(&self, node: usize) -> f64 {
        self.row(node).map(|(_, weight)| weight).sum()
    }

    /// The connected component of each node; components are numbered by their first node.
    pub fn components(&self) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let mut components = vec![NONE; self.n_nodes()];
        let mut found = 0;
        let mut open = Vec::new();
        for first in 0..self.n_nodes() {
            if components[first] != NONE {
                continue;
            }
            components[first] = found;
            open.push(first);
            while let Some(node) = open.pop() {
                for (next, _) in self.row(node) {
                    if components[next] == NONE {
                        components[next] = found;
                        open.push(next);
                    }
                }
            }
            found += 1;
        }
        components
    }

    /// The graph of some nodes, given increasing and once each, and of the edges between them.
    pub(super) fn induced(&self, nodes: &[usize]) -> Self {
        let mut place = vec![None; self.n_nodes()];
        for (at, &node) in (0_u32..).zip(nodes) {
            place[node] = Some(at);
        }
        let kept = |&node: &usize| {
            self.row(node)
                .filter_map(|(end, weight)| Some((place[end]?, weight)))
                .collect()
        };
        Self::from_rows(nodes.iter().map(kept).collect())
    }

    /// Fails unless the fields are valid as the struct describes.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Graph(what));
        let entries = self.neighbors.len();
        if self.offsets.first() != Some(&0)
            || self.offsets.last() != Some(&entries)
            || !self.offsets.is_sorted()
            || self.weights.len() != entries
        {
            let (rows, weights) = (self.n_nodes(), self.weights.len());
            return wrong(format!(
                "{rows} rows, {entries} neighbors and {weights} weights do not fit together"
            ));
        }
        for node in 0..self.n_nodes() {
            let ends = &self.neighbors[self.offsets[node]..self.offsets[node + 1]];
            if !ends.is_sorted_by(|a, b| a < b)
                || ends
                    .last()
                    .is_some_and(|&end| end as usize >= self.n_nodes())
            {
                return wrong(format!(
                    "the neighbors of node {node} are not increasing nodes"
                ));
            }
        }
        let bad = |&node: &usize| {
            self.row(node).any(|(end, weight)| {
                let usable = weight > 0.0 && weight.is_finite();
                end == node || !usable || self.weight(end, node) != Some(weight)
            })
        };
        match (0..self.n_nodes()).into_par_iter().find_first(bad) {
            Some(node) => wrong(format!(
                "node {node} is its own neighbor, or has an edge that is not positive or not the same in both directions"
            )),
            None => Ok(()),
        }
    }

    fn weight(&self, from: usize, to: usize) -> Option<f64> {
        let start = self.offsets[from];
        let ends = &self.neighbors[start..self.offsets[from + 1]];
        let at = ends.binary_search(&u32::try_from(to).ok()?).ok()?;
        Some(self.weights[start + at])
    }
}

/// Neighbors and weights of one node.
type Row = Vec<(u32, f64)>;

fn check(neighbors: &Neighbors) -> Result<(), Error> {
    let (indices, distances) = (&neighbors.indices, &neighbors.distances);
    let cells = distances.nrows();
    if indices.dim() != distances.dim() || u32::try_from(cells).is_err() {
        let (found, expected) = (indices.dim(), distances.dim());
        return Err(Error::Graph(format!(
            "neighbors are {found:?}, but their distances {expected:?}"
        )));
    }
    super::require_finite(distances.view())?;
    if let Some(least) = distances.iter().find(|&&distance| distance < 0.0) {
        return Err(Error::Graph(format!("a distance is {least}")));
    }
    match indices.iter().find(|&&index| index >= cells) {
        Some(index) => Err(Error::Graph(format!(
            "cell {index} of {cells} is a neighbor"
        ))),
        None => Ok(()),
    }
}

/// A cell's memberships of its neighbors, by increasing neighbor, without itself.
fn memberships(
    cell: usize,
    neighbors: ArrayView1<'_, usize>,
    distances: ArrayView1<'_, f64>,
    overall_mean: f64,
) -> Row {
    let nearest = distances.iter().copied().find(|&distance| distance > 0.0);
    let mean = nearest.and(distances.mean()).unwrap_or(overall_mean);
    let nearest = nearest.unwrap_or(0.0);
    let scale = scale(distances, nearest).max(LEAST_SCALE * mean);
    let mut row: Row = neighbors
        .iter()
        .zip(distances)
        .filter(|&(&neighbor, _)| neighbor != cell)
        .map(|(&neighbor, distance)| (neighbor as u32, membership(distance - nearest, scale)))
        .filter(|&(_, weight)| weight > 0.0)
        .collect();
    row.sort_by_key(|&(neighbor, _)| neighbor);
    row.dedup_by_key(|&mut (neighbor, _)| neighbor);
    row
}

fn membership(excess: f64, scale: f64) -> f64 {
    if excess > 0.0 {
        (-excess / scale).exp()
    } else {
        1.0
    }
}

/// The scale at which the memberships of all neighbors but the first sum to log2 of their number, by bisection.
fn scale(distances: ArrayView1<'_, f64>, nearest: f64) -> f64 {
    let target = (distances.len() as f64).log2();
    let (mut low, mut high, mut scale) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..BISECTIONS {
        let others = distances.iter().skip(1);
        let sum: f64 = others
            .map(|distance| membership(distance - nearest, scale))
            .sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = scale;
        } else {
            low = scale;
        }
        scale = if high.is_finite() {
            (low + high) / 2.0
        } else {
            scale * 2.0
        };
    }
    scale
}

fn transpose(rows: &[Row]) -> Vec<Row> {
    let mut turned = vec![Row::new(); rows.len()];
    for (from, row) in (0_u32..).zip(rows) {
        for &(to, weight) in row {
            turned[to as usize].push((from, weight));
        }
    }
    turned
}

/// The union a + b - ab of two rows with increasing columns.
fn unite(a: &Row, b: &Row) -> Row {
    let mut united = Row::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let Some(column) = [a.peek(), b.peek()]
        .into_iter()
        .flatten()
        .map(|entry| entry.0)
        .min()
    {
        let p = a
            .next_if(|entry| entry.0 == column)
            .map_or(0.0, |entry| entry.1);
        let q = b
            .next_if(|entry| entry.0 == column)
            .map_or(0.0, |entry| entry.1);
        united.push((column, p + q - p * q));
    }
    united
}

#[cfg(test)]
pub(super) mod tests {
    use ndarray::{Array2, array};
    use serde_json::Value;

    use super::*;
    use crate::analysis::on_threads;

    /// Numbers of the golden file.
    pub fn golden(part: &str, field: &str) -> Vec<f64> {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/graph.json"
        ));
        let golden: Value = serde_json::from_str(text).unwrap();
        let values = match &golden[part][field] {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    }

    fn golden_neighbors(part: &str) -> Neighbors {
        let shape = (
            golden(part, "cells")[0] as usize,
            golden(part, "k")[0] as usize,
        );
        let indices = golden(part, "indices")
            .into_iter()
            .map(|index| index as usize);
        Neighbors {
            indices: Array2::from_shape_vec(shape, indices.collect()).unwrap(),
            distances: Array2::from_shape_vec(shape, golden(part, "distances")).unwrap(),
        }
    }

    pub fn golden_graph(part: &str) -> Graph {
        Graph::connectivities(&golden_neighbors(part)).unwrap()
    }

    /// Nodes in a circle, joined with the next ones.
    pub fn ring(nodes: u32) -> Graph {
        let edges: Vec<_> = (0..nodes)
            .map(|node| (node, (node + 1) % nodes, 1.0))
            .collect();
        Graph::from_edges(nodes as usize, &edges).unwrap()
    }

    fn neighbors(indices: Array2<usize>, distances: Array2<f64>) -> Neighbors {
        Neighbors { indices, distances }
    }

    #[test]
    fn golden_connectivities_also_of_equal_cells() {
        for part in ["trajectory", "equal"] {
            let graph = golden_graph(part);
            graph.validate().unwrap();
            let as_f64: Vec<f64> = graph.offsets.iter().map(|&offset| offset as f64).collect();
            assert_eq!(as_f64, golden(part, "offsets"));
            let as_f64: Vec<f64> = graph
                .neighbors
                .iter()
                .map(|&node| f64::from(node))
                .collect();
            assert_eq!(as_f64, golden(part, "columns"));
            for (weight, expected) in graph.weights.iter().zip(golden(part, "weights")) {
                assert!((weight - expected).abs() < 1e-5, "{weight} {expected}");
            }
        }
    }

    #[test]
    fn the_nearest_cell_is_a_certain_neighbor_and_unions_are_symmetric() {
        // Cells at 0, 1 and 3 on a line, each with the nearest other cell.
        let graph = Graph::connectivities(&neighbors(
            array![[0, 1], [1, 0], [2, 1]],
            array![[0.0, 1.0], [0.0, 1.0], [0.0, 2.0]],
        ))
        .unwrap();
        assert_eq!(
            graph,
            Graph::from_edges(3, &[(0, 1, 1.0), (2, 1, 1.0)]).unwrap()
        );
        assert_eq!(graph.row(1).collect::<Vec<_>>(), [(0, 1.0), (2, 1.0)]);
        assert_eq!(
            (graph.n_nodes(), graph.edges(1).0.len(), graph.strength(1)),
            (3, 2, 2.0)
        );
    }

    #[test]
    fn components_are_numbered_by_their_first_node() {
        let graph = Graph::from_edges(6, &[(5, 0, 1.0), (1, 3, 0.5), (3, 4, 0.5)]).unwrap();
        assert_eq!(graph.components(), [0, 1, 2, 1, 1, 0]);
        let part = graph.induced(&[1, 3, 4]);
        assert_eq!(
            part,
            Graph::from_edges(3, &[(0, 1, 0.5), (1, 2, 0.5)]).unwrap()
        );
        assert_eq!(Graph::from_edges(0, &[]).unwrap().components(), [0; 0]);
    }

    #[test]
    fn few_and_equal_cells_give_graphs() {
        let one = neighbors(array![[0]], array![[0.0]]);
        assert_eq!(
            Graph::connectivities(&one).unwrap(),
            Graph::from_edges(1, &[]).unwrap()
        );
        let none = neighbors(Array2::zeros((0, 3)), Array2::zeros((0, 3)));
        assert_eq!(Graph::connectivities(&none).unwrap().n_nodes(), 0);
        let equal = neighbors(array![[0, 1], [0, 1], [0, 1]], Array2::zeros((3, 2)));
        assert_eq!(Graph::connectivities(&equal).unwrap().weights, [1.0; 6]);
    }

    #[test]
    fn impossible_neighbors_and_edges_are_rejected() {
        let fail =
            |indices, distances| Graph::connectivities(&neighbors(indices, distances)).unwrap_err();
        assert!(matches!(fail(array![[1]], array![[0.0]]), Error::Graph(_)));
        assert!(matches!(
            fail(array![[0, 0]], array![[0.0]]),
            Error::Graph(_)
        ));
        assert!(matches!(fail(array![[0]], array![[-1.0]]), Error::Graph(_)));
        assert!(matches!(
            fail(array![[0]], array![[f64::NAN]]),
            Error::NotFinite { .. }
        ));
        for edges in [
            [(0, 2, 1.0); 1],
            [(1, 1, 1.0)],
            [(0, 1, 0.0)],
            [(0, 1, f64::NAN)],
        ] {
            assert!(matches!(Graph::from_edges(2, &edges), Err(Error::Graph(_))));
        }
        assert!(Graph::from_edges(2, &[(0, 1, 1.0), (1, 0, 1.0)]).is_err());
        let good = ring(3);
        let broken = [
            Graph {
                offsets: vec![],
                ..good.clone()
            },
            Graph {
                offsets: vec![0, 9, 2, 6],
                ..good.clone()
            },
            Graph {
                neighbors: vec![1, 9, 0, 2, 0, 1],
                ..good.clone()
            },
            Graph {
                weights: vec![1.0, 1.0, 1.0, 2.0, 1.0, 1.0],
                ..good.clone()
            },
            Graph {
                weights: vec![1.0],
                ..good
            },
        ];
        assert!(broken.iter().all(|graph| graph.validate().is_err()));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let make = || golden_graph("trajectory");
        assert_eq!(on_threads(1, make), on_threads(8, make));
    }
}
