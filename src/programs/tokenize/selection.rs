//! Which genes are kept: those of a list, those that enough cells express, and the most variable of them.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;

use super::Options;
use super::inputs::Inputs;
use super::stream::{Piece, Reader};
use super::survey::Survey;
use crate::counts::Counts;
use crate::expression::select_genes::{Flavour, select_genes};
use crate::failure::Failure;
use crate::formats;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::Values;

/// Values of the cells that highly variable genes are chosen on, at most: a constant, so that the choice does not depend on
/// the memory.
const SAMPLE_VALUES: usize = 1 << 22;

/// Chooses genes as the options say, and looks up the genes of all inputs in what is left.
pub fn choose(
    options: &Options,
    inputs: &Inputs,
    survey: &mut Survey,
    run: &mut Run,
) -> Result<()> {
    if let Some(path) = &options.genes {
        keep_listed(path, survey)?;
    }
    if options.min_cells > 0 {
        keep_expressed(options, inputs, survey, run)?;
    }
    if options.n_hvg > 0 {
        keep_variable(options, inputs, survey, run)?;
    }
    survey.settle()?;
    if survey.written.genes().next().is_none() || survey.n_kept() == 0 {
        return Err(
            Failure::Input.error("no gene is left: the options for genes leave all of them out")
        );
    }
    Ok(())
}

fn keep_listed(path: &Path, survey: &mut Survey) -> Result<()> {
    let text = formats::read_text(path)?;
    let listed: HashSet<&str> = text.lines().map(str::trim).collect();
    survey.keep(|_, gene| listed.contains(gene));
    Ok(())
}

fn keep_expressed(
    options: &Options,
    inputs: &Inputs,
    survey: &mut Survey,
    run: &mut Run,
) -> Result<()> {
    let mut cells = vec![0u64; survey.vocabulary.len()];
    each_piece(options, inputs, survey, |piece| {
        piece
            .tokens
            .genes
            .iter()
            .for_each(|&gene| cells[gene as usize] += 1);
        Ok(())
    })?;
    let before = survey.n_kept();
    survey.keep(|id, _| cells[id] >= options.min_cells);
    let after = survey.n_kept();
    run.note(format!(
        "{} genes are expressed in fewer than {} cells and are left out",
        before - after,
        options.min_cells
    ));
    Ok(())
}

/// Highly variable genes, chosen on all cells or, where these are many, on some drawn at random.
fn keep_variable(
    options: &Options,
    inputs: &Inputs,
    survey: &mut Survey,
    run: &mut Run,
) -> Result<()> {
    let (mut sample, mut share) = (Vec::new(), 1.0);
    let mut held = 0;
    let mut linear = true;
    each_piece(options, inputs, survey, |piece| {
        for (at, cell) in piece.cells.iter().enumerate() {
            let place = [piece.input.number as u64, *cell as u64];
            let draw = random::uniform(&mut Seed(options.seed).stream("cells for genes", &place));
            if draw < share {
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
            share /= 2.0;
            sample.retain(|(draw, _)| *draw < share);
            held = sample.iter().map(|(_, row)| row.len()).sum();
        }
        Ok(())
    })?;
    let n_cells = sample.len();
    let counts = Counts::from_rows(
        survey.vocabulary.len(),
        sample.into_iter().map(|(_, row)| row),
    );
    let flavour = if linear {
        Flavour::SeuratV3
    } else {
        Flavour::CellRanger
    };
    let chosen = select_genes(&counts, options.n_hvg, flavour, None)?;
    survey.keep(|id, _| chosen.kept.binary_search(&id).is_ok());
    run.note(format!(
        "{} highly variable genes chosen on {n_cells} cells",
        chosen.kept.len()
    ));
    Ok(())
}

/// Goes through the tokens of all cells, their values unchanged.
fn each_piece(
    options: &Options,
    inputs: &Inputs,
    survey: &Survey,
    mut work: impl FnMut(&Piece) -> Result<()>,
) -> Result<()> {
    let options = Options {
        values: Values::Unchanged,
        ..options.clone()
    };
    for (number, input) in inputs.list.iter().enumerate() {
        let opened = inputs.open(number, &options, survey.known())?;
        let reader = Reader::new(&options, survey, (number, input), &opened)?;
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
