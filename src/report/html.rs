//! HTML elements of the report. Every text of an input passes through [`text`] or [`shortened`] and maud's escaping.

use maud::{Markup, html};

/// Maximum characters of a text; file names and labels can have any length.
const LONGEST: usize = 120;
/// Texts of tables up to this length are not wrapped.
const UNBROKEN: usize = 40;

/// A text of an input, shortened and isolated, so that its writing direction does not affect other text.
pub fn text(text: &str) -> Markup {
    html! { bdi { (shortened(text)) } }
}

/// The beginning of a text, without control characters, which include changes of the writing direction, and without
/// noncharacters, which HTML does not allow.
pub fn shortened(text: &str) -> String {
    cut(text, LONGEST)
}

/// The first characters of a text on one line.
pub fn cut(text: &str, most: usize) -> String {
    let is_control = |c: char| {
        c.is_control()
            || u32::from(c) & 0xfffe == 0xfffe
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fdd0}'..='\u{fdef}')
    };
    let mut characters = text
        .chars()
        .map(|c| if is_control(c) { '\u{fffd}' } else { c });
    let mut short: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

/// An entry of a table.
#[derive(Debug, Clone)]
pub enum Cell {
    Text(String),
    /// A number and its decimals.
    Number(f64, usize),
    /// A probability or another number that may be very small.
    Probability(f64),
    Seconds(f64),
    Bytes(u64),
    Missing,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn number(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Missing, |value| Self::Number(value, decimals))
    }

    pub fn count(value: impl TryInto<u64>) -> Self {
        value
            .try_into()
            .map_or(Self::Missing, |value| Self::Number(value as f64, 0))
    }

    fn render(&self) -> Markup {
        let (value, shown) = match self {
            Self::Text(content) if content.chars().count() <= UNBROKEN => {
                return html! { td.s { (text(content)) } };
            }
            Self::Text(content) => return html! { td { (text(content)) } },
            Self::Missing => return html! { td.none title="not recorded" { "–" } },
            Self::Number(value, decimals) => (*value, number(*value, *decimals)),
            Self::Probability(value) => (*value, probability(*value)),
            Self::Seconds(value) => (*value, seconds(*value)),
            Self::Bytes(value) => (*value as f64, bytes(*value)),
        };
        html! { td.n data-v=(value) { (shown) } }
    }
}

/// A number with thousands separators.
pub fn number(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}").replacen('-', "\u{2212}", 1)
}

fn probability(value: f64) -> String {
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    match value.abs() {
        0.0 => "0".into(),
        size @ ..0.001 => format!("{sign}{size:.0e}"),
        size => format!("{sign}{size:.3}"),
    }
}

/// A duration in seconds, minutes or hours.
pub fn seconds(value: f64) -> String {
    match value {
        ..0.995 => format!("{value:.2} s"),
        ..59.95 => format!("{value:.1} s"),
        ..3599.5 => format!(
            "{} min {:.0} s",
            (value.round() / 60.0).floor(),
            value.round() % 60.0
        ),
        _ => format!(
            "{} h {:.0} min",
            ((value / 60.0).round() / 60.0).floor(),
            (value / 60.0).round() % 60.0
        ),
    }
}

/// A size in decimal units.
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        ..1e3 => format!("{value} B"),
        ..1e6 => format!("{:.0} kB", value / 1e3),
        ..1e9 => format!("{:.0} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// A table with a caption.
#[derive(Debug, Default)]
pub struct Table {
    /// Also the name of the downloaded file.
    pub title: String,
    /// Explanation of the numbers.
    pub note: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(title: &str, note: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            columns: columns.iter().map(|&column| column.into()).collect(),
            rows: Vec::new(),
        }
    }

    /// Empty columns are dropped, and tables without rows are not shown.
    pub fn render(&self) -> Markup {
        let is_full = |at: usize| {
            self.rows
                .iter()
                .any(|row| !matches!(row.get(at), None | Some(Cell::Missing)))
        };
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&at| is_full(at)).collect();
        html! {
            @if !self.rows.is_empty() {
                div.card.table {
                    h3 { (self.title) }
                    @if !self.note.is_empty() { p.note { (self.note) } }
                    div.scroll { table {
                        thead { tr { @for &at in &shown { th scope="col" { (text(&self.columns[at])) } } } }
                        tbody { @for row in &self.rows { tr {
                            @for &at in &shown { (row.get(at).unwrap_or(&Cell::Missing).render()) }
                        } } }
                    } }
                }
            }
        }
    }
}

/// A figure with its title and main result.
pub fn figure(title: &str, takeaway: &str, plot: &Markup) -> Markup {
    html! {
        figure.card {
            figcaption { h3 { (shortened(title)) } p { (cut(takeaway, 400)) } }
            div.scroll { (plot) }
        }
    }
}

/// A figure with its numbers in a collapsed table below.
pub fn figure_with(title: &str, takeaway: &str, plot: &Markup, table: &Markup) -> Markup {
    html! { div.both { (figure(title, takeaway, plot)) details { summary { "As a table" } (table) } } }
}

/// An empty section: what is missing, and the inputs that it needs.
pub fn empty(what: &str, needed: &str) -> Markup {
    html! { p.empty { strong { (what) } " " (needed) } }
}

/// `1 cell`, `2 cells`.
pub fn plural(count: usize, what: &str) -> String {
    format!(
        "{} {what}{}",
        number(count as f64, 0),
        if count == 1 { "" } else { "s" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let shown = text("<script>alert(\"1\")</script>\u{202e}'").into_string();
        assert_eq!(
            shown,
            "<bdi>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;\u{fffd}'</bdi>"
        );
        assert_eq!(shortened(&"x".repeat(10_000)).chars().count(), LONGEST);
        assert_eq!(
            shortened("\u{1}\u{fdd0}\u{1ffff}\u{fffe}\u{fdcf}"),
            "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fdcf}"
        );
        let attribute = html! { p title=(shortened("\"><b>")) {} }.into_string();
        assert_eq!(attribute, "<p title=\"&quot;&gt;&lt;b&gt;\"></p>");
    }

    #[test]
    fn numbers_are_formatted() {
        assert_eq!(number(-1234567.891, 2), "\u{2212}1,234,567.89");
        assert_eq!(
            (number(0.5, 0), number(999.0, 0), number(1000.0, 0)),
            ("0".into(), "999".into(), "1,000".into())
        );
        assert_eq!(
            (seconds(0.5), seconds(119.7), seconds(7199.0)),
            ("0.50 s".into(), "2 min 0 s".into(), "2 h 0 min".into())
        );
        assert_eq!(
            (probability(-0.0004), probability(0.0), probability(0.25)),
            ("\u{2212}4e-4".into(), "0".into(), "0.250".into())
        );
        assert_eq!(
            (bytes(999), bytes(394_000_000), bytes(1 << 32)),
            ("999 B".into(), "394 MB".into(), "4.3 GB".into())
        );
    }
}
