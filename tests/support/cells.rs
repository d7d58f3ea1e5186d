//! Made-up cells of known types, as a file.

use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{Column, h5ad};
use scgpt_tools::random::{Seed, below};
use std::path::Path;

pub const TYPES: [&str; 3] = ["alpha", "beta", "gamma"];
/// Genes that one type alone expresses strongly.
const MARKERS: usize = 8;

/// Cells of three types of unequal frequency, in two batches. Genes are those that the golden checkpoints know.
#[derive(Debug, Clone, Copy)]
pub struct Simulated {
    pub cells: usize,
    pub genes: usize,
    pub seed: u64,
}

impl Simulated {
    pub const SMALL: Self = Self {
        cells: 240,
        genes: 60,
        seed: 1,
    };

    /// Type of a cell: half are alpha, a third beta, the rest gamma.
    pub fn type_of(cell: usize) -> &'static str {
        TYPES[[0, 1, 0, 1, 0, 2][cell % 6]]
    }

    pub fn batch_of(cell: usize) -> &'static str {
        if cell % 5 < 3 { "first" } else { "second" }
    }

    pub fn gene_names(&self) -> Vec<String> {
        (0..self.genes)
            .map(|gene| format!("GENE{gene:03}"))
            .collect()
    }

    /// Small counts everywhere and large ones for the markers of the cell's type.
    pub fn counts(&self) -> Counts {
        let row = |cell: usize| {
            let mut draws = Seed(self.seed).stream("simulated cell", &[cell as u64]);
            let kind = TYPES
                .iter()
                .position(|name| *name == Self::type_of(cell))
                .expect("a type");
            let markers = kind * MARKERS..(kind + 1) * MARKERS;
            let value = |gene: usize| {
                let marked = if markers.contains(&gene) {
                    4 + below(&mut draws, 6)
                } else {
                    0
                };
                (gene as u32, (marked + below(&mut draws, 3)) as f32)
            };
            (0..self.genes)
                .map(value)
                .filter(|(_, value)| *value > 0.0)
                .collect::<Vec<_>>()
        };
        Counts::from_rows(self.genes, (0..self.cells).map(row))
    }

    /// Writes the cells with the columns `cell_type` and `batch`.
    pub fn write(&self, path: &Path) {
        let column = |of: fn(usize) -> &'static str| {
            Column::from_labels(
                &(0..self.cells)
                    .map(|cell| Some(of(cell)))
                    .collect::<Vec<_>>(),
            )
        };
        let obs = [
            ("cell_type", column(Self::type_of)),
            ("batch", column(Self::batch_of)),
        ];
        write(path, &self.counts(), &self.gene_names(), obs);
    }
}

/// Writes any cells, named by their number.
pub fn write<const N: usize>(
    path: &Path,
    counts: &Counts,
    genes: &[String],
    obs: [(&str, Column); N],
) {
    let cell_names: Vec<String> = (0..counts.n_cells())
        .map(|cell| format!("cell{cell}"))
        .collect();
    let obs = obs.map(|(name, column)| (name.to_owned(), column));
    let cells = h5ad::Cells {
        counts,
        cell_names: &cell_names,
        gene_names: genes,
        obs: &obs,
        layers: &[],
    };
    h5ad::create(path, &cells).expect("a new file");
}
