//! Splits of labeled cells into training, validation (model selection) and test cells.

pub mod perturbations;

use crate::random::{self, Seed};
use std::collections::BTreeMap;

/// Indices of cells, increasing in each split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    pub training: Vec<usize>,
    pub validation: Vec<usize>,
    pub test: Vec<usize>,
}

impl Split {
    /// Stratified random split: the same fractions of every class.
    pub fn stratified(
        cells: &[usize],
        classes: &[i64],
        test_fraction: f64,
        validation_fraction: f64,
        seed: Seed,
    ) -> Self {
        let (rest, test) = stratify(cells, classes, test_fraction, seed, "test split");
        Self::with_test(&rest, test, classes, validation_fraction, seed)
    }

    /// Given test cells, such as those of held-out donors, and stratified random validation cells.
    pub fn with_test(
        rest: &[usize],
        test: Vec<usize>,
        classes: &[i64],
        validation_fraction: f64,
        seed: Seed,
    ) -> Self {
        let (training, validation) =
            stratify(rest, classes, validation_fraction, seed, "validation split");
        Self {
            training,
            validation,
            test,
        }
    }
}

/// Takes a fraction of every class: cells that remain, and cells taken. A class keeps at least one cell.
fn stratify(
    cells: &[usize],
    classes: &[i64],
    fraction: f64,
    seed: Seed,
    purpose: &str,
) -> (Vec<usize>, Vec<usize>) {
    let mut by_class: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for &cell in cells {
        by_class.entry(classes[cell]).or_default().push(cell);
    }
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for (class, members) in by_class {
        let order = random::permutation(&mut seed.stream(purpose, &[class as u64]), members.len());
        let count = ((members.len() as f64 * fraction).round() as usize).min(members.len() - 1);
        taken.extend(order[..count].iter().map(|&i| members[i]));
        kept.extend(order[count..].iter().map(|&i| members[i]));
    }
    kept.sort_unstable();
    taken.sort_unstable();
    (kept, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_in_one_part_and_classes_keep_their_fractions() {
        let classes: Vec<i64> = (0..100).map(|i| i64::from(i % 10 == 0)).collect();
        let cells: Vec<usize> = (0..100).filter(|i| *i != 7).collect();
        let split = Split::stratified(&cells, &classes, 0.2, 0.1, Seed(1));
        let mut all = [&split.training[..], &split.validation, &split.test].concat();
        all.sort_unstable();
        assert_eq!(all, cells);
        assert_eq!(
            split
                .test
                .iter()
                .filter(|&&cell| classes[cell] == 1)
                .count(),
            2
        );
        assert_eq!(split.test.len(), 20);
        assert_eq!(
            split,
            Split::stratified(&cells, &classes, 0.2, 0.1, Seed(1))
        );
        assert_ne!(
            split,
            Split::stratified(&cells, &classes, 0.2, 0.1, Seed(2))
        );
    }

    #[test]
    fn a_class_of_one_cell_is_trained_on() {
        let split = Split::stratified(&[0, 1, 2], &[0, 0, 1], 0.9, 0.9, Seed(0));
        assert!(split.training.contains(&2));
    }
}
