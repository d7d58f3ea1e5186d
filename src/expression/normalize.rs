//! Library-size normalization and log1p (docs/methods.md, "Normalization"), in place.
//!
//! A number given as the target is always honored, whole or not, and the median is taken over cells that have counts.
//! Taking logarithms changes the given matrix and no other. `Preprocessor` of the original implementation
//! (`scgpt/preprocess.py`) differs.

use rayon::prelude::*;

use super::{Error, require_non_negative};
use crate::counts::Counts;

/// What every cell's values are made to sum to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This many counts, such as 10,000.
    Sum(f32),
    /// The median of the sums of cells that have counts.
    Median,
}

/// Scales each cell so that its values sum to the target; cells without counts stay as they are.
///
/// Sums are taken in f64 and rounded to f32; the rest is f32 arithmetic. Fails on negative values and on a target that is
/// not a positive number.
pub fn normalize_total(counts: &mut Counts, target: Target) -> Result<(), Error> {
    require_non_negative(counts)?;
    let sums: Vec<f32> = counts.rows().map(|(_, values)| sum(values)).collect();
    let target = match target {
        Target::Sum(target) if target.is_finite() && target > 0.0 => target,
        Target::Sum(target) => return Err(Error::Target(target)),
        Target::Median => median_of_positive(&sums),
    };
    for (cell, &sum) in sums.iter().enumerate().filter(|&(_, &sum)| sum > 0.0) {
        let divisor = sum / target;
        for value in counts.row_mut(cell).1 {
            *value /= divisor;
        }
    }
    Ok(())
}

/// Replaces each value x by the natural logarithm of 1 + x; fails on negative values.
pub fn log1p(counts: &mut Counts) -> Result<(), Error> {
    require_non_negative(counts)?;
    counts
        .values
        .par_iter_mut()
        .for_each(|value| *value = value.ln_1p());
    Ok(())
}

fn sum(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() as f32
}

/// 1 if no sum is positive; then nothing is scaled and the number does not matter.
fn median_of_positive(sums: &[f32]) -> f32 {
    let mut positive: Vec<f32> = sums.iter().copied().filter(|&sum| sum > 0.0).collect();
    positive.sort_by(f32::total_cmp);
    match positive.len() {
        0 => 1.0,
        n if n % 2 == 1 => positive[n / 2],
        n => (positive[n / 2 - 1] + positive[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{filter, golden};

    fn filtered() -> Counts {
        let counts = golden::counts();
        counts.select_genes(&filter::genes_by_total(&counts, 3.0))
    }

    /// Both sides are f32; two units in the last place allow for another logarithm routine.
    fn assert_close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!(
                (a - e).abs() <= 2.0 * f32::EPSILON * e.abs(),
                "{a} is not {e}"
            );
        }
    }

    #[test]
    fn golden_preprocessing_normalised_and_log() {
        let expected = golden::Tensors::read("normalised_and_log.safetensors");
        let mut counts = filtered();
        normalize_total(&mut counts, Target::Sum(1e4)).unwrap();
        assert_close(&golden::dense(&counts), &expected.f32("normalised"));
        log1p(&mut counts).unwrap();
        assert_close(&golden::dense(&counts), &expected.f32("log1p"));
    }

    #[test]
    fn golden_preprocessing_median_target() {
        let expected = golden::Tensors::read("pipeline_int_target_median.safetensors");
        let mut counts = filtered();
        normalize_total(&mut counts, Target::Median).unwrap();
        assert_close(&golden::dense(&counts), &expected.f32("X_normed"));
    }

    #[test]
    fn empty_cells_stay_empty_and_do_not_move_the_median() {
        let mut counts = Counts::from_rows(
            2,
            [
                vec![],
                vec![(0, 1.0), (1, 1.0)],
                vec![(1, 6.0)],
                vec![(0, 0.0)],
            ],
        );
        normalize_total(&mut counts, Target::Median).unwrap();
        assert_eq!(counts.values, [2.0, 2.0, 4.0, 0.0]);
        let mut empty = Counts::from_rows(2, [vec![], vec![]]);
        assert_eq!(normalize_total(&mut empty, Target::Median), Ok(()));
    }

    #[test]
    fn negative_values_and_useless_targets_are_rejected() {
        let mut counts = Counts::from_rows(2, [vec![], vec![(0, 1.0), (1, -0.5)]]);
        let negative = Err(Error::Negative {
            cell: 1,
            gene: 1,
            value: -0.5,
        });
        assert_eq!(normalize_total(&mut counts, Target::Median), negative);
        assert_eq!(log1p(&mut counts), negative);
        let mut counts = Counts::from_rows(1, [vec![(0, 1.0)]]);
        for target in [0.0, -1.0, f32::INFINITY, f32::NAN] {
            assert!(matches!(
                normalize_total(&mut counts, Target::Sum(target)),
                Err(Error::Target(_))
            ));
        }
    }
}
