//! Horizontal bars: one value each, or stacked fractions.

use maud::{Markup, html};

use super::{area, color, label, legend, rule, svg, tick, ticks, width_of};
use crate::report::html::cut;

/// Length of the longest bar.
const SPAN: f64 = 340.0;
const ROW: f64 = 22.0;
const LONGEST: usize = 64;
/// Space for the number at the end of a bar.
const END: f64 = 84.0;

/// A bar with its name, value and group, which determines its color.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub group: usize,
}

/// Tick of an axis, with SI prefixes for large numbers.
fn axis_tick(value: f64) -> String {
    match value {
        1e9.. => format!("{} G", tick(value / 1e9)),
        1e6.. => format!("{} M", tick(value / 1e6)),
        1e4.. => format!("{} k", tick(value / 1e3)),
        _ => tick(value),
    }
}

/// Bars from zero; `format` writes their values, `groups` is the legend of colors.
pub fn bars(bars: &[Bar], axis: &str, format: &dyn Fn(f64) -> String, groups: &[String]) -> Markup {
    let names: Vec<String> = bars.iter().map(|bar| cut(&bar.name, LONGEST)).collect();
    let left = names.iter().map(|name| width_of(name)).fold(40.0, f64::max) + 10.0;
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    let width = left + SPAN + END;
    let x = |value: f64| left + value.max(0.0) / most * SPAN;
    let bottom = bars.len() as f64 * ROW + 4.0;
    let (explained, height) = legend(groups, (left, bottom + 44.0), SPAN + END);
    let content = html! {
        @for mark in ticks(0.0, most) {
            (rule((x(mark), 0.0), (x(mark), bottom), "0.15"))
            (label((x(mark), bottom + 15.0), "middle", &axis_tick(mark)))
        }
        @for (at, (bar, name)) in bars.iter().zip(&names).enumerate() {
            @let top = at as f64 * ROW + 3.0;
            (label((left - 7.0, top + 12.0), "end", name))
            (area((left, top), (x(bar.value) - left, ROW - 6.0), (color(bar.group), 1.0), &format!("{name}: {}", format(bar.value))))
            (label((x(bar.value) + 5.0, top + 12.0), "start", &format(bar.value)))
        }
        (label((left + SPAN / 2.0, bottom + 32.0), "middle", axis))
        (explained)
    };
    svg((width, bottom + 44.0 + height), axis, &content)
}

/// Rows of counts as fractions of their sums, with the sums at the end.
pub fn fractions(rows: &[String], parts: &[String], counts: &[Vec<u64>], axis: &str) -> Markup {
    let names: Vec<String> = rows.iter().map(|name| cut(name, LONGEST)).collect();
    let parts: Vec<String> = parts.iter().map(|name| cut(name, LONGEST)).collect();
    let left = names.iter().map(|name| width_of(name)).fold(40.0, f64::max) + 10.0;
    let span = SPAN;
    let bottom = rows.len() as f64 * ROW + 4.0;
    let (explained, height) = legend(&parts, (left, bottom + 44.0), SPAN + END);
    let content = html! {
        @for (at, (name, counts)) in names.iter().zip(counts).enumerate() {
            @let top = at as f64 * ROW + 3.0;
            @let total = counts.iter().sum::<u64>();
            (label((left - 7.0, top + 12.0), "end", name))
            @for (part, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                @let before = counts[..part].iter().sum::<u64>() as f64 / total as f64;
                @let fraction = count as f64 / total as f64;
                (area((left + before * span, top), ((fraction * span - 0.7).max(0.4), ROW - 6.0), (color(part), 1.0), &format!("{name}, {}: {count} cells, {:.1} %", parts[part], fraction * 100.0)))
            }
            (label((left + span + 5.0, top + 12.0), "start", &crate::report::html::number(total as f64, 0)))
        }
        @for mark in [0.0, 0.25, 0.5, 0.75, 1.0] { (label((left + mark * span, bottom + 15.0), "middle", &format!("{:.0} %", mark * 100.0))) }
        (label((left + span / 2.0, bottom + 32.0), "middle", axis))
        (explained)
    };
    svg((left + SPAN + END, bottom + 44.0 + height), axis, &content)
}
