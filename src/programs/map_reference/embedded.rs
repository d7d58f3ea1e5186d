//! Cell embeddings of a file, read block by block.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, Axis};

use crate::failure::Failure;
use crate::formats::h5ad::{File, Vectors};
use crate::reference_index::{LARGEST, Metric, ReferenceIndex};

/// Element of obsm that `scgpt-embed` writes.
const USUAL_KEY: &str = "X_scGPT";
/// Numbers read at once (32 MB).
const BLOCK: usize = 1 << 23;

/// A file of embedded cells.
pub struct Embedded {
    pub file: File,
    /// Element with the embeddings, such as `obsm/X_scGPT`.
    pub element: String,
    path: PathBuf,
    vectors: Vectors,
}

/// Embeddings of some cells; cells without one are dropped.
pub struct Block {
    /// Prepared for the metric, [cells, embedding dimension].
    pub rows: Array2<f32>,
    /// Their indices in the file.
    pub cells: Vec<usize>,
}

impl Embedded {
    /// Opens a file and finds its embeddings: in the given element of obsm, else in that of scgpt-embed, else in X.
    pub fn open(path: &Path, key: Option<&str>) -> Result<Self> {
        let file = File::open(path)?;
        file.check_format()?;
        if file.n_cells() == 0 {
            return Err(Failure::Input.error(format!("`{}` has no cells", path.display())));
        }
        let (element, vectors) = match (file.vectors(key.unwrap_or(USUAL_KEY))?, key) {
            (Some(vectors), _) => (format!("obsm/{}", key.unwrap_or(USUAL_KEY)), vectors),
            (None, Some("X")) | (None, None) => ("X".to_owned(), file.rows_of_x()?),
            (None, Some(key)) => {
                return Err(Failure::Input.error(format!(
                    "`{}` has no `obsm/{key}`: embed the cells with scgpt-embed, or choose the element with their embeddings with `--obsm-key`",
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

    /// Embedding dimension.
    pub fn width(&self) -> usize {
        self.vectors.width()
    }

    pub fn n_cells(&self) -> usize {
        self.vectors.n_cells()
    }

    /// Name without directories.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Fails unless the embedding dimension is as expected.
    pub fn require_width(&self, width: usize, of: &str) -> Result<()> {
        if self.width() == width {
            return Ok(());
        }
        Err(Failure::Input.error(format!(
            "`{}`, `{}`: the embedding dimension is {}, but that of {of} is {width}: embed both with the same model, or choose another element with `--obsm-key`",
            self.path.display(),
            self.element,
            self.width()
        )))
    }

    /// Ranges of cells to read at once.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, step) = (self.n_cells(), (BLOCK / self.width().max(1)).max(1));
        (0..n)
            .step_by(step)
            .map(move |start| start..n.min(start + step))
    }

    /// The embeddings of some cells; cells without finite values, which express no gene in the vocabulary, are dropped.
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
                "`{}`, `{}`: {value} is not a valid embedding value; expected less than {LARGEST}",
                self.path.display(),
                self.element
            )));
        }
        ReferenceIndex::prepare(metric, &mut rows);
        let cells = kept.into_iter().map(|row| cells.start + row).collect();
        Ok(Block { rows, cells })
    }
}
