//! The largest eigenvalues and eigenvectors of a scaled graph.
//!
//! Block Lanczos with full re-orthogonalization and thick restarts (Wu and Simon 2000, SIAM J Matrix Anal Appl 22:602; Zhou and
//! Saad 2008, Numer Algorithms 47:341): a basis is grown by products of its last block with the matrix, then shrunk to its best
//! Ritz vectors. Blocks find eigenvalues that occur up to four times; what is found is checked by its residuals.

use ndarray::{Array1, Array2, Axis, s};
use rayon::prelude::*;

use super::Error;
use super::graph::Graph;
use crate::random::{Seed, Stream, normal_pair};

/// Vectors multiplied with the matrix at a time.
const BLOCK: usize = 4;
/// Blocks by which the basis grows between restarts.
const GROWTH: usize = 12;
/// Restarts before giving up.
const RESTARTS: usize = 1000;
/// Sweeps of rotations at most; they converge quadratically, after some six to ten.
const SWEEPS: usize = 60;
/// Rows that one thread takes at least.
const ROWS: usize = 1024;
/// What is left of a vector after orthogonalization is rounding errors if its length is below this fraction.
const DEPENDENT: f64 = 1e-12;

/// Which eigenvalues are the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The rightmost.
    Value,
    /// The furthest from 0.
    Magnitude,
}

/// Which eigenpairs to find, and how exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// How many; all if there are fewer nodes.
    pub pairs: usize,
    /// What makes an eigenvalue large.
    pub order: Order,
    /// Largest length of a residual M v - lambda v, as a fraction of the largest eigenvalue's size.
    pub tolerance: f64,
}

/// Eigenvalues and eigenvectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigenpairs {
    /// Eigenvalues, the largest first.
    pub values: Vec<f64>,
    /// Unit eigenvectors, [pairs, nodes]; the entry of largest size (the first of equal ones) is positive.
    pub vectors: Array2<f64>,
}

/// The largest eigenpairs of the matrix with entries `scaling[i] * weight(i, j) * scaling[j]`.
///
/// Fails if there is not one finite scaling for each node, if no pairs are wanted or if they do not converge.
pub fn eigenpairs(
    graph: &Graph,
    scaling: &[f64],
    wanted: Wanted,
    seed: Seed,
) -> Result<Eigenpairs, Error> {
    check(graph, scaling, wanted)?;
    search(graph, scaling, wanted, seed, RESTARTS)
}

fn search(
    graph: &Graph,
    scaling: &[f64],
    wanted: Wanted,
    seed: Seed,
    rounds: usize,
) -> Result<Eigenpairs, Error> {
    let nodes = graph.n_nodes();
    let pairs = wanted.pairs.min(nodes);
    let mut space = Subspace::new(graph, scaling, seed);
    let mut worst = f64::INFINITY;
    for _ in 0..rounds {
        space.grow(nodes.min(pairs + BLOCK * (GROWTH + 2)));
        let values = space.rotate(wanted.order, pairs + 2 * BLOCK);
        worst = space.largest_residual(&values[..pairs]);
        let largest = values[0].abs();
        if worst <= wanted.tolerance * largest || space.basis.len() == nodes {
            return Ok(space.first(values, pairs));
        }
    }
    Err(Error::NotConverged {
        what: "the eigenvectors of the graph",
        rounds,
        reached: worst,
        wanted: wanted.tolerance,
    })
}

fn check(graph: &Graph, scaling: &[f64], wanted: Wanted) -> Result<(), Error> {
    graph.validate()?;
    let (found, cells) = (scaling.len(), graph.n_nodes());
    let bad = scaling.iter().position(|value| !value.is_finite());
    match bad {
        _ if wanted.pairs == 0 => Err(Error::Zero("eigenvectors")),
        _ if found != cells => Err(Error::OnePerCell {
            what: "scalings",
            found,
            cells,
        }),
        _ if cells == 0 => Err(Error::FewCells {
            what: "an eigenvector",
            needed: 1,
            found: 0,
        }),
        Some(row) => Err(Error::NotFinite {
            row,
            column: 0,
            value: scaling[row],
        }),
        None => Ok(()),
    }
}

/// An orthonormal basis and its products with the matrix.
struct Subspace<'a> {
    graph: &'a Graph,
    scaling: &'a [f64],
    basis: Vec<Array1<f64>>,
    images: Vec<Array1<f64>>,
    /// What the basis grows by next.
    next: Vec<Array1<f64>>,
    stream: Stream,
}

impl<'a> Subspace<'a> {
    fn new(graph: &'a Graph, scaling: &'a [f64], seed: Seed) -> Self {
        let mut stream = seed.stream("eigenvectors", &[]);
        let next = (0..BLOCK).map(|_| random(graph.n_nodes(), &mut stream));
        Self {
            graph,
            scaling,
            basis: Vec::new(),
            images: Vec::new(),
            next: next.collect(),
            stream,
        }
    }

    /// Adds blocks until the basis has at least `size` vectors.
    fn grow(&mut self, size: usize) {
        while self.basis.len() < size {
            let from = self.basis.len();
            for vector in std::mem::take(&mut self.next) {
                if self.basis.len() < self.graph.n_nodes() {
                    let vector = self.orthonormal(vector);
                    self.images.push(self.product(&vector));
                    self.basis.push(vector);
                }
            }
            self.next = self.images[from..].to_vec();
        }
        // The basis is about to shrink, but what was dropped of it stays dropped.
        for vector in &mut self.next {
            remove(vector, &self.basis);
        }
    }

    fn product(&self, vector: &Array1<f64>) -> Array1<f64> {
        let scaled = |(end, weight): (usize, f64)| weight * self.scaling[end] * vector[end];
        let row = |node| self.scaling[node] * self.graph.row(node).map(scaled).sum::<f64>();
        let rows = (0..vector.len()).into_par_iter().with_min_len(ROWS);
        rows.map(row).collect::<Vec<f64>>().into()
    }

    /// The unit vector of what is new in a vector, or of a random one if nothing is.
    fn orthonormal(&mut self, mut vector: Array1<f64>) -> Array1<f64> {
        loop {
            let before = length(&vector);
            remove(&mut vector, &self.basis);
            let after = length(&vector);
            if after > DEPENDENT * before {
                vector /= after;
                // Once more, as rounding errors have grown with the division.
                remove(&mut vector, &self.basis);
                let after = length(&vector);
                return vector / after;
            }
            vector = random(vector.len(), &mut self.stream);
        }
    }

    /// Turns the basis to Ritz vectors, keeps some of the largest and returns their values.
    fn rotate(&mut self, order: Order, keep: usize) -> Vec<f64> {
        let (values, vectors) = dense_eigenpairs(self.projected());
        let size = |&at: &usize| match order {
            Order::Value => values[at],
            Order::Magnitude => values[at].abs(),
        };
        let mut kept: Vec<usize> = (0..values.len()).collect();
        kept.sort_by(|a, b| size(b).total_cmp(&size(a)));
        kept.truncate(keep);
        let vectors = vectors.select(Axis(1), &kept);
        self.basis = combine(&self.basis, &vectors);
        self.images = combine(&self.images, &vectors);
        kept.into_iter().map(|at| values[at]).collect()
    }

    /// The matrix in the coordinates of the basis.
    fn projected(&self) -> Array2<f64> {
        let size = self.basis.len();
        let row = |i: usize| -> Vec<f64> {
            self.images[..=i]
                .iter()
                .map(|image| self.basis[i].dot(image))
                .collect()
        };
        let rows: Vec<Vec<f64>> = (0..size).into_par_iter().map(row).collect();
        Array2::from_shape_fn((size, size), |(i, j)| rows[i.max(j)][i.min(j)])
    }

    fn largest_residual(&self, values: &[f64]) -> f64 {
        let pairs = self.basis.iter().zip(&self.images).zip(values);
        let residuals = pairs.map(|((vector, image), &value)| length(&(image - vector * value)));
        residuals.fold(0.0, f64::max)
    }

    fn first(self, mut values: Vec<f64>, pairs: usize) -> Eigenpairs {
        values.truncate(pairs);
        let mut vectors = Array2::zeros((pairs, self.graph.n_nodes()));
        for (mut row, vector) in vectors.rows_mut().into_iter().zip(&self.basis) {
            row.assign(&(vector * peak_sign(vector)));
        }
        Eigenpairs { values, vectors }
    }
}

fn random(nodes: usize, stream: &mut Stream) -> Array1<f64> {
    (0..nodes).map(|_| normal_pair(stream).0).collect()
}

fn length(vector: &Array1<f64>) -> f64 {
    vector.dot(vector).sqrt()
}

/// Removes from a vector what lies in an orthonormal basis, but for rounding errors.
fn remove(vector: &mut Array1<f64>, basis: &[Array1<f64>]) {
    let parts: Vec<f64> = basis.par_iter().map(|unit| unit.dot(vector)).collect();
    let chunks: Vec<_> = vector.axis_chunks_iter_mut(Axis(0), ROWS).collect();
    chunks
        .into_par_iter()
        .enumerate()
        .for_each(|(at, mut chunk)| {
            let rows = at * ROWS..at * ROWS + chunk.len();
            for (part, unit) in parts.iter().zip(basis) {
                chunk.scaled_add(-part, &unit.slice(s![rows.clone()]));
            }
        });
}

/// Linear combinations of vectors, with coefficients [vectors, combinations].
fn combine(vectors: &[Array1<f64>], coefficients: &Array2<f64>) -> Vec<Array1<f64>> {
    let columns = (0..coefficients.ncols()).into_par_iter();
    columns
        .map(|column| {
            let mut sum = Array1::zeros(vectors[0].len());
            for (vector, &coefficient) in vectors.iter().zip(coefficients.column(column)) {
                sum.scaled_add(coefficient, vector);
            }
            sum
        })
        .collect()
}

fn peak_sign(vector: &Array1<f64>) -> f64 {
    let peak = vector.iter().fold(0.0_f64, |peak, &value| {
        if value.abs() > peak.abs() {
            value
        } else {
            peak
        }
    });
    if peak < 0.0 { -1.0 } else { 1.0 }
}

/// All eigenvalues of a small symmetric matrix, and its eigenvectors as columns, by Jacobi's rotations.
fn dense_eigenpairs(mut matrix: Array2<f64>) -> (Vec<f64>, Array2<f64>) {
    let size = matrix.nrows();
    let mut vectors = Array2::eye(size);
    for _ in 0..SWEEPS {
        let total: f64 = matrix.iter().map(|value| value * value).sum();
        let rounding = f64::EPSILON * size as f64;
        if off_diagonal(&matrix) <= rounding * rounding * total {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                if let Some(turn) = rotation(&matrix, p, q) {
                    turn_columns(&mut matrix, p, q, turn);
                    turn_columns(&mut matrix.view_mut().reversed_axes(), p, q, turn);
                    turn_columns(&mut vectors, p, q, turn);
                }
            }
        }
    }
    (matrix.diag().to_vec(), vectors)
}

/// Sum of squares off the diagonal.
fn off_diagonal(matrix: &Array2<f64>) -> f64 {
    let entries = matrix.indexed_iter().filter(|((i, j), _)| i != j);
    entries.map(|(_, value)| value * value).sum()
}

/// Cosine and sine of the rotation that makes an entry zero, unless it is.
fn rotation(matrix: &Array2<f64>, p: usize, q: usize) -> Option<(f64, f64)> {
    let entry = matrix[[p, q]];
    if entry == 0.0 {
        return None;
    }
    let theta = (matrix[[q, q]] - matrix[[p, p]]) / (2.0 * entry);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = tangent.hypot(1.0).recip();
    Some((cosine, tangent * cosine))
}

fn turn_columns<S: ndarray::DataMut<Elem = f64>>(
    matrix: &mut ndarray::ArrayBase<S, ndarray::Ix2>,
    p: usize,
    q: usize,
    (cosine, sine): (f64, f64),
) {
    for mut row in matrix.rows_mut() {
        let (a, b) = (row[p], row[q]);
        row[p] = cosine * a - sine * b;
        row[q] = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::graph::tests::{golden, golden_graph, ring};
    use crate::analysis::on_threads;

    const EXACT: Wanted = Wanted {
        pairs: 5,
        order: Order::Value,
        tolerance: 1e-12,
    };

    #[test]
    fn a_ring_has_cosines_as_eigenvalues_each_twice() {
        let found = eigenpairs(&ring(400), &[1.0; 400], EXACT, Seed(3)).unwrap();
        let expected = [0.0, 1.0, 1.0, 2.0, 2.0]
            .map(|turns: f64| 2.0 * (turns * std::f64::consts::TAU / 400.0).cos());
        for (value, expected) in found.values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-12, "{value} {expected}");
        }
        let products = found.vectors.dot(&found.vectors.t());
        assert!(
            (products - Array2::<f64>::eye(5))
                .iter()
                .all(|value| value.abs() < 1e-12)
        );
        let constant = found.vectors.row(0);
        assert!(
            constant.iter().all(|value| (value - 0.05).abs() < 1e-10),
            "the sign is fixed"
        );
    }

    #[test]
    fn the_furthest_from_zero_may_be_negative() {
        // A path of two nodes has eigenvalues 1 and -1, times the product of the scalings.
        let graph = Graph::from_edges(4, &[(0, 1, 1.0), (2, 3, 1.0)]).unwrap();
        let wanted = Wanted { pairs: 3, ..EXACT };
        let values = |order| {
            eigenpairs(
                &graph,
                &[2.0, 3.0, 1.0, 1.0],
                Wanted { order, ..wanted },
                Seed(0),
            )
            .unwrap()
            .values
        };
        let near = |values: Vec<f64>, expected: [f64; 3]| {
            values
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12)
        };
        assert!(near(values(Order::Value), [6.0, 1.0, -1.0]));
        assert_eq!(
            values(Order::Magnitude)
                .iter()
                .filter(|value| value.abs() > 5.0)
                .count(),
            2
        );
    }

    #[test]
    fn golden_eigenvalues_of_transitions() {
        let graph = golden_graph("trajectory");
        let density: Vec<f64> = (0..150).map(|node| graph.strength(node)).collect();
        let scaling: Vec<f64> = (0..150)
            .map(|node| {
                let sum: f64 = graph
                    .row(node)
                    .map(|(end, weight)| weight / density[end])
                    .sum();
                1.0 / (density[node] * sum).sqrt()
            })
            .collect();
        let wanted = Wanted { pairs: 15, ..EXACT };
        let found = eigenpairs(&graph, &scaling, wanted, Seed(0)).unwrap();
        let expected = golden("trajectory", "eigenvalues");
        assert!(
            found
                .values
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let graph = ring(3000);
        let wanted = Wanted {
            tolerance: 0.02,
            ..EXACT
        };
        let find = || eigenpairs(&graph, &vec![0.5; 3000], wanted, Seed(1)).unwrap();
        assert_eq!(on_threads(1, find), on_threads(8, find));
    }

    #[test]
    fn small_empty_and_impossible_input() {
        let lonely = Graph::from_edges(3, &[]).unwrap();
        let found = eigenpairs(&lonely, &[1.0; 3], EXACT, Seed(0)).unwrap();
        assert_eq!(found.values, [0.0; 3]);
        let fail =
            |scaling: &[f64], wanted| eigenpairs(&lonely, scaling, wanted, Seed(0)).unwrap_err();
        assert_eq!(
            fail(&[1.0; 3], Wanted { pairs: 0, ..EXACT }),
            Error::Zero("eigenvectors")
        );
        assert!(matches!(
            fail(&[1.0; 2], EXACT),
            Error::OnePerCell {
                found: 2,
                cells: 3,
                ..
            }
        ));
        assert!(matches!(
            fail(&[1.0, f64::NAN, 1.0], EXACT),
            Error::NotFinite { row: 1, .. }
        ));
        let nothing = Graph::from_edges(0, &[]).unwrap();
        assert!(matches!(
            eigenpairs(&nothing, &[], EXACT, Seed(0)),
            Err(Error::FewCells { .. })
        ));
        let exact = Wanted {
            tolerance: 0.0,
            ..EXACT
        };
        let graph = ring(80);
        assert!(matches!(
            search(&graph, &[1.0; 80], exact, Seed(0), 3),
            Err(Error::NotConverged { .. })
        ));
    }
}
