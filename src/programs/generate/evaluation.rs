//! How well hidden values are told: by rounds, all at once, and by simpler methods.

use anyhow::Result;
use serde::Serialize;

use super::prompts::Prompts;
use super::{Options, Prompt};
use crate::baselines::hidden_values::{self, GeneMeans, from_similar_cells};
use crate::failure::Failure;
use crate::model::Model;
use crate::predict::generation::{Confidence, Generator, Method, Question, Rounds};
use crate::progress::Progress;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::Tokens;

/// Fewest hidden genes of a cell that a correlation is taken over.
const FEWEST: usize = 3;
/// Cells that the nearest are chosen from.
const COMPARED: usize = 4000;

/// What was hidden, and how well each method told it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub cells: usize,
    pub values: usize,
    pub rounds: u32,
    pub by_rounds: Score,
    pub at_once: Score,
    pub gene_mean: Score,
    pub nearest_cells: Score,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Pearson correlation of told and true bins over the hidden genes of a cell, mean over cells.
    pub correlation: f64,
    /// Mean squared error, in squared bins.
    pub error: f64,
}

/// A cell in two parts: columns and bins.
struct Hidden {
    at: usize,
    told: Vec<(u32, f32)>,
    hidden: Vec<(u32, f32)>,
}

pub fn evaluate(
    options: &Options,
    model: &Generator,
    prompts: &Prompts,
    run: &mut Run,
) -> Result<Report> {
    let cells: Vec<Hidden> = (0..prompts.cells.n_cells())
        .map(|at| hide(options, prompts, at))
        .collect();
    let sentences: Vec<Tokens> = cells
        .iter()
        .map(|cell| prompts.sentence(&cell.told))
        .collect();
    let mut means = GeneMeans::default();
    sentences.iter().for_each(|sentence| means.add(sentence));
    let tested: Vec<&Hidden> = cells
        .iter()
        .filter(|cell| cell.hidden.len() >= FEWEST)
        .collect();
    if tested.is_empty() {
        return Err(Failure::Input.error(format!(
            "no cell has {FEWEST} genes to hide: raise `--held-out`, or take cells that express more genes"
        )));
    }
    let compared = compared(options, cells.len());
    let (method, mut workers) = (&model.method, model.workers(run.threads()));
    let mut progress = Progress::new("telling hidden genes", tested.len() as u64, "cells");
    let mut scores: [Vec<Of>; 4] = Default::default();
    for some in tested.chunks(super::SLICE) {
        if run.interrupted() {
            return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
        }
        let all = workers.each(some.len(), |network, i| {
            let others = compared
                .iter()
                .filter(|at| **at != some[i].at)
                .map(|&at| &sentences[at]);
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
    say(&report, run);
    Ok(report)
}

fn compared(options: &Options, cells: usize) -> Vec<usize> {
    let mut stream = Seed(options.seed).stream("cells to compare with", &[]);
    let mut compared = random::sample(&mut stream, cells, COMPARED);
    compared.sort_unstable();
    compared
}

/// Hides a share of the genes that a cell expresses.
fn hide(options: &Options, prompts: &Prompts, at: usize) -> Hidden {
    let (columns, values) = prompts.cells.row(at);
    let pairs = columns.iter().copied().zip(values.iter().copied());
    let expressed: Vec<(u32, f32)> = pairs.filter(|(_, value)| *value != 0.0).collect();
    let mut stream = Seed(options.seed).stream("held-out genes", &[at as u64]);
    let wanted = (expressed.len() as f64 * options.held_out) as usize;
    let mut is_hidden = vec![false; expressed.len()];
    for i in random::sample(&mut stream, expressed.len(), wanted) {
        is_hidden[i] = true;
    }
    let part = |hidden: bool| {
        let all = expressed.iter().zip(&is_hidden);
        all.filter(|(_, is_hidden)| **is_hidden == hidden)
            .map(|(pair, _)| *pair)
            .collect()
    };
    Hidden {
        at,
        told: part(false),
        hidden: part(true),
    }
}

/// How well each method tells the hidden genes of one cell.
fn methods<'c>(
    (options, method, network): (&Options, &Method, &Model),
    prompts: &Prompts,
    cell: &Hidden,
    (others, means): (impl Iterator<Item = &'c Tokens>, &GeneMeans),
) -> [Of; 4] {
    let known = if options.prompt == Prompt::Cell {
        &[][..]
    } else {
        &cell.told
    };
    let question = Question {
        known: prompts.sentence(&prompts.sample(known, cell.at as u64)),
        cell: (options.prompt != Prompt::Genes)
            .then(|| prompts.embed(method, network, &cell.told, cell.at)),
        asked: cell.hidden.iter().map(|pair| prompts.id(pair.0)).collect(),
    };
    let answer = |rounds: Rounds| {
        let answer = method.answer(
            network,
            &question,
            rounds,
            (Seed(options.seed), cell.at as u64),
        );
        answer.values.into_iter().map(f64::from).collect::<Vec<_>>()
    };
    let once = Rounds {
        count: 1,
        confidence: Confidence::BinDistance,
        ..options.rounds()
    };
    let told = cell.told.iter();
    let simple = hidden_values::Question {
        told: told
            .map(|&(column, bin)| (prompts.id(column), bin))
            .collect(),
        asked: question.asked.clone(),
    };
    let truth: Vec<f64> = cell.hidden.iter().map(|pair| f64::from(pair.1)).collect();
    [
        answer(options.rounds()),
        answer(once),
        means.answer(&simple),
        from_similar_cells(&simple, others, means),
    ]
    .map(|told| Of::cell(&told, &truth))
}

/// How well the values of one cell are told.
struct Of {
    correlation: f64,
    squared_errors: f64,
    values: usize,
}

impl Of {
    fn cell(told: &[f64], truth: &[f64]) -> Self {
        let squares = told.iter().zip(truth).map(|(a, b)| (a - b).powi(2));
        Self {
            correlation: correlation(told, truth),
            squared_errors: squares.sum(),
            values: truth.len(),
        }
    }
}

/// Pearson's correlation; 0 where either does not vary.
fn correlation(told: &[f64], truth: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (a, b) = (mean(told), mean(truth));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        told.iter().zip(truth).map(|(x, y)| f(x - a, y - b)).sum()
    };
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    if scale > 0.0 {
        sum(&|x, y| x * y) / scale
    } else {
        0.0
    }
}

fn summary(options: &Options, scores: &[Vec<Of>; 4]) -> Report {
    let values = |of: &[Of]| of.iter().map(|cell| cell.values).sum::<usize>();
    let score = |of: &[Of]| Score {
        correlation: of.iter().map(|cell| cell.correlation).sum::<f64>() / of.len() as f64,
        error: of.iter().map(|cell| cell.squared_errors).sum::<f64>() / values(of) as f64,
    };
    Report {
        cells: scores[0].len(),
        values: values(&scores[0]),
        rounds: options.rounds,
        by_rounds: score(&scores[0]),
        at_once: score(&scores[1]),
        gene_mean: score(&scores[2]),
        nearest_cells: score(&scores[3]),
    }
}

fn say(report: &Report, run: &mut Run) {
    let words = |name: &str, score: Score| {
        format!("{name} {:.3} (error {:.2})", score.correlation, score.error)
    };
    run.note(format!(
        "correlation with {} hidden values of {} cells: {}, {}, {}, {}",
        report.values,
        report.cells,
        words(&format!("{} rounds", report.rounds), report.by_rounds),
        words("at once", report.at_once),
        words("gene means", report.gene_mean),
        words("nearest cells", report.nearest_cells),
    ));
    let simpler = report
        .gene_mean
        .correlation
        .max(report.nearest_cells.correlation);
    if report.by_rounds.correlation <= simpler {
        run.warning("a simpler method tells hidden values as well as this model");
    }
}
