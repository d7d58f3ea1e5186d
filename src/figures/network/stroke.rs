//! Edge of a network figure.

use plotters::prelude::*;

use super::layout::{Pair, length, minus, plus};
use crate::figures::canvas::Canvas;
use crate::figures::palette::{FAINT, color};

/// Arrow head: length and half width.
pub(super) const HEAD: Pair = [9.0, 4.5];

/// Style of an edge.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    color: RGBColor,
    /// From 0 to 1.
    strength: f64,
    pub(super) is_negative: bool,
}

impl Stroke {
    pub(super) fn new(weight: f64, strongest: f64, has_signs: bool) -> Self {
        let fraction = if strongest > 0.0 {
            weight.abs() / strongest
        } else {
            1.0
        };
        Self {
            color: match (has_signs, weight < 0.0) {
                (false, _) => FAINT,
                (true, false) => color(0),
                (true, true) => color(3),
            },
            strength: fraction,
            is_negative: weight < 0.0,
        }
    }

    pub(super) fn style(self) -> ShapeStyle {
        let thick = 1.0 + 3.0 * self.strength;
        self.color
            .mix(0.5 + 0.35 * self.strength)
            .stroke_width(thick.round() as u32)
    }

    /// A line through the points, dashed if the weight is negative.
    pub(super) fn draw(self, canvas: &Canvas<'_>, points: &[Pair]) {
        if !self.is_negative {
            canvas.line(points.iter().copied().map(pixel).collect(), self.style());
            return;
        }
        for dash in dashes(points) {
            canvas.line(dash.into_iter().map(pixel).collect(), self.style());
        }
    }

    /// An arrow head or, if the weight is negative, a bar, at the end of a line from another point.
    pub(super) fn draw_end(self, canvas: &Canvas<'_>, from: Pair, tip: Pair) {
        let along = minus(tip, from);
        let along = along.map(|part| part / length(along).max(1e-9));
        let at = |back: f64, aside: f64| {
            pixel([
                tip[0] - back * along[0] - aside * along[1],
                tip[1] - back * along[1] + aside * along[0],
            ])
        };
        let color = self.color.mix(0.6 + 0.4 * self.strength);
        if self.is_negative {
            canvas.line(
                vec![at(1.0, -HEAD[1] - 1.5), at(1.0, HEAD[1] + 1.5)],
                color.stroke_width(3),
            );
        } else {
            canvas.polygon(
                vec![at(0.0, 0.0), at(HEAD[0], -HEAD[1]), at(HEAD[0], HEAD[1])],
                color.filled(),
            );
        }
    }
}

/// Pieces of a line with gaps between them.
fn dashes(points: &[Pair]) -> Vec<[Pair; 2]> {
    const DASH: [f64; 2] = [7.0, 5.0];
    let (mut dashes, mut walked) = (Vec::new(), 0.0f64);
    for ends in points.windows(2) {
        let along = minus(ends[1], ends[0]);
        let total = length(along);
        let at = |way: f64| {
            plus(
                ends[0],
                along.map(|part| part * (way.min(total) / total.max(1e-9))),
            )
        };
        let mut way = -(walked % (DASH[0] + DASH[1]));
        while way < total {
            if way + DASH[0] > 0.0 {
                dashes.push([at(way.max(0.0)), at(way + DASH[0])]);
            }
            way += DASH[0] + DASH[1];
        }
        walked += total;
    }
    dashes
}

pub(super) fn pixel(point: Pair) -> (i32, i32) {
    (point[0].round() as i32, point[1].round() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_follow_a_bent_line() {
        let points = [[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]];
        let dashes = dashes(&points);
        let total: f64 = dashes
            .iter()
            .map(|[from, to]| length(minus(*to, *from)))
            .sum();
        assert!((40.0..=44.0).contains(&total), "{total} of 70");
        assert!(super::dashes(&[[1.0, 1.0], [1.0, 1.0]]).len() <= 1);
        assert!(super::dashes(&[]).is_empty());
    }
}
