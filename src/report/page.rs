//! The page: its parts in order, with style and script in it and nothing from elsewhere.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::attention::{self, Matrix};
use super::cells::{self, View, WIDEST, Wanted};
use super::gather::Evidence;
use super::html::shortened;
use super::markers::Markers;
use super::tabs;
use crate::formats::Error;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Files of cells that are shown; each adds up to a megabyte.
const MOST_VIEWS: usize = 4;
/// Files whose marker genes are computed.
const MOST_MARKERS: usize = 2;
/// Matrices of attention that are shown.
const MOST_MATRICES: usize = 4;
/// Genes that can be chosen; each adds a column to every heat map.
const MOST_GENES: usize = 100;

/// What the page should show.
#[derive(Debug, Clone)]
pub struct Choice {
    pub title: String,
    /// Column of obs that colours cells.
    pub colour: Option<String>,
    /// Cells shown of a file, at most.
    pub cells: usize,
    /// Genes of the heat maps; else those that stand out.
    pub genes: Vec<String>,
    /// Marker genes per group.
    pub markers: usize,
    pub seed: u64,
}

/// Everything that the tabs draw from.
#[derive(Debug)]
pub struct Content {
    pub evidence: Evidence,
    pub views: Vec<View>,
    /// With the index of the view they belong to.
    pub markers: Vec<(usize, Markers)>,
    pub attention: Vec<Matrix>,
    /// Files that views and matrices were read from.
    pub read: Vec<PathBuf>,
    pub choice: Choice,
}

impl Content {
    /// Reads the files of cells that the evidence names. What cannot be read becomes a problem that the page tells.
    pub fn read(evidence: Evidence, choice: Choice) -> Self {
        let mut content = Self {
            evidence,
            views: Vec::new(),
            markers: Vec::new(),
            attention: Vec::new(),
            read: Vec::new(),
            choice,
        };
        content.limit_genes();
        for (path, run) in content.evidence.cells.clone() {
            let taken = content.take_cells(&path, run);
            let taken = [taken, content.take_attention(&path)];
            content.tell(&path, run, taken);
        }
        content.compare_groups();
        content.look_for_column();
        content.look_for_genes();
        content.evidence.problems.sort();
        content.evidence.problems.dedup();
        content
    }

    fn problem(&mut self, problem: String) {
        self.evidence.problems.push(problem);
    }

    /// Keeps the first of the chosen genes, each once.
    fn limit_genes(&mut self) {
        let mut seen = HashSet::new();
        self.choice.genes.retain(|gene| seen.insert(gene.clone()));
        let n = self.choice.genes.len();
        if n > MOST_GENES {
            self.choice.genes.truncate(MOST_GENES);
            self.problem(format!(
                "`--genes`: the first {MOST_GENES} of {n} genes are shown"
            ));
        }
    }

    /// Takes the cells of a file; false if it has none with an embedding.
    fn take_cells(&mut self, path: &Path, run: Option<usize>) -> Result<bool, Error> {
        if self.views.len() >= MOST_VIEWS {
            let has_more = cells::has_embedding(path)?;
            if has_more {
                self.problem(format!("`{}` is not shown: a page shows the cells of {MOST_VIEWS} files, those of the latest runs first", path.display()));
            }
            return Ok(has_more);
        }
        let wanted = Wanted {
            cells: self.choice.cells,
            colour: self.choice.colour.as_deref(),
            seed: self.choice.seed,
        };
        let view = View::read(path, run, wanted)?;
        let is_shown = view.is_some();
        self.read.extend(is_shown.then(|| path.to_owned()));
        self.views.extend(view);
        Ok(is_shown)
    }

    /// Takes the matrices of attention of a file; false if it has none.
    fn take_attention(&mut self, path: &Path) -> Result<bool, Error> {
        let room = MOST_MATRICES - self.attention.len();
        let (matrices, left) = attention::matrices(path, &self.choice.genes, room)?;
        if left > 0 {
            self.problem(format!("`{}`: matrices of attention that are not shown: {left}; a page shows {MOST_MATRICES}, those of the latest runs first", path.display()));
        }
        let (has_some, is_shown) = (left > 0 || !matrices.is_empty(), !matrices.is_empty());
        self.read.extend(is_shown.then(|| path.to_owned()));
        self.attention.extend(matrices);
        Ok(has_some)
    }

    /// Says what went wrong with a file, and where a file that no run wrote has nothing to show.
    fn tell(&mut self, path: &Path, run: Option<usize>, taken: [Result<bool, Error>; 2]) {
        if run.is_none() && taken.iter().all(|taken| matches!(taken, Ok(false))) {
            self.problem(format!("`{}` has nothing to show: no embedding of cells (2 to {WIDEST} columns) in obsm, no attention among genes (attention_..., difference_...) in obsp", path.display()));
        }
        for error in taken.into_iter().filter_map(Result::err) {
            self.problem(error.to_string());
        }
    }

    /// Says where the column that was asked for does not group the cells.
    fn look_for_column(&mut self) {
        let Some(name) = self.choice.colour.clone() else {
            return;
        };
        let has_column = |view: &View| view.annotations.iter().any(|column| column.name == name);
        if !self.views.iter().any(has_column) {
            self.problem(format!(
                "`--colour {name}`: no file of cells has this column with values to show"
            ));
            return;
        }
        let main = |view: &View| view.main().map(|main| main.name.clone());
        let others = self
            .views
            .iter()
            .filter(|view| main(view).as_ref() != Some(&name));
        let problem = |view: &View| {
            let why = if has_column(view) {
                "has numbers, which make no groups"
            } else {
                "is not there"
            };
            format!(
                "`--colour {name}`: in `{}` this column {why}; cells are grouped by {}",
                view.path.display(),
                main(view).unwrap_or("nothing".into())
            )
        };
        let problems: Vec<String> = others.map(problem).collect();
        self.evidence.problems.extend(problems);
    }

    /// Says which genes that were asked for are nowhere.
    fn look_for_genes(&mut self) {
        let markers = self.markers.iter().map(|(_, markers)| &markers.genes);
        let genes = markers.chain(self.attention.iter().map(|matrix| &matrix.genes));
        let known: HashSet<&String> = genes.flatten().collect();
        let missing = self
            .choice
            .genes
            .iter()
            .filter(|gene| !known.contains(gene));
        let why = if known.is_empty() {
            "the page has no heat map of genes"
        } else {
            "no file that is shown has this gene"
        };
        let problems: Vec<String> = missing
            .map(|gene| format!("`--genes {gene}`: {why}"))
            .collect();
        self.evidence.problems.extend(problems);
    }

    fn compare_groups(&mut self) {
        for (at, view) in self.views.iter().enumerate() {
            let Some((names, codes)) = view.main().and_then(|main| main.categories()) else {
                continue;
            };
            if self.markers.len() >= MOST_MARKERS {
                self.evidence.problems.push(format!(
                    "no marker genes for `{}`: a page has those of {MOST_MARKERS} files",
                    view.path.display()
                ));
                continue;
            }
            match Markers::compute(&view.path, names, codes) {
                Ok(found) => self.markers.extend(found.map(|markers| (at, markers))),
                Err(error) => self.evidence.problems.push(format!(
                    "no marker genes for `{}`: {error:#}",
                    view.path.display()
                )),
            }
        }
    }

    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        self.evidence.runs.is_empty()
            && self.evidence.tables.is_empty()
            && self.views.is_empty()
            && self.attention.is_empty()
    }
}

/// The page as HTML.
pub fn write(content: &Content) -> String {
    let sections = [
        ("overview", "Overview", tabs::overview::section(content)),
        (
            "expression",
            "Gene expression",
            tabs::expression::section(content),
        ),
        (
            "attention",
            "Attention analysis",
            tabs::attention::section(content),
        ),
        (
            "comparison",
            "Method comparison",
            tabs::comparison::section(content),
        ),
        ("runs", "Runs", tabs::runs::section(content)),
    ];
    let title = shortened(&content.choice.title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    (tabs::overview::headline(content))
                }
                nav { @for (id, name, _) in &sections { a href=(format!("#{id}")) { (name) } } }
                main { @for (id, name, section) in &sections { (framed(id, name, section)) } }
                footer { "Written by scgpt-report " (env!("CARGO_PKG_VERSION")) ". Every number is from a run record, a training curve or a table, or was computed from a file of cells or genes; the run record of this page lists the files." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn framed(id: &str, name: &str, section: &Markup) -> Markup {
    html! { section id=(id) { h2 { (name) } (section) } }
}

/// Nothing is loaded from anywhere, and no script but the page's own runs.
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    )
}
