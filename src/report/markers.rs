//! Marker genes of groups of cells: Welch's t-test of each group against the other cells, over all cells, block by block.
//!
//! Values are log1p of counts normalized to 10,000 per cell.

use std::collections::HashSet;
use std::path::Path;

use ndarray::Array2;

use crate::analysis::student::two_sided;
use crate::cells::{self, Cells};
use crate::expression::normalize::{Target, log1p, normalize_total};

/// Stored values read at a time.
const BLOCK: usize = 4_000_000;
/// Maximum number of groups; the largest are compared.
pub const MOST_GROUPS: usize = 60;
/// Minimum number of cells of a group.
pub const FEWEST: usize = 3;
/// Maximum number of values (groups x genes).
const MOST_VALUES: usize = 50_000_000;

/// A marker gene of a group.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    pub gene: usize,
    /// Welch's t.
    pub score: f64,
    /// Two-sided, Bonferroni-corrected.
    pub p_value: f64,
    /// Of the means, back-transformed by expm1.
    pub log2_fold_change: f64,
}

/// Numbers of excluded cells and groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Cells without a group.
    pub cells: usize,
    /// Groups of fewer than [`FEWEST`] cells.
    pub small: usize,
    /// Groups beyond the [`MOST_GROUPS`] largest.
    pub beyond: usize,
}

/// Expression by group.
#[derive(Debug)]
pub struct Markers {
    pub genes: Vec<String>,
    pub groups: Vec<String>,
    /// Cells of each group.
    pub sizes: Vec<usize>,
    /// Mean log-normalized expression, [groups, genes].
    pub means: Array2<f64>,
    /// Fraction of cells that express the gene, [groups, genes].
    pub fractions: Array2<f64>,
    squares: Array2<f64>,
    /// Excluded cells and groups.
    pub excluded: Excluded,
    /// Matrix of the file, and type of its values.
    pub matrix: String,
}

impl Markers {
    /// Reads the cells of a file; `codes` are their groups. None if fewer than two groups have enough cells.
    pub fn compute(
        path: &Path,
        names: &[String],
        codes: &[Option<u32>],
    ) -> anyhow::Result<Option<Self>> {
        let (kept, excluded) = largest(names, codes);
        if kept.len() < 2 {
            return Ok(None);
        }
        let index_of: Vec<Option<usize>> = (0..names.len())
            .map(|at| kept.binary_search(&at).ok())
            .collect();
        let cells = Cells::open(path, &cells::Options::default(), None)?;
        let mut seen = HashSet::new();
        let genes: Vec<String> = cells
            .genes
            .iter()
            .filter(|gene| seen.insert(gene.as_str()))
            .cloned()
            .collect();
        let shape = (kept.len(), genes.len());
        anyhow::ensure!(
            shape.0 * shape.1 <= MOST_VALUES,
            "{} groups by {} genes exceed the supported size",
            shape.0,
            shape.1
        );
        anyhow::ensure!(
            codes.len() == cells.n_cells(),
            "{} cells are annotated, but the matrix has {}",
            codes.len(),
            cells.n_cells()
        );
        let columns = cells.columns(&genes)?;
        let mut markers = Self {
            genes,
            groups: kept.iter().map(|&at| names[at].clone()).collect(),
            sizes: vec![0; kept.len()],
            means: Array2::zeros(shape),
            fractions: Array2::zeros(shape),
            squares: Array2::zeros(shape),
            excluded,
            matrix: format!("matrix {}, {}", cells.source, cells.judgment.state),
        };
        for block in cells.blocks(BLOCK)? {
            let mut counts = cells.read_linear(block.clone(), &columns)?;
            normalize_total(&mut counts, Target::Sum(1e4))?;
            log1p(&mut counts)?;
            for (cell, row) in block.zip(counts.rows()) {
                if let Some(group) = codes[cell].and_then(|code| index_of[code as usize]) {
                    markers.add(group, row);
                }
            }
        }
        markers.divide();
        Ok(Some(markers))
    }

    /// Adds a cell to the sums of its group.
    fn add(&mut self, group: usize, (genes, values): (&[u32], &[f32])) {
        self.sizes[group] += 1;
        for (&gene, &value) in genes.iter().zip(values).filter(|(_, value)| **value > 0.0) {
            let (at, value) = ((group, gene as usize), f64::from(value));
            self.means[at] += value;
            self.squares[at] += value * value;
            self.fractions[at] += 1.0;
        }
    }

    /// Divides the sums by the sizes of the groups.
    fn divide(&mut self) {
        for (group, &size) in self.sizes.iter().enumerate() {
            for sums in [&mut self.means, &mut self.fractions] {
                sums.row_mut(group)
                    .mapv_inplace(|sum| sum / size.max(1) as f64);
            }
        }
    }

    /// The genes with higher expression in a group than in the others, by t statistic.
    pub fn of(&self, group: usize, most: usize) -> Vec<Marker> {
        let mut markers: Vec<Marker> = (0..self.genes.len())
            .map(|gene| self.marker(group, gene))
            .filter(|marker| marker.score > 0.0)
            .collect();
        markers.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.gene.cmp(&b.gene)));
        markers.truncate(most);
        markers
    }

    fn marker(&self, group: usize, gene: usize) -> Marker {
        let all: usize = self.sizes.iter().sum();
        let n = self.sizes[group] as f64;
        let rest = all as f64 - n;
        let sum_of = |g: usize| self.means[(g, gene)] * self.sizes[g] as f64;
        let others = (0..self.groups.len()).filter(|&other| other != group);
        let (sum, square) = others.fold((0.0, 0.0), |(sum, square), other| {
            (sum + sum_of(other), square + self.squares[(other, gene)])
        });
        let (mean, rest_mean) = (self.means[(group, gene)], sum / rest);
        let variance =
            |square: f64, mean: f64, n: f64| ((square - n * mean * mean) / (n - 1.0)).max(0.0) / n;
        let (a, b) = (
            variance(self.squares[(group, gene)], mean, n),
            variance(square, rest_mean, rest),
        );
        let score = if a + b > 0.0 {
            (mean - rest_mean) / (a + b).sqrt()
        } else {
            0.0
        };
        let freedom = (a + b).powi(2) / (a * a / (n - 1.0) + b * b / (rest - 1.0));
        let p_value = if freedom.is_finite() && freedom > 0.0 {
            two_sided(score, freedom)
        } else {
            1.0
        };
        Marker {
            gene,
            score,
            p_value: (p_value * self.genes.len() as f64).min(1.0),
            log2_fold_change: ((mean.exp_m1() + 1e-9) / (rest_mean.exp_m1() + 1e-9)).log2(),
        }
    }

    /// Indices of the named genes.
    pub fn find(&self, names: &[String]) -> Vec<usize> {
        names
            .iter()
            .filter_map(|name| self.genes.iter().position(|gene| gene == name))
            .collect()
    }

    /// The top genes of each group that are not among those of previous groups.
    pub fn distinct(&self, each: usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        for group in 0..self.groups.len() {
            let mut candidates = self.of(group, each.max(10) * 10);
            // Ubiquitous genes may differ significantly but are not specific.
            candidates.sort_by_key(|marker| marker.log2_fold_change < 1.0);
            let new: Vec<usize> = candidates
                .iter()
                .map(|marker| marker.gene)
                .filter(|gene| !chosen.contains(gene))
                .take(each)
                .collect();
            chosen.extend(new);
        }
        chosen
    }
}

/// The groups to compare, in their order, and the excluded cells and groups.
fn largest(names: &[String], codes: &[Option<u32>]) -> (Vec<usize>, Excluded) {
    let mut sizes = vec![0; names.len()];
    codes
        .iter()
        .flatten()
        .for_each(|&code| sizes[code as usize] += 1);
    let mut kept: Vec<usize> = (0..names.len()).filter(|&at| sizes[at] >= FEWEST).collect();
    let excluded = Excluded {
        cells: codes.iter().filter(|code| code.is_none()).count(),
        small: sizes
            .iter()
            .filter(|size| (1..FEWEST).contains(*size))
            .count(),
        beyond: kept.len().saturating_sub(MOST_GROUPS),
    };
    kept.sort_by_key(|&at| std::cmp::Reverse(sizes[at]));
    kept.truncate(MOST_GROUPS);
    kept.sort_unstable();
    (kept, excluded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::differential::{Test, differences};
    use crate::counts::Counts;
    use crate::formats::h5ad;

    #[test]
    fn excluded_groups_are_counted() {
        // Group g has g cells, and one cell has no group.
        let codes: Vec<Option<u32>> = (0..70_u32)
            .flat_map(|group| vec![Some(group); group as usize])
            .chain([None])
            .collect();
        let names: Vec<String> = (0..70).map(|group| group.to_string()).collect();
        let (kept, excluded) = largest(&names, &codes);
        assert_eq!(kept, (10..70).collect::<Vec<_>>());
        let (cells, small, beyond) = (1, 2, 7);
        let expected = Excluded {
            cells,
            small,
            beyond,
        };
        assert_eq!(excluded, expected);
    }

    #[test]
    fn markers_are_those_of_welchs_test_on_all_cells() {
        let row = |cell: usize| {
            (0..5_u32).map(move |gene| {
                (
                    gene,
                    ((cell * 7 + gene as usize * 3) % 5) as f32
                        + if cell % 3 == gene as usize { 6.0 } else { 0.0 },
                )
            })
        };
        let mut counts = Counts::from_rows(5, (0..60).map(row));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cells.h5ad");
        let names =
            |n: usize, kind: &str| (0..n).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
        h5ad::create(
            &path,
            &h5ad::Cells::new(&counts, &names(60, "c"), &names(5, "g")),
        )
        .unwrap();
        let codes: Vec<Option<u32>> = (0..60).map(|cell| Some(cell % 3)).collect();
        let markers = Markers::compute(&path, &names(3, "t"), &codes)
            .unwrap()
            .unwrap();
        normalize_total(&mut counts, Target::Sum(1e4)).unwrap();
        log1p(&mut counts).unwrap();
        for group in 0..3 {
            let (own, others): (Vec<usize>, Vec<usize>) =
                (0..60).partition(|cell| cell % 3 == group);
            let expected = differences(&counts, &own, &others, Test::TTest).unwrap();
            assert_eq!(markers.of(group, 1)[0].gene, group);
            for marker in markers.of(group, 5) {
                let expected = expected[marker.gene];
                assert!(
                    (marker.score - expected.score).abs() < 1e-6 * expected.score.abs().max(1.0),
                    "{marker:?} {expected:?}"
                );
                assert!((marker.log2_fold_change - expected.log2_fold_change).abs() < 1e-6);
                assert!((marker.p_value - (expected.p_value * 5.0).min(1.0)).abs() < 1e-9);
            }
        }
    }
}
