//! How cells are read by the model: sentences, and training examples made of them.

use ndarray::Array2;

use super::Options;
use super::data::{Data, Part};
use crate::cells::cohort::ModalityKind;
use crate::checkpoint::{Architecture, InputStyle};
use crate::model::Heads;
use crate::predict::integration::{Cell, Settings};
use crate::random::{self, Seed};
use crate::tokens::modalities::{Cls, Modality, Sentence, Sentences};
use crate::tokens::{self, LongCells, Tokenizer, Values, masking};
use crate::train::integration::{Asked, Example};
use crate::vocabulary::{CLS, EOC, PAD};

/// Features that the cell embedding of a model from scratch is asked for.
const ASKED: usize = 300;
/// How often a modality is hidden, where all cells have all and where some lack one.
const MODALITY_DROPOUT: [f64; 2] = [0.2, 0.5];
/// Share of the tokens of a cell that a model from scratch does not see.
const GENE_DROPOUT: f64 = 0.5;

/// Reads cells as the model wants them.
pub struct Reader {
    pub sentences: Sentences,
    /// Names of the kinds of tokens, in the order of their numbers.
    pub kinds: Vec<String>,
    pub tells_modalities: bool,
    /// Batches that the expression heads know.
    told_batches: i64,
    /// How many features of each part the cell embedding is asked for, beside the hidden values.
    asked: Vec<usize>,
    gene_dropout: f64,
    modality_dropout: f64,
    patterns: i64,
    /// Most tokens of a modality in training.
    length: usize,
    mask_value: f32,
}

impl Reader {
    pub fn new(options: &Options, data: &Data, architecture: &Architecture, heads: &Heads) -> Self {
        let kinds = kinds(data);
        let is_new = data.checkpoint.is_none();
        let all = options.ask.unwrap_or(if is_new { ASKED } else { 0 });
        let share = all / data.parts.len().max(1);
        let sizes = data.parts.iter().map(|part| part.features.len());
        let dropout = if is_new { GENE_DROPOUT } else { 0.0 };
        let hidden = MODALITY_DROPOUT[usize::from(data.is_mosaic())];
        Self {
            sentences: sentences(options, data, architecture, &kinds),
            kinds,
            tells_modalities: heads.modalities.is_some(),
            told_batches: heads.batch_labels.unwrap_or(0) as i64,
            asked: sizes.map(|size| share.min(size)).collect(),
            gene_dropout: options.gene_dropout.unwrap_or(dropout),
            modality_dropout: options.modality_dropout.unwrap_or(hidden),
            patterns: Self::patterns(data) as i64,
            length: (options.training_length / data.parts.len().max(1)).max(1),
            mask_value: architecture.mask_value as f32,
        }
    }

    /// A cell as the model reads it, in the modalities asked for.
    pub fn cell(&self, data: &Data, cell: usize, wanted: &dyn Fn(usize) -> bool) -> Cell {
        let mut rows = data.rows(cell);
        let hidden = (0..rows.len()).filter(|part| !wanted(*part));
        hidden.for_each(|part| rows[part] = None);
        Cell {
            sentence: self
                .sentences
                .read(cell as u64, &rows, 0, (1.0, usize::MAX)),
            batch: self.told_batch(data.batches[cell]),
            domain: data.batches[cell],
        }
    }

    /// The batch that the expression heads are told: a new one is none of theirs, and they are told the first.
    fn told_batch(&self, batch: i64) -> i64 {
        if batch < self.told_batches { batch } else { 0 }
    }

    /// The example made of a cell in an epoch, or for validation: a function of the two and the seed alone.
    pub fn example(
        &self,
        options: &Options,
        data: &Data,
        cell: usize,
        epoch: Option<u64>,
    ) -> Example {
        // Validation is the same in every epoch; 0 is its round, epochs count from 1.
        let round = epoch.map_or(0, |epoch| epoch + 1);
        let rows = data.rows(cell);
        let mut stream = Seed(options.seed).stream("hidden values", &[round, cell as u64]);
        let mut told = rows.clone();
        let measured: Vec<usize> = (0..rows.len())
            .filter(|&part| rows[part].is_some())
            .collect();
        if measured.len() > 1 && random::uniform(&mut stream) < self.modality_dropout {
            told[measured[random::below(&mut stream, measured.len())]] = None;
        }
        let kept = match epoch {
            Some(_) => (1.0 - self.gene_dropout, self.length),
            None => (1.0, self.length),
        };
        let Sentence { tokens, kinds } = self.sentences.read(cell as u64, &told, round, kept);
        let first = usize::from(!options.weights.mask_cls);
        let eligible: Vec<usize> = (first..tokens.len()).collect();
        let chosen = masking::choose(&eligible, options.weights.mask_ratio, &mut stream);
        let mut masked = vec![0.0; tokens.len()];
        chosen.iter().for_each(|&at| masked[at] = 1.0);
        let mut values = tokens.values.clone();
        masking::apply(&mut values, &chosen, self.mask_value);
        Example {
            targets: tokens.values,
            genes: tokens.genes,
            values,
            masked,
            modalities: if self.tells_modalities {
                kinds
            } else {
                Vec::new()
            },
            asked: self.ask(&rows, (cell, round)),
            batch: data.batches[cell],
            domain: data.batches[cell],
            origin: self.origin(data.batches[cell], &told),
        }
    }

    /// What the discriminator looks for: the batch and, where cells lack modalities, which of them are told.
    fn origin(&self, batch: i64, told: &[Option<(&[u32], &[f32])>]) -> i64 {
        let bits = told
            .iter()
            .enumerate()
            .map(|(part, row)| i64::from(row.is_some()) << part);
        let pattern = bits.sum::<i64>().max(1) - 1;
        batch * self.patterns + if self.patterns > 1 { pattern } else { 0 }
    }

    /// Sets of modalities that a cell may be told, where they tell cells apart.
    fn patterns(data: &Data) -> usize {
        if data.is_mosaic() {
            (1 << data.parts.len()) - 1
        } else {
            1
        }
    }

    /// How many origins a discriminator tells apart.
    pub fn origins(data: &Data) -> usize {
        data.batch_names.len() * Self::patterns(data)
    }

    /// Features of every modality in which a cell was measured, for its embedding to tell.
    fn ask(&self, rows: &[Option<(&[u32], &[f32])>], (cell, round): (usize, u64)) -> Asked {
        if self.asked.iter().all(|asked| *asked == 0) {
            return Asked::default();
        }
        let opening = self.sentences.opening();
        let mut asked = Asked {
            genes: opening.tokens.genes,
            values: opening.tokens.values,
            counted: vec![0.0],
            modalities: opening.kinds,
        };
        for (part, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let features =
                self.sentences
                    .questions(part, (cell as u64, *row), round, self.asked[part]);
            asked
                .counted
                .resize(asked.counted.len() + features.tokens.len(), 1.0);
            asked.genes.extend(features.tokens.genes);
            asked.values.extend(features.tokens.values);
            asked.modalities.extend(features.kinds);
        }
        if !self.tells_modalities {
            asked.modalities.clear();
        }
        asked
    }

    /// What the model reads as the values of one part of the data, `[cells, features]`.
    pub fn values(&self, data: &Data, part: usize, cells: &[usize]) -> Array2<f64> {
        let features = data.parts[part].features.len();
        let row = |&cell: &usize| {
            let row = data.parts[part].counts.row(cell);
            let questions = self
                .sentences
                .questions(part, (cell as u64, row), 0, features);
            questions.tokens.values.into_iter().map(f64::from)
        };
        let values = cells.iter().flat_map(row).collect();
        Array2::from_shape_vec((cells.len(), features), values).expect("a value for every feature")
    }
}

/// Names of the kinds of tokens: modalities in alphabetical order, then the special ones (reference section 6).
fn kinds(data: &Data) -> Vec<String> {
    let mut names: Vec<String> = data
        .parts
        .iter()
        .map(|part| part.kind.name().to_owned())
        .collect();
    names.sort();
    names.extend([PAD, CLS, EOC].map(str::to_owned));
    names
}

/// How cells become sentences: as the model was trained, or as the options say.
fn sentences(
    options: &Options,
    data: &Data,
    architecture: &Architecture,
    kinds: &[String],
) -> Sentences {
    let kind = |name: &str| kinds.iter().position(|k| k == name).unwrap_or(0) as i64;
    let is_published = data.settings.is_none() && options.no_train;
    let cls_value = match architecture.input_emb_style {
        // As a factor, 0 would leave nothing of `<cls>`.
        InputStyle::Scaling => 1.0,
        _ if is_published => architecture.pad_value as f32,
        _ => 0.0,
    };
    // A trained model's choices are repeated, whatever the seed of this run.
    let seed = Seed(
        data.settings
            .as_ref()
            .map_or(options.seed, |known| known.seed),
    );
    let share = (options.tokens.max_length - 1) / data.parts.len().max(1);
    let modality = |(number, part): (usize, &Part)| {
        let known = data.settings.as_ref();
        let ids = part
            .tokens
            .iter()
            .filter_map(|token| data.vocabulary.id(token));
        let settings = known.map_or_else(
            || tokens::Settings {
                options: tokens::Options {
                    max_length: usize::MAX,
                    long_cells: LongCells::Truncate,
                    ..options.tokens.clone()
                },
                cls: None,
                cls_value,
                values: values_of(options, part.kind, architecture.input_emb_style),
            },
            |known| known.tokens[known_number(known, part, number)].clone(),
        );
        Modality {
            tokenizer: Tokenizer::new(settings, ids.map(i64::from).collect(), seed),
            kind: kind(part.kind.name()),
            budget: known.map_or(share, |known| {
                known.budgets[known_number(known, part, number)]
            }),
        }
    };
    Sentences {
        cls: Cls {
            gene: data.vocabulary.cls().map_or(0, i64::from),
            value: cls_value,
            kind: kind(CLS),
        },
        modalities: data.parts.iter().enumerate().map(modality).collect(),
        seed,
    }
}

/// The place of a part among the modalities that a model was trained on.
fn known_number(settings: &Settings, part: &Part, otherwise: usize) -> usize {
    let name = part.kind.name();
    let at = settings
        .features
        .iter()
        .position(|known| known.kind == name);
    at.unwrap_or(otherwise)
}

/// What the model reads as values: antibodies come as logarithms of ratios already, and bins as factors of gene vectors would
/// be of no size that a model from scratch was made for.
fn values_of(options: &Options, kind: ModalityKind, style: InputStyle) -> Values {
    let is_new = options.checkpoint.is_none() || style == InputStyle::Scaling;
    let usual = if is_new {
        Values::Logarithms
    } else {
        Values::Bins
    };
    match (options.values.unwrap_or(usual), kind) {
        (Values::Logarithms, ModalityKind::Protein) => Values::Unchanged,
        (values, _) => values,
    }
}
