//! Scatter plot of cells, colored by category; categories are numbered at their medians and in the legend.

use std::collections::HashSet;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style, short, text_width};
use super::palette::{FAINT, INK, UNLABELED, color};

const LETTERS: f64 = 12.0;
const GAP: i32 = 8;
const LEFT: i32 = 40;
const TOP: i32 = 44;
const SIDE: i32 = 600;
const LINE: i32 = 20;
const LINES: usize = (SIDE / LINE) as usize;

/// Data of a scatter plot.
#[derive(Debug, Clone, Copy)]
pub struct Scatter<'a> {
    pub title: &'a str,
    /// Names of the horizontal and vertical axis.
    pub axes: [&'a str; 2],
    /// One point for each cell; points that are not finite are dropped.
    pub points: &'a [(f64, f64)],
    /// Category of each cell, an index into `names`; `None` is gray, below the others.
    pub categories: &'a [Option<usize>],
    pub names: &'a [String],
}

impl Scatter<'_> {
    /// The figure as SVG. Cells on the same pixel are plotted once, so the size is limited for any number of cells.
    pub fn to_svg(&self) -> String {
        let entries = self.entries();
        let widest = entries
            .iter()
            .map(|entry| text_width(&entry.text, LETTERS))
            .max()
            .unwrap_or(0)
            + 5 * GAP;
        let columns = entries.len().div_ceil(LINES) as i32;
        let width =
            (LEFT + SIDE + 2 * GAP + columns * widest).max(text_width(self.title, 17.0) + LEFT);
        Canvas::draw((width, TOP + SIDE + LEFT), |canvas| {
            self.draw_frame(canvas);
            let pixels = self.pixels();
            self.draw_points(canvas, &pixels);
            self.draw_numbers(canvas, &pixels);
            for (i, entry) in entries.iter().enumerate() {
                let (column, line) = ((i / LINES) as i32, (i % LINES) as i32);
                entry.draw(
                    canvas,
                    (
                        LEFT + SIDE + 3 * GAP + column * widest,
                        TOP + LINE / 2 + line * LINE,
                    ),
                );
            }
        })
    }

    fn draw_frame(&self, canvas: &Canvas<'_>) {
        canvas.text(
            self.title,
            (LEFT, TOP / 2),
            Style::new(16.0, HPos::Left, INK).bold(),
        );
        let label = Style::new(LETTERS, HPos::Center, FAINT);
        canvas.text(
            self.axes[0],
            (LEFT + SIDE / 2, TOP + SIDE + LEFT / 2),
            label,
        );
        canvas.text(self.axes[1], (LEFT / 2, TOP + SIDE / 2), label.upwards());
        canvas.rectangle((LEFT, TOP), (SIDE, SIDE), FAINT.stroke_width(1));
    }

    fn draw_points(&self, canvas: &Canvas<'_>, pixels: &[(usize, (i32, i32))]) {
        let radius = if pixels.len() > 3000 { 2 } else { 3 };
        let (labeled, unlabeled): (Vec<_>, Vec<_>) = pixels
            .iter()
            .partition(|(cell, _)| self.categories[*cell].is_some());
        for layer in [unlabeled, labeled] {
            let mut taken = HashSet::new();
            for (cell, at) in layer.into_iter().filter(|(_, at)| taken.insert(*at)) {
                let color = self.categories[cell].map_or(UNLABELED, color);
                canvas.circle(at, radius, color.mix(0.8).filled());
            }
        }
    }

    /// Pixels of the cells in random order, so that no category systematically covers another.
    fn pixels(&self) -> Vec<(usize, (i32, i32))> {
        let finite = |(_, (x, y)): &(usize, &(f64, f64))| x.is_finite() && y.is_finite();
        let cells = self
            .points
            .iter()
            .enumerate()
            .filter(finite)
            .take_while(|(cell, _)| *cell < self.categories.len());
        let cells = cells.collect::<Vec<_>>();
        let horizontal = Axis::over(cells.iter().map(|(_, (x, _))| *x));
        let vertical = Axis::over(cells.iter().map(|(_, (_, y))| *y));
        let pixel = |&(cell, &(x, y)): &(usize, &(f64, f64))| {
            (
                cell,
                (LEFT + horizontal.pixel(x), TOP + SIDE - vertical.pixel(y)),
            )
        };
        let mut pixels = cells.iter().map(pixel).collect::<Vec<_>>();
        pixels.sort_by_key(|(cell, _)| {
            (*cell as u64)
                .wrapping_add(1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        pixels
    }

    /// Numbers at the medians, which are more robust than means.
    fn draw_numbers(&self, canvas: &Canvas<'_>, pixels: &[(usize, (i32, i32))]) {
        let mut medians = vec![(Vec::new(), Vec::new()); self.names.len()];
        for (cell, (x, y)) in pixels {
            if let Some(median) =
                self.categories[*cell].and_then(|category| medians.get_mut(category))
            {
                median.0.push(*x);
                median.1.push(*y);
            }
        }
        for (category, (mut xs, mut ys)) in medians
            .into_iter()
            .enumerate()
            .filter(|(_, (xs, _))| !xs.is_empty())
        {
            xs.sort_unstable();
            ys.sort_unstable();
            draw_number(canvas, category, (xs[xs.len() / 2], ys[ys.len() / 2]));
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let count = |category| {
            self.categories
                .iter()
                .filter(|found| **found == category)
                .count()
        };
        let named = self
            .names
            .iter()
            .enumerate()
            .map(|(category, name)| (Some(category), short(name)));
        let unlabeled = (count(None) > 0).then(|| (None, "unlabeled".to_owned()));
        let entry = |(category, name)| Entry {
            category,
            text: format!("{name} ({})", count(category)),
        };
        named.chain(unlabeled).map(entry).collect()
    }
}

/// A line of the legend.
struct Entry {
    category: Option<usize>,
    text: String,
}

impl Entry {
    fn draw(&self, canvas: &Canvas<'_>, (x, y): (i32, i32)) {
        canvas.circle((x, y), 5, self.category.map_or(UNLABELED, color).filled());
        let number = self
            .category
            .map_or_else(String::new, |category| (category + 1).to_string());
        canvas.text(
            &number,
            (x + 18, y),
            Style::new(LETTERS - 1.0, HPos::Center, INK).bold(),
        );
        canvas.text(
            &self.text,
            (x + 30, y),
            Style::new(LETTERS, HPos::Left, INK),
        );
    }
}

fn draw_number(canvas: &Canvas<'_>, category: usize, at: (i32, i32)) {
    canvas.circle(at, 9, WHITE.mix(0.9).filled());
    canvas.circle(at, 9, color(category).stroke_width(2));
    canvas.text(
        &(category + 1).to_string(),
        at,
        Style::new(LETTERS - 1.0, HPos::Center, INK).bold(),
    );
}

/// Maps an axis of the data to the frame, with a margin.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            low: values.clone().fold(f64::INFINITY, f64::min),
            high: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn pixel(&self, value: f64) -> i32 {
        const MARGIN: f64 = 16.0;
        // Halved first, so that the span of the largest numbers stays finite.
        let span = self.high / 2.0 - self.low / 2.0;
        let fraction = if span > 0.0 {
            (value / 2.0 - self.low / 2.0) / span
        } else {
            0.5
        };
        (MARGIN + fraction * (f64::from(SIDE) - 2.0 * MARGIN)).round() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(points: &[(f64, f64)], categories: &[Option<usize>], names: &[&str]) -> String {
        let names = names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>();
        Scatter {
            title: "Cells",
            axes: ["PC 1", "PC 2"],
            points,
            categories,
            names: &names,
        }
        .to_svg()
    }

    #[test]
    fn cells_on_one_pixel_are_plotted_once_and_all_counted() {
        let many = svg(&[(1.0, 1.0); 1000], &[Some(0); 1000], &["B & T"]);
        assert_eq!(
            many.matches("<circle").count(),
            1 + 2 + 1,
            "cell, number with ring, legend"
        );
        assert!(many.contains("B &amp; T (1000)"));
    }

    #[test]
    fn order_of_cells_and_unusual_points_are_handled() {
        let odd = [
            (f64::NAN, 0.0),
            (f64::INFINITY, 1.0),
            (-f64::MAX, -1.0),
            (f64::MAX, 1.0),
            (0.0, 0.0),
        ];
        let figure = svg(
            &odd,
            &[Some(0), Some(1), None, Some(1), Some(0)],
            &["a", "b"],
        );
        assert!(figure.contains("unlabeled (1)"));
        assert_eq!(
            figure,
            svg(
                &odd,
                &[Some(0), Some(1), None, Some(1), Some(0)],
                &["a", "b"]
            )
        );
        assert!(svg(&[], &[], &[]).ends_with("</svg>\n"));
        assert!(svg(&[(0.0, 0.0)], &[Some(7)], &["a"]).contains("a (0)"));
    }
}
