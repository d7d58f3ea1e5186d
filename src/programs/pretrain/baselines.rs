//! Simpler methods on the task of pre-training: what a model must beat.

use rayon::prelude::*;
use serde::Serialize;

use crate::tokens::Tokens;
use crate::train::pretraining::{Cell, Example};

/// Similar cells whose mean is taken.
const NEIGHBOURS: usize = 10;

/// Mean squared errors over the values to tell, in squared bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    pub gene_mean: f64,
    pub nearest_cells: f64,
    /// Values told.
    pub values: u64,
}

/// The mean bin of every gene over the cells that express it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeneMeans {
    /// By gene id: sum of bins, and cells. Whole numbers, so that the order of adding does not matter.
    sums: Vec<(u64, u64)>,
}

impl GeneMeans {
    pub fn add(&mut self, sentence: &Tokens) {
        for (&gene, &value) in sentence.genes.iter().zip(&sentence.values).skip(1) {
            let gene = gene as usize;
            if gene >= self.sums.len() {
                self.sums.resize(gene + 1, (0, 0));
            }
            let (sum, cells) = &mut self.sums[gene];
            *sum += value as u64;
            *cells += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        if other.sums.len() > self.sums.len() {
            self.sums.resize(other.sums.len(), (0, 0));
        }
        for ((sum, cells), (more, others)) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
            *cells += others;
        }
    }

    /// The mean of a gene; that of all genes for one that no cell expresses.
    pub fn of(&self, gene: i64) -> f64 {
        match self.sums.get(gene as usize) {
            Some(&(sum, cells)) if cells > 0 => sum as f64 / cells as f64,
            _ => self.overall(),
        }
    }

    /// The mean of all values.
    pub fn overall(&self) -> f64 {
        let add = |(sum, cells), (more, others): &(u64, u64)| (sum + more, cells + others);
        let (sum, cells) = self.sums.iter().fold((0, 0), add);
        if cells > 0 {
            sum as f64 / cells as f64
        } else {
            0.0
        }
    }
}

/// A method's answer to one example: of each cell the model is told some values and asked for others.
fn questions(example: &Example) -> Vec<(i64, f64)> {
    let asked = if example.asked.is_empty() {
        &example.told.genes
    } else {
        &example.asked
    };
    let counted = asked.iter().zip(&example.targets).zip(&example.counted);
    counted
        .filter(|(_, counted)| **counted > 0.0)
        .map(|((&gene, &target), _)| (gene, f64::from(target)))
        .collect()
}

/// Lets both methods tell the hidden values of the examples.
pub fn errors(examples: &[Example], means: &GeneMeans, compared: &[Cell]) -> Errors {
    let each = |example: &Example| {
        let near = nearest(example, compared);
        let mut sums = [0.0, 0.0];
        let questions = questions(example);
        for &(gene, target) in &questions {
            let mean = means.of(gene);
            let answers = [mean, mean_of(&near, gene).unwrap_or(mean)];
            sums.iter_mut()
                .zip(answers)
                .for_each(|(sum, answer)| *sum += (answer - target).powi(2));
        }
        (sums, questions.len() as u64)
    };
    // Collected first: the order of adding is that of the cells.
    let all: Vec<([f64; 2], u64)> = examples.par_iter().map(each).collect();
    let (sums, values) = all.iter().fold(([0.0, 0.0], 0), |(sums, n), (more, m)| {
        ([sums[0] + more[0], sums[1] + more[1]], n + m)
    });
    Errors {
        gene_mean: sums[0] / values as f64,
        nearest_cells: sums[1] / values as f64,
        values,
    }
}

/// The cells most similar to what an example tells: cosine of the told bins with theirs.
fn nearest<'c>(example: &Example, cells: &'c [Cell]) -> Vec<&'c Cell> {
    let told = Told::new(example);
    let mut order: Vec<(f32, &Cell)> = cells
        .iter()
        .map(|cell| (told.similarity(cell), cell))
        .collect();
    order.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.id.cmp(&y.id)));
    order
        .into_iter()
        .take(NEIGHBOURS)
        .map(|(_, cell)| cell)
        .collect()
}

/// Bins by gene id: 0 for a gene that is not told of, negative for one whose bin is hidden.
struct Told(Vec<f32>);

impl Told {
    fn new(example: &Example) -> Self {
        let hidden = questions(example).into_iter().map(|(gene, _)| (gene, -1.0));
        let told = example
            .told
            .genes
            .iter()
            .copied()
            .zip(example.told.values.iter().copied());
        let all: Vec<(i64, f32)> = told.skip(1).chain(hidden).collect();
        let most = all.iter().map(|(gene, _)| *gene).max().unwrap_or(0);
        let mut bins = vec![0.0; most as usize + 1];
        all.into_iter()
            .for_each(|(gene, bin)| bins[gene as usize] = bin);
        Self(bins)
    }

    fn similarity(&self, cell: &Cell) -> f32 {
        let (mut product, mut square) = (0.0, 0.0);
        for (&gene, &value) in cell
            .sentence
            .genes
            .iter()
            .zip(&cell.sentence.values)
            .skip(1)
        {
            let told = self.0.get(gene as usize).copied().unwrap_or(0.0);
            if told >= 0.0 {
                product += told * value;
                square += value * value;
            }
        }
        product / square.max(1.0).sqrt()
    }
}

/// Mean bin of a gene over the cells that express it.
fn mean_of(cells: &[&Cell], gene: i64) -> Option<f64> {
    let value = |cell: &&Cell| {
        let at = cell
            .sentence
            .genes
            .iter()
            .position(|&found| found == gene)?;
        Some(f64::from(cell.sentence.values[at]))
    };
    let values: Vec<f64> = cells.iter().filter_map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(id: u64, pairs: &[(i64, f32)]) -> Cell {
        let tokens = || [(99, -2.0)].into_iter().chain(pairs.iter().copied());
        Cell {
            id,
            sentence: Tokens {
                genes: tokens().map(|(g, _)| g).collect(),
                values: tokens().map(|(_, v)| v).collect(),
            },
            ..Cell::default()
        }
    }

    #[test]
    fn similar_cells_tell_more_than_means() {
        let cells: Vec<Cell> = (0..40)
            .map(|id| {
                if id % 2 == 0 {
                    cell(id, &[(0, 50.0), (1, 1.0), (2, 40.0)])
                } else {
                    cell(id, &[(0, 1.0), (1, 50.0), (2, 10.0)])
                }
            })
            .collect();
        let mut means = GeneMeans::default();
        cells.iter().for_each(|cell| means.add(&cell.sentence));
        assert_eq!(
            (means.of(2), means.of(7)),
            (25.0, (51.0 + 51.0 + 50.0) / 6.0)
        );
        let example = Example {
            told: cell(100, &[(0, 45.0), (1, 2.0)]).sentence,
            asked: vec![2],
            targets: vec![40.0],
            counted: vec![1.0],
            ..Example::default()
        };
        let errors = errors(&[example], &means, &cells);
        assert_eq!(
            (errors.gene_mean, errors.nearest_cells, errors.values),
            (225.0, 0.0, 1)
        );
    }
}
