//! `scgpt-perturb predict`: expression after perturbations.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asking::{self, Asked, Asking};
use crate::counts::Counts;
use crate::figures::Changes;
use crate::formats::{Column, h5ad};
use crate::output;
use crate::programs::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, perturbed, steps};
use crate::run_record::Run;

/// Options of `scgpt-perturb predict`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub asking: Asking,
    /// Where to write the told expression, an AnnData file with a row for every perturbation: X is its mean expression, layers/change
    /// what changed.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Also write the most changed genes of every perturbation as a table.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Genes of every perturbation in that table.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// New folder for pictures, one for each of the first 50 perturbations: the most changed genes as told, beside what was observed
    /// where the input has cells of the perturbation.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "directory", "x-direction" = "output"))]
    pub figures: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            asking: Asking::default(),
            output: PathBuf::new(),
            table: None,
            top: 50,
            figures: None,
        }
    }
}

/// The program.
pub struct Predict;

/// Pictures drawn, at most, and genes in each.
const PICTURES: usize = 50;
const GENES_DRAWN: usize = 20;

impl Program for Predict {
    const NAME: &'static str = "scgpt-perturb predict";
    const SUMMARY: &'static str = "Tell the expression of cells after perturbations";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["X", "layers/change", "obs/part"]),
            ("model", MODEL),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        asking::problems(&options.asking)
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        let asked = run.stage("read", |run| Asked::read(&options.asking, run))?;
        let folder = options.figures.as_ref();
        let folder = folder.map(|path| output::Directory::create(path, output::Existing::Refuse));
        let folder = folder.transpose()?;
        let genes = &asked.model.settings.genes;
        let (mut told, mut changes) = (Counts::empty(genes.len()), Counts::empty(genes.len()));
        let mut table = String::from(
            "perturbation\tpart\trank\tgene\tcontrol\tpredicted\tchange\tobserved_change\n",
        );
        let mut pictures = Vec::new();
        run.stage("tell", |run| {
            asked.each(run, |at, change| {
                let ranking = ranking(change);
                if options.table.is_some() {
                    rows(
                        &mut table,
                        &asked,
                        at,
                        (change, &ranking[..ranking.len().min(options.top)]),
                    );
                }
                if folder.is_some() && pictures.len() < PICTURES {
                    pictures.push(picture(&asked, at, change, &ranking));
                }
                told.push(
                    asked
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
        if let (Some(folder), Some(path)) = (folder, &options.figures) {
            for (name, svg) in &pictures {
                std::fs::write(folder.path().join(name), svg)?;
            }
            folder.finish()?;
            run.output(path)?;
        }
        write(&options, &asked, (&told, &changes))?;
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

fn rows(table: &mut String, asked: &Asked, at: usize, (change, genes): (&[f32], &[usize])) {
    let question = &asked.questions[at];
    let observed = asked.observed(question);
    let observed = (!observed.is_empty()).then(|| perturbed::mean(&asked.counts, &observed));
    for (rank, &gene) in genes.iter().enumerate() {
        let control = asked.mean[gene];
        let seen = observed
            .as_ref()
            .map_or(String::new(), |mean| format!("{:.6}", mean[gene] - control));
        table.push_str(&format!(
            "{question}\t{}\t{}\t{}\t{control:.6}\t{:.6}\t{:.6}\t{seen}\n",
            asked.part(question),
            rank + 1,
            asked.model.settings.genes[gene],
            control + f64::from(change[gene]),
            change[gene]
        ));
    }
}

fn picture(asked: &Asked, at: usize, change: &[f32], ranking: &[usize]) -> (String, String) {
    let question = &asked.questions[at];
    let cells = asked.observed(question);
    let genes = &ranking[..ranking.len().min(GENES_DRAWN)];
    let names: Vec<String> = genes
        .iter()
        .map(|&gene| asked.model.settings.genes[gene].clone())
        .collect();
    let spread = |cells: &[usize]| perturbed::quantiles(&asked.counts, cells, genes, &asked.mean);
    let mean = perturbed::mean(&asked.counts, &cells);
    let title = format!("{question} ({})", asked.part(question));
    let seen = !cells.is_empty();
    let svg = Changes {
        title: &title,
        genes: &names,
        observed: &if seen { spread(&cells) } else { Vec::new() },
        control: &spread(&asked.control_cells),
        predicted: &genes
            .iter()
            .map(|&gene| f64::from(change[gene]))
            .collect::<Vec<_>>(),
        observed_mean: &match seen {
            true => genes
                .iter()
                .map(|&gene| mean[gene] - asked.mean[gene])
                .collect(),
            false => Vec::new(),
        },
    }
    .to_svg();
    (
        format!(
            "{:02}_{}.svg",
            at + 1,
            perturbed::file_name(&question.to_string())
        ),
        svg,
    )
}

fn write(options: &Options, asked: &Asked, (told, changes): (&Counts, &Counts)) -> Result<()> {
    let names: Vec<String> = asked.questions.iter().map(ToString::to_string).collect();
    let parts: Vec<Option<&str>> = asked
        .questions
        .iter()
        .map(|question| Some(asked.part(question)))
        .collect();
    let seen = asked
        .questions
        .iter()
        .map(|question| Some(asked.observed(question).len() as f64));
    let control = asked.mean.iter().map(|&mean| Some(mean)).collect();
    let content = h5ad::Cells {
        obs: &[
            ("part".to_owned(), Column::from_labels(&parts)),
            ("observed_cells".to_owned(), Column::Number(seen.collect())),
        ],
        var: &[("control".to_owned(), Column::Number(control))],
        layers: &[("change", changes)],
        ..h5ad::Cells::new(told, &names, &asked.model.settings.genes)
    };
    Ok(h5ad::create(&options.output, &content)?)
}
