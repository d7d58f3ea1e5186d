//! `scgpt-grn programs`: genes that a model holds for similar, as programs and as a network (reference section 11.6).

mod activity;
mod genes;
mod questions;
mod results;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::genes::Genes;
use super::choice::Choice;
use crate::analysis::gene_network::{self, Directions, ProgramSettings, Programs as Found};
use crate::cells;
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::programs::{CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::progress;
use crate::run_record::Run;

/// What stands for a gene.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Vectors {
    /// The vector that the model has learnt for it, whatever the cells.
    #[default]
    Learnt,
    /// The mean of what the model makes of it in the cells of --input.
    InCells,
}

/// Options of `scgpt-grn programs`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Model: a folder, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Cells in which programs are looked at, an AnnData file. Without it all genes of the model are looked at.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Option<PathBuf>,
    /// Where to write the genes, an AnnData file with a row for every gene: its program in obs, its vector in obsm/X_scGPT, its
    /// similarity with others in obsp/similarity.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// What stands for a gene: the vector the model has learnt for it, or the mean of what the model makes of it in the cells.
    #[arg(long)]
    pub vectors: Vectors,
    /// Column of obs with groups of cells, such as cell types.
    #[arg(long, value_name = "COLUMN")]
    pub groups: Option<String>,
    /// Groups whose cells are looked at. Default: all.
    #[arg(long, value_name = "VALUE")]
    pub only: Vec<String>,
    /// Most cells of each group that the model looks at, chosen at random; 0 takes all.
    #[arg(long)]
    pub max_cells: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub choice: Choice,
    /// Resolution of the clusters of genes (Leiden): higher finds more and smaller programs.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub resolution: f64,
    /// Neighbours of every gene in the graph.
    #[arg(long)]
    #[schemars(range(min = 2, max = 200))]
    pub neighbours: usize,
    /// Genes of the smallest cluster that is called a program.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub min_genes: usize,
    /// Least similarity (cosine) of two genes of a program that are joined by an edge.
    #[arg(long)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: f64,
    /// Also write the programs as gene sets.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "output"))]
    pub programs: Option<PathBuf>,
    /// Also write the edges inside programs as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub edges: Option<PathBuf>,
    /// Also write these edges as a graph that Cytoscape and networkx read.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "graphml", "x-direction" = "output"))]
    pub graph: Option<PathBuf>,
    /// Also draw a program as a network.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub drawing: Option<PathBuf>,
    /// Program to draw; 0 is the largest.
    #[arg(long, value_name = "NUMBER", help_heading = "Results")]
    pub drawn: usize,
    /// Also write how active the programs are in each group of cells, from 0 to 1 over the cells, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub scores: Option<PathBuf>,
    /// Also write a copy of the cells with how active the programs are in each of them in obsm/X_programs.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub scored: Option<PathBuf>,
    /// Also draw how active the programs are in each group of cells as a heat map.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub figure: Option<PathBuf>,
    /// Genes whose most similar genes are listed. In a model of several modalities these may be proteins or peaks.
    #[arg(long, value_name = "GENE", help_heading = "Results")]
    pub nearest: Vec<String>,
    /// Where to write the genes most similar to those of --nearest, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub nearest_table: Option<PathBuf>,
    /// Genes listed for each of --nearest.
    #[arg(long, help_heading = "Results")]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Gene families, GMT files: are their genes more similar to each other than genes drawn at random?
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"))]
    pub families: Vec<PathBuf>,
    /// Where to write how similar the genes of families are, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub family_table: Option<PathBuf>,
    /// Seed of all random choices: the same seed gives the same programs.
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
            vectors: Vectors::default(),
            groups: None,
            only: Vec::new(),
            max_cells: 500,
            choice: Choice::default(),
            resolution: 40.0,
            neighbours: 15,
            min_genes: 5,
            threshold: 0.4,
            programs: None,
            edges: None,
            graph: None,
            drawing: None,
            drawn: 0,
            scores: None,
            scored: None,
            figure: None,
            nearest: Vec::new(),
            nearest_table: None,
            top: 20,
            families: Vec::new(),
            family_table: None,
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
    const SUMMARY: &'static str = "Find programs of genes that a model holds for similar";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3432"],
        resources: INFERENCE,
        contents: &[
            (
                "output",
                &["obs/program", "obsm/X_scGPT", "obsp/similarity"],
            ),
            ("scored", &["obsm/X_programs"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        let mut needs = |is_asked: bool, has: bool, what: &str, needed: &str| {
            if is_asked && !has {
                problems.push(format!("`{what}` needs `{needed}`"));
            }
        };
        let (has_cells, has_groups) = (options.input.is_some(), options.groups.is_some());
        needs(
            options.vectors == Vectors::InCells,
            has_cells,
            "--vectors in-cells",
            "--input",
        );
        needs(options.scored.is_some(), has_cells, "--scored", "--input");
        needs(
            options.scores.is_some(),
            has_cells && has_groups,
            "--scores",
            "--input and --groups",
        );
        needs(
            options.figure.is_some(),
            has_cells && has_groups,
            "--figure",
            "--input and --groups",
        );
        needs(!options.only.is_empty(), has_groups, "--only", "--groups");
        needs(has_groups, has_cells, "--groups", "--input");
        let has_table = options.nearest_table.is_some();
        needs(
            has_table,
            !options.nearest.is_empty(),
            "--nearest-table",
            "--nearest",
        );
        needs(
            !options.nearest.is_empty(),
            has_table,
            "--nearest",
            "--nearest-table",
        );
        let has_table = options.family_table.is_some();
        needs(
            has_table,
            !options.families.is_empty(),
            "--family-table",
            "--families",
        );
        needs(
            !options.families.is_empty(),
            has_table,
            "--families",
            "--family-table",
        );
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let genes = run.stage("read", |run| Genes::read(&options, checkpoint, device, run))?;
        let directions = Directions::new(genes.vectors.view())?;
        let settings = ProgramSettings {
            neighbours: options.neighbours,
            resolution: options.resolution,
            min_genes: options.min_genes,
            seed: options.seed,
        };
        let found = run.stage("cluster", |_| {
            gene_network::programs(genes.vectors.view(), settings)
        })?;
        report(&genes, &found, run);
        let edges = results::edges_inside(&directions, &found, options.threshold);
        run.metric("edges", edges.len());
        results::write_network(&options, &genes, (&directions, &found), run)?;
        results::write_programs(&options, &genes.names, (&found, &edges), run)?;
        if let Some(path) = &options.nearest_table {
            let text = questions::nearest(&options, &genes, &directions)?;
            steps::write_text(path, &text, run)?;
        }
        if let Some(path) = &options.family_table {
            let text = questions::families(&options, &genes, &directions, run)?;
            steps::write_text(path, &text, run)?;
        }
        if options.scores.is_some() || options.scored.is_some() || options.figure.is_some() {
            let programs = &found.programs;
            run.stage("score", |run| {
                activity::write(&options, &genes, programs, run)
            })?;
        }
        Ok(())
    }
}

/// What a program is called.
fn name(program: usize) -> String {
    format!("program_{program}")
}

fn report(genes: &Genes, found: &Found, run: &mut Run) {
    let programs = &found.programs;
    let covered: usize = programs.iter().map(Vec::len).sum();
    progress::result(&format!(
        "{} programs of {} genes; {} of {} genes are in none",
        programs.len(),
        covered,
        genes.names.len() - covered,
        genes.names.len()
    ));
    if programs.is_empty() {
        run.warning("no cluster of genes is large enough for a program: lower `--resolution` or `--min-genes`");
    }
    run.metric("programs", programs.len());
    run.metric("genes", genes.names.len());
    run.metric("genes_in_programs", covered);
}
