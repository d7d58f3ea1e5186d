//! Where nodes of a graph stand: stress majorisation (Gansner, Koren and North 2004) of each component, whose boxes are then pushed
//! apart and packed. The same graph always gives the same places.

use std::cmp::Ordering;

/// A point or a size, across and down.
pub type Pair = [f64; 2];

/// Distance of neighbours without other neighbours is this times the square root of 2.
const LENGTH: f64 = 36.0;
/// Free space around a box, and between components.
const AROUND: f64 = 7.0;
const BETWEEN: f64 = 14.0;
/// Boxes are wider than high, so graphs are stretched as much.
const STRETCH: f64 = 1.35;
/// The size to which large components shrink, as far as their boxes allow.
const LARGEST: Pair = [1300.0, 850.0];
/// Width of the page by its height.
const ASPECT: f64 = 1.45;

/// Centres of boxes of the given sizes, none of which overlap, and the size of the page that holds them, from 0.
pub fn places(sizes: &[Pair], edges: &[[usize; 2]]) -> (Vec<Pair>, Pair) {
    let neighbours = neighbours(sizes.len(), edges);
    let mut parts: Vec<Part> = components(&neighbours)
        .into_iter()
        .map(|nodes| Part::new(nodes, &neighbours, sizes))
        .collect();
    // Large parts first; the sort keeps the order of equal ones.
    parts.sort_by(|a, b| (b.size[0] * b.size[1]).total_cmp(&(a.size[0] * a.size[1])));
    let corners = pack(&parts.iter().map(|part| part.size).collect::<Vec<_>>());
    let (mut places, mut page) = (vec![[0.0; 2]; sizes.len()], [0.0f64; 2]);
    for (part, corner) in parts.iter().zip(corners) {
        for (&node, place) in part.nodes.iter().zip(&part.places) {
            places[node] = plus(*place, corner);
        }
        page = [0, 1].map(|axis| page[axis].max(corner[axis] + part.size[axis]));
    }
    (places, page)
}

/// Neighbours of each node, in order and each once; none is its own.
fn neighbours(n: usize, edges: &[[usize; 2]]) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); n];
    for &[from, to] in edges.iter().filter(|[from, to]| from != to) {
        neighbours[from].push(to);
        neighbours[to].push(from);
    }
    for list in &mut neighbours {
        list.sort_unstable();
        list.dedup();
    }
    neighbours
}

/// Nodes that are joined, breadth first from the one with the most neighbours.
fn components(neighbours: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..neighbours.len()).collect();
    order.sort_by_key(|&node| std::cmp::Reverse(neighbours[node].len()));
    let (mut seen, mut components) = (vec![false; neighbours.len()], Vec::new());
    for start in order {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut nodes = vec![start];
        let mut at = 0;
        while let Some(&node) = nodes.get(at) {
            nodes.extend(
                neighbours[node]
                    .iter()
                    .filter(|&&next| !std::mem::replace(&mut seen[next], true)),
            );
            at += 1;
        }
        components.push(nodes);
    }
    components
}

/// A component with places of its own, from 0 to its size.
struct Part {
    nodes: Vec<usize>,
    places: Vec<Pair>,
    size: Pair,
}

impl Part {
    fn new(nodes: Vec<usize>, neighbours: &[Vec<usize>], sizes: &[Pair]) -> Self {
        let mut places = shape(&nodes, neighbours);
        lay_down(&mut places);
        let padded = |&node: &usize| sizes[node].map(|side| side + 2.0 * AROUND);
        let boxes: Vec<Pair> = nodes.iter().map(padded).collect();
        clear_edges(&mut places, &boxes, &links(&nodes, neighbours));
        separate(&mut places, &boxes);
        let size = move_to_origin(&mut places, &boxes);
        Self {
            nodes,
            places,
            size,
        }
    }
}

/// Places of least stress, from two starts: circles in the order in which nodes are joined, and by their numbers of neighbours.
fn shape(nodes: &[usize], neighbours: &[Vec<usize>]) -> Vec<Pair> {
    let distances = distances(nodes, neighbours);
    let joined: Vec<usize> = (0..nodes.len()).collect();
    let mut by_degree = joined.clone();
    by_degree.sort_by_key(|&at| std::cmp::Reverse(neighbours[nodes[at]].len()));
    let [first, second] = [joined, by_degree].map(|order| relax(circle(&order), &distances));
    if stress(&second, &distances) < stress(&first, &distances) {
        second
    } else {
        first
    }
}

/// Places on a circle for positions in the given order.
fn circle(order: &[usize]) -> Vec<Pair> {
    let n = order.len() as f64;
    let mut places = vec![[0.0; 2]; order.len()];
    for (step, &at) in order.iter().enumerate() {
        let (sin, cos) = (step as f64 / n * std::f64::consts::TAU).sin_cos();
        places[at] = [cos, sin].map(|part| part * LENGTH * n.sqrt());
    }
    places
}

/// Pairs of positions in `nodes` that are joined.
fn links(nodes: &[usize], neighbours: &[Vec<usize>]) -> Vec<[usize; 2]> {
    let joined = |a: usize, b: usize| neighbours[nodes[a]].binary_search(&nodes[b]).is_ok();
    let pairs = (0..nodes.len()).flat_map(|b| (0..b).map(move |a| [a, b]));
    pairs.filter(|&[a, b]| joined(a, b)).collect()
}

/// Lengths of the shortest paths. An edge is the longer the fewer neighbours its ends share, which gives hubs space.
fn distances(nodes: &[usize], neighbours: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let n = nodes.len();
    let mut distances = vec![vec![f64::INFINITY; n]; n];
    for [a, b] in links(nodes, neighbours) {
        let [of_a, of_b] = [a, b].map(|at| &neighbours[nodes[at]]);
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
fn stress(places: &[Pair], distances: &[Vec<f64>]) -> f64 {
    let pairs = (0..places.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    pairs
        .map(|(a, b)| (length(minus(places[a], places[b])) / distances[a][b] - 1.0).powi(2))
        .sum()
}

/// Moves each node in turn to where the others want it, which never raises the stress.
fn relax(mut places: Vec<Pair>, distances: &[Vec<f64>]) -> Vec<Pair> {
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        for a in 0..places.len() {
            let (mut sum, mut weights) = ([0.0; 2], 0.0);
            for b in (0..places.len()).filter(|&b| b != a) {
                let away = minus(places[a], places[b]);
                let (wanted, weight) = (distances[a][b], distances[a][b].powi(-2));
                let scale = wanted / length(away).max(1e-9);
                sum =
                    [0, 1].map(|axis| sum[axis] + weight * (places[b][axis] + away[axis] * scale));
                weights += weight;
            }
            if weights > 0.0 {
                places[a] = sum.map(|part| part / weights);
            }
        }
    }
    places
}

/// Turns the longest direction to the horizontal, stretches it, and shrinks what is too large.
fn lay_down(places: &mut [Pair]) {
    let n = places.len() as f64;
    let mean = places
        .iter()
        .fold([0.0; 2], |sum, place| plus(sum, *place))
        .map(|sum| sum / n);
    let moment = |a: usize, b: usize| {
        places
            .iter()
            .map(|place| (place[a] - mean[a]) * (place[b] - mean[b]))
            .sum::<f64>()
    };
    let (sin, cos) = (0.5 * (2.0 * moment(0, 1)).atan2(moment(0, 0) - moment(1, 1))).sin_cos();
    for place in places.iter_mut() {
        let [x, y] = minus(*place, mean);
        *place = [STRETCH * (cos * x + sin * y), cos * y - sin * x];
    }
    let reach = |axis: usize| {
        places
            .iter()
            .map(|place| 2.0 * place[axis].abs())
            .fold(1.0, f64::max)
    };
    let shrink = (LARGEST[0] / reach(0)).min(LARGEST[1] / reach(1)).min(1.0);
    for place in places {
        *place = place.map(|part| part * shrink);
    }
}

/// Pushes boxes off the edges of others a little, where that is easy.
fn clear_edges(places: &mut [Pair], boxes: &[Pair], links: &[[usize; 2]]) {
    const ROUNDS: usize = 40;
    for _ in 0..ROUNDS {
        for &[a, b] in links {
            for node in (0..places.len()).filter(|node| ![a, b].contains(node)) {
                let along = minus(places[b], places[a]);
                let off = minus(places[node], places[a]);
                let share = dot(along, off) / dot(along, along).max(1e-9);
                let away = minus(off, along.map(|part| part * share));
                // Half of the box across the edge.
                let normal =
                    [along[1].abs(), along[0].abs()].map(|part| part / length(along).max(1e-9));
                let reach = dot(normal, boxes[node]) / 2.0;
                let depth = reach - length(away);
                if (0.0..1.0).contains(&share) && depth > 0.0 && length(away) > 1e-9 {
                    let step = 0.3 * depth / length(away);
                    places[node] = plus(places[node], away.map(|part| part * step));
                }
            }
        }
        push(places, boxes);
    }
}

/// Pushes boxes apart until none overlap; where they cannot give way, everything grows.
fn separate(places: &mut [Pair], boxes: &[Pair]) {
    const ROUNDS: usize = 100;
    while (0..ROUNDS).all(|_| push(places, boxes)) {
        for place in places.iter_mut() {
            *place = place.map(|part| part * 1.1);
        }
    }
}

/// Moves each two boxes that overlap apart, the shorter way; whether there were any.
fn push(places: &mut [Pair], boxes: &[Pair]) -> bool {
    let mut any = false;
    for b in 0..places.len() {
        for a in 0..b {
            let away = minus(places[b], places[a]);
            let depth =
                [0, 1].map(|axis| (boxes[a][axis] + boxes[b][axis]) / 2.0 - away[axis].abs());
            if depth.iter().all(|&depth| depth > 1e-6) {
                let axis = usize::from(depth[1] < depth[0]);
                let step = (depth[axis] / 2.0 + 1e-6).copysign(away[axis]);
                places[a][axis] -= step;
                places[b][axis] += step;
                any = true;
            }
        }
    }
    any
}

/// The size of all boxes together, whose corner becomes the origin.
fn move_to_origin(places: &mut [Pair], boxes: &[Pair]) -> Pair {
    let edge = |axis: usize, side: f64, pick: fn(f64, f64) -> f64| {
        let edges = places
            .iter()
            .zip(boxes)
            .map(|(place, size)| place[axis] + side * size[axis] / 2.0);
        edges.reduce(pick).unwrap_or(0.0)
    };
    let low = [0, 1].map(|axis| edge(axis, -1.0, f64::min));
    let high = [0, 1].map(|axis| edge(axis, 1.0, f64::max));
    for place in places {
        *place = minus(*place, low);
    }
    minus(high, low)
}

/// Corners of rectangles that do not overlap: each beside or below an earlier one, where the page grows the least.
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

/// Where a rectangle can stand at the edges of earlier ones without touching any.
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
        let (places, page) = places(sizes, edges);
        assert_eq!((places.clone(), page), super::places(sizes, edges));
        for (a, place) in places.iter().enumerate() {
            for axis in 0..2 {
                let [low, high] = [-0.5, 0.5].map(|side| place[axis] + side * sizes[a][axis]);
                assert!(low >= 0.0 && high <= page[axis], "{place:?} on {page:?}");
            }
            for b in 0..a {
                let apart = |axis: usize| {
                    (place[axis] - places[b][axis]).abs()
                        >= (sizes[a][axis] + sizes[b][axis]) / 2.0 + 5.0
                };
                assert!(
                    apart(0) || apart(1),
                    "{a} and {b} overlap at {place:?} and {:?}",
                    places[b]
                );
            }
        }
        (places, page)
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
    fn neighbours_are_nearer_than_others() {
        let edges: Vec<[usize; 2]> = (1..9).map(|i| [i - 1, i]).collect();
        let (places, page) = check(&[[30.0, 20.0]; 9], &edges);
        let far = length(minus(places[0], places[8]));
        assert!((1..9).all(|i| length(minus(places[i - 1], places[i])) < far / 4.0));
        assert!(page[0] > page[1], "a path lies");
    }

    #[test]
    fn components_stay_together() {
        let edges = [[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]];
        let (places, page) = check(&[[40.0, 20.0]; 20], &edges);
        assert!(page[0] * page[1] < 300_000.0, "{page:?}");
        let span = |nodes: &[usize]| {
            nodes
                .iter()
                .map(|&node| length(minus(places[node], places[nodes[0]])))
                .fold(0.0, f64::max)
        };
        assert!(span(&[0, 1, 2]) < 200.0 && span(&[3, 4, 5]) < 200.0);
    }
}
