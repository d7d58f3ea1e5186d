//! `preprocessing`: bins of whole rows, from recorded uniforms and without, and the whole way from counts to bins.

use crate::support::{Stored, data};
use scgpt_tools::counts::Counts;
use scgpt_tools::expression::filter::{cells_by_total, genes_by_total};
use scgpt_tools::expression::normalize::{Target, log1p, normalize_total};
use scgpt_tools::expression::select_genes::{Flavor, select_genes};
use scgpt_tools::formats::Source;
use scgpt_tools::formats::h5ad::File;
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

/// What differs between the recorded pipelines; the rest is the same recipe.
#[derive(Default)]
struct Recipe {
    fewest_counts: Option<f64>,
    hvg: Option<usize>,
    by_batch: bool,
}

#[test]
fn pipeline_raw_nohvg() {
    check("pipeline_raw_nohvg", &Recipe::default());
}

#[test]
fn pipeline_raw_nohvg_filtercells5() {
    check(
        "pipeline_raw_nohvg_filtercells5",
        &Recipe {
            fewest_counts: Some(5.0),
            ..Recipe::default()
        },
    );
}

#[test]
fn pipeline_raw_hvg40_nobatch() {
    check(
        "pipeline_raw_hvg40_nobatch",
        &Recipe {
            hvg: Some(40),
            ..Recipe::default()
        },
    );
}

#[test]
fn pipeline_raw_hvg40_batches() {
    check(
        "pipeline_raw_hvg40_batches",
        &Recipe {
            hvg: Some(40),
            by_batch: true,
            ..Recipe::default()
        },
    );
}

fn batches(file: &File) -> Vec<u32> {
    let labels = file
        .obs("batch")
        .unwrap()
        .to_labels()
        .into_iter()
        .map(Option::unwrap);
    labels
        .map(|label| {
            label
                .strip_prefix('b')
                .and_then(|n| n.parse().ok())
                .expect("b0 or b1")
        })
        .collect()
}

/// Filter, normalize, log1p, choose genes, bin: every stage against the recorded one.
fn check(name: &str, recipe: &Recipe) {
    let stored = Stored::read(&format!("preprocessing/{name}.safetensors"));
    let file = File::open(&data("preprocessing/counts.h5ad")).unwrap();
    let matrix = file.matrix(&Source::X).unwrap();
    let raw = matrix.read(0..matrix.n_cells()).unwrap();

    let genes = genes_by_total(&raw, 3.0);
    let raw = raw.select_genes(&genes);
    let cells = cells_by_total(&raw, recipe.fewest_counts.unwrap_or(0.0));
    assert_eq!(cells, stored.positions("cells_kept"));
    let raw = raw.select_cells(&cells);
    // Genes are selected on the counts, before the next steps (docs/methods.md, "Highly variable genes").
    let kept = match recipe.hvg {
        None => (0..genes.len()).collect(),
        Some(wanted) => {
            let of_file = batches(&file);
            let batches: Vec<u32> = cells.iter().map(|&cell| of_file[cell]).collect();
            select_genes(
                &raw,
                wanted,
                Flavor::SeuratV3,
                recipe.by_batch.then_some(&batches[..]),
            )
            .unwrap()
            .kept
        }
    };
    assert_eq!(
        kept.iter().map(|&gene| genes[gene]).collect::<Vec<_>>(),
        stored.positions("genes_kept")
    );
    let mut values = raw;
    normalize_total(&mut values, Target::Sum(1e4)).unwrap();
    log1p(&mut values).unwrap();
    let values = values.select_genes(&kept);
    let expected = stored.rows("X_log1p");
    for (found, expected) in dense(&values).iter().zip(&expected) {
        // Both are f32 and may differ in the last places of the logarithm.
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() <= 2.0 * f32::EPSILON * b.abs())
        );
    }
    assert_bins(&values, &stored);
}

fn assert_bins(values: &Counts, stored: &Stored) {
    let doubles = |name: &str| Vec::<Vec<f64>>::try_from(stored.get(name)).unwrap();
    let (uniforms, recorded_edges, digits) = (
        doubles("uniforms"),
        doubles("bin_edges"),
        stored.rows("X_binned"),
    );
    assert_eq!(values.n_cells(), digits.len());
    for (cell, row) in dense(values).iter().enumerate() {
        assert_eq!(
            both_sided(row, &uniforms[cell], 51),
            digits[cell],
            "digits of cell {cell}"
        );
        // The original implementation keeps 0, the lower end of the bin of zeros, in front; an empty cell has no edges.
        for (a, b) in edges(row, 51).iter().zip(&recorded_edges[cell][1..]) {
            assert!(
                (a - b).abs() <= 2.0 * f64::from(f32::EPSILON) * b.abs(),
                "edges of cell {cell}: {a} is not {b}"
            );
        }
    }
}

fn dense(counts: &Counts) -> Vec<Vec<f32>> {
    let row = |(genes, values): (&[u32], &[f32])| {
        let mut row = vec![0.0; counts.n_genes];
        genes
            .iter()
            .zip(values)
            .for_each(|(&gene, &value)| row[gene as usize] = value);
        row
    };
    counts.rows().map(row).collect()
}
