//! What is asked of a model, and the control cells that it is asked about.

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
use crate::predict::perturbation::{Controls, Done, Perturber};
use crate::programs::perturbed::{self, Labels};
use crate::programs::steps;
use crate::progress::Progress;
use crate::random::Seed;
use crate::run_record::Run;

/// Questions that a model answers between two looks at whether it is to stop.
const AT_ONCE: usize = 64;

/// Which perturbations are asked about, of which cells.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Asking {
    /// Control cells to start from, an AnnData file; perturbed cells in it are what predictions are held against.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Model folder that scgpt-finetune-perturbation wrote, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub model: PathBuf,
    /// Perturbations to tell, such as STAT1 or STAT1+JAK2. Default: those that the model was trained with.
    #[arg(long, value_name = "PERTURBATION")]
    pub perturb: Vec<String>,
    /// Genes whose single perturbations are told as well.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// File with such genes, one in a line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Also tell all pairs of these genes.
    #[arg(long)]
    pub pairs: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub labels: Labels,
    /// Control cells that a perturbation is told from, chosen at random, for a model that reads single cells.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub controls: usize,
    /// Dose of the perturbations, for a model that was trained with doses.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub dose: f64,
    /// Seed of all random choices: the same seed gives the same answers.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Asking {
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

/// What is wrong with the questions, if anything.
pub fn problems(options: &Asking) -> Vec<String> {
    let mut problems = perturbed::problems(&options.labels);
    let spelling = options.labels.spelling();
    for text in options.perturb.iter().chain(&options.genes) {
        match spelling.parse(text) {
            Err(wrong) => problems.push(format!("`{text}`, a perturbation to tell, {wrong}")),
            Ok(p) if p.is_control() => {
                problems.push(format!("`{text}`, a perturbation to tell, is the control"));
            }
            Ok(_) => {}
        }
    }
    if options.pairs && options.genes.is_empty() && options.genes_file.is_none() {
        problems.push("`--pairs` needs `--genes` or `--genes-file`, whose pairs are told".into());
    }
    problems
}

/// A model, control cells and questions.
pub struct Asked {
    pub model: Perturber,
    pub questions: Vec<Perturbation>,
    pub done: Vec<Vec<Done>>,
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

impl Asked {
    pub fn read(options: &Asking, run: &mut Run) -> Result<Self> {
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.model)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let model = run.stage("load the model", |_| Perturber::load(checkpoint, device))?;
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        let conditions = conditions(options, &cells)?;
        perturbed::report(&cells, &conditions, run);
        let (names, counts) = perturbed::log_values(&cells)?;
        let counts = of_model(&names, &counts, &model, &cells, run)?;
        let control_cells = cells_of(&conditions, Perturbation::is_control);
        let strata = options.labels.strata(&cells)?;
        let controls = if model.settings.reads_means {
            perturbed::mean_controls(&counts, &control_cells, &strata)
        } else {
            let seed = Seed(options.seed);
            perturbed::drawn_controls(&counts, (&control_cells, options.controls), seed)
        };
        let mean = perturbed::mean(&counts, &control_cells);
        let questions = questions(options, &model, run)?;
        let raised = options.labels.raised || model.settings.raised;
        let done = questions.iter().map(|question| {
            let done = perturbed::done(question, &model.vocabulary, (raised, options.dose as f32));
            done.map_err(|unknown| perturbed::unknown_genes(&unknown, &model.settings.genes))
        });
        let done = done.collect::<Result<_>>()?;
        Ok(Self {
            model,
            questions,
            done,
            controls,
            mean,
            counts,
            conditions,
            control_cells,
            cells,
        })
    }

    /// Hands the changes that are told, question by question, to `work`, in memory that does not grow with the questions.
    pub fn each(&self, run: &Run, mut work: impl FnMut(usize, &[f32])) -> Result<()> {
        let mut workers = self.model.workers(run.threads());
        let mut progress = Progress::new("telling", self.done.len() as u64, "perturbations");
        for start in (0..self.done.len()).step_by(AT_ONCE) {
            steps::stop_if_asked(run)?;
            let asked = &self.done[start..self.done.len().min(start + AT_ONCE)];
            let changes = self
                .model
                .sentences
                .changes(&mut workers, &self.controls, asked);
            for (at, change) in changes.iter().enumerate() {
                work(start + at, change);
            }
            progress.advance(asked.len() as u64);
        }
        progress.finish();
        Ok(())
    }

    /// Cells that bear a perturbation.
    pub fn observed(&self, perturbation: &Perturbation) -> Vec<usize> {
        cells_of(&self.conditions, |found| found == perturbation)
    }

    /// What a perturbation was for when the model was trained; `unseen` if it was not there.
    pub fn part(&self, perturbation: &Perturbation) -> &str {
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

/// What was done to the cells; all are control cells in a file without such a column of the usual name.
fn conditions(options: &Asking, cells: &Cells) -> Result<Conditions> {
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

/// Values of the model's genes, 0 where the file lacks one.
fn of_model(
    names: &[String],
    counts: &Counts,
    model: &Perturber,
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
        run.warning("fewer than half of the model's genes are in the file: answers may be poor; are these the same gene names?");
    }
    Ok(columns.apply(counts))
}

/// The perturbations to tell, sorted, each once.
fn questions(options: &Asking, model: &Perturber, run: &mut Run) -> Result<Vec<Perturbation>> {
    let spelling = options.labels.spelling();
    let parse = |text: &str| {
        let parsed = spelling.parse(text);
        parsed.map_err(|wrong| {
            Failure::Input.error(format!("`{text}`, a perturbation to tell, {wrong}"))
        })
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
        return Err(
            Failure::Input.error("the control is no perturbation to tell: name perturbed genes")
        );
    }
    run.note(format!("{} perturbations are told", all.len()));
    Ok(all.into_iter().collect())
}
