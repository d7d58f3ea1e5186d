//! Runs a model on the cells of a file, block by block, in memory that does not grow with their number.

use std::collections::HashMap;

use anyhow::Result;

use super::groups::Groups;
use crate::cells::{Cells, Columns};
use crate::counts::Counts;
use crate::model::{Inputs, Model};
use crate::predict::{Pretrained, Workers};
use crate::programs::steps;
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer, Values};

/// Cells between two checks for an interrupt.
const CHUNK: usize = 8;

/// Tokenization settings.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub n_bins: usize,
    /// Genes that a cell does not express are dropped.
    pub expressed_only: bool,
    pub seed: Seed,
}

/// Cells of a file and their selected genes.
pub struct CellReader<'a> {
    cells: &'a Cells,
    columns: Columns,
    tokenizer: Tokenizer,
    /// Index of every selected gene by its id in the vocabulary.
    place: HashMap<i64, usize>,
}

impl<'a> CellReader<'a> {
    /// The genes must be in the vocabulary of the model.
    pub fn new(
        (model, cells): (&Pretrained, &'a Cells),
        genes: &[String],
        reading: Reading,
    ) -> Result<Self> {
        let settings = tokens::Options {
            n_bins: reading.n_bins,
            max_length: genes.len() + 1,
            include_zero_genes: !reading.expressed_only,
            ..tokens::Options::default()
        };
        let id = |gene: &String| model.vocabulary.id(gene).map(i64::from);
        Ok(Self {
            cells,
            columns: cells.columns(genes)?,
            tokenizer: model.tokenizer(&settings, genes, reading.seed),
            place: genes.iter().filter_map(id).zip(0..).collect(),
        })
    }

    pub fn n_genes(&self) -> usize {
        self.place.len()
    }

    /// Runs `forward` on every cell that is in a group, in the order of the file, and passes its output to `keep` with the group
    /// and the gene of each token, none for tokens such as `<cls>`.
    pub fn each<R: Send>(
        &self,
        (model, groups): (&Pretrained, &Groups),
        forward: impl Fn(&Model, &Inputs) -> R + Sync,
        run: &Run,
        mut keep: impl FnMut(usize, R, &[Option<usize>]),
    ) -> Result<()> {
        let mut workers = model.workers(run.threads());
        let total: usize = groups.sizes().iter().sum();
        let mut progress = Progress::new("encoding", total as u64, "cells");
        for range in self.cells.blocks(steps::BLOCK_VALUES)? {
            let is_wanted = |cell: &usize| groups.of_cell[*cell].is_some();
            let wanted: Vec<usize> = range.clone().filter(is_wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            let block = match self.tokenizer.settings().values {
                Values::Log1p => self.cells.read_linear(range.clone(), &self.columns)?,
                Values::Binned | Values::Raw => self.cells.read(range.clone(), &self.columns)?,
            };
            for cells in wanted.chunks(CHUNK) {
                steps::check_interrupted(run)?;
                let outputs = self.run(&mut workers, (&block, range.start, cells), &forward);
                for (cell, (output, places)) in cells.iter().zip(outputs) {
                    let group = groups.of_cell[*cell].unwrap_or_default();
                    keep(group as usize, output, &places);
                }
                progress.advance(cells.len() as u64);
            }
        }
        progress.finish();
        Ok(())
    }

    /// Runs `forward` on some cells of a block that begins with cell `first`.
    fn run<R: Send>(
        &self,
        workers: &mut Workers,
        (block, first, cells): (&Counts, usize, &[usize]),
        forward: &(impl Fn(&Model, &Inputs) -> R + Sync),
    ) -> Vec<(R, Vec<Option<usize>>)> {
        let tokens = |i: usize| {
            let (columns, values) = block.row(cells[i] - first);
            self.tokenizer.tokens(cells[i] as u64, columns, values)
        };
        workers.each_cell(cells.len(), tokens, |model, inputs, tokens| {
            let ids = tokens.genes.iter();
            let places = ids.map(|id| self.place.get(id).copied()).collect();
            (forward(model, inputs), places)
        })
    }
}
