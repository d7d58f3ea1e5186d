//! Gene expression: marker genes of groups, and classification by class.

use maud::{Markup, html};
use ndarray::Array2;
use serde_json::Value;

use crate::report::cells::View;
use crate::report::content::Content;
use crate::report::figures::bars::{Bar, bars};
use crate::report::figures::dots::dots;
use crate::report::figures::heat::Heat;
use crate::report::html::{Cell, Table, empty, figure, number, plural, shortened};
use crate::report::markers::{Excluded, FEWEST, MOST_GROUPS, Markers};
use crate::report::provenance;
use crate::report::scores::{self, Row};

/// Maximum number of genes of a dot plot, and of rows of the table of marker genes.
const GENES: usize = 48;
const ROWS: usize = 1_000;
/// Maximum number of classes of a figure.
const CLASSES: usize = 60;
/// Maximum number of runs with figures by class.
const RUNS: usize = 6;

/// The tab.
pub fn section(content: &Content) -> Markup {
    let annotated: Vec<Row> = scores::annotation(&content.evidence.runs)
        .into_iter()
        .filter(|row| row.is_ours())
        .collect();
    html! {
        h3.part { "Marker genes" }
        @if content.markers.is_empty() { (empty("No marker genes.", "Provide an h5ad file with expression, an embedding and a column of clusters or cell types to show this section; --color selects the column.")) }
        @for (at, markers) in &content.markers { (marked(&content.views[*at], markers, content)) }
        h3.part { "Classification by class" }
        @if annotated.is_empty() { (empty("No annotations.", "Provide a run of scgpt-finetune-annotation, or of scgpt-annotate with --true-labels, to show this section.")) }
        @for row in annotated.iter().take(RUNS) { (classes(row, content)) }
        @if annotated.len() > RUNS { p.note { (annotated.len() - RUNS) " more runs are only in the tab Method comparison." } }
    }
}

fn marked(view: &View, markers: &Markers, content: &Content) -> Markup {
    let column = view
        .main()
        .map_or_else(String::new, |main| shortened(&main.name));
    let file = shortened(&view.name());
    let each = (GENES / markers.groups.len()).clamp(1, content.choice.markers.max(1));
    let chosen = markers.find(&content.choice.genes);
    let genes = if chosen.is_empty() {
        markers.distinct(each)
    } else {
        chosen
    };
    let genes = &genes[..genes.len().min(GENES.max(content.choice.genes.len()))];
    let names: Vec<String> = genes
        .iter()
        .map(|&gene| markers.genes[gene].clone())
        .collect();
    let scaled = scaled(markers, genes);
    let fractions = Array2::from_shape_fn((markers.groups.len(), genes.len()), |(group, at)| {
        markers.fractions[(group, genes[at])]
    });
    let format = |(group, at): (usize, usize)| format!("{:.2}", markers.means[(group, genes[at])]);
    let heat = Heat {
        rows: &markers.groups,
        columns: &names,
        values: &scaled,
        axes: ["group", "gene"],
        what: "mean expression, scaled per gene",
        format: &format,
    };
    html! {
        (figure(&format!("Marker genes by {column}, {file}"), &top_marker(markers), &dots(&markers.groups, &names, &scaled, &fractions)))
        (figure(&format!("Mean expression by {column}, {file}"), &format!("Mean of log1p counts normalized to 10,000 per cell ({}), scaled per gene from its lowest to its highest mean.", markers.matrix), &heat.draw()))
        (table(markers, content.choice.markers, &format!("Marker genes of {file} by {column}")))
    }
}

/// Means of the selected genes, scaled per gene from 0 (lowest) to 1 (highest).
fn scaled(markers: &Markers, genes: &[usize]) -> Array2<f64> {
    Array2::from_shape_fn((markers.groups.len(), genes.len()), |(group, at)| {
        let means = markers.means.column(genes[at]);
        let (low, high) = means
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        if high > low {
            (means[group] - low) / (high - low)
        } else {
            0.0
        }
    })
}

fn top_marker(markers: &Markers) -> String {
    let others = |group: usize, gene: usize| {
        (0..markers.groups.len())
            .filter(move |&other| other != group)
            .map(move |other| markers.fractions[(other, gene)])
            .fold(0.0, f64::max)
    };
    let gap = |group: usize, gene: usize| markers.fractions[(group, gene)] - others(group, gene);
    let candidates = (0..markers.groups.len()).flat_map(|group| {
        markers
            .of(group, 10)
            .into_iter()
            .map(move |marker| (group, marker))
    });
    match candidates.max_by(|a, b| gap(a.0, a.1.gene).total_cmp(&gap(b.0, b.1.gene))) {
        Some((group, marker)) => format!(
            "{} distinguishes {} best: {:.0} % of its cells express it, and at most {:.0} % of the cells of any other group.",
            shortened(&markers.genes[marker.gene]),
            shortened(&markers.groups[group]),
            markers.fractions[(group, marker.gene)] * 100.0,
            others(group, marker.gene) * 100.0
        ),
        None => "No marker genes.".into(),
    }
}

/// Excluded cells and groups.
fn excluded(left: Excluded) -> String {
    let parts = [
        (
            left.cells,
            format!("{} without a group", plural(left.cells, "cell")),
        ),
        (
            left.small,
            format!(
                "{} of fewer than {FEWEST} cells",
                plural(left.small, "group")
            ),
        ),
        (
            left.beyond,
            format!(
                "{} beyond the {MOST_GROUPS} largest",
                plural(left.beyond, "group")
            ),
        ),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|part| part.0 > 0)
        .map(|part| part.1)
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" Excluded: {}.", parts.join("; "))
    }
}

fn table(markers: &Markers, each: usize, title: &str) -> Markup {
    let note = format!(
        "Welch's t-test of each group against the other groups; p-values are two-sided and Bonferroni-corrected. Use them only to rank genes, because the groups may be defined by the same expression data.{}",
        excluded(markers.excluded)
    );
    let mut table = Table::new(
        title,
        note,
        &[
            "group",
            "cells",
            "rank",
            "gene",
            "t",
            "log2 fold change",
            "adjusted p",
            "fraction of cells",
            "mean",
        ],
    );
    for (group, name) in markers.groups.iter().enumerate() {
        for (rank, marker) in markers
            .of(group, each)
            .into_iter()
            .enumerate()
            .take(ROWS.saturating_sub(table.rows.len()))
        {
            table.rows.push(vec![
                Cell::text(name),
                Cell::count(markers.sizes[group]),
                Cell::count(rank + 1),
                Cell::text(&markers.genes[marker.gene]),
                Cell::Number(marker.score, 1),
                Cell::Number(marker.log2_fold_change, 2),
                Cell::Probability(marker.p_value),
                Cell::Number(markers.fractions[(group, marker.gene)], 3),
                Cell::Number(markers.means[(group, marker.gene)], 3),
            ]);
        }
    }
    table.render()
}

fn class_name(class: &Value) -> String {
    class
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("?")
        .to_owned()
}

fn class_score(class: &Value, key: &str) -> Option<f64> {
    class.get(key).and_then(Value::as_f64)
}

/// Precision, recall and F1 of each class, and the confusion matrix.
fn classes(row: &Row, content: &Content) -> Markup {
    let classes: Vec<&Value> = row
        .scores
        .get("classes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let run = shortened(&format!(
        "{}, {}",
        provenance::label(row.run, &content.evidence.runs[row.run].record),
        row.name()
    ));
    let bar = |class: &&Value| {
        Some(Bar {
            name: class_name(class),
            value: class_score(class, "f1")?,
            group: 0,
        })
    };
    let drawn: Vec<Bar> = classes.iter().filter_map(bar).take(CLASSES).collect();
    let confusion = Confusion::of(row);
    html! {
        div.pair {
            @if !drawn.is_empty() { (figure(&format!("F1 by class, {run}"), &class_summary(row, &classes), &bars(&drawn, "F1", &|value| format!("{value:.2}"), &[]))) }
            @if let Some(confusion) = &confusion { (figure(&format!("Confusion matrix, {run}"), &confusion.top_error(), &confusion.draw())) }
        }
        @if classes.len() > CLASSES { p.note { "F1 is plotted for the first " (CLASSES) " of " (classes.len()) " classes, and the confusion matrix is omitted; the table contains all classes." } }
        (class_table(&classes, &run))
    }
}

/// Accuracy, and number of classes without a correct prediction, if recorded.
fn class_summary(row: &Row, classes: &[&Value]) -> String {
    let correct = row.score(&["accuracy"]).map(|accuracy| {
        let cells = row.score(&["n_cells"]);
        let cells = cells.map_or("the cells".to_owned(), |n| plural(n as usize, "cell"));
        format!(
            "{:.1} % of {cells} are correctly classified",
            accuracy * 100.0
        )
    });
    let is_missed = |class: &&&Value| {
        class_score(class, "n_true") > Some(0.0) && class_score(class, "recall") == Some(0.0)
    };
    let has_recall = classes
        .iter()
        .any(|class| class_score(class, "recall").is_some());
    let missed = has_recall.then(|| {
        let n = classes.iter().filter(is_missed).count();
        format!("{n} of {} classes have a recall of 0", classes.len())
    });
    let parts: Vec<String> = correct.into_iter().chain(missed).collect();
    if parts.is_empty() {
        String::new()
    } else {
        parts.join("; ") + "."
    }
}

fn class_table(classes: &[&Value], run: &str) -> Markup {
    let mut table = Table::new(
        &format!("Classes of {run}"),
        "",
        &["class", "cells", "predicted", "precision", "recall", "F1"],
    );
    let numbers = [
        ("n_true", 0),
        ("n_predicted", 0),
        ("precision", 3),
        ("recall", 3),
        ("f1", 3),
    ];
    let row = |class: &&Value| {
        let scores = numbers.map(|(key, decimals)| Cell::number(class_score(class, key), decimals));
        [Cell::text(class_name(class))]
            .into_iter()
            .chain(scores)
            .collect()
    };
    table.rows = classes.iter().map(row).collect();
    table.render()
}

/// Cells by true and predicted class, with unassigned cells in a last column if there are any.
struct Confusion {
    truth: Vec<String>,
    predicted: Vec<String>,
    counts: Array2<f64>,
}

impl Confusion {
    /// None if the record has no matrix that matches its classes, or one that is too large.
    fn of(row: &Row) -> Option<Self> {
        let counts: Vec<&Vec<Value>> = row
            .scores
            .get("confusion")?
            .as_array()?
            .iter()
            .filter_map(Value::as_array)
            .collect();
        let truth: Vec<String> = row
            .scores
            .get("classes")?
            .as_array()?
            .iter()
            .map(class_name)
            .collect();
        let width = counts.iter().map(|row| row.len()).max()?;
        let n = truth.len();
        if counts.len() != n || n > CLASSES || !(n..=n + 1).contains(&width) {
            return None;
        }
        let count = |row: usize, column: usize| {
            counts[row]
                .get(column)
                .and_then(Value::as_f64)
                .unwrap_or(0.0)
        };
        let mut predicted = truth.clone();
        predicted.extend(
            (0..n)
                .any(|row| count(row, n) > 0.0)
                .then(|| "unassigned".to_owned()),
        );
        let counts =
            Array2::from_shape_fn((n, predicted.len()), |(row, column)| count(row, column));
        Some(Self {
            truth,
            predicted,
            counts,
        })
    }

    fn top_error(&self) -> String {
        let wrong = self
            .counts
            .indexed_iter()
            .filter(|((row, column), count)| row != column && **count > 0.0);
        match wrong.max_by(|a, b| a.1.total_cmp(b.1)) {
            Some(((row, column), &count)) => format!(
                "Most frequent error: {} cells of {} are misclassified as {}.",
                number(count, 0),
                shortened(&self.truth[row]),
                shortened(&self.predicted[column])
            ),
            None => "No misclassifications.".into(),
        }
    }

    fn draw(&self) -> Markup {
        let format = |at: (usize, usize)| number(self.counts[at], 0);
        let fractions = Array2::from_shape_fn(self.counts.dim(), |(row, column)| {
            self.counts[(row, column)] / self.counts.row(row).sum().max(1.0)
        });
        let heat = Heat {
            rows: &self.truth,
            columns: &self.predicted,
            values: &fractions,
            axes: ["true class", "predicted class"],
            what: "fraction of the true class",
            format: &format,
        };
        heat.draw()
    }
}
