//! Tokenizes all cells of all inputs in order; the next block is read while the current one is written.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;

use super::Options;
use super::inputs::{Inputs, Opened};
use super::piece::{Annotations, GROUP_CELLS, Piece};
use super::scan::{COMPOSITION, Scan, column_of};
use super::shard_writer::ShardWriter;
use crate::cells::Cells;
use crate::corpus::Group;
use crate::counts::Counts;
use crate::expression::state::State;
use crate::failure::Failure;
use crate::formats::Matrix;
use crate::programs::samples::Input;
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::{Values, binning};

/// Cells of a parallel task: those of a row group.
const SLICE: usize = GROUP_CELLS;

/// Id of a dropped column.
const NONE: u32 = u32::MAX;

/// Tokenizes and writes all cells, from where an interrupted run stopped.
pub fn all(
    options: &Options,
    inputs: &Inputs,
    scan: &Scan,
    writer: &mut ShardWriter,
    run: &mut Run,
) -> Result<()> {
    let mut progress = Progress::new("tokenizing", scan.n_cells, "cells");
    let (first_input, mut first_cell) = writer.next();
    for (number, input) in inputs.list.iter().enumerate().skip(first_input) {
        let opened = inputs.open(number, options, scan.known())?;
        let source = Reader::new(options, scan, (number, input), &opened)?;
        source.tokenize(first_cell, writer, (run, &mut progress))?;
        first_cell = 0;
    }
    progress.finish();
    Ok(())
}

/// Tokens of the cells of one input.
pub struct Reader<'a> {
    options: &'a Options,
    cells: &'a Cells,
    matrix: Arc<Matrix>,
    /// Id of the gene of every column, or [`NONE`]: in the vocabulary if values are normalized over all of its genes, else in the
    /// corpus.
    ids: Vec<u32>,
    has_duplicates: bool,
    /// Ids of genes in the corpus, by id in the vocabulary.
    numbers: &'a [Option<u32>],
    /// Cells that meet the filter expressions.
    wanted: Vec<bool>,
    annotations: Arc<Annotations>,
}

impl<'a> Reader<'a> {
    pub fn new(
        options: &'a Options,
        scan: &'a Scan,
        (number, input): (usize, &Input),
        opened: &'a Opened,
    ) -> Result<Self> {
        let cells = &opened.cells;
        let ids = scan.recognized(opened)?.ids;
        let needs_all = options.values == Values::Log1p;
        let read_as = |id: &Option<u32>| match id {
            Some(id) if needs_all => *id,
            Some(id) => scan.numbers[*id as usize].unwrap_or(NONE),
            None => NONE,
        };
        let mut seen = vec![false; scan.vocabulary.len()];
        let mut repeated = |id: &u32| std::mem::replace(&mut seen[*id as usize], true);
        let obs = scan.schema.obs.iter();
        let existing = cells.table.obs_columns()?;
        let composition = COMPOSITION.into_iter().filter(|name| {
            let from_sheet = input.annotations.iter().any(|(known, _)| known == name);
            from_sheet || existing.iter().any(|known| known == name)
        });
        Ok(Self {
            options,
            cells,
            matrix: cells.by_cell(options.spool_memory())?,
            ids: ids.iter().map(read_as).collect(),
            has_duplicates: ids.iter().flatten().any(&mut repeated),
            numbers: &scan.numbers,
            wanted: wanted(scan, input, opened)?,
            annotations: Arc::new(Annotations {
                number,
                obs: obs
                    .map(|(name, _)| column_of(input, opened, name))
                    .collect::<Result<_>>()?,
                composition: composition
                    .map(|name| Ok((name, column_of(input, opened, name)?.to_labels())))
                    .collect::<Result<_>>()?,
            }),
        })
    }

    fn tokenize(
        &self,
        first: usize,
        writer: &mut ShardWriter,
        (run, progress): (&Run, &mut Progress),
    ) -> Result<()> {
        let blocks = self.blocks(first)?;
        let mut ahead = blocks.first().map(|block| self.read(block)).transpose()?;
        for (at, block) in blocks.iter().enumerate() {
            if run.interrupted() {
                return Err(Failure::Interrupted
                    .error("stopped by a signal: rerun with `--resume` to continue"));
            }
            let counts = ahead.take().expect("every block was read ahead");
            let (written, next) = rayon::join(
                || writer.add(self.tokens(block.start, &counts)?),
                || blocks.get(at + 1).map(|next| self.read(next)).transpose(),
            );
            written?;
            ahead = next?;
            progress.advance(block.len() as u64);
        }
        Ok(())
    }

    /// Blocks of cells that fit into memory.
    pub fn blocks(&self, first: usize) -> Result<Vec<Range<usize>>> {
        let blocks = self.matrix.blocks(self.options.values_at_once())?;
        let rest = |block: Range<usize>| block.start.max(first)..block.end;
        Ok(blocks
            .into_iter()
            .map(rest)
            .filter(|block| !block.is_empty())
            .collect())
    }

    pub fn read(&self, block: &Range<usize>) -> Result<Counts> {
        if !self.wanted[block.clone()].iter().any(|wanted| *wanted) {
            let none = std::iter::repeat_n(Vec::new(), block.len());
            return Ok(Counts::from_rows(self.matrix.n_genes(), none));
        }
        Ok(self.matrix.read(block.clone())?)
    }

    /// Tokens of the cells of a block that begins with cell `start`.
    pub fn tokens(&self, start: usize, counts: &Counts) -> Result<Vec<Piece>> {
        let slices = counts.n_cells().div_ceil(SLICE);
        let slice = |at: usize| {
            let end = ((at + 1) * SLICE).min(counts.n_cells());
            self.piece(start, counts, at * SLICE..end)
        };
        (0..slices).into_par_iter().map(slice).collect()
    }

    fn piece(&self, start: usize, counts: &Counts, cells: Range<usize>) -> Result<Piece> {
        let expected = counts.offsets[cells.end] - counts.offsets[cells.start];
        let mut piece = Piece {
            input: Arc::clone(&self.annotations),
            cells: Vec::with_capacity(cells.len()),
            tokens: Group {
                offsets: vec![0],
                genes: Vec::with_capacity(expected),
                values: Vec::with_capacity(expected),
                obs: Vec::new(),
            },
        };
        for at in cells.filter(|at| self.wanted[start + at]) {
            let before = piece.tokens.tokens();
            self.add_tokens(start + at, counts.row(at), &mut piece.tokens)?;
            if piece.tokens.tokens() - before < self.options.min_genes.max(1) {
                piece.tokens.genes.truncate(before);
                piece.tokens.values.truncate(before);
            } else {
                piece.cells.push(start + at);
                piece.tokens.offsets.push(piece.tokens.tokens());
            }
        }
        Ok(piece)
    }

    fn add_tokens(&self, cell: usize, row: (&[u32], &[f32]), tokens: &mut Group) -> Result<()> {
        let start = tokens.tokens();
        self.add_known(row, tokens);
        let smallest = tokens.values[start..]
            .iter()
            .fold(0.0, |a: f32, &b| a.min(b));
        if smallest < 0.0 {
            return Err(self.cells.negative(smallest).into());
        }
        if self.has_duplicates {
            add_up(start, tokens);
        }
        if self.options.values == Values::Log1p {
            if self.cells.judgment.state == State::LogNormalized {
                let values = tokens.values[start..].iter_mut();
                values.for_each(|value| *value = value.exp_m1());
            }
            normalize_log1p(&mut tokens.values[start..]);
            self.keep(start, tokens);
        }
        if self.options.values == Values::Binned {
            let key = [self.annotations.number as u64, cell as u64];
            let mut stream = Seed(self.options.seed).stream("bins", &key);
            let Options { n_bins, ties, .. } = *self.options;
            binning::bin(&mut tokens.values[start..], n_bins, ties, &mut stream);
        }
        Ok(())
    }

    /// Appends the expressed genes of a cell that have an id.
    fn add_known(&self, (columns, values): (&[u32], &[f32]), tokens: &mut Group) {
        let start = tokens.tokens();
        tokens.genes.resize(start + columns.len(), 0);
        tokens.values.resize(start + columns.len(), 0.0);
        let (genes, expressions) = (&mut tokens.genes[start..], &mut tokens.values[start..]);
        let mut end = 0;
        for (&column, &value) in columns.iter().zip(values) {
            // Branch-free: always written, and kept by advancing `end`.
            let id = self.ids[column as usize];
            genes[end] = id;
            expressions[end] = value;
            end += usize::from(id != NONE && value != 0.0);
        }
        tokens.genes.truncate(start + end);
        tokens.values.truncate(start + end);
    }

    /// Keeps the tokens of a cell whose genes are kept, with their ids in the corpus.
    fn keep(&self, start: usize, tokens: &mut Group) {
        let mut end = start;
        for at in start..tokens.tokens() {
            if let Some(number) = self.numbers[tokens.genes[at] as usize] {
                tokens.genes[end] = number;
                tokens.values[end] = tokens.values[at];
                end += 1;
            }
        }
        tokens.genes.truncate(end);
        tokens.values.truncate(end);
    }
}

/// Cells that meet all filter expressions.
fn wanted(scan: &Scan, input: &Input, opened: &Opened) -> Result<Vec<bool>> {
    let mut wanted = vec![true; opened.cells.n_cells()];
    for condition in &scan.conditions {
        let column = column_of(input, opened, &condition.column)?;
        let meets = condition.each(&column);
        wanted.iter_mut().zip(meets).for_each(|(w, f)| *w &= f);
    }
    Ok(wanted)
}

/// Sums the values of tokens of the same gene.
fn add_up(start: usize, tokens: &mut Group) {
    let genes = tokens.genes.drain(start..);
    let mut all: Vec<(u32, f32)> = genes.zip(tokens.values.drain(start..)).collect();
    all.sort_by_key(|token| token.0);
    for (gene, value) in all {
        match tokens.genes[start..].last() {
            Some(&last) if last == gene => {
                *tokens.values.last_mut().expect("a value a gene") += value
            }
            _ => {
                tokens.genes.push(gene);
                tokens.values.push(value);
            }
        }
    }
}

fn normalize_log1p(values: &mut [f32]) {
    let total: f64 = values.iter().map(|&value| f64::from(value)).sum();
    for value in values {
        *value = (f64::from(*value) / total * 1e4).ln_1p() as f32;
    }
}
