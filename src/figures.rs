//! Figures as SVG text: deterministic, without fonts or scripts.

mod canvas;
mod confusion_matrix;
mod heat_map;
mod labels;
mod network;
mod palette;
mod perturbation_splits;
mod response;
mod scatter;
mod training_curve;

pub use confusion_matrix::confusion_matrix;
pub use heat_map::{HeatMap, Scale};
pub use network::{Edge, Network, Node};
pub use perturbation_splits::{Combinations, State};
pub use response::Changes;
pub use scatter::Scatter;
pub use training_curve::TrainingCurves;

#[cfg(test)]
mod tests {
    use super::*;
    use roxmltree::{Document, Node as Element};

    fn number(element: &Element<'_, '_>, name: &str) -> Option<f64> {
        element.attribute(name)?.parse().ok()
    }

    /// Asserts that a figure is XML whose points and texts are within its bounds.
    pub fn assert_on_page(svg: &str) {
        let document = Document::parse(svg).expect("XML");
        let root = document.root_element();
        let page = ["width", "height"].map(|side| number(&root, side).unwrap());
        let check = |position: [f64; 2]| {
            let is_on = (0..2).all(|axis| (-1.0..=page[axis] + 1.0).contains(&position[axis]));
            assert!(is_on, "{position:?} of {page:?}");
        };
        for element in document.descendants() {
            let points = element.attribute("points").unwrap_or_default();
            for point in points.split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                check([x, y].map(|part| part.parse().unwrap()));
            }
            if element.has_tag_name("text") {
                ends(&element).into_iter().for_each(check);
            }
        }
    }

    /// Start and end of a text.
    fn ends(text: &Element<'_, '_>) -> [[f64; 2]; 2] {
        let words = text.text().unwrap_or_default().trim();
        let length = f64::from(labels::width(words, number(text, "font-size").unwrap()));
        let before = match text.attribute("text-anchor") {
            Some("end") => length,
            Some("middle") => length / 2.0,
            _ => 0.0,
        };
        let turn = text.attribute("transform").unwrap_or_default();
        let [x, y] = ["x", "y"].map(|axis| number(text, axis).unwrap());
        match turn.contains("rotate") {
            true => [[x, y + before], [x, y + before - length]],
            false => [[x - before, y], [x - before + length, y]],
        }
    }

    /// Writes sample figures into the directory of `FIGURES`, for visual checks.
    #[test]
    fn samples() {
        let names = (0..20)
            .map(|i| {
                format!(
                    "CD{i}+ {} cell",
                    ["naive", "central memory alpha-beta T", "B"][i % 3]
                )
            })
            .collect::<Vec<_>>();
        let noise = |i: usize, k: f64| {
            (i as f64 * k).sin() + (i as f64 * k * 1.7).sin() + (i as f64 * k * 2.3).cos()
        };
        let categories = (0..8000)
            .map(|i| (i % 37 > 0).then_some(i * 20 / 8000))
            .collect::<Vec<_>>();
        let position = |i: usize| {
            let turn = (i * 20 / 8000) as f64 * 2.1;
            (
                turn.sqrt() * turn.cos() * 2.0 + noise(i, 12.9898),
                turn.sqrt() * turn.sin() * 2.0 + noise(i, 78.233),
            )
        };
        let points = (0..8000).map(position).collect::<Vec<_>>();
        let scatter = Scatter {
            title: "Embedding of held-out cells",
            axes: ["PC 1", "PC 2"],
            points: &points,
            categories: &categories,
            names: &names,
        };
        let row = |i: usize| {
            (0..20)
                .map(|j: usize| {
                    if i == j {
                        80
                    } else if i.abs_diff(j) < 4 {
                        9 - 2 * i.abs_diff(j) as u64
                    } else {
                        0
                    }
                })
                .collect()
        };
        let counts = (0..20).map(row).collect::<Vec<Vec<u64>>>();
        let small = [vec![90, 10], vec![40, 60]];
        let genes = (0..20)
            .map(|i| format!("{}{i}", ["KLF", "CEBPA", "MAP2K"][i % 3]))
            .collect::<Vec<_>>();
        let spread =
            |middle: f64, width: f64| [-1.8, -0.7, 0.0, 0.8, 2.1].map(|at| middle + at * width);
        let means = (0..20)
            .map(|i| noise(i, 5.1) * 2.0 / (1.0 + i as f64 / 4.0))
            .collect::<Vec<_>>();
        let observed = means
            .iter()
            .map(|mean| spread(*mean, 0.4))
            .collect::<Vec<_>>();
        let control = (0..20)
            .map(|i| spread(0.0, 0.2 + 0.02 * i as f64))
            .collect::<Vec<_>>();
        let predicted = means
            .iter()
            .map(|mean| 0.8 * mean + 0.1)
            .collect::<Vec<_>>();
        let changes = Changes {
            title: "KLF1 and CEBPA, knocked out",
            genes: &genes,
            observed: &observed,
            control: &control,
            predicted: &predicted,
            observed_mean: &means,
        };
        let unseen = Changes {
            genes: &genes[..5],
            observed: &[],
            observed_mean: &[],
            ..changes
        };
        let state = |a: usize, b: usize| match (a * a * 7 + b * b * 13 + a * b * 5) % 11 {
            _ if a == b && !a.is_multiple_of(7) => State::Training,
            0..4 => State::Training,
            4 => State::Validation,
            5 | 6 => State::Test,
            7 => State::Absent,
            _ => State::Unused,
        };
        let many = (0..100).map(|i| format!("GENE{i}")).collect::<Vec<_>>();
        let combinations = |genes| {
            let title = "Perturbations of one gene or two";
            Combinations {
                title,
                genes,
                state: &state,
            }
            .to_svg()
        };
        let figures = [
            ("changes", changes.to_svg()),
            ("unseen", unseen.to_svg()),
            ("combinations", combinations(&genes)),
            ("combinations-5", combinations(&genes[..5])),
            ("combinations-50", combinations(&many[..50])),
            ("combinations-100", combinations(&many)),
            ("scatter", scatter.to_svg()),
            (
                "matrix",
                confusion_matrix(&counts, &names, "Held-out cells, 20 classes"),
            ),
            (
                "small",
                confusion_matrix(&small, &names[..2], "Held-out cells of two donors"),
            ),
        ];
        for (name, svg) in figures {
            assert!(svg.len() < 1_000_000, "{name} has {} bytes", svg.len());
            if let Some(directory) = std::env::var_os("FIGURES") {
                std::fs::write(
                    std::path::Path::new(&directory)
                        .join(name)
                        .with_extension("svg"),
                    svg,
                )
                .unwrap();
            }
        }
    }
}
