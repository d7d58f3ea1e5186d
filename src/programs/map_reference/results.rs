//! What becomes of the cells that were mapped: columns, a table, a picture.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::json;

use super::embedded::Embedded;
use super::given_labels::{self, UNASSIGNED};
use super::query::{QueryOptions, Reference};
use crate::figures::Scatter;
use crate::formats::Column;
use crate::formats::h5ad::{Additions, Embedding};
use crate::programs::steps;
use crate::run_record::Run;

/// Reference cells drawn at most.
const DRAWN: usize = 20_000;

/// Where a cell was placed.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The best label, if it is probable and near enough.
    pub label: Option<usize>,
    pub probability: f64,
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
    pub const NOWHERE: Self = Self {
        label: None,
        probability: 0.0,
        distance: f64::NAN,
        novelty: f64::NAN,
        neighbours: Vec::new(),
        place: [f32::NAN; 2],
    };
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
    let mut counts = vec![0_usize; reference.classes.len()];
    placements
        .iter()
        .filter_map(|p| p.label)
        .for_each(|class| counts[class] += 1);
    let names = reference.classes.iter().map(String::as_str);
    let counts: IndexMap<&str, usize> = names.zip(counts).collect();
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

/// Names of the elements that [`additions`] makes.
struct Names {
    label: String,
    probability: String,
    distance: String,
    novelty: String,
    probabilities: String,
    places: String,
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
            places: format!("X_{prefix}"),
            reference: name("reference"),
        }
    }
}

/// Fails if what [`additions`] makes could not be added to the cells, before anything is computed.
pub fn check_names(options: &QueryOptions, cells: &Embedded) -> Result<()> {
    let names = Names::new(&options.prefix);
    let elements = [
        ("obs", names.label),
        ("obs", names.probability),
        ("obs", names.distance),
        ("obs", names.novelty),
        ("obsm", names.probabilities),
        ("obsm", names.places),
        ("uns", names.reference),
    ];
    Ok(cells.file.check_names(&options.output, &elements)?)
}

/// What is added to the copy of the input; `shares` are the votes for every label, [cells, labels].
pub fn additions(
    options: &QueryOptions,
    reference: &Reference,
    placements: &[Placement],
    shares: Vec<f32>,
) -> Additions {
    let names = Names::new(&options.prefix);
    let label = given_labels::column(&reference.classes, placements.iter().map(|p| p.label));
    let number = |value: fn(&Placement) -> f64| {
        let value = |p: &Placement| Some(value(p)).filter(|value| value.is_finite());
        Column::Number(placements.iter().map(value).collect())
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
                    values: shares,
                },
            ),
            (
                names.places,
                Embedding {
                    width: 2,
                    values: placements.iter().flat_map(|p| p.place).collect(),
                },
            ),
        ],
        uns: vec![(
            names.reference,
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
        .for_each(|column| text.extend(["\tnearest_", &steps::plain(column)]));
    text.push('\n');
    for (name, p) in cells.file.cell_names()?.iter().zip(placements) {
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
            p.place[0],
            p.place[1]
        )?;
        let lines: Vec<&Vec<String>> = p
            .neighbours
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
    names.extend([UNASSIGNED.to_owned(), "reference".to_owned()]);
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
    steps::write_text(path, &svg, run)
}
