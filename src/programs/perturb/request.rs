//! Requested perturbations and control cells of `scgpt-perturb`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cells::perturbation::{Conditions, Perturbation};
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::predict::perturbation::{Controls, PerturbationPredictor, PerturbedGene};
use crate::programs::perturbation_data::{self, Labels};
use crate::programs::steps;
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;

/// Perturbations predicted between two checks for interruption.
const BATCH: usize = 64;

/// Perturbations to predict, and cells to predict them for.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Request {
    /// AnnData file with control cells to predict from. It may also contain perturbed cells, and for scgpt-perturb reverse the
    /// cells of the target state.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Model trained by scgpt-finetune-perturbation: a directory, or the name of a model in one of the directories in the
    /// environment variable SCGPT_MODELS (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub model: PathBuf,
    /// Perturbations to predict, such as STAT1 or STAT1+JAK2. Comma-separated. Default: those of --genes and --genes-file;
    /// without these, all perturbations of the training file.
    #[arg(long, value_name = "PERTURBATION")]
    pub perturb: Vec<String>,
    /// Genes whose single perturbations are predicted. They are added to those of --perturb. Comma-separated.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// Text file with genes as in --genes, one per line.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Also predict all pairs of the genes of --genes and --genes-file.
    #[arg(long)]
    pub pairs: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub labels: Labels,
    /// Number of control cells to predict from, sampled at random. With models trained with --control-matching mean, the mean of
    /// all control cells is used instead.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub controls: usize,
    /// Dose of the predicted perturbations, in the unit of --dose of scgpt-finetune-perturbation. Keep 1 for models trained
    /// without doses.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub dose: f64,
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

impl Default for Request {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            model: PathBuf::new(),
            perturb: Vec::new(),
            genes: Vec::new(),
            genes_file: None,
            pairs: false,
            labels: Labels::default(),
            controls: 32,
            dose: 1.0,
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// Problems of the requested perturbations.
pub fn problems(options: &Request) -> Vec<String> {
    let mut problems = perturbation_data::problems(&options.labels);
    let spelling = options.labels.spelling();
    for text in options.perturb.iter().chain(&options.genes) {
        match spelling.parse(text) {
            Err(wrong) => problems.push(format!("the perturbation `{text}` {wrong}")),
            Ok(p) if p.is_control() => {
                problems.push(format!("the perturbation `{text}` is the control"));
            }
            Ok(_) => {}
        }
    }
    if options.pairs && options.genes.is_empty() && options.genes_file.is_none() {
        problems
            .push("`--pairs` needs `--genes` or `--genes-file`, whose pairs are predicted".into());
    }
    problems
}

/// A model, control cells and the perturbations to predict.
pub struct Predictions {
    pub model: PerturbationPredictor,
    pub perturbations: Vec<Perturbation>,
    pub perturbed_genes: Vec<Vec<PerturbedGene>>,
    pub controls: Controls,
    /// Mean control profile.
    pub mean: Vec<f64>,
    /// Values of the model's genes in all cells of the file.
    pub counts: Counts,
    pub conditions: Conditions,
    pub control_cells: Vec<usize>,
    /// The cells of the file, for further columns.
    pub cells: Cells,
}

impl Predictions {
    pub fn read(options: &Request, run: &mut Run) -> Result<Self> {
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.model)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let model = run.stage("load_model", |_| {
            PerturbationPredictor::load(checkpoint, device)
        })?;
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        let conditions = conditions(options, &cells)?;
        perturbation_data::report(&cells, &conditions, run);
        let (names, counts) = perturbation_data::log_values(&cells)?;
        let counts = of_model(&names, &counts, &model, &cells, run)?;
        let control_cells = cells_of(&conditions, Perturbation::is_control);
        let strata = options.labels.strata(&cells)?;
        let controls = if model.settings.reads_means {
            perturbation_data::mean_controls(&counts, &control_cells, &strata)
        } else {
            let seed = Seed(options.seed);
            perturbation_data::drawn_controls(&counts, (&control_cells, options.controls), seed)
        };
        let mean = perturbation_data::mean(&counts, &control_cells);
        let perturbations = perturbations(options, &model, run)?;
        let activation = options.labels.activation || model.settings.raised;
        let perturbed_genes = perturbations.iter().map(|perturbation| {
            let genes = perturbation_data::perturbed_genes(
                perturbation,
                &model.vocabulary,
                (activation, options.dose as f32),
            );
            genes.map_err(|unknown| {
                perturbation_data::unknown_genes(&unknown, &model.settings.genes)
            })
        });
        let perturbed_genes = perturbed_genes.collect::<Result<_>>()?;
        Ok(Self {
            model,
            perturbations,
            perturbed_genes,
            controls,
            mean,
            counts,
            conditions,
            control_cells,
            cells,
        })
    }

    /// Passes the predicted changes to `work`, one perturbation at a time: memory does not grow with their number.
    pub fn each(&self, run: &Run, mut work: impl FnMut(usize, &[f32])) -> Result<()> {
        let mut workers = self.model.workers(run.threads());
        let mut progress = Progress::new(
            "predicting",
            self.perturbed_genes.len() as u64,
            "perturbations",
        );
        for (number, batch) in self.perturbed_genes.chunks(BATCH).enumerate() {
            steps::check_interrupted(run)?;
            let profiles = &self.model.profiles;
            let changes = profiles.changes(&mut workers, &self.controls, batch);
            for (at, change) in changes.iter().enumerate() {
                work(number * BATCH + at, change);
            }
            progress.advance(batch.len() as u64);
        }
        progress.finish();
        Ok(())
    }

    /// Cells with a perturbation.
    pub fn observed(&self, perturbation: &Perturbation) -> Vec<usize> {
        cells_of(&self.conditions, |found| found == perturbation)
    }

    /// The split of a perturbation in training; `unseen` if it was not in the training file.
    pub fn split(&self, perturbation: &Perturbation) -> &str {
        let name = perturbation.to_string();
        let known = self
            .model
            .settings
            .conditions
            .iter()
            .find(|known| known.name == name);
        known.map_or("unseen", |known| &known.part)
    }
}

/// Perturbations of the cells; all are control cells in a file without the default column.
fn conditions(options: &Request, cells: &Cells) -> Result<Conditions> {
    let usual = Labels::default().condition;
    let has_column = cells
        .table
        .obs_columns()?
        .contains(&options.labels.condition);
    if !has_column && options.labels.condition == usual {
        return Ok(Conditions {
            distinct: vec![options.labels.spelling().parse(&options.labels.control)?],
            of_cell: vec![Some(0); cells.n_cells()],
        });
    }
    let labels = cells.labels(&options.labels.condition)?;
    let control = options.labels.control.trim();
    if labels.iter().flatten().all(|label| label.trim() == control)
        && labels.iter().any(Option::is_some)
    {
        return Ok(Conditions {
            distinct: vec![options.labels.spelling().parse(control)?],
            of_cell: labels
                .iter()
                .map(|label| label.as_ref().map(|_| 0))
                .collect(),
        });
    }
    options.labels.conditions(cells, &options.input)
}

fn cells_of(conditions: &Conditions, is_wanted: impl Fn(&Perturbation) -> bool) -> Vec<usize> {
    let wanted: Vec<bool> = conditions.distinct.iter().map(is_wanted).collect();
    let cells = conditions.of_cell.iter().enumerate();
    let own = cells.filter(|(_, condition)| condition.is_some_and(|c| wanted[c as usize]));
    own.map(|(cell, _)| cell).collect()
}

/// Values of the model's genes, 0 for genes that the file does not have.
fn of_model(
    names: &[String],
    counts: &Counts,
    model: &PerturbationPredictor,
    cells: &Cells,
    run: &mut Run,
) -> Result<Counts> {
    let wanted = &model.settings.genes;
    let columns = cells::Columns::new(names, wanted);
    run.note(format!(
        "{} of the {} genes that the model reads are in the file",
        columns.n_matched, columns.n_genes
    ));
    run.metric("genes_matched", columns.n_matched);
    if columns.n_matched == 0 {
        return Err(cells.no_genes(wanted.clone()).into());
    }
    if 2 * columns.n_matched < columns.n_genes {
        run.warning("fewer than half of the model's genes are in the file: predictions may be unreliable; check gene identifiers");
    }
    Ok(columns.apply(counts))
}

/// The perturbations to predict, sorted, each once.
fn perturbations(
    options: &Request,
    model: &PerturbationPredictor,
    run: &mut Run,
) -> Result<Vec<Perturbation>> {
    let spelling = options.labels.spelling();
    let parse = |text: &str| {
        let parsed = spelling.parse(text);
        parsed.map_err(|wrong| Failure::Input.error(format!("the perturbation `{text}` {wrong}")))
    };
    let mut texts: Vec<String> = options.perturb.clone();
    let genes = steps::gene_names(&options.genes, options.genes_file.as_ref(), run)?;
    if options.pairs {
        for (at, one) in genes.iter().enumerate() {
            let others = genes[at + 1..].iter();
            texts.extend(others.map(|other| format!("{one}{}{other}", options.labels.delimiter)));
        }
    }
    texts.extend(genes);
    let mut all: BTreeSet<Perturbation> = texts
        .iter()
        .map(|text| parse(text))
        .collect::<Result<_>>()?;
    if all.is_empty() {
        let usual = crate::cells::perturbation::Spelling::default();
        let known = model.settings.conditions.iter();
        all = known
            .filter_map(|known| usual.parse(&known.name).ok())
            .collect();
    }
    if all.iter().any(Perturbation::is_control) {
        return Err(Failure::Input
            .error("the control is not a perturbation to predict: give perturbed genes"));
    }
    run.note(format!("predicting {} perturbations", all.len()));
    Ok(all.into_iter().collect())
}
