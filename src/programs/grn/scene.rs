//! Cells as a model reads them to be looked at, gone through in memory that does not grow with their number.

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

/// Cells that are looked at between two looks at whether to stop.
const AT_ONCE: usize = 8;

/// How cells are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub n_bins: usize,
    /// Genes that a cell does not express are left out.
    pub expressed_only: bool,
    pub seed: Seed,
}

/// Cells of a file, and the genes that are looked at in them.
pub struct Scene<'a> {
    cells: &'a Cells,
    columns: Columns,
    tokenizer: Tokenizer,
    /// Place of every gene by its id in the vocabulary.
    place: HashMap<i64, usize>,
}

impl<'a> Scene<'a> {
    /// The genes must be known to the model.
    pub fn new(
        (model, cells): (&Pretrained, &'a Cells),
        genes: &[String],
        reading: Reading,
    ) -> Result<Self> {
        let how = tokens::Options {
            n_bins: reading.n_bins,
            max_length: genes.len() + 1,
            include_zero_genes: !reading.expressed_only,
            ..tokens::Options::default()
        };
        let id = |gene: &String| model.vocabulary.id(gene).map(i64::from);
        Ok(Self {
            cells,
            columns: cells.columns(genes)?,
            tokenizer: model.tokenizer(&how, genes, reading.seed),
            place: genes.iter().filter_map(id).zip(0..).collect(),
        })
    }

    pub fn n_genes(&self) -> usize {
        self.place.len()
    }

    /// Looks at every cell that is in a group, and hands what is seen to `keep` with the group and the gene of each token, none for
    /// tokens such as `<cls>`; cells come in their order.
    pub fn each<R: Send>(
        &self,
        (model, groups): (&Pretrained, &Groups),
        look: impl Fn(&Model, &Inputs) -> R + Sync,
        run: &Run,
        mut keep: impl FnMut(usize, R, &[Option<usize>]),
    ) -> Result<()> {
        let mut workers = model.workers(run.threads());
        let total: usize = groups.sizes().iter().sum();
        let mut progress = Progress::new("looking", total as u64, "cells");
        for range in self.cells.blocks(steps::BLOCK_VALUES)? {
            let is_wanted = |cell: &usize| groups.of_cell[*cell].is_some();
            let wanted: Vec<usize> = range.clone().filter(is_wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            let block = match self.tokenizer.settings().values {
                Values::Logarithms => self.cells.read_linear(range.clone(), &self.columns)?,
                Values::Bins | Values::Unchanged => {
                    self.cells.read(range.clone(), &self.columns)?
                }
            };
            for cells in wanted.chunks(AT_ONCE) {
                steps::stop_if_asked(run)?;
                let seen = self.look(&mut workers, (&block, range.start, cells), &look);
                for (cell, (seen, places)) in cells.iter().zip(seen) {
                    let group = groups.of_cell[*cell].unwrap_or_default();
                    keep(group as usize, seen, &places);
                }
                progress.advance(cells.len() as u64);
            }
        }
        progress.finish();
        Ok(())
    }

    /// Looks at some cells of a block that begins with cell `first`.
    fn look<R: Send>(
        &self,
        workers: &mut Workers,
        (block, first, cells): (&Counts, usize, &[usize]),
        look: &(impl Fn(&Model, &Inputs) -> R + Sync),
    ) -> Vec<(R, Vec<Option<usize>>)> {
        let tokens = |i: usize| {
            let (columns, values) = block.row(cells[i] - first);
            self.tokenizer.tokens(cells[i] as u64, columns, values)
        };
        workers.each_cell(cells.len(), tokens, |model, inputs, tokens| {
            let ids = tokens.genes.iter();
            let places = ids.map(|id| self.place.get(id).copied()).collect();
            (look(model, inputs), places)
        })
    }
}
