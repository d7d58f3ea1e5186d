//! Entries that come in any order, out again cell by cell: a stable external sort within a given memory.
//!
//! What does not fit into memory goes to an unnamed temporary file as runs sorted by cell. A run is followed by its table
//! of offsets per cell, so reading some cells takes one slice of each run. Entries sorted already make runs of few cells.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::counts::{Blocks, Counts};

/// Entries held at least, however little memory is given.
const FEWEST: usize = 1024;
/// Bytes of memory for each held entry: itself, and half as much and some more to sort it.
const ENTRY_MEMORY: usize = 20;
/// Bytes of an entry in the file: its gene and its value.
const STORED: u64 = 8;
/// Bytes of an offset in the file.
const OFFSET: u64 = 8;
/// Entries that a cell has at most for each gene, so that reading a cell takes a bounded memory.
const REPEATS: usize = 64;
/// Cells whose offsets are read together.
const CHUNK: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Entry {
    cell: u32,
    gene: u32,
    value: f32,
}

/// Takes entries in any order.
#[derive(Debug)]
pub struct Spool {
    held: Vec<Entry>,
    most: usize,
    n_stored: usize,
    /// Cells and genes that the entries need.
    extent: (usize, usize),
    disk: Option<Disk>,
}

impl Spool {
    /// Holds entries within `memory` bytes, and the others in a temporary file.
    pub fn new(memory: usize) -> Self {
        Self {
            held: Vec::new(),
            most: (memory / ENTRY_MEMORY).max(FEWEST),
            n_stored: 0,
            extent: (0, 0),
            disk: None,
        }
    }

    /// Adds an entry with a finite value; zeros are dropped. An error is one of writing the temporary file.
    pub fn push(&mut self, cell: u32, gene: u32, value: f32) -> io::Result<()> {
        if value == 0.0 {
            return Ok(());
        }
        if self.held.len() == self.held.capacity() {
            self.make_room()?;
        }
        self.n_stored += 1;
        self.extent.0 = self.extent.0.max(cell as usize + 1);
        self.extent.1 = self.extent.1.max(gene as usize + 1);
        self.held.push(Entry { cell, gene, value });
        Ok(())
    }

    /// The whole matrix; an error where an entry lies outside of it, or the temporary file cannot be written.
    pub fn finish(mut self, n_cells: usize, n_genes: usize) -> io::Result<Spooled> {
        if self.extent.0 > n_cells || self.extent.1 > n_genes {
            let (cells, genes) = self.extent;
            return Err(invalid(format!(
                "entries of {cells} cells by {genes} genes do not fit into {n_cells} by {n_genes}"
            )));
        }
        if self.disk.is_some() {
            self.spill()?;
        }
        let place = match self.disk {
            Some(disk) => Place::Disk(disk),
            None => {
                self.held.sort_by_key(|entry| entry.cell);
                self.held.shrink_to_fit();
                let cells = self.held.iter().map(|entry| entry.cell);
                Place::Memory {
                    offsets: offsets(cells, 0..n_cells).collect(),
                    entries: self.held,
                }
            }
        };
        Ok(Spooled {
            n_cells,
            n_genes,
            n_stored: self.n_stored,
            place,
        })
    }

    fn make_room(&mut self) -> io::Result<()> {
        let held = self.held.len();
        if held < self.most {
            let more = held.max(FEWEST).min(self.most - held);
            self.held.reserve_exact(more);
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> io::Result<()> {
        let disk = match &mut self.disk {
            Some(disk) => disk,
            None => self.disk.insert(Disk::new()?),
        };
        self.held.sort_by_key(|entry| entry.cell);
        disk.append(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

/// For each of `cells` and their end, how many of the sorted cells of entries come before it.
fn offsets(sorted: impl Iterator<Item = u32>, cells: Range<usize>) -> impl Iterator<Item = u64> {
    let mut sorted = sorted.map(|cell| cell as usize).peekable();
    let mut passed = 0;
    (cells.start..=cells.end).map(move |cell| {
        while sorted.next_if(|&entry| entry < cell).is_some() {
            passed += 1;
        }
        passed
    })
}

/// Sorted runs in a temporary file.
#[derive(Debug)]
struct Disk {
    file: File,
    runs: Vec<Run>,
}

/// Where the entries of some cells lie, and the offsets of these cells in them.
#[derive(Debug)]
struct Run {
    cells: Range<usize>,
    entries_at: u64,
    offsets_at: u64,
}

impl Disk {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            runs: Vec::new(),
        })
    }

    fn append(&mut self, sorted: &[Entry]) -> io::Result<()> {
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
            return Ok(());
        };
        let cells = first.cell as usize..last.cell as usize + 1;
        let entries_at = self.file.stream_position()?;
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        for entry in sorted {
            out.write_all(&entry.gene.to_le_bytes())?;
            out.write_all(&entry.value.to_le_bytes())?;
        }
        for offset in offsets(sorted.iter().map(|entry| entry.cell), cells.clone()) {
            out.write_all(&offset.to_le_bytes())?;
        }
        out.flush()?;
        drop(out);
        self.runs.push(Run {
            cells,
            entries_at,
            offsets_at: entries_at + STORED * sorted.len() as u64,
        });
        Ok(())
    }

    fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// For each of `cells` and their end, how many entries of the run come before it.
    fn offsets(&self, run: &Run, cells: &Range<usize>) -> io::Result<Vec<u64>> {
        let within = |cell: usize| cell.clamp(run.cells.start, run.cells.end) - run.cells.start;
        let table = within(cells.start)..within(cells.end) + 1;
        let bytes = self.read(
            run.offsets_at + OFFSET * table.start as u64,
            table.len() * OFFSET as usize,
        )?;
        let at = |cell| {
            let offset = (within(cell) - table.start) * OFFSET as usize;
            let bytes = bytes[offset..]
                .first_chunk()
                .expect("the table reaches there");
            u64::from_le_bytes(*bytes)
        };
        Ok((cells.start..=cells.end).map(at).collect())
    }

    fn slice(&self, run: &Run, cells: &Range<usize>) -> io::Result<Slice<'_>> {
        let offsets = self.offsets(run, cells)?;
        let (start, end) = (offsets[0], offsets[cells.len()]);
        let at = run.entries_at + STORED * start;
        let bytes = self.read(at, ((end - start) * STORED) as usize)?;
        Ok(Slice::Disk { offsets, bytes })
    }
}

/// Entries of some cells, sorted by cell.
enum Slice<'a> {
    Memory {
        offsets: &'a [u64],
        entries: &'a [Entry],
    },
    Disk {
        offsets: Vec<u64>,
        bytes: Vec<u8>,
    },
}

impl Slice<'_> {
    /// Appends the genes and values of the cell at a position in the slice.
    fn append(&self, position: usize, row: &mut Vec<(u32, f32)>) {
        match self {
            Self::Memory { offsets, entries } => {
                let span = offsets[position] as usize..offsets[position + 1] as usize;
                row.extend(entries[span].iter().map(|entry| (entry.gene, entry.value)));
            }
            Self::Disk { offsets, bytes } => {
                let [start, end] = [0, 1].map(|next| {
                    let before = offsets[position + next] - offsets[0];
                    (before * STORED) as usize
                });
                row.extend(bytes[start..end].chunks_exact(STORED as usize).map(decode));
            }
        }
    }
}

fn decode(bytes: &[u8]) -> (u32, f32) {
    let half = |at: usize| *bytes[at..].first_chunk().expect("eight bytes");
    (u32::from_le_bytes(half(0)), f32::from_le_bytes(half(4)))
}

#[derive(Debug)]
enum Place {
    Memory {
        offsets: Vec<u64>,
        entries: Vec<Entry>,
    },
    Disk(Disk),
}

/// A matrix of cells by genes, from which cells are read in any order.
#[derive(Debug)]
pub struct Spooled {
    pub n_cells: usize,
    pub n_genes: usize,
    /// Values that were given and are not zero; repeated ones count each.
    pub n_stored: usize,
    place: Place,
}

impl Spooled {
    /// Splits the cells into blocks of at most `max_values` stored values, but at least one cell.
    ///
    /// An error is one of reading the temporary file, or a cell with far more entries than genes.
    pub fn blocks(&self, max_values: usize) -> io::Result<Vec<Range<usize>>> {
        let mut blocks = Blocks::new(max_values);
        for first in (0..self.n_cells).step_by(CHUNK) {
            let sizes = self.sizes(first..self.n_cells.min(first + CHUNK))?;
            for (cell, size) in (first..).zip(sizes) {
                if size / REPEATS > self.n_genes {
                    return Err(invalid(format!(
                        "cell {cell} (from 0) has {size} entries, but there are only {} genes",
                        self.n_genes
                    )));
                }
                blocks.add(size);
            }
        }
        Ok(blocks.finish())
    }

    /// The given cells: repeated entries are summed in the order they came, zeros dropped.
    ///
    /// An error is one of reading the temporary file, or a sum too large for 32 bits.
    pub fn read(&self, cells: Range<usize>) -> io::Result<Counts> {
        let slices: Vec<Slice> = match &self.place {
            Place::Memory { offsets, entries } => vec![Slice::Memory {
                offsets: &offsets[cells.start..=cells.end],
                entries,
            }],
            Place::Disk(disk) => {
                let runs = disk.runs.iter().filter(|run| overlap(&run.cells, &cells));
                runs.map(|run| disk.slice(run, &cells))
                    .collect::<io::Result<_>>()?
            }
        };
        let (mut counts, mut row) = (Counts::empty(self.n_genes), Vec::new());
        for position in 0..cells.len() {
            row.clear();
            for slice in &slices {
                slice.append(position, &mut row);
            }
            merge(&mut row);
            if let Some((gene, _)) = row.iter().find(|(_, value)| !value.is_finite()) {
                let cell = cells.start + position;
                return Err(invalid(format!(
                    "the entries of cell {cell} and gene {gene} (from 0) have a sum too large for 32 bits"
                )));
            }
            counts.push(row.iter().copied());
        }
        Ok(counts)
    }

    /// Stored values of each of the cells.
    fn sizes(&self, cells: Range<usize>) -> io::Result<Vec<usize>> {
        let mut sizes = vec![0; cells.len()];
        let mut add = |offsets: &[u64]| {
            for (size, pair) in sizes.iter_mut().zip(offsets.windows(2)) {
                *size += (pair[1] - pair[0]) as usize;
            }
        };
        match &self.place {
            Place::Memory { offsets, .. } => add(&offsets[cells.start..=cells.end]),
            Place::Disk(disk) => {
                for run in disk.runs.iter().filter(|run| overlap(&run.cells, &cells)) {
                    add(&disk.offsets(run, &cells)?);
                }
            }
        }
        Ok(sizes)
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Brings genes into order, sums what is repeated, drops zeros.
fn merge(row: &mut Vec<(u32, f32)>) {
    if row.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    row.sort_by_key(|&(gene, _)| gene);
    row.dedup_by(|next, sum| {
        let same = next.0 == sum.0;
        if same {
            sum.1 += next.1;
        }
        same
    });
    row.retain(|&(_, value)| value != 0.0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn spooled(entries: &[(u32, u32, f32)], most: usize) -> Spooled {
        let mut spool = Spool {
            most,
            ..Spool::new(0)
        };
        for &(cell, gene, value) in entries {
            spool.push(cell, gene, value).unwrap();
        }
        spool.finish(50, 9).unwrap()
    }

    fn summed(entries: &[(u32, u32, f32)]) -> Counts {
        let mut sums: BTreeMap<(u32, u32), f32> = BTreeMap::new();
        for &(cell, gene, value) in entries {
            *sums.entry((cell, gene)).or_default() += value;
        }
        let rows = (0..50).map(|cell| {
            let row = sums.range((cell, 0)..(cell + 1, 0));
            let pairs = row.map(|(&(_, gene), &value)| (gene, value));
            pairs.filter(|pair| pair.1 != 0.0).collect::<Vec<_>>()
        });
        Counts::from_rows(9, rows)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cells_come_back_from_memory_and_from_disk(
            entries in prop::collection::vec((0u32..50, 0u32..9, -2i8..3), 0..300),
            max_values in 0usize..40,
        ) {
            let entries: Vec<_> = entries.into_iter().map(|(cell, gene, value)| (cell, gene, f32::from(value) / 10.0)).collect();
            let expected = summed(&entries);
            for most in [1, 7, 64, 1000] {
                let spooled = spooled(&entries, most);
                prop_assert_eq!(&spooled.read(0..50).unwrap(), &expected);
                let blocks = spooled.blocks(max_values).unwrap();
                prop_assert_eq!(blocks.iter().map(Range::len).sum::<usize>(), 50);
                for block in blocks {
                    let cells: Vec<usize> = block.clone().collect();
                    prop_assert_eq!(spooled.read(block).unwrap(), expected.select_cells(&cells));
                }
            }
        }
    }

    #[test]
    fn blocks_hold_at_most_so_many_values() {
        let entries: Vec<_> = (0..200).map(|at| (at / 4, at % 4, 1.0)).collect();
        for most in [10, 1000] {
            let spooled = spooled(&entries, most);
            assert_eq!(spooled.n_stored, 200);
            assert_eq!(spooled.blocks(100).unwrap(), [0..25, 25..50]);
            assert_eq!(spooled.blocks(0).unwrap().len(), 50);
        }
    }

    #[test]
    fn entries_outside_and_sums_too_large_are_rejected() {
        let mut spool = Spool::new(0);
        spool.push(5, 0, 1.0).unwrap();
        assert!(spool.finish(5, 1).is_err());
        let huge = spooled(&[(1, 2, f32::MAX), (1, 2, f32::MAX)], 10);
        assert!(huge.read(0..1).is_ok());
        assert!(
            huge.read(1..2)
                .unwrap_err()
                .to_string()
                .contains("cell 1 and gene 2")
        );
    }

    #[test]
    fn threads_may_share_what_was_spooled() {
        fn shared<T: Send + Sync>() {}
        shared::<Spooled>();
    }
}
