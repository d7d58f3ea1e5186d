//! The type of values in a matrix: raw counts, normalized counts, log-normalized or scaled values.
//!
//! Files do not state it reliably, so it is inferred from the values. Negative values are scaled, whole numbers are counts.
//! Fractional values are classified by their scale before the transform: counts of a cell divided by one number are whole
//! multiples of the value of a single count, and so are log1p values once the logarithm is undone. Where that does not decide
//! (values that never were counts, a few genes of each cell), equal sums of cells decide, and last the largest value. Other
//! bases than e are not distinguished.

use std::fmt;

use crate::counts::Counts;

/// Cells that are read for the evidence that needs more than one pass; spread evenly over the matrix.
const SAMPLED_CELLS: usize = 500;
/// No natural logarithm of a sequencing depth comes near; the original implementation warns at the same value.
const LARGEST_LOGARITHM: f32 = 30.0;
/// Relative spread (standard deviation over mean) of the cells' sums below which they are called equal.
const EQUAL_SUMS: f64 = 0.01;

/// The type of values in a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No value other than zero.
    Empty,
    /// Non-negative whole numbers.
    RawCounts,
    /// Non-negative fractional numbers on a linear scale.
    Normalized,
    /// log1p (natural) of normalized counts.
    LogNormalized,
    /// Some values are negative: scaled, centered, or residuals of a model.
    Scaled,
}

/// One value and its position.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Example {
    pub cell: usize,
    pub gene: u32,
    pub value: f32,
}

/// Evidence for the type of values.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Evidence {
    /// Smallest and largest value, zeros that are not stored included if there are any.
    pub smallest: f32,
    pub largest: f32,
    /// Fraction of the non-zero values that are not whole.
    pub fractional: f64,
    /// The first value that is evidence for the state: negative, else fractional, else non-zero.
    pub example: Option<Example>,
    /// As they are, and after undoing a natural logarithm; only for non-negative fractional values.
    pub scales: Option<[Scale; 2]>,
}

/// How well the values look like counts of each cell times a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Scale {
    /// Fraction of the sampled cells in which all values are whole multiples of the smallest.
    pub multiples: f64,
    /// Standard deviation over mean of the sums of the cells that have values.
    pub spread_of_sums: f64,
}

/// The type of values and the evidence for it; `Display` is the message for the user.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ValueKindReport {
    pub state: State,
    pub evidence: Evidence,
}

/// Infers the type of the values of a matrix.
pub fn judge(counts: &Counts) -> ValueKindReport {
    let (smallest, largest) = range(counts);
    let count = |matches: fn(f32) -> bool| {
        counts
            .values
            .iter()
            .filter(|&&value| matches(value))
            .count()
    };
    let (non_zero, fractional) = (count(|value| value != 0.0), count(is_fractional));
    let has_fractions = fractional > 0 && smallest >= 0.0;
    let scales = has_fractions.then(|| [scale(counts, |value| value), scale(counts, f64::exp_m1)]);
    let state = match scales {
        _ if non_zero == 0 => State::Empty,
        _ if smallest < 0.0 => State::Scaled,
        None => State::RawCounts,
        Some(scales) if is_logarithm(scales, largest) => State::LogNormalized,
        Some(_) => State::Normalized,
    };
    let example = find(counts, state.evidence_test());
    let fractional = fractional as f64 / non_zero.max(1) as f64;
    ValueKindReport {
        state,
        evidence: Evidence {
            smallest,
            largest,
            fractional,
            example,
            scales,
        },
    }
}

/// Smallest and largest value, with the zeros that are not stored; zeros without values.
fn range(counts: &Counts) -> (f32, f32) {
    let has_gaps = counts.values.len() < counts.n_cells() * counts.n_genes;
    let values = counts.values.iter().copied().chain(has_gaps.then_some(0.0));
    let ranges = values.map(|value| (value, value));
    ranges
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        .unwrap_or_default()
}

impl State {
    /// Whether a value is evidence for the state.
    fn evidence_test(self) -> fn(f32) -> bool {
        match self {
            Self::Empty => |_| false,
            Self::Scaled => |value| value < 0.0,
            Self::RawCounts => |value| value != 0.0,
            Self::Normalized | Self::LogNormalized => is_fractional,
        }
    }
}

fn is_fractional(value: f32) -> bool {
    value.fract() != 0.0
}

fn is_logarithm([linear, undone]: [Scale; 2], largest: f32) -> bool {
    if largest > LARGEST_LOGARITHM {
        return false;
    }
    if linear.multiples.max(undone.multiples) > 0.5 {
        return undone.multiples > linear.multiples;
    }
    linear.spread_of_sums > EQUAL_SUMS || undone.spread_of_sums < linear.spread_of_sums
}

fn find(counts: &Counts, matches: fn(f32) -> bool) -> Option<Example> {
    let at = counts.values.iter().position(|&value| matches(value))?;
    let cell = counts.offsets.partition_point(|&offset| offset <= at) - 1;
    Some(Example {
        cell,
        gene: counts.genes[at],
        value: counts.values[at],
    })
}

/// Evidence on the scale that `undo` leads to.
fn scale(counts: &Counts, undo: fn(f64) -> f64) -> Scale {
    let step = counts.n_cells().div_ceil(SAMPLED_CELLS).max(1);
    let cells = (0..counts.n_cells()).step_by(step);
    let values = |cell| {
        counts
            .row(cell)
            .1
            .iter()
            .filter(|&&v| v != 0.0)
            .map(|&v| undo(f64::from(v)))
            .collect::<Vec<_>>()
    };
    let cells: Vec<Vec<f64>> = cells
        .map(values)
        .filter(|values| !values.is_empty())
        .collect();
    let verdicts: Vec<bool> = cells
        .iter()
        .filter_map(|values| are_multiples(values))
        .collect();
    let multiples =
        verdicts.iter().filter(|&&yes| yes).count() as f64 / verdicts.len().max(1) as f64;
    let sums: Vec<f64> = cells.iter().map(|values| values.iter().sum()).collect();
    let mean = sums.iter().sum::<f64>() / sums.len().max(1) as f64;
    let variance =
        sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / sums.len().max(1) as f64;
    Scale {
        multiples,
        spread_of_sums: variance.sqrt() / mean,
    }
}

/// Whether positive values are whole multiples of the smallest; unknown where fewer than three differ from it.
fn are_multiples(values: &[f64]) -> Option<bool> {
    let unit = values.iter().copied().fold(f64::INFINITY, f64::min);
    // f32 logarithms of large counts do not resolve single counts.
    let ratios = values
        .iter()
        .map(|value| value / unit)
        .filter(|&ratio| ratio > 1.001 && ratio < 1000.0);
    let off: Vec<f64> = ratios.map(|ratio| (ratio - ratio.round()).abs()).collect();
    (off.len() >= 3).then(|| off.iter().all(|&off| off < 0.01))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no expression at all: every value is zero",
            Self::RawCounts => "raw counts",
            Self::Normalized => "normalized or fractional counts (not log-transformed)",
            Self::LogNormalized => "log-normalized values",
            Self::Scaled => "scaled values or residuals",
        })
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (multiples, spread) = (100.0 * self.multiples, 100.0 * self.spread_of_sums);
        write!(
            f,
            "{multiples:.0} % of the cells hold whole multiples of one count "
        )?;
        write!(f, "and their sums vary by {spread:.1} %")
    }
}

impl fmt::Display for ValueKindReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence {
            smallest,
            largest,
            fractional,
            example,
            scales,
        } = &self.evidence;
        write!(f, "{}", self.state)?;
        let Some(Example { cell, gene, value }) = example else {
            return Ok(());
        };
        if self.state == State::RawCounts {
            return write!(
                f,
                " (all values read are whole numbers, the largest is {largest})"
            );
        }
        write!(
            f,
            " (values from {smallest} to {largest}, {:.0} % of those not zero are fractional, ",
            100.0 * fractional
        )?;
        write!(
            f,
            "for example {value} for gene {gene} in cell {cell}, counted from 0"
        )?;
        match scales {
            Some([_, undone]) if self.state == State::LogNormalized => {
                write!(f, "; after undoing log1p, {undone}")?
            }
            Some([linear, _]) => write!(f, "; without a transform, {linear}")?,
            None => {}
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::golden;
    use crate::expression::normalize::{Target, log1p, normalize_total};

    #[test]
    fn golden_preprocessing_states_are_distinguished() {
        let mut counts = golden::counts();
        assert_eq!(judge(&counts).state, State::RawCounts);
        let stored = golden::Tensors::read("normalised_and_log.safetensors");
        assert_eq!(
            judge(&golden::sparse(&stored.f32("normalised"), 133)).state,
            State::Normalized
        );
        assert_eq!(
            judge(&golden::sparse(&stored.f32("log1p"), 133)).state,
            State::LogNormalized
        );
        normalize_total(&mut counts, Target::Median).unwrap();
        assert_eq!(judge(&counts).state, State::Normalized);
        counts.values.iter_mut().for_each(|value| *value -= 1.0);
        assert_eq!(judge(&counts).state, State::Scaled);
    }

    #[test]
    fn a_subset_of_genes_with_small_values_is_still_recognized() {
        let mut counts = golden::counts();
        normalize_total(&mut counts, Target::Sum(20.0)).unwrap();
        let some: Vec<usize> = (0..150).step_by(2).collect();
        let normalized = counts.select_genes(&some);
        assert!(judge(&normalized).evidence.largest < LARGEST_LOGARITHM);
        assert_eq!(judge(&normalized).state, State::Normalized);
        log1p(&mut counts).unwrap();
        assert_eq!(
            judge(&counts.select_genes(&some)).state,
            State::LogNormalized
        );
    }

    #[test]
    fn values_that_never_were_counts_are_judged_by_sums_and_size() {
        let value = |cell: u32, gene: u32| {
            ((cell * 50 + gene) as f32 * 0.7).sin().abs() * (1 + cell % 3) as f32 + 0.1
        };
        let row = |cell: u32| (0..50).map(move |gene| (gene, value(cell, gene)));
        let mut values = Counts::from_rows(50, (0..40).map(row));
        assert_eq!(judge(&values).state, State::LogNormalized);
        normalize_total(&mut values, Target::Sum(1.0)).unwrap();
        assert_eq!(judge(&values).state, State::Normalized);
        values.values.iter_mut().for_each(|value| *value *= 1e6);
        assert_eq!(judge(&values).state, State::Normalized);
    }

    #[test]
    fn messages_show_the_evidence() {
        let scaled = judge(&Counts::from_rows(2, [vec![(0, 1.0)], vec![(1, -0.5)]]));
        let expected = "scaled values or residuals (values from -0.5 to 1, 50 % of those not zero are fractional, \
                        for example -0.5 for gene 1 in cell 1, counted from 0)";
        assert_eq!(scaled.to_string(), expected);
        let raw = judge(&golden::counts()).to_string();
        assert!(
            raw.starts_with("raw counts (all values read are whole numbers, the largest is "),
            "{raw}"
        );
        for empty in [
            Counts::empty(0),
            Counts::empty(4),
            Counts::from_rows(2, [vec![(0, 0.0)], vec![]]),
        ] {
            assert_eq!(
                judge(&empty).to_string(),
                "no expression at all: every value is zero"
            );
        }
    }
}
