//! Principal component regression: how much of the variance does the batch explain (Büttner et al. 2019, Nature Methods
//! 16:43)?

use ndarray::{ArrayView1, ArrayView2};

use super::{Classes, require_one_per_cell};
use crate::analysis::{Error, require_finite};

/// Fraction of variance explained by the batch: R^2 of each component regressed on the batch (a class, so one mean per
/// batch), weighted by the component's fraction of the variance.
///
/// `scores` is [cells, components]; `variances` has the variance of each component. `None` if there is one batch only, or no
/// variance.
pub fn principal_component_regression(
    scores: ArrayView2<'_, f64>,
    variances: &[f64],
    batches: &[usize],
) -> Result<Option<f64>, Error> {
    require_one_per_cell("batches", batches.len(), scores.nrows())?;
    require_finite(scores)?;
    if variances.len() != scores.ncols() {
        return Err(Error::Columns {
            what: "the matrix of components",
            found: scores.ncols(),
            expected: variances.len(),
        });
    }
    require_finite(ArrayView2::from_shape((1, variances.len()), variances).expect("one row"))?;
    let batches = Classes::new(batches);
    let total: f64 = variances.iter().sum();
    if batches.len() < 2 || total <= 0.0 {
        return Ok(None);
    }
    let components = scores.columns().into_iter().zip(variances);
    let explained = components.map(|(values, variance)| variance * r_squared(values, &batches));
    Ok(Some(explained.sum::<f64>() / total))
}

/// How much less the batch explains after integration, as a fraction of what it explained before; 0 if it explains more.
///
/// `None` if the batch explained nothing before.
pub fn compare(before: f64, after: f64) -> Option<f64> {
    (before > 0.0).then(|| ((before - after) / before).max(0.0))
}

/// Fraction of a component's sum of squares that lies between batches; 0 of a constant.
fn r_squared(values: ArrayView1<'_, f64>, batches: &Classes) -> f64 {
    let mean = values.sum() / values.len() as f64;
    let mut sums = vec![0.0; batches.len()];
    let mut total = 0.0;
    for (value, &batch) in values.iter().zip(&batches.codes) {
        sums[batch] += value - mean;
        total += (value - mean) * (value - mean);
    }
    let counts = batches.counts.iter().map(|&count| count as f64);
    let between: f64 = sums.iter().zip(counts).map(|(sum, n)| sum * sum / n).sum();
    if total > 0.0 { between / total } else { 0.0 }
}
