//! Perturbation response by gene: observed cells, control cells and prediction.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style, printable, short, text_width};
use super::palette::{FAINT, INK, UNLABELED, color};

const LETTERS: f64 = 12.0;
const GAP: i32 = 8;
const LEFT: i32 = 64;
const TOP: i32 = 44;
const HEIGHT: i32 = 340;
/// Column width per gene, and box width.
const COLUMN: i32 = 42;
const BOX: i32 = 13;
/// Distance from the middle of a column to the middle of its boxes: control on the left, observed on the right.
const APART: i32 = 8;
/// Half the diamond width.
const DIAMOND: i32 = 6;
const MOST_GENES: usize = 20;
/// Far beyond any log fold change; larger numbers are clipped.
const LARGEST: f64 = 1e6;

/// Changes from the mean of control cells. Quantiles are 5, 25, 50, 75 and 95 %; values that are not finite are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    pub title: &'a str,
    /// By descending change; the first 20 are plotted.
    pub genes: &'a [String],
    /// Quantiles of the change of single perturbed cells, of each gene; empty if there are no such cells.
    pub observed: &'a [[f64; 5]],
    /// Quantiles of control cells.
    pub control: &'a [[f64; 5]],
    /// Predicted mean change of each gene.
    pub predicted: &'a [f64],
    /// Mean change of the perturbed cells; empty if there are none.
    pub observed_mean: &'a [f64],
}

impl Changes<'_> {
    /// The figure as SVG.
    pub fn to_svg(&self) -> String {
        let genes = &self.genes[..self.genes.len().min(MOST_GENES)];
        let names: Vec<String> = genes.iter().map(|gene| short(gene)).collect();
        let widths = names.iter().map(|name| text_width(name, LETTERS));
        let below = widths.max().unwrap_or(0) + 2 * GAP;
        let title = printable(self.title);
        let right = LEFT + COLUMN * (names.len().max(4) as i32);
        let width = (right + 3 * GAP + Mark::width()).max(text_width(&title, 17.0) + LEFT);
        let scale = Scale::over(self.values(names.len()));
        Canvas::draw((width, TOP + HEIGHT + below), |canvas| {
            let style = Style::new(16.0, HPos::Left, INK).bold();
            canvas.text(&title, (LEFT, TOP / 2), style);
            scale.draw(canvas, right);
            for (gene, name) in names.iter().enumerate() {
                self.draw_gene(canvas, &scale, gene, name);
            }
            for (line, mark) in self.marks().into_iter().enumerate() {
                mark.draw_line(canvas, (right + 2 * GAP, TOP + GAP + 22 * line as i32));
            }
        })
    }

    /// All plotted values of the first genes.
    fn values(&self, n: usize) -> impl Iterator<Item = f64> {
        let boxes = self
            .observed
            .iter()
            .take(n)
            .chain(self.control.iter().take(n));
        let means = self
            .predicted
            .iter()
            .take(n)
            .chain(self.observed_mean.iter().take(n));
        boxes.flatten().chain(means).copied()
    }

    fn draw_gene(&self, canvas: &Canvas<'_>, scale: &Scale, gene: usize, name: &str) {
        let middle = LEFT + COLUMN * gene as i32 + COLUMN / 2;
        for (mark, boxes, at) in [
            (Mark::Control, self.control, middle - APART),
            (Mark::Observed, self.observed, middle + APART),
        ] {
            if let Some(quantiles) = boxes.get(gene).and_then(|found| scale.heights(found)) {
                mark.draw_box(canvas, at, quantiles);
            }
        }
        for (mark, means) in [
            (Mark::Mean, self.observed_mean),
            (Mark::Predicted, self.predicted),
        ] {
            if let Some(height) = means.get(gene).and_then(|mean| scale.height(*mean)) {
                mark.draw_point(canvas, (middle + APART, height));
            }
        }
        let style = Style::new(LETTERS, HPos::Right, INK).upwards();
        canvas.text(name, (middle, TOP + HEIGHT + GAP), style);
    }

    /// Entries of the legend.
    fn marks(&self) -> Vec<Mark> {
        let kinds = [
            (Mark::Predicted, self.predicted.is_empty()),
            (Mark::Mean, self.observed_mean.is_empty()),
            (Mark::Observed, self.observed.is_empty()),
            (Mark::Control, self.control.is_empty()),
        ];
        let drawn = kinds.into_iter().filter(|(_, is_empty)| !is_empty);
        drawn.map(|(mark, _)| mark).collect()
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Predicted,
    Mean,
    Observed,
    Control,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Predicted => "predicted mean",
            Self::Mean => "observed mean",
            Self::Observed => "perturbed cells",
            Self::Control => "control cells",
        }
    }

    fn color(self) -> RGBColor {
        match self {
            Self::Predicted => color(3),
            Self::Mean => WHITE,
            Self::Observed => color(4),
            Self::Control => RGBColor(220, 220, 220),
        }
    }

    /// Horizontal space for the legend, whose last line is the longest.
    fn width() -> i32 {
        4 * GAP + text_width(BOXES, LETTERS - 1.0)
    }

    /// A box of quartiles with its median, and whiskers; heights are from low to high values.
    fn draw_box(self, canvas: &Canvas<'_>, at: i32, [low, first, median, third, high]: [i32; 5]) {
        let ink = match self {
            Self::Control => FAINT.stroke_width(1),
            _ => INK.stroke_width(1),
        };
        let (left, size) = (at - BOX / 2, (BOX, first - third));
        canvas.line(vec![(at, low), (at, high)], ink);
        canvas.rectangle((left, third), size, self.color().filled());
        canvas.rectangle((left, third), size, ink);
        canvas.line(
            vec![(left, median), (left + BOX, median)],
            ink.stroke_width(2),
        );
    }

    fn draw_point(self, canvas: &Canvas<'_>, (x, y): (i32, i32)) {
        if matches!(self, Self::Mean) {
            canvas.circle((x, y), 4, self.color().filled());
            canvas.circle((x, y), 4, INK.stroke_width(1));
            return;
        }
        let mut corners = vec![
            (x, y - DIAMOND),
            (x + DIAMOND, y),
            (x, y + DIAMOND),
            (x - DIAMOND, y),
        ];
        canvas.polygon(corners.clone(), self.color().filled());
        corners.push(corners[0]);
        canvas.line(corners, INK.stroke_width(1));
    }

    /// A line of the legend.
    fn draw_line(self, canvas: &Canvas<'_>, (x, y): (i32, i32)) {
        match self {
            Self::Predicted | Self::Mean => self.draw_point(canvas, (x + GAP, y)),
            Self::Observed | Self::Control => {
                self.draw_box(canvas, x + GAP, [y + 9, y + 5, y, y - 5, y - 9]);
            }
        }
        let text = (x + 3 * GAP, y);
        canvas.text(self.name(), text, Style::new(LETTERS, HPos::Left, INK));
        if matches!(self, Self::Control) {
            let note = Style::new(LETTERS - 1.0, HPos::Left, FAINT);
            canvas.text(BOXES, (text.0, y + 22), note);
            canvas.text(WHISKERS, (text.0, y + 38), note);
        }
    }
}

const BOXES: &str = "boxes: 25, 50, 75 %";
const WHISKERS: &str = "lines: 5 to 95 %";

/// Maps a change to a vertical position.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Range of all finite values and zero.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            let value = value.clamp(-LARGEST, LARGEST);
            (low, high) = (low.min(value), high.max(value));
        }
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
        Self {
            low: low - margin,
            high: high + margin,
        }
    }

    fn height(&self, value: f64) -> Option<i32> {
        let value = value
            .is_finite()
            .then_some(value.clamp(-LARGEST, LARGEST))?;
        let fraction = (value - self.low) / (self.high - self.low);
        Some(TOP + HEIGHT - (fraction * f64::from(HEIGHT)).round() as i32)
    }

    /// Heights of quantiles, sorted; none unless all are finite.
    fn heights(&self, quantiles: &[f64; 5]) -> Option<[i32; 5]> {
        let mut heights = [0; 5];
        for (height, quantile) in heights.iter_mut().zip(quantiles) {
            *height = self.height(*quantile)?;
        }
        heights.sort_unstable_by(|a, b| b.cmp(a));
        Some(heights)
    }

    /// Three to nine round values, including zero, and their decimals.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let rough = (self.high - self.low) / 7.0;
        let power = rough.log10().floor();
        let unit = 10.0_f64.powf(power);
        let factors = [1.0, 2.0, 5.0, 10.0];
        let step = factors
            .map(|factor| factor * unit)
            .into_iter()
            .find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let (first, last) = (
            (self.low / step).ceil() as i64,
            (self.high / step).floor() as i64,
        );
        let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        (
            (first..=last).map(|tick| tick as f64 * step).collect(),
            digits,
        )
    }

    fn draw(&self, canvas: &Canvas<'_>, right: i32) {
        let (ticks, digits) = self.ticks();
        let label = Style::new(LETTERS, HPos::Right, FAINT);
        for tick in ticks {
            if let Some(height) = self.height(tick) {
                let light = UNLABELED.mix(0.5).stroke_width(1);
                canvas.line(vec![(LEFT, height), (right, height)], light);
                canvas.text(&format!("{tick:.digits$}"), (LEFT - GAP, height), label);
            }
        }
        if let Some(zero) = self.height(0.0) {
            canvas.line(vec![(LEFT, zero), (right, zero)], INK.stroke_width(1));
        }
        canvas.rectangle((LEFT, TOP), (right - LEFT, HEIGHT), FAINT.stroke_width(1));
        let name = Style::new(LETTERS, HPos::Center, FAINT).upwards();
        canvas.text(
            "change of log expression",
            (2 * GAP, TOP + HEIGHT / 2),
            name,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of SVG elements with a tag; the text must be XML.
    fn count(svg: &str, tag: &str) -> usize {
        let document = roxmltree::Document::parse(svg).expect("XML");
        document
            .descendants()
            .filter(|node| node.has_tag_name(tag))
            .count()
    }

    fn genes(n: usize) -> Vec<String> {
        (0..n).map(|gene| format!("GENE{gene}")).collect()
    }

    const BOX: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];

    #[test]
    fn each_gene_has_its_boxes_and_its_prediction() {
        let genes = genes(30);
        let changes = Changes {
            title: "KLF1 & co",
            genes: &genes,
            observed: &[BOX; 30],
            control: &[BOX; 30],
            predicted: &[2.0; 30],
            observed_mean: &[0.1; 30],
        };
        let svg = changes.to_svg();
        // 20 genes and the legend.
        assert_eq!(count(&svg, "polygon"), 21);
        assert_eq!(count(&svg, "circle"), 2 * 21);
        assert_eq!(count(&svg, "rect"), 2 + 2 * 2 * 21);
        assert!(svg.contains("GENE19") && !svg.contains("GENE20") && svg.contains("KLF1 &amp; co"));
        assert_eq!(svg, changes.to_svg());
        let unseen = Changes {
            observed: &[],
            observed_mean: &[],
            ..changes
        };
        let svg = unseen.to_svg();
        assert_eq!((count(&svg, "polygon"), count(&svg, "circle")), (21, 0));
        assert_eq!(count(&svg, "rect"), 2 + 2 * 21);
        assert!(!svg.contains("perturbed cells") && svg.contains("control cells"));
    }

    #[test]
    fn higher_values_are_higher() {
        let scale = Scale::over([-3.0, 1.0].into_iter());
        let [low, zero, high] = [-3.0, 0.0, 1.0].map(|value| scale.height(value).unwrap());
        assert!(TOP < high && high < zero && zero < low && low < TOP + HEIGHT);
        let sorted = scale.heights(&[1.0, -3.0, 0.0, 0.0, 0.5]).unwrap();
        assert_eq!((sorted[0], sorted[4]), (low, high));
        assert_eq!(scale.ticks(), (vec![-3.0, -2.0, -1.0, 0.0, 1.0], 0));
        let fine = Scale::over([0.0, 0.011].into_iter()).ticks();
        assert_eq!((fine.0.len(), fine.1), (6, 3));
    }

    #[test]
    fn unusual_input_is_handled() {
        let odd = [f64::NAN, f64::INFINITY, f64::MAX, -f64::MAX, 1e-300];
        let names = ["x".repeat(300), "a\u{0}\u{7}\n<b>".into(), String::new()];
        for genes in [&names[..], &[]] {
            let svg = Changes {
                title: "broken\u{1}\u{FFFF}\ntitle",
                genes,
                observed: &[odd],
                control: &[BOX, [f64::MAX; 5], [0.0; 5], BOX],
                predicted: &odd,
                observed_mean: &odd[..2],
            }
            .to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf") && count(&svg, "text") > 5);
            assert_eq!(svg.contains("a&lt;b&gt;"), !genes.is_empty());
        }
    }
}
