//! Figures as SVG text: deterministic bytes, no fonts and no scripts needed to make or to show them.

mod canvas;
mod confusion_matrix;
mod course;
mod palette;
mod scatter;

pub use confusion_matrix::confusion_matrix;
pub use course::Course;
pub use scatter::Scatter;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes samples to look at into the folder that `FIGURES` names.
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
        let place = |i: usize| {
            let turn = (i * 20 / 8000) as f64 * 2.1;
            (
                turn.sqrt() * turn.cos() * 2.0 + noise(i, 12.9898),
                turn.sqrt() * turn.sin() * 2.0 + noise(i, 78.233),
            )
        };
        let points = (0..8000).map(place).collect::<Vec<_>>();
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
        let figures = [
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
            if let Some(folder) = std::env::var_os("FIGURES") {
                std::fs::write(
                    std::path::Path::new(&folder)
                        .join(name)
                        .with_extension("svg"),
                    svg,
                )
                .unwrap();
            }
        }
    }
}
