//! Exact k nearest neighbors and their majority vote (docs/methods.md, "Nearest neighbors").
//!
//! Matrix products find the candidates, a block of queries at a time; candidates' distances are then computed one by
//! one in a fixed order, so that equal distances are equal, ties go to the lower index, and blocks and threads change nothing.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use rayon::prelude::*;
use tch::Tensor;

use super::{Error, require_finite, to_f64};

/// Distances held at a time (32 MB).
const BLOCK: usize = 1 << 22;

/// How far apart two cells are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Length of the difference.
    Euclidean,
    /// 1 - cosine of the angle; 1 from or to a row of zeros.
    Cosine,
}

/// Neighbors of each query, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Rows of the reference, [queries, k].
    pub indices: Array2<usize>,
    /// Their distances, [queries, k].
    pub distances: Array2<f64>,
}

/// Finds the `k` nearest reference rows of each query, or all of them if there are fewer.
///
/// Fails without reference rows, if the numbers of features differ, and on values that are not finite.
pub fn nearest<T: Copy + Into<f64>>(
    queries: ArrayView2<'_, T>,
    reference: ArrayView2<'_, T>,
    k: usize,
    metric: Metric,
) -> Result<Neighbors, Error> {
    if k == 0 {
        return Err(Error::Zero("neighbors"));
    }
    if reference.nrows() == 0 {
        return Err(Error::FewCells {
            what: "the reference for neighbors",
            needed: 1,
            found: 0,
        });
    }
    if queries.ncols() != reference.ncols() {
        let (found, expected) = (queries.ncols(), reference.ncols());
        return Err(Error::Columns {
            what: "the matrix of queries",
            found,
            expected,
        });
    }
    require_finite(queries)?;
    require_finite(reference)?;
    let search = Search::new(prepare(reference, metric), k.min(reference.nrows()), metric);
    search.run(&prepare(queries, metric))
}

/// Rows in f64, of unit length (or zero) for the cosine.
fn prepare<T: Copy + Into<f64>>(rows: ArrayView2<'_, T>, metric: Metric) -> Array2<f64> {
    let mut rows = to_f64(rows);
    if metric == Metric::Cosine {
        for mut row in rows.rows_mut() {
            let length = squared_length(row.view()).sqrt();
            if length > 0.0 {
                row.mapv_inplace(|value| value / length);
            }
        }
    }
    rows
}

fn squared_length(row: ArrayView1<'_, f64>) -> f64 {
    row.iter().map(|value| value * value).sum()
}

fn to_tensor(rows: ArrayView2<'_, f64>) -> Tensor {
    let (n, width) = rows.dim();
    let values = rows
        .as_slice()
        .expect("whole rows of a contiguous matrix are contiguous");
    Tensor::from_slice(values).view([n as i64, width as i64])
}

/// Prepared reference rows and the settings of a search.
struct Search {
    reference: Array2<f64>,
    squared_lengths: Array1<f64>,
    longest: f64,
    k: usize,
    metric: Metric,
}

impl Search {
    fn new(reference: Array2<f64>, k: usize, metric: Metric) -> Self {
        let squared_lengths: Array1<f64> =
            reference.rows().into_iter().map(squared_length).collect();
        let longest = squared_lengths.iter().copied().fold(0.0, f64::max);
        Self {
            reference,
            squared_lengths,
            longest,
            k,
            metric,
        }
    }

    fn run(&self, queries: &Array2<f64>) -> Result<Neighbors, Error> {
        let shape = (queries.nrows(), self.k);
        let mut found = Vec::with_capacity(queries.nrows());
        let transposed = to_tensor(self.reference.view()).transpose(0, 1);
        let step = (BLOCK / self.reference.nrows()).max(1);
        for start in (0..queries.nrows()).step_by(step) {
            let block = queries.slice(s![start..(start + step).min(queries.nrows()), ..]);
            let products = to_tensor(block)
                .f_matmul(&transposed)
                .and_then(|products| Vec::try_from(products.view(-1)));
            let products: Vec<f64> = products.map_err(|error| Error::Torch {
                what: "compare cells",
                message: error.to_string(),
            })?;
            let rows = products.par_chunks(self.reference.nrows()).enumerate();
            found.par_extend(rows.map(|(at, products)| self.nearest(block.row(at), products)));
        }
        let (indices, distances) = found
            .into_iter()
            .flatten()
            .map(|(distance, index)| (index, self.metric.finish(distance)))
            .unzip();
        Ok(Neighbors {
            indices: Array2::from_shape_vec(shape, indices).expect("every query has k neighbors"),
            distances: Array2::from_shape_vec(shape, distances)
                .expect("every query has k neighbors"),
        })
    }

    /// The k nearest rows of one query, from its products with all rows.
    fn nearest(&self, query: ArrayView1<'_, f64>, products: &[f64]) -> Vec<(f64, usize)> {
        let approximate: Vec<f64> = products
            .iter()
            .zip(&self.squared_lengths)
            .map(|(product, length)| length - 2.0 * product)
            .collect();
        let mut sorted = approximate.clone();
        let (_, &mut last, _) = sorted.select_nth_unstable_by(self.k - 1, f64::total_cmp);
        // Several times the largest rounding error of a product of this many terms, for this and the last row.
        let rounding =
            8.0 * f64::EPSILON * (query.len() + 8) as f64 * (squared_length(query) + self.longest);
        let candidates = (0..products.len()).filter(|&index| approximate[index] <= last + rounding);
        let mut candidates: Vec<(f64, usize)> = candidates
            .map(|index| (self.distance(query, index), index))
            .collect();
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        candidates.truncate(self.k);
        candidates
    }

    /// Squared length of the difference, or 1 - cosine.
    fn distance(&self, query: ArrayView1<'_, f64>, index: usize) -> f64 {
        let pairs = query.into_iter().zip(self.reference.row(index));
        match self.metric {
            Metric::Euclidean => pairs.map(|(a, b)| (a - b) * (a - b)).sum(),
            Metric::Cosine => (1.0 - pairs.map(|(a, b)| a * b).sum::<f64>()).max(0.0),
        }
    }
}

impl Metric {
    fn finish(self, distance: f64) -> f64 {
        if self == Self::Euclidean {
            distance.sqrt()
        } else {
            distance
        }
    }
}

/// The class most neighbors have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vote {
    pub class: u32,
    /// Fraction of the neighbors that have it.
    pub fraction: f64,
}

/// Takes the vote among neighbors' classes, given nearest first; none without neighbors.
///
/// Of classes with equally many votes, the one with the nearest neighbor wins.
pub fn vote(classes: impl IntoIterator<Item = u32>) -> Option<Vote> {
    let mut votes: Vec<(u32, usize)> = Vec::new();
    for class in classes {
        match votes.iter_mut().find(|(other, _)| *other == class) {
            Some((_, count)) => *count += 1,
            None => votes.push((class, 1)),
        }
    }
    let total: usize = votes.iter().map(|&(_, count)| count).sum();
    // The last of equal maxima is taken, so the order is turned around.
    let (class, count) = votes.into_iter().rev().max_by_key(|&(_, count)| count)?;
    Some(Vote {
        class,
        fraction: count as f64 / total as f64,
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn golden_embedding_reference_mapping() {
        let golden: serde_json::Value = serde_json::from_str(include_str!(
            "../../tests/data/embedding/reference_mapping.json"
        ))
        .unwrap();
        let stored = include_bytes!("../../tests/data/embedding/continuous_outputs.safetensors");
        let stored = SafeTensors::deserialize(stored).unwrap();
        let stored = stored.tensor("cell_embeddings_l2norm").unwrap();
        let values = stored
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let cells = Array2::from_shape_vec((30, 32), values.collect()).unwrap();
        let (reference, queries) = cells.view().split_at(ndarray::Axis(0), 20);
        for (k, name) in [(3, "k3"), (5, "k5"), (10, "k10")] {
            let found = nearest(queries, reference, k, Metric::Euclidean).unwrap();
            let cosine = nearest(queries, reference, k, Metric::Cosine).unwrap();
            assert_eq!(
                found.indices, cosine.indices,
                "unit vectors have the same neighbors in both metrics"
            );
            for query in 0..10 {
                let numbers = |field: &str| golden[name][field][query].as_array().unwrap().iter();
                let expected: Vec<usize> = numbers("neighbours")
                    .map(|n| n.as_u64().unwrap() as usize)
                    .collect();
                assert_eq!(found.indices.row(query).to_vec(), expected);
                for (distance, expected) in
                    found.distances.row(query).iter().zip(numbers("squared_l2"))
                {
                    // The original implementation has f32 distances between unit vectors.
                    assert!((distance * distance - expected.as_f64().unwrap()).abs() < 5e-7);
                }
                let label = |index: &usize| {
                    golden["labels"][*index].as_str().unwrap()[1..]
                        .parse()
                        .unwrap()
                };
                let winner = vote(expected.iter().map(label)).unwrap();
                let counts = golden[name]["votes"][query]
                    .as_object()
                    .unwrap()
                    .values()
                    .map(|n| n.as_u64().unwrap());
                let most = counts.clone().max().unwrap();
                assert_eq!(winner.fraction, most as f64 / k as f64);
                // The original implementation breaks ties by the order of the categories.
                if counts.filter(|&count| count == most).count() == 1 {
                    assert_eq!(
                        format!("T{}", winner.class),
                        golden[name]["predicted"][query].as_str().unwrap()
                    );
                }
            }
        }
    }

    #[test]
    fn equal_distances_go_to_the_lower_index_whatever_the_block() {
        let reference = Array2::from_shape_fn((1000, 37), |(row, column)| {
            ((row % 7 * 37 + column) as f64).sin()
        });
        let queries = reference.slice(s![..7, ..]);
        let found = nearest(queries, reference.view(), 4, Metric::Euclidean).unwrap();
        for query in 0..7 {
            assert_eq!(
                found.indices.row(query).to_vec(),
                [query, query + 7, query + 14, query + 21]
            );
            assert_eq!(found.distances.row(query).to_vec(), [0.0; 4]);
            let alone = nearest(
                queries.slice(s![query..=query, ..]),
                reference.view(),
                4,
                Metric::Euclidean,
            )
            .unwrap();
            assert_eq!(alone.indices.row(0), found.indices.row(query));
        }
        let by_column = reference.t().as_standard_layout().into_owned();
        assert_eq!(
            nearest(queries, by_column.t(), 4, Metric::Euclidean).unwrap(),
            found
        );
    }

    #[test]
    fn more_neighbors_than_cells_are_all_cells_and_zero_rows_are_far_in_cosine() {
        let reference = array![[0.0_f32, 0.0], [1.0, 1.0], [-1.0, 0.0]];
        let found = nearest(
            array![[3.0, 3.0], [0.0, 0.0]].view(),
            reference.view(),
            9,
            Metric::Cosine,
        )
        .unwrap();
        assert_eq!(found.indices, array![[1, 0, 2], [0, 1, 2]]);
        assert_eq!(found.distances.row(1), array![1.0, 1.0, 1.0]);
        let none = nearest(
            Array2::<f32>::zeros((0, 2)).view(),
            reference.view(),
            2,
            Metric::Euclidean,
        )
        .unwrap();
        assert_eq!(none.indices.dim(), (0, 2));
    }

    #[test]
    fn ties_of_votes_go_to_the_nearest() {
        assert_eq!(
            vote([4, 2, 2, 4, 9]),
            Some(Vote {
                class: 4,
                fraction: 0.4
            })
        );
        assert_eq!(
            vote([7, 2, 2]),
            Some(Vote {
                class: 2,
                fraction: 2.0 / 3.0
            })
        );
        assert_eq!(vote([]), None);
    }

    #[test]
    fn impossible_input_is_rejected() {
        let nearest = |q: Array2<f32>, r: Array2<f32>, k| {
            super::nearest(q.view(), r.view(), k, Metric::Cosine).unwrap_err()
        };
        assert_eq!(
            nearest(Array2::zeros((1, 2)), Array2::zeros((3, 2)), 0),
            Error::Zero("neighbors")
        );
        assert!(matches!(
            nearest(Array2::zeros((1, 2)), Array2::zeros((0, 2)), 1),
            Error::FewCells { .. }
        ));
        assert!(matches!(
            nearest(Array2::zeros((1, 2)), Array2::zeros((3, 4)), 1),
            Error::Columns { .. }
        ));
        assert!(matches!(
            nearest(array![[f32::INFINITY]], array![[0.0]], 1),
            Error::NotFinite { .. }
        ));
    }
}
