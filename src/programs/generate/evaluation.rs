//! Evaluation of imputation on held-out genes: iterative generation, a single pass, and baselines.

use anyhow::Result;
use serde::Serialize;

use super::prompts::Prompts;
use super::{Options, Prompt};
use crate::baselines::imputation::{self, GeneMeans, from_similar_cells};
use crate::failure::Failure;
use crate::model::Model;
use crate::predict::generation::{Confidence, Generator, Method, Query, Rounds};
use crate::progress::Progress;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::Tokens;

/// Minimum number of held-out genes of a cell for a correlation.
const FEWEST: usize = 3;
/// Maximum number of cells among which similar cells are searched.
const COMPARED: usize = 4000;

/// Scores of each method on held-out values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub cells: usize,
    pub values: usize,
    pub rounds: u32,
    pub iterative: Score,
    pub single_pass: Score,
    pub baseline_gene_mean: Score,
    pub baseline_knn: Score,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Pearson correlation of predicted and true bins over the held-out genes of a cell, mean over cells.
    pub correlation: f64,
    /// Mean squared error, in squared bins.
    pub mse: f64,
}

/// Columns and bins of the input genes and the held-out genes of a cell.
struct Case {
    at: usize,
    input: Vec<(u32, f32)>,
    held_out: Vec<(u32, f32)>,
}

pub fn evaluate(
    options: &Options,
    model: &Generator,
    prompts: &Prompts,
    run: &mut Run,
) -> Result<Report> {
    let cells: Vec<Case> = (0..prompts.cells.n_cells())
        .map(|at| hold_out(options, prompts, at))
        .collect();
    let inputs: Vec<Tokens> = cells
        .iter()
        .map(|cell| prompts.tokens(&cell.input))
        .collect();
    let mut means = GeneMeans::default();
    inputs.iter().for_each(|tokens| means.add(tokens));
    let tested: Vec<&Case> = cells
        .iter()
        .filter(|cell| cell.held_out.len() >= FEWEST)
        .collect();
    if tested.is_empty() {
        return Err(Failure::Input.error(format!(
            "no cell has {FEWEST} genes to hold out: increase `--held-out-fraction`, or use cells that express more genes"
        )));
    }
    let compared = compared(options, cells.len());
    let (method, mut workers) = (&model.method, model.workers(run.threads()));
    let mut progress = Progress::new("predicting held-out genes", tested.len() as u64, "cells");
    let mut scores: [Vec<CellScore>; 4] = Default::default();
    for some in tested.chunks(super::SLICE) {
        if run.interrupted() {
            return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
        }
        let all = workers.each(some.len(), |network, i| {
            let others = compared
                .iter()
                .filter(|at| **at != some[i].at)
                .map(|&at| &inputs[at]);
            methods(
                (options, method, network),
                prompts,
                some[i],
                (others, &means),
            )
        });
        for of_cell in all {
            scores
                .iter_mut()
                .zip(of_cell)
                .for_each(|(scores, score)| scores.push(score));
        }
        progress.advance(some.len() as u64);
    }
    progress.finish();
    let report = summary(options, &scores);
    print(&report, run);
    Ok(report)
}

fn compared(options: &Options, cells: usize) -> Vec<usize> {
    let mut stream = Seed(options.seed).stream("cells to compare with", &[]);
    let mut compared = random::sample(&mut stream, cells, COMPARED);
    compared.sort_unstable();
    compared
}

/// Holds out a fraction of the expressed genes of a cell.
fn hold_out(options: &Options, prompts: &Prompts, at: usize) -> Case {
    let (columns, values) = prompts.cells.row(at);
    let pairs = columns.iter().copied().zip(values.iter().copied());
    let expressed: Vec<(u32, f32)> = pairs.filter(|(_, value)| *value != 0.0).collect();
    let mut stream = Seed(options.seed).stream("held-out genes", &[at as u64]);
    let wanted = (expressed.len() as f64 * options.held_out_fraction) as usize;
    let mut is_held_out = vec![false; expressed.len()];
    for i in random::sample(&mut stream, expressed.len(), wanted) {
        is_held_out[i] = true;
    }
    let part = |held_out: bool| {
        let all = expressed.iter().zip(&is_held_out);
        all.filter(|(_, is_held_out)| **is_held_out == held_out)
            .map(|(pair, _)| *pair)
            .collect()
    };
    Case {
        at,
        input: part(false),
        held_out: part(true),
    }
}

/// Scores of each method on the held-out genes of one cell.
fn methods<'c>(
    (options, method, network): (&Options, &Method, &Model),
    prompts: &Prompts,
    cell: &Case,
    (others, means): (impl Iterator<Item = &'c Tokens>, &GeneMeans),
) -> [CellScore; 4] {
    let known = if options.prompt == Prompt::Cell {
        &[][..]
    } else {
        &cell.input
    };
    let query = Query {
        known: prompts.tokens(&prompts.sample(known, cell.at as u64)),
        cell: (options.prompt != Prompt::Genes)
            .then(|| prompts.embed(method, network, &cell.input, cell.at)),
        targets: cell
            .held_out
            .iter()
            .map(|pair| prompts.id(pair.0))
            .collect(),
    };
    let generate = |rounds: Rounds| {
        let generated = method.generate(
            network,
            &query,
            rounds,
            (Seed(options.seed), cell.at as u64),
        );
        generated
            .values
            .into_iter()
            .map(f64::from)
            .collect::<Vec<_>>()
    };
    let single_pass = Rounds {
        count: 1,
        confidence: Confidence::BinDistance,
        ..options.rounds()
    };
    let input = cell.input.iter();
    let baseline = imputation::Query {
        known: input
            .map(|&(column, bin)| (prompts.id(column), bin))
            .collect(),
        targets: query.targets.clone(),
    };
    let truth: Vec<f64> = cell.held_out.iter().map(|pair| f64::from(pair.1)).collect();
    [
        generate(options.rounds()),
        generate(single_pass),
        means.predict(&baseline),
        from_similar_cells(&baseline, others, means),
    ]
    .map(|predicted| CellScore::new(&predicted, &truth))
}

/// Scores of the predictions of one cell.
struct CellScore {
    correlation: f64,
    squared_errors: f64,
    values: usize,
}

impl CellScore {
    fn new(predicted: &[f64], truth: &[f64]) -> Self {
        let squares = predicted.iter().zip(truth).map(|(a, b)| (a - b).powi(2));
        Self {
            correlation: correlation(predicted, truth),
            squared_errors: squares.sum(),
            values: truth.len(),
        }
    }
}

/// Pearson's correlation; 0 where either does not vary.
fn correlation(predicted: &[f64], truth: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (a, b) = (mean(predicted), mean(truth));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        predicted
            .iter()
            .zip(truth)
            .map(|(x, y)| f(x - a, y - b))
            .sum()
    };
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    if scale > 0.0 {
        sum(&|x, y| x * y) / scale
    } else {
        0.0
    }
}

fn summary(options: &Options, scores: &[Vec<CellScore>; 4]) -> Report {
    let values = |of: &[CellScore]| of.iter().map(|cell| cell.values).sum::<usize>();
    let score = |of: &[CellScore]| Score {
        correlation: of.iter().map(|cell| cell.correlation).sum::<f64>() / of.len() as f64,
        mse: of.iter().map(|cell| cell.squared_errors).sum::<f64>() / values(of) as f64,
    };
    Report {
        cells: scores[0].len(),
        values: values(&scores[0]),
        rounds: options.rounds,
        iterative: score(&scores[0]),
        single_pass: score(&scores[1]),
        baseline_gene_mean: score(&scores[2]),
        baseline_knn: score(&scores[3]),
    }
}

fn print(report: &Report, run: &mut Run) {
    let text = |name: &str, score: Score| {
        format!("{name} {:.3} (MSE {:.2})", score.correlation, score.mse)
    };
    run.note(format!(
        "correlation with {} held-out values of {} cells: {}, {}, {}, {}",
        report.values,
        report.cells,
        text(&format!("{} rounds", report.rounds), report.iterative),
        text("single pass", report.single_pass),
        text("gene means", report.baseline_gene_mean),
        text("nearest cells", report.baseline_knn),
    ));
    let best = report
        .baseline_gene_mean
        .correlation
        .max(report.baseline_knn.correlation);
    if report.iterative.correlation <= best {
        run.warning("a baseline predicts held-out values as well as or better than this model");
    }
}
