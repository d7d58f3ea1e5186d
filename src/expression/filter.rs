//! Which genes and cells have enough counts to be kept (docs/methods.md, "Count filters"). Returns index lists and changes
//! nothing.

use crate::counts::Counts;

/// Columns whose sum over all cells is at least `minimum`, in order.
pub fn genes_by_total(counts: &Counts, minimum: f64) -> Vec<usize> {
    let mut totals = vec![0.0; counts.n_genes];
    for (&gene, &value) in counts.genes.iter().zip(&counts.values) {
        totals[gene as usize] += f64::from(value);
    }
    (0..counts.n_genes)
        .filter(|&gene| totals[gene] >= minimum)
        .collect()
}

/// Cells whose sum over all genes is at least `minimum`, in order.
pub fn cells_by_total(counts: &Counts, minimum: f64) -> Vec<usize> {
    cells(counts, |values| {
        values.iter().map(|&value| f64::from(value)).sum::<f64>() >= minimum
    })
}

/// Cells that express (value above 0) at least `minimum` genes, in order.
pub fn cells_by_genes(counts: &Counts, minimum: usize) -> Vec<usize> {
    cells(counts, |values| {
        values.iter().filter(|&&value| value > 0.0).count() >= minimum
    })
}

fn cells(counts: &Counts, is_kept: impl Fn(&[f32]) -> bool) -> Vec<usize> {
    (0..counts.n_cells())
        .filter(|&cell| is_kept(counts.row(cell).1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::golden;

    #[test]
    fn golden_preprocessing_filters_keep_the_same_genes_and_cells() {
        let expected = golden::Tensors::read("pipeline_raw_nohvg_filtercells5.safetensors");
        let counts = golden::counts();
        let genes = genes_by_total(&counts, 3.0);
        assert_eq!(genes, expected.indices("genes_kept"));
        let cells = cells_by_total(&counts.select_genes(&genes), 5.0);
        assert_eq!(cells, expected.indices("cells_kept"));
        assert_eq!(cells.len(), 59);
    }

    #[test]
    fn limits_are_inclusive_and_stored_zeros_are_not_expressed() {
        let counts = Counts::from_rows(
            3,
            [vec![(0, 2.0), (1, 0.0)], vec![(0, 1.0), (2, 3.0)], vec![]],
        );
        assert_eq!(genes_by_total(&counts, 3.0), [0, 2]);
        assert_eq!(cells_by_total(&counts, 2.0), [0, 1]);
        assert_eq!(cells_by_genes(&counts, 1), [0, 1]);
        assert_eq!(cells_by_genes(&counts, 2), [1]);
        assert_eq!(cells_by_genes(&counts, 0), [0, 1, 2]);
        assert!(genes_by_total(&Counts::empty(0), 0.0).is_empty());
    }
}
