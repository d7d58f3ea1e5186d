//! Cells measured in several modalities to tokens: each modality in its own way, one after the other behind one `<cls>`
//! (reference section 11.3).

use super::{Tokenizer, Tokens};
use crate::random::{self, Seed};

/// The expression of a cell in one modality: columns and values.
pub type Row<'a> = (&'a [u32], &'a [f32]);

/// How cells of one modality become tokens.
#[derive(Debug, Clone)]
pub struct Modality {
    /// Without `<cls>` and without a limit of its own.
    pub tokenizer: Tokenizer,
    /// Id of the modality, for models that tell modalities apart.
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

/// Makes sentences of cells.
#[derive(Debug, Clone)]
pub struct Sentences {
    pub cls: Cls,
    pub modalities: Vec<Modality>,
    pub seed: Seed,
}

/// Tokens of a cell and the modality of each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sentence {
    pub tokens: Tokens,
    pub kinds: Vec<i64>,
}

impl Sentence {
    fn push(&mut self, gene: i64, value: f32, kind: i64) {
        self.tokens.genes.push(gene);
        self.tokens.values.push(value);
        self.kinds.push(kind);
    }

    fn extend(&mut self, tokens: &Tokens, kind: i64, kept: impl Iterator<Item = usize>) {
        kept.for_each(|at| self.push(tokens.genes[at], tokens.values[at], kind));
    }
}

impl Sentences {
    /// The tokens of a cell, of which the rows are given in the order of the modalities, none where it was not measured.
    ///
    /// `round` tells apart the samples of tokens that are taken where a modality has more of them than its budget, or than the
    /// given share of them and the given number.
    pub fn read(
        &self,
        cell: u64,
        rows: &[Option<Row<'_>>],
        round: u64,
        (share, most): (f64, usize),
    ) -> Sentence {
        let mut sentence = Sentence::default();
        sentence.push(self.cls.gene, self.cls.value, self.cls.kind);
        for (number, (modality, row)) in self.modalities.iter().zip(rows).enumerate() {
            let Some((columns, values)) = row else {
                continue;
            };
            let tokens = modality.tokenizer.tokens(cell, columns, values);
            let shared = (tokens.len() as f64 * share).ceil() as usize;
            let wanted = modality.budget.min(most).min(shared);
            if wanted >= tokens.len() {
                sentence.extend(&tokens, modality.kind, 0..tokens.len());
                continue;
            }
            let indices = [round, cell, number as u64];
            let mut stream = self.seed.stream("tokens of a modality", &indices);
            let mut sample = random::sample(&mut stream, tokens.len(), wanted);
            sample.sort_unstable();
            sentence.extend(&tokens, modality.kind, sample.into_iter());
        }
        sentence
    }

    /// `<cls>`, then a sample of `wanted` features of one modality with their values in a cell, expressed or not.
    pub fn questions(
        &self,
        number: usize,
        (cell, row): (u64, Row<'_>),
        round: u64,
        wanted: usize,
    ) -> Sentence {
        let modality = &self.modalities[number];
        let all = modality.tokenizer.values(cell, row.0, row.1);
        let mut sentence = Sentence::default();
        let mut stream = self
            .seed
            .stream("asked features", &[round, cell, number as u64]);
        let mut chosen = random::sample(&mut stream, all.len(), wanted);
        chosen.sort_unstable();
        sentence.extend(&all, modality.kind, chosen.into_iter());
        sentence
    }

    /// `<cls>` alone.
    pub fn opening(&self) -> Sentence {
        let mut sentence = Sentence::default();
        sentence.push(self.cls.gene, self.cls.value, self.cls.kind);
        sentence
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
            values: Values::Unchanged,
        };
        Modality {
            tokenizer: Tokenizer::new(settings, (first..first + 10).collect(), Seed(1)),
            kind,
            budget,
        }
    }

    fn sentences() -> Sentences {
        Sentences {
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
        let sentence = sentences().read(5, &[Some(ROW), Some(ROW)], 0, all);
        assert_eq!((sentence.tokens.genes[0], sentence.kinds[0]), (99, 3));
        // Four of the first modality, its budget, and all six of the second.
        assert_eq!(sentence.kinds[1..], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sentence.tokens.genes[5..], [10, 12, 13, 15, 17, 18]);
        assert_eq!(sentence.tokens.values[5..], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let lacking = sentences().read(5, &[None, Some(ROW)], 0, all);
        assert_eq!(lacking.tokens.genes[1..], sentence.tokens.genes[5..]);
        let few = sentences().read(5, &[Some(ROW), Some(ROW)], 0, (0.5, 2));
        assert_eq!(few.kinds[1..], [1, 1, 0, 0]);
    }

    #[test]
    fn every_round_takes_another_sample_and_the_same_round_the_same() {
        let read = |round| sentences().read(5, &[Some(ROW), None], round, (1.0, 4));
        let samples: HashSet<Vec<i64>> = (0..20).map(|round| read(round).tokens.genes).collect();
        assert!(samples.len() > 5, "{samples:?}");
        assert_eq!(read(3), read(3));
    }

    #[test]
    fn questions_are_about_all_features_expressed_or_not() {
        let asked = sentences().questions(1, (5, ROW), 0, 10);
        assert_eq!(asked.tokens.genes, (10..20).collect::<Vec<i64>>());
        let expected = [1.0, 0.0, 2.0, 3.0, 0.0, 4.0, 0.0, 5.0, 6.0, 0.0];
        assert_eq!(asked.tokens.values, expected);
        assert_eq!(sentences().questions(1, (5, ROW), 0, 3).kinds, [0, 0, 0]);
    }
}
