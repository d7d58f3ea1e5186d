//! `preprocessing`: bins of whole rows, from recorded uniforms and without.

use crate::support::{Stored, data};
use scgpt_tools::tokens::binning::{bin_with, edges};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
struct Case {
    row: Vec<f32>,
    n_bins: usize,
    edges: Vec<f64>,
    uniforms: Vec<f64>,
    both_sided: Vec<f32>,
    left: Vec<f32>,
}

#[test]
fn binning_small_cases() {
    let file = std::fs::read(data("preprocessing/binning_small_cases.json")).expect("golden file");
    let cases: HashMap<String, Case> = serde_json::from_slice(&file).expect("JSON");
    for (name, case) in cases {
        assert_eq!(edges(&case.row, case.n_bins), case.edges, "edges of {name}");
        assert_eq!(
            both_sided(&case.row, &case.uniforms, case.n_bins),
            case.both_sided,
            "both-sided digits of {name}"
        );
        let mut one_sided = case.row.clone();
        bin_with(&mut one_sided, case.n_bins, None);
        one_sided.retain(|digit| *digit != 0.0);
        assert_eq!(one_sided, case.left, "one-sided digits of {name}");
    }
}

#[test]
fn row_binning() {
    let stored = Stored::read("preprocessing/row_binning.safetensors");
    let floats = |name: &str| {
        Vec::<Vec<f32>>::try_from(stored.get(name).to_kind(tch::Kind::Float)).expect("rows")
    };
    let doubles = |name: &str| Vec::<Vec<f64>>::try_from(stored.get(name)).expect("rows");
    let (one_sided, expected) = (floats("one_sided"), floats("both_sided"));
    for (i, row) in floats("input_log1p").into_iter().enumerate() {
        let edges = edges(&row, 51);
        assert!(
            edges.is_empty() || edges == doubles("edges")[i],
            "edges of row {i}"
        );
        assert_eq!(
            both_sided(&row, &doubles("uniforms")[i], 51),
            expected[i],
            "both-sided digits of row {i}"
        );
        let mut digits = row;
        bin_with(&mut digits, 51, None);
        assert_eq!(digits, one_sided[i], "one-sided digits of row {i}");
    }
}

fn both_sided(row: &[f32], uniforms: &[f64], n_bins: usize) -> Vec<f32> {
    let mut draws = uniforms.iter();
    let mut digits = row.to_vec();
    bin_with(
        &mut digits,
        n_bins,
        Some(&mut || *draws.next().expect("a uniform for every value")),
    );
    digits
}
