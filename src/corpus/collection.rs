//! Several corpora as one list of cells, read in order, or in a random order that needs little memory.

use std::path::PathBuf;

use super::{Corpus, Error, Group};
use crate::random::{self, Seed};
use crate::vocabulary::Vocabulary;

/// Cells that are stored and read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    corpus: usize,
    table: usize,
    group: usize,
    /// Number of its first cell among all cells.
    pub first: u64,
    pub cells: u64,
    /// Tokens, if known without reading the data.
    pub tokens: u64,
}

/// Several corpora.
#[derive(Debug)]
pub struct Collection {
    corpora: Vec<Corpus>,
    pieces: Vec<Piece>,
    cells: u64,
}

/// Bytes of a token in memory: its gene and its value.
pub const TOKEN_BYTES: u64 = 8;

impl Collection {
    /// Opens corpora, in the given order.
    pub fn open(directories: &[PathBuf]) -> Result<Self, Error> {
        let corpora = directories.iter().map(|directory| Corpus::open(directory));
        let corpora: Vec<Corpus> = corpora.collect::<Result<_, _>>()?;
        let (mut pieces, mut cells) = (Vec::new(), 0);
        for (corpus, opened) in corpora.iter().enumerate() {
            for (table, opened) in opened.tables().iter().enumerate() {
                for (group, size) in opened.groups.iter().enumerate() {
                    pieces.push(Piece {
                        corpus,
                        table,
                        group,
                        first: cells,
                        cells: size.cells,
                        tokens: size.tokens,
                    });
                    cells += size.cells;
                }
            }
        }
        Ok(Self {
            corpora,
            pieces,
            cells,
        })
    }

    /// Number of cells.
    pub fn cells(&self) -> u64 {
        self.cells
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub fn corpora(&self) -> &[Corpus] {
        &self.corpora
    }

    /// Genes of all corpora, each once, in order of first appearance.
    pub fn genes(&self) -> impl Iterator<Item = &str> {
        let mut seen = std::collections::HashSet::new();
        let all = self
            .corpora
            .iter()
            .flat_map(|corpus| corpus.vocabulary().genes());
        all.filter(move |gene| seen.insert(*gene))
    }

    /// For every corpus, the id that each of its tokens has in another vocabulary.
    pub fn translate(&self, to: &Vocabulary) -> Vec<Vec<Option<u32>>> {
        let ids = |corpus: &Corpus| {
            corpus
                .vocabulary()
                .tokens()
                .map(|token| to.id(token))
                .collect()
        };
        self.corpora.iter().map(ids).collect()
    }

    /// Reads the cells of a piece; any number of threads can at once.
    pub fn read(&self, piece: &Piece) -> Result<Group, Error> {
        self.corpora[piece.corpus].read_group(piece.table, piece.group)
    }

    /// The corpus that a piece belongs to.
    pub fn corpus_of(&self, piece: &Piece) -> usize {
        piece.corpus
    }

    /// Position of an annotation in the groups of a piece.
    pub fn column_of(&self, piece: &Piece, name: &str) -> Option<usize> {
        let table = &self.corpora[piece.corpus].tables()[piece.table];
        table.obs.iter().position(|(column, _)| column == name)
    }

    /// All pieces in a random order, in windows of no more tokens than given or of a single piece: one window in memory at a time
    /// is enough to shuffle its cells. A function of seed, epoch and size.
    pub fn windows(&self, seed: Seed, epoch: u64, tokens: u64) -> Vec<Vec<Piece>> {
        let mut stream = seed.stream("order of pieces", &[epoch]);
        let mut windows: Vec<Vec<Piece>> = Vec::new();
        let mut room = 0;
        for at in random::permutation(&mut stream, self.pieces.len()) {
            let piece = self.pieces[at];
            // Where the size is unknown, a cell counts as a large one.
            let size = if piece.tokens > 0 {
                piece.tokens
            } else {
                4000 * piece.cells
            };
            match windows.last_mut() {
                Some(window) if size <= room => window.push(piece),
                _ => {
                    windows.push(vec![piece]);
                    room = tokens;
                }
            }
            room = room.saturating_sub(size);
        }
        windows
    }
}
