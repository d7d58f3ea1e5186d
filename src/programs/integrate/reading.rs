//! Token sequences and training examples of cells.

use ndarray::Array2;

use super::Options;
use super::data::{Data, Part};
use crate::cells::cohort::ModalityKind;
use crate::checkpoint::{Architecture, InputStyle};
use crate::model::Heads;
use crate::predict::integration::{Cell, Settings};
use crate::random::{self, Seed};
use crate::tokens::modalities::{Cls, Modality, MultimodalTokenizer, TokenSequence};
use crate::tokens::{self, LongCells, Tokenizer, Values, masking};
use crate::train::integration::{Example, Query};
use crate::vocabulary::{CLS, EOC, PAD};

/// Query features of a model from scratch, predicted from the cell embedding.
const N_QUERY_GENES: usize = 300;
/// Modality dropout where all cells have all modalities, and where some lack one.
const MODALITY_DROPOUT: [f64; 2] = [0.2, 0.5];
/// Gene dropout of a model from scratch: fraction of the tokens of a cell.
const GENE_DROPOUT: f64 = 0.5;

/// Makes model inputs and training examples of cells.
pub struct Reader {
    pub tokenizer: MultimodalTokenizer,
    /// Names of the token types, in the order of their numbers.
    pub kinds: Vec<String>,
    pub has_modality_tokens: bool,
    /// Number of batches that the expression heads can be conditioned on.
    n_head_batches: i64,
    /// Number of query features of each modality, predicted in addition to the masked values.
    n_queries: Vec<usize>,
    gene_dropout: f64,
    modality_dropout: f64,
    patterns: i64,
    /// Maximum number of tokens of a modality in training.
    length: usize,
    mask_value: f32,
}

impl Reader {
    pub fn new(options: &Options, data: &Data, architecture: &Architecture, heads: &Heads) -> Self {
        let kinds = kinds(data);
        let is_new = data.checkpoint.is_none();
        let all = options
            .n_query_genes
            .unwrap_or(if is_new { N_QUERY_GENES } else { 0 });
        let count = all / data.parts.len().max(1);
        let sizes = data.parts.iter().map(|part| part.features.len());
        let dropout = if is_new { GENE_DROPOUT } else { 0.0 };
        let modality_dropout = MODALITY_DROPOUT[usize::from(data.is_mosaic())];
        Self {
            tokenizer: tokenizer(options, data, architecture, &kinds),
            kinds,
            has_modality_tokens: heads.modalities.is_some(),
            n_head_batches: heads.batch_labels.unwrap_or(0) as i64,
            n_queries: sizes.map(|size| count.min(size)).collect(),
            gene_dropout: options.gene_dropout.unwrap_or(dropout),
            modality_dropout: options.modality_dropout.unwrap_or(modality_dropout),
            patterns: Self::patterns(data) as i64,
            length: (options.training_length / data.parts.len().max(1)).max(1),
            mask_value: architecture.mask_value as f32,
        }
    }

    /// A cell as the model reads it, in the wanted modalities.
    pub fn cell(&self, data: &Data, cell: usize, wanted: &dyn Fn(usize) -> bool) -> Cell {
        let mut rows = data.rows(cell);
        let dropped = (0..rows.len()).filter(|part| !wanted(*part));
        dropped.for_each(|part| rows[part] = None);
        Cell {
            sequence: self
                .tokenizer
                .read(cell as u64, &rows, 0, (1.0, usize::MAX)),
            batch: self.input_batch(data.batches[cell]),
            domain: data.batches[cell],
        }
    }

    /// The batch that conditions the expression heads: for a new batch, which they do not have, the first.
    fn input_batch(&self, batch: i64) -> i64 {
        if batch < self.n_head_batches {
            batch
        } else {
            0
        }
    }

    /// The example of a cell in an epoch, or for validation: a function of the two and the seed alone.
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
        let mut input = rows.clone();
        let measured: Vec<usize> = (0..rows.len())
            .filter(|&part| rows[part].is_some())
            .collect();
        if measured.len() > 1 && random::uniform(&mut stream) < self.modality_dropout {
            input[measured[random::below(&mut stream, measured.len())]] = None;
        }
        let kept = match epoch {
            Some(_) => (1.0 - self.gene_dropout, self.length),
            None => (1.0, self.length),
        };
        let TokenSequence { tokens, kinds } = self.tokenizer.read(cell as u64, &input, round, kept);
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
            modalities: if self.has_modality_tokens {
                kinds
            } else {
                Vec::new()
            },
            query: self.query(&rows, (cell, round)),
            batch: data.batches[cell],
            domain: data.batches[cell],
            origin: self.origin(data.batches[cell], &input),
        }
    }

    /// Class for the discriminator: the batch and, where cells lack modalities, which of them are in the input.
    fn origin(&self, batch: i64, input: &[Option<(&[u32], &[f32])>]) -> i64 {
        let bits = input
            .iter()
            .enumerate()
            .map(|(part, row)| i64::from(row.is_some()) << part);
        let pattern = bits.sum::<i64>().max(1) - 1;
        batch * self.patterns + if self.patterns > 1 { pattern } else { 0 }
    }

    /// Number of sets of modalities that a cell may have as input, if cells differ in them.
    fn patterns(data: &Data) -> usize {
        if data.is_mosaic() {
            (1 << data.parts.len()) - 1
        } else {
            1
        }
    }

    /// Number of classes of the discriminator.
    pub fn origins(data: &Data) -> usize {
        data.batch_names.len() * Self::patterns(data)
    }

    /// Query features of the measured modalities of a cell, to predict from its embedding.
    fn query(&self, rows: &[Option<(&[u32], &[f32])>], (cell, round): (usize, u64)) -> Query {
        if self.n_queries.iter().all(|n| *n == 0) {
            return Query::default();
        }
        let cls = self.tokenizer.cls_token();
        let mut query = Query {
            genes: cls.tokens.genes,
            values: cls.tokens.values,
            counted: vec![0.0],
            modalities: cls.kinds,
        };
        for (part, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let features =
                self.tokenizer
                    .features(part, (cell as u64, *row), round, self.n_queries[part]);
            query
                .counted
                .resize(query.counted.len() + features.tokens.len(), 1.0);
            query.genes.extend(features.tokens.genes);
            query.values.extend(features.tokens.values);
            query.modalities.extend(features.kinds);
        }
        if !self.has_modality_tokens {
            query.modalities.clear();
        }
        query
    }

    /// Values of one modality as the model reads them, `[cells, features]`.
    pub fn values(&self, data: &Data, part: usize, cells: &[usize]) -> Array2<f64> {
        let features = data.parts[part].features.len();
        let row = |&cell: &usize| {
            let row = data.parts[part].counts.row(cell);
            let all = self
                .tokenizer
                .features(part, (cell as u64, row), 0, features);
            all.tokens.values.into_iter().map(f64::from)
        };
        let values = cells.iter().flat_map(row).collect();
        Array2::from_shape_vec((cells.len(), features), values).expect("a value for every feature")
    }
}

/// Names of the token types: modalities in alphabetical order, then the special ones (docs/methods.md, "Modality tokens").
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

/// The tokenizer: with the settings of the trained model, or with the options.
fn tokenizer(
    options: &Options,
    data: &Data,
    architecture: &Architecture,
    kinds: &[String],
) -> MultimodalTokenizer {
    let kind = |name: &str| kinds.iter().position(|k| k == name).unwrap_or(0) as i64;
    let is_published = data.settings.is_none() && options.zero_shot;
    let cls_value = match architecture.input_emb_style {
        // As a factor, 0 would erase `<cls>`.
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
    let count = (options.tokens.max_length - 1) / data.parts.len().max(1);
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
            budget: known.map_or(count, |known| {
                known.budgets[known_number(known, part, number)]
            }),
        }
    };
    MultimodalTokenizer {
        cls: Cls {
            gene: data.vocabulary.cls().map_or(0, i64::from),
            value: cls_value,
            kind: kind(CLS),
        },
        modalities: data.parts.iter().enumerate().map(modality).collect(),
        seed,
    }
}

/// Position of a modality among those that a model was trained on.
fn known_number(settings: &Settings, part: &Part, otherwise: usize) -> usize {
    let name = part.kind.name();
    let at = settings
        .features
        .iter()
        .position(|known| known.kind == name);
    at.unwrap_or(otherwise)
}

/// Representation of the values of a modality: antibodies are centered log ratios already, and bins as factors of gene embeddings
/// would be too large for a model from scratch.
fn values_of(options: &Options, kind: ModalityKind, style: InputStyle) -> Values {
    let is_new = options.checkpoint.is_none() || style == InputStyle::Scaling;
    let usual = if is_new {
        Values::Log1p
    } else {
        Values::Binned
    };
    match (options.values.unwrap_or(usual), kind) {
        (Values::Log1p, ModalityKind::Protein) => Values::Raw,
        (values, _) => values,
    }
}
