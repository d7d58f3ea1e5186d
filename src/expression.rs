//! From counts to values: filters, normalization, highly variable genes, and the type of values in a matrix.
//!
//! Works on [`crate::counts::Counts`] alone; reads no file and links no tensor library. Binning is a step of `tokens`.
//! See docs/methods.md, "Expression values".

pub mod filter;
pub mod normalize;
pub mod select_genes;
pub mod state;

use crate::counts::Counts;

/// Why values cannot be transformed or genes cannot be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(
        "cell {cell} (counted from 0) has the value {value} for gene {gene}, but counts cannot be negative: \
         give raw or log-normalized values, not scaled ones"
    )]
    Negative { cell: usize, gene: u32, value: f32 },
    #[error("the normalization target is {0}, but must be a positive number, such as 10000")]
    Target(f32),
    #[error("no highly variable gene can be chosen from {cells} cell(s): at least 2 are needed")]
    FewCells { cells: usize },
    #[error("no highly variable gene can be chosen from a matrix without genes")]
    NoGenes,
    #[error("the number of highly variable genes to keep is 0, but must be at least 1")]
    NoneWanted,
    #[error("{batches} batch labels for {cells} cells: there must be one per cell")]
    BatchLabels { batches: usize, cells: usize },
    #[error(
        "batch {code} has a single cell, but highly variable genes within batches need at least 2 cells in each: \
         merge or remove that batch, or choose genes without batches"
    )]
    SmallBatch { code: u32 },
}

/// Fails on the first negative value.
fn require_non_negative(counts: &Counts) -> Result<(), Error> {
    let Some(at) = counts.values.iter().position(|&value| value < 0.0) else {
        return Ok(());
    };
    let cell = counts.offsets.partition_point(|&offset| offset <= at) - 1;
    Err(Error::Negative {
        cell,
        gene: counts.genes[at],
        value: counts.values[at],
    })
}

#[cfg(test)]
mod golden {
    //! The fixture of 60 cells by 150 genes in two batches, shared by the tests of this module.
    use std::path::PathBuf;

    use safetensors::SafeTensors;

    use crate::counts::Counts;

    pub fn path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/preprocessing")
            .join(name)
    }

    pub fn text(name: &str) -> String {
        std::fs::read_to_string(path(name)).expect("the fixture is part of the repository")
    }

    /// Raw counts from the 10x-style text triplet, whose rows are genes.
    pub fn counts() -> Counts {
        let text = text("mtx/matrix.mtx");
        let mut lines = text.lines().filter(|line| !line.starts_with('%'));
        let numbers = |line: &str| {
            line.split(' ')
                .map(|word| word.parse::<usize>().unwrap())
                .collect::<Vec<_>>()
        };
        let size = numbers(lines.next().unwrap());
        let mut rows = vec![Vec::new(); size[1]];
        for entry in lines.map(numbers) {
            rows[entry[1] - 1].push((entry[0] as u32 - 1, entry[2] as f32));
        }
        for row in &mut rows {
            row.sort_by_key(|&(gene, _)| gene);
        }
        Counts::from_rows(size[0], rows)
    }

    /// Batch of each cell: `b0` is 0, `b1` is 1.
    pub fn batches() -> Vec<u32> {
        let batch = |line: &str| line.split('\t').nth(1).unwrap()[1..].parse().unwrap();
        text("mtx/obs.tsv").lines().skip(1).map(batch).collect()
    }

    /// Tensors of one fixture file, by name.
    pub struct Tensors(Vec<u8>);

    impl Tensors {
        pub fn read(name: &str) -> Self {
            Self(std::fs::read(path(name)).expect("the fixture is part of the repository"))
        }

        fn bytes<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
            let tensors = SafeTensors::deserialize(&self.0).unwrap();
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(N)
                .map(|bytes| bytes.try_into().unwrap())
                .collect()
        }

        pub fn f32(&self, name: &str) -> Vec<f32> {
            self.bytes(name)
                .into_iter()
                .map(f32::from_le_bytes)
                .collect()
        }

        pub fn f64(&self, name: &str) -> Vec<f64> {
            self.bytes(name)
                .into_iter()
                .map(f64::from_le_bytes)
                .collect()
        }

        pub fn indices(&self, name: &str) -> Vec<usize> {
            self.bytes(name)
                .into_iter()
                .map(|bytes| i64::from_le_bytes(bytes) as usize)
                .collect()
        }
    }

    pub fn dense(counts: &Counts) -> Vec<f32> {
        let mut dense = vec![0.0; counts.n_cells() * counts.n_genes];
        for (cell, (genes, values)) in counts.rows().enumerate() {
            for (&gene, &value) in genes.iter().zip(values) {
                dense[cell * counts.n_genes + gene as usize] = value;
            }
        }
        dense
    }

    pub fn sparse(dense: &[f32], n_genes: usize) -> Counts {
        let row = |row: &[f32]| {
            let pairs = row
                .iter()
                .copied()
                .enumerate()
                .filter(|&(_, value)| value != 0.0);
            pairs
                .map(|(gene, value)| (gene as u32, value))
                .collect::<Vec<_>>()
        };
        Counts::from_rows(n_genes, dense.chunks(n_genes).map(row))
    }
}
