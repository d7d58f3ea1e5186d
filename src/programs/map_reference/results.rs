//! What becomes of the cells that were mapped: columns, a table, a picture.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::json;

use super::embedded::Embedded;
use super::query::{QueryOptions, Reference};
use crate::figures::Scatter;
use crate::formats::Column;
use crate::formats::h5ad::{Additions, Embedding};
use crate::output;
use crate::run_record::Run;

/// Reference cells drawn at most.
const DRAWN: usize = 20_000;

/// Where a cell was placed.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The best label, if it is probable and near enough.
    pub label: Option<usize>,
    pub probability: f64,
    /// Share of the vote of every label.
    pub shares: Vec<f32>,
    /// Mean distance to the neighbours.
    pub distance: f64,
    /// Share of reference cells that lie nearer to their neighbours.
    pub novelty: f64,
    /// Cells of the reference, nearest first; none for a cell without a vector.
    pub neighbours: Vec<u64>,
    pub place: [f32; 2],
}

impl Placement {
    /// A cell without a vector.
    pub fn nowhere(classes: usize) -> Self {
        Self {
            label: None,
            probability: 0.0,
            shares: vec![0.0; classes],
            distance: f64::NAN,
            novelty: f64::NAN,
            neighbours: Vec::new(),
            place: [f32::NAN; 2],
        }
    }
}

/// Says and records how many cells got which label.
pub fn report(reference: &Reference, placements: &[Placement], run: &mut Run) {
    let lost = placements
        .iter()
        .filter(|p| p.neighbours.is_empty())
        .count();
    if lost > 0 {
        run.warning(format!(
            "{lost} cells have no vector and are left unassigned"
        ));
    }
    let unassigned = placements.iter().filter(|p| p.label.is_none()).count();
    let far = placements.iter().filter(|p| p.novelty > 0.99).count();
    run.note(format!(
        "{unassigned} of {} cells are unassigned",
        placements.len()
    ));
    run.note(format!(
        "{far} cells lie farther from the reference than 99 % of its own cells from one another"
    ));
    let count = |class| placements.iter().filter(|p| p.label == Some(class)).count();
    let names = reference.classes.iter().enumerate();
    let counts: IndexMap<&str, usize> = names
        .map(|(class, name)| (name.as_str(), count(class)))
        .collect();
    run.metric("cells", placements.len());
    run.metric(
        "unassigned",
        unassigned as f64 / placements.len().max(1) as f64,
    );
    run.metric(
        "beyond_99_percent",
        far as f64 / placements.len().max(1) as f64,
    );
    run.metric("labels", counts);
}

pub fn additions(
    options: &QueryOptions,
    reference: &Reference,
    placements: &[Placement],
) -> Additions {
    let name = |part: &str| format!("{}_{part}", options.prefix);
    let unassigned = reference.classes.len();
    let code = |p: &Placement| Some(p.label.unwrap_or(unassigned) as u32);
    let label = Column::Categorical {
        codes: placements.iter().map(code).collect(),
        categories: reference
            .classes
            .iter()
            .cloned()
            .chain(["unassigned".to_owned()])
            .collect(),
        ordered: false,
    };
    let number = |value: fn(&Placement) -> f64| {
        let value = |p: &Placement| Some(value(p)).filter(|value| value.is_finite());
        Column::Number(placements.iter().map(value).collect())
    };
    Additions {
        obs: vec![
            (name("label"), label),
            (name("probability"), number(|p| p.probability)),
            (name("distance"), number(|p| p.distance)),
            (name("novelty"), number(|p| p.novelty)),
        ],
        obsm: vec![
            (
                name("probabilities"),
                Embedding {
                    width: reference.classes.len(),
                    values: placements
                        .iter()
                        .flat_map(|p| p.shares.iter().copied())
                        .collect(),
                },
            ),
            (
                format!("X_{}", options.prefix),
                Embedding {
                    width: 2,
                    values: placements.iter().flat_map(|p| p.place).collect(),
                },
            ),
        ],
        uns: vec![(
            name("reference"),
            json!({"labels": reference.classes, "coordinates": reference.atlas.manifest.coordinates,
                "neighbours": options.neighbours}),
        )],
        ..Additions::default()
    }
}

/// A line for each cell: what it was called, its neighbours, and what is known of the nearest.
pub fn write_table(
    options: &QueryOptions,
    cells: &Embedded,
    reference: &Reference,
    placements: &[Placement],
    run: &mut Run,
) -> Result<()> {
    let Some(path) = &options.table else {
        return Ok(());
    };
    let all: BTreeSet<u64> = placements
        .iter()
        .flat_map(|p| p.neighbours.iter().copied())
        .collect();
    let known = reference.atlas.lines(&all)?;
    let columns = &reference.atlas.manifest.columns;
    let mut text = String::from("cell\tlabel\tprobability\tdistance\tnovelty\tx\ty\tneighbours");
    columns
        .iter()
        .for_each(|column| text.extend(["\tnearest_", &plain(column)]));
    text.push('\n');
    for (name, p) in cells.file.cell_names()?.iter().zip(placements) {
        let label = p
            .label
            .map_or("unassigned", |class| &reference.classes[class]);
        write!(
            text,
            "{}\t{}\t{:.4}\t{:.6}\t{:.4}\t{:.4}\t{:.4}\t",
            plain(name),
            plain(label),
            p.probability,
            p.distance,
            p.novelty,
            p.place[0],
            p.place[1]
        )?;
        let lines: Vec<&Vec<String>> = p
            .neighbours
            .iter()
            .filter_map(|cell| known.get(cell))
            .collect();
        let names: Vec<String> = lines.iter().map(|line| plain(&line[0])).collect();
        text.push_str(&names.join(","));
        for at in 1..=columns.len() {
            text.extend([
                "\t",
                &lines.first().map_or(String::new(), |line| plain(&line[at])),
            ]);
        }
        text.push('\n');
    }
    output::write_file(path, |out| out.write_all(text.as_bytes()))?;
    Ok(run.output(path)?)
}

/// A text that fits into a cell of a table.
fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// The cells, coloured by label, among reference cells in grey.
pub fn draw(
    options: &QueryOptions,
    reference: &Reference,
    placements: &[Placement],
    run: &mut Run,
) -> Result<()> {
    let Some(path) = &options.figure else {
        return Ok(());
    };
    let step = reference.places.nrows().div_ceil(DRAWN).max(1);
    let point = |x: f32, y: f32| (f64::from(x), f64::from(y));
    let background = reference
        .places
        .rows()
        .into_iter()
        .step_by(step)
        .map(|row| point(row[0], row[1]));
    let mut points: Vec<(f64, f64)> = background.collect();
    let n = reference.classes.len();
    let mut categories = vec![Some(n + 1); points.len()];
    points.extend(placements.iter().map(|p| point(p.place[0], p.place[1])));
    categories.extend(placements.iter().map(|p| Some(p.label.unwrap_or(n))));
    let mut names = reference.classes.clone();
    names.extend(["unassigned".to_owned(), "reference".to_owned()]);
    names.truncate(n + 1);
    categories
        .iter_mut()
        .for_each(|category| *category = category.filter(|&category| category <= n));
    let svg = Scatter {
        title: "Cells among those of the reference (grey)",
        axes: ["coordinate 1", "coordinate 2"],
        points: &points,
        categories: &categories,
        names: &names,
    }
    .to_svg();
    output::write_file(path, |out| out.write_all(svg.as_bytes()))?;
    Ok(run.output(path)?)
}
