//! `scgpt-perturb predict`: gene expression after perturbation.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{self, Predictions, Request};
use crate::counts::Counts;
use crate::figures::Changes;
use crate::formats::{Column, h5ad};
use crate::output;
use crate::programs::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, perturbation_data, steps};
use crate::run_record::Run;

/// Options of `scgpt-perturb predict`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub request: Request,
    /// AnnData file with one row per perturbation: predicted mean log-normalized expression in X, change from the mean of the
    /// control cells in layers/change.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Output TSV of the most changed genes of each perturbation.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Number of genes per perturbation in --table.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Output directory of plots (SVG) of the first 50 perturbations: predicted changes of the most changed genes, and observed
    /// changes if the input has cells of the perturbation. It must not exist yet, or be empty.
    #[arg(long, help_heading = "Options", value_name = "DIR")]
    #[schemars(extend("x-format" = "directory", "x-direction" = "output"))]
    pub plot_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request: Request::default(),
            output: PathBuf::new(),
            table: None,
            top: 50,
            plot_dir: None,
        }
    }
}

/// The program.
pub struct Predict;

/// Maximum number of figures, and genes in each.
const MAX_FIGURES: usize = 50;
const GENES_DRAWN: usize = 20;

impl Program for Predict {
    const NAME: &'static str = "scgpt-perturb predict";
    const SUMMARY: &'static str = "Predict gene expression after perturbation";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["X", "layers/change", "obs/split"]),
            ("model", MODEL),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        request::problems(&options.request)
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let predictions = run.stage("read", |run| Predictions::read(&options.request, run))?;
        let folder = options.plot_dir.as_ref();
        let folder = folder.map(|path| output::Directory::create(path, output::Existing::Refuse));
        let folder = folder.transpose()?;
        let genes = &predictions.model.settings.genes;
        let (mut predicted, mut changes) = (Counts::empty(genes.len()), Counts::empty(genes.len()));
        let mut table = String::from(
            "perturbation\tsplit\trank\tgene\tcontrol\tpredicted\tchange\tobserved_change\n",
        );
        let mut figures = Vec::new();
        run.stage("predict", |run| {
            predictions.each(run, |at, change| {
                let ranking = ranking(change);
                if options.table.is_some() {
                    rows(
                        &mut table,
                        &predictions,
                        at,
                        (change, &ranking[..ranking.len().min(options.top)]),
                    );
                }
                if folder.is_some() && figures.len() < MAX_FIGURES {
                    figures.push(figure(&predictions, at, change, &ranking));
                }
                predicted.push(
                    predictions
                        .mean
                        .iter()
                        .zip(change)
                        .zip(0..)
                        .map(|((mean, change), gene)| (gene, *mean as f32 + change)),
                );
                changes.push(change.iter().zip(0..).map(|(change, gene)| (gene, *change)));
            })
        })?;
        if let Some(path) = &options.table {
            steps::write_text(path, &table, run)?;
        }
        if let (Some(folder), Some(path)) = (folder, &options.plot_dir) {
            for (name, svg) in &figures {
                std::fs::write(folder.path().join(name), svg)?;
            }
            folder.finish()?;
            run.output(path)?;
        }
        write(&options, &predictions, (&predicted, &changes))?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// Genes from the most to the least changed.
pub fn ranking(change: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..change.len()).collect();
    order.sort_by(|&a, &b| change[b].abs().total_cmp(&change[a].abs()).then(a.cmp(&b)));
    order
}

fn rows(
    table: &mut String,
    predictions: &Predictions,
    at: usize,
    (change, genes): (&[f32], &[usize]),
) {
    let perturbation = &predictions.perturbations[at];
    let observed = predictions.observed(perturbation);
    let observed =
        (!observed.is_empty()).then(|| perturbation_data::mean(&predictions.counts, &observed));
    for (rank, &gene) in genes.iter().enumerate() {
        let control = predictions.mean[gene];
        let seen = observed
            .as_ref()
            .map_or(String::new(), |mean| format!("{:.6}", mean[gene] - control));
        table.push_str(&format!(
            "{perturbation}\t{}\t{}\t{}\t{control:.6}\t{:.6}\t{:.6}\t{seen}\n",
            predictions.split(perturbation),
            rank + 1,
            predictions.model.settings.genes[gene],
            control + f64::from(change[gene]),
            change[gene]
        ));
    }
}

fn figure(
    predictions: &Predictions,
    at: usize,
    change: &[f32],
    ranking: &[usize],
) -> (String, String) {
    let perturbation = &predictions.perturbations[at];
    let cells = predictions.observed(perturbation);
    let genes = &ranking[..ranking.len().min(GENES_DRAWN)];
    let names: Vec<String> = genes
        .iter()
        .map(|&gene| predictions.model.settings.genes[gene].clone())
        .collect();
    let spread = |cells: &[usize]| {
        perturbation_data::quantiles(&predictions.counts, cells, genes, &predictions.mean)
    };
    let mean = perturbation_data::mean(&predictions.counts, &cells);
    let title = format!("{perturbation} ({})", predictions.split(perturbation));
    let seen = !cells.is_empty();
    let svg = Changes {
        title: &title,
        genes: &names,
        observed: &if seen { spread(&cells) } else { Vec::new() },
        control: &spread(&predictions.control_cells),
        predicted: &genes
            .iter()
            .map(|&gene| f64::from(change[gene]))
            .collect::<Vec<_>>(),
        observed_mean: &match seen {
            true => genes
                .iter()
                .map(|&gene| mean[gene] - predictions.mean[gene])
                .collect(),
            false => Vec::new(),
        },
    }
    .to_svg();
    (
        format!(
            "{:02}_{}.svg",
            at + 1,
            perturbation_data::file_name(&perturbation.to_string())
        ),
        svg,
    )
}

fn write(
    options: &Options,
    predictions: &Predictions,
    (predicted, changes): (&Counts, &Counts),
) -> Result<()> {
    let names: Vec<String> = predictions
        .perturbations
        .iter()
        .map(ToString::to_string)
        .collect();
    let splits: Vec<Option<&str>> = predictions
        .perturbations
        .iter()
        .map(|perturbation| Some(predictions.split(perturbation)))
        .collect();
    let seen = predictions
        .perturbations
        .iter()
        .map(|perturbation| Some(predictions.observed(perturbation).len() as f64));
    let control = predictions.mean.iter().map(|&mean| Some(mean)).collect();
    let content = h5ad::Cells {
        obs: &[
            ("split".to_owned(), Column::from_labels(&splits)),
            ("observed_cells".to_owned(), Column::Number(seen.collect())),
        ],
        var: &[("control".to_owned(), Column::Number(control))],
        layers: &[("change", changes)],
        ..h5ad::Cells::new(predicted, &names, &predictions.model.settings.genes)
    };
    Ok(h5ad::create(&options.output, &content)?)
}
