//! `scgpt-tokenize`: tokenizes count matrices of common formats into a pre-training corpus.

mod inputs;
mod piece;
mod scan;
mod selection;
mod shard_writer;
mod stream;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::inputs::Inputs;
use self::scan::Scan;
use self::shard_writer::ShardWriter;
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
    /// Count matrices: AnnData (.h5ad), MuData (.h5mu), 10x (.h5, or the directory with matrix.mtx), Matrix Market, loom, CSV or
    /// TSV (gzipped or not), or the directory of an existing corpus. Required unless --samples is given. Comma-separated.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "matrix", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// Sample sheet (CSV) instead of --input, with a column path (relative to the sheet); other columns, such as sample and
    /// batch, become annotations of the cells.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "csv", "x-direction" = "input"))]
    pub samples: Option<PathBuf>,
    /// Directory with the corpus: Parquet shards, vocab.json, manifest.json and genes.tsv, the mapping status of every gene name.
    /// It must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "corpus", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Vocabulary that defines the gene IDs: a vocab.json, or the directory of a pre-trained model. Default: a new vocabulary of
    /// all genes of the inputs.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "input"))]
    pub vocab: Option<PathBuf>,
    /// Columns of obs to keep in the corpus. Comma-separated.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub obs: Vec<String>,
    /// Filter expressions on columns of obs, such as "disease == normal" or "tissue == lung|heart" (any of these values);
    /// operators are ==, !=, >=, <=, > and <. Only cells that meet all expressions are kept. Comma-separated. Text after a comma
    /// without an operator belongs to the value before it.
    #[arg(
        id = "filter",
        long = "filter",
        value_name = "CONDITION",
        value_delimiter = ','
    )]
    #[serde(rename = "filter")]
    pub conditions: Vec<String>,
    /// Minimum number of expressed genes per cell; cells with fewer are dropped. Only genes in the vocabulary count.
    #[arg(long)]
    pub min_genes: usize,
    /// Minimum number of cells that express a gene; genes with fewer are dropped. Needs one more pass over the data.
    #[arg(long)]
    pub min_cells: u64,
    /// Text file with genes to keep, one per line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes: Option<PathBuf>,
    /// Number of highly variable genes to keep; 0 keeps all. Selected by the flavor seurat_v3 for counts, else cell_ranger, in
    /// large inputs from a random sample of cells.
    #[arg(long)]
    pub n_hvg: usize,
    /// Representation of expression values. scgpt-pretrain expects raw, and bins these itself.
    #[arg(long)]
    pub values: Values,
    /// Number of expression bins, including the bin for zero (--values binned). Must match that of a pre-trained model, 51 for
    /// the published models.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 3, max = 1000))]
    pub n_bins: usize,
    /// Bin of tied values when bin edges coincide.
    #[arg(long, hide_short_help = true)]
    pub ties: Ties,
    /// Maximum number of cells per file (shard) of the corpus.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1, max = 10000000))]
    pub shard_cells: u64,
    /// Approximate memory to use, such as 4G. Inputs may be far larger.
    #[arg(long, value_name = "SIZE")]
    pub memory: Size,
    /// Random seed. Results are identical for the same seed.
    #[arg(long)]
    pub seed: u64,
    /// Resume an interrupted run from its finished shards in OUTPUT.partial. The corpus is bit-identical to that of an
    /// uninterrupted run.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten, next_help_heading = "Reading")]
    #[serde(flatten)]
    pub formats: formats::Options,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    /// Feature type to read from files with several types, such as those of Cell Ranger.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
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
            values: Values::Raw,
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

/// Minimum memory for reading and writing.
const LEAST_MEMORY: Size = Size(128 << 20);
/// Upper bound of the bytes that a value needs between reading and writing.
const BYTES_PER_VALUE: u64 = 64;

impl Options {
    /// Maximum number of values in memory at once.
    fn values_at_once(&self) -> usize {
        (self.memory.0 / BYTES_PER_VALUE / 2) as usize
    }

    /// Memory for transposing matrices.
    fn spool_memory(&self) -> usize {
        (self.memory.0 / 4) as usize
    }

    /// The filter expressions. Text after a comma that is not an expression belongs to the value before it, as in
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
    const SUMMARY: &'static str = "Tokenize count matrices into a pre-training corpus";
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
            problems.push("give either `--input` or `--samples`".into());
        }
        if options.memory < LEAST_MEMORY {
            let found = options.memory;
            problems.push(format!(
                "`--memory`: {found} is too small, at least {LEAST_MEMORY} is required"
            ));
        }
        problems.extend(
            options
                .conditions()
                .err()
                .map(|problem| format!("`--filter`: {problem}")),
        );
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        output::check_directory(&options.output, output::Existing::Refuse)?;
        run.record_at(options.output.join(output::RECORD));
        run.seed(options.seed);
        let inputs = Inputs::list(&options, run)?;
        let mut scan = run.stage("scan_inputs", |run| Scan::new(&options, &inputs, run))?;
        run.stage("select_genes", |run| {
            selection::choose(&options, &inputs, &mut scan, run)
        })?;
        let mut writer = ShardWriter::start(&options, &scan, &inputs, run)?;
        run.stage("tokenize", |run| {
            stream::all(&options, &inputs, &scan, &mut writer, run)
        })?;
        run.stage("write", |run| writer.finish(&options, &scan, run))
    }
}
