//! `scgpt-annotate`: cell types of new cells from a fine-tuned model.

use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, given_labels, steps};
use crate::analysis::classification;
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::formats::Column;
use crate::formats::h5ad::{self, Additions};
use crate::predict::{Annotator, annotation::probabilities};
use crate::progress;
use crate::run_record::Run;

/// Share of the model's genes below which the match is worth a warning.
const FEW_GENES: f64 = 0.5;

/// Options of `scgpt-annotate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Cells to annotate, an AnnData file. It is never changed.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Where to write a copy of the input with the cell types in it.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Model folder that scgpt-finetune-annotation wrote, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub model: PathBuf,
    /// Cells whose best cell type is less probable than this are left unassigned.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// First part of the names of the new columns of obs: PREFIX_label, PREFIX_probability, PREFIX_second and
    /// PREFIX_second_probability.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,
    /// Column of obs with the true cell types, where they are known: the answers are then scored against it.
    #[arg(long, value_name = "COLUMN")]
    pub truth: Option<String>,
    /// Seed of all random choices; that of the model if not given. The same seed gives the same answers.
    #[arg(long)]
    pub seed: Option<u64>,
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
            input: PathBuf::new(),
            output: PathBuf::new(),
            model: PathBuf::new(),
            threshold: 0.0,
            prefix: "scgpt".into(),
            truth: None,
            seed: None,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Annotate;

impl Program for Annotate {
    const NAME: &'static str = "scgpt-annotate";
    const SUMMARY: &'static str = "Name the types of new cells with a fine-tuned scGPT model";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0226"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["obs/scgpt_label", "obs/scgpt_probability"]),
            ("model", MODEL),
        ],
    };
    type Options = Options;

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.model)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let mut model = run.stage("load the model", |_| Annotator::load(checkpoint, device))?;
        model.settings.seed = options.seed.unwrap_or(model.settings.seed);
        run.seed(model.settings.seed);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let truth = options
            .truth
            .as_deref()
            .map(|column| cells.labels(column))
            .transpose()?;
        let answers = run.stage("annotate", |run| {
            annotate(&model, &cells, options.threshold, run)
        })?;
        if let Some(truth) = truth {
            score(&model, &answers, &truth, run)?;
        }
        let additions = additions(&options, &model.settings.classes, &answers);
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// What the model says of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Answer {
    /// The best class, if it is probable enough.
    class: Option<usize>,
    probability: f32,
    second: Option<usize>,
    second_probability: f32,
}

impl Answer {
    fn new(probabilities: &[f32], threshold: f64) -> Self {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let second = order.get(1).copied();
        let probability = probabilities[order[0]];
        Self {
            class: (f64::from(probability) >= threshold).then_some(order[0]),
            probability,
            second,
            second_probability: second.map_or(0.0, |class| probabilities[class]),
        }
    }

    /// A cell that expresses nothing the model knows.
    const NOTHING: Self = Self {
        class: None,
        probability: 0.0,
        second: None,
        second_probability: 0.0,
    };
}

fn annotate(
    model: &Annotator,
    cells: &Cells,
    threshold: f64,
    run: &mut Run,
) -> Result<Vec<Answer>> {
    let columns = cells.columns(&model.settings.genes)?;
    let (matched, wanted) = (columns.n_matched, columns.n_genes);
    run.note(format!(
        "{matched} of the {wanted} genes that the model reads are in the file"
    ));
    run.metric("genes_matched", matched);
    run.metric("genes_of_the_model", wanted);
    if (matched as f64) < FEW_GENES * wanted as f64 {
        run.warning(format!("only {matched} of {wanted} genes matched: answers may be poor; are these the same gene names?"));
    }
    let (tokenizer, mut workers) = model.start(run.threads());
    let mut answers = Vec::with_capacity(cells.n_cells());
    let source = steps::Walk {
        cells,
        columns: &columns,
        values: model.settings.tokens.values,
    };
    source.each("annotating", run, |first, part| {
        let rows = workers.rows((&tokenizer, part, first), probabilities);
        let answer = |(row, (_, values)): (&Vec<f32>, (&[u32], &[f32]))| {
            if values.iter().all(|v| *v == 0.0) {
                Answer::NOTHING
            } else {
                Answer::new(row, threshold)
            }
        };
        answers.extend(rows.iter().zip(part.rows()).map(answer));
    })?;
    let unassigned = answers
        .iter()
        .filter(|answer| answer.class.is_none())
        .count();
    run.note(format!(
        "{unassigned} of {} cells are unassigned",
        answers.len()
    ));
    run.metric(
        "unassigned",
        unassigned as f64 / answers.len().max(1) as f64,
    );
    run.metric("cells", answers.len());
    run.metric("types", frequencies(&model.settings.classes, &answers));
    Ok(answers)
}

/// Number of cells of every type, in the model's order.
fn frequencies<'a>(classes: &'a [String], answers: &[Answer]) -> IndexMap<&'a str, usize> {
    let of = |class| answers.iter().filter(|a| a.class == Some(class)).count();
    let named = classes.iter().map(String::as_str).enumerate();
    named.map(|(class, name)| (name, of(class))).collect()
}

/// Scores the answers where the truth is one of the model's classes.
fn score(
    model: &Annotator,
    answers: &[Answer],
    truth: &[Option<String>],
    run: &mut Run,
) -> Result<()> {
    let classes = &model.settings.classes;
    let known = |label: &Option<String>| {
        classes
            .iter()
            .position(|class| Some(class) == label.as_ref())
    };
    let pairs: Vec<(usize, Option<usize>)> = truth
        .iter()
        .zip(answers)
        .filter_map(|(label, answer)| Some((known(label)?, answer.class)))
        .collect();
    if pairs.is_empty() {
        run.warning("no true label is a class of the model: nothing to score");
        return Ok(());
    }
    let (truth, predicted): (Vec<usize>, Vec<Option<usize>>) = pairs.into_iter().unzip();
    let scores = classification::score(&truth, &predicted, classes)?;
    progress::result(&format!(
        "accuracy {:.4}, macro F1 {:.4} over {} cells whose true type the model knows",
        scores.accuracy, scores.macro_average.f1, scores.n_cells
    ));
    run.metric("scores", scores);
    Ok(())
}

fn additions(options: &Options, classes: &[String], answers: &[Answer]) -> Additions {
    let name = |part: &str| format!("{}_{part}", options.prefix);
    let second = answers
        .iter()
        .map(|answer| answer.second.map(|class| class as u32))
        .collect();
    let number = |value: fn(&Answer) -> f32| {
        Column::Number(answers.iter().map(|a| Some(f64::from(value(a)))).collect())
    };
    Additions {
        obs: vec![
            (
                name("label"),
                given_labels::column(classes, answers.iter().map(|answer| answer.class)),
            ),
            (name("probability"), number(|answer| answer.probability)),
            (
                name("second"),
                Column::Categorical {
                    codes: second,
                    categories: classes.to_vec(),
                    ordered: false,
                },
            ),
            (
                name("second_probability"),
                number(|answer| answer.second_probability),
            ),
        ],
        uns: vec![(
            name("annotation"),
            json!({"model": options.model.to_string_lossy(), "threshold": options.threshold}),
        )],
        ..Additions::default()
    }
}
