//! `scgpt-report`: an HTML report of runs.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Facts, Program, Resources, TOPICS, steps};
use crate::failure::Failure;
use crate::report::collect::Evidence;
use crate::report::content::{Choice, Content};
use crate::report::page;
use crate::report::summary::summary;
use crate::run_record::Run;

/// Options of `scgpt-report`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Run outputs to summarize: run records (run.json), model directories, AnnData files (.h5ad), tables (.tsv), or directories
    /// that contain any of these. Files that a run record lists are matched by checksum, so they may have moved. Required.
    /// Comma-separated.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    #[schemars(extend("x-format" = "directory", "x-direction" = "input", "minItems" = 1))]
    pub input: Vec<PathBuf>,
    /// Self-contained HTML report.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "html", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Output JSON summary of all runs for MultiQC, which finds the file if its name ends with _mqc.json.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub summary: Option<PathBuf>,
    /// Title of the report.
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// Column of obs that colors the cells and groups them for marker genes. Default: predicted labels, else clusters, else given
    /// cell types, else another column with few values.
    #[arg(long, value_name = "COLUMN")]
    pub color: Option<String>,
    /// Maximum number of cells plotted per file, sampled at random. Cell counts and marker genes always use all cells.
    #[arg(long)]
    #[schemars(range(min = 1, max = 200_000))]
    pub max_cells: usize,
    /// Genes of the heatmaps, at most 100. Comma-separated. Default: top marker genes, and genes with the highest attention.
    #[arg(long, value_name = "GENE", value_delimiter = ',')]
    pub genes: Vec<String>,
    /// Number of marker genes per group.
    #[arg(long)]
    #[schemars(range(min = 1, max = 200))]
    pub markers: usize,
    /// Random seed. Results are identical for the same seed.
    #[arg(long)]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            output: PathBuf::new(),
            summary: None,
            title: "Single-cell analysis with scGPT".into(),
            color: None,
            max_cells: 20_000,
            genes: Vec::new(),
            markers: 10,
            seed: 0,
        }
    }
}

/// The program.
pub struct Report;

impl Program for Report {
    const NAME: &'static str = "scgpt-report";
    const SUMMARY: &'static str = "Summarize runs in an HTML report: training curves, cells, marker genes, attention, comparisons";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0337"],
        resources: Resources {
            cpus: 1,
            memory_gb: 4,
            gpu: false,
        },
        contents: &[],
    };
    type Options = Options;

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let evidence = run.stage("collect", |_| Evidence::collect(&options.input));
        for path in &evidence.read {
            run.input(path)?;
        }
        let choice = Choice {
            title: options.title,
            color: options.color,
            cells: options.max_cells,
            genes: options.genes,
            markers: options.markers,
            seed: options.seed,
        };
        let content = run.stage("read_cells", |_| Content::read(evidence, choice));
        for path in &content.read {
            run.input_unread(path)?;
        }
        for problem in &content.evidence.problems {
            run.warning(problem.clone());
        }
        if content.is_empty() {
            return Err(Failure::Input.error("the inputs contain no run record, no supported table and no readable h5ad file with an embedding or attention: give run.json files, model directories or h5ad files with `--input`"));
        }
        run.note(format!(
            "{} runs, cells of {} files, {} tables",
            content.evidence.runs.len(),
            content.views.len(),
            content.evidence.tables.len()
        ));
        let page = run.stage("write", |_| page::write(&content));
        steps::write_text(&options.output, &page, run)?;
        run.metric("bytes", page.len());
        if let Some(path) = &options.summary {
            let text = serde_json::to_string_pretty(&summary(&content))? + "\n";
            steps::write_text(path, &text, run)?;
        }
        Ok(())
    }
}
