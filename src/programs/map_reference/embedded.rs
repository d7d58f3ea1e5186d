//! Cells with their vectors, read a few at a time.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, Axis};

use crate::atlas::{Atlas, LARGEST, Metric};
use crate::failure::Failure;
use crate::formats::h5ad::{File, Vectors};

/// Element of obsm that `scgpt-embed` writes.
const USUAL_KEY: &str = "X_scGPT";
/// Numbers read at once (32 MB).
const BLOCK: usize = 1 << 23;

/// A file of embedded cells.
pub struct Embedded {
    pub file: File,
    /// Which vectors are read, such as `obsm/X_scGPT`.
    pub element: String,
    path: PathBuf,
    vectors: Vectors,
}

/// Vectors of some cells that have one.
pub struct Block {
    /// Prepared, [cells, width].
    pub rows: Array2<f32>,
    /// Which cells of the file they are.
    pub cells: Vec<usize>,
}

impl Embedded {
    /// Opens a file and finds its vectors: in the element of obsm named, else in that of scgpt-embed, else in X.
    pub fn open(path: &Path, key: Option<&str>) -> Result<Self> {
        let file = File::open(path)?;
        if file.n_cells() == 0 {
            return Err(Failure::Input.error(format!("`{}` has no cells", path.display())));
        }
        let (element, vectors) = match (file.vectors(key.unwrap_or(USUAL_KEY))?, key) {
            (Some(vectors), _) => (format!("obsm/{}", key.unwrap_or(USUAL_KEY)), vectors),
            (None, Some("X")) | (None, None) => ("X".to_owned(), file.rows_of_x()?),
            (None, Some(key)) => {
                return Err(Failure::Input.error(format!(
                    "`{}` has no `obsm/{key}`; embed the cells with scgpt-embed, or name the element with their vectors in `--key`",
                    path.display()
                )));
            }
        };
        Ok(Self {
            file,
            element,
            path: path.to_owned(),
            vectors,
        })
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.vectors.width()
    }

    pub fn n_cells(&self) -> usize {
        self.vectors.n_cells()
    }

    /// Name without folders.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Fails unless vectors are as wide as those of an index.
    pub fn require_width(&self, width: usize, of: &str) -> Result<()> {
        if self.width() == width {
            return Ok(());
        }
        Err(Failure::Input.error(format!(
            "`{}`, `{}`: vectors of {} numbers, but those of {of} have {width}; embed both with the same model, or name the right element in `--key`",
            self.path.display(),
            self.element,
            self.width()
        )))
    }

    /// Ranges of cells to be read at once.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, step) = (self.n_cells(), (BLOCK / self.width().max(1)).max(1));
        (0..n)
            .step_by(step)
            .map(move |start| start..n.min(start + step))
    }

    /// The vectors of some cells; cells whose vector is not a number, because they express nothing the model knows, are left out.
    pub fn read(&self, cells: Range<usize>, metric: Metric) -> Result<Block> {
        let rows = self.vectors.read(cells.clone())?;
        let is_there = |row: &usize| rows.row(*row).iter().all(|value| value.is_finite());
        let kept: Vec<usize> = (0..rows.nrows()).filter(is_there).collect();
        let mut rows = if kept.len() < rows.nrows() {
            rows.select(Axis(0), &kept)
        } else {
            rows
        };
        if let Some(value) = rows.iter().find(|value| value.abs() > LARGEST) {
            return Err(Failure::Input.error(format!(
                "`{}`, `{}`: {value} is no number of an embedding, which are smaller than {LARGEST}",
                self.path.display(),
                self.element
            )));
        }
        Atlas::prepare(metric, &mut rows);
        let cells = kept.into_iter().map(|row| cells.start + row).collect();
        Ok(Block { rows, cells })
    }
}
