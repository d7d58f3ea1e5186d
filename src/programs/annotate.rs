//! `scgpt-annotate`: cell type prediction with a fine-tuned model.

use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, label_column, steps};
use crate::analysis::classification;
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::formats::Column;
use crate::formats::h5ad::{self, Additions};
use crate::predict::{CellTypePredictor, annotation::probabilities};
use crate::progress;
use crate::run_record::Run;

/// Fraction of the model's genes in the file below which a warning is given.
const MIN_MATCHED_GENES: f64 = 0.5;

/// Options of `scgpt-annotate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with cells to annotate.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// AnnData file: input with predicted cell types added to obs.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Model trained by scgpt-finetune-annotation: a directory, or the name of a model in one of the directories in the
    /// environment variable SCGPT_MODELS (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub model: PathBuf,
    /// Minimum probability of the predicted cell type, 0 to 1; cells below it are labeled unassigned.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// Prefix of the new columns of obs: PREFIX_label, PREFIX_probability, PREFIX_second_label and PREFIX_second_probability.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,
    /// Column of obs with true labels, to evaluate the predictions.
    #[arg(long, value_name = "COLUMN")]
    pub true_labels: Option<String>,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly. Default: that of the
    /// model.
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
            true_labels: None,
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
    const SUMMARY: &'static str = "Predict cell types with a fine-tuned scGPT model";
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
        run.record_at(steps::record_path(&options.output));
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.model)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let mut model = run.stage("load_model", |_| {
            CellTypePredictor::load(checkpoint, device)
        })?;
        model.settings.seed = options.seed.unwrap_or(model.settings.seed);
        run.seed(model.settings.seed);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let truth = options
            .true_labels
            .as_deref()
            .map(|column| cells.labels(column))
            .transpose()?;
        let predictions = run.stage("annotate", |run| {
            annotate(&model, &cells, options.threshold, run)
        })?;
        if let Some(truth) = truth {
            score(&model, &predictions, &truth, run)?;
        }
        let additions = additions(&options, &model.settings.classes, &predictions);
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// Predicted cell type of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Prediction {
    /// The most probable class, if its probability reaches the threshold.
    class: Option<usize>,
    probability: f32,
    second: Option<usize>,
    second_probability: f32,
}

impl Prediction {
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

    /// A cell without expressed genes of the model.
    const UNASSIGNED: Self = Self {
        class: None,
        probability: 0.0,
        second: None,
        second_probability: 0.0,
    };
}

fn annotate(
    model: &CellTypePredictor,
    cells: &Cells,
    threshold: f64,
    run: &mut Run,
) -> Result<Vec<Prediction>> {
    let columns = cells.columns(&model.settings.genes)?;
    let (matched, wanted) = (columns.n_matched, columns.n_genes);
    run.note(format!(
        "{matched} of the {wanted} genes that the model reads are in the file"
    ));
    run.metric("genes_matched", matched);
    run.metric("model_genes", wanted);
    if (matched as f64) < MIN_MATCHED_GENES * wanted as f64 {
        run.warning(format!("only {matched} of {wanted} genes matched: predictions may be unreliable; check the gene names"));
    }
    let (tokenizer, mut workers) = model.start(run.threads());
    let mut predictions = Vec::with_capacity(cells.n_cells());
    let source = steps::CellStream {
        cells,
        columns: &columns,
        values: model.settings.tokens.values,
    };
    source.each("annotating", run, |first, part| {
        let rows = workers.rows((&tokenizer, part, first), probabilities);
        let predict = |(row, (_, values)): (&Vec<f32>, (&[u32], &[f32]))| {
            if values.iter().all(|v| *v == 0.0) {
                Prediction::UNASSIGNED
            } else {
                Prediction::new(row, threshold)
            }
        };
        predictions.extend(rows.iter().zip(part.rows()).map(predict));
    })?;
    let unassigned = predictions
        .iter()
        .filter(|prediction| prediction.class.is_none())
        .count();
    run.note(format!(
        "{unassigned} of {} cells are unassigned",
        predictions.len()
    ));
    run.metric(
        "unassigned",
        unassigned as f64 / predictions.len().max(1) as f64,
    );
    run.metric("cells", predictions.len());
    run.metric(
        "predicted_cell_types",
        frequencies(&model.settings.classes, &predictions),
    );
    Ok(predictions)
}

/// Number of cells of every cell type, in the order of the model's classes.
fn frequencies<'a>(classes: &'a [String], predictions: &[Prediction]) -> IndexMap<&'a str, usize> {
    let count = |class| {
        predictions
            .iter()
            .filter(|p| p.class == Some(class))
            .count()
    };
    let named = classes.iter().map(String::as_str).enumerate();
    named.map(|(class, name)| (name, count(class))).collect()
}

/// Evaluates the predictions of cells whose true label is a class of the model.
fn score(
    model: &CellTypePredictor,
    predictions: &[Prediction],
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
        .zip(predictions)
        .filter_map(|(label, prediction)| Some((known(label)?, prediction.class)))
        .collect();
    if pairs.is_empty() {
        run.warning("no true label is a class of the model: evaluation skipped");
        return Ok(());
    }
    let (truth, predicted): (Vec<usize>, Vec<Option<usize>>) = pairs.into_iter().unzip();
    let scores = classification::score(&truth, &predicted, classes)?;
    progress::result(&format!(
        "accuracy {:.4}, macro F1 {:.4} over {} cells whose true label is a class of the model",
        scores.accuracy, scores.macro_average.f1, scores.n_cells
    ));
    run.metric("scores", scores);
    Ok(())
}

fn additions(options: &Options, classes: &[String], predictions: &[Prediction]) -> Additions {
    let name = |part: &str| format!("{}_{part}", options.prefix);
    let second = predictions
        .iter()
        .map(|prediction| prediction.second.map(|class| class as u32))
        .collect();
    let number = |value: fn(&Prediction) -> f32| {
        Column::Number(
            predictions
                .iter()
                .map(|p| Some(f64::from(value(p))))
                .collect(),
        )
    };
    Additions {
        obs: vec![
            (
                name("label"),
                label_column::column(classes, predictions.iter().map(|p| p.class)),
            ),
            (name("probability"), number(|p| p.probability)),
            (
                name("second_label"),
                Column::Categorical {
                    codes: second,
                    categories: classes.to_vec(),
                    ordered: false,
                },
            ),
            (name("second_probability"), number(|p| p.second_probability)),
        ],
        uns: vec![(
            name("annotation"),
            json!({"model": options.model.to_string_lossy(), "threshold": options.threshold}),
        )],
        ..Additions::default()
    }
}
