//! Canvas for SVG text in pixels, with the primitives of all figures.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A white canvas; rendering to text cannot fail.
pub struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// Style of a text, and its anchor at its point.
#[derive(Clone, Copy)]
pub struct Style {
    /// Font size in pixels.
    pub size: f64,
    pub anchor: HPos,
    pub color: RGBColor,
    pub bold: bool,
    /// Rotated to read from bottom to top.
    pub upwards: bool,
}

impl Style {
    pub fn new(size: f64, anchor: HPos, color: RGBColor) -> Self {
        Self {
            size,
            anchor,
            color,
            bold: false,
            upwards: false,
        }
    }

    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub fn upwards(self) -> Self {
        Self {
            upwards: true,
            ..self
        }
    }
}

impl Canvas<'_> {
    /// The SVG text of a figure of the given width and height.
    pub fn draw((width, height): (i32, i32), draw: impl FnOnce(&Canvas<'_>)) -> String {
        let mut svg = String::new();
        {
            let canvas = Canvas(
                SVGBackend::with_string(&mut svg, (width as u32, height as u32))
                    .into_drawing_area(),
            );
            canvas.rectangle((0, 0), (width, height), WHITE.filled());
            draw(&canvas);
            canvas.0.present().expect(CANNOT_FAIL);
        }
        svg
    }

    pub fn rectangle(&self, (x, y): (i32, i32), (width, height): (i32, i32), style: ShapeStyle) {
        self.0
            .draw(&Rectangle::new([(x, y), (x + width, y + height)], style))
            .expect(CANNOT_FAIL);
    }

    /// A line through the points.
    pub fn line(&self, points: Vec<(i32, i32)>, style: ShapeStyle) {
        self.0
            .draw(&PathElement::new(points, style))
            .expect(CANNOT_FAIL);
    }

    /// A filled polygon.
    pub fn polygon(&self, points: Vec<(i32, i32)>, style: ShapeStyle) {
        self.0
            .draw(&Polygon::new(points, style))
            .expect(CANNOT_FAIL);
    }

    pub fn circle(&self, center: (i32, i32), radius: i32, style: ShapeStyle) {
        self.0
            .draw(&Circle::new(center, radius, style))
            .expect(CANNOT_FAIL);
    }

    /// Text centered vertically on the point.
    pub fn text(&self, text: &str, at: (i32, i32), style: Style) {
        // The backend divides sizes by 1.24, which this reverts.
        let weight = if style.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let turn = if style.upwards {
            FontTransform::Rotate270
        } else {
            FontTransform::None
        };
        let font = FontDesc::new(FontFamily::SansSerif, style.size * 1.24, weight).transform(turn);
        let style = TextStyle::from(font)
            .color(&style.color)
            .pos(Pos::new(style.anchor, VPos::Center));
        self.0.draw(&Text::new(text, at, style)).expect(CANNOT_FAIL);
    }
}

const CANNOT_FAIL: &str = "rendering to text cannot fail";

/// Upper bound of the width in pixels for common sans-serif fonts.
pub fn text_width(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * size * 0.58).ceil() as i32
}

/// The text without characters that SVG does not allow.
pub fn printable(text: &str) -> String {
    let is_printable =
        |letter: &char| !letter.is_control() && !matches!(letter, '\u{FFFE}' | '\u{FFFF}');
    text.chars().filter(is_printable).collect()
}

/// The name, without its middle if it is long: the ends of cell type names distinguish them.
pub fn short(name: &str) -> String {
    const LONGEST: usize = 36;
    let letters = printable(name).chars().collect::<Vec<_>>();
    if letters.len() <= LONGEST {
        return letters.into_iter().collect();
    }
    let half = (LONGEST - 1) / 2;
    letters[..half + 1]
        .iter()
        .chain(&['…'])
        .chain(&letters[letters.len() - half..])
        .collect()
}
