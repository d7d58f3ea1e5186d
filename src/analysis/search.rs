//! The nearest of very many rows, which are given block by block.
//!
//! Products in f32 find the candidates; the distance of a candidate is then summed in f64 in a fixed order. No row that is among the
//! nearest can be missed by rounding, equal distances go to the lower index, and the order and size of blocks change nothing. So
//! results are exact and the same on any machine.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

/// Queries whose products are computed together.
const BATCH: usize = 128;
/// Products compared together.
const BLOCK: usize = 16;

/// A row near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Squared length of the difference.
    pub squared: f64,
    /// Index of the row among all rows.
    pub row: u64,
}

impl Neighbor {
    fn order(&self, other: &Self) -> Ordering {
        let by_distance = self.squared.total_cmp(&other.squared);
        by_distance.then(self.row.cmp(&other.row))
    }
}

/// Query rows, finite.
#[derive(Debug, Clone)]
pub struct Queries {
    rows: Array2<f32>,
    squared: Vec<f64>,
}

impl Queries {
    pub fn new(rows: Array2<f32>) -> Self {
        let rows = rows.as_standard_layout().into_owned();
        let squared = rows.rows().into_iter().map(squared_length).collect();
        Self { rows, squared }
    }

    /// The queries, [queries, features].
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    pub fn len(&self) -> usize {
        self.squared.len()
    }

    pub fn is_empty(&self) -> bool {
        self.squared.is_empty()
    }
}

/// The nearest rows so far of every query.
#[derive(Debug, Clone)]
pub struct Nearest {
    k: usize,
    found: Vec<Found>,
}

/// The nearest rows so far of one query, and further candidates.
#[derive(Debug, Clone)]
struct Found {
    /// In no order, less than twice as many as are wanted.
    near: Vec<Neighbor>,
    /// Squared distance beyond which a row is not wanted.
    limit: f64,
}

impl Found {
    fn insert(&mut self, k: usize, new: Neighbor) {
        if new.squared > self.limit || k == 0 {
            return;
        }
        self.near.push(new);
        // Once in a while for many, so that the time does not grow with the square of `k`.
        if self.near.len() >= 2 * k {
            self.near.select_nth_unstable_by(k - 1, Neighbor::order);
            self.near.truncate(k);
            self.limit = self.near[k - 1].squared;
        }
    }

    /// The `k` nearest, nearest first.
    fn into_sorted(mut self, k: usize) -> Vec<Neighbor> {
        self.near.sort_unstable_by(Neighbor::order);
        self.near.truncate(k);
        self.near
    }
}

impl Nearest {
    /// Nothing yet; up to `k` rows will be kept for each query.
    pub fn new(queries: usize, k: usize) -> Self {
        Self {
            k,
            found: vec![
                Found {
                    near: Vec::new(),
                    limit: f64::INFINITY
                };
                queries
            ],
        }
    }

    /// Compares some queries with a block of rows, the first of which has the index `first` among all.
    ///
    /// Panics if the numbers of features differ, or if a row is not contiguous in memory.
    pub fn offer(
        &mut self,
        queries: &Queries,
        chosen: &[usize],
        block: ArrayView2<'_, f32>,
        first: u64,
    ) {
        let squared: Vec<f64> = block.rows().into_iter().map(squared_length).collect();
        let halves: Vec<f32> = squared
            .iter()
            .map(|&squared| squared as f32 / 2.0)
            .collect();
        let longest = squared.iter().copied().fold(0.0, f64::max);
        for chosen in chosen.chunks(BATCH) {
            let together = queries.rows.select(Axis(0), chosen);
            let products = together.dot(&block.t());
            for (&query, products) in chosen.iter().zip(products.rows()) {
                let products = products.to_slice().expect("a product is contiguous");
                let request = Request {
                    row: queries.rows.row(query),
                    squared: queries.squared[query],
                    longest,
                };
                self.compare(query, &request, (products, &halves), block, first);
            }
        }
    }

    fn compare(
        &mut self,
        query: usize,
        request: &Request<'_>,
        (products, halves): (&[f32], &[f32]),
        block: ArrayView2<'_, f32>,
        first: u64,
    ) {
        let glances = products.chunks(BLOCK).zip(halves.chunks(BLOCK));
        for (at, (products, halves)) in glances.enumerate() {
            let bound = request.bound(self.found[query].limit);
            // Without branches, so that the compiler compares many at once.
            let may_be_near = |(product, half): (&f32, &f32)| product - half >= bound;
            let any = products.iter().zip(halves).map(may_be_near);
            if !any.fold(false, |any, near| any | near) {
                continue;
            }
            for (within, pair) in products.iter().zip(halves).enumerate() {
                if may_be_near(pair) {
                    let row = at * BLOCK + within;
                    let near = Neighbor {
                        squared: squared_distance(request.row, block.row(row)),
                        row: first + row as u64,
                    };
                    self.found[query].insert(self.k, near);
                }
            }
        }
    }

    /// What was found in either of two searches of the same queries.
    pub fn merge(mut self, other: Self) -> Self {
        for (found, other) in self.found.iter_mut().zip(other.found) {
            other
                .near
                .into_iter()
                .for_each(|new| found.insert(self.k, new));
        }
        self
    }

    /// Neighbors of every query, nearest first.
    pub fn into_found(self) -> Vec<Vec<Neighbor>> {
        let found = self.found.into_iter();
        found.map(|found| found.into_sorted(self.k)).collect()
    }
}

/// A query while it is compared with a block.
struct Request<'a> {
    row: ArrayView1<'a, f32>,
    squared: f64,
    /// Largest squared length in the block.
    longest: f64,
}

impl Request<'_> {
    /// A row at most this squared distance away has a product with the query, less half its own squared length, of at least this.
    fn bound(&self, limit: f64) -> f32 {
        // A product of n terms is wrong by n roundings at most, each a fraction of 2^-24 of the lengths.
        let rounding =
            (self.row.len() + 16) as f64 * 2f64.powi(-24) * (self.squared + self.longest);
        ((self.squared - limit) / 2.0 - rounding) as f32
    }
}

/// Sums run in this many lanes, which a processor adds at the same time.
const LANES: usize = 8;

fn squared_length(row: ArrayView1<'_, f32>) -> f64 {
    let row = row.to_slice().expect("rows are contiguous");
    sum_of_squares(row.len(), |at| f64::from(row[at]))
}

fn squared_distance(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f64 {
    let [a, b] = [a, b].map(|row| row.to_slice().expect("rows are contiguous"));
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum_of_squares(n, |at| f64::from(a[at]) - f64::from(b[at]))
}

/// In an order that depends on `n` alone.
#[inline(always)]
fn sum_of_squares(n: usize, value: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let value = value(start + lane);
            *sum += value * value;
        }
    }
    let rest: f64 = (whole..n).map(|at| value(at) * value(at)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::random::{Seed, normal_pair};

    /// Neighbors to find.
    const K: usize = 9;

    fn rows(n: usize, width: usize, length: f32) -> Array2<f32> {
        let mut stream = Seed(n as u64).stream("rows", &[]);
        Array2::from_shape_simple_fn((n, width), || normal_pair(&mut stream).0 as f32 * length)
    }

    fn by_definition(query: ArrayView1<f32>, rows: &Array2<f32>, k: usize) -> Vec<u64> {
        let mut all: Vec<(f64, u64)> = rows
            .rows()
            .into_iter()
            .zip(0..)
            .map(|(row, at)| (squared_distance(query, row), at))
            .collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all.into_iter().take(k).map(|(_, row)| row).collect()
    }

    #[test]
    fn the_nearest_are_those_of_the_definition_whatever_the_blocks() {
        for length in [1e-3, 1.0, 3e4] {
            let (mut reference, query_rows) = (rows(700, 23, length), rows(150, 23, length));
            // Equal rows far apart: the lower index comes first.
            let copy = reference.row(5).to_owned();
            reference.row_mut(600).assign(&copy);
            let queries = Queries::new(query_rows.clone());
            let chosen: Vec<usize> = (0..150).collect();
            for step in [1, 37, 700] {
                let mut parts = [Nearest::new(150, K), Nearest::new(150, K)];
                // Later blocks first, and two searches merged.
                for (turn, start) in (0..700)
                    .step_by(step)
                    .enumerate()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                {
                    let block = reference.slice(s![start..(start + step).min(700), ..]);
                    parts[turn % 2].offer(&queries, &chosen, block, start as u64);
                }
                let [a, b] = parts;
                let found = a.merge(b).into_found();
                for (query, found) in query_rows.rows().into_iter().zip(found) {
                    let found: Vec<u64> = found.iter().map(|near| near.row).collect();
                    assert_eq!(found, by_definition(query, &reference, K));
                }
            }
        }
    }

    #[test]
    fn nearly_all_rows_can_be_requested_in_order() {
        let (reference, query_rows) = (rows(700, 3, 1.0), rows(2, 3, 1.0));
        for k in [1, 2, 349, 350, 699] {
            let mut nearest = Nearest::new(2, k);
            nearest.offer(
                &Queries::new(query_rows.clone()),
                &[0, 1],
                reference.view(),
                0,
            );
            for (query, found) in query_rows.rows().into_iter().zip(nearest.into_found()) {
                let found: Vec<u64> = found.iter().map(|near| near.row).collect();
                assert_eq!(found, by_definition(query, &reference, k));
            }
        }
    }

    #[test]
    fn fewer_rows_than_wanted_are_all_rows_and_others_are_not_searched() {
        let reference = rows(3, 4, 1.0);
        let queries = Queries::new(reference.clone());
        let mut nearest = Nearest::new(3, 10);
        nearest.offer(&queries, &[1], reference.view(), 40);
        let found = nearest.into_found();
        assert_eq!(found[1].len(), 3);
        assert_eq!(
            found[1][0],
            Neighbor {
                squared: 0.0,
                row: 41
            }
        );
        assert!(found[0].is_empty() && found[2].is_empty());
    }
}
