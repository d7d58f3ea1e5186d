//! Heatmap: blue above zero, orange below.

use maud::{Markup, html};
use ndarray::Array2;

use super::{OPPOSITE, SHADE, area, label, slanted, svg, tick, width_of};
use crate::report::html::cut;

const LONGEST: usize = 28;
/// Matrices up to this size show their numbers.
const WRITTEN: usize = 12;
/// Maximum number of entries with tooltips, which limits the size of the report.
const TIPS: usize = 2_000;

/// A matrix with names.
pub struct Heat<'a> {
    pub rows: &'a [String],
    pub columns: &'a [String],
    /// Values of the shades.
    pub values: &'a Array2<f64>,
    /// Names of rows, columns and values.
    pub axes: [&'a str; 2],
    pub what: &'a str,
    /// Text of an entry (row, column).
    pub format: &'a dyn Fn((usize, usize)) -> String,
}

impl Heat<'_> {
    pub fn draw(&self) -> Markup {
        let (rows, columns) = (self.names(self.rows), self.names(self.columns));
        let size: f64 = if columns.len() <= WRITTEN {
            36.0
        } else if columns.len() <= 30 {
            19.0
        } else {
            16.0
        };
        let height = size.clamp(13.0, 24.0);
        let longest =
            |names: &[String]| names.iter().map(|name| width_of(name)).fold(30.0, f64::max);
        let (left, top) = (longest(&rows) + 28.0, longest(&columns) * 0.72 + 32.0);
        let right = (left + columns.len() as f64 * size).max(left + 190.0)
            + longest(&columns[columns.len().saturating_sub(4)..]) * 0.72;
        let bottom = top + rows.len() as f64 * height;
        let most = self
            .values
            .iter()
            .filter(|value| value.is_finite())
            .fold(0.0, |most: f64, value| most.max(value.abs()));
        let content = html! {
            (label((left, 12.0), "start", self.axes[1]))
            text transform=(format!("translate(12 {:.1}) rotate(-90)", (top + bottom) / 2.0)) text-anchor="middle" { (self.axes[0]) }
            @for (at, name) in columns.iter().enumerate() { (slanted((left + (at as f64 + 0.6) * size, top - 6.0), name)) }
            @for (row, name) in rows.iter().enumerate() {
                (label((left - 6.0, top + (row as f64 + 0.5) * height + 4.0), "end", name))
                @for column in 0..columns.len() {
                    (self.entry((row, column), (left + column as f64 * size, top + row as f64 * height), (size, height), most))
                }
            }
            (scale((left, bottom + 12.0), most, self.values.iter().any(|value| *value < 0.0), self.what))
        };
        svg(
            (right + 8.0, bottom + 48.0),
            &format!("{} by {}: {}", self.axes[0], self.axes[1], self.what),
            &content,
        )
    }

    fn names(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| cut(name, LONGEST)).collect()
    }

    fn entry(
        &self,
        (row, column): (usize, usize),
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        most: f64,
    ) -> Markup {
        let value = self.values[(row, column)];
        let fraction = if most > 0.0 && value.is_finite() {
            value.abs() / most
        } else {
            0.0
        };
        let text = (self.format)((row, column));
        let tip = if self.values.len() <= TIPS {
            format!(
                "{}, {}: {text}",
                cut(&self.rows[row], LONGEST),
                cut(&self.columns[column], LONGEST)
            )
        } else {
            String::new()
        };
        html! {
            (area((x + 0.5, y + 0.5), (width - 1.0, height - 1.0), if value < 0.0 { (OPPOSITE, 0.03 + fraction * 0.85) } else { (SHADE, 0.03 + fraction * 0.85) }, &tip))
            @if self.columns.len() <= WRITTEN && value != 0.0 {
                g stroke="Canvas" stroke-width="2.5" stroke-opacity="0.7" paint-order="stroke" {
                    (label((x + width / 2.0, y + height / 2.0 + 4.0), "middle", &text))
                }
            }
        }
    }
}

/// Legend of the shades.
pub fn scale((x, y): (f64, f64), most: f64, is_signed: bool, what: &str) -> Markup {
    let steps = 24;
    html! {
        @for step in 0..steps {
            @let at = step as f64 / (steps - 1) as f64;
            @let value = if is_signed { at * 2.0 - 1.0 } else { at };
            (area((x + step as f64 * 5.0, y), (5.2, 9.0), (if value < 0.0 { OPPOSITE } else { SHADE }, 0.03 + value.abs() * 0.85), ""))
        }
        (label((x, y + 22.0), "start", &tick(round(if is_signed { -most } else { 0.0 }))))
        (label((x + 120.0, y + 22.0), "end", &tick(round(most))))
        (label((x + 128.0, y + 9.0), "start", what))
    }
}

fn round(value: f64) -> f64 {
    let digits = 10_f64.powf((value.abs().max(1e-12)).log10().floor() - 2.0);
    (value / digits).round() * digits
}
