//! Tokenization of multimodal cells: each modality with its own settings, one after the other behind one `<cls>`
//! (docs/methods.md, "Modality tokens").

use super::{Tokenizer, Tokens};
use crate::random::{self, Seed};

/// The expression of a cell in one modality: columns and values.
pub type Row<'a> = (&'a [u32], &'a [f32]);

/// Tokenization of one modality.
#[derive(Debug, Clone)]
pub struct Modality {
    /// Without `<cls>` and without a limit of its own.
    pub tokenizer: Tokenizer,
    /// Id of the modality, for models with modality tokens.
    pub kind: i64,
    /// Most tokens of a cell.
    pub budget: usize,
}

/// The token in front.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cls {
    pub gene: i64,
    pub value: f32,
    pub kind: i64,
}

/// Tokenizes multimodal cells.
#[derive(Debug, Clone)]
pub struct MultimodalTokenizer {
    pub cls: Cls,
    pub modalities: Vec<Modality>,
    pub seed: Seed,
}

/// Tokens of a cell and the modality of each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenSequence {
    pub tokens: Tokens,
    pub kinds: Vec<i64>,
}

impl TokenSequence {
    fn push(&mut self, gene: i64, value: f32, kind: i64) {
        self.tokens.genes.push(gene);
        self.tokens.values.push(value);
        self.kinds.push(kind);
    }

    fn extend(&mut self, tokens: &Tokens, kind: i64, kept: impl Iterator<Item = usize>) {
        kept.for_each(|at| self.push(tokens.genes[at], tokens.values[at], kind));
    }
}

impl MultimodalTokenizer {
    /// The tokens of a cell, of which the rows are given in the order of the modalities, none where it was not measured.
    ///
    /// Where a modality has more tokens than its budget, than the given fraction of them or than the given number, a sample is
    /// taken, a different one for every `round`.
    pub fn read(
        &self,
        cell: u64,
        rows: &[Option<Row<'_>>],
        round: u64,
        (fraction, most): (f64, usize),
    ) -> TokenSequence {
        let mut sequence = TokenSequence::default();
        sequence.push(self.cls.gene, self.cls.value, self.cls.kind);
        for (number, (modality, row)) in self.modalities.iter().zip(rows).enumerate() {
            let Some((columns, values)) = row else {
                continue;
            };
            let tokens = modality.tokenizer.tokens(cell, columns, values);
            let shared = (tokens.len() as f64 * fraction).ceil() as usize;
            let wanted = modality.budget.min(most).min(shared);
            if wanted >= tokens.len() {
                sequence.extend(&tokens, modality.kind, 0..tokens.len());
                continue;
            }
            let indices = [round, cell, number as u64];
            let mut stream = self.seed.stream("tokens of a modality", &indices);
            let mut sample = random::sample(&mut stream, tokens.len(), wanted);
            sample.sort_unstable();
            sequence.extend(&tokens, modality.kind, sample.into_iter());
        }
        sequence
    }

    /// A sample of `wanted` features of one modality with their values in a cell, expressed or not.
    pub fn features(
        &self,
        number: usize,
        (cell, row): (u64, Row<'_>),
        round: u64,
        wanted: usize,
    ) -> TokenSequence {
        let modality = &self.modalities[number];
        let all = modality.tokenizer.values(cell, row.0, row.1);
        let mut sequence = TokenSequence::default();
        let mut stream = self
            .seed
            .stream("asked features", &[round, cell, number as u64]);
        let mut chosen = random::sample(&mut stream, all.len(), wanted);
        chosen.sort_unstable();
        sequence.extend(&all, modality.kind, chosen.into_iter());
        sequence
    }

    /// `<cls>` alone.
    pub fn cls_token(&self) -> TokenSequence {
        let mut sequence = TokenSequence::default();
        sequence.push(self.cls.gene, self.cls.value, self.cls.kind);
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{LongCells, Options, Settings, Values};
    use std::collections::HashSet;

    fn modality(first: i64, kind: i64, budget: usize) -> Modality {
        let settings = Settings {
            options: Options {
                max_length: usize::MAX,
                long_cells: LongCells::Truncate,
                ..Options::default()
            },
            cls: None,
            cls_value: 0.0,
            values: Values::Raw,
        };
        Modality {
            tokenizer: Tokenizer::new(settings, (first..first + 10).collect(), Seed(1)),
            kind,
            budget,
        }
    }

    fn tokenizer() -> MultimodalTokenizer {
        MultimodalTokenizer {
            cls: Cls {
                gene: 99,
                value: 1.0,
                kind: 3,
            },
            modalities: vec![modality(0, 1, 4), modality(10, 0, 100)],
            seed: Seed(1),
        }
    }

    const ROW: Row<'static> = (&[0, 2, 3, 5, 7, 8], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    #[test]
    fn a_cell_has_tokens_of_each_modality_behind_one_cls() {
        let all = (1.0, usize::MAX);
        let sequence = tokenizer().read(5, &[Some(ROW), Some(ROW)], 0, all);
        assert_eq!((sequence.tokens.genes[0], sequence.kinds[0]), (99, 3));
        // Four of the first modality, its budget, and all six of the second.
        assert_eq!(sequence.kinds[1..], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sequence.tokens.genes[5..], [10, 12, 13, 15, 17, 18]);
        assert_eq!(sequence.tokens.values[5..], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let lacking = tokenizer().read(5, &[None, Some(ROW)], 0, all);
        assert_eq!(lacking.tokens.genes[1..], sequence.tokens.genes[5..]);
        let few = tokenizer().read(5, &[Some(ROW), Some(ROW)], 0, (0.5, 2));
        assert_eq!(few.kinds[1..], [1, 1, 0, 0]);
    }

    #[test]
    fn every_round_takes_another_sample_and_the_same_round_the_same() {
        let read = |round| tokenizer().read(5, &[Some(ROW), None], round, (1.0, 4));
        let samples: HashSet<Vec<i64>> = (0..20).map(|round| read(round).tokens.genes).collect();
        assert!(samples.len() > 5, "{samples:?}");
        assert_eq!(read(3), read(3));
    }

    #[test]
    fn features_are_sampled_expressed_or_not() {
        let features = tokenizer().features(1, (5, ROW), 0, 10);
        assert_eq!(features.tokens.genes, (10..20).collect::<Vec<i64>>());
        let expected = [1.0, 0.0, 2.0, 3.0, 0.0, 4.0, 0.0, 5.0, 6.0, 0.0];
        assert_eq!(features.tokens.values, expected);
        assert_eq!(tokenizer().features(1, (5, ROW), 0, 3).kinds, [0, 0, 0]);
    }
}
