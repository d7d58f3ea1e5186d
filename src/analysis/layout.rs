//! UMAP layout of a graph of cells in two dimensions, the same for any number of threads.
//!
//! McInnes, Healy and Melville 2018 (arXiv:1802.03426), section 3.2 and algorithms 4 and 5. As there, cells start from
//! eigenvectors of the normalized graph; an edge is sampled in proportion to its weight and pulls its ends together, and each
//! end is pushed from random cells.
//!
//! Unlike there, cells do not move one after the other. An epoch has twelve rounds of a twelfth of the edges each; in a round
//! each cell makes its moves on its own, against the positions that the others had when the round began, with random draws of
//! its own. (With few rounds, groups that belong together fly apart.) Moves are limited in length rather than along each axis,
//! which would make groups of cells square.

use ndarray::Array2;
use rand::Rng;
use rayon::prelude::*;

use super::Error;
use super::graph::Graph;
use super::spectral::{Order, Wanted, eigenpairs};
use crate::random::{Seed, Stream, normal_pair, uniform};

/// Up to this many cells have `MANY_EPOCHS`, larger numbers `FEW_EPOCHS`.
const FEW_CELLS: usize = 10_000;
const MANY_EPOCHS: usize = 500;
const FEW_EPOCHS: usize = 200;
/// Extent of the start positions.
const WIDTH: f64 = 10.0;
/// Spread of the noise added to the start, which keeps equal cells apart.
const NOISE: f64 = 1e-3;
/// Longest move by one sample, at the start.
const LONGEST: f64 = 4.0;
/// Keeps the push of very near cells finite.
const NEAR: f64 = 1e-3;
/// The start needs no exact eigenvectors.
const TOLERANCE: f64 = 1e-4;
/// Each epoch processes its edges in this many parts, so that cells use the new positions of the others.
const PARTS: usize = 12;
/// Nodes that one thread takes at least.
const NODES: usize = 256;
/// Smaller components start from random positions.
const SMALL: usize = 4;

/// Settings of a layout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayoutOptions {
    /// How near cells may come; from 0 to `spread`.
    pub min_dist: f64,
    /// The scale of the layout: distances at which neighbors are no longer near.
    pub spread: f64,
    /// Rounds of moves; without it 500 for up to 10,000 cells and 200 for more, as in UMAP.
    pub epochs: Option<usize>,
    /// Random cells to be pushed from for each sampled edge.
    pub negative_samples: usize,
}

impl Default for LayoutOptions {
    fn default() -> Self {
        Self {
            min_dist: 0.5,
            spread: 1.0,
            epochs: None,
            negative_samples: 5,
        }
    }
}

/// Positions of the graph's nodes, [nodes, 2].
///
/// Nodes without edges stay where they start. Fails on an invalid [`Graph`] and on distances out of range.
pub fn layout(graph: &Graph, options: &LayoutOptions, seed: Seed) -> Result<Array2<f64>, Error> {
    let curve = Curve::fit(options.min_dist, options.spread)?;
    graph.validate()?;
    let nodes = graph.n_nodes();
    let epochs = options.epochs.unwrap_or(if nodes <= FEW_CELLS {
        MANY_EPOCHS
    } else {
        FEW_EPOCHS
    });
    let fractions = sampled_fractions(graph);
    let forces = curve.forces();
    let stream = |node| seed.stream("layout", &[node as u64]);
    let mut streams: Vec<Stream> = (0..nodes).into_par_iter().map(stream).collect();
    let mut positions = start(graph, seed);
    for step in 0..epochs.saturating_mul(PARTS) {
        let round = Round {
            fractions: &fractions,
            forces: &forces,
            positions: &positions,
            epoch: step / PARTS,
            part: step % PARTS,
            rate: 1.0 - (step / PARTS) as f64 / epochs as f64,
            negative_samples: options.negative_samples,
        };
        let moves = streams.par_iter_mut().with_min_len(NODES).enumerate();
        positions = moves
            .map(|(node, stream)| round.moved(node, stream))
            .collect();
    }
    Ok(Array2::from_shape_fn((nodes, 2), |(node, axis)| {
        positions[node][axis]
    }))
}

/// The graph with each edge's fraction of epochs in which it is sampled; the heaviest always is.
fn sampled_fractions(graph: &Graph) -> Graph {
    let mut fractions = graph.clone();
    let heaviest = graph.weights.iter().copied().fold(0.0, f64::max);
    fractions
        .weights
        .iter_mut()
        .for_each(|weight| *weight /= heaviest);
    fractions
}

type Point = [f64; 2];

/// A part of an epoch, which processes some of the edges.
struct Round<'a> {
    fractions: &'a Graph,
    forces: &'a Forces,
    /// Where the nodes were when the round began.
    positions: &'a [Point],
    epoch: usize,
    part: usize,
    rate: f64,
    negative_samples: usize,
}

impl Round<'_> {
    /// Where a node is after its moves.
    fn moved(&self, node: usize, stream: &mut Stream) -> Point {
        let mut at = self.positions[node];
        let in_part = |end: usize| (node + end + self.epoch) % PARTS == self.part;
        let edges = self.fractions.row(node);
        for (end, _) in edges.filter(|&(end, fraction)| in_part(end) && self.sampled(fraction)) {
            let other = self.positions[end];
            // Once for the edge, once for the same edge seen from its other end.
            self.push(&mut at, other, Forces::PULL);
            for _ in 0..self.negative_samples {
                let random = index(stream, self.positions.len());
                if random != node {
                    self.push(&mut at, self.positions[random], Forces::REPULSION);
                }
            }
            self.push(&mut at, other, Forces::PULL);
        }
        at
    }

    /// Samples are spread evenly over the epochs.
    fn sampled(&self, fraction: f64) -> bool {
        let before = |epochs: usize| (epochs as f64 * fraction) as usize;
        before(self.epoch + 1) > before(self.epoch)
    }

    /// Moves a point along its difference from another one.
    fn push(&self, at: &mut Point, other: Point, kind: usize) {
        let difference = [at[0] - other[0], at[1] - other[1]];
        let square = difference[0] * difference[0] + difference[1] * difference[1];
        let mut force = self.forces.at(square, kind);
        if force * force * square > LONGEST * LONGEST {
            force = LONGEST / square.sqrt();
        }
        for (at, difference) in at.iter_mut().zip(difference) {
            *at += self.rate * force * difference;
        }
    }
}

/// Uniform in 0..n; the bias of at most n / 2^64 is far below what a plot resolves.
fn index(stream: &mut Stream, n: usize) -> usize {
    ((u128::from(stream.next_u64()) * n as u128) >> 64) as usize
}

/// How near cells at a distance d in the layout are: 1 / (1 + a d^2b).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Curve {
    a: f64,
    b: f64,
}

impl Curve {
    /// The least-squares fit to 1 up to `min_dist` and exp(-(d - min_dist) / spread) beyond, at 300 distances up to 3 spreads.
    fn fit(min_dist: f64, spread: f64) -> Result<Self, Error> {
        check(min_dist, spread)?;
        let points: Vec<(f64, f64)> = (0..300)
            .map(|at| 3.0 * spread * f64::from(at) / 299.0)
            .map(|d| (d, (-(d - min_dist).max(0.0) / spread).exp()))
            .collect();
        let (mut best, mut damping) = (Self { a: 1.0, b: 1.0 }, 1e-3);
        for _ in 0..200 {
            let tried = best.step(&points, damping);
            if tried.error(&points) < best.error(&points) {
                (best, damping) = (tried, damping / 10.0);
            } else {
                damping *= 10.0;
            }
        }
        Ok(best)
    }

    /// One step of Levenberg and Marquardt, for the logarithm of `a` and for `b`.
    fn step(self, points: &[(f64, f64)], damping: f64) -> Self {
        let [mut aa, mut ab, mut bb, mut ar, mut br] = [0.0; 5];
        for &(d, target) in points.iter().filter(|(d, _)| *d > 0.0) {
            let near = self.near(d);
            let by_a = -near * (1.0 - near);
            let by_b = by_a * 2.0 * d.ln();
            let residual = target - near;
            aa += by_a * by_a;
            ab += by_a * by_b;
            bb += by_b * by_b;
            ar += by_a * residual;
            br += by_b * residual;
        }
        aa *= 1.0 + damping;
        bb *= 1.0 + damping;
        let determinant = aa * bb - ab * ab;
        Self {
            a: self.a * ((bb * ar - ab * br) / determinant).exp(),
            b: self.b + (aa * br - ab * ar) / determinant,
        }
    }

    fn near(&self, d: f64) -> f64 {
        1.0 / (1.0 + self.a * d.powf(2.0 * self.b))
    }

    fn error(&self, points: &[(f64, f64)]) -> f64 {
        let residuals = points.iter().map(|&(d, target)| target - self.near(d));
        residuals.map(|residual| residual * residual).sum()
    }

    /// Pull of an edge and push from another cell at a squared distance, as multiples of the difference of positions.
    fn forces_at(&self, square: f64) -> [f64; 2] {
        let power = self.a * square.powf(self.b);
        let pull = -2.0 * self.b / (square * (1.0 + 1.0 / power));
        let repulsion = 2.0 * self.b / ((NEAR + square) * (1.0 + power));
        [pull, repulsion]
    }

    fn forces(&self) -> Forces {
        let places = (Forces::LOW.to_bits() >> Forces::SHIFT)
            ..=(Forces::HIGH.to_bits() >> Forces::SHIFT) + 1;
        let values = places.map(|place| self.forces_at(f64::from_bits(place << Forces::SHIFT)));
        Forces {
            values: values.collect(),
        }
    }
}

/// A table of forces, so that no power need be computed for each move.
///
/// Its squared distances are the numbers with seven bits of fraction; in between, interpolation is exact to 0.01 %.
struct Forces {
    values: Vec<[f64; 2]>,
}

impl Forces {
    const PULL: usize = 0;
    const REPULSION: usize = 1;
    /// Squared distances below and above count as these.
    const LOW: f64 = 1e-12;
    const HIGH: f64 = 1e12;
    /// Bits of an f64 between two entries.
    const SHIFT: u32 = 52 - 7;

    fn at(&self, square: f64, kind: usize) -> f64 {
        let bits = square.clamp(Self::LOW, Self::HIGH).to_bits();
        let place = ((bits >> Self::SHIFT) - (Self::LOW.to_bits() >> Self::SHIFT)) as usize;
        let between = (bits & ((1 << Self::SHIFT) - 1)) as f64 / (1_u64 << Self::SHIFT) as f64;
        let (left, right) = (self.values[place][kind], self.values[place + 1][kind]);
        left + between * (right - left)
    }
}

fn check(min_dist: f64, spread: f64) -> Result<(), Error> {
    let setting = |what, found, expected| {
        Err(Error::Setting {
            what,
            found,
            expected,
        })
    };
    if !(spread > 0.0 && spread.is_finite()) {
        return setting("the spread of a layout", spread, "a positive number");
    }
    if !(0.0..=spread).contains(&min_dist) {
        return setting(
            "the least distance of a layout",
            min_dist,
            "from 0 to the spread",
        );
    }
    Ok(())
}

/// Positions before the first epoch: a square of the given width.
fn start(graph: &Graph, seed: Seed) -> Vec<Point> {
    let mut positions = vec![[0.0; 2]; graph.n_nodes()];
    let mut before = 0.0;
    for nodes in by_size(&graph.components()) {
        // Centers lie on a spiral around the largest component; areas are as the numbers of cells.
        let size = nodes.len() as f64;
        let (radius, angle) = ((before + size / 2.0).sqrt(), GOLDEN_ANGLE * before);
        let center = if size as usize == positions.len() {
            [0.0; 2]
        } else {
            [radius * angle.cos(), radius * angle.sin()]
        };
        let part = component_start(&graph.induced(&nodes), nodes[0], seed);
        for (&node, point) in nodes.iter().zip(part) {
            positions[node] = [0, 1].map(|axis| center[axis] + size.sqrt() / 2.0 * point[axis]);
        }
        before += size;
    }
    fill_square(&mut positions);
    let mut stream = seed.stream("layout noise", &[]);
    for point in &mut positions {
        let (x, y) = normal_pair(&mut stream);
        *point = [point[0] + NOISE * x, point[1] + NOISE * y];
    }
    positions
}

/// Turns by this angle never come near to one another.
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

/// The nodes of each component, increasing; larger components first.
fn by_size(components: &[usize]) -> Vec<Vec<usize>> {
    let count = components.iter().max().map_or(0, |last| last + 1);
    let mut parts = vec![Vec::new(); count];
    for (node, &component) in components.iter().enumerate() {
        parts[component].push(node);
    }
    parts.sort_by_key(|nodes| std::cmp::Reverse(nodes.len()));
    parts
}

/// A connected graph between -1 and 1: its second and third eigenvectors, or random positions if there are none.
fn component_start(graph: &Graph, first: usize, seed: Seed) -> Vec<Point> {
    let nodes = graph.n_nodes();
    let scaling: Vec<f64> = (0..nodes)
        .map(|node| graph.strength(node).sqrt().recip())
        .collect();
    let wanted = Wanted {
        pairs: 3,
        order: Order::Value,
        tolerance: TOLERANCE,
    };
    let found = match nodes {
        1 => return vec![[0.0; 2]],
        _ if nodes < SMALL => None,
        _ => eigenpairs(graph, &scaling, wanted, seed).ok(),
    };
    let Some(found) = found else {
        let mut stream = seed.stream("layout start", &[first as u64]);
        let mut draw = || 2.0 * uniform(&mut stream) - 1.0;
        return (0..nodes).map(|_| [draw(), draw()]).collect();
    };
    let column = |node| [found.vectors[[1, node]], found.vectors[[2, node]]];
    let mut positions: Vec<Point> = (0..nodes).map(column).collect();
    let largest = positions
        .iter()
        .flatten()
        .fold(0.0_f64, |largest, value| largest.max(value.abs()));
    positions
        .iter_mut()
        .flatten()
        .for_each(|value| *value /= largest);
    positions
}

/// Stretches both axes to the full width.
fn fill_square(positions: &mut [Point]) {
    for axis in [0, 1] {
        let values = positions.iter().map(|point| point[axis]);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let scale = if high > low {
            WIDTH / (high - low)
        } else {
            0.0
        };
        positions
            .iter_mut()
            .for_each(|point| point[axis] = scale * (point[axis] - low));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::graph::tests::{golden_graph, ring};
    use crate::analysis::on_threads;

    fn apart(layout: &Array2<f64>, a: usize, b: usize) -> f64 {
        (layout[[a, 0]] - layout[[b, 0]]).hypot(layout[[a, 1]] - layout[[b, 1]])
    }

    /// Groups of 30 nodes, each joined with ten of its group and groups joined in a row if so wanted.
    fn groups(count: u32, joined: bool) -> Graph {
        let within = (0..count * 30).flat_map(|node| {
            (1..=5).map(move |step| (node, node / 30 * 30 + (node + step) % 30, 1.0))
        });
        let between = (1..count)
            .filter(|_| joined)
            .map(|group| (group * 30 - 1, group * 30, 0.2));
        let edges: Vec<_> = within.chain(between).collect();
        Graph::from_edges(count as usize * 30, &edges).unwrap()
    }

    #[test]
    fn golden_curves() {
        for (min_dist, spread, a, b) in GOLDEN_CURVES {
            let curve = Curve::fit(min_dist, spread).unwrap();
            assert!(
                (curve.a / a - 1.0).abs() < 1e-5 && (curve.b / b - 1.0).abs() < 1e-5,
                "{curve:?}"
            );
        }
    }

    /// Least distance, spread, and umap-learn's a and b.
    const GOLDEN_CURVES: [(f64, f64, f64, f64); 4] = [
        (0.5, 1.0, 0.58303002, 1.33416699),
        (0.1, 1.0, 1.57694346, 0.895060878),
        (0.0, 2.0, 0.646046672, 0.790494491),
        (0.3, 0.5, 3.24351764, 1.44746284),
    ];

    #[test]
    fn tabled_forces_are_those_of_the_curve() {
        let curve = Curve::fit(0.5, 1.0).unwrap();
        let forces = curve.forces();
        for at in 0..400 {
            let square = 1e-11 * 1.13_f64.powi(at);
            for (kind, exact) in curve.forces_at(square).into_iter().enumerate() {
                assert!((forces.at(square, kind) / exact - 1.0).abs() < 1e-4);
            }
        }
        for extreme in [0.0, f64::INFINITY] {
            assert!(
                forces.at(extreme, Forces::PULL).is_finite()
                    && forces.at(extreme, Forces::REPULSION).is_finite()
            );
        }
    }

    #[test]
    fn groups_are_apart_whether_joined_or_not() {
        for joined in [true, false] {
            let layout = layout(&groups(4, joined), &LayoutOptions::default(), Seed(1)).unwrap();
            let (mut within, mut between) = (0.0_f64, f64::INFINITY);
            for a in 0..120 {
                for b in 0..a {
                    if a / 30 == b / 30 {
                        within = within.max(apart(&layout, a, b));
                    } else {
                        between = between.min(apart(&layout, a, b));
                    }
                }
            }
            assert!(
                within < 12.0 && between > 0.5,
                "{joined} {within} {between}"
            );
        }
    }

    #[test]
    fn a_ring_stays_a_ring() {
        let layout = layout(&ring(200), &LayoutOptions::default(), Seed(0)).unwrap();
        let opposite = (0..100)
            .map(|node| apart(&layout, node, node + 100))
            .sum::<f64>()
            / 100.0;
        let next = (0..200)
            .map(|node| apart(&layout, node, (node + 1) % 200))
            .sum::<f64>()
            / 200.0;
        assert!(opposite > 15.0 * next, "{opposite} {next}");
    }

    #[test]
    fn no_epochs_give_the_start_in_its_square() {
        let options = LayoutOptions {
            epochs: Some(0),
            ..LayoutOptions::default()
        };
        let layout = layout(&golden_graph("trajectory"), &options, Seed(0)).unwrap();
        for axis in layout.columns() {
            let (low, high) = axis
                .iter()
                .fold((f64::MAX, f64::MIN), |(low, high), &value| {
                    (low.min(value), high.max(value))
                });
            assert!(low.abs() < 0.01 && (high - WIDTH).abs() < 0.01);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_but_the_seed_does() {
        let graph = groups(40, true);
        let options = LayoutOptions {
            epochs: Some(20),
            ..LayoutOptions::default()
        };
        let make = || layout(&graph, &options, Seed(5)).unwrap();
        let one = on_threads(1, make);
        assert_eq!(one, on_threads(8, make));
        assert_ne!(one, layout(&graph, &options, Seed(6)).unwrap());
    }

    #[test]
    fn few_nodes_no_edges_and_impossible_options() {
        for (nodes, edges) in [
            (0, &[][..]),
            (1, &[]),
            (5, &[]),
            (3, &[(0, 1, 1.0), (1, 2, 1e-9)]),
            (4, &[(0, 1, 1.0), (2, 3, 1e-300)]),
        ] {
            let graph = Graph::from_edges(nodes, edges).unwrap();
            let layout = layout(&graph, &LayoutOptions::default(), Seed(0)).unwrap();
            assert_eq!(layout.dim(), (nodes, 2));
            assert!(layout.iter().all(|value| value.is_finite()));
        }
        for (min_dist, spread) in [
            (-0.1, 1.0),
            (2.0, 1.0),
            (f64::NAN, 1.0),
            (0.0, 0.0),
            (0.5, f64::INFINITY),
        ] {
            let options = LayoutOptions {
                min_dist,
                spread,
                ..LayoutOptions::default()
            };
            assert!(matches!(
                layout(&ring(5), &options, Seed(0)),
                Err(Error::Setting { .. })
            ));
        }
    }
}
