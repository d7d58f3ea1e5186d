//! The same values gene by gene, so that each gene's statistics are one sum in cell order.

use crate::counts::Counts;

/// Cells by genes, compressed by column; cells are increasing within a gene.
pub struct Columns {
    offsets: Vec<usize>,
    cells: Vec<u32>,
    values: Vec<f32>,
}

impl Columns {
    pub fn from_counts(counts: &Counts) -> Self {
        let mut offsets = vec![0; counts.n_genes + 1];
        for &gene in &counts.genes {
            offsets[gene as usize + 1] += 1;
        }
        for gene in 0..counts.n_genes {
            offsets[gene + 1] += offsets[gene];
        }
        let mut next = offsets.clone();
        let mut columns = Self {
            offsets,
            cells: vec![0; counts.genes.len()],
            values: vec![0.0; counts.genes.len()],
        };
        for (cell, (genes, values)) in counts.rows().enumerate() {
            for (&gene, &value) in genes.iter().zip(values) {
                let place = &mut next[gene as usize];
                columns.cells[*place] = cell as u32;
                columns.values[*place] = value;
                *place += 1;
            }
        }
        columns
    }

    pub fn n_genes(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Stored (cell, value) pairs of one gene.
    pub fn gene(&self, gene: usize) -> impl Iterator<Item = (usize, f64)> + Clone + '_ {
        let span = self.offsets[gene]..self.offsets[gene + 1];
        let cells = self.cells[span.clone()].iter().map(|&cell| cell as usize);
        cells.zip(self.values[span].iter().map(|&value| f64::from(value)))
    }
}

/// Cells divided into batches, numbered from 0 in the order of their codes.
pub struct Groups {
    /// Batch of every cell.
    pub of_cell: Vec<usize>,
    /// Number of cells of every batch.
    pub sizes: Vec<usize>,
}

/// Mean and sample variance of one gene within one batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    pub mean: f64,
    pub variance: f64,
}

impl Groups {
    pub fn single(n_cells: usize) -> Self {
        Self {
            of_cell: vec![0; n_cells],
            sizes: vec![n_cells],
        }
    }

    /// Groups by code, with the sorted codes.
    pub fn from_codes(codes: &[u32]) -> (Self, Vec<u32>) {
        let mut sorted = codes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let of_cell: Vec<usize> = codes
            .iter()
            .map(|code| sorted.partition_point(|other| other < code))
            .collect();
        let mut sizes = vec![0; sorted.len()];
        for &group in &of_cell {
            sizes[group] += 1;
        }
        (Self { of_cell, sizes }, sorted)
    }

    /// Moments of one gene in every batch, zeros included; every batch has at least two cells.
    pub fn moments(&self, columns: &Columns, gene: usize) -> Vec<Moments> {
        let mut moments = vec![Moments::default(); self.sizes.len()];
        let mut stored = vec![0; self.sizes.len()];
        for (cell, value) in columns.gene(gene) {
            moments[self.of_cell[cell]].mean += value;
            stored[self.of_cell[cell]] += 1;
        }
        for (moments, &size) in moments.iter_mut().zip(&self.sizes) {
            moments.mean /= size as f64;
        }
        for (cell, value) in columns.gene(gene) {
            let moments = &mut moments[self.of_cell[cell]];
            moments.variance += (value - moments.mean).powi(2);
        }
        for ((moments, stored), &size) in moments.iter_mut().zip(stored).zip(&self.sizes) {
            let zeros = (size - stored) as f64;
            moments.variance =
                (moments.variance + zeros * moments.mean.powi(2)) / (size - 1) as f64;
        }
        moments
    }
}
