//! Overview: key numbers, cells, training curves, corpus.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use super::runs::first;
use crate::report::cells::{Annotation, View, crossed};
use crate::report::collect::Found;
use crate::report::content::Content;
use crate::report::figures::bars::{Bar, bars, fractions};
use crate::report::figures::lines::{Line, lines};
use crate::report::figures::points::points;
use crate::report::figures::{COLORS, tick};
use crate::report::html::{
    Cell, Table, bytes, empty, figure, figure_with, number, plural, seconds, shortened,
};
use crate::report::provenance;
use crate::report::scores;

/// Maximum number of columns that are crossed with the main one, and of their categories.
const CROSSED: usize = 3;
const CATEGORIES: usize = 24;
/// Maximum number of rows of a figure of counts, and of its table.
const ROWS: usize = 40;
const COUNTED: usize = 1_000;
/// Maximum number of points of a curve.
const POINTS: usize = 400;

/// Key numbers at the top of the report.
pub fn headline(content: &Content) -> Markup {
    let records: Vec<_> = content
        .evidence
        .runs
        .iter()
        .map(|run| &run.record)
        .collect();
    let time: f64 = records
        .iter()
        .filter_map(|record| provenance::total(record))
        .sum();
    let accuracy = best(
        scores::annotation(&content.evidence.runs)
            .iter()
            .filter(|row| row.is_ours())
            .filter_map(|row| row.score(&["accuracy"])),
    );
    let integration = best(
        scores::integration(&content.evidence.runs)
            .iter()
            .filter(|row| row.is_ours())
            .filter_map(|row| row.score(&["overall"])),
    );
    let matched = best(
        records
            .iter()
            .filter_map(|record| provenance::number(&record.metrics, &["genes_matched"])),
    );
    let cells = content.views.iter().map(|view| view.n_cells).max();
    let memory = records.iter().filter_map(|record| record.peak_memory).max();
    let warnings: usize = records.iter().map(|record| record.warnings.len()).sum();
    let facts = [
        (!records.is_empty()).then(|| ("runs", number(records.len() as f64, 0))),
        cells.map(|cells| ("cells in the largest file", number(cells as f64, 0))),
        matched.map(|genes| ("genes matched", number(genes, 0))),
        accuracy.map(|accuracy| ("best accuracy", format!("{:.1} %", accuracy * 100.0))),
        integration.map(|score| ("best integration score", format!("{score:.3}"))),
        (time > 0.0).then(|| ("computing time", seconds(time))),
        memory.map(|peak| ("peak memory", bytes(peak))),
        Some(("warnings", number(warnings as f64, 0))),
    ];
    html! { ul.headline { @for (name, value) in facts.into_iter().flatten() { li { b { (value) } span { (name) } } } } }
}

fn best(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.max_by(f64::total_cmp)
}

/// The tab.
pub fn section(content: &Content) -> Markup {
    html! {
        h3.part { "Cells" }
        @if content.views.is_empty() { (empty("No cells.", "Provide an h5ad file with an embedding, such as the output of scgpt-embed or scgpt-integrate, to show this section.")) }
        @for (at, view) in content.views.iter().enumerate() { (cells(view, at, content.choice.cells)) }
        h3.part { "Training" }
        (training(&content.evidence.runs))
        h3.part { "Corpus" }
        (corpus(&content.evidence.runs))
        h3.part { "Comparison with baselines" }
        (super::comparison::summary(content))
    }
}

fn cells(view: &View, at: usize, most: usize) -> Markup {
    let plotted = plotted(view.sample.len(), view.n_cells, most);
    let largest = view.main().and_then(|main| largest(view, main));
    let omitted = view.n_columns.saturating_sub(view.annotations.len());
    let columns = if omitted > 0 {
        format!(
            " {omitted} of {} columns are omitted (identifiers, too many categories or too many columns).",
            view.n_columns
        )
    } else {
        String::new()
    };
    html! {
        (figure(&format!("Cells of {}", view.name()), &format!("{plotted} {}{columns}", largest.unwrap_or_default()), &points(view, at)))
        @if let Some(main) = view.main() {
            @if at == 0 { (counted(view, main)) }
            @else { details { summary { "Cells of " (shortened(&view.name())) " by group" } (counted(view, main)) } }
        }
    }
}

/// Number of plotted cells, and why there are not more.
fn plotted(drawn: usize, all: usize, most: usize) -> String {
    let (count, whole) = (number(drawn as f64, 0), plural(all, "cell"));
    if drawn == all {
        format!("All {whole}.")
    } else if drawn < most {
        format!("{count} of {whole}; the others have no coordinates.")
    } else {
        format!("A random sample of {count} of {whole}.")
    }
}

/// The number of groups of a column, and the largest.
fn largest(view: &View, main: &Annotation) -> Option<String> {
    let (names, codes) = main.categories()?;
    let mut counts = vec![0_usize; names.len()];
    codes
        .iter()
        .flatten()
        .for_each(|&code| counts[code as usize] += 1);
    let most = (0..names.len()).max_by_key(|&at| (counts[at], std::cmp::Reverse(at)))?;
    let fraction = counts[most] as f64 / view.n_cells.max(1) as f64;
    Some(format!(
        "{} has {}; the largest, {}, contains {:.0} % of the cells.",
        shortened(&main.name),
        if names.len() == 1 {
            "1 category".into()
        } else {
            format!("{} categories", names.len())
        },
        shortened(&names[most]),
        fraction * 100.0
    ))
}

/// Cells of each group by other columns.
fn counted(view: &View, main: &Annotation) -> Markup {
    let rank = |column: &&Annotation| {
        let name = column.name.to_lowercase();
        ["batch", "sample", "donor", "type", "label", "tissue"]
            .iter()
            .position(|word| name.contains(word))
            .unwrap_or(usize::MAX)
    };
    let is_other = |column: &&Annotation| {
        column.name != main.name
            && column
                .categories()
                .is_some_and(|(names, _)| (2..=CATEGORIES).contains(&names.len()))
    };
    let mut others: Vec<&Annotation> = view.annotations.iter().filter(is_other).collect();
    others.sort_by_key(rank);
    let note = first(CROSSED, others.len(), "column");
    html! {
        div.pair { @for other in others.into_iter().take(CROSSED) { (crossed_figure(view, main, other)) } }
        @if !note.is_empty() { p.note { (note) } }
    }
}

/// Fractions of the categories of another column in each group.
fn crossed_figure(view: &View, main: &Annotation, other: &Annotation) -> Markup {
    let (Some(counts), Some((rows, _)), Some((parts, _))) =
        (crossed(main, other), main.categories(), other.categories())
    else {
        return html! {};
    };
    let (kept, name) = (rows.len().min(ROWS), shortened(&other.name));
    let (drawn, drawn_counts) = distinct(parts, &counts[..kept]);
    let gray = if drawn.len() < parts.len() {
        format!(
            " Only the {} most frequent of {} categories of {name} have their own color.",
            drawn.len() - 1,
            parts.len()
        )
    } else {
        String::new()
    };
    figure_with(
        &format!("{} by {name}", shortened(&main.name)),
        &format!(
            "In {} of {}, no {name} makes up 90 % of the cells.{}{gray}",
            mixed(&counts),
            plural(rows.len(), "group"),
            first(ROWS, rows.len(), "group")
        ),
        &fractions(&rows[..kept], &drawn, &drawn_counts, "fraction of cells"),
        &cross_table(view, (main, rows), (other, parts), &counts),
    )
}

/// At most as many categories as there are colors: the rarest are merged.
fn distinct(parts: &[String], counts: &[Vec<u64>]) -> (Vec<String>, Vec<Vec<u64>>) {
    if parts.len() <= COLORS.len() {
        return (parts.to_vec(), counts.to_vec());
    }
    let total = |part: usize| counts.iter().map(|row| row[part]).sum::<u64>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&part| std::cmp::Reverse(total(part)));
    let (kept, others) = order.split_at_mut(COLORS.len() - 1);
    kept.sort_unstable();
    let row = |row: &Vec<u64>| {
        let rest: u64 = others.iter().map(|&part| row[part]).sum();
        kept.iter().map(|&part| row[part]).chain([rest]).collect()
    };
    let rest = format!("{} others", others.len());
    let names = kept.iter().map(|&part| parts[part].clone()).chain([rest]);
    (names.collect(), counts.iter().map(row).collect())
}

fn mixed(counts: &[Vec<u64>]) -> usize {
    let is_mixed = |row: &&Vec<u64>| {
        let most = row.iter().max().copied().unwrap_or(0);
        (most as f64) < 0.9 * row.iter().sum::<u64>() as f64
    };
    counts.iter().filter(is_mixed).count()
}

fn cross_table(
    view: &View,
    (main, rows): (&Annotation, &[String]),
    (other, parts): (&Annotation, &[String]),
    counts: &[Vec<u64>],
) -> Markup {
    let title = format!(
        "Cells of {} by {} and {}",
        view.name(),
        main.name,
        other.name
    );
    let mut table = Table {
        title: shortened(&title),
        columns: vec![main.name.clone()],
        ..Table::default()
    };
    table.columns.extend(parts.iter().cloned());
    table.rows = rows
        .iter()
        .zip(counts)
        .map(|(name, counts)| {
            let numbers = counts.iter().map(|&count| Cell::count(count));
            [Cell::text(name)].into_iter().chain(numbers).collect()
        })
        .collect();
    table.render()
}

fn training(runs: &[Found]) -> Markup {
    let trained: Vec<(usize, &Found)> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| !run.curve.is_empty())
        .collect();
    html! {
        @if trained.is_empty() { (empty("No training curves.", "Provide the model directory of scgpt-pretrain, scgpt-finetune-annotation, scgpt-finetune-perturbation or scgpt-integrate --model to show this section.")) }
        @if trained.iter().any(|(_, run)| run.curve.len() > POINTS) { p.note { "Longer curves are thinned evenly to about " (POINTS) " points." } }
        div.pair { @for (at, run) in trained { (training_curves(at, run)) } }
    }
}

/// Values by step, by name, with whether they are of validation.
type Curves = BTreeMap<String, (bool, Vec<(f64, f64)>)>;

/// Losses and other values of training and validation; a loss with a single term is included once.
fn curves(steps: &[Value]) -> Curves {
    let mut parts = Curves::new();
    for step in steps {
        let Some(x) = step.get("step").and_then(Value::as_f64) else {
            continue;
        };
        for (side, is_validation) in [("training", false), ("validation", true)] {
            for (part, value) in step
                .get(side)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                if let Some(value) = value.as_f64().filter(|value| value.is_finite()) {
                    parts
                        .entry(format!("{part}, {side}"))
                        .or_insert((is_validation, Vec::new()))
                        .1
                        .push((x, value));
                }
            }
        }
    }
    for side in ["training", "validation"] {
        let whole = format!("loss, {side}");
        let Some((_, loss)) = parts.get(&whole).cloned() else {
            continue;
        };
        parts
            .retain(|name, (_, points)| *name == whole || !name.ends_with(side) || *points != loss);
    }
    parts
}

/// Losses, accuracies and learning rate of a run.
fn training_curves(at: usize, run: &Found) -> Markup {
    let name = shortened(&provenance::label(at, &run.record));
    let parts = curves(&run.curve);
    let number = |step: &Value, key: &str| step.get(key).and_then(Value::as_f64);
    let rates: Vec<(f64, f64)> = run
        .curve
        .iter()
        .filter_map(|step| Some((number(step, "step")?, number(step, "learning_rate")?)))
        .collect();
    let [losses, accuracies] = [false, true].map(|is_accuracy| selected(&parts, is_accuracy));
    html! {
        @if !losses.is_empty() { (figure(&format!("Loss of {name}"), &loss_summary(&parts), &lines(&losses, ["step", "loss"]))) }
        @if !accuracies.is_empty() { (figure(&format!("Accuracy of {name}"), "Accuracy during training.", &lines(&accuracies, ["step", "accuracy"]))) }
        @if rates.len() > 1 {
            (figure(&format!("Learning rate of {name}"), &format!("From {} to {}.", tick(rates[0].1), tick(rates[rates.len() - 1].1)), &lines(&[line("learning rate", &rates, false)], ["step", "learning rate"])))
        }
    }
}

/// Lines of the accuracies, or of all other values.
fn selected(parts: &Curves, is_accuracy: bool) -> Vec<Line> {
    parts
        .iter()
        .filter(|(name, _)| name.starts_with("accuracy") == is_accuracy)
        .map(|(name, (dashed, points))| line(name, points, *dashed))
        .collect()
}

fn line(name: &str, points: &[(f64, f64)], dashed: bool) -> Line {
    Line {
        name: shortened(name),
        points: thinned(points),
        dashed,
    }
}

fn loss_summary(parts: &Curves) -> String {
    let ends = |name: &str| {
        parts
            .get(name)
            .map(|(_, points)| (points[0].1, points[points.len() - 1].1))
    };
    match (ends("loss, training"), ends("loss, validation")) {
        (Some(training), Some(validation)) => {
            let lowest = parts["loss, validation"]
                .1
                .iter()
                .map(|point| point.1)
                .fold(f64::INFINITY, f64::min);
            format!(
                "The training loss changed from {:.3} to {:.3}, the validation loss from {:.3} to {:.3} (lowest {lowest:.3}).",
                training.0, training.1, validation.0, validation.1
            )
        }
        (Some(training), None) => format!(
            "The training loss changed from {:.3} to {:.3}.",
            training.0, training.1
        ),
        _ => String::new(),
    }
}

/// Evenly thinned points of a curve, including the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(at, _)| at % every == 0 || *at == last)
        .map(|(_, point)| *point)
        .collect()
}

/// Composition of corpora, from the records of scgpt-tokenize.
fn corpus(runs: &[Found]) -> Markup {
    let made: Vec<_> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| run.record.program == "scgpt-tokenize")
        .collect();
    html! {
        @if made.is_empty() { (empty("No corpus.", "Provide the output directory of scgpt-tokenize to show this section: cells by tissue, study or disease.")) }
        @for (at, run) in made {
            @let composition = run.record.metrics.get("composition").and_then(Value::as_object);
            @let cells = provenance::number(&run.record.metrics, &["cells"]).unwrap_or(0.0);
            @if composition.is_none_or(|composition| composition.is_empty()) {
                (empty(&format!("{}: {} cells.", shortened(&provenance::label(at, &run.record)), number(cells, 0)), "The inputs had no annotations such as tissue, study or disease: add them to obs or to the sample sheet to count cells by these."))
            }
            div.pair { @for (column, counts) in composition.into_iter().flatten() { (composed((at, run), column, counts, cells)) } }
        }
    }
}

fn composed((at, run): (usize, &Found), column: &str, counts: &Value, cells: f64) -> Markup {
    let mut counts: Vec<(&str, f64)> = counts
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, count)| Some((name.as_str(), count.as_f64()?)))
        .collect();
    counts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let title = format!(
        "{} of {}",
        shortened(column),
        shortened(&provenance::label(at, &run.record))
    );
    let Some(&(name, count)) = counts.first() else {
        return html! {};
    };
    let takeaway = format!(
        "{} of {} cells ({:.0} %) are {}.{}",
        number(count, 0),
        number(cells, 0),
        count / cells.max(1.0) * 100.0,
        shortened(name),
        first(ROWS, counts.len(), "group")
    );
    let drawn: Vec<Bar> = counts
        .iter()
        .take(ROWS)
        .map(|(name, count)| Bar {
            name: (*name).into(),
            value: *count,
            group: 0,
        })
        .collect();
    let note = first(COUNTED, counts.len(), "row");
    let mut table = Table::new(&format!("Cells by {title}"), note, &[column, "cells"]);
    table.rows = counts
        .iter()
        .take(COUNTED)
        .map(|(name, count)| vec![Cell::text(*name), Cell::Number(*count, 0)])
        .collect();
    figure_with(
        &title,
        &takeaway,
        &bars(&drawn, "cells", &|value| number(value, 0), &[]),
        &table.render(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_cells_are_explained() {
        assert_eq!(plotted(200, 200, 200), "All 200 cells.");
        assert_eq!(
            plotted(100, 200, 100),
            "A random sample of 100 of 200 cells."
        );
        assert_eq!(
            plotted(190, 200, 1_000),
            "190 of 200 cells; the others have no coordinates."
        );
    }

    #[test]
    fn all_parts_of_a_bar_have_distinct_colors() {
        let many = COLORS.len() + 4;
        let parts: Vec<String> = (0..many).map(|part| format!("part {part}")).collect();
        // The first parts are the rarest.
        let counts = vec![(0..many as u64).collect::<Vec<_>>(); 2];
        let (names, merged) = distinct(&parts, &counts);
        assert_eq!((names.len(), merged[0].len()), (COLORS.len(), COLORS.len()));
        assert_eq!(names[0], "part 5");
        assert_eq!(names.last().map(String::as_str), Some("5 others"));
        assert_eq!((merged[1][0], merged[1].last()), (5, Some(&10)));
        let few = distinct(&parts[..COLORS.len()], &counts);
        assert_eq!(few.0, parts[..COLORS.len()]);
    }
}
