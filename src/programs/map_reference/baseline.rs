//! What neighbours among principal components of expression say of the same cells: the method to beat.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, Axis};

use super::query::{QueryOptions, Reference, frequencies};
use crate::analysis::components::Components;
use crate::analysis::search::{Nearest, Queries};
use crate::analysis::vote::{Rule, shares, winner};
use crate::cells::{self, Cells};
use crate::counts::Counts;
use crate::expression::normalise::{Target, log1p, normalise_total};
use crate::expression::select_genes::{Flavour, select_genes};
use crate::failure::Failure;
use crate::run_record::Run;

/// Highly variable genes, and principal components of them.
const GENES: usize = 2000;
const COMPONENTS: usize = 50;
/// Values that are compared at once (64 MB).
const BLOCK: usize = 1 << 24;

/// The label of every cell of the input by a majority of its neighbours among principal components.
pub fn labels(
    options: &QueryOptions,
    reference: &Reference,
    run: &mut Run,
) -> Result<Vec<Option<usize>>> {
    let mut files = Vec::new();
    for path in &options.baseline {
        run.input(path)?;
        files.push(Cells::open(path, &cells::Options::default(), None)?);
    }
    let query = Cells::open(&options.input, &cells::Options::default(), None)?;
    let genes = shared_genes(&files, &query, &options.baseline)?;
    let parts = files
        .iter()
        .map(|file| logarithms(file, &genes))
        .collect::<Result<Vec<_>>>()?;
    let (kept, coordinates) = project(&parts, &logarithms(&query, &genes)?)?;
    run.note(format!(
        "baseline: {COMPONENTS} principal components of {kept} of {} genes that all files have",
        genes.len()
    ));
    let column = options
        .label
        .as_ref()
        .unwrap_or(&reference.atlas.manifest.label);
    let mut codes = Vec::new();
    for file in &files {
        let code = |label: &Option<String>| reference.classes.binary_search(label.as_ref()?).ok();
        codes.extend(
            file.labels(column)?
                .iter()
                .map(|label| code(label).map(|code| code as u32)),
        );
    }
    Ok(vote(
        coordinates,
        &codes,
        options.neighbours,
        reference.classes.len(),
    ))
}

/// Genes that all files have, in the order of the input.
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
            .map(|path| Path::new(path).display().to_string())
            .collect();
        return Err(Failure::Input.error(format!(
            "the input has no gene in common with `{}`: are these the same gene names?",
            paths.join("`, `")
        )));
    }
    Ok(genes)
}

fn logarithms(cells: &Cells, genes: &[String]) -> Result<Counts> {
    let columns = cells.columns(genes)?;
    let mut counts = cells.read_linear(0..cells.n_cells(), &columns)?;
    normalise_total(&mut counts, Target::Sum(1e4))?;
    log1p(&mut counts)?;
    Ok(counts)
}

/// Reference and query on the components of the reference, and the number of genes behind them.
fn project(reference: &[Counts], query: &Counts) -> Result<(usize, [Array2<f32>; 2])> {
    let rows = reference.iter().flat_map(|part| part.rows());
    let pairs = |(genes, values): (&[u32], &[f32])| {
        genes
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect::<Vec<_>>()
    };
    let all = Counts::from_rows(query.n_genes, rows.map(pairs));
    let kept = select_genes(&all, GENES, Flavour::CellRanger, None)?.kept;
    let dense = all.select_genes(&kept).to_dense();
    let found = Components::fit(dense.view(), COMPONENTS)?;
    let place = |rows: Array2<f32>| found.transform(rows.view()).mapv(|value| value as f32);
    Ok((
        kept.len(),
        [place(dense), place(query.select_genes(&kept).to_dense())],
    ))
}

fn vote(
    [reference, query]: [Array2<f32>; 2],
    codes: &[Option<u32>],
    k: usize,
    classes: usize,
) -> Vec<Option<usize>> {
    let frequencies = frequencies(codes, classes);
    let n = query.nrows();
    let queries = Queries::new(query);
    let all: Vec<usize> = (0..n).collect();
    let mut nearest = Nearest::new(n, k);
    let step = (BLOCK / 128).max(1);
    for (at, block) in reference.axis_chunks_iter(Axis(0), step).enumerate() {
        nearest.offer(&queries, &all, block, (at * step) as u64);
    }
    let found = nearest.into_found().into_iter();
    found
        .map(|found| {
            winner(&shares(
                Rule::Majority,
                &found,
                |row| codes[row as usize],
                &frequencies,
            ))
        })
        .collect()
}
