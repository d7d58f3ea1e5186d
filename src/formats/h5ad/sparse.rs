//! A compressed sparse matrix in a file: its offsets, and slices of its indices and values.

use std::ops::Range;
use std::path::Path;

use hdf5::types::{H5Type, TypeDescriptor};
use rayon::prelude::*;

use super::chunks::{Chunks, Number};
use super::node::Node;
use super::values::check_size;
use crate::counts::Counts;
use crate::formats::Error;

/// Stored values that are read together when a whole matrix has to be passed through (8 to 16 MB of memory).
const PIECE: usize = 1 << 20;
/// Stored values that a row may have even if there are fewer columns, because some writers repeat entries.
const LONGEST_ROW: usize = 1 << 20;

/// A compressed sparse matrix; `offsets` has one entry more than there are cells (or genes, if stored by gene).
pub(in crate::formats) struct Sparse {
    pub offsets: Vec<usize>,
    node: Node,
    indices: Numbers,
    data: Numbers,
}

/// A dataset of numbers, with its chunks where they can be unpacked without HDF5.
struct Numbers {
    node: Node,
    chunks: Option<Chunks>,
}

impl Numbers {
    fn open(node: Node) -> Result<Self, Error> {
        Ok(Self {
            chunks: Chunks::open(&node)?,
            node,
        })
    }

    /// Numbers that are unpacked without HDF5 and are all sound; none if HDF5 has to read them.
    fn unpack<T: Number>(
        &self,
        stored: Range<usize>,
        sound: impl Fn(&T) -> bool + Sync,
    ) -> Result<Option<Vec<T>>, Error> {
        check_size(&self.node, stored.len(), size_of::<T>())?;
        let chunks = self.chunks.as_ref();
        Ok(chunks.and_then(|chunks| chunks.read(stored, sound)))
    }
}

impl Sparse {
    pub fn open(node: Node, n_rows: usize, n_columns: usize) -> Result<Self, Error> {
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
        let is_too_long = |ends: &[i64]| ends[1] - ends[0] > n_columns.max(LONGEST_ROW) as i64;
        let in_order = offsets.is_sorted() && offsets[0] == 0 && offsets[n_rows] <= n_stored as i64;
        if !in_order {
            return Err(indptr.wrong(format!(
                "offsets do not increase from 0 to at most {n_stored}"
            )));
        }
        if let Some(row) = offsets.windows(2).position(is_too_long) {
            let found = offsets[row + 1] - offsets[row];
            return Err(indptr.wrong(format!(
                "row {row} (counted from 0) has {found} values, at most {n_columns} were expected"
            )));
        }
        Ok(Self {
            offsets: offsets.into_iter().map(|offset| offset as usize).collect(),
            node,
            indices: Numbers::open(indices)?,
            data: Numbers::open(data)?,
        })
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        self.node.file()
    }

    /// Number of stored values.
    pub fn n_stored(&self) -> usize {
        *self.offsets.last().expect("offsets start with 0")
    }

    /// Some rows of a matrix that is stored by cell.
    pub fn read_rows(&self, cells: Range<usize>, n_genes: usize) -> Result<Counts, Error> {
        let offsets = &self.offsets[cells.start..=cells.end];
        let stored = offsets[0]..offsets[offsets.len() - 1];
        let (genes, values) = rayon::join(
            || self.read_indices(stored.clone(), n_genes),
            || self.read_values(stored.clone()),
        );
        let (genes, (values, finite)) = (genes?, values?);
        let offsets: Vec<usize> = offsets.iter().map(|offset| offset - stored.start).collect();
        self.check_finite((&values, finite), |at| {
            (
                cells.start + offsets.partition_point(|&offset| offset <= at) - 1,
                genes[at] as usize,
            )
        })?;
        let counts = Counts {
            n_genes,
            offsets,
            genes,
            values,
        };
        let is_sorted = |cell| counts.row(cell).0.is_sorted_by(|a, b| a < b);
        Ok(if (0..counts.n_cells()).into_par_iter().all(is_sorted) {
            counts
        } else {
            sort_rows(&counts)
        })
    }

    /// Some cells of a matrix that is stored by gene, which is passed through from end to end.
    pub fn read_columns(&self, cells: Range<usize>, n_cells: usize) -> Result<Counts, Error> {
        let mut entries: Vec<(u32, u32, f32)> = Vec::new();
        self.each_entry(n_cells, |cell, gene, value| {
            if cells.contains(&(cell as usize)) {
                entries.push((cell, gene, value));
            }
            Ok(())
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
        Ok(Counts::from_rows(self.offsets.len() - 1, rows))
    }

    /// Iterates over the entries (cell, gene, value) of a matrix that is stored by gene, gene by gene.
    pub fn each_entry(
        &self,
        n_cells: usize,
        mut work: impl FnMut(u32, u32, f32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for stored in pieces(0..self.n_stored()) {
            let rows = self.read_indices(stored.clone(), n_cells)?;
            let (values, finite) = self.read_values(stored.clone())?;
            let gene_of = |at: usize| self.offsets.partition_point(|&offset| offset <= at) - 1;
            let mut gene = gene_of(stored.start);
            self.check_finite((&values, finite), |at| {
                (rows[at] as usize, gene_of(stored.start + at))
            })?;
            for (at, (&row, &value)) in rows.iter().zip(&values).enumerate() {
                while self.offsets[gene + 1] <= stored.start + at {
                    gene += 1;
                }
                work(row, gene as u32, value)?;
            }
        }
        Ok(())
    }

    /// Stored values of every cell of a matrix that is stored by gene.
    pub fn count_columns(&self, n_cells: usize) -> Result<Vec<usize>, Error> {
        let mut sizes = vec![0; n_cells];
        for stored in pieces(0..self.n_stored()) {
            for row in self.read_indices(stored, n_cells)? {
                sizes[row as usize] += 1;
            }
        }
        Ok(sizes)
    }

    fn read_indices(&self, stored: Range<usize>, limit: usize) -> Result<Vec<u32>, Error> {
        let sound = |&index: &u32| (index as usize) < limit;
        if let Some(indices) = self.indices.unpack(stored.clone(), sound)? {
            return Ok(indices);
        }
        // Read as wide as they can be, because HDF5 clamps what does not fit.
        let node = &self.indices.node;
        let check = |index: i64| {
            let wrong = || {
                node.wrong(format!(
                    "index {index} is not one of 0 to {}",
                    limit as i64 - 1
                ))
            };
            u32::try_from(index)
                .ok()
                .filter(|&index| (index as usize) < limit)
                .ok_or_else(wrong)
        };
        let indices = read_slice::<i64>(node, stored)?;
        indices.into_iter().map(check).collect()
    }

    /// Stored values, and whether they are known to be finite.
    fn read_values(&self, stored: Range<usize>) -> Result<(Vec<f32>, bool), Error> {
        let finite = |value: &f32| value.is_finite();
        match self.data.unpack(stored.clone(), finite)? {
            Some(values) => Ok((values, true)),
            None => Ok((read_slice(&self.data.node, stored)?, false)),
        }
    }

    fn check_finite(
        &self,
        (values, known): (&[f32], bool),
        place: impl Fn(usize) -> (usize, usize),
    ) -> Result<(), Error> {
        let is_wrong = |value: &f32| !value.is_finite();
        let wrong = (!known).then(|| values.iter().position(is_wrong));
        match wrong.flatten() {
            Some(at) => {
                let (cell, gene) = place(at);
                Err(self.node.not_finite(cell, gene, values[at]))
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
        None => Err(node.wrong("the encoding of the matrix is missing")),
    }
}

/// A short list of sizes that is stored as a dataset.
pub(super) fn read_sizes(node: &Node) -> Result<Vec<usize>, Error> {
    let sizes: Vec<i64> = node.values()?.numbers()?;
    let size = |&size: &i64| usize::try_from(size).ok();
    let found: Option<Vec<usize>> = sizes.iter().map(size).collect();
    found.ok_or_else(|| node.wrong(format!("{sizes:?} are not sizes")))
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
