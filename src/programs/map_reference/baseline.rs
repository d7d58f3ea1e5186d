//! Baseline of label transfer: kNN on principal components of expression.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rayon::prelude::*;

use super::query_options::QueryOptions;
use super::reference::{Reference, frequencies};
use crate::analysis::components::Components;
use crate::analysis::knn_vote::{vote_fractions, winner};
use crate::analysis::search::{Nearest, Queries};
use crate::cells::{self, Cells};
use crate::counts::Counts;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::expression::select_genes::{Flavor, select_genes};
use crate::failure::Failure;
use crate::random::{Seed, sample};
use crate::run_record::Run;

/// Number of highly variable genes, and of their principal components.
const GENES: usize = 2000;
const COMPONENTS: usize = 50;
/// Maximum number of reference cells from which genes are selected and components computed.
const SAMPLE: usize = 20_000;
/// Expression values read at once (256 MB), and cells in a dense block (32 MB).
const READ: usize = 1 << 25;
const DENSE: usize = 4096;
/// Query cells of one parallel task.
const TASK: usize = 512;

/// Expression of the reference cells and of the query cells.
pub struct Baseline {
    files: Vec<Cells>,
    query: Cells,
    /// Genes that all files contain.
    genes: Vec<String>,
    /// The label of every reference cell, file after file.
    codes: Vec<Option<u32>>,
}

/// The space in which distances are computed.
struct Space {
    /// Indices of the selected genes among the shared genes.
    kept: Vec<usize>,
    components: Components,
}

impl Baseline {
    /// Opens the files; fails, before anything is computed, if one has no expression or no column of labels.
    pub fn open(options: &QueryOptions, reference: &Reference, run: &mut Run) -> Result<Self> {
        let column = options.label.as_ref();
        let column = column.unwrap_or(&reference.index.manifest.label);
        let code = |label: &Option<String>| {
            let found = reference.classes.binary_search(label.as_ref()?);
            found.ok().map(|code| code as u32)
        };
        let (mut files, mut codes) = (Vec::new(), Vec::new());
        for path in &options.baseline {
            run.input(path)?;
            let file = Cells::open(path, &cells::Options::default(), None)?;
            codes.extend(file.labels(column)?.iter().map(code));
            files.push(file);
        }
        let query = Cells::open(&options.input, &cells::Options::default(), None)?;
        Ok(Self {
            genes: shared_genes(&files, &query, &options.baseline)?,
            files,
            query,
            codes,
        })
    }

    /// The label of every query cell by the vote of its neighbors in principal component space.
    pub fn labels(
        &self,
        options: &QueryOptions,
        reference: &Reference,
        run: &mut Run,
    ) -> Result<Vec<Option<usize>>> {
        let space = self.fit()?;
        run.note(format!(
            "baseline: {COMPONENTS} principal components of {} of {} shared genes, computed from {} reference cells",
            space.kept.len(),
            self.genes.len(),
            self.codes.len().min(SAMPLE)
        ));
        let mut searches = self.searches(&space, options.n_neighbors)?;
        let mut first = 0;
        for file in &self.files {
            self.each(file, |_, counts| {
                space.each(counts, |rows| {
                    searches.par_iter_mut().for_each(|(queries, nearest)| {
                        let all: Vec<usize> = (0..queries.len()).collect();
                        nearest.offer(queries, &all, rows, first);
                    });
                    first += rows.nrows() as u64;
                });
            })?;
        }
        let frequencies = frequencies(&self.codes, reference.classes.len());
        let class_of = |row: u64| self.codes[row as usize];
        let labels = searches.into_par_iter().flat_map_iter(|(_, nearest)| {
            let label = |found: Vec<_>| {
                winner(&vote_fractions(
                    options.weights,
                    &found,
                    class_of,
                    &frequencies,
                ))
            };
            nearest.into_found().into_iter().map(label)
        });
        Ok(labels.collect())
    }

    /// Selects genes and computes components from a random sample of reference cells, or from all if they are few.
    fn fit(&self) -> Result<Space> {
        let mut stream = Seed(0).stream("baseline sample", &[]);
        let mut chosen = sample(&mut stream, self.codes.len(), SAMPLE);
        chosen.sort_unstable();
        let mut sampled = Counts::empty(self.genes.len());
        let mut first = 0;
        for file in &self.files {
            self.each(file, |start, counts| {
                let start = first + start;
                let from = chosen.partition_point(|&cell| cell < start);
                let to = chosen.partition_point(|&cell| cell < start + counts.n_cells());
                for cell in &chosen[from..to] {
                    let (genes, values) = counts.row(cell - start);
                    sampled.push(genes.iter().copied().zip(values.iter().copied()));
                }
            })?;
            first += file.n_cells();
        }
        let kept = select_genes(&sampled, GENES, Flavor::CellRanger, None)?.kept;
        let dense = sampled.select_genes(&kept).to_dense();
        let components = Components::fit(dense.view(), COMPONENTS)?;
        Ok(Space { kept, components })
    }

    /// The query cells in principal component space, without neighbors yet.
    fn searches(&self, space: &Space, k: usize) -> Result<Vec<(Queries, Nearest)>> {
        let mut parts: Vec<Array2<f32>> = Vec::new();
        self.each(&self.query, |_, counts| {
            space.each(counts, |rows| parts.push(rows.to_owned()));
        })?;
        let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let rows = concatenate(Axis(0), &parts)?;
        let search = |rows: ArrayView2<'_, f32>| {
            let queries = Queries::new(rows.to_owned());
            let nearest = Nearest::new(queries.len(), k);
            (queries, nearest)
        };
        Ok(rows.axis_chunks_iter(Axis(0), TASK).map(search).collect())
    }

    /// Passes log-normalized expression of blocks of cells, and the index of the first cell of each, to `work`.
    fn each(&self, file: &Cells, mut work: impl FnMut(usize, &Counts)) -> Result<()> {
        let columns = file.columns(&self.genes)?;
        for range in file.blocks(READ)? {
            let first = range.start;
            let mut counts = file.read_linear(range, &columns)?;
            normalize_total(&mut counts, Target::Sum(1e4))?;
            log1p(&mut counts)?;
            work(first, &counts);
        }
        Ok(())
    }
}

impl Space {
    /// Passes principal components of blocks of cells, [cells, components], to `work`.
    fn each(&self, counts: &Counts, mut work: impl FnMut(ArrayView2<'_, f32>)) {
        let counts = counts.select_genes(&self.kept);
        let all: Vec<usize> = (0..counts.n_cells()).collect();
        for cells in all.chunks(DENSE) {
            let dense = counts.select_cells(cells).to_dense();
            let rows = self.components.transform(dense.view());
            work(rows.mapv(|value| value as f32).view());
        }
    }
}

/// Genes that all files contain, in the order of the input.
fn shared_genes(files: &[Cells], query: &Cells, paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut genes = query.genes.clone();
    let mut seen = HashSet::new();
    genes.retain(|gene| seen.insert(gene.clone()));
    for file in files {
        let theirs: HashSet<&String> = file.genes.iter().collect();
        genes.retain(|gene| theirs.contains(gene));
    }
    if genes.is_empty() {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::Input.error(format!(
            "the input has no gene in common with `{}`: check that both use the same gene identifiers",
            paths.join("`, `")
        )));
    }
    Ok(genes)
}
