//! Colors that are distinguishable with any color vision, as far as possible.

use plotters::style::RGBColor;

/// Color of texts and frames.
pub const INK: RGBColor = RGBColor(38, 38, 38);
/// Color of background elements.
pub const FAINT: RGBColor = RGBColor(110, 110, 110);
/// Cells without a category.
pub const UNLABELED: RGBColor = RGBColor(190, 190, 190);

/// The palette of Okabe and Ito (2008) in an order that separates neighbors, darker and lighter variants, and muted colors of
/// Paul Tol. No 20 colors are safe for everybody, so figures also number their categories.
const COLORS: [u32; 24] = [
    0x0072B2, 0xE69F00, 0x009E73, 0xD55E00, 0x56B4E9, 0xCC79A7, 0x4D4D4D, 0xE3D51E, 0x332288,
    0x8C5E00, 0x66C9A8, 0x882255, 0x004B75, 0xF7A072, 0x117733, 0xAA4499, 0x9AD4F5, 0x8A3D00,
    0x999999, 0xB3A800, 0x6699CC, 0xDDCC77, 0x44AA99, 0x661100,
];

/// The color of a category; they repeat after 24.
pub fn color(category: usize) -> RGBColor {
    rgb(COLORS[category % COLORS.len()])
}

/// White for 0, over blue, to dark blue for 1.
pub fn shade(fraction: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 3] = [
        [255.0, 255.0, 255.0],
        [86.0, 160.0, 211.0],
        [0.0, 58.0, 110.0],
    ];
    let position = fraction.clamp(0.0, 1.0) * 2.0;
    let (low, part) = if position < 1.0 {
        (0, position)
    } else {
        (1, position - 1.0)
    };
    let mix = |channel: usize| {
        (STOPS[low][channel] * (1.0 - part) + STOPS[low + 1][channel] * part).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

fn rgb(code: u32) -> RGBColor {
    let [_, red, green, blue] = code.to_be_bytes();
    RGBColor(red, green, blue)
}
