//! What the tests of several formats share: what is expected of files, and reading all of one.

use super::Error;
use super::text::TextTable;
use super::transpose_spool::Spooled;
use crate::support::needs::formats;

/// Cells, genes, values that are not zero, and their sum.
pub(super) fn summary(matrix: &Spooled) -> (usize, usize, usize, f64) {
    let (mut n_values, mut sum) = (0, 0.0);
    for block in matrix.blocks(1000).unwrap() {
        let counts = matrix.read(block).unwrap();
        n_values += counts.values.len();
        sum += counts.values.iter().copied().map(f64::from).sum::<f64>();
    }
    (matrix.n_cells, matrix.n_genes, n_values, sum)
}

/// What `EXPECTED.tsv` has for a file: what `summary` gives.
pub(super) fn expected(file: &str) -> (usize, usize, usize, f64) {
    let table = std::fs::read_to_string(formats("EXPECTED.tsv")).unwrap();
    let row = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .find(|row| row[0] == file)
        .expect("a row for the file");
    let count = |column: usize| row[column].parse().unwrap();
    (count(2), count(3), count(5), row[6].parse().unwrap())
}

/// The values of a whole matrix, cell by cell.
pub(super) fn dense(matrix: &Spooled) -> Vec<Vec<f32>> {
    let counts = matrix.read(0..matrix.n_cells).unwrap();
    let row = |(genes, values): (&[u32], &[f32])| {
        let mut row = vec![0.0; matrix.n_genes];
        for (&gene, &value) in genes.iter().zip(values) {
            row[gene as usize] = value;
        }
        row
    };
    counts.rows().map(row).collect()
}

/// Reads all of a table: it is consistent, or an error, not one of the disk, states the problem.
pub(super) fn exercise(opened: Result<TextTable, Error>) {
    match opened {
        Err(error) => assert!(!error.is_io(), "{error}"),
        Ok(plain) => {
            assert_eq!(plain.matrix.n_cells, plain.cell_names.len());
            assert_eq!(plain.matrix.n_genes, plain.gene_names.len());
            for (_, column) in &plain.var {
                assert_eq!(column.len(), plain.gene_names.len());
            }
            if let Ok(counts) = plain.matrix.read(0..plain.matrix.n_cells) {
                assert!(counts.values.iter().all(|value| value.is_finite()));
                assert!(
                    counts
                        .genes
                        .iter()
                        .all(|&gene| (gene as usize) < plain.gene_names.len())
                );
            }
        }
    }
}
