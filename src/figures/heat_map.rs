//! Heatmap of a table, with a color scale.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style};
use super::labels::{fitted, width};
use super::palette::{FAINT, INK};

const LETTERS: f64 = 12.0;
/// Space between elements, in pixels.
const GAP: i32 = 8;
const TITLE: i32 = 44;
/// Approximate length of a side with many fields, and limits of the side of a field.
const SIDE: i32 = 960;
const FIELDS: [i32; 2] = [6, 30];
/// Maximum number of rows or columns; more are merged.
const MOST: usize = 160;
/// Height of a line of labels.
const LINE: i32 = 12;
/// Maximum name width.
const NAME: i32 = 230;
/// Width and minimum height of the scale, and space for its numbers.
const SCALE: [i32; 3] = [14, 140, 64];
/// Number of distinct colors; few enough that equal neighbors become one rectangle.
const SHADES: f64 = 96.0;
/// Color of fields without a value.
const BLANK: RGBColor = RGBColor(226, 226, 226);

/// Meaning of colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From the lowest value (dark blue) to the highest (yellow).
    Sequential,
    /// From blue over white (0) to orange, symmetric around 0.
    Diverging,
}

/// A table of numbers.
#[derive(Debug, Clone, Copy)]
pub struct HeatMap<'a> {
    pub title: &'a str,
    /// Names of the column and row axes.
    pub axes: [&'a str; 2],
    pub rows: &'a [String],
    pub columns: &'a [String],
    /// Values by row and column. Missing values are blank.
    pub values: &'a [Vec<f64>],
    /// Name of the values, with their unit.
    pub legend: &'a str,
    pub scale: Scale,
}

impl HeatMap<'_> {
    /// The figure as SVG. Above 160 rows or columns, the means of neighbors are plotted; above 80, only every n-th name.
    pub fn to_svg(&self) -> String {
        let table = Table::new(self);
        let layout = Layout::new(self, &table);
        let range = Range::over(&table.values, self.scale);
        Canvas::draw(layout.page(), |canvas| {
            let title = fitted(self.title, layout.page().0 - 4 * GAP, 17.0);
            canvas.text(
                &title,
                (2 * GAP, TITLE / 2),
                Style::new(16.0, HPos::Left, INK).bold(),
            );
            for (row, values) in table.values.iter().enumerate() {
                layout.draw_row(canvas, row, values, &range);
            }
            let frame = INK.stroke_width(1);
            canvas.rectangle((layout.left, TITLE), layout.sides(), frame);
            layout.draw_names(canvas, &table);
            layout.draw_axes(canvas, &table, self.axes);
            layout.draw_scale(canvas, &range, self.legend);
        })
    }
}

/// The values to plot: those given, or means of neighbors.
struct Table {
    names: [Vec<String>; 2],
    /// Number of columns and rows per field.
    merged: [usize; 2],
    values: Vec<Vec<f64>>,
}

impl Table {
    fn new(map: &HeatMap<'_>) -> Self {
        let merged = [map.columns, map.rows].map(|names| names.len().div_ceil(MOST).max(1));
        let [columns, rows] =
            [(map.columns, merged[0]), (map.rows, merged[1])].map(|(names, step)| {
                let names = names.iter().step_by(step);
                names
                    .map(|name| fitted(name, NAME, LETTERS - 1.0))
                    .collect::<Vec<_>>()
            });
        let mean = |row: usize, column: usize| {
            let rows = map
                .values
                .iter()
                .take(map.rows.len())
                .skip(row * merged[1])
                .take(merged[1]);
            let values = rows.flat_map(|row| {
                row.iter()
                    .take(map.columns.len())
                    .skip(column * merged[0])
                    .take(merged[0])
            });
            let finite = values.filter(|value| value.is_finite());
            let (sum, n) = finite.fold((0.0, 0.0), |(mean, n), value| {
                (mean + (value / (n + 1.0) - mean / (n + 1.0)), n + 1.0)
            });
            if n > 0.0 { sum } else { f64::NAN }
        };
        let values =
            (0..rows.len()).map(|row| (0..columns.len()).map(|column| mean(row, column)).collect());
        Self {
            merged,
            values: values.collect(),
            names: [columns, rows],
        }
    }
}

/// Values at the ends of the scale.
struct Range {
    low: f64,
    high: f64,
    scale: Scale,
    any_blank: bool,
}

impl Range {
    fn over(values: &[Vec<f64>], scale: Scale) -> Self {
        let finite = || {
            values
                .iter()
                .flatten()
                .copied()
                .filter(|value| value.is_finite())
        };
        let (low, high) = match scale {
            Scale::Sequential => (
                finite().fold(f64::INFINITY, f64::min),
                finite().fold(f64::NEG_INFINITY, f64::max),
            ),
            Scale::Diverging => {
                let most = finite().map(f64::abs).fold(f64::NEG_INFINITY, f64::max);
                (-most, most)
            }
        };
        let any_blank = values.iter().flatten().any(|value| !value.is_finite());
        Self {
            low,
            high,
            scale,
            any_blank,
        }
    }

    fn is_empty(&self) -> bool {
        self.low > self.high || self.high.is_infinite()
    }

    /// Position of a value between the ends, from 0 to 1; the middle if the ends are equal.
    fn fraction(&self, value: f64) -> Option<f64> {
        // Halved first, so that the span of the largest numbers stays finite.
        let span = self.high / 2.0 - self.low / 2.0;
        let fraction = if span > 0.0 {
            (value / 2.0 - self.low / 2.0) / span
        } else {
            0.5
        };
        value
            .is_finite()
            .then(|| (fraction.clamp(0.0, 1.0) * SHADES).round() / SHADES)
    }

    fn color(&self, fraction: Option<f64>) -> RGBColor {
        match (fraction, self.scale) {
            (None, _) => BLANK,
            (Some(fraction), Scale::Sequential) => between(&VIRIDIS, fraction),
            (Some(fraction), Scale::Diverging) => between(&BLUE_TO_ORANGE, fraction),
        }
    }

    /// Round numbers on the scale, with as many digits as needed to distinguish them.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high / 4.0 - self.low / 4.0;
        if span <= 0.0
            || !(self.low / span).is_finite()
            || (self.low / span).abs().max((self.high / span).abs()) > 1e6
        {
            return vec![(self.low, shortest(self.low))];
        }
        let power = 10f64.powf(span.log10().floor());
        let fits = |step: &f64| *step >= span * 0.999;
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|times| times * power)
            .into_iter()
            .find(fits)
            .unwrap_or(span);
        let first = (self.low / step - 1e-6).ceil() as i64;
        let last = (self.high / step + 1e-6).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0);
        let text = |value: f64| match step >= 1e-4 && self.low.abs().max(self.high.abs()) < 1e6 {
            true => format!("{value:.*}", decimals as usize),
            false => scientific(value),
        };
        // Adding 0 turns negative zero into positive zero.
        (first..=last)
            .map(|at| at as f64 * step + 0.0)
            .map(|value| (value, text(value)))
            .collect()
    }
}

fn shortest(value: f64) -> String {
    let is_usual = value == 0.0 || (1e-3..1e6).contains(&value.abs());
    if is_usual {
        format!("{}", (value * 1e4).round() / 1e4 + 0.0)
    } else {
        scientific(value)
    }
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((digits, power)) => format!(
            "{}e{power}",
            digits.trim_end_matches('0').trim_end_matches('.')
        ),
        None => text,
    }
}

/// Anchors of viridis (Smith and van der Walt 2015), whose lightness increases for any color vision.
const VIRIDIS: [u32; 10] = [
    0x440154, 0x482878, 0x3E4A89, 0x31688E, 0x26828E, 0x1F9E89, 0x35B779, 0x6DCD59, 0xB4DE2C,
    0xFDE725,
];
const BLUE_TO_ORANGE: [u32; 7] = [
    0x08306B, 0x2171B5, 0x85BCDC, 0xFFFFFF, 0xFDB863, 0xE06A00, 0x7F3300,
];

fn between(anchors: &[u32], fraction: f64) -> RGBColor {
    let position = fraction * (anchors.len() - 1) as f64;
    let low = (position as usize).min(anchors.len() - 2);
    let part = position - low as f64;
    let [_, red, green, blue] = [0, 1, 2, 3].map(|byte: usize| {
        let [from, to] =
            [anchors[low], anchors[low + 1]].map(|code| f64::from(code.to_be_bytes()[byte]));
        (from * (1.0 - part) + to * part).round() as u8
    });
    RGBColor(red, green, blue)
}

/// Positions in pixels.
struct Layout {
    /// Width and height of a field.
    field: [i32; 2],
    /// Fields in a row, and in a column.
    fields: [i32; 2],
    /// Left edge of the fields.
    left: i32,
    /// Space for names below the fields.
    below: i32,
    /// Height of the scale.
    scale: i32,
    /// Space for the title.
    title: i32,
}

impl Layout {
    fn new(map: &HeatMap<'_>, table: &Table) -> Self {
        let fields = [0, 1].map(|axis| table.names[axis].len() as i32);
        let field = fields.map(|n| (SIDE / n.max(1)).clamp(FIELDS[0], FIELDS[1]));
        let names = [0, 1].map(|axis| {
            table.names[axis]
                .iter()
                .map(|name| width(name, LETTERS - 1.0))
                .max()
                .unwrap_or(0)
        });
        let legend = width(map.legend, LETTERS).min(360);
        Self {
            field,
            fields,
            left: names[1] + 6 * GAP,
            below: names[0] + 6 * GAP,
            scale: legend.max((fields[1] * field[1]).min(240)).max(SCALE[1]),
            title: width(map.title, 17.0).min(640) + 4 * GAP,
        }
    }

    fn sides(&self) -> (i32, i32) {
        (
            self.fields[0] * self.field[0],
            self.fields[1] * self.field[1],
        )
    }

    fn page(&self) -> (i32, i32) {
        let (_, down) = self.sides();
        let least = self.scale_left() + SCALE[0] + SCALE[2] + 5 * GAP;
        // The scale has a field for blanks below.
        let height = (down + self.below).max(self.scale + 7 * GAP);
        (least.max(self.title), TITLE + height)
    }

    fn scale_left(&self) -> i32 {
        self.left + self.sides().0 + 3 * GAP
    }

    /// Consecutive fields of one color are one rectangle.
    fn draw_row(&self, canvas: &Canvas<'_>, row: usize, values: &[f64], range: &Range) {
        let [across, down] = self.field;
        let fractions: Vec<Option<f64>> =
            values.iter().map(|&value| range.fraction(value)).collect();
        let mut column = 0;
        for run in fractions.chunk_by(|a, b| a == b) {
            let at = (self.left + column * across, TITLE + row as i32 * down);
            let size = (run.len() as i32 * across, down);
            canvas.rectangle(at, size, range.color(run[0]).filled());
            column += run.len() as i32;
        }
    }

    fn draw_names(&self, canvas: &Canvas<'_>, table: &Table) {
        let bottom = TITLE + self.sides().1;
        let style = Style::new(LETTERS - 1.0, HPos::Right, INK);
        for (axis, names) in table.names.iter().enumerate() {
            let field = self.field[axis];
            let every = (LINE + field - 1) / field;
            for (i, name) in names.iter().enumerate().step_by(every as usize) {
                let middle = i as i32 * field + field / 2;
                match axis {
                    0 => canvas.text(name, (self.left + middle, bottom + GAP), style.upwards()),
                    _ => canvas.text(name, (self.left - GAP, TITLE + middle), style),
                }
            }
        }
    }

    fn draw_axes(&self, canvas: &Canvas<'_>, table: &Table, axes: [&str; 2]) {
        let (across, down) = self.sides();
        let [horizontal, vertical] = [0, 1].map(|axis| match table.merged[axis] {
            1 => axes[axis].to_owned(),
            n => format!("{} (means of {n})", axes[axis]),
        });
        let style = Style::new(LETTERS, HPos::Center, FAINT);
        let text = fitted(
            &horizontal,
            2 * (across / 2 + self.left.min(SCALE[2])),
            LETTERS,
        );
        canvas.text(
            &text,
            (self.left + across / 2, TITLE + down + self.below - 2 * GAP),
            style,
        );
        let text = fitted(&vertical, down + TITLE, LETTERS);
        canvas.text(&text, (2 * GAP, TITLE + down / 2), style.upwards());
    }

    fn draw_scale(&self, canvas: &Canvas<'_>, range: &Range, legend: &str) {
        let left = self.scale_left();
        let [wide, ..] = SCALE;
        let label = Style::new(LETTERS - 1.0, HPos::Left, FAINT);
        if range.any_blank {
            let top = TITLE + self.scale + 2 * GAP;
            canvas.rectangle((left, top), (wide, wide), BLANK.filled());
            canvas.text("no value", (left + wide + GAP, top + wide / 2), label);
        }
        if range.is_empty() {
            return;
        }
        for line in 0..self.scale {
            let fraction = 1.0 - f64::from(line) / f64::from(self.scale - 1);
            canvas.rectangle(
                (left, TITLE + line),
                (wide, 1),
                range.color(Some(fraction)).filled(),
            );
        }
        canvas.rectangle((left, TITLE), (wide, self.scale), FAINT.stroke_width(1));
        for (value, text) in range.ticks() {
            let fraction = range.fraction(value).unwrap_or(0.5);
            let y = TITLE + ((1.0 - fraction) * f64::from(self.scale)).round() as i32;
            canvas.line(
                vec![(left + wide, y), (left + wide + 4, y)],
                FAINT.stroke_width(1),
            );
            canvas.text(&text, (left + wide + GAP, y), label);
        }
        let at = (left + wide + SCALE[2] + GAP, TITLE + self.scale / 2);
        let style = Style::new(LETTERS, HPos::Center, FAINT).upwards();
        canvas.text(&fitted(legend, self.scale, LETTERS), at, style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::assert_on_page;

    fn names(what: &str, n: usize) -> Vec<String> {
        (0..n).map(|i| format!("{what}{i}")).collect()
    }

    fn svg(rows: &[String], columns: &[String], values: &[Vec<f64>], scale: Scale) -> String {
        let map = HeatMap {
            title: "Scores\u{1} & <script>",
            axes: ["cell type", "program"],
            rows,
            columns,
            values,
            legend: "mean score (z)",
            scale,
        };
        let svg = map.to_svg();
        assert_eq!(svg, map.to_svg());
        assert_on_page(&svg);
        svg
    }

    fn count(svg: &str, RGBColor(red, green, blue): RGBColor) -> usize {
        svg.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\""))
            .count()
    }

    #[test]
    fn colors_represent_the_values() {
        let values = [vec![0.0, 10.0], vec![f64::NAN, 5.0], vec![f64::INFINITY]];
        let figure = svg(
            &names("program ", 3),
            &names("type ", 2),
            &values,
            Scale::Sequential,
        );
        let [low, high] = [between(&VIRIDIS, 0.0), between(&VIRIDIS, 1.0)];
        // The scale has several lines of each end.
        assert!(count(&figure, low) >= 2 && count(&figure, high) >= 2);
        // Two rectangles of blank fields, because consecutive ones are merged, and that of the legend.
        assert_eq!(count(&figure, BLANK), 3);
        for text in [
            "program 2",
            "type 1",
            "no value",
            "mean score (z)",
            "&lt;script&gt;",
            ">\n10\n<",
            ">\n0\n<",
        ] {
            assert!(figure.contains(text), "{text} is not in\n{figure}");
        }
    }

    #[test]
    fn zero_is_white_where_the_scale_diverges() {
        let range = Range::over(&[vec![-1.0, 0.0, 4.0]], Scale::Diverging);
        assert_eq!((range.low, range.high), (-4.0, 4.0));
        assert_eq!(range.color(range.fraction(0.0)), WHITE);
        assert_eq!(
            range.color(range.fraction(4.0)),
            between(&BLUE_TO_ORANGE, 1.0)
        );
        let texts: Vec<String> = range.ticks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["-4", "-2", "0", "2", "4"]);
    }

    #[test]
    fn ticks_are_round_few_and_distinct() {
        for (low, high) in [
            (0.0, 1.0),
            (0.013, 0.0172),
            (-3e-9, 5e-9),
            (1e9, 7e9),
            (-f64::MAX, f64::MAX),
            (5.0, 5.0),
            (1e15, 1e15 + 1.0),
            (0.0, 5e-324),
            (0.0, 0.0),
            (999.5, 1000.5),
        ] {
            let range = Range {
                low,
                high,
                scale: Scale::Sequential,
                any_blank: false,
            };
            let mut texts: Vec<String> = range.ticks().into_iter().map(|(_, text)| text).collect();
            assert!((1..=9).contains(&texts.len()), "{low} {high} {texts:?}");
            assert!(
                texts
                    .iter()
                    .all(|text| width(text, LETTERS - 1.0) <= SCALE[2] - GAP),
                "{texts:?}"
            );
            let n = texts.len();
            texts.dedup();
            assert_eq!(texts.len(), n, "{texts:?}");
        }
    }

    #[test]
    fn many_rows_and_columns_give_a_small_figure() {
        let values: Vec<Vec<f64>> = (0..1000)
            .map(|i| (0..700).map(|j| ((i * 31 + j * 17) % 101) as f64).collect())
            .collect();
        let figure = svg(
            &names("row", 1000),
            &names("column", 700),
            &values,
            Scale::Sequential,
        );
        assert!(figure.len() < 4_000_000, "{}", figure.len());
        assert!(
            figure.contains("program (means of 7)") && figure.contains("cell type (means of 5)")
        );
        assert!(figure.matches("row").count() <= 80);
        let figure = svg(
            &names("row", 100),
            &names("column", 3),
            &values,
            Scale::Sequential,
        );
        let drawn = figure.matches("row").count();
        assert!((40..=80).contains(&drawn), "{drawn}");
    }

    #[test]
    fn means_ignore_blank_values() {
        let rows = names("r", MOST + 1);
        let mut values = vec![vec![f64::NAN]; MOST + 1];
        (values[0][0], values[1][0], values[3][0]) = (f64::MAX, f64::MAX, 2.0);
        let map = HeatMap {
            title: "",
            axes: ["", ""],
            rows: &rows,
            columns: &names("c", 1),
            values: &values,
            legend: "",
            scale: Scale::Diverging,
        };
        let table = Table::new(&map);
        assert_eq!([table.values[0][0], table.values[1][0]], [f64::MAX, 2.0]);
        assert!(table.values[2][0].is_nan() && table.values.len() == MOST / 2 + 1);
    }

    #[test]
    fn unusual_input_is_handled() {
        let odd = [
            "x".repeat(10_000),
            "שלום <script>".into(),
            "\u{0}漢字".repeat(50),
            String::new(),
        ];
        for scale in [Scale::Sequential, Scale::Diverging] {
            svg(
                &odd,
                &odd,
                &[vec![1.0; 4], vec![-1.0; 9], vec![], vec![f64::NAN]],
                scale,
            );
            svg(&[], &[], &[], scale);
            svg(&names("r", 1), &names("c", 1), &[vec![0.0]], scale);
            svg(&names("r", 2), &names("c", 2), &[vec![f64::NAN; 2]], scale);
            svg(&[], &names("c", 3), &[vec![1.0]], scale);
            svg(&names("r", 2), &[], &[vec![1.0]], scale);
            svg(
                &names("r", 2),
                &names("c", 1),
                &[vec![f64::MAX], vec![-f64::MAX]],
                scale,
            );
        }
        let long = "long ".repeat(2000);
        let map = HeatMap {
            title: &long,
            axes: [&long, &long],
            rows: &odd,
            columns: &odd,
            values: &[],
            legend: &long,
            scale: Scale::Sequential,
        };
        assert_on_page(&map.to_svg());
    }
}
