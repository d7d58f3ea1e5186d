//! Outputs of label transfer: new elements of the AnnData file, a table and a plot.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::json;

use super::embedded::Embedded;
use super::label_column::{self, UNASSIGNED};
use super::query_options::QueryOptions;
use super::reference::{MappedCell, Reference};
use crate::figures::Scatter;
use crate::formats::Column;
use crate::formats::h5ad::{Additions, Embedding};
use crate::programs::steps;
use crate::run_record::Run;

/// Maximum number of reference cells in the plot.
const PLOTTED: usize = 20_000;

/// Reports and records the number of cells of each label.
pub fn report(reference: &Reference, mapped: &[MappedCell], run: &mut Run) {
    let without_embedding = mapped.iter().filter(|p| p.neighbors.is_empty()).count();
    if without_embedding > 0 {
        run.warning(format!(
            "{without_embedding} cells have no embedding and stay unassigned"
        ));
    }
    let unassigned = mapped.iter().filter(|p| p.label.is_none()).count();
    let far = mapped.iter().filter(|p| p.novelty > 0.99).count();
    run.note(format!(
        "{unassigned} of {} cells are unassigned",
        mapped.len()
    ));
    run.note(format!(
        "{far} cells exceed the 99th percentile of reference distances"
    ));
    let mut counts = vec![0_usize; reference.classes.len()];
    mapped
        .iter()
        .filter_map(|p| p.label)
        .for_each(|class| counts[class] += 1);
    let names = reference.classes.iter().map(String::as_str);
    let counts: IndexMap<&str, usize> = names.zip(counts).collect();
    run.metric("cells", mapped.len());
    run.metric("unassigned", unassigned as f64 / mapped.len().max(1) as f64);
    run.metric("beyond_99_percent", far as f64 / mapped.len().max(1) as f64);
    run.metric("labels", counts);
}

/// Names of the elements that [`additions`] adds.
struct Names {
    label: String,
    probability: String,
    distance: String,
    novelty: String,
    probabilities: String,
    coordinates: String,
    reference: String,
}

impl Names {
    fn new(prefix: &str) -> Self {
        let name = |part: &str| format!("{prefix}_{part}");
        Self {
            label: name("label"),
            probability: name("probability"),
            distance: name("distance"),
            novelty: name("novelty"),
            probabilities: name("probabilities"),
            coordinates: format!("X_{prefix}"),
            reference: name("reference"),
        }
    }
}

/// Fails, before anything is computed, if the elements of [`additions`] cannot be added to the input.
pub fn check_names(options: &QueryOptions, cells: &Embedded) -> Result<()> {
    let names = Names::new(&options.prefix);
    let elements = [
        ("obs", names.label),
        ("obs", names.probability),
        ("obs", names.distance),
        ("obs", names.novelty),
        ("obsm", names.probabilities),
        ("obsm", names.coordinates),
        ("uns", names.reference),
    ];
    Ok(cells.file.check_names(&options.output, &elements)?)
}

/// The elements added to the input; `probabilities` are those of every label, [cells, labels].
pub fn additions(
    options: &QueryOptions,
    reference: &Reference,
    mapped: &[MappedCell],
    probabilities: Vec<f32>,
) -> Additions {
    let names = Names::new(&options.prefix);
    let label = label_column::column(&reference.classes, mapped.iter().map(|p| p.label));
    let number = |value: fn(&MappedCell) -> f64| {
        let value = |p: &MappedCell| Some(value(p)).filter(|value| value.is_finite());
        Column::Number(mapped.iter().map(value).collect())
    };
    Additions {
        obs: vec![
            (names.label, label),
            (names.probability, number(|p| p.probability)),
            (names.distance, number(|p| p.distance)),
            (names.novelty, number(|p| p.novelty)),
        ],
        obsm: vec![
            (
                names.probabilities,
                Embedding {
                    width: reference.classes.len(),
                    values: probabilities,
                },
            ),
            (
                names.coordinates,
                Embedding {
                    width: 2,
                    values: mapped.iter().flat_map(|p| p.coordinates).collect(),
                },
            ),
        ],
        uns: vec![(
            names.reference,
            json!({"labels": reference.classes, "coordinates": reference.index.manifest.coordinates,
                "neighbors": options.n_neighbors}),
        )],
        ..Additions::default()
    }
}

/// Table with a row for each cell: label, neighbors, and the labels of the nearest neighbor.
pub fn write_table(
    options: &QueryOptions,
    cells: &Embedded,
    reference: &Reference,
    mapped: &[MappedCell],
    run: &mut Run,
) -> Result<()> {
    let Some(path) = &options.table else {
        return Ok(());
    };
    let all: BTreeSet<u64> = mapped
        .iter()
        .flat_map(|p| p.neighbors.iter().copied())
        .collect();
    let known = reference.index.lines(&all)?;
    let columns = &reference.index.manifest.columns;
    let mut text = String::from("cell\tlabel\tprobability\tdistance\tnovelty\tx\ty\tneighbors");
    columns
        .iter()
        .for_each(|column| text.extend(["\tnearest_", &steps::plain(column)]));
    text.push('\n');
    for (name, p) in cells.file.cell_names()?.iter().zip(mapped) {
        let label = p
            .label
            .map_or(UNASSIGNED, |class| &reference.classes[class]);
        write!(
            text,
            "{}\t{}\t{:.4}\t{:.6}\t{:.4}\t{:.4}\t{:.4}\t",
            steps::plain(name),
            steps::plain(label),
            p.probability,
            p.distance,
            p.novelty,
            p.coordinates[0],
            p.coordinates[1]
        )?;
        let lines: Vec<&Vec<String>> = p
            .neighbors
            .iter()
            .filter_map(|cell| known.get(cell))
            .collect();
        let names: Vec<String> = lines.iter().map(|line| steps::plain(&line[0])).collect();
        text.push_str(&names.join(","));
        for at in 1..=columns.len() {
            text.extend([
                "\t",
                &lines
                    .first()
                    .map_or(String::new(), |line| steps::plain(&line[at])),
            ]);
        }
        text.push('\n');
    }
    steps::write_text(path, &text, run)
}

/// Plot of the query cells, colored by label, over reference cells in gray.
pub fn plot(
    options: &QueryOptions,
    reference: &Reference,
    mapped: &[MappedCell],
    run: &mut Run,
) -> Result<()> {
    let Some(path) = &options.plot else {
        return Ok(());
    };
    let step = reference.coordinates.nrows().div_ceil(PLOTTED).max(1);
    let point = |x: f32, y: f32| (f64::from(x), f64::from(y));
    let background = reference
        .coordinates
        .rows()
        .into_iter()
        .step_by(step)
        .map(|row| point(row[0], row[1]));
    let mut points: Vec<(f64, f64)> = background.collect();
    let n = reference.classes.len();
    let mut categories = vec![Some(n + 1); points.len()];
    points.extend(
        mapped
            .iter()
            .map(|p| point(p.coordinates[0], p.coordinates[1])),
    );
    categories.extend(mapped.iter().map(|p| Some(p.label.unwrap_or(n))));
    let mut names = reference.classes.clone();
    names.extend([UNASSIGNED.to_owned(), "reference".to_owned()]);
    names.truncate(n + 1);
    categories
        .iter_mut()
        .for_each(|category| *category = category.filter(|&category| category <= n));
    let svg = Scatter {
        title: "Query cells, and reference cells in gray",
        axes: ["coordinate 1", "coordinate 2"],
        points: &points,
        categories: &categories,
        names: &names,
    }
    .to_svg();
    steps::write_text(path, &svg, run)
}
