//! Gene network on a circle: darker edges are stronger, larger genes have more edges.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use maud::{Markup, html};

use super::{OPPOSITE, SHADE, fixed, svg};
use crate::report::attention::Edge;
use crate::report::html::cut;

const RADIUS: f64 = 180.0;
const MIDDLE: f64 = 270.0;

/// Edges between genes; `arrow` is the HTML id of the arrow heads of directed edges.
pub fn network(edges: &[&Edge], arrow: Option<&str>) -> Markup {
    let is_directed = arrow.is_some();
    let mut degrees: BTreeMap<&str, usize> = BTreeMap::new();
    for edge in edges {
        for gene in [&edge.from, &edge.to] {
            *degrees.entry(gene).or_default() += 1;
        }
    }
    let genes: Vec<&str> = order(edges, &degrees);
    let position = |gene: &str| {
        let at = genes.iter().position(|other| *other == gene).unwrap_or(0);
        let turn = at as f64 / genes.len().max(1) as f64 * TAU;
        (
            turn,
            MIDDLE + RADIUS * turn.cos(),
            MIDDLE + RADIUS * turn.sin(),
        )
    };
    let most = edges
        .iter()
        .map(|edge| edge.score.abs())
        .fold(f64::MIN_POSITIVE, f64::max);
    let content = html! {
        @if let Some(id) = arrow { defs { marker id=(id) viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto" { path d="M0 0L8 4L0 8z" fill="currentColor" fill-opacity="0.6" {} } } }
        @for edge in edges {
            @let ((_, x1, y1), (_, x2, y2)) = (position(&edge.from), position(&edge.to));
            @let strength = edge.score.abs() / most;
            path d=(curve((x1, y1), (x2, y2))) fill="none" stroke=(if edge.score < 0.0 { OPPOSITE } else { SHADE }) stroke-width=(fixed(0.8 + 2.2 * strength)) stroke-opacity=(format!("{:.2}", 0.2 + 0.7 * strength)) marker-end=[arrow.map(|id| format!("url(#{id})"))] {
                title { (cut(&edge.from, 30)) (if is_directed { " → " } else { " – " }) (cut(&edge.to, 30)) (format!(": {:.4}", edge.score)) }
            }
        }
        @for gene in &genes {
            @let (turn, x, y) = position(gene);
            @let is_left = turn.cos() < -1e-9;
            circle cx=(fixed(x)) cy=(fixed(y)) r=(fixed(3.0 + (degrees[gene] as f64).sqrt() * 1.6)) fill="#E69F00" { title { (cut(gene, 30)) ": " (degrees[gene]) " edges" } }
            text transform=(format!("translate({x:.1} {y:.1}) rotate({:.1})", turn.to_degrees() + if is_left { 180.0 } else { 0.0 })) x=(if is_left { "-12" } else { "12" }) y="4" text-anchor=(if is_left { "end" } else { "start" }) { (cut(gene, 14)) }
        }
    };
    svg((MIDDLE * 2.0, MIDDLE * 2.0), "Gene network", &content)
}

/// Order of genes on the circle that keeps connected ones close, starting from the gene with most edges.
fn order<'a>(edges: &'a [&Edge], degrees: &BTreeMap<&'a str, usize>) -> Vec<&'a str> {
    let mut left: Vec<&str> = degrees.keys().copied().collect();
    left.sort_by_key(|gene| (std::cmp::Reverse(degrees[gene]), *gene));
    let mut ordered: Vec<&str> = Vec::new();
    while !left.is_empty() {
        let connections = |gene: &&str| {
            edges
                .iter()
                .filter(|edge| {
                    edge.from == *gene
                        && ordered.iter().rev().take(6).any(|other| edge.to == *other)
                        || edge.to == *gene
                            && ordered
                                .iter()
                                .rev()
                                .take(6)
                                .any(|other| edge.from == *other)
                })
                .count()
        };
        let best = (0..left.len())
            .max_by_key(|&at| (connections(&left[at]), std::cmp::Reverse(at)))
            .unwrap_or(0);
        ordered.push(left.remove(best));
    }
    ordered
}

fn curve((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    let bend = |a: f64, b: f64| ((a + b) / 2.0) * 0.55 + MIDDLE * 0.45;
    let (cx, cy) = (bend(x1, x2), bend(y1, y2));
    // Ends shortly before the gene, so that the arrow is visible.
    let length = ((x2 - cx).powi(2) + (y2 - cy).powi(2)).sqrt().max(1.0);
    let (x2, y2) = (x2 - (x2 - cx) / length * 6.0, y2 - (y2 - cy) / length * 6.0);
    format!("M{x1:.1} {y1:.1}Q{cx:.1} {cy:.1} {x2:.1} {y2:.1}")
}
