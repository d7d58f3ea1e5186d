//! Training curves: error of masked values by step, with the baselines as horizontal lines.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::baselines::Errors;
use crate::figures::TrainingCurves;

/// Draws the training curves from the metrics file.
pub fn draw(metrics: &Path, baselines: Option<&Errors>) -> Result<String> {
    let text = std::fs::read_to_string(metrics)
        .with_context(|| format!("could not read `{}`", metrics.display()))?;
    let records = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>();
    let records = records.with_context(|| format!("`{}` is not JSON", metrics.display()))?;
    let line = |part: &str| -> Vec<(f64, f64)> {
        let point =
            |record: &Value| Some((record["step"].as_f64()?, record[part]["gep"].as_f64()?));
        records.iter().filter_map(point).collect()
    };
    let lines = [
        ("training", line("training")),
        ("validation", line("validation")),
    ];
    let levels = baselines.map_or_else(Vec::new, |errors| {
        vec![
            ("gene means", errors.baseline_gene_mean),
            ("most similar cells", errors.baseline_knn),
        ]
    });
    let curves = TrainingCurves {
        title: "Error of masked values",
        axes: ["step", "mean squared error, squared bins"],
        lines: &lines,
        levels: &levels,
    };
    Ok(curves.to_svg())
}
