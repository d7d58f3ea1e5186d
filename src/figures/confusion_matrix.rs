//! Confusion matrix: true classes in rows, fractions of each row as shades and numbers.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style, short, text_width};
use super::palette::{FAINT, INK, shade};

const LETTERS: f64 = 12.0;
/// Space between elements, in pixels.
const GAP: i32 = 8;
const TITLE: i32 = 40;

/// SVG of a confusion matrix; `counts[i][j]` cells of class `i` were predicted to be of class `j`.
///
/// Percentages are of the row. A class without cells has an empty row.
pub fn confusion_matrix(counts: &[Vec<u64>], classes: &[String], title: &str) -> String {
    let names = classes.iter().map(|class| short(class)).collect::<Vec<_>>();
    let layout = Layout::new(&names, title);
    Canvas::draw(layout.page(), |canvas| {
        canvas.text(
            title,
            (GAP * 2, TITLE / 2),
            Style::new(16.0, HPos::Left, INK).bold(),
        );
        layout.draw_names(canvas, &names);
        for (row, counts) in counts.iter().enumerate() {
            layout.draw_row(canvas, row, counts);
        }
        canvas.rectangle(
            (layout.left, TITLE),
            (layout.side(), layout.side()),
            INK.stroke_width(1),
        );
        layout.draw_scale(canvas);
    })
}

/// Positions in pixels.
struct Layout {
    n: i32,
    /// Side of one field.
    field: i32,
    /// Left edge of the fields.
    left: i32,
    /// Space for names below the fields.
    below: i32,
    title_width: i32,
}

impl Layout {
    fn new(names: &[String], title: &str) -> Self {
        let n = names.len() as i32;
        let longest = names
            .iter()
            .map(|name| text_width(name, LETTERS))
            .max()
            .unwrap_or(0);
        // Fields of 30 pixels hold "100"; few classes get larger ones, very many smaller ones without numbers.
        let field = (480 / n.max(1)).clamp(if n > 40 { 14 } else { 30 }, 64);
        Self {
            n,
            field,
            left: longest + 5 * GAP,
            below: longest + 5 * GAP,
            title_width: text_width(title, 17.0),
        }
    }

    fn side(&self) -> i32 {
        self.n * self.field
    }

    fn page(&self) -> (i32, i32) {
        let width = self.left + self.side() + 16 * GAP;
        // The scale next to the fields is 120 high.
        (
            width.max(self.title_width + 4 * GAP),
            TITLE + self.side().max(136) + self.below,
        )
    }

    fn draw_names(&self, canvas: &Canvas<'_>, names: &[String]) {
        let bottom = TITLE + self.side();
        for (i, name) in names.iter().enumerate() {
            let middle = i as i32 * self.field + self.field / 2;
            let style = Style::new(LETTERS, HPos::Right, INK);
            canvas.text(name, (self.left - GAP, TITLE + middle), style);
            canvas.text(name, (self.left + middle, bottom + GAP), style.upwards());
        }
        let style = Style::new(LETTERS, HPos::Center, FAINT);
        canvas.text(
            "true class",
            (GAP * 2, TITLE + self.side() / 2),
            style.upwards(),
        );
        canvas.text(
            "predicted class, in % of the true class",
            (self.left + self.side() / 2, bottom + self.below - GAP * 2),
            style,
        );
    }

    fn draw_row(&self, canvas: &Canvas<'_>, row: usize, counts: &[u64]) {
        let total = counts.iter().sum::<u64>();
        let top = TITLE + row as i32 * self.field;
        for (column, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let fraction = count as f64 / total as f64;
            let left = self.left + column as i32 * self.field;
            canvas.rectangle(
                (left, top),
                (self.field, self.field),
                shade(fraction).filled(),
            );
            let color = if fraction > 0.45 { WHITE } else { INK };
            if self.field >= 24 {
                let at = (left + self.field / 2, top + self.field / 2);
                canvas.text(
                    &percent(fraction),
                    at,
                    Style::new(LETTERS - 1.0, HPos::Center, color),
                );
            }
        }
        let at = (self.left + self.side() + GAP, top + self.field / 2);
        canvas.text(
            &format!("n = {total}"),
            at,
            Style::new(LETTERS - 1.0, HPos::Left, FAINT),
        );
    }

    fn draw_scale(&self, canvas: &Canvas<'_>) {
        const STEPS: i32 = 60;
        let left = self.left + self.side() + 10 * GAP;
        let label = Style::new(LETTERS - 1.0, HPos::Left, FAINT);
        for step in 0..STEPS {
            let fraction = 1.0 - f64::from(step) / f64::from(STEPS - 1);
            canvas.rectangle((left, TITLE + 2 * step), (12, 2), shade(fraction).filled());
        }
        for (text, y) in [("100%", 0), ("50%", STEPS), ("0%", 2 * STEPS)] {
            canvas.text(text, (left + 12 + GAP / 2, TITLE + y), label);
        }
        canvas.rectangle((left, TITLE), (12, 2 * STEPS), FAINT.stroke_width(1));
    }
}

/// Whole percent; nonzero fractions that round to zero are marked.
fn percent(fraction: f64) -> String {
    let percent = (fraction * 100.0).round();
    if percent < 1.0 {
        "<1".into()
    } else {
        percent.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_of_the_row_and_names_are_escaped() {
        let classes = [
            "CD4+ <naive> & co".to_owned(),
            "B".to_owned(),
            "absent".to_owned(),
        ];
        let counts = [vec![999, 1, 0], vec![1, 2, 1], vec![0, 0, 0]];
        let svg = confusion_matrix(&counts, &classes, "Held-out cells");
        for text in [
            "\n50\n",
            "\n25\n",
            "\n100\n",
            "\n&lt;1\n",
            "n = 1000",
            "n = 0",
        ]
        .map(|t| t.trim_matches('\n'))
        {
            assert!(
                svg.contains(&format!(">\n{text}\n<")),
                "{text} is not in\n{svg}"
            );
        }
        assert!(svg.contains("CD4+ &lt;naive&gt; &amp; co"));
        assert_eq!(svg, confusion_matrix(&counts, &classes, "Held-out cells"));
    }

    #[test]
    fn any_number_of_classes_gives_a_figure() {
        for n in [0, 1, 2, 20, 200] {
            let classes = (0..n).map(|i| format!("class {i}")).collect::<Vec<_>>();
            let counts = (0..n)
                .map(|i| (0..n).map(|j| u64::from(i == j)).collect())
                .collect::<Vec<_>>();
            let svg = confusion_matrix(&counts, &classes, "t");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        }
    }
}
