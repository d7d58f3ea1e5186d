//! `scgpt-report`: one page of everything that runs left behind.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Facts, Program, Resources, TOPICS, steps};
use crate::failure::Failure;
use crate::report::gather::Evidence;
use crate::report::page::{self, Choice, Content};
use crate::report::summary::summary;
use crate::run_record::Run;

/// Options of `scgpt-report`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// What to report on, several with commas between them: run records (run.json), model folders, AnnData files (.h5ad),
    /// tables (.tsv), or folders that hold any of these. Files that a record names are found here even if they were moved.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    #[schemars(extend("x-format" = "directory", "x-direction" = "input"))]
    pub input: Vec<PathBuf>,
    /// Where to write the page: one HTML file that needs no network and no other file.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "html", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Also write the numbers of all runs for MultiQC, which finds the file if its name ends with _mqc.json.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub summary: Option<PathBuf>,
    /// Title of the page.
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// Column of obs that colours the cells and groups them for marker genes. Default: predicted types, else clusters, else
    /// given types.
    #[arg(long, value_name = "COLUMN")]
    pub colour: Option<String>,
    /// Cells of each file that are drawn, at most; of more, a random sample. Counts and marker genes are always of all cells.
    #[arg(long)]
    #[schemars(range(min = 1, max = 200_000))]
    pub cells: usize,
    /// Genes of the heat maps, with commas between them. Default: those that stand out.
    #[arg(long, value_name = "GENE", value_delimiter = ',')]
    pub genes: Vec<String>,
    /// Marker genes that are listed for each group.
    #[arg(long)]
    #[schemars(range(min = 1, max = 200))]
    pub markers: usize,
    /// Seed of the random sample of cells.
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
            colour: None,
            cells: 20_000,
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
    const SUMMARY: &'static str =
        "Show what runs did on one page: curves, cells, marker genes, attention, comparisons";
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

    fn check(options: &Options) -> Vec<String> {
        let missing =
            "`--input`: give run records, model folders, files of cells, or folders that hold them";
        let is_missing = options.input.is_empty();
        is_missing.then(|| missing.to_owned()).into_iter().collect()
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let evidence = run.stage("gather", |_| Evidence::gather(&options.input));
        for path in &evidence.read {
            run.input(path)?;
        }
        let choice = Choice {
            title: options.title,
            colour: options.colour,
            cells: options.cells,
            genes: options.genes,
            markers: options.markers,
            seed: options.seed,
        };
        let content = run.stage("read cells", |_| Content::read(evidence, choice));
        for path in &content.read {
            run.input_unread(path)?;
        }
        for problem in &content.evidence.problems {
            run.warning(problem.clone());
        }
        if content.is_empty() {
            return Err(Failure::Input.error("the inputs hold no run record, no table that the page shows and no h5ad file with an embedding or attention that could be read: give run.json files, model folders or h5ad files with `--input`"));
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
