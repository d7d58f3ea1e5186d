//! Rows of a cells-by-genes matrix, whether it is stored by row, by column or dense.

use std::ops::Range;

use super::node::Node;
use super::sparse::{Sparse, is_stored_by_gene, require_numbers, sparse_shape};
use super::values::check_size;
use crate::counts::Counts;
use crate::formats::Error;

/// Stored values that are looked at together when a whole matrix has to be passed through (8 to 16 MB of memory).
const PIECE: usize = 1 << 20;

/// A cells-by-genes matrix of an open file.
pub struct Matrix {
    node: Node,
    n_cells: usize,
    n_genes: usize,
    storage: Storage,
}

enum Storage {
    ByCell(Sparse),
    ByGene(Sparse),
    Dense,
}

impl Matrix {
    pub(in crate::formats) fn open(
        node: Node,
        n_cells: usize,
        n_genes: usize,
    ) -> Result<Self, Error> {
        let expected = [n_cells, n_genes];
        let shape = if node.is_group() {
            sparse_shape(&node)?
        } else {
            Some(node.shape()?)
        };
        if let Some(shape) = shape.filter(|shape| shape[..] != expected) {
            let problem = format!(
                "its shape is {shape:?}, but `obs` and `var` have {n_cells} cells and {n_genes} genes"
            );
            return Err(node.wrong(problem));
        }
        if u32::try_from(n_genes).is_err() {
            return Err(node.wrong(format!("{n_genes} genes are more than can be numbered")));
        }
        let storage = if !node.is_group() {
            require_numbers(&node)?;
            Storage::Dense
        } else if is_stored_by_gene(&node)? {
            Storage::ByGene(Sparse::open(&node, n_genes)?)
        } else {
            Storage::ByCell(Sparse::open(&node, n_cells)?)
        };
        Ok(Self {
            node,
            n_cells,
            n_genes,
            storage,
        })
    }

    pub fn n_cells(&self) -> usize {
        self.n_cells
    }

    pub fn n_genes(&self) -> usize {
        self.n_genes
    }

    /// Number of stored values; none for a dense matrix, which does not say how many are zero.
    pub fn n_stored(&self) -> Option<usize> {
        match &self.storage {
            Storage::ByCell(sparse) | Storage::ByGene(sparse) => Some(sparse.n_stored()),
            Storage::Dense => None,
        }
    }

    /// Reads some cells: genes sorted within each, repeated entries summed, zeros of a dense matrix left out.
    ///
    /// A matrix that is stored by gene (CSC) is passed through from end to end on every call, in little memory:
    /// ask for as many cells at once as memory allows. Values that are not finite in single precision are an error.
    pub fn read(&self, cells: Range<usize>) -> Result<Counts, Error> {
        if cells.start > cells.end || cells.end > self.n_cells {
            return Err(self.node.wrong(format!(
                "cells {cells:?} were asked for, it has {}",
                self.n_cells
            )));
        }
        match &self.storage {
            Storage::ByCell(sparse) => self.read_by_cell(sparse, cells),
            Storage::ByGene(sparse) => self.read_by_gene(sparse, cells),
            Storage::Dense => self.read_dense(cells),
        }
    }

    /// Splits the cells into blocks of at most `max_values` stored values, but at least one cell, to be read one after the other.
    ///
    /// For a dense matrix every entry counts; one that is stored by gene is passed through once to count.
    pub fn blocks(&self, max_values: usize) -> Result<Vec<Range<usize>>, Error> {
        let sizes: Box<dyn Iterator<Item = usize>> = match &self.storage {
            Storage::ByCell(sparse) => {
                Box::new(sparse.offsets.windows(2).map(|pair| pair[1] - pair[0]))
            }
            Storage::ByGene(sparse) => Box::new(self.count_by_cell(sparse)?.into_iter()),
            Storage::Dense => Box::new(std::iter::repeat_n(self.n_genes, self.n_cells)),
        };
        let (mut blocks, mut start, mut held) = (Vec::new(), 0, 0usize);
        for (cell, size) in sizes.enumerate() {
            if cell > start && held.saturating_add(size) > max_values {
                blocks.push(start..cell);
                (start, held) = (cell, 0);
            }
            held = held.saturating_add(size);
        }
        if start < self.n_cells {
            blocks.push(start..self.n_cells);
        }
        Ok(blocks)
    }

    fn read_by_cell(&self, sparse: &Sparse, cells: Range<usize>) -> Result<Counts, Error> {
        let offsets = &sparse.offsets[cells.start..=cells.end];
        let stored = offsets[0]..offsets[offsets.len() - 1];
        let genes = sparse.read_indices(stored.clone(), self.n_genes)?;
        let values = sparse.read_values(stored.clone())?;
        let offsets: Vec<usize> = offsets.iter().map(|offset| offset - stored.start).collect();
        self.check_finite(&values, |at| {
            (
                cells.start + offsets.partition_point(|&offset| offset <= at) - 1,
                genes[at] as usize,
            )
        })?;
        let counts = Counts {
            n_genes: self.n_genes,
            offsets,
            genes,
            values,
        };
        let is_sorted = |(genes, _): (&[u32], _)| genes.is_sorted_by(|a, b| a < b);
        Ok(if counts.rows().all(is_sorted) {
            counts
        } else {
            sort_rows(&counts)
        })
    }

    fn read_by_gene(&self, sparse: &Sparse, cells: Range<usize>) -> Result<Counts, Error> {
        let mut entries: Vec<(u32, u32, f32)> = Vec::new();
        for stored in pieces(0..sparse.n_stored()) {
            let rows = sparse.read_indices(stored.clone(), self.n_cells)?;
            let values = sparse.read_values(stored.clone())?;
            let mut gene = sparse
                .offsets
                .partition_point(|&offset| offset <= stored.start)
                - 1;
            for (at, (&row, &value)) in rows.iter().zip(&values).enumerate() {
                while sparse.offsets[gene + 1] <= stored.start + at {
                    gene += 1;
                }
                if cells.contains(&(row as usize)) {
                    entries.push((row, gene as u32, value));
                }
            }
        }
        let values: Vec<f32> = entries.iter().map(|entry| entry.2).collect();
        self.check_finite(&values, |at| {
            (entries[at].0 as usize, entries[at].1 as usize)
        })?;
        // A stable sort: within a cell, entries stay by gene, and repeated ones in the order they are stored.
        entries.sort_by_key(|entry| entry.0);
        let mut entries = entries.into_iter().peekable();
        let rows = cells.map(|cell| {
            let mut row = Vec::new();
            while let Some((_, gene, value)) = entries.next_if(|entry| entry.0 as usize == cell) {
                add(&mut row, gene, value);
            }
            row
        });
        Ok(Counts::from_rows(self.n_genes, rows))
    }

    fn count_by_cell(&self, sparse: &Sparse) -> Result<Vec<usize>, Error> {
        let mut sizes = vec![0; self.n_cells];
        for stored in pieces(0..sparse.n_stored()) {
            for row in sparse.read_indices(stored, self.n_cells)? {
                sizes[row as usize] += 1;
            }
        }
        Ok(sizes)
    }

    fn read_dense(&self, cells: Range<usize>) -> Result<Counts, Error> {
        let mut counts = Counts::empty(self.n_genes);
        let n_genes = self.n_genes;
        let step = self.rows_at_once()?;
        let mut start = cells.start;
        while start < cells.end {
            // Up to a border between chunks, so that none is decompressed twice.
            let end = ((start / step + 1) * step).min(cells.end);
            check_size(
                &self.node,
                (end - start).saturating_mul(n_genes),
                size_of::<f32>(),
            )?;
            let rows = self
                .node
                .dataset()?
                .read_slice_2d::<f32, _>((start..end, 0..n_genes));
            let (values, _) = rows
                .map_err(|source| self.node.damaged(source))?
                .into_raw_vec_and_offset();
            self.check_finite(&values, |at| (start + at / n_genes, at % n_genes))?;
            for cell in 0..end - start {
                let row = &values[cell * n_genes..(cell + 1) * n_genes];
                counts.push(
                    (0..)
                        .zip(row.iter().copied())
                        .filter(|&(_, value)| value != 0.0),
                );
            }
            start = end;
        }
        Ok(counts)
    }

    /// Rows of a dense matrix to read together: a few megabytes, in whole chunks.
    fn rows_at_once(&self) -> Result<usize, Error> {
        let rows = (4 * PIECE / self.n_genes.max(1)).max(1);
        let chunk = match self.node.dataset()?.chunk() {
            Some(chunk) => chunk[0].clamp(1, 16 * rows),
            None => 1,
        };
        Ok(rows.div_ceil(chunk) * chunk)
    }

    fn check_finite(
        &self,
        values: &[f32],
        place: impl Fn(usize) -> (usize, usize),
    ) -> Result<(), Error> {
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (cell, gene) = place(at);
                let problem = format!(
                    "the value of cell {cell}, gene {gene} (counted from 0) is {}",
                    values[at]
                );
                Err(self
                    .node
                    .wrong(format!("{problem}, a finite number was expected")))
            }
            None => Ok(()),
        }
    }
}

fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(PIECE)
        .map(move |start| start..(start + PIECE).min(end))
}

/// The same cells with genes in order and repeated entries summed.
fn sort_rows(counts: &Counts) -> Counts {
    let sorted = counts.rows().map(|(genes, values)| {
        let mut entries: Vec<(u32, f32)> =
            genes.iter().copied().zip(values.iter().copied()).collect();
        entries.sort_by_key(|entry| entry.0);
        let mut row = Vec::with_capacity(entries.len());
        for (gene, value) in entries {
            add(&mut row, gene, value);
        }
        row
    });
    Counts::from_rows(counts.n_genes, sorted)
}

/// Appends an entry to a row, or adds its value to the last one if it is of the same gene.
fn add(row: &mut Vec<(u32, f32)>, gene: u32, value: f32) {
    match row.last_mut() {
        Some(last) if last.0 == gene => last.1 += value,
        _ => row.push((gene, value)),
    }
}
