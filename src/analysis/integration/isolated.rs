//! Isolated labels: are cell types found in few batches separated from the others (Luecken et al. 2022)?

use super::{Classes, mean, pick, require_one_per_cell, silhouette::rescaled_mean};
use crate::analysis::Error;

/// Labels found in the fewest batches, by increasing code; all labels if every label is in equally many.
pub fn labels(labels: &[usize], batches: &[usize]) -> Result<Vec<usize>, Error> {
    require_one_per_cell("batches", batches.len(), labels.len())?;
    let mut found = Vec::new();
    for cells in Classes::new(labels).members() {
        let n_batches = Classes::new(&pick(batches, &cells)).len();
        found.extend(cells.first().map(|&cell| (labels[cell], n_batches)));
    }
    let fewest = found.iter().map(|&(_, n_batches)| n_batches).min();
    found.retain(|&(_, n_batches)| Some(n_batches) == fewest);
    Ok(found.into_iter().map(|(label, _)| label).collect())
}

/// Mean over isolated labels of the mean of (silhouette + 1) / 2 of the label's cells.
///
/// `silhouettes` are those of all cells by label ([`super::silhouette::samples`]). `None` without cells, or with one batch: it
/// has all labels.
pub fn score(
    silhouettes: &[f64],
    labels: &[usize],
    batches: &[usize],
) -> Result<Option<f64>, Error> {
    require_one_per_cell("silhouettes", silhouettes.len(), labels.len())?;
    let isolated = self::labels(labels, batches)?;
    if Classes::new(batches).len() < 2 {
        return Ok(None);
    }
    let of_label = |label: usize| {
        let cells = labels.iter().zip(silhouettes);
        let own: Vec<f64> = cells
            .filter(|(other, _)| **other == label)
            .map(|(_, &silhouette)| silhouette)
            .collect();
        rescaled_mean(&own)
    };
    Ok(mean(isolated.into_iter().filter_map(of_label)))
}
