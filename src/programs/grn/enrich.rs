//! `scgpt-grn enrich`: which known gene sets lists of genes are rich in, without asking a service.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TABLE_MEMORY;
use crate::analysis::enrichment::{Enriched, enrich};
use crate::failure::Failure;
use crate::formats::edges;
use crate::formats::gene_sets::{self, GeneSet};
use crate::programs::perturbed::some;
use crate::programs::{Facts, INSPECTION, Program, TOPICS, steps};
use crate::progress;
use crate::run_record::Run;

/// Options of `scgpt-grn enrich`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Lists of genes: programs that scgpt-grn programs wrote, or any GMT file, with a name, a description and the genes of a list in
    /// each line, tabs between them.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"))]
    pub lists: Option<PathBuf>,
    /// Table of edges that scgpt-grn attention wrote: the targets of each regulator in each condition are a list.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub edges: Option<PathBuf>,
    /// Known gene sets, GMT files such as those of MSigDB.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"), length(min = 1))]
    pub sets: Vec<PathBuf>,
    /// Genes in play, among which chance would choose: the AnnData file of genes that scgpt-grn wrote, or a text file with a gene in
    /// each line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad,txt", "x-direction" = "input"))]
    pub background: PathBuf,
    /// Where to write the table of lists and sets, best first.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Write only what has at most this false discovery rate; 1 writes all sets that share a gene with the list.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_fdr: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lists: None,
            edges: None,
            sets: Vec::new(),
            background: PathBuf::new(),
            output: PathBuf::new(),
            max_fdr: 1.0,
        }
    }
}

/// The program.
pub struct Enrich;

impl Program for Enrich {
    const NAME: &'static str = "scgpt-grn enrich";
    const SUMMARY: &'static str = "Tell which known gene sets programs and targets are rich in";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3501"],
        resources: INSPECTION,
        contents: &[],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        match (&options.lists, &options.edges) {
            (None, None) => vec!["give `--lists` or `--edges`, the genes to be explained".into()],
            (Some(_), Some(_)) => vec!["give `--lists` or `--edges`, not both".into()],
            _ => Vec::new(),
        }
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        let lists = lists(&options, run)?;
        let background = background(&options.background, run)?;
        let mut sets = Vec::new();
        for path in &options.sets {
            run.input(path)?;
            sets.extend(gene_sets::read(path, TABLE_MEMORY)?);
        }
        let place: HashMap<&String, usize> = background.iter().zip(0..).collect();
        let places = |set: &GeneSet| -> Vec<usize> {
            let genes = set.genes.iter();
            genes.filter_map(|gene| place.get(gene).copied()).collect()
        };
        let known: Vec<Vec<usize>> = sets.iter().map(places).collect();
        let mut text = String::from(HEADER);
        let mut significant = 0;
        for list in &lists {
            let own = places(list);
            if own.is_empty() {
                return Err(strangers(list, &options.background, &background));
            }
            let found = enrich(&own, &known, background.len());
            let rows = rows((&sets, &found), options.max_fdr);
            significant += usize::from(found.iter().any(|set| set.adjusted_p_value <= 0.05));
            rows.iter().for_each(|&at| {
                text.push_str(&row(
                    (list, own.len()),
                    (&sets[at], &found[at]),
                    &background,
                ))
            });
        }
        steps::write_text(&options.output, &text, run)?;
        progress::result(&format!(
            "{significant} of {} lists are rich in a known set (false discovery rate at most 0.05)",
            lists.len()
        ));
        run.metric("lists", lists.len());
        run.metric("lists_enriched", significant);
        run.metric("background", background.len());
        Ok(())
    }
}

const HEADER: &str =
    "list\tset\toverlap\tlist_size\tset_size\tbackground\tfold\tp_value\tbh\tbonferroni\tgenes\n";

/// The lists to be explained.
fn lists(options: &Options, run: &mut Run) -> Result<Vec<GeneSet>> {
    if let Some(path) = &options.lists {
        run.input(path)?;
        return Ok(gene_sets::read(path, TABLE_MEMORY)?);
    }
    let Some(path) = &options.edges else {
        return Ok(Vec::new());
    };
    run.input(path)?;
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for edge in edges::read(path, None, TABLE_MEMORY)? {
        let name = match &edge.group {
            Some(condition) => format!("{condition}: {}", edge.regulator),
            None => edge.regulator.to_string(),
        };
        lists.entry(name).or_default().push(edge.target.to_string());
    }
    let list = |(name, genes)| GeneSet {
        name,
        description: String::new(),
        genes,
    };
    Ok(lists.into_iter().map(list).collect())
}

/// The genes in play, each once.
fn background(path: &PathBuf, run: &mut Run) -> Result<Vec<String>> {
    let genes = steps::gene_names(&[], Some(path), run)?;
    if genes.is_empty() {
        return Err(Failure::Input.error(format!(
            "`{}` names no gene; expected the genes in play",
            path.display()
        )));
    }
    Ok(genes)
}

fn strangers(list: &GeneSet, path: &Path, background: &[String]) -> anyhow::Error {
    Failure::Input.error(format!(
        "no gene of the list `{}` ({}) is among the {} genes in play of `{}`, which are named like {}",
        list.name,
        some(&list.genes),
        background.len(),
        path.display(),
        some(background)
    ))
}

/// Sets that share genes with a list and are significant enough, best first.
fn rows((sets, found): (&[GeneSet], &[Enriched]), max_fdr: f64) -> Vec<usize> {
    let is_kept = |at: &usize| {
        let set = &found[*at];
        set.is_tested() && !set.overlap.is_empty() && set.adjusted_p_value <= max_fdr
    };
    let mut kept: Vec<usize> = (0..sets.len()).filter(is_kept).collect();
    kept.sort_by(|&a, &b| {
        let order = found[a].p_value.total_cmp(&found[b].p_value);
        order.then_with(|| sets[a].name.cmp(&sets[b].name))
    });
    kept
}

fn row(
    (list, size): (&GeneSet, usize),
    (set, found): (&GeneSet, &Enriched),
    background: &[String],
) -> String {
    let genes: Vec<&str> = found
        .overlap
        .iter()
        .map(|&at| background[at].as_str())
        .collect();
    format!(
        "{}\t{}\t{}\t{size}\t{}\t{}\t{:.4}\t{:e}\t{:e}\t{:e}\t{}\n",
        list.name,
        set.name,
        found.overlap.len(),
        found.set_size,
        background.len(),
        found.fold,
        found.p_value,
        found.adjusted_p_value,
        found.bonferroni,
        genes.join(",")
    )
}
