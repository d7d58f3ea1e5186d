//! Vectors of cells: a matrix of `obsm`, or `X` where it holds an embedding.

use std::ops::Range;

use ndarray::Array2;

use super::file::File;
use super::node::Node;
use super::sparse::require_numbers;
use super::values::check_size;
use crate::formats::{Error, Matrix, Source};

/// One vector for each cell, to be read a few cells at a time.
pub struct Vectors {
    n_cells: usize,
    width: usize,
    stored: Stored,
}

enum Stored {
    Obsm(Node),
    X(Box<Matrix>),
}

impl File {
    /// The vectors of `obsm/key`; none if there is no such element. Values may be NaN.
    pub fn vectors(&self, key: &str) -> Result<Option<Vectors>, Error> {
        let Some(node) = self.obsm(key)? else {
            return Ok(None);
        };
        require_numbers(&node)?;
        let n_cells = self.n_cells();
        let width = match node.shape()?[..] {
            [cells, width] if cells == n_cells && width > 0 => width,
            ref shape => {
                return Err(node.wrong(format!(
                    "its shape is {shape:?}, but {n_cells} cells with a vector each were expected"
                )));
            }
        };
        let stored = Stored::Obsm(node);
        Ok(Some(Vectors {
            n_cells,
            width,
            stored,
        }))
    }

    /// The rows of `X` as vectors.
    pub fn rows_of_x(&self) -> Result<Vectors, Error> {
        let matrix = self.matrix(&Source::X)?;
        Ok(Vectors {
            n_cells: matrix.n_cells(),
            width: matrix.n_genes(),
            stored: Stored::X(Box::new(matrix)),
        })
    }
}

impl Vectors {
    pub fn n_cells(&self) -> usize {
        self.n_cells
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vectors of some cells, [cells, width]. Panics if there are no such cells.
    pub fn read(&self, cells: Range<usize>) -> Result<Array2<f32>, Error> {
        assert!(cells.start <= cells.end && cells.end <= self.n_cells);
        match &self.stored {
            Stored::X(matrix) => Ok(matrix.read(cells)?.to_dense()),
            Stored::Obsm(node) => {
                let size = cells.len().saturating_mul(self.width);
                check_size(node, size, size_of::<f32>())?;
                let read = node.dataset()?.read_slice_2d((cells, 0..self.width));
                read.map_err(|source| node.damaged(source))
            }
        }
    }
}
