//! Highly variable genes, with or without batches (docs/methods.md, "Highly variable genes").
//!
//! The selection uses the matrix it is given: raw counts for [`Flavor::SeuratV3`], log-normalized values for
//! [`Flavor::CellRanger`]. All sums are f64 and in cell order, so the result does not depend on the number of threads.
//! Equal scores are ranked in column order.

mod cell_ranger;
mod columns;
mod loess;
mod seurat_v3;

use columns::{Columns, Groups};

use super::{Error, require_non_negative};
use crate::counts::Counts;

/// How variability is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// Variance of standardized raw counts, after removing its trend with the mean (Stuart et al. 2019).
    SeuratV3,
    /// Dispersion (variance over mean) of log-normalized values, compared among genes of similar mean (Zheng et al. 2017).
    CellRanger,
}

/// The genes kept and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Columns kept, increasing.
    pub kept: Vec<usize>,
    /// One entry per gene of the matrix.
    pub statistics: Vec<Statistics>,
}

/// How variable one gene is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Statistics {
    /// Mean value. With cell_ranger, 1e-12 instead of 0, and the average over batches.
    pub mean: f64,
    /// Variance (seurat_v3), or variance over mean, averaged over batches (cell_ranger).
    pub spread: f64,
    /// The spread relative to genes of similar mean, averaged over batches; not a number where such genes do not differ.
    pub normalized_spread: f64,
    /// Median of the gene's ranks (from 0) in batches where it is among the genes wanted; only seurat_v3 ranks.
    pub rank: Option<f64>,
    /// Number of batches in which the gene is among the genes wanted.
    pub n_batches: u32,
}

/// Chooses the `wanted` most variable genes, all of them if there are fewer.
///
/// `batches` gives a code for each cell; genes are then scored in each batch and the scores merged. With cell_ranger
/// and no batches, genes tied with the last one are kept too. Fails on negative values, fewer than two cells, no genes, or
/// a batch of a single cell.
pub fn select_genes(
    counts: &Counts,
    wanted: usize,
    flavor: Flavor,
    batches: Option<&[u32]>,
) -> Result<Selection, Error> {
    require_non_negative(counts)?;
    if wanted == 0 {
        return Err(Error::NoneWanted);
    }
    if counts.n_genes == 0 {
        return Err(Error::NoGenes);
    }
    let groups = groups(counts.n_cells(), batches)?;
    let columns = Columns::from_counts(counts);
    let wanted = wanted.min(counts.n_genes);
    Ok(match flavor {
        Flavor::SeuratV3 => seurat_v3::select(&columns, &groups, wanted),
        Flavor::CellRanger if batches.is_none() => cell_ranger::select(&columns, &groups, wanted),
        Flavor::CellRanger => cell_ranger::select_by_batch(&columns, &groups, wanted),
    })
}

fn groups(n_cells: usize, batches: Option<&[u32]>) -> Result<Groups, Error> {
    if n_cells < 2 {
        return Err(Error::FewCells { cells: n_cells });
    }
    let Some(codes) = batches else {
        return Ok(Groups::single(n_cells));
    };
    if codes.len() != n_cells {
        return Err(Error::BatchLabels {
            batches: codes.len(),
            cells: n_cells,
        });
    }
    let (groups, codes) = Groups::from_codes(codes);
    match groups.sizes.iter().position(|&size| size < 2) {
        Some(small) => Err(Error::SmallBatch { code: codes[small] }),
        None => Ok(groups),
    }
}

/// The middle value, or the mean of the two middle ones; `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// The first `wanted` genes in the given order, sorted by column.
fn first(order: Vec<usize>, wanted: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = order.into_iter().take(wanted).collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::expression::filter::genes_by_total;
    use crate::expression::golden;
    use crate::expression::normalize::{Target, log1p, normalize_total};

    /// The golden table as columns of text by name, gene order as in the matrix.
    fn table(name: &str) -> HashMap<String, Vec<String>> {
        let text = golden::text(name);
        let mut rows = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
        let names = rows.next().unwrap();
        let rows: Vec<_> = rows.collect();
        let column = |at: usize| rows.iter().map(|row| row[at].clone()).collect();
        names
            .into_iter()
            .enumerate()
            .map(|(at, name)| (name, column(at)))
            .collect()
    }

    fn assert_close(expected: &[String], actual: impl Iterator<Item = f64>, what: &str) {
        // The table has ten digits, but the original implementation rounds dispersions to f32, which the division by the median
        // deviation of genes of similar mean amplifies.
        let tolerance = if what == "dispersions_norm" {
            2e-5
        } else {
            1e-7
        };
        for (gene, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            let expected: f64 = expected.parse().unwrap_or(f64::NAN);
            let close = (expected - actual).abs() <= tolerance * expected.abs().max(1.0);
            assert!(
                close || expected.is_nan() && actual.is_nan(),
                "{what} of gene {gene}: {actual} is not {expected}"
            );
        }
    }

    fn assert_matches(
        selection: &Selection,
        table: &HashMap<String, Vec<String>>,
        [spread, normalized]: [&str; 2],
    ) {
        let statistics = || selection.statistics.iter();
        assert_eq!(statistics().len(), 133);
        assert_close(&table["means"], statistics().map(|gene| gene.mean), "mean");
        assert_close(&table[spread], statistics().map(|gene| gene.spread), spread);
        assert_close(
            &table[normalized],
            statistics().map(|gene| gene.normalized_spread),
            normalized,
        );
        if let Some(ranks) = table.get("highly_variable_rank") {
            assert_close(
                ranks,
                statistics().map(|gene| gene.rank.unwrap_or(f64::NAN)),
                "rank",
            );
        }
        if let Some(n_batches) = table.get("highly_variable_nbatches") {
            assert_close(
                n_batches,
                statistics().map(|gene| f64::from(gene.n_batches)),
                "batches",
            );
        }
        let chosen = |gene: &usize| table["highly_variable"][*gene] == "True";
        assert_eq!(selection.kept, (0..133).filter(chosen).collect::<Vec<_>>());
        assert_eq!(selection.kept.len(), 40);
    }

    fn filtered() -> Counts {
        let counts = golden::counts();
        counts.select_genes(&genes_by_total(&counts, 3.0))
    }

    fn log_normalized() -> Counts {
        let mut counts = filtered();
        normalize_total(&mut counts, Target::Sum(1e4)).unwrap();
        log1p(&mut counts).unwrap();
        counts
    }

    #[test]
    fn golden_preprocessing_hvg_seurat_v3() {
        let (counts, batches) = (filtered(), golden::batches());
        let columns = ["variances", "variances_norm"];
        let single = select_genes(&counts, 40, Flavor::SeuratV3, None).unwrap();
        assert_matches(&single, &table("hvg_seurat_v3_nobatch.tsv"), columns);
        let batched = select_genes(&counts, 40, Flavor::SeuratV3, Some(&batches)).unwrap();
        assert_matches(&batched, &table("hvg_seurat_v3_batch.tsv"), columns);
    }

    #[test]
    fn golden_preprocessing_hvg_cell_ranger() {
        let (counts, batches) = (log_normalized(), golden::batches());
        let columns = ["dispersions", "dispersions_norm"];
        let single = select_genes(&counts, 40, Flavor::CellRanger, None).unwrap();
        assert_matches(&single, &table("hvg_cell_ranger_nobatch.tsv"), columns);
        let batched = select_genes(&counts, 40, Flavor::CellRanger, Some(&batches)).unwrap();
        assert_matches(&batched, &table("hvg_cell_ranger_batch.tsv"), columns);
    }

    #[test]
    fn one_batch_of_all_cells_ranks_as_no_batches_do() {
        let counts = golden::counts();
        let batched = select_genes(&counts, 40, Flavor::SeuratV3, Some(&[7; 60])).unwrap();
        assert_eq!(
            batched,
            select_genes(&counts, 40, Flavor::SeuratV3, None).unwrap()
        );
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (counts, batches) = (golden::counts(), golden::batches());
        let select = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| select_genes(&counts, 40, Flavor::SeuratV3, Some(&batches)).unwrap())
        };
        assert_eq!(format!("{:?}", select(1)), format!("{:?}", select(5)));
    }

    #[test]
    fn odd_matrices_give_a_result() {
        let equal = Counts::from_rows(4, (0..6).map(|_| (0..4).map(|gene| (gene, 2.0))));
        let zero = Counts::from_rows(3, (0..5).map(|_| Vec::new()));
        let tiny = Counts::from_rows(
            3,
            [
                vec![(0, 1.0)],
                vec![(1, 4.0)],
                vec![(0, 2.0), (2, 1.0)],
                vec![(2, 9.0)],
            ],
        );
        let ties = Counts::from_rows(9, (0..9).map(|cell| [(cell, 1.0)]));
        for counts in [equal, zero, tiny, ties] {
            let codes: Vec<u32> = (0..counts.n_cells())
                .map(|cell| if cell < 2 { 9 } else { 3 })
                .collect();
            for flavor in [Flavor::SeuratV3, Flavor::CellRanger] {
                for batches in [None, Some(&codes[..])] {
                    for wanted in [1, 2, 100] {
                        let selection = select_genes(&counts, wanted, flavor, batches).unwrap();
                        assert!(
                            selection.kept.len() >= wanted.min(counts.n_genes),
                            "{selection:?}"
                        );
                        assert!(
                            selection.kept.is_sorted() && selection.kept.len() <= counts.n_genes
                        );
                        assert_eq!(selection.statistics.len(), counts.n_genes);
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_requests_are_rejected() {
        let counts = Counts::from_rows(2, [vec![(0, 1.0)], vec![(1, 2.0)], vec![(1, 1.0)]]);
        let select = |counts: &Counts, wanted, batches| {
            select_genes(counts, wanted, Flavor::SeuratV3, batches).unwrap_err()
        };
        assert_eq!(select(&counts, 0, None), Error::NoneWanted);
        assert_eq!(
            select(&counts, 1, Some(&[0, 1])),
            Error::BatchLabels {
                batches: 2,
                cells: 3
            }
        );
        assert_eq!(
            select(&counts, 1, Some(&[5, 8, 5])),
            Error::SmallBatch { code: 8 }
        );
        assert_eq!(
            select(&counts.select_cells(&[0]), 1, None),
            Error::FewCells { cells: 1 }
        );
        assert_eq!(select(&counts.select_genes(&[]), 1, None), Error::NoGenes);
        let negative = Counts::from_rows(1, [[(0, 1.0)], [(0, -1.0)]]);
        assert_eq!(
            select(&negative, 1, None),
            Error::Negative {
                cell: 1,
                gene: 0,
                value: -1.0
            }
        );
    }
}
