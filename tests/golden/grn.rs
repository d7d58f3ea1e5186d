//! `grn`: attention by ranks (docs/methods.md, "Attention networks"). Gene programs and networks are compared with the same
//! fixture where they are computed.

use super::annotation;
use crate::support::{Stored, checkpoint, data};
use scgpt_tools::model::{Heads, Inputs};
use scgpt_tools::predict::attention::{Map, Ranks};
use serde_json::Value;
use tch::Device;

const CELLS: usize = 6;
const TOKENS: usize = 25;
/// Ranks are whole numbers; the tolerance is the precision in which their means were stored.
const TOLERANCE: f64 = 1e-6;

fn golden() -> (Stored, Value) {
    let text = std::fs::read_to_string(data("grn/attention.json")).expect("a fixture");
    let facts = serde_json::from_str(&text).expect("JSON");
    (Stored::read("grn/attention.safetensors"), facts)
}

/// The ranks of every cell in a layer; features are the positions of tokens, `<cls>` included as in the original implementation.
fn ranks(stored: &Stored, layer: usize) -> Vec<Ranks> {
    let folder = "annotation_plain_bn/checkpoint";
    let heads = Heads::of(&checkpoint(folder).heads);
    assert!(heads.plain_norm);
    let (_store, model) = annotation::model(folder, heads);
    let (genes, values) = (stored.whole_rows("gene_ids"), stored.rows("values"));
    let cell = |cell: usize| {
        let tokens = [(&genes[cell][..], &values[cell][..])];
        Ranks::of(
            &model,
            &Inputs::new(tokens.into_iter(), Device::Cpu),
            &[layer],
        )
    };
    (0..CELLS).map(cell).collect()
}

fn map<'r>(ranks: impl Iterator<Item = &'r Ranks>) -> Map {
    let positions: Vec<Option<usize>> = (0..TOKENS).map(Some).collect();
    let mut map = Map::new(TOKENS);
    ranks.for_each(|ranks| map.add(ranks, &positions));
    map
}

fn assert_equal(map: &Map, expected: &[Vec<f32>]) {
    for (query, row) in expected.iter().enumerate() {
        for (key, expected) in row.iter().enumerate() {
            let found = map.mean(query, key);
            let difference = (found - f64::from(*expected)).abs();
            assert!(
                difference < TOLERANCE,
                "{query}, {key}: {found} is not {expected}"
            );
        }
    }
}

#[test]
fn attention_ranks_are_those_of_the_original_implementation() {
    let (stored, facts) = golden();
    let conditions: Vec<&str> = facts["condition_per_cell"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for layer in [0, 1] {
        let ranks = ranks(&stored, layer);
        let cells = stored.get(&format!("layer{layer}.mean_over_heads"));
        for (cell, ranks) in ranks.iter().enumerate() {
            let expected = Vec::try_from(cells.get(cell as i64)).expect("a matrix");
            assert_equal(&map(std::iter::once(ranks)), &expected);
        }
        for condition in ["ctrl", "GENEX+ctrl"] {
            let own = ranks.iter().zip(&conditions);
            let own = own.filter(|(_, found)| **found == condition);
            let name = format!("layer{layer}.{condition}.mean_all_cells");
            assert_equal(&map(own.map(|(ranks, _)| ranks)), &stored.rows(&name));
        }
    }
}

#[test]
fn the_targets_of_a_regulator_are_those_of_the_original_implementation() {
    let (stored, facts) = golden();
    let number = |field: &str| facts[field].as_u64().expect("a number") as usize;
    let ranks = ranks(&stored, number("layer"));
    let names = facts["condition_per_cell"].as_array().expect("a list");
    let of = |name: &str| {
        let own = ranks.iter().zip(names).filter(|(_, found)| *found == name);
        map(own.map(|(ranks, _)| ranks))
    };
    let (perturbed, control) = (of("GENEX+ctrl"), of("ctrl"));
    let regulator = number("tf_token_index");
    let gained = |query: usize| perturbed.mean(query, regulator) - control.mean(query, regulator);
    let expected: Vec<f32> = Vec::try_from(stored.get("difference_column_tf")).expect("a vector");
    for (query, expected) in expected.iter().enumerate() {
        assert!((gained(query) - f64::from(*expected)).abs() < TOLERANCE);
    }
    let mut order: Vec<usize> = (0..TOKENS).collect();
    order.sort_by(|&a, &b| gained(b).total_cmp(&gained(a)));
    let best = facts["top5_token_indices_including_cls"]
        .as_array()
        .expect("a list");
    let best: Vec<u64> = best.iter().filter_map(Value::as_u64).collect();
    let found: Vec<u64> = order[..5].iter().map(|&at| at as u64).collect();
    assert_eq!(found, best);
}
