//! What the runs were: versions, options, files with checksums, warnings.

use maud::{Markup, html};
use serde_json::Value;

use crate::report::gather::Found;
use crate::report::html::{Cell, Table, bytes, cut, empty, number, plural, shortened, text};
use crate::report::lineage;
use crate::report::page::Content;
use crate::run_record::Artefact;

/// Runs, files or options, notes of a run, and warnings that are listed.
const RUNS: usize = 200;
const FILES: usize = 100;
const SENTENCES: usize = 100;
const WARNINGS: usize = 500;

/// What is said where a list is too long to be shown: ` The first 40 of 62 groups are shown.` Nothing of shorter ones.
pub fn first(shown: usize, all: usize, what: &str) -> String {
    if all <= shown {
        return String::new();
    }
    format!(
        " The first {} of {} are shown.",
        number(shown as f64, 0),
        plural(all, what)
    )
}

/// The tab.
pub fn section(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    html! {
        @if runs.is_empty() { (empty("No run records.", "The run.json files that every program writes fill this.")) }
        (warnings(content))
        (list(runs))
        (cells(content))
        @for (at, run) in runs.iter().enumerate().take(RUNS) { (details(at, run)) }
        (rest(RUNS, runs.len(), "run"))
    }
}

fn warnings(content: &Content) -> Markup {
    let mut table = Table::new("Warnings", "", &["where", "what"]);
    for (at, run) in content.evidence.runs.iter().enumerate() {
        let name = lineage::label(at, &run.record);
        let said = run.record.error.iter().chain(&run.record.warnings);
        table
            .rows
            .extend(said.map(|said| vec![Cell::text(&name), Cell::text(said)]));
    }
    table.rows.extend(
        content
            .evidence
            .problems
            .iter()
            .map(|problem| vec![Cell::text("this report"), Cell::text(problem)]),
    );
    table.note = first(WARNINGS, table.rows.len(), "warning");
    table.rows.truncate(WARNINGS);
    table.render()
}

fn list(runs: &[Found]) -> Markup {
    let mut table = Table::new(
        "Runs",
        "",
        &[
            "run",
            "version",
            "started (UTC)",
            "time",
            "peak memory",
            "device",
            "exit code",
            "genes matched",
            "warnings",
        ],
    );
    table.rows = runs
        .iter()
        .enumerate()
        .map(|(at, run)| {
            let record = &run.record;
            vec![
                Cell::text(lineage::label(at, record)),
                Cell::text(&record.version),
                Cell::text(&record.started),
                lineage::whole(record).map_or(Cell::Missing, Cell::Seconds),
                record.peak_memory.map_or(Cell::Missing, Cell::Bytes),
                record.device.as_ref().map_or(Cell::Missing, Cell::text),
                Cell::count(record.exit_status),
                Cell::number(lineage::number(&record.metrics, &["genes_matched"]), 0),
                Cell::count(record.warnings.len()),
            ]
        })
        .collect();
    table.render()
}

/// Files whose cells the page shows.
fn cells(content: &Content) -> Markup {
    let columns = [
        "file",
        "cells",
        "cells shown",
        "columns",
        "grouped by",
        "written by",
    ];
    let mut table = Table::new("Files of cells", "", &columns);
    table.rows = content
        .views
        .iter()
        .map(|view| {
            let run = view
                .run
                .map(|at| lineage::label(at, &content.evidence.runs[at].record));
            vec![
                Cell::text(view.path.to_string_lossy()),
                Cell::count(view.n_cells),
                Cell::count(view.sample.len()),
                Cell::count(view.n_columns),
                view.main()
                    .map_or(Cell::Missing, |main| Cell::text(&main.name)),
                run.map_or(Cell::Missing, Cell::text),
            ]
        })
        .collect();
    table.render()
}

fn details(at: usize, run: &Found) -> Markup {
    let record = &run.record;
    html! {
        details.run {
            summary { (text(&lineage::label(at, record))) }
            @if !record.notes.is_empty() { ul { @for note in record.notes.iter().take(SENTENCES) { li { (long(note)) } } } }
            (rest(SENTENCES, record.notes.len(), "note"))
            dl { @for (name, value) in record.options.iter().take(FILES) { @if !value.is_null() { div { dt { (text(name)) } dd { (text(&plain(value))) } } } } }
            (rest(FILES, record.options.len(), "option"))
            (files("Inputs", &record.inputs))
            (files("Outputs", &record.outputs))
        }
    }
}

fn rest(shown: usize, all: usize, what: &str) -> Markup {
    html! { @if all > shown { p.note { (first(shown, all, what)) } } }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A sentence of a record, which may be a long one.
fn long(sentence: &str) -> Markup {
    html! { bdi { (cut(sentence, 600)) } }
}

fn files(what: &str, files: &[Artefact]) -> Markup {
    html! {
        @if !files.is_empty() {
            h4 { (what) }
            ul.files { @for file in files.iter().take(FILES) { li { (text(&file.path.to_string_lossy())) " " small { (bytes(file.size)) } " " @if !file.sha256.is_empty() { code { (shortened(&file.sha256)) } } } } }
            (rest(FILES, files.len(), "file"))
        }
    }
}
