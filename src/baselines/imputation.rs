//! Baselines of imputation: the mean of each gene, and the mean of the most similar cells.

use crate::tokens::Tokens;

/// Similar cells whose mean is taken.
const NEIGHBORS: usize = 10;

/// A cell with some known values, and the genes to predict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// Genes and their bins.
    pub known: Vec<(i64, f32)>,
    pub targets: Vec<i64>,
}

/// The mean bin of every gene over the cells that express it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeneMeans {
    /// By gene id: sum of bins, and cells. Whole numbers, so that the order of adding does not matter.
    sums: Vec<(u64, u64)>,
}

impl GeneMeans {
    /// Adds the genes of a token sequence that begins with `<cls>`.
    pub fn add(&mut self, tokens: &Tokens) {
        for (&gene, &value) in tokens.genes.iter().zip(&tokens.values).skip(1) {
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

    /// The means of the target genes.
    pub fn predict(&self, query: &Query) -> Vec<f64> {
        query.targets.iter().map(|&gene| self.of(gene)).collect()
    }
}

/// The means of the target genes over the given cells that are most similar in the known genes; for a gene that none of them
/// expresses, the mean over all cells.
pub fn from_similar_cells<'c>(
    query: &Query,
    cells: impl Iterator<Item = &'c Tokens>,
    means: &GeneMeans,
) -> Vec<f64> {
    let known = Known::new(query);
    let mut order: Vec<(f32, usize, &Tokens)> = cells
        .enumerate()
        .map(|(at, cell)| (known.similarity(cell), at, cell))
        .collect();
    order.sort_by(|(a, i, _), (b, j, _)| b.total_cmp(a).then(i.cmp(j)));
    order.truncate(NEIGHBORS);
    let mut sums = vec![(0.0, 0.0); known.0.len()];
    for (_, _, cell) in order {
        for (&gene, &value) in cell.genes.iter().zip(&cell.values).skip(1) {
            if let Some((sum, cells)) = sums.get_mut(gene as usize) {
                *sum += f64::from(value);
                *cells += 1.0;
            }
        }
    }
    let mean = |&gene: &i64| match sums[gene as usize] {
        (sum, cells) if cells > 0.0 => sum / cells,
        _ => means.of(gene),
    };
    query.targets.iter().map(mean).collect()
}

/// Bins by gene id: 0 for a gene that is neither known nor a target, negative for a target.
struct Known(Vec<f32>);

impl Known {
    fn new(query: &Query) -> Self {
        let targets = query.targets.iter().map(|&gene| (gene, -1.0));
        let all: Vec<(i64, f32)> = query.known.iter().copied().chain(targets).collect();
        let most = all.iter().map(|(gene, _)| *gene).max().unwrap_or(0);
        let mut bins = vec![0.0; most as usize + 1];
        all.into_iter()
            .for_each(|(gene, bin)| bins[gene as usize] = bin);
        Self(bins)
    }

    /// Cosine similarity of the known bins and a cell's, over the genes that are no targets.
    fn similarity(&self, cell: &Tokens) -> f32 {
        let (mut product, mut square) = (0.0, 0.0);
        for (&gene, &value) in cell.genes.iter().zip(&cell.values).skip(1) {
            let known = self.0.get(gene as usize).copied().unwrap_or(0.0);
            if known >= 0.0 {
                product += known * value;
                square += value * value;
            }
        }
        product / square.max(1.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(pairs: &[(i64, f32)]) -> Tokens {
        let tokens = || [(99, -2.0)].into_iter().chain(pairs.iter().copied());
        Tokens {
            genes: tokens().map(|(gene, _)| gene).collect(),
            values: tokens().map(|(_, value)| value).collect(),
        }
    }

    #[test]
    fn similar_cells_predict_better_than_means() {
        let kinds = [
            cell(&[(0, 50.0), (1, 1.0), (2, 40.0)]),
            cell(&[(0, 1.0), (1, 50.0), (2, 10.0)]),
        ];
        let cells: Vec<Tokens> = (0..40).map(|at| kinds[at % 2].clone()).collect();
        let mut means = GeneMeans::default();
        cells.iter().for_each(|cell| means.add(cell));
        let query = Query {
            known: vec![(0, 45.0), (1, 2.0)],
            targets: vec![2, 7],
        };
        let unknown = (51.0 + 51.0 + 50.0) / 6.0;
        assert_eq!(means.predict(&query), [25.0, unknown]);
        assert_eq!(
            from_similar_cells(&query, cells.iter(), &means),
            [40.0, unknown]
        );
    }
}
