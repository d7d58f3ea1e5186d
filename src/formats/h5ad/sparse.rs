//! A compressed sparse matrix in a file: its offsets, and slices of its indices and values.

use std::ops::Range;

use hdf5::types::{H5Type, IntSize, TypeDescriptor};

use super::node::Node;
use super::values::check_size;
use crate::formats::Error;

/// A compressed sparse matrix; `offsets` has one entry more than there are cells (or genes, if stored by gene).
pub(in crate::formats) struct Sparse {
    pub offsets: Vec<usize>,
    indices: Node,
    data: Node,
}

impl Sparse {
    pub fn open(node: &Node, n_rows: usize) -> Result<Self, Error> {
        let (indptr, indices, data) = (
            node.require("indptr")?,
            node.require("indices")?,
            node.require("data")?,
        );
        for part in [&indptr, &indices, &data] {
            require_numbers(part)?;
        }
        let (n_stored, n_indices) = (one_dimension(&data)?, one_dimension(&indices)?);
        if n_stored != n_indices {
            return Err(node.wrong(format!("it has {n_stored} values, but {n_indices} indices")));
        }
        let expected = n_rows + 1;
        let found = one_dimension(&indptr)?;
        if found != expected {
            return Err(indptr.wrong(format!("it has {found} offsets, {expected} were expected")));
        }
        let offsets = read_slice::<i64>(&indptr, 0..expected)?;
        let in_order = offsets.is_sorted() && offsets[0] == 0 && offsets[n_rows] <= n_stored as i64;
        if !in_order {
            return Err(indptr.wrong(format!(
                "offsets do not increase from 0 to at most {n_stored}"
            )));
        }
        Ok(Self {
            offsets: offsets.into_iter().map(|offset| offset as usize).collect(),
            indices,
            data,
        })
    }

    /// Number of stored values.
    pub fn n_stored(&self) -> usize {
        *self.offsets.last().expect("offsets start with 0")
    }

    /// Indices of the stored values `stored`, each checked to be below `limit`.
    pub fn read_indices(&self, stored: Range<usize>, limit: usize) -> Result<Vec<u32>, Error> {
        // Converted by hand, because HDF5 clamps what does not fit; 32 bits, what nearly all files have, without a detour.
        let narrow = matches!(
            self.indices.descriptor()?,
            TypeDescriptor::Integer(IntSize::U4)
        );
        if narrow {
            self.check_indices(read_slice::<i32>(&self.indices, stored)?, limit)
        } else {
            self.check_indices(read_slice::<i64>(&self.indices, stored)?, limit)
        }
    }

    /// The stored values `stored`.
    pub fn read_values(&self, stored: Range<usize>) -> Result<Vec<f32>, Error> {
        read_slice(&self.data, stored)
    }

    fn check_indices<I: Copy + Into<i64>>(
        &self,
        indices: Vec<I>,
        limit: usize,
    ) -> Result<Vec<u32>, Error> {
        let check = |index: I| {
            let index: i64 = index.into();
            let wrong = || {
                self.indices.wrong(format!(
                    "index {index} is not one of 0 to {}",
                    limit as i64 - 1
                ))
            };
            u32::try_from(index)
                .ok()
                .filter(|&index| (index as usize) < limit)
                .ok_or_else(wrong)
        };
        indices.into_iter().map(check).collect()
    }
}

/// The shape that a sparse matrix declares.
pub(in crate::formats) fn sparse_shape(node: &Node) -> Result<Option<Vec<usize>>, Error> {
    let shape = match node.sizes_attribute("shape")? {
        Some(shape) => Some(shape),
        None => node.sizes_attribute("h5sparse_shape")?,
    };
    Ok(shape.map(|shape| {
        shape
            .into_iter()
            .map(|size| usize::try_from(size).unwrap_or(usize::MAX))
            .collect()
    }))
}

pub(in crate::formats) fn is_stored_by_gene(node: &Node) -> Result<bool, Error> {
    let format = match node.encoding()? {
        Some(encoding) => Some(encoding),
        None => node.text_attribute("h5sparse_format")?,
    };
    match format.as_deref() {
        Some("csr_matrix" | "csr") => Ok(false),
        Some("csc_matrix" | "csc") => Ok(true),
        Some(other) => Err(node.wrong(format!(
            "matrices with encoding `{other}` are not supported"
        ))),
        None => Err(node.wrong("it does not say how the matrix is encoded")),
    }
}

pub(in crate::formats) fn require_numbers(node: &Node) -> Result<(), Error> {
    match node.descriptor()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            Ok(())
        }
        other => Err(node.wrong(format!("numbers were expected, `{other}` was found"))),
    }
}

fn one_dimension(node: &Node) -> Result<usize, Error> {
    match node.shape()?[..] {
        [len] => Ok(len),
        ref shape => Err(node.wrong(format!(
            "{} dimensions were found, one was expected",
            shape.len()
        ))),
    }
}

fn read_slice<T: H5Type>(node: &Node, range: Range<usize>) -> Result<Vec<T>, Error> {
    check_size(node, range.len(), size_of::<T>())?;
    let values = node
        .dataset()?
        .read_slice_1d::<T, _>(range)
        .map_err(|source| node.damaged(source))?;
    Ok(values.into_raw_vec_and_offset().0)
}
