//! Control matching: the control cell, or mean of control cells, that a perturbed cell is compared with.
//!
//! Measurement destroys a cell, so its unperturbed state is unknown. Controls of the same stratum (batch, cell type) replace it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::ArrayView2;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::{self, Seed};

/// Control matching: the unperturbed expression of a perturbed cell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// A random control cell of the same stratum, drawn anew in every epoch.
    #[default]
    Random,
    /// The most similar control cell of the same stratum.
    Nearest,
    /// The mean of the control cells of the same stratum.
    Mean,
}

/// Control cells by stratum, such as the same batch and cell type.
#[derive(Debug, Clone, PartialEq)]
pub struct Controls {
    /// Not empty, increasing.
    all: Vec<usize>,
    /// Increasing; strata without controls are dropped.
    of_stratum: BTreeMap<u32, Vec<usize>>,
    without: usize,
}

impl Controls {
    /// `strata[c]` is the stratum of every cell, `controls` are indices of cells. None if there are no controls.
    ///
    /// A stratum without control cells falls back on all controls; indices beyond the cells are dropped.
    pub fn new(controls: &[usize], strata: &[u32]) -> Option<Self> {
        let known = controls.iter().filter(|&&cell| cell < strata.len());
        let all: Vec<usize> = BTreeSet::from_iter(known.copied()).into_iter().collect();
        let mut of_stratum: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &cell in &all {
            of_stratum.entry(strata[cell]).or_default().push(cell);
        }
        let without = BTreeSet::from_iter(strata).len() - of_stratum.len();
        let controls = Self {
            all,
            of_stratum,
            without,
        };
        (!controls.all.is_empty()).then_some(controls)
    }

    /// Number of strata that have cells but no control cells.
    pub fn without(&self) -> usize {
        self.without
    }

    /// Controls of the stratum, or all if it has none; increasing, never empty.
    pub fn of(&self, stratum: u32) -> &[usize] {
        self.of_stratum.get(&stratum).unwrap_or(&self.all)
    }

    /// A random control of the stratum, each equally likely: a function of seed, draw (such as the epoch) and cell alone.
    pub fn random(&self, cell: u64, stratum: u32, draw: u64, seed: Seed) -> usize {
        let controls = self.of(stratum);
        let mut stream = seed.stream("control of a cell", &[draw, cell]);
        controls[random::below(&mut stream, controls.len())]
    }
}

/// For each of `cells` the nearest control of its stratum: the shortest Euclidean distance in the coordinates `[cells, k]`, such
/// as principal components computed without the responding genes. Ties go to the lower index, and a control is its own nearest.
///
/// A distance that is not a number counts as infinite. Indices must lie within `coordinates` and `strata`.
pub fn nearest(
    coordinates: ArrayView2<'_, f64>,
    cells: &[usize],
    controls: &Controls,
    strata: &[u32],
) -> Vec<usize> {
    let rows = coordinates.as_standard_layout();
    let values = rows.as_slice().unwrap_or_default();
    let width = coordinates.ncols();
    let row = |cell: usize| &values[cell * width..(cell + 1) * width];
    let partner = |&cell: &usize| closest(row(cell), controls.of(strata[cell]), row);
    cells.par_iter().map(partner).collect()
}

/// The first of the candidates with the least distance; the first of all if no distance is finite.
fn closest<'a>(from: &[f64], candidates: &[usize], row: impl Fn(usize) -> &'a [f64]) -> usize {
    let mut best = (candidates[0], f64::INFINITY);
    for &candidate in candidates {
        let distance = squared_distance(from, row(candidate), best.1);
        if distance < best.1 {
            best = (candidate, distance);
        }
    }
    best.0
}

/// Values between two checks of the sum.
const CHUNK: usize = 8;

/// Squared distance. Stops early with some number not below `limit` if the distance is not below it: sums of squares only grow.
fn squared_distance(a: &[f64], b: &[f64], limit: f64) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        let mut squares = [0.0; CHUNK];
        for (square, (a, b)) in squares.iter_mut().zip(a.iter().zip(b)) {
            *square = (a - b) * (a - b);
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = squares;
        sum += ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7));
        if sum >= limit {
            return sum;
        }
    }
    sum
}

/// Strata from any number of label columns: cells with equal labels in all columns are one stratum.
///
/// A missing label, or one beyond the end of a column, is a value of its own. Strata are numbered from 0 in order of their first
/// cells. Without columns all cells are one stratum.
pub fn strata(columns: &[Vec<Option<String>>], n_cells: usize) -> Vec<u32> {
    let mut strata = vec![0; n_cells];
    for column in columns {
        let mut known: HashMap<(u32, Option<&str>), u32> = HashMap::new();
        for (cell, stratum) in strata.iter_mut().enumerate() {
            let label = column.get(cell).and_then(Option::as_deref);
            let next = known.len() as u32;
            *stratum = *known.entry((*stratum, label)).or_insert(next);
        }
    }
    strata
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn cloud(cells: usize, width: usize) -> Array2<f64> {
        let mut stream = Seed(3).stream("cloud", &[]);
        Array2::from_shape_simple_fn((cells, width), || random::normal_pair(&mut stream).0)
    }

    fn controls(cells: &[usize], strata: &[u32]) -> Controls {
        Controls::new(cells, strata).expect("there are controls")
    }

    #[test]
    fn strata_without_controls_use_all() {
        let found = controls(&[4, 0, 1, 4, 99], &[0, 7, 2, 2, 0, 5]);
        assert_eq!(found.of(0), [0, 4]);
        assert_eq!(found.of(7), [1]);
        assert_eq!(found.of(2), [0, 1, 4]);
        assert_eq!(found.of(1234), [0, 1, 4]);
        assert_eq!(found.without(), 2);
        assert_eq!(Controls::new(&[], &[0, 1]), None);
        assert_eq!(Controls::new(&[9], &[0, 1]), None);
    }

    #[test]
    fn draws_are_even_and_depend_on_seed_draw_and_cell_alone() {
        let strata: Vec<u32> = (0..20).map(|cell| cell % 2).collect();
        let found = controls(&[0, 2, 4, 6, 8, 1], &strata);
        let mut seen = [0; 20];
        for cell in 0..5000 {
            seen[found.random(cell, 0, 3, Seed(1))] += 1;
        }
        // 1,000 expected each; five standard deviations are about 140.
        assert!(
            [0, 2, 4, 6, 8]
                .iter()
                .all(|&i| (860..1140).contains(&seen[i]))
        );
        assert_eq!(found.random(5, 1, 0, Seed(1)), 1);
        let all = |draw, seed| {
            let one = |cell| found.random(cell, 0, draw, Seed(seed));
            (0..100).map(one).collect::<Vec<_>>()
        };
        assert_eq!(all(0, 1), all(0, 1));
        assert_ne!(all(0, 1), all(1, 1));
        assert_ne!(all(0, 1), all(0, 2));
    }

    /// The definition, without any shortcut.
    fn plainly(points: &Array2<f64>, cell: usize, candidates: &[usize]) -> usize {
        let distance = |&c: &usize| {
            let difference = &points.row(cell) - &points.row(c);
            difference.dot(&difference)
        };
        let order = |a: &&usize, b: &&usize| distance(a).total_cmp(&distance(b));
        *candidates.iter().min_by(order).expect("candidates")
    }

    #[test]
    fn the_nearest_control_of_the_stratum_is_found() {
        for width in [1, 3, 8, 21] {
            let points = cloud(300, width);
            let strata: Vec<u32> = (0..300).map(|cell| cell % 3).collect();
            let chosen: Vec<usize> = (0..300).filter(|c| c % 3 != 2 && c % 4 == 0).collect();
            let found = controls(&chosen, &strata);
            let cells: Vec<usize> = (0..300).rev().collect();
            let partners = nearest(points.view(), &cells, &found, &strata);
            for (&cell, &partner) in cells.iter().zip(&partners) {
                assert_eq!(partner, plainly(&points, cell, found.of(strata[cell])));
            }
            let columns = points.t().as_standard_layout().into_owned();
            assert_eq!(nearest(columns.t(), &cells, &found, &strata), partners);
        }
    }

    #[test]
    fn ties_go_to_the_lower_index_and_odd_values_do_no_harm() {
        let strata = [0; 5];
        let found = controls(&[3, 1, 2], &strata);
        let equal = Array2::zeros((5, 2));
        assert_eq!(nearest(equal.view(), &[0, 3, 4], &found, &strata), [1; 3]);
        let no_columns = Array2::zeros((5, 0));
        assert_eq!(nearest(no_columns.view(), &[4], &found, &strata), [1]);
        let mut odd = Array2::zeros((5, 1));
        (odd[[1, 0]], odd[[2, 0]]) = (f64::NAN, f64::INFINITY);
        assert_eq!(nearest(odd.view(), &[0, 1], &found, &strata), [3, 1]);
    }

    #[test]
    fn threads_change_nothing() {
        let points = cloud(200, 5);
        let strata = vec![0; 200];
        let found = controls(&(0..60).collect::<Vec<_>>(), &strata);
        let cells: Vec<usize> = (60..200).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().expect("threads");
            pool.install(|| nearest(points.view(), &cells, &found, &strata))
        };
        assert_eq!(with(1), with(8));
    }

    #[test]
    fn strata_are_combinations_of_labels() {
        let column = |labels: &[&str]| -> Vec<Option<String>> {
            let label = |text: &&str| (*text != "-").then(|| (*text).to_owned());
            labels.iter().map(label).collect()
        };
        let batch = column(&["b", "a", "b", "-", "a", "-"]);
        let class = column(&["x", "x", "y", "x", "x"]);
        assert_eq!(strata(&[batch.clone(), class], 6), [0, 1, 2, 3, 1, 4]);
        assert_eq!(strata(&[batch], 6), [0, 1, 0, 2, 1, 2]);
        assert_eq!(strata(&[], 3), [0, 0, 0]);
        // Texts that would join to the same must not be taken for the same.
        let (left, right) = (column(&["a", "ab"]), column(&["bc", "c"]));
        assert_eq!(strata(&[left, right], 2), [0, 1]);
    }
}
