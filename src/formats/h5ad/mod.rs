//! Cells in and out of AnnData `.h5ad` files.
//!
//! [`File`] reads what is requested and no more: names, single columns of `obs` and `var`, and any rows of `X`, a layer or
//! `raw`, from every encoding since anndata 0.5. [`write_copy`] adds columns, embeddings, graphs and unstructured values to
//! a copy of a file, [`create`] writes a new one. The encodings are those of the
//! on-disk format specification of AnnData (<https://anndata.readthedocs.io/en/stable/fileformat-prose.html>).

mod chunks;
mod column;
pub(super) mod dense;
mod encode;
mod file;
pub(super) mod frame;
mod global_heaps;
mod legacy;
pub(super) mod loom;
pub(super) mod node;
pub(super) mod sparse;
pub(super) mod tenx;
mod values;
mod vectors;
mod watchdog;
mod write;

#[cfg(test)]
mod tests;

pub use file::File;
pub(super) use file::open_root;
pub use vectors::Vectors;
pub use write::{Additions, Cells, Embedding, cell_names, create, write_copy};
