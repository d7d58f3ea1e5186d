//! The page: its parts in order, with style and script in it and nothing from elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::attention::{self, Matrix};
use super::cells::{View, Wanted};
use super::gather::Evidence;
use super::html::shortened;
use super::markers::Markers;
use super::tabs;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Files of cells that are shown; each adds up to a megabyte.
const MOST_VIEWS: usize = 4;
/// Files whose marker genes are computed.
const MOST_MARKERS: usize = 2;
/// Matrices of attention that are shown.
const MOST_MATRICES: usize = 4;

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
    pub choice: Choice,
}

impl Content {
    /// Reads the files of cells that the evidence names. What cannot be read becomes a problem that the page tells.
    pub fn read(mut evidence: Evidence, choice: Choice) -> Self {
        let (mut views, mut attention) = (Vec::new(), Vec::new());
        let wanted = Wanted {
            cells: choice.cells,
            colour: choice.colour.as_deref(),
            seed: choice.seed,
        };
        // What the last runs wrote is what a user looks for.
        for (path, run) in evidence.cells.iter().rev() {
            match View::read(path, *run, wanted) {
                Ok(Some(view)) if views.len() < MOST_VIEWS => views.push(view),
                Ok(Some(_)) => evidence.problems.push(format!(
                    "`{}` is not shown: a page shows the cells of {MOST_VIEWS} files",
                    path.display()
                )),
                Ok(None) => {}
                Err(error) => evidence.problems.push(error.to_string()),
            }
            match attention::matrices(path, &choice.genes) {
                Ok(found) => attention.extend(found),
                Err(error) => evidence.problems.push(error.to_string()),
            }
        }
        attention.truncate(MOST_MATRICES);
        let mut content = Self {
            evidence,
            views,
            markers: Vec::new(),
            attention,
            choice,
        };
        content.compare_groups();
        content.look_for_chosen();
        content
    }

    /// Says which column and genes that were asked for are nowhere.
    fn look_for_chosen(&mut self) {
        let has_column = |name: &str| {
            self.views
                .iter()
                .flat_map(|view| &view.annotations)
                .any(|column| column.name == name)
        };
        let missing = self.choice.colour.iter().filter(|name| !has_column(name));
        let column = missing.map(|name| {
            format!("`--colour {name}`: no file of cells has this column with values to show")
        });
        let has_gene = |name: &String| {
            self.markers
                .iter()
                .any(|(_, markers)| markers.genes.contains(name))
                || self
                    .attention
                    .iter()
                    .any(|matrix| matrix.genes.contains(name))
        };
        let genes = self.choice.genes.iter().filter(|name| !has_gene(name));
        let gene =
            genes.map(|name| format!("`--genes {name}`: no file that is shown has this gene"));
        let problems: Vec<String> = column.chain(gene).collect();
        self.evidence.problems.extend(problems);
    }

    fn compare_groups(&mut self) {
        for (at, view) in self.views.iter().enumerate() {
            let Some((names, codes)) = view
                .main()
                .and_then(|main| main.categories())
                .filter(|_| self.markers.len() < MOST_MARKERS)
            else {
                continue;
            };
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
                footer { "Written by scgpt-report " (env!("CARGO_PKG_VERSION")) ". Every number is from a run record or was computed from the files that the tab Runs lists." }
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
