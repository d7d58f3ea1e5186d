//! `scgpt-grn programs`: gene programs and a gene network from the similarity of gene embeddings (docs/methods.md, "Gene
//! programs").

mod activity;
mod genes;
mod results;
mod similar_genes;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::genes::Genes;
use super::gene_selection::Choice;
use crate::analysis::gene_network::{self, Directions, ProgramSettings, Programs as Found};
use crate::cells;
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::programs::{CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::progress;
use crate::run_record::Run;

/// Gene representation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum GeneEmbedding {
    /// The gene embedding in the model, independent of cells.
    #[default]
    Static,
    /// The mean contextual gene embedding over the cells that express the gene. Needs --input.
    Contextual,
}

/// Options of `scgpt-grn programs`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// AnnData file with cells. Needed for contextual embeddings, program scores and highly variable genes.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Option<PathBuf>,
    /// AnnData file with one row per gene: program in obs/program, embedding in obsm/X_scGPT, similarity to other genes in
    /// obsp/similarity.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Gene embedding that is clustered.
    #[arg(long)]
    pub embedding: GeneEmbedding,
    /// Column of obs with groups of cells, such as cell types. Needs --input.
    #[arg(long, value_name = "COLUMN")]
    pub groups: Option<String>,
    /// Values of --groups to include. Comma-separated. Default: all.
    #[arg(long, value_name = "VALUE")]
    pub subset: Vec<String>,
    /// Maximum number of cells per group for contextual embeddings, sampled at random; 0 uses all.
    #[arg(long)]
    pub max_cells: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub choice: Choice,
    /// Resolution of Leiden clustering; higher values give more and smaller programs. The default is that of the tutorial of
    /// scGPT in Python.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub resolution: f64,
    /// Number of neighbors of each gene in the kNN graph.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 2, max = 200))]
    pub n_neighbors: usize,
    /// Minimum number of genes in a program; smaller clusters are dropped.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub min_genes: usize,
    /// Minimum cosine similarity of an edge between two genes of a program.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: f64,
    /// Output GMT of the programs as gene sets.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "output"))]
    pub programs: Option<PathBuf>,
    /// Output TSV of the edges within programs.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub edges: Option<PathBuf>,
    /// Output GraphML of the edges of --edges, for Cytoscape or networkx.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "graphml", "x-direction" = "output"))]
    pub graph: Option<PathBuf>,
    /// Output network plot (SVG) of the program --plot-program.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub network_plot: Option<PathBuf>,
    /// Number of the program in --network-plot; 0 is the largest.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "NUMBER",
        help_heading = "Options"
    )]
    pub plot_program: usize,
    /// Output TSV of the mean program scores of each group of cells; scores range from 0 to 1 over the cells. Needs --input and
    /// --groups.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub program_scores: Option<PathBuf>,
    /// Output AnnData file with program scores added to the input, in obsm/X_programs. Needs --input.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "FILE",
        help_heading = "Outputs"
    )]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub scored_cells: Option<PathBuf>,
    /// Output heatmap (SVG) of mean program scores by group of cells. Scores are scaled by program. Needs --input and --groups.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Genes whose most similar genes are listed in --similar-genes. With a multimodal model these may be proteins or peaks.
    /// Comma-separated.
    #[arg(long, value_name = "GENE", help_heading = "Options")]
    pub similar_to: Vec<String>,
    /// Output TSV of the genes most similar to those of --similar-to. Needs --similar-to.
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub similar_genes: Option<PathBuf>,
    /// Number of similar genes per gene of --similar-to.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// GMT files with gene families, for a permutation test of the similarity within each family. Needs --family-test.
    /// Comma-separated.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "FILE",
        help_heading = "Options"
    )]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"))]
    pub gene_families: Vec<PathBuf>,
    /// Output TSV of the similarity within gene families, compared with random gene sets. Needs --gene-families.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "FILE",
        help_heading = "Outputs"
    )]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub family_test: Option<PathBuf>,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint: PathBuf::new(),
            input: None,
            output: PathBuf::new(),
            embedding: GeneEmbedding::default(),
            groups: None,
            subset: Vec::new(),
            max_cells: 500,
            choice: Choice::default(),
            resolution: 40.0,
            n_neighbors: 15,
            min_genes: 5,
            threshold: 0.4,
            programs: None,
            edges: None,
            graph: None,
            network_plot: None,
            plot_program: 0,
            program_scores: None,
            scored_cells: None,
            plot: None,
            similar_to: Vec::new(),
            similar_genes: None,
            top: 20,
            gene_families: Vec::new(),
            family_test: None,
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Programs;

impl Program for Programs {
    const NAME: &'static str = "scgpt-grn programs";
    const SUMMARY: &'static str = "Infer gene programs from gene embeddings";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3432"],
        resources: INFERENCE,
        contents: &[
            (
                "output",
                &["obs/program", "obsm/X_scGPT", "obsp/similarity"],
            ),
            ("scored_cells", &["obsm/X_programs"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let (has_cells, has_groups) = (options.input.is_some(), options.groups.is_some());
        let is_contextual = options.embedding == GeneEmbedding::Contextual;
        let (cells, both) = ("--input", "--input and --groups");
        let [similar, table] = [
            !options.similar_to.is_empty(),
            options.similar_genes.is_some(),
        ];
        let [families, test] = [
            !options.gene_families.is_empty(),
            options.family_test.is_some(),
        ];
        let (scores, plot) = (options.program_scores.is_some(), options.plot.is_some());
        let subset = !options.subset.is_empty();
        let rules = [
            (is_contextual, "--embedding contextual", has_cells, cells),
            (
                options.scored_cells.is_some(),
                "--scored-cells",
                has_cells,
                cells,
            ),
            (scores, "--program-scores", has_cells && has_groups, both),
            (plot, "--plot", has_cells && has_groups, both),
            (subset, "--subset", has_groups, "--groups"),
            (has_groups, "--groups", has_cells, cells),
            (table, "--similar-genes", similar, "--similar-to"),
            (similar, "--similar-to", table, "--similar-genes"),
            (test, "--family-test", families, "--gene-families"),
            (families, "--gene-families", test, "--family-test"),
        ];
        let broken = rules
            .into_iter()
            .filter(|(given, _, has, _)| *given && !has);
        let problem =
            |(_, what, _, needed): (bool, &str, bool, &str)| format!("`{what}` needs `{needed}`");
        broken.map(problem).collect()
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let genes = run.stage("read", |run| Genes::read(&options, checkpoint, device, run))?;
        let directions = Directions::new(genes.embedding.view())?;
        let settings = ProgramSettings {
            neighbors: options.n_neighbors,
            resolution: options.resolution,
            min_genes: options.min_genes,
            seed: options.seed,
        };
        let found = run.stage("cluster", |_| {
            gene_network::programs(genes.embedding.view(), settings)
        })?;
        report(&genes, &found, run);
        let edges = results::edges_inside(&directions, &found, options.threshold);
        run.metric("edges", edges.len());
        results::write_network(&options, &genes, (&directions, &found), run)?;
        results::write_programs(&options, &genes.names, (&found, &edges), run)?;
        if let Some(path) = &options.similar_genes {
            let text = similar_genes::nearest(&options, &genes, &directions)?;
            steps::write_text(path, &text, run)?;
        }
        if let Some(path) = &options.family_test {
            let text = similar_genes::families(&options, &genes, &directions, run)?;
            steps::write_text(path, &text, run)?;
        }
        if options.program_scores.is_some()
            || options.scored_cells.is_some()
            || options.plot.is_some()
        {
            let programs = &found.programs;
            run.stage("score", |run| {
                activity::write(&options, &genes, programs, run)
            })?;
        }
        Ok(())
    }
}

/// Name of a program.
fn name(program: usize) -> String {
    format!("program_{program}")
}

fn report(genes: &Genes, found: &Found, run: &mut Run) {
    let programs = &found.programs;
    let covered: usize = programs.iter().map(Vec::len).sum();
    progress::result(&format!(
        "{} programs of {} genes; {} of {} genes are in no program",
        programs.len(),
        covered,
        genes.names.len() - covered,
        genes.names.len()
    ));
    if programs.is_empty() {
        run.warning("no cluster of genes is large enough to be a program: lower `--resolution` or `--min-genes`");
    }
    run.metric("programs", programs.len());
    run.metric("genes", genes.names.len());
    run.metric("genes_in_programs", covered);
}
