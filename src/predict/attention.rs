//! Attention between genes: ranked attention scores of some layers over the cells of a condition (docs/methods.md,
//! "Attention networks").
//!
//! Scores of queries and keys are taken as they are, without scale or softmax, which change no order. For every head each
//! score is replaced by its rank among the keys of its query, then by its rank among the queries of its key; ties are broken
//! by the order of the tokens. The mean over heads and layers lies between 0 and 1. A row is a query, the target gene; a column
//! is a key, the regulator.

use crate::model::{Inputs, Model, Noise};
use tch::{Device, Kind, Tensor, no_grad};

/// Queries whose scores are in memory at a time.
const BLOCK: usize = 64;
/// Most tokens of a cell: ranks are kept in 16 bits.
pub const MOST_TOKENS: usize = 1 << 16;
/// Ranks are added up in units of one over this, so that the order of addition does not matter.
const UNIT: u64 = 1 << 32;

/// Ranks of one cell, added up over heads and layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranks {
    tokens: usize,
    /// Heads of all layers.
    heads: usize,
    /// `[keys, queries]`.
    sums: Vec<u32>,
}

impl Ranks {
    /// Ranks of the attention of a single cell in layers that are counted from 0 and increasing.
    pub fn of(model: &Model, cell: &Inputs, layers: &[usize]) -> Self {
        let tokens = cell.sequences.tokens() as usize;
        let mut ranks = Self {
            tokens,
            heads: 0,
            sums: vec![0; tokens * tokens],
        };
        no_grad(|| {
            let (_, embedded) = model.embed(cell, None, &mut Noise::off());
            let transformer = model.transformer();
            for [q, k] in transformer.queries_and_keys(&embedded, &cell.sequences, layers) {
                (0..q.size()[1]).for_each(|head| ranks.add(&q.select(1, head), &k.select(1, head)));
            }
        });
        ranks
    }

    /// Adds one head, whose queries and keys are `[tokens, head width]`.
    fn add(&mut self, q: &Tensor, k: &Tensor) {
        let n = self.tokens;
        let mut by_key = vec![0u16; n * n];
        let keys = k.to_kind(Kind::Float).transpose(0, 1);
        let mut scores = vec![0f32; BLOCK * n];
        let mut ranks = vec![0u16; BLOCK * n];
        for start in (0..n).step_by(BLOCK) {
            let rows = BLOCK.min(n - start);
            let q = q.narrow(0, start as i64, rows as i64);
            let block = q.to_kind(Kind::Float).matmul(&keys).to_device(Device::Cpu);
            block.copy_data(&mut scores, rows * n);
            rank_rows(&scores[..rows * n], n, &mut ranks);
            transpose(&ranks[..rows * n], (start, n), &mut by_key);
        }
        let columns = by_key.chunks_exact(n).zip(self.sums.chunks_exact_mut(n));
        let mut places = vec![0u32; n + 1];
        columns.for_each(|(ranks, sums)| add_ranks(ranks, sums, &mut places));
        self.heads += 1;
    }
}

/// Rank of every score among those of its row of `n`.
fn rank_rows(scores: &[f32], n: usize, ranks: &mut [u16]) {
    let mut order: Vec<u64> = Vec::with_capacity(n);
    for (scores, ranks) in scores.chunks_exact(n).zip(ranks.chunks_exact_mut(n)) {
        order.clear();
        let keys = scores.iter().zip(0u64..);
        order.extend(keys.map(|(score, at)| u64::from(ordered(*score)) << 32 | at));
        order.sort_unstable();
        for (rank, entry) in (0..=u16::MAX).zip(&order) {
            ranks[(entry & 0xffff_ffff) as usize] = rank;
        }
    }
}

/// Bits that are in the order of the numbers; -0 equals 0.
fn ordered(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

/// Puts rows of `n` ranks, the first of which is row `start`, into the columns of a square.
fn transpose(rows: &[u16], (start, n): (usize, usize), columns: &mut [u16]) {
    let count = rows.len() / n;
    for (key, column) in columns.chunks_exact_mut(n).enumerate() {
        for (row, to) in column[start..start + count].iter_mut().enumerate() {
            *to = rows[row * n + key];
        }
    }
}

/// Adds the rank of every entry among all; entries are below their number. Equal ones rank in their order.
fn add_ranks(entries: &[u16], sums: &mut [u32], places: &mut [u32]) {
    places.fill(0);
    entries
        .iter()
        .for_each(|&entry| places[usize::from(entry) + 1] += 1);
    let mut before = 0;
    for place in places.iter_mut() {
        before += *place;
        *place = before;
    }
    for (&entry, sum) in entries.iter().zip(sums) {
        let place = &mut places[usize::from(entry)];
        *sum += *place;
        *place += 1;
    }
}

/// Mean attention among features over cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    features: usize,
    /// Sums of ranks over the number of tokens, `[keys, queries]`, in units.
    sums: Vec<u64>,
    /// Heads of all cells with both features.
    heads: Vec<u32>,
    pub cells: u64,
}

impl Map {
    /// No cells yet; memory is 12 bytes for each pair of features.
    pub fn new(features: usize) -> Self {
        Self {
            features,
            sums: vec![0; features * features],
            heads: vec![0; features * features],
            cells: 0,
        }
    }

    /// Adds a cell. `feature` is the feature of each of its tokens; none for tokens such as `<cls>`.
    pub fn add(&mut self, ranks: &Ranks, feature: &[Option<usize>]) {
        let unit = UNIT / ranks.tokens.max(1) as u64;
        for (sums, key) in ranks.sums.chunks_exact(ranks.tokens.max(1)).zip(feature) {
            let Some(key) = key else { continue };
            for (sum, query) in sums.iter().zip(feature) {
                let Some(query) = query else { continue };
                let at = key * self.features + query;
                self.sums[at] += u64::from(*sum) * unit;
                self.heads[at] += ranks.heads as u32;
            }
        }
        self.cells += 1;
    }

    /// Mean attention of a query to a key; NaN if no cell has both.
    pub fn mean(&self, query: usize, key: usize) -> f64 {
        let at = key * self.features + query;
        match self.heads[at] {
            0 => f64::NAN,
            heads => self.sums[at] as f64 / UNIT as f64 / f64::from(heads),
        }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }
}
