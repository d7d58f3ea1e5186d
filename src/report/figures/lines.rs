//! Line plots.

use maud::{Markup, html};

use super::{color, fixed, label, legend, rule, svg, tick, ticks};

const SIZE: (f64, f64) = (560.0, 250.0);
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 38.0;

/// A line; points without a value are dropped.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Dashed, with points.
    pub dashed: bool,
}

/// Lines with axes; the y axis is logarithmic if values span more than a factor of 20.
pub fn lines(lines: &[Line], axes: [&str; 2]) -> Markup {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x0, x1) = range(points().map(|point| point.0));
    let (y0, y1) = range(points().map(|point| point.1));
    let is_log = y0 > 0.0 && y1 / y0 > 20.0;
    let scaled = |y: f64| if is_log { y.log10() } else { y };
    let (low, high) = (scaled(y0), scaled(y1));
    let (low, high) = if high > low {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    };
    let x = |value: f64| LEFT + (value - x0) / (x1 - x0).max(1e-12) * (SIZE.0 - LEFT - 14.0);
    let y = |value: f64| {
        SIZE.1 - BOTTOM - (scaled(value) - low) / (high - low) * (SIZE.1 - BOTTOM - 12.0)
    };
    let marks: Vec<f64> = if is_log {
        (low.ceil() as i32..=high.floor() as i32)
            .map(|power| 10_f64.powi(power))
            .collect()
    } else {
        ticks(low, high)
    };
    let names: Vec<String> = lines.iter().map(|line| line.name.clone()).collect();
    let (names, height) = legend(&names, (LEFT, SIZE.1 + 4.0), SIZE.0 - LEFT);
    let content = html! {
        @for &mark in &marks {
            (rule((LEFT, y(mark)), (SIZE.0 - 14.0, y(mark)), "0.15"))
            (label((LEFT - 6.0, y(mark) + 4.0), "end", &tick(mark)))
        }
        @for mark in ticks(x0, x1) { (label((x(mark), SIZE.1 - BOTTOM + 16.0), "middle", &tick(mark))) }
        (rule((LEFT, SIZE.1 - BOTTOM), (SIZE.0 - 14.0, SIZE.1 - BOTTOM), "0.6"))
        (label(((LEFT + SIZE.0) / 2.0, SIZE.1 - 6.0), "middle", axes[0]))
        text transform=(format!("translate(13 {}) rotate(-90)", fixed((SIZE.1 - BOTTOM) / 2.0))) text-anchor="middle" {
            (axes[1]) @if is_log { ", logarithmic" }
        }
        @for (at, line) in lines.iter().enumerate() { (curve(line, color(at), (&x, &y))) }
        (names)
    };
    svg(
        (SIZE.0, SIZE.1 + height + 8.0),
        &format!("{} over {}", axes[1], axes[0]),
        &content,
    )
}

fn curve(line: &Line, color: &str, (x, y): (&dyn Fn(f64) -> f64, &dyn Fn(f64) -> f64)) -> Markup {
    let places: Vec<String> = line
        .points
        .iter()
        .map(|&(at, value)| format!("{},{}", fixed(x(at)), fixed(y(value))))
        .collect();
    html! {
        polyline points=(places.join(" ")) fill="none" stroke=(color) stroke-width="2" stroke-linejoin="round" stroke-dasharray=(if line.dashed { "5 4" } else { "none" }) {}
        @if line.points.len() <= 40 {
            @for &(at, value) in &line.points {
                circle cx=(fixed(x(at))) cy=(fixed(y(value))) r="2.8" fill=(color) { title { (line.name) ": " (tick(value)) " at " (tick(at)) } }
            }
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low.is_finite() {
        (low, high)
    } else {
        (0.0, 1.0)
    }
}
