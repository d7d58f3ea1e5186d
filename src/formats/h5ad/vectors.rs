//! Cell embeddings: a matrix of `obsm`, or `X` where it holds an embedding.

use std::ops::Range;

use ndarray::Array2;

use super::file::File;
use super::node::Node;
use super::sparse::require_numbers;
use super::values::check_size;
use crate::formats::{Error, Matrix, Source};

/// One embedding for each cell, to be read a few cells at a time.
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
    /// The embeddings of `obsm/key`; none if there is no such element. Values may be NaN.
    ///
    /// Fails unless there is an embedding of at least one number for each cell, with all its bytes in the file.
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
                    "its shape is {shape:?}, but an embedding of each of {n_cells} cells was expected"
                )));
            }
        };
        check_size(&node, n_cells.saturating_mul(width), size_of::<f32>())?;
        let stored = Stored::Obsm(node);
        Ok(Some(Vectors {
            n_cells,
            width,
            stored,
        }))
    }

    /// The rows of `X` as embeddings. Fails as [`Self::vectors`] does.
    pub fn rows_of_x(&self) -> Result<Vectors, Error> {
        let matrix = self.matrix(&Source::X)?;
        if matrix.n_genes() == 0 {
            let problem = "`X` has no columns, but an embedding of each cell was expected";
            return Err(Error::input(self.path(), problem));
        }
        if matrix.n_stored().is_none() {
            // A dense matrix has its declared size; there are as many cells as there are names in the file.
            self.cell_names()?;
        }
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

    /// Embedding dimension.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The embeddings of some cells, [cells, dim]. Panics if there are no such cells.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::formats::h5ad::{Cells, Embedding, create};

    #[test]
    fn vectors_that_the_file_cannot_hold_are_rejected_before_any_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cells.h5ad");
        let names: Vec<String> = (0..3).map(|cell| format!("cell {cell}")).collect();
        let embedding = Embedding {
            width: 2,
            values: vec![0.5; 6],
        };
        let counts = Counts::from_rows(0, [[]; 3]);
        let cells = Cells {
            obsm: &[("X_scGPT".to_owned(), embedding)],
            ..Cells::new(&counts, &names, &[])
        };
        create(&path, &cells).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.vectors("X_scGPT").unwrap().unwrap().width(), 2);
        let message = file.rows_of_x().err().unwrap().to_string();
        assert!(message.contains("no columns"), "{message}");
        drop(file);
        // A chunk that was never written takes no space.
        let file = crate::formats::h5ad::write::unlocked()
            .open_rw(&path)
            .unwrap();
        file.unlink("obsm/X_scGPT").unwrap();
        let vectors = file.new_dataset::<f32>().chunk([3, 1024]);
        vectors.shape([3, 1 << 33]).create("obsm/X_scGPT").unwrap();
        file.close().unwrap();
        let found = File::open(&path).unwrap().vectors("X_scGPT");
        let message = found.err().unwrap().to_string();
        assert!(message.contains("obsm/X_scGPT"), "{message}");
    }
}
