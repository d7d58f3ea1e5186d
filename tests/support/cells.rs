//! Simulated cells of known cell types, as a file.

use hdf5::types::VarLenUnicode;
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::{Column, h5ad};
use scgpt_tools::random::{Seed, below};
use std::path::Path;

pub const TYPES: [&str; 3] = ["alpha", "beta", "gamma"];
/// Genes that one cell type alone expresses strongly.
const MARKERS: usize = 8;

/// Cells of three cell types of unequal frequency, in two batches. Genes are in the vocabulary of the golden checkpoints.
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

    /// Cell type: half are alpha, a third beta, the rest gamma.
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

    /// Small counts everywhere and large ones for the markers of the cell type.
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
    write_named(path, counts, (&cell_names, genes), obs);
}

/// Writes cells and features of any names.
pub fn write_named<const N: usize>(
    path: &Path,
    counts: &Counts,
    (cell_names, features): (&[String], &[String]),
    obs: [(&str, Column); N],
) {
    let obs = obs.map(|(name, column)| (name.to_owned(), column));
    let cells = h5ad::Cells {
        obs: &obs,
        ..h5ad::Cells::new(counts, cell_names, features)
    };
    h5ad::create(path, &cells).expect("a new file");
}

/// Writes a MuData file of modalities that are in files of their own, all of the same cells in the same order.
pub fn write_multimodal(path: &Path, modalities: &[(&str, &Path)]) {
    let write = || -> hdf5::Result<()> {
        let file = hdf5::File::create(path)?;
        let kind: VarLenUnicode = "MuData".parse().expect("a text without zeros");
        let attribute = file.new_attr::<VarLenUnicode>().create("encoding-type")?;
        attribute.write_scalar(&kind)?;
        let all = file.create_group("mod")?;
        for (at, (name, source)) in modalities.iter().enumerate() {
            let source = hdf5::File::open(source)?;
            source.copy_to(&all, name)?;
            if at == 0 {
                for part in ["obs", "var"] {
                    source.group(part)?.copy_to(&file, part)?;
                }
            }
        }
        Ok(())
    };
    write().expect("a new file");
}
