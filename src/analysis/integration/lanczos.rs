//! Eigenvectors of large sparse symmetric matrices by Lanczos' method with full reorthogonalization (Golub and Van Loan, Matrix
//! Computations, chapters 8.3 and 10.1).

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use crate::analysis::graph::Graph;
use crate::random::{Seed, normal_pair};

/// An eigenvector is found when it fails its equation by less, for a matrix of norm 1.
const TOLERANCE: f64 = 1e-8;
/// Steps at most, and between tests for convergence.
const STEPS: usize = 1000;
const STEPS_BETWEEN: usize = 40;
/// A direction shorter than this is rounding only.
const EPSILON: f64 = 1e-12;
/// Entries of a vector that one task changes.
const CHUNK: usize = 1024;

/// The `k` eigenvalues of largest magnitude of a matrix of norm about 1, and their vectors, [k, nodes], in addition to `known`
/// eigenvectors, [known, nodes], of unit length and orthogonal to each other. Fewer if there are fewer dimensions.
///
/// The weights of the graph are the entries of the matrix; its diagonal is 0.
pub(super) fn largest(
    matrix: &Graph,
    known: ArrayView2<'_, f64>,
    k: usize,
) -> (Vec<f64>, Array2<f64>) {
    let room = matrix.n_nodes().saturating_sub(known.nrows());
    let k = k.min(room);
    let mut space = Space::new(matrix, known);
    let limit = room.min(STEPS.max(2 * k));
    while space.diagonal.len() < limit && space.step() {
        let steps = space.diagonal.len();
        if steps >= k && steps.is_multiple_of(STEPS_BETWEEN) && space.has_converged(k) {
            break;
        }
    }
    space.eigenpairs(k)
}

/// An orthonormal basis in which the matrix is tridiagonal.
struct Space<'a> {
    matrix: &'a Graph,
    /// Known vectors first, [known + steps, nodes].
    basis: Vec<f64>,
    known: usize,
    diagonal: Vec<f64>,
    /// Elements next to the diagonal; the last leads to the next vector.
    off_diagonal: Vec<f64>,
    next: Vec<f64>,
    draws: crate::random::Stream,
}

impl<'a> Space<'a> {
    fn new(matrix: &'a Graph, known: ArrayView2<'_, f64>) -> Self {
        let mut space = Self {
            matrix,
            basis: known.iter().copied().collect(),
            known: known.nrows(),
            diagonal: Vec::new(),
            off_diagonal: Vec::new(),
            next: Vec::new(),
            draws: Seed(0).stream("lanczos", &[]),
        };
        space.restart();
        space
    }

    /// Takes the next vector into the basis and finds the one after it; false if there is none.
    fn step(&mut self) -> bool {
        let vector = std::mem::take(&mut self.next);
        if vector.is_empty() {
            return false;
        }
        let mut image = product(self.matrix, &vector);
        let diagonal = dot(&image, &vector);
        subtract(&mut image, &vector, diagonal);
        if let Some(&off_diagonal) = self.off_diagonal.last() {
            let previous = &self.basis[self.basis.len() - vector.len()..];
            subtract(&mut image, previous, off_diagonal);
        }
        self.basis.extend(vector);
        self.diagonal.push(diagonal);
        self.orthogonalize(&mut image);
        let length = dot(&image, &image).sqrt();
        if length > EPSILON {
            self.off_diagonal.push(length);
            self.next = image.into_iter().map(|value| value / length).collect();
        } else {
            self.off_diagonal.push(0.0);
            self.restart();
        }
        true
    }

    /// Sets the next vector to a random direction outside the basis, if there is one.
    fn restart(&mut self) {
        let nodes = self.matrix.n_nodes();
        let mut vector: Vec<f64> = (0..nodes).map(|_| normal_pair(&mut self.draws).0).collect();
        self.orthogonalize(&mut vector);
        self.orthogonalize(&mut vector);
        let length = dot(&vector, &vector).sqrt();
        if length > EPSILON {
            self.next = vector.into_iter().map(|value| value / length).collect();
        }
    }

    fn orthogonalize(&self, vector: &mut [f64]) {
        let nodes = vector.len();
        if nodes == 0 {
            return;
        }
        let against = self.basis.par_chunks_exact(nodes);
        let projections: Vec<f64> = against.map(|other| dot(other, vector)).collect();
        let chunks = vector.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(at, chunk)| {
            let start = at * CHUNK;
            for (other, factor) in self.basis.chunks_exact(nodes).zip(&projections) {
                subtract(chunk, &other[start..start + chunk.len()], *factor);
            }
        });
    }

    fn has_converged(&self, k: usize) -> bool {
        let steps = self.diagonal.len();
        let mut last = Array2::zeros((steps, 1));
        last[[steps - 1, 0]] = 1.0;
        let values = tridiagonal(self.diagonal.clone(), self.off_diagonal.clone(), &mut last);
        let beyond = self.off_diagonal.last().copied().unwrap_or(0.0);
        let largest = by_magnitude(&values).into_iter().take(k);
        beyond > 0.0
            && largest
                .into_iter()
                .all(|at| (beyond * last[[at, 0]]).abs() < TOLERANCE)
    }

    fn eigenpairs(&self, k: usize) -> (Vec<f64>, Array2<f64>) {
        let (steps, nodes) = (self.diagonal.len(), self.matrix.n_nodes());
        let mut vectors = Array2::eye(steps);
        let values = tridiagonal(
            self.diagonal.clone(),
            self.off_diagonal.clone(),
            &mut vectors,
        );
        let mut order = by_magnitude(&values);
        order.truncate(k);
        let basis = ArrayView2::from_shape((self.known + steps, nodes), &self.basis);
        let basis = basis.expect("every basis vector has one entry per node");
        let vectors = vectors.select(ndarray::Axis(0), &order);
        let vectors = vectors.dot(&basis.slice(s![self.known.., ..]));
        (order.iter().map(|&at| values[at]).collect(), vectors)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    ndarray::ArrayView1::from(a).dot(&ndarray::ArrayView1::from(b))
}

/// a -= factor b
fn subtract(a: &mut [f64], b: &[f64], factor: f64) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a -= factor * b);
}

fn product(matrix: &Graph, vector: &[f64]) -> Vec<f64> {
    let row = |node| {
        matrix
            .row(node)
            .map(|(end, weight)| weight * vector[end])
            .sum()
    };
    (0..matrix.n_nodes()).into_par_iter().map(row).collect()
}

/// Indices of values, largest magnitude first.
fn by_magnitude(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
    order
}

/// Eigenvalues of a symmetric tridiagonal matrix, by QR steps with implicit shifts.
///
/// The rotations are applied to the rows of `vectors`: from the identity they become the eigenvectors.
fn tridiagonal(
    mut diagonal: Vec<f64>,
    mut off_diagonal: Vec<f64>,
    vectors: &mut Array2<f64>,
) -> Vec<f64> {
    let mut end = diagonal.len().saturating_sub(1);
    let largest = diagonal
        .iter()
        .chain(&off_diagonal)
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    let negligible = |value: f64| value.abs() <= f64::EPSILON * largest;
    let mut steps_left = 50 * diagonal.len();
    while end > 0 && steps_left > 0 {
        if negligible(off_diagonal[end - 1]) {
            end -= 1;
            continue;
        }
        let coupled = (0..end)
            .rev()
            .take_while(|&at| !negligible(off_diagonal[at]))
            .count();
        qr_step(
            &mut diagonal,
            &mut off_diagonal,
            end - coupled..end,
            vectors,
        );
        steps_left -= 1;
    }
    diagonal
}

/// One QR step on a part of the matrix with diagonal `d` and off-diagonal `e` (Golub and Van Loan, algorithm 8.3.2).
fn qr_step(d: &mut [f64], e: &mut [f64], part: std::ops::Range<usize>, vectors: &mut Array2<f64>) {
    let end = part.end;
    let half = (d[end - 1] - d[end]) / 2.0;
    let square = e[end - 1] * e[end - 1];
    let shift = d[end] - square / (half + half.hypot(e[end - 1]).copysign(half));
    let (mut x, mut z) = (d[part.start] - shift, e[part.start]);
    for k in part.clone() {
        let length = x.hypot(z);
        let (c, s) = if length > 0.0 {
            (x / length, z / length)
        } else {
            (1.0, 0.0)
        };
        if k > part.start {
            e[k - 1] = length;
        }
        let (first, second, between) = (d[k], d[k + 1], e[k]);
        d[k] = c * c * first + 2.0 * c * s * between + s * s * second;
        d[k + 1] = s * s * first - 2.0 * c * s * between + c * c * second;
        e[k] = c * s * (second - first) + (c * c - s * s) * between;
        if k + 1 < end {
            x = e[k];
            z = s * e[k + 1];
            e[k + 1] *= c;
        }
        rotate(vectors, k, c, s);
    }
}

/// Rotates rows `k` and `k + 1`.
fn rotate(vectors: &mut Array2<f64>, k: usize, c: f64, s: f64) {
    let (mut a, mut b): (ndarray::ArrayViewMut1<'_, f64>, _) =
        vectors.multi_slice_mut((s![k, ..], s![k + 1, ..]));
    for (a, b) in a.iter_mut().zip(&mut b) {
        (*a, *b) = (c * *a + s * *b, c * *b - s * *a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of `n` nodes with edges of weight 1/2: eigenvalues cos(2 pi j / n), all but two of them twice.
    fn ring(n: u32) -> Graph {
        let edges: Vec<_> = (0..n).map(|i| (i, (i + 1) % n, 0.5)).collect();
        Graph::from_edges(n as usize, &edges).unwrap()
    }

    fn residual(matrix: &Graph, value: f64, vector: ndarray::Array1<f64>) -> f64 {
        let vector = vector.to_vec();
        let mut image = product(matrix, &vector);
        subtract(&mut image, &vector, value);
        dot(&image, &image).sqrt()
    }

    #[test]
    fn all_eigenvectors_of_a_path() {
        // A path of n nodes with edges of weight 1/2 has the eigenvalues cos(pi j / (n + 1)), j = 1..n.
        let n = 40;
        let edges: Vec<_> = (1..n).map(|i| (i - 1, i, 0.5)).collect();
        let path = Graph::from_edges(n as usize, &edges).unwrap();
        let (mut values, vectors) = largest(&path, Array2::zeros((0, 40)).view(), 50);
        for (value, vector) in values.iter().zip(vectors.rows()) {
            assert!(residual(&path, *value, vector.to_owned()) < 1e-12);
        }
        let gram = vectors.dot(&vectors.t()) - Array2::<f64>::eye(40);
        assert!(gram.iter().all(|value| value.abs() < 1e-12));
        values.sort_by(|a, b| b.total_cmp(a));
        for (j, value) in (1..=n).zip(values) {
            let expected = (std::f64::consts::PI * f64::from(j) / f64::from(n + 1)).cos();
            assert!((value - expected).abs() < 1e-13);
        }
    }

    #[test]
    fn largest_eigenvectors_besides_a_known_one() {
        let n = 2001;
        // A ring with a chord from every node to that of a third of its number.
        let ring = (0..n).map(|i| (i, (i + 1) % n, 0.25));
        let chords = (4..n).map(|i| (i, i / 3, 0.25));
        let edges: Vec<_> = ring.chain(chords).collect();
        let graph = Graph::from_edges(n as usize, &edges).unwrap();
        let none = Array2::zeros((0, n as usize));
        let (values, vectors) = largest(&graph, none.view(), 20);
        let (others, _) = largest(&graph, vectors.slice(s![..1, ..]), 19);
        for (value, vector) in values.iter().zip(vectors.rows()) {
            assert!(residual(&graph, *value, vector.to_owned()) < TOLERANCE);
        }
        for (value, other) in values[1..].iter().zip(others) {
            assert!((value - other).abs() < 1e-12);
        }
    }

    #[test]
    fn a_matrix_with_equal_eigenvalues_and_none_at_all() {
        let ring = ring(6);
        let (mut values, _) = largest(&ring, Array2::zeros((0, 6)).view(), 6);
        values.sort_by(f64::total_cmp);
        for (value, expected) in values.iter().zip([-1.0, -0.5, -0.5, 0.5, 0.5, 1.0]) {
            assert!((value - expected).abs() < 1e-12, "{values:?}");
        }
        let empty = Graph::from_edges(0, &[]).unwrap();
        assert!(
            largest(&empty, Array2::zeros((0, 0)).view(), 3)
                .0
                .is_empty()
        );
        let lone = Graph::from_edges(3, &[]).unwrap();
        assert_eq!(largest(&lone, Array2::zeros((0, 3)).view(), 3).0, [0.0; 3]);
    }
}
