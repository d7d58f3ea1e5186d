//! Inverted lists: rows near one centroid each, so that a search reads only some rows (inverted file, Sivic and Zisserman 2003).

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::kmeans::kmeans;
use super::search::{Nearest, Queries};
use super::to_f64;
use crate::random::Seed;

/// Iterations of k-means; more move the centroids little.
const ROUNDS: usize = 10;
/// Rows compared with the centroids by one task at most, and neighbors that a task holds.
const TASK: usize = 512;
const HELD: usize = 1 << 20;

/// Trains the centroids of the inverted lists on some rows, [lists, features]; there must be a row, and all must be finite.
pub fn learn(rows: ArrayView2<'_, f32>, lists: usize, seed: Seed) -> Array2<f32> {
    let found = kmeans(
        to_f64(rows).view(),
        lists.min(rows.nrows()),
        1,
        ROUNDS,
        seed,
    );
    found.mapv(|value| value as f32)
}

/// The `probes` lists whose centroids are nearest to each row, nearest first, the first of equally near ones.
pub fn nearest(
    centroids: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f32>,
    probes: usize,
) -> Vec<Vec<usize>> {
    let task = (HELD / probes.max(1)).clamp(1, TASK);
    let parts: Vec<_> = rows.axis_chunks_iter(Axis(0), task).collect();
    let of = |part: ArrayView2<'_, f32>| {
        let queries = Queries::new(part.to_owned());
        let mut nearest = Nearest::new(queries.len(), probes);
        let all: Vec<usize> = (0..queries.len()).collect();
        nearest.offer(&queries, &all, centroids, 0);
        let found = nearest.into_found().into_iter();
        found
            .map(|found| found.iter().map(|near| near.row as usize).collect())
            .collect::<Vec<_>>()
    };
    parts.into_par_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::on_threads;

    #[test]
    fn every_group_gets_a_list_whatever_the_threads() {
        let rows = Array2::from_shape_fn((900, 3), |(row, column)| {
            (if row % 3 == column { 10.0 } else { 0.0 }) + ((row * 7 + column) as f32).sin() / 10.0
        });
        let find = || {
            let centroids = learn(rows.view(), 3, Seed(1));
            (nearest(centroids.view(), rows.view(), 2), centroids)
        };
        let (lists, centroids) = on_threads(1, find);
        assert_eq!((lists.clone(), centroids), on_threads(3, find));
        for row in 0..900 {
            assert_eq!(lists[row].len(), 2);
            assert_eq!(lists[row][0], lists[row % 3][0]);
        }
        assert!(lists[0][0] != lists[1][0] && lists[1][0] != lists[2][0]);
        assert_eq!(
            learn(rows.view().split_at(Axis(0), 2).0, 5, Seed(1)).nrows(),
            2
        );
    }
}
