//! k-nearest-neighbor label voting (docs/methods.md, "Label transfer").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::search::Neighbor;

/// Weights of the neighbors in the vote.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// All neighbors count equally.
    #[default]
    Uniform,
    /// Neighbors count by inverse distance; those at distance 0 outvote all others.
    Distance,
    /// The number of votes for a label, minus 1% of k, is divided by the frequency of the label in the reference. Favors rare
    /// labels.
    Prior,
}

/// Inverse distances of neighbors; if some are at distance 0, 1 for these and 0 for the others.
pub fn weights(neighbors: &[Neighbor]) -> Vec<f64> {
    let touches = neighbors.iter().any(|near| near.squared == 0.0);
    let weight = |near: &Neighbor| match touches {
        true => f64::from(near.squared == 0.0),
        false => 1.0 / near.squared.sqrt(),
    };
    neighbors.iter().map(weight).collect()
}

/// Fraction of the votes of each class, with sum 1; all 0 if no neighbor has a class.
///
/// `frequencies` are the fractions of the classes in the whole reference.
pub fn vote_fractions(
    rule: Rule,
    neighbors: &[Neighbor],
    class_of: impl Fn(u64) -> Option<u32>,
    frequencies: &[f64],
) -> Vec<f64> {
    let weights = match rule {
        Rule::Distance => weights(neighbors),
        Rule::Uniform | Rule::Prior => vec![1.0; neighbors.len()],
    };
    let mut fractions = vec![0.0; frequencies.len()];
    for (near, weight) in neighbors.iter().zip(weights) {
        if let Some(class) = class_of(near.row) {
            fractions[class as usize] += weight;
        }
    }
    if rule == Rule::Prior {
        let least = neighbors.len() as f64 / 100.0;
        for (fraction, frequency) in fractions.iter_mut().zip(frequencies) {
            *fraction = if *fraction > least {
                (*fraction - least) / frequency
            } else {
                0.0
            };
        }
    }
    let total: f64 = fractions.iter().sum();
    if total > 0.0 {
        fractions.iter_mut().for_each(|fraction| *fraction /= total);
    }
    fractions
}

/// The class with the largest fraction, the first of equal ones; none if all are 0.
///
/// The original implementation takes the first of a count whose sort is not stable, so that some of its ties go to a later class;
/// with a stable sort, as newer versions of pandas have, it follows this rule.
pub fn winner(fractions: &[f64]) -> Option<usize> {
    let (class, fraction) = fractions
        .iter()
        .enumerate()
        .rev()
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    (*fraction > 0.0).then_some(class)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};
    use safetensors::SafeTensors;

    use super::*;
    use crate::analysis::search::{Nearest, Queries};

    /// Four labels by decreasing count, equal counts in the order of the original implementation, whose sort is not stable: a
    /// network that compares these pairs of the counts from the last to the first, and exchanges those that do not increase. The
    /// result is read backwards.
    fn original_order(counts: [u64; 4]) -> [usize; 4] {
        let mut order = [3, 2, 1, 0];
        for (a, b) in [(0, 1), (2, 3), (0, 3), (1, 2), (0, 1), (2, 3)] {
            if counts[order[a]] > counts[order[b]] {
                order.swap(a, b);
            }
        }
        order.reverse();
        order
    }

    /// The same with equal counts by label.
    fn stable_order(counts: [u64; 4]) -> [usize; 4] {
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&class| std::cmp::Reverse(counts[class]));
        order
    }

    #[test]
    fn golden_embedding_reference_mapping() {
        let golden: serde_json::Value = serde_json::from_str(include_str!(
            "../../tests/data/embedding/reference_mapping.json"
        ))
        .unwrap();
        let stored = include_bytes!("../../tests/data/embedding/continuous_outputs.safetensors");
        let stored = SafeTensors::deserialize(stored).unwrap();
        let values = stored.tensor("cell_embeddings_l2norm").unwrap();
        let values = values.data().chunks_exact(4);
        let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let cells = Array2::from_shape_vec((30, 32), values.collect()).unwrap();
        let (rows, queries) = cells.view().split_at(Axis(0), 20);
        let queries = Queries::new(queries.to_owned());
        let class = |row: u64| Some((row % 4) as u32);
        for (k, name) in [(3, "k3"), (5, "k5"), (10, "k10")] {
            let mut nearest = Nearest::new(10, k);
            nearest.offer(&queries, &(0..10).collect::<Vec<_>>(), rows, 0);
            for (query, found) in nearest.into_found().iter().enumerate() {
                let expected = |field: &str| golden[name][field][query].clone();
                let rows: Vec<u64> = found.iter().map(|near| near.row).collect();
                assert_eq!(serde_json::json!(rows), expected("neighbours"));
                let distances = expected("squared_l2");
                for (near, distance) in found.iter().zip(distances.as_array().unwrap()) {
                    // The original implementation has f32 distances between unit vectors.
                    assert!((near.squared - distance.as_f64().unwrap()).abs() < 5e-7);
                }
                let fractions = vote_fractions(Rule::Uniform, found, class, &[0.25; 4]);
                for (class, fraction) in fractions.iter().enumerate() {
                    let votes = expected("votes")[format!("T{class}")].as_u64().unwrap();
                    assert!((fraction - votes as f64 / k as f64).abs() < 1e-15);
                }
                let votes = expected("votes");
                let counts = [0, 1, 2, 3].map(|class| votes[format!("T{class}")].as_u64().unwrap());
                let listed: Vec<&String> = votes.as_object().unwrap().keys().collect();
                let order = original_order(counts).map(|class| format!("T{class}"));
                assert!(listed.into_iter().eq(&order));
                assert_eq!(expected("predicted"), order[0]);
                assert_eq!(winner(&fractions), Some(stable_order(counts)[0]));
            }
        }
    }

    fn at(squared: f64, row: u64) -> Neighbor {
        Neighbor { squared, row }
    }

    #[test]
    fn a_neighbor_at_half_the_distance_counts_twice_and_one_at_none_alone() {
        let class = |row: u64| Some(row as u32);
        let found = vote_fractions(Rule::Distance, &[at(1.0, 1), at(4.0, 0)], class, &[0.5; 2]);
        assert_eq!(found, [1.0 / 3.0, 2.0 / 3.0]);
        let found = vote_fractions(Rule::Distance, &[at(0.0, 1), at(1e-9, 0)], class, &[0.5; 2]);
        assert_eq!(found, [0.0, 1.0]);
    }

    #[test]
    fn frequent_labels_need_more_votes() {
        // 6 of 10 votes for a label that 90 % of the reference have, 4 for one that 10 % have; less 0.1 each.
        let near: Vec<Neighbor> = (0..10).map(|row| at(1.0, row)).collect();
        let class = |row: u64| Some(u32::from(row >= 6));
        let frequencies = [0.9, 0.1];
        let found = vote_fractions(Rule::Prior, &near, class, &frequencies);
        let (a, b) = (5.9 / 0.9, 3.9 / 0.1);
        assert!((found[1] - b / (a + b)).abs() < 1e-12);
        assert_eq!(
            winner(&vote_fractions(Rule::Uniform, &near, class, &frequencies)),
            Some(0)
        );
    }

    #[test]
    fn neighbors_without_a_class_do_not_vote() {
        let found = vote_fractions(
            Rule::Uniform,
            &[at(1.0, 0), at(2.0, 1)],
            |row| (row == 1).then_some(0),
            &[1.0],
        );
        assert_eq!(found, [1.0]);
        assert_eq!(
            winner(&vote_fractions(
                Rule::Uniform,
                &[at(1.0, 0)],
                |_| None,
                &[1.0]
            )),
            None
        );
        assert_eq!(winner(&[]), None);
    }
}
