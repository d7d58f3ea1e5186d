//! A table whose names and annotations are in memory and whose matrix is not.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Column, Matrix, Source};

/// A table of any format but AnnData.
pub struct Plain {
    pub path: PathBuf,
    pub cell_names: Vec<String>,
    pub gene_names: Vec<String>,
    /// Annotations of cells.
    pub obs: Vec<(String, Column)>,
    /// Annotations of genes.
    pub var: Vec<(String, Column)>,
    pub matrices: Vec<(Source, Arc<Matrix>)>,
}
