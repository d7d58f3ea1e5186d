//! Splits of single and pairwise perturbations, as a triangle of all gene pairs.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style, printable, short, text_width};
use super::palette::{FAINT, INK, UNLABELED, color};

const LETTERS: f64 = 12.0;
const GAP: i32 = 8;
const TITLE: i32 = 44;
const LINE: i32 = 22;
/// Approximate side of the triangle in pixels, and limits of the side of a field.
const SIDE: i32 = 600;
const FIELDS: [i32; 2] = [3, 24];
/// Smaller fields have no names.
const NAMED: i32 = 9;
/// Smaller fields have no gaps.
const APART: i32 = 5;

/// Split of a perturbation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Training,
    Validation,
    Test,
    /// Excluded from training because one of its genes is in the test split, and not tested either.
    Unused,
    /// Neither observed nor requested; not plotted.
    Absent,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Training,
        Self::Validation,
        Self::Test,
        Self::Unused,
        Self::Absent,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Unused => "not used",
            Self::Absent => "absent",
        }
    }

    /// Colors of the palette that also differ in lightness.
    fn color(self) -> RGBColor {
        match self {
            Self::Training => color(0),
            Self::Validation => color(7),
            Self::Test => color(3),
            Self::Unused => UNLABELED,
            Self::Absent => WHITE,
        }
    }
}

/// All pairs of perturbed genes; single genes are on the diagonal.
#[derive(Clone, Copy)]
pub struct Combinations<'a> {
    pub title: &'a str,
    pub genes: &'a [String],
    /// State of two genes, the first not before the second in `genes`; of one gene if both are the same.
    pub state: &'a dyn Fn(usize, usize) -> State,
}

impl Combinations<'_> {
    /// The figure as SVG. Above 66 genes, fields have no names and equal neighbors are merged.
    pub fn to_svg(&self) -> String {
        let (title, layout) = (printable(self.title), Layout::new(self.genes));
        let rows: Vec<Vec<State>> = (0..self.genes.len())
            .map(|row| (0..=row).map(|column| (self.state)(row, column)).collect())
            .collect();
        let width = layout.width().max(text_width(&title, 17.0) + 4 * GAP);
        Canvas::draw((width, layout.height()), |canvas| {
            let style = Style::new(16.0, HPos::Left, INK).bold();
            canvas.text(&title, (2 * GAP, TITLE / 2), style);
            for (row, states) in rows.iter().enumerate() {
                layout.draw_row(canvas, row as i32, states);
            }
            layout.draw_outline(canvas);
            layout.draw_names(canvas, self.genes);
            layout.draw_legend(canvas, &rows);
        })
    }
}

/// Positions in pixels.
struct Layout {
    n: i32,
    /// Side of one field.
    field: i32,
    /// Space for names.
    names: i32,
}

impl Layout {
    fn new(genes: &[String]) -> Self {
        let n = genes.len() as i32;
        let field = (SIDE / n.max(1)).clamp(FIELDS[0], FIELDS[1]);
        let widths = genes
            .iter()
            .map(|gene| text_width(&short(gene), letters(field)));
        let names = if field < NAMED {
            0
        } else {
            widths.max().unwrap_or(0)
        };
        Self { n, field, names }
    }

    fn left(&self) -> i32 {
        self.names + 3 * GAP
    }

    fn side(&self) -> i32 {
        self.n * self.field
    }

    /// Left edge of the legend: in the empty corner if it is wide enough, else next to the triangle.
    fn legend(&self) -> i32 {
        self.left() + (self.side() - legend_width()).max(self.field * (self.n.min(7) + 1))
    }

    fn width(&self) -> i32 {
        (self.left() + self.side()).max(self.legend() + legend_width()) + 2 * GAP
    }

    fn height(&self) -> i32 {
        TITLE + self.side().max(LINE * State::ALL.len() as i32) + self.names + 3 * GAP
    }

    /// Runs of equal fields, with gaps if fields are large.
    fn draw_row(&self, canvas: &Canvas<'_>, row: i32, states: &[State]) {
        let is_run = |a: &State, b: &State| a == b && self.field < APART;
        let gap = i32::from(self.field >= APART);
        let mut column = 0;
        for run in states.chunk_by(is_run) {
            let at = (self.left() + column * self.field, TITLE + row * self.field);
            column += run.len() as i32;
            if run[0] != State::Absent {
                let size = (run.len() as i32 * self.field - gap, self.field - gap);
                canvas.rectangle(at, size, run[0].color().filled());
            }
        }
    }

    /// Outline with steps along the diagonal, so that absent pairs are visible.
    fn draw_outline(&self, canvas: &Canvas<'_>) {
        let point = |(column, row): (i32, i32)| {
            (
                self.left() + column * self.field - 1,
                TITLE + row * self.field - 1,
            )
        };
        let steps = (0..self.n).flat_map(|i| [(i, i), (i + 1, i)]);
        let corners = steps.chain([(self.n, self.n), (0, self.n), (0, 0)]);
        canvas.line(corners.map(point).collect(), FAINT.stroke_width(1));
    }

    fn draw_names(&self, canvas: &Canvas<'_>, genes: &[String]) {
        if self.field < NAMED {
            return;
        }
        let style = Style::new(letters(self.field), HPos::Right, INK);
        let bottom = TITLE + self.side() + GAP;
        for (i, gene) in genes.iter().enumerate() {
            let (name, middle) = (short(gene), i as i32 * self.field + self.field / 2);
            canvas.text(&name, (self.left() - GAP, TITLE + middle), style);
            canvas.text(&name, (self.left() + middle, bottom), style.upwards());
        }
    }

    fn draw_legend(&self, canvas: &Canvas<'_>, rows: &[Vec<State>]) {
        for (line, state) in State::ALL.into_iter().enumerate() {
            let count = |genes: bool| {
                let rows = rows.iter().map(|row| {
                    if genes {
                        &row[row.len() - 1..]
                    } else {
                        &row[..row.len() - 1]
                    }
                });
                rows.flatten().filter(|found| **found == state).count()
            };
            let (x, y) = (self.legend(), TITLE + LINE * line as i32);
            canvas.rectangle((x, y + 4), (14, 14), state.color().filled());
            canvas.rectangle((x, y + 4), (14, 14), FAINT.stroke_width(1));
            let text = legend_text(state, count(true), count(false));
            canvas.text(
                &text,
                (x + 22, y + LINE / 2),
                Style::new(LETTERS, HPos::Left, INK),
            );
        }
    }
}

/// Font size, limited to the size of fields.
fn letters(field: i32) -> f64 {
    LETTERS.min(f64::from(field))
}

fn legend_text(state: State, singles: usize, pairs: usize) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let (of_singles, of_pairs) = (plural(singles), plural(pairs));
    format!(
        "{}: {singles} gene{of_singles}, {pairs} pair{of_pairs}",
        state.name()
    )
}

/// Legend width for the longest possible numbers.
fn legend_width() -> i32 {
    3 * GAP + text_width(&legend_text(State::Unused, 100, 10_000), LETTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genes(n: usize) -> Vec<String> {
        (0..n).map(|gene| format!("GENE{gene}")).collect()
    }

    fn svg(genes: &[String], state: &dyn Fn(usize, usize) -> State) -> String {
        let title = "Seen\u{1} & unseen";
        let figure = Combinations {
            title,
            genes,
            state,
        };
        let svg = figure.to_svg();
        roxmltree::Document::parse(&svg).expect("XML");
        assert_eq!(svg, figure.to_svg());
        svg
    }

    /// Number of fields of a color, including the legend.
    fn fields(svg: &str, state: State) -> usize {
        let RGBColor(red, green, blue) = state.color();
        let color = format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.matches(&color).count()
    }

    #[test]
    fn each_pair_has_a_field_of_its_state() {
        let state = |a: usize, b: usize| match (a, b) {
            (a, b) if a == b => State::Training,
            (1, 0) => State::Validation,
            (3, _) => State::Test,
            (4, _) => State::Absent,
            _ => State::Unused,
        };
        let svg = svg(&genes(6), &state);
        let found = [
            State::Training,
            State::Validation,
            State::Test,
            State::Unused,
        ];
        assert_eq!(found.map(|state| fields(&svg, state)), [7, 2, 4, 8]);
        for text in [
            "training: 6 genes, 0 pairs",
            "validation: 0 genes, 1 pair",
            "test: 0 genes, 3 pairs",
            "not used: 0 genes, 7 pairs",
            "absent: 0 genes, 4 pairs",
            "GENE5",
            "Seen &amp; unseen",
        ] {
            assert!(svg.contains(text), "{text} is not in\n{svg}");
        }
    }

    #[test]
    fn many_genes_give_a_small_figure() {
        let state = |a: usize, b: usize| [State::Training, State::Test][(a / 20 + b / 20) % 2];
        let many = svg(&genes(200), &state);
        assert!(
            !many.contains("GENE") && many.len() < 400_000,
            "{}",
            many.len()
        );
        assert!(many.contains("pairs"));
    }

    #[test]
    fn every_state_has_its_color() {
        for (i, state) in State::ALL.iter().enumerate() {
            assert!(
                State::ALL[..i]
                    .iter()
                    .all(|other| other.color() != state.color())
            );
        }
    }

    #[test]
    fn unusual_input_is_handled() {
        let names = ["x".repeat(400), "\u{0}\n<a>".into(), String::new()];
        let odd = svg(&names, &|_, _| State::Absent);
        assert!(odd.contains("&lt;a&gt;") && odd.contains('…'));
        for n in [0, 1, 50, 67, 120, 260] {
            svg(&genes(n), &|a, b| State::ALL[(a + b) % 5]);
        }
    }
}
