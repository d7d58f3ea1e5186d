//! Rows of a cells-by-genes matrix, whether it is stored by row, by column or dense.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Error;
use super::h5ad::dense::Dense;
use super::h5ad::node::Node;
use super::h5ad::sparse::{Sparse, is_stored_by_gene, sparse_shape};
use super::text::not_kept;
use super::transpose_spool::{Spool, Spooled};
use crate::counts::{Blocks, Counts};

/// A cells-by-genes matrix of an open file.
pub struct Matrix {
    n_cells: usize,
    n_genes: usize,
    storage: Storage,
}

enum Storage {
    ByCell(Sparse),
    ByGene(Sparse),
    Dense(Dense),
    /// With the file it was read from.
    Spooled(Spooled, PathBuf),
}

impl Matrix {
    /// A matrix of an AnnData file: a group with compressed rows or columns, or a dense dataset.
    pub(super) fn open(node: Node, n_cells: usize, n_genes: usize) -> Result<Self, Error> {
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
            Storage::Dense(Dense::open(node, n_genes, false)?)
        } else if is_stored_by_gene(&node)? {
            Storage::ByGene(Sparse::open(node, n_genes, n_cells)?)
        } else {
            Storage::ByCell(Sparse::open(node, n_cells, n_genes)?)
        };
        Ok(Self {
            n_cells,
            n_genes,
            storage,
        })
    }

    /// Compressed rows of cells, as 10x files have them.
    pub(super) fn by_cell(node: Node, n_cells: usize, n_genes: usize) -> Result<Self, Error> {
        Ok(Self {
            n_cells,
            n_genes,
            storage: Storage::ByCell(Sparse::open(node, n_cells, n_genes)?),
        })
    }

    /// A dense dataset whose rows are genes, as loom files have it.
    pub(super) fn dense_by_gene(node: Node, n_cells: usize, n_genes: usize) -> Result<Self, Error> {
        Ok(Self {
            n_cells,
            n_genes,
            storage: Storage::Dense(Dense::open(node, n_genes, true)?),
        })
    }

    /// Entries of a file that were put in order.
    pub fn spooled(spooled: Spooled, path: &Path) -> Self {
        Self {
            n_cells: spooled.n_cells,
            n_genes: spooled.n_genes,
            storage: Storage::Spooled(spooled, path.to_owned()),
        }
    }

    /// A matrix that is stored by gene, turned around in so much memory and, beyond that, a temporary file; none for others.
    pub fn turned(&self, memory: usize) -> Result<Option<Self>, Error> {
        let Storage::ByGene(sparse) = &self.storage else {
            return Ok(None);
        };
        let path = sparse.path();
        let mut spool = Spool::new(memory);
        sparse.each_entry(self.n_cells, |cell, gene, value| {
            spool.push(cell, gene, value).map_err(not_kept(path))
        })?;
        let spooled = spool.finish(self.n_cells, self.n_genes);
        Ok(Some(Self::spooled(spooled.map_err(not_kept(path))?, path)))
    }

    pub fn n_cells(&self) -> usize {
        self.n_cells
    }

    pub fn n_genes(&self) -> usize {
        self.n_genes
    }

    /// Number of stored values; none for a dense matrix, which does not store how many are zero.
    pub fn n_stored(&self) -> Option<usize> {
        match &self.storage {
            Storage::ByCell(sparse) | Storage::ByGene(sparse) => Some(sparse.n_stored()),
            Storage::Dense(_) => None,
            Storage::Spooled(spooled, _) => Some(spooled.n_stored),
        }
    }

    /// Reads some cells: genes sorted within each, repeated entries summed, zeros of a dense matrix dropped.
    ///
    /// A matrix that is stored by gene (CSC) is passed through from end to end on every call, in little memory:
    /// read as many cells at once as memory allows. Values that are not finite in single precision are an error.
    ///
    /// # Panics
    /// If there are no such cells.
    pub fn read(&self, cells: Range<usize>) -> Result<Counts, Error> {
        assert!(
            cells.start <= cells.end && cells.end <= self.n_cells,
            "cells {cells:?} of {}",
            self.n_cells
        );
        match &self.storage {
            Storage::ByCell(sparse) => sparse.read_rows(cells, self.n_genes),
            Storage::ByGene(sparse) => sparse.read_columns(cells, self.n_cells),
            Storage::Dense(dense) => dense.read(cells),
            Storage::Spooled(spooled, path) => spooled.read(cells).map_err(not_kept(path)),
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
            Storage::ByGene(sparse) => Box::new(sparse.count_columns(self.n_cells)?.into_iter()),
            Storage::Dense(_) => Box::new(std::iter::repeat_n(self.n_genes, self.n_cells)),
            Storage::Spooled(spooled, path) => {
                return spooled.blocks(max_values).map_err(not_kept(path));
            }
        };
        let mut blocks = Blocks::new(max_values);
        sizes.for_each(|size| blocks.add(size));
        Ok(blocks.finish())
    }
}
