//! Gene filters: a list, a minimum number of cells, and highly variable genes.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;

use super::Options;
use super::inputs::Inputs;
use super::piece::Piece;
use super::scan::Scan;
use super::stream::Reader;
use crate::counts::Counts;
use crate::expression::select_genes::{Flavor, select_genes};
use crate::failure::Failure;
use crate::formats;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::Values;

/// Maximum number of values in the sample from which highly variable genes are computed: a constant, so that the result does not
/// depend on the memory.
const SAMPLE_VALUES: usize = 1 << 22;

/// Selects genes by the options, and resolves the vocabulary of the corpus.
pub fn choose(options: &Options, inputs: &Inputs, scan: &mut Scan, run: &mut Run) -> Result<()> {
    if let Some(path) = &options.genes {
        keep_listed(path, scan)?;
    }
    if options.min_cells > 0 {
        keep_expressed(options, inputs, scan, run)?;
    }
    if options.n_hvg > 0 {
        keep_variable(options, inputs, scan, run)?;
    }
    scan.resolve()?;
    if scan.written.genes().next().is_none() || scan.n_kept() == 0 {
        return Err(Failure::Input
            .error("no gene is left: `--genes`, `--min-cells` and `--n-hvg` exclude all genes"));
    }
    Ok(())
}

fn keep_listed(path: &Path, scan: &mut Scan) -> Result<()> {
    let text = formats::read_text(path)?;
    let listed: HashSet<&str> = text.lines().map(str::trim).collect();
    scan.keep(|_, gene| listed.contains(gene));
    Ok(())
}

fn keep_expressed(
    options: &Options,
    inputs: &Inputs,
    scan: &mut Scan,
    run: &mut Run,
) -> Result<()> {
    let mut cells = vec![0u64; scan.vocabulary.len()];
    each_piece(options, inputs, scan, |piece| {
        piece
            .tokens
            .genes
            .iter()
            .for_each(|&gene| cells[gene as usize] += 1);
        Ok(())
    })?;
    let before = scan.n_kept();
    scan.keep(|id, _| cells[id] >= options.min_cells);
    let after = scan.n_kept();
    run.note(format!(
        "{} genes are expressed in fewer than {} cells and are dropped",
        before - after,
        options.min_cells
    ));
    Ok(())
}

/// Keeps highly variable genes, computed from all cells or, if there are many, from a random sample.
fn keep_variable(options: &Options, inputs: &Inputs, scan: &mut Scan, run: &mut Run) -> Result<()> {
    let (mut sample, mut fraction) = (Vec::new(), 1.0);
    let mut held = 0;
    let mut linear = true;
    each_piece(options, inputs, scan, |piece| {
        for (at, cell) in piece.cells.iter().enumerate() {
            let key = [piece.input.number as u64, *cell as u64];
            let draw = random::uniform(&mut Seed(options.seed).stream("cells for genes", &key));
            if draw < fraction {
                let span = piece.tokens.offsets[at]..piece.tokens.offsets[at + 1];
                let genes = piece.tokens.genes[span.clone()].iter().copied();
                let mut row: Vec<(u32, f32)> = genes
                    .zip(piece.tokens.values[span].iter().copied())
                    .collect();
                row.sort_by_key(|token| token.0);
                held += row.len();
                linear &= row.iter().all(|token| token.1.fract() == 0.0);
                sample.push((draw, row));
            }
        }
        while held > SAMPLE_VALUES {
            fraction /= 2.0;
            sample.retain(|(draw, _)| *draw < fraction);
            held = sample.iter().map(|(_, row)| row.len()).sum();
        }
        Ok(())
    })?;
    let n_cells = sample.len();
    let counts = Counts::from_rows(
        scan.vocabulary.len(),
        sample.into_iter().map(|(_, row)| row),
    );
    let flavor = if linear {
        Flavor::SeuratV3
    } else {
        Flavor::CellRanger
    };
    let chosen = select_genes(&counts, options.n_hvg, flavor, None)?;
    scan.keep(|id, _| chosen.kept.binary_search(&id).is_ok());
    run.note(format!(
        "{} highly variable genes selected from {n_cells} cells",
        chosen.kept.len()
    ));
    Ok(())
}

/// Iterates over the tokens of all cells with raw values.
fn each_piece(
    options: &Options,
    inputs: &Inputs,
    scan: &Scan,
    mut work: impl FnMut(&Piece) -> Result<()>,
) -> Result<()> {
    let options = Options {
        values: Values::Raw,
        ..options.clone()
    };
    for (number, input) in inputs.list.iter().enumerate() {
        let opened = inputs.open(number, &options, scan.known())?;
        let reader = Reader::new(&options, scan, (number, input), &opened)?;
        for block in reader.blocks(0)? {
            let counts = reader.read(&block)?;
            reader
                .tokens(block.start, &counts)?
                .iter()
                .try_for_each(&mut work)?;
        }
    }
    Ok(())
}
