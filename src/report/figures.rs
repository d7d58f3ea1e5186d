//! Figures as inline SVG. Ink is `currentColor` and shades are opacities of one color, so that they fit light and dark mode.

pub mod bars;
pub mod dots;
pub mod heat;
pub mod lines;
pub mod network;
pub mod points;

use maud::{Markup, html};

use super::html::cut;

/// Okabe and Ito (2008) without black, then mid-tones that contrast with both white and black.
pub const COLORS: [&str; 16] = [
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#B8A500", "#8C8C8C",
    "#7A6FD0", "#A65E1A", "#44AA99", "#B0457B", "#6699CC", "#DDAA66", "#5F9E3F", "#E07A6E",
];
/// Color of positive and of negative values.
pub const SHADE: &str = "#0072B2";
pub const OPPOSITE: &str = "#D55E00";

/// Color of a category; they repeat after 16.
pub fn color(category: usize) -> &'static str {
    COLORS[category % COLORS.len()]
}

/// A figure with its size in pixels and a description for screen readers.
pub fn svg((width, height): (f64, f64), description: &str, content: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox=(format!("0 0 {} {}", fixed(width), fixed(height)))
            width=(fixed(width)) height=(fixed(height)) font-family="system-ui, sans-serif" font-size="11" fill="currentColor" {
            title { (cut(description, 200)) }
            (content)
        }
    }
}

/// A coordinate with one decimal.
pub fn fixed(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Text at a position; `anchor` is start, middle or end.
pub fn label((x, y): (f64, f64), anchor: &str, text: &str) -> Markup {
    html! { text x=(fixed(x)) y=(fixed(y)) text-anchor=(anchor) { (text) } }
}

/// Rotated text, for columns.
pub fn slanted((x, y): (f64, f64), text: &str) -> Markup {
    html! { text transform=(format!("translate({} {}) rotate(-45)", fixed(x), fixed(y))) { (text) } }
}

/// A faint line.
pub fn rule((x1, y1): (f64, f64), (x2, y2): (f64, f64), opacity: &str) -> Markup {
    html! { line x1=(fixed(x1)) y1=(fixed(y1)) x2=(fixed(x2)) y2=(fixed(y2)) stroke="currentColor" stroke-opacity=(opacity) {} }
}

/// A filled rectangle with a tooltip.
pub fn area(
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    (color, opacity): (&str, f64),
    tip: &str,
) -> Markup {
    html! {
        rect x=(fixed(x)) y=(fixed(y)) width=(fixed(width.max(0.0))) height=(fixed(height.max(0.0))) fill=(color) fill-opacity=(format!("{opacity:.3}")) {
            @if !tip.is_empty() { title { (tip) } }
        }
    }
}

/// Approximate width in pixels of a text of 11 pixels.
pub fn width_of(text: &str) -> f64 {
    text.chars()
        .map(|c| if c.is_ascii() { 6.6 } else { 10.0 })
        .sum()
}

/// Legend of names and colors, wrapped to a width, and its height.
pub fn legend(names: &[String], (left, top): (f64, f64), width: f64) -> (Markup, f64) {
    let (mut x, mut y, mut positions) = (left, top, Vec::new());
    for name in names {
        let takes = width_of(name) + 30.0;
        if x > left && x + takes > left + width {
            (x, y) = (left, y + 18.0);
        }
        positions.push((x, y));
        x += takes;
    }
    let entries = html! {
        @for (at, (name, (x, y))) in names.iter().zip(positions).enumerate() {
            (area((x, y), (11.0, 11.0), (color(at), 1.0), ""))
            (label((x + 16.0, y + 10.0), "start", name))
        }
    };
    (
        entries,
        if names.is_empty() {
            0.0
        } else {
            y - top + 18.0
        },
    )
}

/// Maximum number of ticks of an axis.
const MOST_TICKS: usize = 12;
/// Maximum number of steps from zero; ticks beyond it are not distinguishable in double precision.
const MOST_STEPS: f64 = 1e12;

/// About five round numbers that cover a range; one if the range is too small.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return vec![low];
    }
    let rough = span / 4.0;
    let unit = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(unit);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if !step.is_normal() || first.abs().max(last.abs()) > MOST_STEPS {
        return vec![low];
    }
    (first as i64..=last as i64)
        .take(MOST_TICKS)
        .map(|at| at as f64 * step)
        .collect()
}

/// A number of an axis, without trailing zeros.
pub fn tick(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..0.001 | 1_000_000.0.. => format!("{value:.1e}").replace(".0e", "e"),
        _ => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_a_few_ticks() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(-3.0, 9.0), [0.0, 5.0]);
        assert_eq!(ticks(2.0, 2.0), [2.0]);
        let tiny = f64::from_bits(1);
        for (low, high) in [
            (0.0, tiny),
            (0.0, 4.0 * tiny),
            (0.0, f64::MIN_POSITIVE),
            (1e300, 1e300_f64.next_up()),
            (-f64::MAX, f64::MAX),
            (0.0, f64::MAX),
        ] {
            assert!(ticks(low, high).len() <= MOST_TICKS, "{low:e} to {high:e}");
        }
    }
}
