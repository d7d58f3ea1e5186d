//! Activity of gene programs in cells: their mean expression beyond that of control genes, as scanpy's `score_genes`.
//!
//! Tirosh et al. 2016 (Science 352:189). Genes are ranked by mean expression and cut into bins; of every bin that holds a gene of
//! the program, up to 50 genes are drawn, and those outside the program are its controls. scanpy draws with NumPy, this module
//! with streams of its own: scores are equal where no bin has more genes than are drawn, and up to the draw elsewhere.
//!
//! Cells may come in blocks, twice: once for the means ([`GeneMeans`]), once to be scored ([`Scorer`]).

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis};
use rayon::prelude::*;

use super::Error;
use crate::counts::Counts;
use crate::random::{Seed, sample};

/// Mean expression of each gene, over blocks of cells.
#[derive(Debug, Clone)]
pub struct GeneMeans {
    sums: Vec<f64>,
    cells: usize,
}

impl GeneMeans {
    /// Before the first cell.
    pub fn new(n_genes: usize) -> Self {
        Self {
            sums: vec![0.0; n_genes],
            cells: 0,
        }
    }

    /// Adds a block of cells; fails if it has another number of genes.
    pub fn add(&mut self, cells: &Counts) -> Result<(), Error> {
        require_genes(cells, self.sums.len())?;
        for (genes, values) in cells.rows() {
            for (&gene, &value) in genes.iter().zip(values) {
                self.sums[gene as usize] += f64::from(value);
            }
        }
        self.cells += cells.n_cells();
        Ok(())
    }

    /// The means; 0 without cells.
    pub fn finish(self) -> Vec<f64> {
        let cells = self.cells.max(1) as f64;
        self.sums.into_iter().map(|sum| sum / cells).collect()
    }
}

fn require_genes(cells: &Counts, expected: usize) -> Result<(), Error> {
    if cells.n_genes == expected {
        return Ok(());
    }
    Err(Error::Columns {
        what: "a block of cells to be scored",
        found: cells.n_genes,
        expected,
    })
}

/// How control genes are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controls {
    /// Genes drawn from each bin of expression.
    pub per_bin: usize,
    /// Bins of expression, at least 2.
    pub bins: usize,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            per_bin: 50,
            bins: 25,
        }
    }
}

/// Programs with their control genes, ready to score cells.
#[derive(Debug, Clone)]
pub struct Scorer {
    programs: Vec<Program>,
    /// For each gene, the programs it counts in.
    roles: Vec<Vec<Role>>,
}

/// Genes of a program and the genes they are compared with, both increasing.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub genes: Vec<usize>,
    pub controls: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Role {
    program: usize,
    is_control: bool,
}

impl Scorer {
    /// Draws the control genes of each program.
    ///
    /// `means` are those of all genes that may serve as controls; repeated genes of a program count once. The draw from a bin
    /// depends on the seed and the bin alone, so a program's score does not depend on the others. Fails on means that are not
    /// finite, on a program without genes, with genes that are not there or without control genes left, and on settings below
    /// one gene per bin or two bins.
    pub fn new(
        means: &[f64],
        programs: &[Vec<usize>],
        controls: Controls,
        seed: Seed,
    ) -> Result<Self, Error> {
        check(means, controls)?;
        let bins = bins(means, controls.bins);
        let draw = |bin| draw(&bins, bin, controls.per_bin, seed);
        let programs = programs
            .iter()
            .enumerate()
            .map(|(at, genes)| Program::new(at, genes, &bins, draw))
            .collect::<Result<Vec<_>, _>>()?;
        let mut roles = vec![Vec::new(); means.len()];
        for (program, found) in programs.iter().enumerate() {
            for (genes, is_control) in [(&found.genes, false), (&found.controls, true)] {
                for &gene in genes {
                    roles[gene].push(Role {
                        program,
                        is_control,
                    });
                }
            }
        }
        Ok(Self { programs, roles })
    }

    /// The programs with their control genes.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// Scores of a block of cells, `[cells, programs]`: mean of the program's genes less the mean of its controls.
    ///
    /// Fails if the block has another number of genes than there were means.
    pub fn score(&self, cells: &Counts) -> Result<Array2<f64>, Error> {
        require_genes(cells, self.roles.len())?;
        let rows: Vec<Vec<f64>> = (0..cells.n_cells())
            .into_par_iter()
            .map(|cell| self.score_cell(cells.row(cell)))
            .collect();
        let shape = (cells.n_cells(), self.programs.len());
        let values = rows.into_iter().flatten().collect();
        Ok(Array2::from_shape_vec(shape, values).expect("every cell has a score per program"))
    }

    fn score_cell(&self, (genes, values): (&[u32], &[f32])) -> Vec<f64> {
        let mut sums = vec![[0.0; 2]; self.programs.len()];
        for (&gene, &value) in genes.iter().zip(values) {
            for role in &self.roles[gene as usize] {
                sums[role.program][usize::from(role.is_control)] += f64::from(value);
            }
        }
        let programs = self.programs.iter().zip(sums);
        programs
            .map(|(program, [own, control])| {
                own / program.genes.len() as f64 - control / program.controls.len() as f64
            })
            .collect()
    }
}

impl Program {
    fn new(
        at: usize,
        genes: &[usize],
        bins: &[usize],
        draw: impl Fn(usize) -> Vec<usize>,
    ) -> Result<Self, Error> {
        let mut genes = genes.to_vec();
        genes.sort_unstable();
        genes.dedup();
        let Some(&last) = genes.last() else {
            return Err(Error::FewGenes {
                what: "a program to score",
                needed: 1,
                found: 0,
            });
        };
        if last >= bins.len() {
            return Err(Error::NoSuchGene {
                what: "a gene of a program",
                found: last,
                limit: bins.len(),
            });
        }
        let mut used: Vec<usize> = genes.iter().map(|&gene| bins[gene]).collect();
        used.sort_unstable();
        used.dedup();
        let mut controls: Vec<usize> = used.into_iter().flat_map(draw).collect();
        controls.retain(|gene| genes.binary_search(gene).is_err());
        controls.sort_unstable();
        if controls.is_empty() {
            return Err(Error::NoControls { program: at });
        }
        Ok(Self { genes, controls })
    }
}

fn check(means: &[f64], controls: Controls) -> Result<(), Error> {
    if controls.per_bin == 0 {
        return Err(Error::Zero("control genes per bin"));
    }
    if controls.bins < 2 {
        return Err(Error::Setting {
            what: "the number of bins of expression",
            found: controls.bins as f64,
            expected: "at least 2",
        });
    }
    match means.iter().position(|mean| !mean.is_finite()) {
        Some(gene) => Err(Error::GeneNotFinite {
            what: "the mean expression",
            gene,
            value: means[gene],
        }),
        None => Ok(()),
    }
}

/// Bin of each gene: its rank by mean (from 1, equal means having the lowest rank of them) over the size of a bin, rounded down.
///
/// The size is the number of genes over one less than the number of bins, rounded (halves to even), at least 1.
fn bins(means: &[f64], n_bins: usize) -> Vec<usize> {
    let size = (means.len() as f64 / (n_bins - 1) as f64).round_ties_even();
    let size = (size as usize).max(1);
    let mut sorted = means.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |mean: &f64| 1 + sorted.partition_point(|other| other < mean);
    means.iter().map(|mean| rank(mean) / size).collect()
}

fn draw(bins: &[usize], bin: usize, per_bin: usize, seed: Seed) -> Vec<usize> {
    let genes: Vec<usize> = (0..bins.len()).filter(|&gene| bins[gene] == bin).collect();
    if genes.len() <= per_bin {
        return genes;
    }
    let mut stream = seed.stream("program controls", &[bin as u64]);
    let drawn = sample(&mut stream, genes.len(), per_bin);
    drawn.into_iter().map(|at| genes[at]).collect()
}

/// Scores `[cells, programs]` of which each program has 0 as least and 1 as largest value; 0 where all are equal.
pub fn min_max(scores: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut scaled = scores.to_owned();
    scaled.columns_mut().into_iter().for_each(rescale);
    scaled
}

/// Mean score of each program in each group of cells, `[programs, groups]`, as for a heatmap; NaN for a group without cells.
///
/// `groups` holds one number below `n_groups` per cell; a cell with a larger number belongs to no group. Fails if there are more
/// or fewer than cells.
pub fn group_means(
    scores: ArrayView2<'_, f64>,
    groups: &[usize],
    n_groups: usize,
) -> Result<Array2<f64>, Error> {
    if groups.len() != scores.nrows() {
        return Err(Error::OnePerCell {
            what: "groups",
            found: groups.len(),
            cells: scores.nrows(),
        });
    }
    let mut sums = Array2::zeros((scores.ncols(), n_groups));
    let mut cells = vec![0_usize; n_groups];
    for (row, &group) in scores.rows().into_iter().zip(groups) {
        if group < n_groups {
            let mut sum = sums.index_axis_mut(Axis(1), group);
            sum += &row;
            cells[group] += 1;
        }
    }
    for (mut sum, &cells) in sums.columns_mut().into_iter().zip(&cells) {
        sum.mapv_inplace(|value| value / cells as f64);
    }
    Ok(sums)
}

/// Each row from 0 to 1, as heatmaps show the means of groups; 0 where all are equal. NaN stays and does not count.
pub fn scale_rows(means: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut scaled = means.to_owned();
    scaled.rows_mut().into_iter().for_each(rescale);
    scaled
}

fn rescale(mut values: ArrayViewMut1<'_, f64>) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let range = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    values.mapv_inplace(|value| match range > 0.0 {
        _ if value.is_nan() => value,
        true => (value - least) / range,
        false => 0.0,
    });
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use serde_json::Value;

    use super::*;
    use crate::analysis::on_threads;

    struct Golden {
        cells: Counts,
        programs: Vec<Vec<usize>>,
        /// Three raw scores per cell, then three scaled ones.
        scores: Vec<Vec<f64>>,
    }

    fn golden() -> Golden {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/program_scores.json"
        );
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows: Vec<Vec<(u32, f32)>> = serde_json::from_value(golden["rows"].clone()).unwrap();
        Golden {
            cells: Counts::from_rows(golden["n_genes"].as_u64().unwrap() as usize, rows),
            programs: serde_json::from_value(golden["sets"].clone()).unwrap(),
            scores: serde_json::from_value(golden["scores"].clone()).unwrap(),
        }
    }

    fn means(cells: &Counts) -> Vec<f64> {
        let mut means = GeneMeans::new(cells.n_genes);
        means.add(cells).unwrap();
        means.finish()
    }

    #[test]
    fn scores_are_those_of_scanpy_whatever_the_blocks() {
        let golden = golden();
        let mut means = GeneMeans::new(golden.cells.n_genes);
        let all: Vec<usize> = (0..golden.cells.n_cells()).collect();
        let blocks: Vec<Counts> = all
            .chunks(25)
            .map(|at| golden.cells.select_cells(at))
            .collect();
        blocks.iter().for_each(|block| means.add(block).unwrap());
        let scorer = Scorer::new(
            &means.finish(),
            &golden.programs,
            Controls::default(),
            Seed(0),
        )
        .unwrap();
        let parts: Vec<_> = blocks
            .iter()
            .map(|block| scorer.score(block).unwrap())
            .collect();
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let raw = ndarray::concatenate(Axis(0), &views).unwrap();
        let scaled = min_max(raw.view());
        assert_eq!(raw.nrows(), golden.scores.len());
        for (cell, expected) in golden.scores.iter().enumerate() {
            for program in 0..3 {
                let (raw, scaled) = (raw[[cell, program]], scaled[[cell, program]]);
                let (raw_error, scaled_error) =
                    (raw - expected[program], scaled - expected[program + 3]);
                assert!(
                    raw_error.abs() < 1e-6 && scaled_error.abs() < 1e-6,
                    "{cell} {program}"
                );
            }
        }
    }

    /// Genes 0..200 that all cells express alike, at levels that increase with the gene.
    fn levels() -> Counts {
        let row: Vec<(u32, f32)> = (0..200).map(|gene| (gene, gene as f32)).collect();
        Counts::from_rows(200, [row.clone(), row])
    }

    #[test]
    fn controls_are_drawn_from_the_bins_of_the_program_alone() {
        let settings = Controls {
            per_bin: 10,
            bins: 5,
        };
        let new = |programs: &[Vec<usize>], seed| {
            Scorer::new(&means(&levels()), programs, settings, Seed(seed)).unwrap()
        };
        let found = new(&[vec![3, 60, 3]], 0).programs()[0].clone();
        assert_eq!(found.genes, [3, 60]);
        // Ranks 1 to 49 are the first bin, 50 to 99 the second; at most ten of each, without the program's own.
        let in_first = found.controls.iter().filter(|&&gene| gene < 49).count();
        let in_second = found
            .controls
            .iter()
            .filter(|&&gene| (49..99).contains(&gene))
            .count();
        assert!((9..=10).contains(&in_first) && (9..=10).contains(&in_second));
        assert_eq!(in_first + in_second, found.controls.len());
        assert!(!found.controls.contains(&3) && !found.controls.contains(&60));
        let beside_others = new(&[vec![100], vec![60, 3]], 0);
        assert_eq!(beside_others.programs()[1], found);
        assert_ne!(
            new(&[vec![3, 60]], 1).programs()[0].controls,
            found.controls
        );
    }

    #[test]
    fn threads_change_nothing() {
        let golden = golden();
        let means = means(&golden.cells);
        let scorer = Scorer::new(&means, &golden.programs, Controls::default(), Seed(0)).unwrap();
        let run = |threads| on_threads(threads, || scorer.score(&golden.cells).unwrap());
        assert_eq!(run(1), run(8));
    }

    #[test]
    fn bins_are_of_equal_size_and_ties_share_one() {
        // Six genes in two steps of three: ranks 1 1 3 4 5 6.
        let found = bins(&[1.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3);
        assert_eq!(found, [0, 0, 1, 1, 1, 2]);
        // Fewer genes than bins: one rank each.
        assert_eq!(bins(&[1.0, 2.0], 25), [1, 2]);
        assert_eq!(bins(&[], 25), [0; 0]);
    }

    #[test]
    fn means_of_groups_are_scaled_by_row() {
        let scores = array![[1.0, 5.0], [3.0, 5.0], [7.0, 5.0], [9.0, 0.0]];
        let means = group_means(scores.view(), &[0, 0, 2, 9], 3).unwrap();
        assert_eq!(means.dim(), (2, 3));
        assert_eq!(
            (means[[0, 0]], means[[0, 2]], means[[1, 2]]),
            (2.0, 7.0, 5.0)
        );
        assert!(means[[0, 1]].is_nan());
        let scaled = scale_rows(means.view());
        assert_eq!(
            (scaled[[0, 0]], scaled[[0, 2]], scaled[[1, 0]]),
            (0.0, 1.0, 0.0)
        );
        assert!(scaled[[0, 1]].is_nan());
        assert!(matches!(
            group_means(scores.view(), &[0], 1),
            Err(Error::OnePerCell { .. })
        ));
        assert_eq!(min_max(array![[2.0], [2.0]].view()), array![[0.0], [0.0]]);
        assert_eq!(min_max(Array2::zeros((0, 2)).view()).dim(), (0, 2));
    }

    #[test]
    fn bad_programs_and_settings_are_rejected() {
        let new = |means: &[f64], program: &[usize], per_bin, bins| {
            let settings = Controls { per_bin, bins };
            Scorer::new(means, &[program.to_vec()], settings, Seed(0)).unwrap_err()
        };
        assert!(matches!(new(&[1.0], &[], 1, 2), Error::FewGenes { .. }));
        assert!(matches!(
            new(&[1.0], &[1], 1, 2),
            Error::NoSuchGene { found: 1, .. }
        ));
        assert!(matches!(
            new(&[1.0], &[0], 1, 2),
            Error::NoControls { program: 0 }
        ));
        assert!(matches!(new(&[1.0], &[0], 0, 2), Error::Zero(_)));
        assert!(matches!(new(&[1.0], &[0], 1, 1), Error::Setting { .. }));
        assert!(matches!(
            new(&[f64::NAN], &[0], 1, 2),
            Error::GeneNotFinite { gene: 0, .. }
        ));
        assert!(matches!(
            GeneMeans::new(3).add(&levels()),
            Err(Error::Columns { .. })
        ));
    }
}
