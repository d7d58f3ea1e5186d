//! Scatter plot of cells: a PNG, which the script replaces by a canvas, with axes and numbered groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{COLORS, color, fixed, label, svg};
use crate::random::{self, Seed};
use crate::report::cells::{Annotation, Values, View};
use crate::report::html::{cut, number, shortened};

/// Size of the figure in pixels; the PNG has twice the resolution.
const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const SCALE: usize = 2;
/// Margin around the cells, as a fraction of the figure.
const MARGIN: f64 = 0.04;
/// Cells without a category.
const GRAY: &str = "#9A9A9A";
/// Maximum characters of all cell names together; longer lists are dropped.
const NAMES: usize = 1 << 20;
/// Maximum number of categories in the legend.
const LISTED: usize = 60;

/// The cells with their legend and their data for the script.
pub fn points(view: &View, id: usize) -> Markup {
    let coordinates = unit(&view.coordinates);
    let main = view.main();
    let [first, second] = &view.axes;
    let content = html! {
        image href=(format!("data:image/png;base64,{}", STANDARD.encode(png(&coordinates, view, main)))) width=(WIDTH) height=(HEIGHT) {}
        rect width=(WIDTH) height=(HEIGHT) fill="none" stroke="currentColor" stroke-opacity="0.25" {}
        @for (at, (x, y)) in centers(&coordinates, view, main) {
            text x=(fixed(x)) y=(fixed(y + 4.0)) text-anchor="middle" font-weight="700" stroke="Canvas" stroke-width="3" paint-order="stroke" { (mark(main, at)) }
        }
        (label((WIDTH as f64 / 2.0, HEIGHT as f64 + 18.0), "middle", &cut(first, 60)))
        text transform=(format!("translate(-8 {}) rotate(-90)", HEIGHT / 2)) text-anchor="middle" { (cut(second, 60)) }
    };
    let inner = html! { g transform="translate(24 0)" { (content) } };
    html! {
        div.points {
            div.plane id=(format!("points-{id}")) { (svg((WIDTH as f64 + 26.0, HEIGHT as f64 + 26.0), "Cells in two dimensions", &inner)) }
            (legend(view, main))
        }
        script type="application/json" class="cells" data-for=(format!("points-{id}")) { (maud::PreEscaped(embedded(&data(view, &coordinates)))) }
    }
}

/// Label at the cells of a category: its name if all names are short, such as cluster numbers, else its number.
fn mark(main: Option<&Annotation>, at: usize) -> String {
    match main.and_then(Annotation::categories) {
        Some((names, _)) if is_short(names) => cut(&names[at], 3),
        _ => (at + 1).to_string(),
    }
}

fn is_short(names: &[String]) -> bool {
    names.iter().all(|name| name.len() <= 3 && name.is_ascii())
}

/// JSON that cannot end its script element.
fn embedded(data: &Value) -> String {
    data.to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn legend(view: &View, main: Option<&Annotation>) -> Markup {
    let Some((names, codes)) = main.and_then(Annotation::categories) else {
        return html! { ol.legend {} };
    };
    let mut counts = vec![0; names.len()];
    codes
        .iter()
        .flatten()
        .for_each(|&code| counts[code as usize] += 1);
    html! {
        div.legend {
            p { strong { (shortened(&main.map_or_else(String::new, |main| main.name.clone()))) } ", cells of " (number(view.n_cells as f64, 0)) }
            ol class=[is_short(names).then_some("plain")] {
                @for (at, name) in names.iter().take(LISTED).enumerate() {
                    li { svg width="11" height="11" aria-hidden="true" { rect width="11" height="11" rx="2" fill=(color(at)) {} } " " bdi { (cut(name, 40)) } " " small { (number(f64::from(counts[at]), 0)) } }
                }
            }
            @if names.len() > LISTED { p { "and " (names.len() - LISTED) " more" } }
        }
    }
}

/// Coordinates as fractions of the width and height of the figure from its upper left corner: centered, with both axes at the
/// same scale, which preserves distances.
fn unit(coordinates: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let range = |axis: usize| {
        let values = coordinates.iter().map(|place| place[axis]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let (ranges, size) = ([range(0), range(1)], [WIDTH as f64, HEIGHT as f64]);
    // Pixels per unit, so that both axes fit.
    let scale = [0, 1]
        .map(|axis| size[axis] * (1.0 - 2.0 * MARGIN) / (ranges[axis].1 - ranges[axis].0))
        .into_iter()
        .fold(f64::INFINITY, f64::min);
    let scale = if scale.is_finite() { scale } else { 0.0 };
    let fraction = |place: &[f64; 2], axis: usize| {
        let (low, high) = ranges[axis];
        (place[axis] - (low + high) / 2.0) * scale / size[axis]
    };
    let scaled = |place: &[f64; 2]| [0.5 + fraction(place, 0), 0.5 - fraction(place, 1)];
    coordinates.iter().map(scaled).collect()
}

/// Median position of the cells of each category, in pixels.
fn centers(
    coordinates: &[[f64; 2]],
    view: &View,
    main: Option<&Annotation>,
) -> Vec<(usize, (f64, f64))> {
    let Some((names, codes)) = main
        .and_then(Annotation::categories)
        .filter(|(names, _)| names.len() <= LISTED)
    else {
        return Vec::new();
    };
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut of: Vec<[Vec<f64>; 2]> = vec![[Vec::new(), Vec::new()]; names.len()];
    for (place, &cell) in coordinates.iter().zip(&view.sample) {
        if let Some(code) = codes[cell] {
            of[code as usize][0].push(place[0] * WIDTH as f64);
            of[code as usize][1].push(place[1] * HEIGHT as f64);
        }
    }
    let filled = of
        .into_iter()
        .enumerate()
        .filter(|(_, [x, _])| !x.is_empty());
    filled
        .map(|(at, [x, y])| (at, (middle(x), middle(y))))
        .collect()
}

/// Radius of a cell in pixels.
fn radius(n: usize) -> f64 {
    match n {
        0..1_500 => 3.0,
        1_500..6_000 => 2.2,
        6_000..30_000 => 1.5,
        _ => 1.0,
    }
}

fn png(coordinates: &[[f64; 2]], view: &View, main: Option<&Annotation>) -> Vec<u8> {
    let (width, height) = (WIDTH * SCALE, HEIGHT * SCALE);
    // Palette: transparent, gray, then the colors of categories.
    let mut pixels = vec![0_u8; width * height];
    let codes = main
        .and_then(Annotation::categories)
        .map(|(_, codes)| codes);
    let order = random::permutation(
        &mut Seed(0).stream("order of drawing", &[]),
        coordinates.len(),
    );
    let reach = radius(coordinates.len()) * SCALE as f64;
    for cell in order {
        let code = codes.and_then(|codes| codes[view.sample[cell]]);
        let ink = code.map_or(1, |code| 2 + (code as usize % COLORS.len()) as u8);
        let (x, y) = (
            coordinates[cell][0] * width as f64,
            coordinates[cell][1] * height as f64,
        );
        for row in ((y - reach).max(0.0) as usize)..=((y + reach) as usize).min(height - 1) {
            for column in ((x - reach).max(0.0) as usize)..=((x + reach) as usize).min(width - 1) {
                if (row as f64 + 0.5 - y).powi(2) + (column as f64 + 0.5 - x).powi(2)
                    <= reach * reach
                {
                    pixels[row * width + column] = ink;
                }
            }
        }
    }
    encode(&pixels, (width, height)).unwrap_or_default()
}

fn encode(pixels: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    let channels =
        |color: &str| [1, 3, 5].map(|at| u8::from_str_radix(&color[at..at + 2], 16).unwrap_or(0));
    let palette: Vec<u8> = ["#000000", GRAY]
        .into_iter()
        .chain(COLORS)
        .flat_map(channels)
        .collect();
    encoder.set_palette(palette);
    encoder.set_trns(vec![0]);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

/// Coordinates as 16-bit numbers, codes of 8 or 16 bits, both little-endian in base64, and names.
fn data(view: &View, coordinates: &[[f64; 2]]) -> Value {
    let axis = |axis: usize| {
        let steps = coordinates
            .iter()
            .flat_map(|place| ((place[axis] * 65535.0).round() as u16).to_le_bytes());
        STANDARD.encode(steps.collect::<Vec<_>>())
    };
    let names: Vec<String> = view.names.iter().map(|name| cut(name, 48)).collect();
    let fit = names.iter().map(String::len).sum::<usize>() <= NAMES;
    let columns: Vec<Value> = view
        .annotations
        .iter()
        .map(|column| annotation(column, &view.sample))
        .collect();
    json!({
        "n": coordinates.len(), "x": axis(0), "y": axis(1), "radius": radius(coordinates.len()), "main": view.main, "columns": columns,
        "names": if fit { json!(names) } else { Value::Null },
        "file": shortened(&view.name()), "axes": view.axes.clone().map(|axis| cut(&axis, 60)),
    })
}

fn annotation(column: &Annotation, sample: &[usize]) -> Value {
    let name = shortened(&column.name);
    match &column.values {
        Values::Categories { names, codes } => {
            // The last code is for cells without a category.
            let wide = names.len() > 254;
            let missing = if wide { u16::MAX } else { 255 };
            let code = |&cell: &usize| codes[cell].map_or(missing, |code| code as u16);
            let bytes: Vec<u8> = if wide {
                sample
                    .iter()
                    .flat_map(|cell| code(cell).to_le_bytes())
                    .collect()
            } else {
                sample.iter().map(|cell| code(cell) as u8).collect()
            };
            let names: Vec<String> = names.iter().map(|name| cut(name, 60)).collect();
            json!({"name": name, "categories": names, "wide": wide, "codes": STANDARD.encode(bytes)})
        }
        Values::Numbers(numbers) => {
            let shown = || sample.iter().filter_map(|&cell| numbers[cell]);
            let (low, high) = shown()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                });
            let step = |&cell: &usize| {
                numbers[cell].map_or(255, |value| {
                    if high > low {
                        ((value - low) / (high - low) * 254.0).round() as u8
                    } else {
                        127
                    }
                })
            };
            let bytes: Vec<u8> = sample.iter().map(step).collect();
            json!({"name": name, "low": if low.is_finite() { low } else { 0.0 }, "high": if high.is_finite() { high } else { 0.0 }, "codes": STANDARD.encode(bytes)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_axes_have_one_scale() {
        let drawn = unit(&[[0.0, 0.0], [40.0, 0.0], [40.0, 10.0]]);
        let pixels: Vec<[f64; 2]> = drawn
            .iter()
            .map(|place| [place[0] * WIDTH as f64, place[1] * HEIGHT as f64])
            .collect();
        let (across, down) = (pixels[1][0] - pixels[0][0], pixels[1][1] - pixels[2][1]);
        assert!((across / down - 4.0).abs() < 1e-9, "{pixels:?}");
        assert!((across - WIDTH as f64 * (1.0 - 2.0 * MARGIN)).abs() < 1e-9);
        assert!(
            (pixels[0][1] + pixels[2][1] - HEIGHT as f64).abs() < 1e-9,
            "in the middle"
        );
        assert_eq!(unit(&[[3.0, 4.0], [3.0, 4.0]]), [[0.5, 0.5]; 2]);
        let line = unit(&[[3.0, 0.0], [3.0, 1.0]]);
        assert!(line[0][0] == 0.5 && (line[0][1] - (1.0 - MARGIN)).abs() < 1e-9);
    }

    #[test]
    fn short_names_have_no_control_characters() {
        let values = Values::Categories {
            names: vec!["\u{1}".into(), "1".into()],
            codes: Vec::new(),
        };
        let name = "cluster".into();
        let column = Annotation { name, values };
        assert_eq!(mark(Some(&column), 0), "\u{fffd}");
    }
}
