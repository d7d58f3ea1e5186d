//! Dot plot: the area of a dot is the fraction of cells that express a gene in a group, its shade the mean.

use maud::{Markup, html};
use ndarray::Array2;

use super::heat::scale;
use super::{SHADE, fixed, label, slanted, svg, width_of};
use crate::report::html::cut;

const STEP: f64 = 21.0;
const LONGEST: usize = 28;

/// Groups (rows) by genes (columns); `means` and `fractions` are [groups, genes], means scaled from 0 to 1 per gene.
pub fn dots(
    groups: &[String],
    genes: &[String],
    means: &Array2<f64>,
    fractions: &Array2<f64>,
) -> Markup {
    let groups: Vec<String> = groups.iter().map(|name| cut(name, LONGEST)).collect();
    let genes: Vec<String> = genes.iter().map(|name| cut(name, 16)).collect();
    let longest = |names: &[String]| names.iter().map(|name| width_of(name)).fold(30.0, f64::max);
    let (left, top) = (longest(&groups) + 12.0, longest(&genes) * 0.72 + 14.0);
    let (right, bottom) = (
        left + genes.len() as f64 * STEP,
        top + groups.len() as f64 * STEP,
    );
    let radius = |fraction: f64| fraction.max(0.0).sqrt() * STEP * 0.46;
    let content = html! {
        @for (at, gene) in genes.iter().enumerate() { (slanted((left + (at as f64 + 0.6) * STEP, top - 6.0), gene)) }
        @for (row, group) in groups.iter().enumerate() {
            @let y = top + (row as f64 + 0.5) * STEP;
            (label((left - 6.0, y + 4.0), "end", group))
            @for column in 0..genes.len() {
                @let (mean, fraction) = (means[(row, column)], fractions[(row, column)]);
                @if fraction > 0.004 {
                    circle cx=(fixed(left + (column as f64 + 0.5) * STEP)) cy=(fixed(y)) r=(fixed(radius(fraction))) fill=(SHADE)
                        fill-opacity=(format!("{:.2}", 0.03 + mean.clamp(0.0, 1.0) * 0.85)) stroke="currentColor" stroke-opacity="0.35" stroke-width="0.6" {
                        title { (genes[column]) " in " (group) ": " (format!("{:.0} % of cells, scaled mean {mean:.2}", fraction * 100.0)) }
                    }
                }
            }
        }
        (scale((left, bottom + 14.0), 1.0, false, "mean expression, scaled per gene"))
        @for (at, fraction) in [0.1, 0.5, 1.0].into_iter().enumerate() {
            @let x = left + 400.0 + at as f64 * 62.0;
            circle cx=(fixed(x)) cy=(fixed(bottom + 20.0)) r=(fixed(radius(fraction))) fill="none" stroke="currentColor" {}
            (label((x + 12.0, bottom + 24.0), "start", &format!("{:.0} %", fraction * 100.0)))
        }
        (label((left + 392.0, bottom + 44.0), "start", "fraction of cells"))
    };
    svg(
        (
            right.max(left + 580.0) + longest(&genes) * 0.72,
            bottom + 54.0,
        ),
        "Expression of marker genes by group",
        &content,
    )
}
