//! Training curves, with horizontal lines for baselines.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style, text_width};
use super::palette::{FAINT, INK, color};

const LETTERS: f64 = 12.0;
const LEFT: i32 = 64;
const TOP: i32 = 44;
const WIDTH: i32 = 600;
const HEIGHT: i32 = 360;
const GAP: i32 = 8;
const TICKS: i32 = 5;

/// Lines over steps, and horizontal lines.
#[derive(Debug, Clone, Copy)]
pub struct TrainingCurves<'a> {
    pub title: &'a str,
    /// Names of the horizontal and vertical axis.
    pub axes: [&'a str; 2],
    /// Name and points, from left to right, of each line; points that are not finite are dropped.
    pub lines: &'a [(&'a str, Vec<(f64, f64)>)],
    /// Name and value of each horizontal line.
    pub levels: &'a [(&'a str, f64)],
}

/// Maps a value to a pixel.
struct Scale {
    low: f64,
    high: f64,
    length: i32,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, length: i32) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let margin = if high > low { 0.05 * (high - low) } else { 0.5 };
        Self {
            low: low - margin,
            high: high + margin,
            length,
        }
    }

    fn pixel(&self, value: f64) -> i32 {
        ((value - self.low) / (self.high - self.low) * f64::from(self.length)).round() as i32
    }

    /// Equidistant values, with as many digits as needed to distinguish them.
    fn ticks(&self) -> impl Iterator<Item = (i32, String)> + '_ {
        let digits = (2.0 - (self.high - self.low).log10()).clamp(0.0, 6.0) as usize;
        (0..=TICKS).map(move |tick| {
            let fraction = f64::from(tick) / f64::from(TICKS);
            let value = self.low + fraction * (self.high - self.low);
            (
                (fraction * f64::from(self.length)) as i32,
                format!("{value:.digits$}"),
            )
        })
    }
}

impl TrainingCurves<'_> {
    /// The figure as SVG. The vertical axis covers the horizontal lines and the second half of the curves; higher values are
    /// clipped at the upper edge.
    pub fn to_svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let horizontal = Scale::over(points().map(|(x, _)| *x), WIDTH);
        let middle = (horizontal.low + horizontal.high) / 2.0;
        let late = points().filter(|(x, _)| *x >= middle).map(|(_, y)| *y);
        let vertical = Scale::over(late.chain(self.levels.iter().map(|(_, y)| *y)), HEIGHT);
        let names = self
            .lines
            .iter()
            .map(|(name, _)| *name)
            .chain(self.levels.iter().map(|(name, _)| *name));
        let widest = names
            .map(|name| text_width(name, LETTERS))
            .max()
            .unwrap_or(0);
        Canvas::draw(
            (LEFT + WIDTH + 6 * GAP + widest, TOP + HEIGHT + LEFT),
            |canvas| {
                self.draw_frame(canvas, &horizontal, &vertical);
                for (i, (name, points)) in self.lines.iter().enumerate() {
                    let point =
                        |&(x, y): &(f64, f64)| (LEFT + horizontal.pixel(x), height(&vertical, y));
                    let finite = points
                        .iter()
                        .filter(|(x, y)| x.is_finite() && y.is_finite());
                    canvas.line(finite.map(point).collect(), color(i).stroke_width(2));
                    legend(canvas, i, name);
                }
                for (i, (name, level)) in self.levels.iter().enumerate() {
                    let (at, i) = (height(&vertical, *level), self.lines.len() + i);
                    canvas.line(
                        vec![(LEFT, at), (LEFT + WIDTH, at)],
                        color(i).stroke_width(1),
                    );
                    legend(canvas, i, name);
                }
            },
        )
    }

    fn draw_frame(&self, canvas: &Canvas<'_>, horizontal: &Scale, vertical: &Scale) {
        let title = Style::new(16.0, HPos::Left, INK).bold();
        canvas.text(self.title, (LEFT, TOP / 2), title);
        let label = Style::new(LETTERS, HPos::Center, FAINT);
        canvas.text(
            self.axes[0],
            (LEFT + WIDTH / 2, TOP + HEIGHT + 5 * GAP),
            label,
        );
        canvas.text(self.axes[1], (GAP, TOP + HEIGHT / 2), label.upwards());
        canvas.rectangle((LEFT, TOP), (WIDTH, HEIGHT), FAINT.stroke_width(1));
        for (at, text) in horizontal.ticks() {
            canvas.text(&text, (LEFT + at, TOP + HEIGHT + 2 * GAP), label);
        }
        for (at, text) in vertical.ticks() {
            let right = Style::new(LETTERS, HPos::Right, FAINT);
            canvas.text(&text, (LEFT - GAP, TOP + HEIGHT - at), right);
        }
    }
}

/// Vertical position of a value, clipped to the frame.
fn height(vertical: &Scale, value: f64) -> i32 {
    TOP + HEIGHT - vertical.pixel(value).clamp(0, HEIGHT)
}

fn legend(canvas: &Canvas<'_>, line: usize, name: &str) {
    let at = TOP + GAP + 20 * line as i32;
    let left = LEFT + WIDTH + 2 * GAP;
    canvas.line(
        vec![(left, at), (left + 2 * GAP, at)],
        color(line).stroke_width(3),
    );
    canvas.text(
        name,
        (left + 3 * GAP, at),
        Style::new(LETTERS, HPos::Left, INK),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_levels_are_plotted_for_any_numbers() {
        let odd = vec![(0.0, f64::NAN), (1.0, 1e300), (2.0, 3.0)];
        for lines in [
            vec![("validation", odd)],
            vec![("flat", vec![(1.0, 2.0)])],
            Vec::new(),
        ] {
            let curves = TrainingCurves {
                title: "A & B",
                axes: ["step", "error"],
                lines: &lines,
                levels: &[("gene means", 4.0)],
            };
            let svg = curves.to_svg();
            let document = roxmltree::Document::parse(&svg).expect("XML");
            let lines_drawn = document
                .descendants()
                .filter(|node| node.has_tag_name("polyline") || node.has_tag_name("line"));
            assert!(
                lines_drawn.count() >= 2 && svg.contains("gene means") && svg.contains("A &amp; B")
            );
            assert!(!svg.contains("NaN") && svg == curves.to_svg());
        }
    }
}
