//! Runs: versions, options, files with checksums, warnings.

use maud::{Markup, html};
use serde_json::Value;

use crate::report::collect::Found;
use crate::report::content::Content;
use crate::report::html::{Cell, Table, bytes, cut, empty, number, plural, shortened, text};
use crate::report::provenance;
use crate::run_record::Artefact;

/// Maximum number of runs, of files or options, of notes of a run, and of warnings.
const RUNS: usize = 200;
const FILES: usize = 100;
const NOTES: usize = 100;
const WARNINGS: usize = 500;

/// Note for truncated lists, such as ` Only the first 40 of 62 groups are included.`; empty for complete ones.
pub fn first(shown: usize, all: usize, what: &str) -> String {
    if all <= shown {
        return String::new();
    }
    format!(
        " Only the first {} of {} are included.",
        number(shown as f64, 0),
        plural(all, what)
    )
}

/// The tab.
pub fn section(content: &Content) -> Markup {
    let runs = &content.evidence.runs;
    html! {
        @if runs.is_empty() { (empty("No run records.", "Provide the run.json files that every program writes to show this section.")) }
        (warnings(content))
        (list(runs))
        (cells(content))
        @for (at, run) in runs.iter().enumerate().take(RUNS) { (details(at, run)) }
        (rest(RUNS, runs.len(), "run"))
    }
}

fn warnings(content: &Content) -> Markup {
    let mut table = Table::new("Warnings", "", &["source", "message"]);
    for (at, run) in content.evidence.runs.iter().enumerate() {
        let name = provenance::label(at, &run.record);
        let messages = run.record.error.iter().chain(&run.record.warnings);
        table
            .rows
            .extend(messages.map(|message| vec![Cell::text(&name), Cell::text(message)]));
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
                Cell::text(provenance::label(at, record)),
                Cell::text(&record.statement.scgpt_tools_version),
                Cell::text(&record.started),
                provenance::total(record).map_or(Cell::Missing, Cell::Seconds),
                record.peak_memory.map_or(Cell::Missing, Cell::Bytes),
                record.device.as_ref().map_or(Cell::Missing, Cell::text),
                Cell::count(record.exit_status),
                Cell::number(provenance::number(&record.metrics, &["genes_matched"]), 0),
                Cell::count(record.warnings.len()),
            ]
        })
        .collect();
    table.render()
}

/// h5ad files whose cells are plotted.
fn cells(content: &Content) -> Markup {
    let columns = [
        "file",
        "cells",
        "cells plotted",
        "columns",
        "grouped by",
        "written by",
    ];
    let mut table = Table::new("h5ad files", "", &columns);
    table.rows = content
        .views
        .iter()
        .map(|view| {
            let run = view
                .run
                .map(|at| provenance::label(at, &content.evidence.runs[at].record));
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
            summary { (text(&provenance::label(at, record))) }
            @if !record.notes.is_empty() { ul { @for note in record.notes.iter().take(NOTES) { li { (long(note)) } } } }
            (rest(NOTES, record.notes.len(), "note"))
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

/// A note of a record, which may be long.
fn long(note: &str) -> Markup {
    html! { bdi { (cut(note, 600)) } }
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
