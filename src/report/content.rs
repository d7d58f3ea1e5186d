//! What the report shows: run records, tables, and views of h5ad files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::attention::{self, Matrix};
use super::cells::{self, View, WIDEST, Wanted};
use super::collect::Evidence;
use super::markers::Markers;
use crate::formats::Error;

/// Maximum number of h5ad files with plotted cells; each adds up to a megabyte.
const MOST_VIEWS: usize = 4;
/// Maximum number of files with marker genes.
const MOST_MARKERS: usize = 2;
/// Maximum number of attention matrices.
const MOST_MATRICES: usize = 4;
/// Maximum number of genes of `--genes`; each adds a column to every heatmap.
const MOST_GENES: usize = 100;

/// Settings of the report.
#[derive(Debug, Clone)]
pub struct Choice {
    pub title: String,
    /// Column of obs that colors cells.
    pub color: Option<String>,
    /// Maximum number of plotted cells per file.
    pub cells: usize,
    /// Genes of the heatmaps; else the top genes.
    pub genes: Vec<String>,
    /// Marker genes per group.
    pub markers: usize,
    pub seed: u64,
}

/// Data of all tabs.
#[derive(Debug)]
pub struct Content {
    pub evidence: Evidence,
    pub views: Vec<View>,
    /// With the index of their view.
    pub markers: Vec<(usize, Markers)>,
    pub attention: Vec<Matrix>,
    /// Files from which views and matrices were read.
    pub read: Vec<PathBuf>,
    pub choice: Choice,
}

impl Content {
    /// Reads the h5ad files of the evidence. Failures are recorded as problems, which the report lists.
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
            let added = content.add_cells(&path, run);
            let added = [added, content.add_attention(&path)];
            content.check_file(&path, run, added);
        }
        content.compare_groups();
        content.check_column();
        content.check_genes();
        content.evidence.problems.sort();
        content.evidence.problems.dedup();
        content
    }

    fn problem(&mut self, problem: String) {
        self.evidence.problems.push(problem);
    }

    /// Keeps the first genes of `--genes`, each once.
    fn limit_genes(&mut self) {
        let mut seen = HashSet::new();
        self.choice.genes.retain(|gene| seen.insert(gene.clone()));
        let n = self.choice.genes.len();
        if n > MOST_GENES {
            self.choice.genes.truncate(MOST_GENES);
            self.problem(format!(
                "`--genes`: only the first {MOST_GENES} of {n} genes are included"
            ));
        }
    }

    /// Adds the cells of a file; false if it has no cell embedding.
    fn add_cells(&mut self, path: &Path, run: Option<usize>) -> Result<bool, Error> {
        if self.views.len() >= MOST_VIEWS {
            let has_more = cells::has_embedding(path)?;
            if has_more {
                self.problem(format!("`{}` is omitted: a report includes the cells of {MOST_VIEWS} files, those of the latest runs first", path.display()));
            }
            return Ok(has_more);
        }
        let wanted = Wanted {
            cells: self.choice.cells,
            color: self.choice.color.as_deref(),
            seed: self.choice.seed,
        };
        let view = View::read(path, run, wanted)?;
        let is_included = view.is_some();
        self.read.extend(is_included.then(|| path.to_owned()));
        self.views.extend(view);
        Ok(is_included)
    }

    /// Adds the attention matrices of a file; false if it has none.
    fn add_attention(&mut self, path: &Path) -> Result<bool, Error> {
        let room = MOST_MATRICES - self.attention.len();
        let (matrices, left) = attention::matrices(path, &self.choice.genes, room)?;
        if left > 0 {
            self.problem(format!("`{}`: {left} attention matrices are omitted: a report includes {MOST_MATRICES}, those of the latest runs first", path.display()));
        }
        let (has_some, is_included) = (left > 0 || !matrices.is_empty(), !matrices.is_empty());
        self.read.extend(is_included.then(|| path.to_owned()));
        self.attention.extend(matrices);
        Ok(has_some)
    }

    /// Records the errors of a file, and given files that have no content for the report.
    fn check_file(&mut self, path: &Path, run: Option<usize>, added: [Result<bool, Error>; 2]) {
        if run.is_none() && added.iter().all(|added| matches!(added, Ok(false))) {
            self.problem(format!("`{}` has no content for the report: no cell embedding (2 to {WIDEST} columns) in obsm, no attention between genes (attention_..., difference_...) in obsp", path.display()));
        }
        for error in added.into_iter().filter_map(Result::err) {
            self.problem(error.to_string());
        }
    }

    /// Records the files in which the column of `--color` does not group the cells.
    fn check_column(&mut self) {
        let Some(name) = self.choice.color.clone() else {
            return;
        };
        let has_column = |view: &View| view.annotations.iter().any(|column| column.name == name);
        if !self.views.iter().any(has_column) {
            self.problem(format!(
                "`--color {name}`: no h5ad file has this column with categories or numbers"
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
                "is numeric and defines no groups"
            } else {
                "is missing"
            };
            format!(
                "`--color {name}`: in `{}` this column {why}; cells are grouped by {}",
                view.path.display(),
                main(view).unwrap_or("nothing".into())
            )
        };
        let problems: Vec<String> = others.map(problem).collect();
        self.evidence.problems.extend(problems);
    }

    /// Records the genes of `--genes` that no heatmap contains.
    fn check_genes(&mut self) {
        let markers = self.markers.iter().map(|(_, markers)| &markers.genes);
        let genes = markers.chain(self.attention.iter().map(|matrix| &matrix.genes));
        let known: HashSet<&String> = genes.flatten().collect();
        let missing = self
            .choice
            .genes
            .iter()
            .filter(|gene| !known.contains(gene));
        let why = if known.is_empty() {
            "the report has no heatmap of genes"
        } else {
            "no included file has this gene"
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
                    "no marker genes for `{}`: a report includes those of {MOST_MARKERS} files",
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

    /// Whether the report would be empty.
    pub fn is_empty(&self) -> bool {
        self.evidence.runs.is_empty()
            && self.evidence.tables.is_empty()
            && self.views.is_empty()
            && self.attention.is_empty()
    }
}
