//! `scgpt-grn enrich`: gene set over-representation analysis, offline.

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
use crate::programs::perturbation_data::some;
use crate::programs::{Facts, INSPECTION, Program, TOPICS, steps};
use crate::progress;
use crate::run_record::Run;

/// Options of `scgpt-grn enrich`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Gene lists to test: a GMT file, such as that of scgpt-grn programs, with name, description and genes separated by tabs in
    /// each line. Required unless --edges is given.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"))]
    pub gene_lists: Option<PathBuf>,
    /// Edge table of scgpt-grn attention or difference. The targets of each regulator in each condition are tested as one list.
    /// Required unless --gene-lists is given.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub edges: Option<PathBuf>,
    /// GMT files with known gene sets, such as those of MSigDB. Comma-separated.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"), length(min = 1))]
    pub gene_sets: Vec<PathBuf>,
    /// Background genes, from which the lists were selected: an AnnData file written by scgpt-grn, or a text file with one gene
    /// per line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad,txt", "x-direction" = "input"))]
    pub background: PathBuf,
    /// TSV of enriched gene sets of each list, sorted by p-value (one-sided Fisher's exact test).
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Maximum false discovery rate (Benjamini-Hochberg) of the gene sets that are written; 1 writes all that overlap the list.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_fdr: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gene_lists: None,
            edges: None,
            gene_sets: Vec::new(),
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
    const SUMMARY: &'static str =
        "Gene set over-representation analysis of gene programs and targets";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3501"],
        resources: INSPECTION,
        contents: &[],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        match (&options.gene_lists, &options.edges) {
            (None, None) => {
                vec!["give `--gene-lists` or `--edges`, the genes to test".into()]
            }
            (Some(_), Some(_)) => vec!["give `--gene-lists` or `--edges`, not both".into()],
            _ => Vec::new(),
        }
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let lists = lists(&options, run)?;
        let background = background(&options.background, run)?;
        let mut sets = Vec::new();
        for path in &options.gene_sets {
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
                return Err(no_overlap(list, &options.background, &background));
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
            "{significant} of {} lists are enriched for a gene set (false discovery rate at most 0.05)",
            lists.len()
        ));
        run.metric("lists", lists.len());
        run.metric("lists_enriched", significant);
        run.metric("background", background.len());
        Ok(())
    }
}

const HEADER: &str = "query\tgene_set\toverlap\tquery_size\tset_size\tbackground\tfold_enrichment\tp_value\tfdr_bh\tp_bonferroni\tgenes\n";

/// The lists to test.
fn lists(options: &Options, run: &mut Run) -> Result<Vec<GeneSet>> {
    if let Some(path) = &options.gene_lists {
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

/// The background genes, each once.
fn background(path: &PathBuf, run: &mut Run) -> Result<Vec<String>> {
    let genes = steps::gene_names(&[], Some(path), run)?;
    if genes.is_empty() {
        return Err(Failure::Input.error(format!(
            "`{}` contains no gene; expected the background genes",
            path.display()
        )));
    }
    Ok(genes)
}

fn no_overlap(list: &GeneSet, path: &Path, background: &[String]) -> anyhow::Error {
    Failure::Input.error(format!(
        "no gene of the list `{}` ({}) is among the {} background genes of `{}`, such as {}: check that both use the same gene identifiers",
        list.name,
        some(&list.genes),
        background.len(),
        path.display(),
        some(background)
    ))
}

/// Gene sets that overlap a list at the required false discovery rate, by p-value.
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
