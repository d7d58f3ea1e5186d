//! A dense matrix in a file, cells by genes as AnnData has it or genes by cells as loom does.

use std::ops::Range;

use super::node::Node;
use super::sparse::require_numbers;
use super::values::check_size;
use crate::counts::Counts;
use crate::formats::Error;

/// Values that are read together, about (16 MB of memory).
const PIECE: usize = 1 << 22;

/// A dense matrix.
pub(in crate::formats) struct Dense {
    node: Node,
    n_genes: usize,
    /// Whether its rows are genes.
    by_gene: bool,
}

impl Dense {
    pub fn open(node: Node, n_genes: usize, by_gene: bool) -> Result<Self, Error> {
        require_numbers(&node)?;
        Ok(Self {
            node,
            n_genes,
            by_gene,
        })
    }

    /// Some cells, zeros dropped.
    pub fn read(&self, cells: Range<usize>) -> Result<Counts, Error> {
        let mut counts = Counts::empty(self.n_genes);
        let step = self.cells_at_once()?;
        let mut start = cells.start;
        while start < cells.end {
            // Up to a border between chunks, so that none is decompressed twice.
            let end = ((start / step + 1) * step).min(cells.end);
            self.read_piece(start..end, &mut counts)?;
            start = end;
        }
        Ok(counts)
    }

    fn read_piece(&self, cells: Range<usize>, counts: &mut Counts) -> Result<(), Error> {
        let (n_genes, n_cells) = (self.n_genes, cells.len());
        check_size(
            &self.node,
            n_cells.saturating_mul(n_genes),
            size_of::<f32>(),
        )?;
        let dataset = self.node.dataset()?;
        let values = if self.by_gene {
            dataset.read_slice_2d::<f32, _>((0..n_genes, cells.clone()))
        } else {
            dataset.read_slice_2d::<f32, _>((cells.clone(), 0..n_genes))
        };
        let values = values.map_err(|source| self.node.damaged(source))?;
        let values = if self.by_gene {
            values.reversed_axes()
        } else {
            values
        };
        for (cell, row) in cells.zip(values.rows()) {
            if let Some((gene, value)) = row.indexed_iter().find(|(_, value)| !value.is_finite()) {
                return Err(self.node.not_finite(cell, gene, *value));
            }
            counts.push(
                (0..)
                    .zip(row.iter().copied())
                    .filter(|&(_, value)| value != 0.0),
            );
        }
        Ok(())
    }

    /// Cells to read together: a few megabytes, in whole chunks.
    fn cells_at_once(&self) -> Result<usize, Error> {
        let cells = (PIECE / self.n_genes.max(1)).max(1);
        let axis = usize::from(self.by_gene);
        let chunk = match self.node.dataset()?.chunk() {
            Some(chunk) => chunk[axis].clamp(1, 16 * cells),
            None => 1,
        };
        Ok(cells.div_ceil(chunk) * chunk)
    }
}
