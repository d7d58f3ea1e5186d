//! Legend of colors, shapes and lines.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::label_box::{draw_hexagon, draw_round};
use super::layout::minus;
use super::stroke::{HEAD, Stroke};
use super::{LETTERS, LINE, Network, Shown, UNNUMBERED_GROUPS};
use crate::figures::canvas::{Canvas, Style};
use crate::figures::labels::{fitted, width};
use crate::figures::palette::{FAINT, INK, UNLABELED, color};

/// Maximum number of groups in the legend.
const GROUPS: usize = 24;

/// The lines of the legend.
pub(super) struct Legend {
    lines: Vec<(Sign, String)>,
    directed: bool,
}

enum Sign {
    Group(RGBColor),
    Shape { is_regulator: bool },
    Line(Stroke),
    Nothing,
}

impl Legend {
    pub(super) fn new(network: &Network<'_>, shown: &Shown) -> Self {
        let groups = shown.groups(network);
        let is_numbered = groups.len() > UNNUMBERED_GROUPS;
        let mut lines = Vec::new();
        for &group in groups.iter().take(GROUPS) {
            let name = network.groups.get(group).map_or_else(
                || format!("group {}", group + 1),
                |name| fitted(name, 220, LETTERS),
            );
            let number = if is_numbered {
                format!("({}) ", group + 1)
            } else {
                String::new()
            };
            lines.push((Sign::Group(color(group)), number + &name));
        }
        if groups.len() > GROUPS {
            lines.push((
                Sign::Nothing,
                format!("and {} more groups", groups.len() - GROUPS),
            ));
        }
        let has = |group: bool| {
            shown
                .nodes
                .iter()
                .any(|&node| network.nodes[node].group.is_some() == group)
        };
        if has(true) && has(false) {
            lines.push((Sign::Group(UNLABELED), "no group".into()));
        }
        lines.extend(Self::shapes(network, shown));
        lines.extend(Self::strokes(shown));
        Self {
            lines,
            directed: network.directed,
        }
    }

    fn shapes(network: &Network<'_>, shown: &Shown) -> Vec<(Sign, String)> {
        let has = |regulator: bool| {
            shown
                .nodes
                .iter()
                .any(|&node| network.nodes[node].is_regulator == regulator)
        };
        match has(true) {
            true => [(true, "regulator"), (false, "other gene")]
                .into_iter()
                .filter(|(is_regulator, _)| has(*is_regulator))
                .map(|(is_regulator, text)| (Sign::Shape { is_regulator }, text.to_owned()))
                .collect(),
            false => Vec::new(),
        }
    }

    fn strokes(shown: &Shown) -> Vec<(Sign, String)> {
        let (strongest, has_signs) = (shown.strongest(), shown.has_signs());
        let weakest = shown
            .edges
            .iter()
            .map(|edge| edge.weight.abs())
            .fold(strongest, f64::min);
        let line = |weight: f64, text: String| {
            (Sign::Line(Stroke::new(weight, strongest, has_signs)), text)
        };
        let mut lines = Vec::new();
        if shown.edges.is_empty() {
            return lines;
        }
        if has_signs {
            lines.push(line(strongest, "weight above 0".into()));
            lines.push(line(-strongest, "weight below 0".into()));
        }
        let size = if has_signs {
            "size of weight"
        } else {
            "weight"
        };
        lines.push(line(strongest, format!("{size} {}", rounded(strongest))));
        if weakest < strongest {
            lines.push(line(weakest, format!("{size} {}", rounded(weakest))));
        }
        lines
    }

    pub(super) fn width(&self) -> i32 {
        let widest = self
            .lines
            .iter()
            .map(|(_, text)| width(text, LETTERS))
            .max();
        widest.map_or(0, |widest| widest + 52)
    }

    pub(super) fn height(&self) -> i32 {
        LINE * self.lines.len() as i32
    }

    pub(super) fn draw(&self, canvas: &Canvas<'_>, (left, top): (i32, i32)) {
        for (line, (sign, text)) in self.lines.iter().enumerate() {
            let y = top + LINE * line as i32 + LINE / 2;
            let [start, end] = [[left, y], [left + 34, y]].map(|point| point.map(f64::from));
            match sign {
                Sign::Group(color) => {
                    canvas.rectangle((left + 10, y - 7), (14, 14), color.filled())
                }
                Sign::Shape { is_regulator: true } => {
                    draw_hexagon(canvas, (left + 17, y), [16, 7], UNLABELED)
                }
                Sign::Shape {
                    is_regulator: false,
                } => {
                    draw_round(canvas, (left + 17, y), [16, 7], FAINT);
                    draw_round(canvas, (left + 17, y), [15, 6], WHITE);
                }
                Sign::Line(stroke) => {
                    let short = if self.directed && !stroke.is_negative {
                        HEAD[0]
                    } else {
                        0.0
                    };
                    stroke.draw(canvas, &[start, minus(end, [short, 0.0])]);
                    if self.directed {
                        stroke.draw_end(canvas, start, end);
                    }
                }
                Sign::Nothing => {}
            }
            canvas.text(text, (left + 44, y), Style::new(LETTERS, HPos::Left, INK));
        }
    }
}

/// A number with three digits.
fn rounded(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if (1e-3..1e5).contains(&value) => {
            let digits = (2.0 - value.log10().floor()).max(0.0) as usize;
            let text = format!("{value:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        value => format!("{value:.1e}"),
    }
}
