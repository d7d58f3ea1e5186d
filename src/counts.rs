//! Expression matrix of cells by genes, in compressed sparse row format, shared by readers, preprocessing and tokenizers.

use std::ops::Range;

use ndarray::Array2;

/// A block of cells (rows) by genes (columns), compressed by row.
///
/// Within a row, columns are strictly increasing and values are finite; stored zeros are allowed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// Number of columns.
    pub n_genes: usize,
    /// `n_cells + 1` offsets into `genes` and `values`, starting at 0.
    pub offsets: Vec<usize>,
    /// Column of every stored value.
    pub genes: Vec<u32>,
    /// Stored values: raw, normalized or log-normalized counts.
    pub values: Vec<f32>,
}

impl Counts {
    /// A matrix without cells.
    pub fn empty(n_genes: usize) -> Self {
        Self {
            n_genes,
            offsets: vec![0],
            genes: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Builds the matrix from rows of (column, value) pairs with increasing columns.
    pub fn from_rows<R: IntoIterator<Item = (u32, f32)>>(
        n_genes: usize,
        rows: impl IntoIterator<Item = R>,
    ) -> Self {
        let mut counts = Self::empty(n_genes);
        for row in rows {
            counts.push(row);
        }
        counts
    }

    /// Appends one cell.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (gene, value) in row {
            self.genes.push(gene);
            self.values.push(value);
        }
        self.offsets.push(self.genes.len());
    }

    pub fn n_cells(&self) -> usize {
        self.offsets.len() - 1
    }

    fn span(&self, cell: usize) -> Range<usize> {
        self.offsets[cell]..self.offsets[cell + 1]
    }

    /// Columns and values of one cell.
    pub fn row(&self, cell: usize) -> (&[u32], &[f32]) {
        let span = self.span(cell);
        (&self.genes[span.clone()], &self.values[span])
    }

    /// Columns and mutable values of one cell.
    pub fn row_mut(&mut self, cell: usize) -> (&[u32], &mut [f32]) {
        let span = self.span(cell);
        (&self.genes[span.clone()], &mut self.values[span])
    }

    /// All cells in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[u32], &[f32])> + '_ {
        (0..self.n_cells()).map(|cell| self.row(cell))
    }

    /// All values, `[cells, genes]`.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.n_cells(), self.n_genes));
        for (mut row, (genes, values)) in dense.rows_mut().into_iter().zip(self.rows()) {
            for (&gene, &value) in genes.iter().zip(values) {
                row[gene as usize] = value;
            }
        }
        dense
    }

    /// The given cells, in the given order.
    pub fn select_cells(&self, cells: &[usize]) -> Self {
        let row = |&cell: &usize| {
            let (genes, values) = self.row(cell);
            genes.iter().copied().zip(values.iter().copied())
        };
        Self::from_rows(self.n_genes, cells.iter().map(row))
    }

    /// The given columns (strictly increasing), renumbered from 0.
    pub fn select_genes(&self, kept: &[usize]) -> Self {
        let mut position = vec![None; self.n_genes];
        for (new, &old) in kept.iter().enumerate() {
            position[old] = Some(new as u32);
        }
        let row = |(genes, values): (&[u32], &[f32])| {
            let pairs = genes.iter().zip(values);
            pairs
                .filter_map(|(&gene, &value)| Some((position[gene as usize]?, value)))
                .collect::<Vec<_>>()
        };
        Self::from_rows(kept.len(), self.rows().map(row))
    }
}

/// Splits cells into ranges of a maximum number of stored values, but at least one cell each.
#[derive(Debug)]
pub struct Blocks {
    max_values: usize,
    done: Vec<Range<usize>>,
    start: usize,
    end: usize,
    held: usize,
}

impl Blocks {
    pub fn new(max_values: usize) -> Self {
        Self {
            max_values,
            done: Vec::new(),
            start: 0,
            end: 0,
            held: 0,
        }
    }

    /// Adds the next cell, with the given number of stored values.
    pub fn add(&mut self, size: usize) {
        if self.end > self.start && self.held.saturating_add(size) > self.max_values {
            self.done.push(self.start..self.end);
            (self.start, self.held) = (self.end, 0);
        }
        self.held = self.held.saturating_add(size);
        self.end += 1;
    }

    /// All ranges, in order and contiguous.
    pub fn finish(mut self) -> Vec<Range<usize>> {
        if self.end > self.start {
            self.done.push(self.start..self.end);
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_to_the_maximum_but_have_at_least_a_cell() {
        let mut blocks = Blocks::new(5);
        [2, 3, 1, 9, 0, usize::MAX]
            .into_iter()
            .for_each(|size| blocks.add(size));
        assert_eq!(blocks.finish(), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert!(Blocks::new(5).finish().is_empty());
    }

    #[test]
    fn selections_keep_values_in_order() {
        let counts = Counts::from_rows(3, [vec![(0, 1.0), (2, 2.0)], vec![], vec![(1, 3.0)]]);
        assert_eq!(counts.n_cells(), 3);
        assert_eq!(counts.select_genes(&[1, 2]).row(0), (&[1][..], &[2.0][..]));
        let last_first = counts.select_cells(&[2, 0]);
        assert_eq!(last_first.row(0), (&[1][..], &[3.0][..]));
        assert_eq!(last_first.row(1), counts.row(0));
    }
}
