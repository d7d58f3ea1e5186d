//! One cell to its tokens: bin, put `<cls>` in front, and sample down to the model's length.

use super::binning::{self, Ties};
use crate::random::{self, Seed, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of cells with too many tokens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum LongCells {
    /// A random sample of their genes.
    #[default]
    Sample,
    /// The first genes in the file's order.
    Truncate,
}

/// How cells become tokens, as a user sets it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Number of bins that the expression values of a cell are ranked into, the zero bin included. Published models use 51.
    #[arg(long)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Most tokens of a cell, the CLS token included. Time and memory grow with it.
    #[arg(long)]
    #[schemars(range(min = 2, max = 100000))]
    pub max_length: usize,
    /// What happens to equal counts that lie on several bin edges: one-sided puts them into the highest bin, as published
    /// models were pre-trained; both-sided spreads them at random, as the reference fine-tunes, the same way for the same seed.
    #[arg(long)]
    pub ties: Ties,
    /// What becomes of cells with more tokens than that: a random sample of their genes (the same for the same seed), or the
    /// first genes in the file's order.
    #[arg(long)]
    pub long_cells: LongCells,
    /// Also make tokens of genes that a cell does not express. Sentences get longer and training slower.
    #[arg(long)]
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

/// What a model reads as the value of a gene.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// Its bin among the expressed genes of the cell, as published models do.
    Bins,
    /// The logarithm of 1 + its share of the cell's counts for the genes that the model reads, times 10,000.
    Logarithms,
    /// The number in the matrix, as it is.
    Unchanged,
}

/// Everything that decides the tokens of a cell: kept with a trained model, so that prediction repeats it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(flatten)]
    pub options: Options,
    /// Id of the `<cls>` token, or none to leave it out.
    pub cls: Option<i64>,
    /// Value that goes with `<cls>`: 0 in fine-tuning, the pad value in embedding and pre-training (quirk Q13).
    pub cls_value: f32,
    /// What the model reads as the value of a gene.
    pub values: Values,
}

/// The sentence of one cell.
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

    /// Pads on the right, or leaves alone what is as long already.
    pub fn pad(&mut self, length: usize, pad_id: i64, pad_value: f32) {
        self.genes.resize(length.max(self.len()), pad_id);
        self.values.resize(length.max(self.values.len()), pad_value);
    }
}

/// Makes tokens of cells whose columns are known to the vocabulary.
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
    /// chunks nor threads change the answer.
    pub fn tokens(&self, cell: u64, columns: &[u32], values: &[f32]) -> Tokens {
        let sentence = self.sentence(columns, &self.transformed(cell, values));
        if sentence.len() <= self.settings.options.max_length {
            return sentence;
        }
        let kept = match self.settings.options.long_cells {
            LongCells::Sample => {
                self.sample(sentence.len(), &mut self.seed.stream("genes", &[cell]))
            }
            LongCells::Truncate => (0..self.settings.options.max_length).collect(),
        };
        sentence.select(&kept)
    }

    /// Every gene, expressed or not, and what the model reads as its value in a cell.
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

    /// What the model reads as the values of the expressed genes of a cell.
    fn transformed(&self, cell: u64, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        match self.settings.values {
            Values::Bins => {
                let Options { n_bins, ties, .. } = self.settings.options;
                let mut stream = self.seed.stream("bins", &[cell]);
                binning::bin(&mut values, n_bins, ties, &mut stream);
            }
            Values::Logarithms => take_logarithms(&mut values),
            Values::Unchanged => {}
        }
        values
    }

    /// All tokens of a cell whose values are binned: `<cls>`, then genes in column order.
    pub fn sentence(&self, columns: &[u32], values: &[f32]) -> Tokens {
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

    /// Positions kept of a sentence that is too long: `<cls>` first, then a random sample (reference 10.1).
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
