//! `scgpt-tokenize`: count matrices of any format to a corpus of tokenised cells.

mod inputs;
mod pack;
mod selection;
mod stream;
mod survey;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::inputs::Inputs;
use self::pack::Packer;
use self::survey::Survey;
use super::{Facts, Program, Resources, TOPICS};
use crate::cells::conditions::{self, Condition};
use crate::cells::{self, naming};
use crate::formats;
use crate::options::Size;
use crate::output;
use crate::run_record::Run;
use crate::tokens::Values;
use crate::tokens::binning::Ties;

/// Options of `scgpt-tokenize`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Count matrices, several with commas between them: AnnData (.h5ad), MuData (.h5mu), 10x (.h5, or the folder with
    /// matrix.mtx), Matrix Market, loom, CSV or TSV (gzipped or not), or a corpus that was tokenised before.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "matrix", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// Sample sheet (CSV) with a column path, and any others, such as sample and batch, which become annotations of the cells.
    /// Relative paths start at the sheet's folder.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "csv", "x-direction" = "input"))]
    pub samples: Option<PathBuf>,
    /// Folder to write: Parquet shards, vocab.json, manifest.json and genes.tsv, which tells what became of every gene.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "corpus", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Vocabulary: a vocab.json, or the folder of a pre-trained model, whose genes then get the same ids. Without it, all
    /// genes of the inputs become the vocabulary.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "input"))]
    pub vocab: Option<PathBuf>,
    /// Columns of obs to keep in the corpus, with commas between them.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub obs: Vec<String>,
    /// Condition on a column of obs that cells must fulfil, as in "disease == normal" or "tissue == lung|heart"; also with !=, >=, <=,
    /// > and <. Several, with commas between them, must all be fulfilled; a value may hold commas too.
    #[arg(
        id = "where",
        long = "where",
        value_name = "CONDITION",
        value_delimiter = ','
    )]
    #[serde(rename = "where")]
    pub conditions: Vec<String>,
    /// Leave out cells that express fewer known genes.
    #[arg(long)]
    pub min_genes: usize,
    /// Leave out genes that fewer cells express. Takes one more pass through the data.
    #[arg(long)]
    pub min_cells: u64,
    /// Keep only the genes that this file lists, one a line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes: Option<PathBuf>,
    /// Keep only so many highly variable genes; 0 keeps all. Of many cells, they are chosen on a random sample: the same for the
    /// same seed.
    #[arg(long)]
    pub n_hvg: usize,
    /// What is written as the expression of a gene: the number in the matrix, unchanged, as pre-training expects; the logarithm
    /// of 1 + its share of the cell's counts times 10,000; or its bin.
    #[arg(long)]
    pub values: Values,
    /// Number of bins, the zero bin included.
    #[arg(long)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// What happens to equal counts that lie on several bin edges: one-sided puts them into the highest bin, both-sided spreads
    /// them at random, the same way for the same seed.
    #[arg(long)]
    pub ties: Ties,
    /// Most cells in one file of the corpus (shard).
    #[arg(long)]
    #[schemars(range(min = 1, max = 10000000))]
    pub shard_cells: u64,
    /// Memory to use, about. Inputs may be far larger.
    #[arg(long, value_name = "SIZE")]
    pub memory: Size,
    /// Seed of all random choices: the same seed gives the same corpus.
    #[arg(long)]
    pub seed: u64,
    /// Go on with an interrupted run, whose finished shards lie in OUTPUT.partial. The corpus is the same, bit for bit.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten, next_help_heading = "Reading")]
    #[serde(flatten)]
    pub formats: formats::Options,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    /// Kind of features to read where a file has several.
    #[arg(long, value_name = "NAME")]
    pub feature_type: String,
    #[command(flatten, next_help_heading = "Genes")]
    #[serde(flatten)]
    pub naming: naming::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            samples: None,
            output: PathBuf::new(),
            vocab: None,
            obs: Vec::new(),
            conditions: Vec::new(),
            min_genes: 1,
            min_cells: 0,
            genes: None,
            n_hvg: 0,
            values: Values::Unchanged,
            n_bins: 51,
            ties: Ties::OneSided,
            shard_cells: 65_536,
            memory: Size(1 << 30),
            seed: 0,
            resume: false,
            formats: formats::Options::default(),
            cells: cells::Options::default(),
            feature_type: "Gene Expression".into(),
            naming: naming::Options::default(),
        }
    }
}

/// The least that reading and packing need.
const LEAST_MEMORY: Size = Size(128 << 20);
/// Bytes that a value needs on its way from the file to the shard, generously.
const BYTES_PER_VALUE: u64 = 64;

impl Options {
    /// Values that may be on their way at once.
    fn values_at_once(&self) -> usize {
        (self.memory.0 / BYTES_PER_VALUE / 2) as usize
    }

    /// Memory for what has to be turned around before it can be read.
    fn spool_memory(&self) -> usize {
        (self.memory.0 / 4) as usize
    }

    /// The conditions. What follows a comma without being one belongs to the value before it, as in
    /// "cell_type == CD4-positive, alpha-beta T cell".
    fn conditions(&self) -> Result<Vec<Condition>, String> {
        let mut texts: Vec<String> = Vec::new();
        for text in &self.conditions {
            match texts.last_mut() {
                Some(last) if !conditions::has_sign(text) => *last += &format!(",{text}"),
                _ => texts.push(text.clone()),
            }
        }
        texts.iter().map(|text| text.parse()).collect()
    }
}

/// The program.
pub struct Tokenize;

impl Program for Tokenize {
    const NAME: &'static str = "scgpt-tokenize";
    const SUMMARY: &'static str =
        "Turn count matrices of any format into a corpus of tokenised cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0335"],
        resources: Resources {
            cpus: 4,
            memory_gb: 4,
            gpu: false,
        },
        contents: &[(
            "output",
            &[
                "cells-00000.parquet",
                "vocab.json",
                "manifest.json",
                "genes.tsv",
                "run.json",
            ],
        )],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.input.is_empty() == options.samples.is_none() {
            problems
                .push("either `--input` or `--samples` says what to read; give one of them".into());
        }
        if options.memory < LEAST_MEMORY {
            let found = options.memory;
            problems.push(format!(
                "`--memory`: {found} is not enough, at least {LEAST_MEMORY} is needed"
            ));
        }
        problems.extend(
            options
                .conditions()
                .err()
                .map(|problem| format!("`--where`: {problem}")),
        );
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        output::check_directory(&options.output, output::Existing::Refuse)?;
        run.record_at(options.output.join(output::RECORD));
        run.seed(options.seed);
        let inputs = Inputs::list(&options, run)?;
        let mut survey = run.stage("look at the inputs", |run| {
            Survey::of(&options, &inputs, run)
        })?;
        run.stage("choose genes", |run| {
            selection::choose(&options, &inputs, &mut survey, run)
        })?;
        let mut packer = Packer::start(&options, &survey, &inputs, run)?;
        run.stage("tokenise", |run| {
            stream::all(&options, &inputs, &survey, &mut packer, run)
        })?;
        run.stage("write", |run| packer.finish(&options, &survey, run))
    }
}
