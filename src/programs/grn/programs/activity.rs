//! Program scores of cells and groups.

use anyhow::Result;
use ndarray::ArrayView2;

use super::super::scores;
use super::genes::Genes;
use super::{Options, name};
use crate::analysis::program_scores::scale_rows;
use crate::failure::Failure;
use crate::figures::{HeatMap, Scale};
use crate::programs::steps;
use crate::random::Seed;
use crate::run_record::Run;

/// Writes the program scores of cells and groups.
pub fn write(
    options: &Options,
    genes: &Genes,
    programs: &[Vec<usize>],
    run: &mut Run,
) -> Result<()> {
    let Some((cells, groups)) = &genes.cells else {
        return Ok(());
    };
    if programs.is_empty() {
        return Err(Failure::Input.error("no program was found, so no program scores can be computed: lower `--resolution` or `--min-genes`"));
    }
    let scores = scores::of_cells(cells, (&genes.names, programs), Seed(options.seed))?;
    let names: Vec<String> = (0..programs.len()).map(name).collect();
    if let Some(path) = &options.scored_cells {
        scores::write_cells(cells, path, scores.view())?;
        run.output(path)?;
    }
    let means = scores::of_groups(scores.view(), groups)?;
    if let Some(path) = &options.program_scores {
        steps::write_text(path, &score_table(means.view(), &names, &groups.names), run)?;
    }
    if let Some(path) = &options.plot {
        steps::write_text(path, &heat_map(means.view(), &names, &groups.names), run)?;
    }
    Ok(())
}

/// Mean scores `[programs, groups]` as a table.
fn score_table(means: ArrayView2<f64>, names: &[String], groups: &[String]) -> String {
    let mut text = String::from("group\tprogram\tscore\n");
    for (at, group) in groups.iter().enumerate() {
        let group = steps::plain(group);
        for (program, name) in names.iter().enumerate() {
            text.push_str(&format!("{group}\t{name}\t{:.6}\n", means[(program, at)]));
        }
    }
    text
}

fn heat_map(means: ArrayView2<f64>, names: &[String], groups: &[String]) -> String {
    let scaled = scale_rows(means);
    let values: Vec<Vec<f64>> = scaled.rows().into_iter().map(|row| row.to_vec()).collect();
    HeatMap {
        title: "Activity of gene programs",
        axes: ["group of cells", "program"],
        rows: names,
        columns: groups,
        values: &values,
        legend: "mean score, scaled by program",
        scale: Scale::Sequential,
    }
    .to_svg()
}
