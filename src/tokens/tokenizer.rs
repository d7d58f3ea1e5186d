//! Tokenization of one cell: bin values, put `<cls>` in front, sample down to the maximum length.

use super::binning::{self, Ties};
use crate::random::{self, Seed, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Truncation of cells with too many tokens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum LongCells {
    /// A random sample of the genes, depending on the seed.
    #[default]
    Sample,
    /// The first genes in file order.
    Truncate,
}

/// Options of tokenization.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Number of expression bins, including the bin for zero. Must match that of a pre-trained model, 51 for the published
    /// models.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Maximum number of tokens per cell, including the CLS token. Larger values increase run time and memory.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// Bin of tied values when bin edges coincide.
    #[arg(long, hide_short_help = true)]
    pub ties: Ties,
    /// How to shorten cells with more than --max-length tokens (scgpt-integrate always takes a random sample).
    #[arg(long, hide_short_help = true)]
    pub long_cells: LongCells,
    /// Also include genes with zero counts as tokens. Increases run time and memory.
    #[arg(long, hide_short_help = true)]
    pub include_zero_genes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            n_bins: 51,
            max_length: 1200,
            ties: Ties::BothSided,
            long_cells: LongCells::Sample,
            include_zero_genes: false,
        }
    }
}

/// Representation of expression values.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// Quantile bins among the expressed genes of each cell, as in the published models.
    Binned,
    /// log1p of counts scaled to 10,000 per cell over the selected genes (scgpt-tokenize: over all genes of the vocabulary).
    Log1p,
    /// The values of the matrix, unchanged.
    Raw,
}

/// All settings of tokenization, stored with a trained model so that prediction repeats them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(flatten)]
    pub options: Options,
    /// Id of the `<cls>` token; none for sequences without it.
    pub cls: Option<i64>,
    /// Value that goes with `<cls>`: 0 in fine-tuning, the pad value in embedding and pre-training (docs/methods.md,
    /// "Tokenization").
    pub cls_value: f32,
    /// Representation of expression values.
    pub values: Values,
}

/// The token sequence of one cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokens {
    /// Vocabulary ids.
    pub genes: Vec<i64>,
    /// Binned expression.
    pub values: Vec<f32>,
}

impl Tokens {
    pub fn len(&self) -> usize {
        self.genes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.genes.is_empty()
    }

    /// The tokens at the given positions, in the given order.
    pub fn select(&self, positions: &[usize]) -> Self {
        Self {
            genes: positions.iter().map(|&at| self.genes[at]).collect(),
            values: positions.iter().map(|&at| self.values[at]).collect(),
        }
    }

    /// Pads on the right up to `length`; longer sequences are unchanged.
    pub fn pad(&mut self, length: usize, pad_id: i64, pad_value: f32) {
        self.genes.resize(length.max(self.len()), pad_id);
        self.values.resize(length.max(self.values.len()), pad_value);
    }
}

/// Tokenizes cells whose columns have vocabulary ids.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    settings: Settings,
    gene_ids: Vec<i64>,
    seed: Seed,
}

impl Tokenizer {
    /// `gene_ids` holds the vocabulary id of every column of the cells to come.
    pub fn new(settings: Settings, gene_ids: Vec<i64>, seed: Seed) -> Self {
        Self {
            settings,
            gene_ids,
            seed,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tokens of one cell. `cell` is its index in the file: with the seed it fixes every random choice, so that neither
    /// chunks nor threads change the result.
    pub fn tokens(&self, cell: u64, columns: &[u32], values: &[f32]) -> Tokens {
        let sequence = self.sequence(columns, &self.transformed(cell, values));
        if sequence.len() <= self.settings.options.max_length {
            return sequence;
        }
        let kept = match self.settings.options.long_cells {
            LongCells::Sample => {
                self.sample(sequence.len(), &mut self.seed.stream("genes", &[cell]))
            }
            LongCells::Truncate => (0..self.settings.options.max_length).collect(),
        };
        sequence.select(&kept)
    }

    /// All genes, expressed or not, and their values as the model reads them.
    pub fn values(&self, cell: u64, columns: &[u32], values: &[f32]) -> Tokens {
        let mut all = vec![0.0; self.gene_ids.len()];
        for (&column, value) in columns.iter().zip(self.transformed(cell, values)) {
            all[column as usize] = value;
        }
        Tokens {
            genes: self.gene_ids.clone(),
            values: all,
        }
    }

    /// Values of the expressed genes of a cell as the model reads them.
    fn transformed(&self, cell: u64, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        match self.settings.values {
            Values::Binned => {
                let Options { n_bins, ties, .. } = self.settings.options;
                let mut stream = self.seed.stream("bins", &[cell]);
                binning::bin(&mut values, n_bins, ties, &mut stream);
            }
            Values::Log1p => take_logarithms(&mut values),
            Values::Raw => {}
        }
        values
    }

    /// All tokens of a cell, given the values that the model reads: `<cls>`, then genes in column order.
    pub fn sequence(&self, columns: &[u32], values: &[f32]) -> Tokens {
        let mut tokens = Tokens::default();
        if let Some(cls) = self.settings.cls {
            tokens.genes.push(cls);
            tokens.values.push(self.settings.cls_value);
        }
        if self.settings.options.include_zero_genes {
            let start = tokens.len();
            tokens.genes.extend(&self.gene_ids);
            tokens.values.resize(tokens.genes.len(), 0.0);
            columns
                .iter()
                .zip(values)
                .for_each(|(&column, &value)| tokens.values[start + column as usize] = value);
        } else {
            let expressed = columns
                .iter()
                .zip(values)
                .filter(|(_, value)| **value != 0.0);
            for (&column, &value) in expressed {
                tokens.genes.push(self.gene_ids[column as usize]);
                tokens.values.push(value);
            }
        }
        tokens
    }

    /// Positions kept of a sequence that is too long: `<cls>` first, then a random sample (docs/methods.md, "Sampling of genes").
    fn sample(&self, length: usize, stream: &mut Stream) -> Vec<usize> {
        let fixed = usize::from(self.settings.cls.is_some());
        let wanted = self.settings.options.max_length - fixed;
        (0..fixed)
            .chain(
                random::sample(stream, length - fixed, wanted)
                    .into_iter()
                    .map(|at| at + fixed),
            )
            .collect()
    }
}

/// Counts on a linear scale to log1p of counts per 10,000.
fn take_logarithms(values: &mut [f32]) {
    let total: f64 = values.iter().map(|&value| f64::from(value)).sum();
    if total > 0.0 {
        values
            .iter_mut()
            .for_each(|value| *value = (f64::from(*value) / total * 1e4).ln_1p() as f32);
    }
}
