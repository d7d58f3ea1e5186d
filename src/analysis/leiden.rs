//! Clusters of cells: communities of a weighted graph by the Leiden algorithm.
//!
//! After Traag, Waltman and van Eck, "From Louvain to Leiden: guaranteeing well-connected communities", Scientific Reports 9:5233
//! (2019), algorithm A.2, for modularity with a resolution (Reichardt and Bornholdt 2006, configuration model), iterated until it
//! is stable. As in the authors' program, the refinement takes the best merger, so only the order of visits is random.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use super::Error;
use super::graph::Graph;
use crate::random::{Seed, Stream, permutation};

/// Gains of modularity below this are rounding, as a fraction of the largest terms they are the difference of.
const ROUNDING: f64 = 1e-10;

/// Cluster of each node, numbered by decreasing size, equal sizes by their first node.
///
/// A larger `resolution` (1 is plain modularity) gives more and smaller clusters. Each cluster is connected; a node without
/// edges, or whose edges all weigh 0, is alone. Fails if the resolution is negative or not finite, and if a weight is, or
/// differs between the two directions of an edge.
pub fn leiden(graph: &Graph, resolution: f64, seed: u64) -> Result<Vec<usize>, Error> {
    if !(resolution.is_finite() && resolution >= 0.0) {
        return Err(Error::Resolution(resolution));
    }
    check(graph)?;
    let base = Level::new(graph, resolution);
    let mut clusters: Vec<usize> = (0..graph.n_nodes()).collect();
    let mut best = modularity(graph, &clusters, resolution);
    for round in 0.. {
        let mut stream = Seed(seed).stream("leiden", &[round]);
        let improved = improve(base.clone(), clusters.clone(), &mut stream);
        let quality = modularity(graph, &improved, resolution);
        if quality - best <= ROUNDING * (1.0 + resolution) {
            break;
        }
        (clusters, best) = (improved, quality);
    }
    Ok(by_size(&clusters))
}

/// Modularity of a partition: the fraction of the weight within clusters, less `resolution` times the fraction expected there in a
/// random graph of the same degrees (sum of the squares of the clusters' fractions of all degrees). 0 for a graph without weight.
///
/// `clusters` holds one number per node; a node beyond its end is in a cluster of its own.
pub fn modularity(graph: &Graph, clusters: &[usize], resolution: f64) -> f64 {
    let n = graph.n_nodes();
    let given = clusters.iter().take(n).map(|&cluster| (0, cluster));
    let clusters = consecutive(given.chain((clusters.len()..n).map(|node| (1, node))));
    let unit = unit(graph);
    let mut degrees = vec![0.0; n];
    let mut within = 0.0;
    for (node, &cluster) in clusters.iter().enumerate() {
        let (neighbors, weights) = graph.edges(node);
        for (&other, weight) in neighbors.iter().zip(weights) {
            let weight = weight / unit;
            degrees[cluster] += weight;
            within += weight * f64::from(clusters[other as usize] == cluster);
        }
    }
    let total: f64 = degrees.iter().sum();
    if total == 0.0 {
        return 0.0;
    }
    let expected: f64 = degrees.iter().map(|degree| (degree / total).powi(2)).sum();
    within / total - resolution * expected
}

/// Fails unless every edge joins two nodes and weighs the same in both directions, finite and not negative.
///
/// Moves would otherwise not all increase one and the same quality, and might never end.
fn check(graph: &Graph) -> Result<(), Error> {
    for from in 0..graph.n_nodes() {
        let (neighbors, weights) = graph.edges(from);
        for (&to, &weight) in neighbors.iter().zip(weights) {
            let to = to as usize;
            let fine = weight.is_finite() && weight >= 0.0 && to < graph.n_nodes();
            if !(fine && weight_between(graph, to, from) == Some(weight)) {
                return Err(Error::Edge { from, to, weight });
            }
        }
    }
    Ok(())
}

fn weight_between(graph: &Graph, from: usize, to: usize) -> Option<f64> {
    let (neighbors, weights) = graph.edges(from);
    let at = neighbors.binary_search(&u32::try_from(to).ok()?).ok()?;
    Some(weights[at])
}

/// The power of two next below the largest weight: division by it is exact, and sums and products stay in range.
fn unit(graph: &Graph) -> f64 {
    let largest = graph.weights.iter().copied().fold(0.0, f64::max);
    f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits()).max(f64::MIN_POSITIVE)
}

/// Numbers labels from 0 in the order they first appear.
fn consecutive<L: std::hash::Hash + Eq>(labels: impl Iterator<Item = L>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    labels
        .map(|label| {
            let next = numbers.len();
            *numbers.entry(label).or_insert(next)
        })
        .collect()
}

/// Numbers clusters by decreasing size, equal sizes by their first node.
fn by_size(clusters: &[usize]) -> Vec<usize> {
    let clusters = consecutive(clusters.iter());
    let sizes = sizes(&clusters);
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&c| sizes[c] > 0).collect();
    order.sort_by_key(|&cluster| Reverse(sizes[cluster]));
    let mut rank = vec![0; sizes.len()];
    for (place, cluster) in order.into_iter().enumerate() {
        rank[cluster] = place;
    }
    clusters.into_iter().map(|cluster| rank[cluster]).collect()
}

/// Members of each cluster; as many entries as there are nodes, since no cluster has a higher number.
fn sizes(clusters: &[usize]) -> Vec<usize> {
    let mut sizes = vec![0; clusters.len()];
    for &cluster in clusters {
        sizes[cluster] += 1;
    }
    sizes
}

/// One iteration: moves nodes, refines, merges the refined clusters to the nodes of a smaller graph, until nothing merges.
fn improve(mut level: Level, mut clusters: Vec<usize>, stream: &mut Stream) -> Vec<usize> {
    let mut node_of: Vec<usize> = (0..clusters.len()).collect();
    loop {
        level.move_nodes(&mut clusters, stream);
        let refined = consecutive(level.refine(&clusters, stream).into_iter());
        let merged = level.merge(&refined);
        if merged.n_nodes() == level.n_nodes() {
            return node_of.into_iter().map(|node| clusters[node]).collect();
        }
        // Refined clusters lie within clusters, so any of their nodes gives the cluster.
        let mut carried = vec![0; merged.n_nodes()];
        for (&node, &cluster) in refined.iter().zip(&clusters) {
            carried[node] = cluster;
        }
        clusters = consecutive(carried.into_iter());
        node_of.iter_mut().for_each(|node| *node = refined[*node]);
        level = merged;
    }
}

/// The graph at one level of merging. A cluster has the number of one of at most `n_nodes` clusters.
///
/// Weights within merged nodes are dropped: they count in the degrees, and no move changes them.
#[derive(Debug, Clone)]
struct Level {
    graph: Graph,
    /// Sum of the weights of all edges of the cells merged to each node.
    degrees: Vec<f64>,
    /// Resolution / sum of all degrees: times two degrees, the weight expected between two nodes.
    expected: f64,
    /// Rounding of a gain, as a fraction of the node's degree.
    rounding: f64,
}

/// Weight from one node to each cluster it has edges to; empty between uses.
struct Links {
    weights: Vec<f64>,
    clusters: Vec<usize>,
}

impl Links {
    fn new(n: usize) -> Self {
        Self {
            weights: vec![0.0; n],
            clusters: Vec::new(),
        }
    }

    /// Zero weights leave no trace: no cluster is joined for them.
    fn add(&mut self, cluster: usize, weight: f64) {
        if weight > 0.0 {
            if self.weights[cluster] == 0.0 {
                self.clusters.push(cluster);
            }
            self.weights[cluster] += weight;
        }
    }

    fn clear(&mut self) {
        for cluster in self.clusters.drain(..) {
            self.weights[cluster] = 0.0;
        }
    }
}

impl Level {
    fn new(graph: &Graph, resolution: f64) -> Self {
        let mut graph = graph.clone();
        let unit = unit(&graph);
        graph.weights.iter_mut().for_each(|weight| *weight /= unit);
        let degrees: Vec<f64> = (0..graph.n_nodes())
            .map(|node| graph.edges(node).1.iter().sum())
            .collect();
        let total: f64 = degrees.iter().sum();
        Self {
            graph,
            degrees,
            expected: if total > 0.0 { resolution / total } else { 0.0 },
            rounding: ROUNDING * (1.0 + resolution),
        }
    }

    fn n_nodes(&self) -> usize {
        self.degrees.len()
    }

    fn edges(&self, node: usize) -> impl Iterator<Item = (usize, f64)> {
        let (neighbors, weights) = self.graph.edges(node);
        let neighbors = neighbors.iter().map(|&other| other as usize);
        neighbors.zip(weights.iter().copied())
    }

    /// Weight between two disjoint sets of nodes beyond what their degrees let expect: half the gain in modularity if they
    /// merge, times the sum of all degrees.
    fn excess(&self, weight: f64, degree: f64, other: f64) -> f64 {
        weight - self.expected * (degree * other)
    }

    /// Sum of the degrees of each cluster.
    fn cluster_degrees(&self, clusters: &[usize]) -> Vec<f64> {
        let mut degrees = vec![0.0; self.n_nodes()];
        for (&cluster, degree) in clusters.iter().zip(&self.degrees) {
            degrees[cluster] += degree;
        }
        degrees
    }

    /// Moves nodes to the cluster (or an empty one) that gains most, until no single move gains: fast local moving.
    ///
    /// Nodes are visited in random order, and again when a neighbor has left or joined another cluster.
    fn move_nodes(&self, clusters: &mut [usize], stream: &mut Stream) {
        let mut queue: VecDeque<usize> = permutation(stream, self.n_nodes()).into();
        let mut waits = vec![true; self.n_nodes()];
        let mut partition = Partition::new(self, clusters);
        while let Some(node) = queue.pop_front() {
            waits[node] = false;
            let Some(cluster) = partition.best(node) else {
                continue;
            };
            partition.assign(node, cluster);
            for (other, _) in self.edges(node) {
                if partition.clusters[other] != cluster && !waits[other] {
                    waits[other] = true;
                    queue.push_back(other);
                }
            }
        }
    }

    /// Splits clusters: every node starts alone, and joins the cluster of the same parent that gains most, if it is still alone
    /// and both are well connected to the rest of the parent. Each result is connected.
    fn refine(&self, parents: &[usize], stream: &mut Stream) -> Vec<usize> {
        let mut refined = Refinement::new(self, parents);
        for node in permutation(stream, self.n_nodes()) {
            if refined.alone[node]
                && refined.well_connected(node)
                && let Some((cluster, weight)) = refined.best(node)
            {
                refined.join(node, cluster, weight);
            }
        }
        refined.clusters
    }

    /// The graph whose nodes are clusters numbered 0, 1, 2...
    fn merge(&self, clusters: &[usize]) -> Self {
        let n = clusters.iter().max().map_or(0, |last| last + 1);
        let mut members = vec![Vec::new(); n];
        for (node, &cluster) in clusters.iter().enumerate() {
            members[cluster].push(node);
        }
        let (mut offsets, mut neighbors, mut weights) = (vec![0], Vec::new(), Vec::new());
        let mut links = Links::new(n);
        for (cluster, members) in members.iter().enumerate() {
            for (other, weight) in members.iter().flat_map(|&node| self.edges(node)) {
                if clusters[other] != cluster {
                    links.add(clusters[other], weight);
                }
            }
            links.clusters.sort_unstable();
            neighbors.extend(links.clusters.iter().map(|&other| other as u32));
            weights.extend(links.clusters.iter().map(|&other| links.weights[other]));
            offsets.push(neighbors.len());
            links.clear();
        }
        let mut degrees = self.cluster_degrees(clusters);
        degrees.truncate(n);
        Self {
            graph: Graph {
                offsets,
                neighbors,
                weights,
            },
            degrees,
            ..*self
        }
    }
}

/// Clusters while nodes move between them.
struct Partition<'a> {
    level: &'a Level,
    clusters: &'a mut [usize],
    degrees: Vec<f64>,
    sizes: Vec<usize>,
    empty: Vec<usize>,
    links: Links,
}

impl<'a> Partition<'a> {
    fn new(level: &'a Level, clusters: &'a mut [usize]) -> Self {
        let sizes = sizes(clusters);
        Self {
            level,
            degrees: level.cluster_degrees(clusters),
            empty: (0..sizes.len()).filter(|&c| sizes[c] == 0).collect(),
            sizes,
            links: Links::new(level.n_nodes()),
            clusters,
        }
    }

    /// The cluster to move the node to, if a move gains; the first neighbor's of equally good ones.
    fn best(&mut self, node: usize) -> Option<usize> {
        let (level, own) = (self.level, self.clusters[node]);
        for (other, weight) in level.edges(node) {
            self.links.add(self.clusters[other], weight);
        }
        let degree = level.degrees[node];
        let excess = |cluster: usize, rest| level.excess(self.links.weights[cluster], degree, rest);
        let mut most = excess(own, self.degrees[own] - degree) + level.rounding * degree;
        let mut best = None;
        for &cluster in self.links.clusters.iter().filter(|&&other| other != own) {
            let gain = excess(cluster, self.degrees[cluster]);
            if gain > most {
                (most, best) = (gain, Some(cluster));
            }
        }
        if most < 0.0 && self.sizes[own] > 1 {
            best = self.empty.last().copied();
        }
        self.links.clear();
        best
    }

    fn assign(&mut self, node: usize, cluster: usize) {
        let own = std::mem::replace(&mut self.clusters[node], cluster);
        if self.empty.last() == Some(&cluster) {
            self.empty.pop();
        }
        self.sizes[cluster] += 1;
        self.degrees[cluster] += self.level.degrees[node];
        self.sizes[own] -= 1;
        self.degrees[own] -= self.level.degrees[node];
        if self.sizes[own] == 0 {
            self.degrees[own] = 0.0;
            self.empty.push(own);
        }
    }
}

/// Clusters within clusters (their parents), which start as single nodes and only grow; each has the number of one of its nodes.
struct Refinement<'a> {
    level: &'a Level,
    parents: &'a [usize],
    parent_degrees: Vec<f64>,
    clusters: Vec<usize>,
    degrees: Vec<f64>,
    /// Weight between each cluster and the rest of its parent.
    outward: Vec<f64>,
    /// Whether the node is the only one of its cluster.
    alone: Vec<bool>,
    links: Links,
}

impl<'a> Refinement<'a> {
    fn new(level: &'a Level, parents: &'a [usize]) -> Self {
        let n = level.n_nodes();
        let outward = |node| {
            let edges = level.edges(node);
            let within = edges.filter(|&(other, _)| parents[other] == parents[node]);
            within.map(|(_, weight)| weight).sum()
        };
        Self {
            level,
            parents,
            parent_degrees: level.cluster_degrees(parents),
            clusters: (0..n).collect(),
            degrees: level.degrees.clone(),
            outward: (0..n).map(outward).collect(),
            alone: vec![true; n],
            links: Links::new(n),
        }
    }

    /// Whether the cluster's weight to the rest of its parent is at least the expected one.
    fn well_connected(&self, cluster: usize) -> bool {
        let degree = self.degrees[cluster];
        let rest = self.parent_degrees[self.parents[cluster]] - degree;
        let excess = self.level.excess(self.outward[cluster], degree, rest);
        excess >= -self.level.rounding * degree
    }

    /// The well-connected cluster of the same parent that the node gains most by joining, if any, and the weight to it.
    fn best(&mut self, node: usize) -> Option<(usize, f64)> {
        let level = self.level;
        for (other, weight) in level.edges(node) {
            if self.parents[other] == self.parents[node] {
                self.links.add(self.clusters[other], weight);
            }
        }
        let degree = level.degrees[node];
        let mut most = level.rounding * degree;
        let mut best = None;
        for &cluster in &self.links.clusters {
            let weight = self.links.weights[cluster];
            let gain = level.excess(weight, degree, self.degrees[cluster]);
            if gain > most && self.well_connected(cluster) {
                (most, best) = (gain, Some((cluster, weight)));
            }
        }
        self.links.clear();
        best
    }

    fn join(&mut self, node: usize, cluster: usize, weight: f64) {
        self.clusters[node] = cluster;
        self.degrees[cluster] += self.level.degrees[node];
        self.outward[cluster] += self.outward[node] - 2.0 * weight;
        self.alone[node] = false;
        self.alone[cluster] = false;
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;
    use crate::analysis::agreement::adjusted_rand;
    use crate::random::{below, uniform};

    /// Made by `make_leiden.py`.
    const GOLDEN: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/analysis/leiden.json"
    );

    #[derive(serde::Deserialize)]
    struct Golden {
        name: String,
        n: usize,
        edges: Vec<(usize, usize, f64)>,
        partitions: Vec<GoldenPartition>,
    }

    #[derive(serde::Deserialize)]
    struct GoldenPartition {
        resolution: f64,
        best: f64,
        mean: f64,
        worst: f64,
        clusters: Vec<usize>,
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap()
    }

    /// Each edge given once.
    fn graph(n: usize, edges: &[(usize, usize, f64)]) -> Graph {
        let mut rows = vec![Vec::new(); n];
        for &(a, b, weight) in edges {
            rows[a].push((b as u32, weight));
            rows[b].push((a as u32, weight));
        }
        let (mut offsets, mut neighbors, mut weights) = (vec![0], Vec::new(), Vec::new());
        for mut row in rows {
            row.sort_by_key(|&(node, _)| node);
            neighbors.extend(row.iter().map(|&(node, _)| node));
            weights.extend(row.iter().map(|&(_, weight)| weight));
            offsets.push(neighbors.len());
        }
        Graph {
            offsets,
            neighbors,
            weights,
        }
    }

    /// Every node of `nodes` joined to every later one.
    fn clique(nodes: std::ops::Range<usize>) -> impl Iterator<Item = (usize, usize, f64)> {
        let end = nodes.end;
        nodes.flat_map(move |a| (a + 1..end).map(move |b| (a, b, 1.0)))
    }

    /// `n` nodes in groups of 20; 3 in 10 pairs of a group and `between` of the others are joined.
    fn planted(n: usize, between: f64, seed: u64) -> Graph {
        let mut stream = Seed(seed).stream("planted", &[]);
        let mut edges = Vec::new();
        for a in 0..n {
            for b in a + 1..n {
                let chance = if a / 20 == b / 20 { 0.3 } else { between };
                if uniform(&mut stream) < chance {
                    edges.push((a, b, uniform(&mut stream)));
                }
            }
        }
        graph(n, &edges)
    }

    /// Number of connected parts that clusters fall into.
    fn n_parts(graph: &Graph, clusters: &[usize]) -> usize {
        let mut seen = vec![false; clusters.len()];
        let mut parts = 0;
        for start in 0..clusters.len() {
            let mut stack = vec![start];
            parts += usize::from(!seen[start]);
            while let Some(node) = stack.pop() {
                if !std::mem::replace(&mut seen[node], true) {
                    let (neighbors, weights) = graph.edges(node);
                    let edges = neighbors.iter().zip(weights);
                    let linked = edges.filter(|(other, weight)| {
                        **weight > 0.0 && clusters[**other as usize] == clusters[node]
                    });
                    stack.extend(linked.map(|(&other, _)| other as usize));
                }
            }
        }
        parts
    }

    fn n_clusters(clusters: &[usize]) -> usize {
        clusters.iter().max().map_or(0, |last| last + 1)
    }

    #[test]
    fn golden_leidenalg() {
        for golden in golden() {
            let graph = graph(golden.n, &golden.edges);
            for expected in golden.partitions {
                let resolution = expected.resolution;
                let quality = |clusters: &[usize]| modularity(&graph, clusters, resolution);
                assert!((quality(&expected.clusters) - expected.best).abs() < 1e-12);
                let found = (0..10).map(|seed| leiden(&graph, resolution, seed).unwrap());
                let found: Vec<Vec<usize>> = found.collect();
                let name = format!("{} at {resolution}", golden.name);
                for clusters in &found {
                    assert!(quality(clusters) > 0.99 * expected.worst, "{name}");
                    // Where all of its seeds agree, there is one solution.
                    if expected.best - expected.worst < 1e-12 {
                        assert_eq!(adjusted_rand(clusters, &expected.clusters), 1.0, "{name}");
                    }
                }
                let mean = found.iter().map(|clusters| quality(clusters)).sum::<f64>() / 10.0;
                assert!(mean > 0.995 * expected.mean, "{name}: {mean}");
            }
        }
    }

    #[test]
    fn cliques_in_a_ring_are_clusters() {
        let mut edges: Vec<_> = (0..10).flat_map(|k| clique(6 * k..6 * k + 6)).collect();
        edges.extend((0..10).map(|k| (6 * k, (6 * k + 7) % 60, 1.0)));
        let graph = graph(60, &edges);
        let clusters = leiden(&graph, 1.0, 0).unwrap();
        let expected: Vec<usize> = (0..60).map(|node| node / 6).collect();
        assert_eq!(clusters, expected);
        let found = modularity(&graph, &clusters, 1.0);
        assert!((found - (15.0 / 16.0 - 0.1)).abs() < 1e-15);
    }

    #[test]
    fn clusters_are_numbered_by_size_then_by_first_node() {
        let edges: Vec<_> = clique(0..3)
            .chain(clique(3..8))
            .chain(clique(8..11))
            .collect();
        let clusters = leiden(&graph(13, &edges), 1.0, 5).unwrap();
        assert_eq!(clusters, [1, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2, 3, 4]);
    }

    #[test]
    fn clusters_are_connected_and_no_node_or_cluster_gains_elsewhere() {
        for (seed, resolution) in [(0, 0.3), (1, 0.7), (2, 1.0), (3, 2.0), (4, 5.0)] {
            let graph = planted(300, 0.02, seed);
            let clusters = leiden(&graph, resolution, seed).unwrap();
            let n = n_clusters(&clusters);
            assert_eq!(n_parts(&graph, &clusters), n);
            let level = Level::new(&graph, resolution);
            let merged = level.merge(&clusters);
            let degrees = level.cluster_degrees(&clusters);
            let no_gain = |gain: f64| assert!(gain < 1e-6, "{gain} at resolution {resolution}");
            for a in 0..n {
                for (b, weight) in merged.edges(a) {
                    no_gain(merged.excess(weight, degrees[a], degrees[b]));
                }
            }
            for node in 0..300 {
                let own = clusters[node];
                let mut links = vec![0.0; n + 1];
                level
                    .edges(node)
                    .for_each(|(other, weight)| links[clusters[other]] += weight);
                let degree = level.degrees[node];
                let stay = level.excess(links[own], degree, degrees[own] - degree);
                no_gain(-stay);
                for other in (0..n).filter(|&other| other != own) {
                    no_gain(level.excess(links[other], degree, degrees[other]) - stay);
                }
            }
        }
    }

    #[test]
    fn refined_clusters_are_connected_parts_of_their_parents() {
        for seed in 0..20 {
            let graph = planted(200, 0.02, seed);
            let level = Level::new(&graph, 1.5);
            let mut stream = Seed(seed).stream("test", &[]);
            let parents: Vec<usize> = (0..200).map(|_| below(&mut stream, 3)).collect();
            let refined = consecutive(level.refine(&parents, &mut stream).into_iter());
            assert_eq!(n_parts(&graph, &refined), n_clusters(&refined));
            assert!(n_clusters(&refined) < 200);
            let both = consecutive(refined.iter().zip(&parents));
            assert_eq!(both, refined, "a refined cluster has one parent");
            let (sizes, degrees) = (sizes(&refined), level.cluster_degrees(&parents));
            let weak = |&node: &usize| {
                let own = parents[node];
                let edges = level.edges(node);
                let within = edges.filter(|&(other, _)| parents[other] == own);
                let weight = within.map(|(_, weight)| weight).sum();
                let rest = degrees[own] - level.degrees[node];
                level.excess(weight, level.degrees[node], rest) < -1e-9
            };
            let mut weak = (0..200).filter(weak).peekable();
            assert!(weak.peek().is_some());
            assert!(weak.all(|node| sizes[refined[node]] == 1));
        }
    }

    #[test]
    fn a_disconnected_cluster_is_split() {
        let edges: Vec<_> = clique(0..5)
            .chain(clique(5..10))
            .chain([(0, 10, 1.0), (5, 10, 1.0)])
            .chain(clique(10..16))
            .collect();
        let graph = graph(16, &edges);
        // The first two cliques touch the third only.
        let bad: Vec<usize> = (0..16).map(|node| usize::from(node >= 10)).collect();
        assert_eq!(n_parts(&graph, &bad), 3);
        let mut stream = Seed(0).stream("test", &[]);
        let better = improve(Level::new(&graph, 0.5), bad, &mut stream);
        assert_eq!(by_size(&better), leiden(&graph, 0.5, 0).unwrap());
        assert_eq!(n_parts(&graph, &better), 3);
        assert_eq!(n_clusters(&by_size(&better)), 3);
    }

    #[test]
    fn same_seed_same_clusters_whatever_the_threads_and_the_unit_of_weights() {
        let base = planted(400, 0.03, 9);
        let run = |threads: usize, seed: u64, unit: f64| {
            let mut graph = base.clone();
            graph.weights.iter_mut().for_each(|weight| *weight *= unit);
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let run = || leiden(&graph, 1.5, seed).unwrap();
            pool.install(|| {
                let all: Vec<_> = (0..4).into_par_iter().map(|_| run()).collect();
                assert!(all.iter().all(|clusters| *clusters == all[0]));
                all[0].clone()
            })
        };
        let first = run(1, 3, 1.0);
        assert_eq!(first, run(8, 3, 1.0));
        assert_eq!(first, run(1, 3, 2f64.powi(-1000)));
        assert_eq!(first, run(1, 3, 2f64.powi(1020)));
        assert_ne!(
            first,
            run(1, 4, 1.0),
            "the graph has many partitions about as good"
        );
    }

    #[test]
    fn graphs_without_weight_and_extreme_resolutions() {
        let run = |n, edges: &[_], resolution| leiden(&graph(n, edges), resolution, 0).unwrap();
        assert!(run(0, &[], 1.0).is_empty());
        assert_eq!(run(1, &[], 1.0), [0]);
        assert_eq!(run(3, &[], 1.0), [0, 1, 2]);
        assert_eq!(run(3, &[(0, 1, 0.0), (1, 2, 0.0)], 0.0), [0, 1, 2]);
        assert_eq!(run(3, &[(0, 1, 0.0), (1, 2, 1e-300)], 1.0), [1, 0, 0]);
        let two: Vec<_> = clique(0..3)
            .chain(clique(3..6))
            .chain([(2, 3, 0.1)])
            .collect();
        assert_eq!(
            run(7, &two, 0.0),
            [0, 0, 0, 0, 0, 0, 1],
            "0 joins all that is connected"
        );
        for resolution in [1e9, f64::MAX] {
            assert_eq!(run(6, &two, resolution), [0, 1, 2, 3, 4, 5]);
        }
        assert_eq!(modularity(&graph(0, &[]), &[], 1.0), 0.0);
        assert_eq!(modularity(&graph(2, &[(0, 1, 0.0)]), &[0, 0], 1.0), 0.0);
        let pair = graph(2, &[(0, 1, 1.0)]);
        assert_eq!(modularity(&pair, &[4, 4], 1.0), 0.0);
        assert_eq!(modularity(&pair, &[4], 1.0), -0.5, "the second is alone");
        assert_eq!(
            modularity(&pair, &[1, 2, 2], 1.0),
            -0.5,
            "the third is no node"
        );
    }

    #[test]
    fn impossible_input_is_rejected() {
        for weight in [f64::NAN, f64::INFINITY, -1.0] {
            let found = leiden(&graph(3, &[(0, 1, 1.0), (1, 2, weight)]), 1.0, 0);
            assert!(matches!(found, Err(Error::Edge { from: 1, to: 2, .. })));
        }
        let mut one_way = graph(2, &[(0, 1, 1.0)]);
        one_way.weights[1] = 2.0;
        let expected = Error::Edge {
            from: 0,
            to: 1,
            weight: 1.0,
        };
        assert_eq!(leiden(&one_way, 1.0, 0), Err(expected));
        one_way.neighbors[0] = 7;
        assert!(matches!(
            leiden(&one_way, 1.0, 0),
            Err(Error::Edge { to: 7, .. })
        ));
        for resolution in [f64::NAN, f64::INFINITY, -0.1] {
            let found = leiden(&graph(2, &[(0, 1, 1.0)]), resolution, 0);
            assert!(matches!(found, Err(Error::Resolution(_))));
        }
    }
}
