//! Graph layout: stress majorization (Gansner, Koren and North 2004) of each component, whose boxes are then pushed apart and
//! packed. The layout is deterministic.

use std::cmp::Ordering;

/// A point or a size, horizontal and vertical.
pub type Pair = [f64; 2];

/// Distance of neighbors without other neighbors, divided by the square root of 2.
const LENGTH: f64 = 36.0;
/// Free space around a box, and between components.
const AROUND: f64 = 7.0;
const BETWEEN: f64 = 14.0;
/// Horizontal stretch of graphs, because boxes are wider than high.
const STRETCH: f64 = 1.35;
/// Size to which large components are reduced, as far as their boxes allow.
const LARGEST: Pair = [1300.0, 850.0];
/// Aspect ratio of the figure.
const ASPECT: f64 = 1.45;

/// Centers of boxes of the given sizes, none of which overlap, and the size of the figure, from 0.
pub fn positions(sizes: &[Pair], edges: &[[usize; 2]]) -> (Vec<Pair>, Pair) {
    let neighbors = neighbors(sizes.len(), edges);
    let mut parts: Vec<Component> = components(&neighbors)
        .into_iter()
        .map(|nodes| Component::new(nodes, &neighbors, sizes))
        .collect();
    // Large components first; the sort is stable.
    parts.sort_by(|a, b| (b.size[0] * b.size[1]).total_cmp(&(a.size[0] * a.size[1])));
    let corners = pack(&parts.iter().map(|part| part.size).collect::<Vec<_>>());
    let (mut positions, mut page) = (vec![[0.0; 2]; sizes.len()], [0.0f64; 2]);
    for (part, corner) in parts.iter().zip(corners) {
        for (&node, position) in part.nodes.iter().zip(&part.positions) {
            positions[node] = plus(*position, corner);
        }
        page = [0, 1].map(|axis| page[axis].max(corner[axis] + part.size[axis]));
    }
    (positions, page)
}

/// Neighbors of each node, in order and each once, without the node itself.
fn neighbors(n: usize, edges: &[[usize; 2]]) -> Vec<Vec<usize>> {
    let mut neighbors = vec![Vec::new(); n];
    for &[from, to] in edges.iter().filter(|[from, to]| from != to) {
        neighbors[from].push(to);
        neighbors[to].push(from);
    }
    for list in &mut neighbors {
        list.sort_unstable();
        list.dedup();
    }
    neighbors
}

/// Connected components, breadth first from the node with the most neighbors.
fn components(neighbors: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..neighbors.len()).collect();
    order.sort_by_key(|&node| std::cmp::Reverse(neighbors[node].len()));
    let (mut visited, mut components) = (vec![false; neighbors.len()], Vec::new());
    for start in order {
        if std::mem::replace(&mut visited[start], true) {
            continue;
        }
        let mut nodes = vec![start];
        let mut at = 0;
        while let Some(&node) = nodes.get(at) {
            nodes.extend(
                neighbors[node]
                    .iter()
                    .filter(|&&next| !std::mem::replace(&mut visited[next], true)),
            );
            at += 1;
        }
        components.push(nodes);
    }
    components
}

/// A component with its own positions, from 0 to its size.
struct Component {
    nodes: Vec<usize>,
    positions: Vec<Pair>,
    size: Pair,
}

impl Component {
    fn new(nodes: Vec<usize>, neighbors: &[Vec<usize>], sizes: &[Pair]) -> Self {
        let mut positions = shape(&nodes, neighbors);
        lay_down(&mut positions);
        let padded = |&node: &usize| sizes[node].map(|side| side + 2.0 * AROUND);
        let boxes: Vec<Pair> = nodes.iter().map(padded).collect();
        clear_edges(&mut positions, &boxes, &links(&nodes, neighbors));
        separate(&mut positions, &boxes);
        let size = move_to_origin(&mut positions, &boxes);
        Self {
            nodes,
            positions,
            size,
        }
    }
}

/// Positions of minimum stress, from two starts: circles in breadth-first order, and by number of neighbors.
fn shape(nodes: &[usize], neighbors: &[Vec<usize>]) -> Vec<Pair> {
    let distances = distances(nodes, neighbors);
    let joined: Vec<usize> = (0..nodes.len()).collect();
    let mut by_degree = joined.clone();
    by_degree.sort_by_key(|&at| std::cmp::Reverse(neighbors[nodes[at]].len()));
    let [first, second] = [joined, by_degree].map(|order| relax(circle(&order), &distances));
    if stress(&second, &distances) < stress(&first, &distances) {
        second
    } else {
        first
    }
}

/// Positions on a circle in the given order.
fn circle(order: &[usize]) -> Vec<Pair> {
    let n = order.len() as f64;
    let mut positions = vec![[0.0; 2]; order.len()];
    for (step, &at) in order.iter().enumerate() {
        let (sin, cos) = (step as f64 / n * std::f64::consts::TAU).sin_cos();
        positions[at] = [cos, sin].map(|part| part * LENGTH * n.sqrt());
    }
    positions
}

/// Pairs of indices into `nodes` that are connected.
fn links(nodes: &[usize], neighbors: &[Vec<usize>]) -> Vec<[usize; 2]> {
    let joined = |a: usize, b: usize| neighbors[nodes[a]].binary_search(&nodes[b]).is_ok();
    let pairs = (0..nodes.len()).flat_map(|b| (0..b).map(move |a| [a, b]));
    pairs.filter(|&[a, b]| joined(a, b)).collect()
}

/// Lengths of the shortest paths. Edges are longer if their ends t fewer neighbors, which gives hubs space.
fn distances(nodes: &[usize], neighbors: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let n = nodes.len();
    let mut distances = vec![vec![f64::INFINITY; n]; n];
    for [a, b] in links(nodes, neighbors) {
        let [of_a, of_b] = [a, b].map(|at| &neighbors[nodes[at]]);
        let shared = of_a
            .iter()
            .filter(|node| of_b.binary_search(node).is_ok())
            .count();
        let length = LENGTH * ((of_a.len() + of_b.len() - 2 * shared) as f64).sqrt();
        (distances[a][b], distances[b][a]) = (length, length);
    }
    for middle in 0..n {
        for a in 0..n {
            for b in 0..n {
                let around = distances[a][middle] + distances[middle][b];
                distances[a][b] = distances[a][b].min(around);
            }
        }
    }
    distances
}

/// Sum of squared differences to the distances, by their squares.
fn stress(positions: &[Pair], distances: &[Vec<f64>]) -> f64 {
    let pairs = (0..positions.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    pairs
        .map(|(a, b)| (length(minus(positions[a], positions[b])) / distances[a][b] - 1.0).powi(2))
        .sum()
}

/// Moves each node in turn to its optimum given the others, which never increases the stress.
fn relax(mut positions: Vec<Pair>, distances: &[Vec<f64>]) -> Vec<Pair> {
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        for a in 0..positions.len() {
            let (mut sum, mut weights) = ([0.0; 2], 0.0);
            for b in (0..positions.len()).filter(|&b| b != a) {
                let away = minus(positions[a], positions[b]);
                let (wanted, weight) = (distances[a][b], distances[a][b].powi(-2));
                let scale = wanted / length(away).max(1e-9);
                sum = [0, 1]
                    .map(|axis| sum[axis] + weight * (positions[b][axis] + away[axis] * scale));
                weights += weight;
            }
            if weights > 0.0 {
                positions[a] = sum.map(|part| part / weights);
            }
        }
    }
    positions
}

/// Rotates the longest direction to the horizontal, stretches it, and shrinks layouts that are too large.
fn lay_down(positions: &mut [Pair]) {
    let n = positions.len() as f64;
    let mean = positions
        .iter()
        .fold([0.0; 2], |sum, position| plus(sum, *position))
        .map(|sum| sum / n);
    let moment = |a: usize, b: usize| {
        positions
            .iter()
            .map(|position| (position[a] - mean[a]) * (position[b] - mean[b]))
            .sum::<f64>()
    };
    let (sin, cos) = (0.5 * (2.0 * moment(0, 1)).atan2(moment(0, 0) - moment(1, 1))).sin_cos();
    for position in positions.iter_mut() {
        let [x, y] = minus(*position, mean);
        *position = [STRETCH * (cos * x + sin * y), cos * y - sin * x];
    }
    let reach = |axis: usize| {
        positions
            .iter()
            .map(|position| 2.0 * position[axis].abs())
            .fold(1.0, f64::max)
    };
    let shrink = (LARGEST[0] / reach(0)).min(LARGEST[1] / reach(1)).min(1.0);
    for position in positions {
        *position = position.map(|part| part * shrink);
    }
}

/// Pushes boxes slightly off the edges of other nodes, if possible.
fn clear_edges(positions: &mut [Pair], boxes: &[Pair], links: &[[usize; 2]]) {
    const ROUNDS: usize = 40;
    for _ in 0..ROUNDS {
        for &[a, b] in links {
            for node in (0..positions.len()).filter(|node| ![a, b].contains(node)) {
                let along = minus(positions[b], positions[a]);
                let off = minus(positions[node], positions[a]);
                let t = dot(along, off) / dot(along, along).max(1e-9);
                let away = minus(off, along.map(|part| part * t));
                // Half of the box across the edge.
                let normal =
                    [along[1].abs(), along[0].abs()].map(|part| part / length(along).max(1e-9));
                let reach = dot(normal, boxes[node]) / 2.0;
                let depth = reach - length(away);
                if (0.0..1.0).contains(&t) && depth > 0.0 && length(away) > 1e-9 {
                    let step = 0.3 * depth / length(away);
                    positions[node] = plus(positions[node], away.map(|part| part * step));
                }
            }
        }
        push(positions, boxes);
    }
}

/// Pushes boxes apart until none overlap; scales the layout up if that is not possible.
fn separate(positions: &mut [Pair], boxes: &[Pair]) {
    const ROUNDS: usize = 100;
    while (0..ROUNDS).all(|_| push(positions, boxes)) {
        for position in positions.iter_mut() {
            *position = position.map(|part| part * 1.1);
        }
    }
}

/// Moves overlapping boxes apart in the shorter direction; returns whether there were any.
fn push(positions: &mut [Pair], boxes: &[Pair]) -> bool {
    let mut any = false;
    for b in 0..positions.len() {
        for a in 0..b {
            let away = minus(positions[b], positions[a]);
            let depth =
                [0, 1].map(|axis| (boxes[a][axis] + boxes[b][axis]) / 2.0 - away[axis].abs());
            if depth.iter().all(|&depth| depth > 1e-6) {
                let axis = usize::from(depth[1] < depth[0]);
                let step = (depth[axis] / 2.0 + 1e-6).copysign(away[axis]);
                positions[a][axis] -= step;
                positions[b][axis] += step;
                any = true;
            }
        }
    }
    any
}

/// Moves the corner of all boxes to the origin, and returns their size.
fn move_to_origin(positions: &mut [Pair], boxes: &[Pair]) -> Pair {
    let edge = |axis: usize, side: f64, pick: fn(f64, f64) -> f64| {
        let edges = positions
            .iter()
            .zip(boxes)
            .map(|(position, size)| position[axis] + side * size[axis] / 2.0);
        edges.reduce(pick).unwrap_or(0.0)
    };
    let low = [0, 1].map(|axis| edge(axis, -1.0, f64::min));
    let high = [0, 1].map(|axis| edge(axis, 1.0, f64::max));
    for position in positions {
        *position = minus(*position, low);
    }
    minus(high, low)
}

/// Corners of rectangles that do not overlap: each next to or below an earlier one, where the figure grows least.
fn pack(sizes: &[Pair]) -> Vec<Pair> {
    let mut corners: Vec<Pair> = Vec::new();
    let mut page = [0.0f64; 2];
    for size in sizes {
        let free = free_corners(&corners, sizes, size);
        let grown = |corner: &Pair| [0, 1].map(|axis| page[axis].max(corner[axis] + size[axis]));
        let cost = |corner: &Pair| {
            let [across, down] = grown(corner);
            [
                (across / ASPECT).max(down),
                across * down,
                corner[1],
                corner[0],
            ]
        };
        let compare = |a: &Pair, b: &Pair| {
            let orders = cost(a)
                .into_iter()
                .zip(cost(b))
                .map(|(a, b)| a.total_cmp(&b));
            orders.fold(Ordering::Equal, Ordering::then)
        };
        let best = free
            .into_iter()
            .min_by(compare)
            .unwrap_or([0.0, page[1] + BETWEEN]);
        page = grown(&best);
        corners.push(best);
    }
    corners
}

/// Corners at earlier rectangles where a rectangle fits without overlap.
fn free_corners(corners: &[Pair], sizes: &[Pair], size: &Pair) -> Vec<Pair> {
    let is_free = |corner: &Pair| {
        let after = |axis: usize, (other, its): (&Pair, &Pair)| {
            corner[axis] >= other[axis] + its[axis] + BETWEEN
        };
        let before = |axis: usize, other: &Pair| other[axis] >= corner[axis] + size[axis] + BETWEEN;
        let mut others = corners.iter().zip(sizes);
        others.all(|other| (0..2).any(|axis| after(axis, other) || before(axis, other.0)))
    };
    let edges = |axis: usize| {
        let ends = corners
            .iter()
            .zip(sizes)
            .map(move |(corner, its)| corner[axis] + its[axis] + BETWEEN);
        let starts = corners.iter().map(move |corner| corner[axis]);
        ends.chain(starts).chain([0.0])
    };
    edges(1)
        .flat_map(|y| edges(0).map(move |x| [x, y]))
        .filter(is_free)
        .collect()
}

pub fn plus(a: Pair, b: Pair) -> Pair {
    [a[0] + b[0], a[1] + b[1]]
}

pub fn minus(a: Pair, b: Pair) -> Pair {
    [a[0] - b[0], a[1] - b[1]]
}

pub fn length(a: Pair) -> f64 {
    dot(a, a).sqrt()
}

fn dot(a: Pair, b: Pair) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[Pair], edges: &[[usize; 2]]) -> (Vec<Pair>, Pair) {
        let (positions, page) = positions(sizes, edges);
        assert_eq!((positions.clone(), page), super::positions(sizes, edges));
        for (a, position) in positions.iter().enumerate() {
            for axis in 0..2 {
                let [low, high] = [-0.5, 0.5].map(|side| position[axis] + side * sizes[a][axis]);
                assert!(low >= 0.0 && high <= page[axis], "{position:?} on {page:?}");
            }
            for b in 0..a {
                let apart = |axis: usize| {
                    (position[axis] - positions[b][axis]).abs()
                        >= (sizes[a][axis] + sizes[b][axis]) / 2.0 + 5.0
                };
                assert!(
                    apart(0) || apart(1),
                    "{a} and {b} overlap at {position:?} and {:?}",
                    positions[b]
                );
            }
        }
        (positions, page)
    }

    #[test]
    fn no_boxes_overlap_and_all_are_on_the_page() {
        let sizes: Vec<Pair> = (0..60)
            .map(|i| [40.0 + (i * 7 % 60) as f64, 24.0])
            .collect();
        let star: Vec<[usize; 2]> = (1..60).map(|i| [0, i]).collect();
        let complete: Vec<[usize; 2]> = (0..30).flat_map(|b| (0..b).map(move |a| [a, b])).collect();
        let path: Vec<[usize; 2]> = (1..60).map(|i| [i - 1, i]).collect();
        let pairs: Vec<[usize; 2]> = (0..30).map(|i| [2 * i, 2 * i + 1]).collect();
        for edges in [&star, &complete, &path, &pairs, &Vec::new(), &vec![[3, 3]]] {
            let (_, page) = check(&sizes, edges);
            assert!(page[0] < 2500.0 && page[1] < 1800.0, "{page:?}");
        }
        check(&[], &[]);
        check(&[[50.0, 20.0]], &[]);
        check(&[[50.0, 20.0]; 2], &[[0, 1], [1, 0], [0, 0]]);
    }

    #[test]
    fn neighbors_are_nearer_than_others() {
        let edges: Vec<[usize; 2]> = (1..9).map(|i| [i - 1, i]).collect();
        let (positions, page) = check(&[[30.0, 20.0]; 9], &edges);
        let far = length(minus(positions[0], positions[8]));
        assert!((1..9).all(|i| length(minus(positions[i - 1], positions[i])) < far / 4.0));
        assert!(page[0] > page[1], "a path is horizontal");
    }

    #[test]
    fn components_stay_together() {
        let edges = [[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]];
        let (positions, page) = check(&[[40.0, 20.0]; 20], &edges);
        assert!(page[0] * page[1] < 300_000.0, "{page:?}");
        let span = |nodes: &[usize]| {
            nodes
                .iter()
                .map(|&node| length(minus(positions[node], positions[nodes[0]])))
                .fold(0.0, f64::max)
        };
        assert!(span(&[0, 1, 2]) < 200.0 && span(&[3, 4, 5]) < 200.0);
    }
}
