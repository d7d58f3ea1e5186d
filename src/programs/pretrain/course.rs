//! The course of a run as a figure: how the error of hidden values fell, and what simpler methods reach.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::baselines::Errors;
use crate::figures::Course;

/// Draws the lines of metrics.
pub fn draw(metrics: &Path, simpler: Option<&Errors>) -> Result<String> {
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
    let levels = simpler.map_or_else(Vec::new, |errors| {
        vec![
            ("gene means", errors.gene_mean),
            ("most similar cells", errors.nearest_cells),
        ]
    });
    let course = Course {
        title: "Error of hidden values",
        axes: ["step", "mean squared error, squared bins"],
        lines: &lines,
        levels: &levels,
    };
    Ok(course.to_svg())
}
