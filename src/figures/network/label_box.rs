//! Node of a network figure.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::layout::{Pair, plus};
use super::stroke::pixel;
use super::{HEIGHT, LETTERS, NAME, Node};
use crate::figures::canvas::{Canvas, Style};
use crate::figures::labels::{fitted, width};
use crate::figures::palette::{FAINT, INK, UNLABELED, color};

/// A node with its position.
pub(super) struct LabelBox {
    text: String,
    pub(super) center: Pair,
    pub(super) size: Pair,
    color: RGBColor,
    is_regulator: bool,
}

impl LabelBox {
    pub(super) fn new(node: &Node<'_>, is_numbered: bool) -> Self {
        let number = node
            .group
            .filter(|_| is_numbered)
            .map(|group| format!(" ({})", group + 1));
        let text = fitted(node.name, NAME, LETTERS) + &number.unwrap_or_default();
        Self {
            // An even width, so that both ends are equal.
            size: [
                f64::from(width(&text, LETTERS - 0.5).max(16) / 2 * 2) + 18.0,
                HEIGHT,
            ],
            text,
            center: [0.0; 2],
            color: node.group.map_or(UNLABELED, color),
            is_regulator: node.is_regulator,
        }
    }

    pub(super) fn contains(&self, position: Pair) -> bool {
        (0..2).all(|axis| (position[axis] - self.center[axis]).abs() < self.size[axis] / 2.0 + 1.0)
    }

    pub(super) fn draw(&self, canvas: &Canvas<'_>, by: Pair) {
        let at = pixel(plus(self.center, by));
        let half = self.size.map(|side| side as i32 / 2);
        let style = Style::new(LETTERS - 0.5, HPos::Center, INK);
        if self.is_regulator {
            draw_hexagon(canvas, at, half, self.color);
            let color = readable_on(self.color);
            canvas.text(&self.text, at, Style { color, ..style }.bold());
        } else {
            let border = if self.color == UNLABELED {
                FAINT
            } else {
                self.color
            };
            draw_round(canvas, at, half, border);
            draw_round(canvas, at, half.map(|side| side - 1), pale(self.color));
            canvas.text(&self.text, at, style);
        }
    }
}

/// A box that points to both sides; `half` its width and height.
pub(super) fn draw_hexagon(
    canvas: &Canvas<'_>,
    (x, y): (i32, i32),
    half: [i32; 2],
    color: RGBColor,
) {
    let [across, down] = half;
    let inner = across - down * 2 / 3;
    let corner = |[across, down]: [i32; 2]| (x + across, y + down);
    let right = [[inner, -down], [across, 0], [inner, down]];
    let left = [[-inner, down], [-across, 0], [-inner, -down]];
    let mut corners: Vec<(i32, i32)> = right.into_iter().chain(left).map(corner).collect();
    canvas.polygon(corners.clone(), color.filled());
    corners.push(corners[0]);
    canvas.line(corners, INK.stroke_width(2));
}

/// A box with round ends; `half` its width and height.
pub(super) fn draw_round(canvas: &Canvas<'_>, (x, y): (i32, i32), half: [i32; 2], color: RGBColor) {
    let [across, radius] = half;
    let inner = across - radius;
    canvas.circle((x - inner, y), radius, color.filled());
    canvas.circle((x + inner, y), radius, color.filled());
    canvas.rectangle(
        (x - inner, y - radius),
        (2 * inner, 2 * radius),
        color.filled(),
    );
}

fn readable_on(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 135.0 { INK } else { WHITE }
}

fn pale(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let mix = |channel: u8| (255.0 - 0.2 * (255.0 - f64::from(channel))).round() as u8;
    RGBColor(mix(red), mix(green), mix(blue))
}
