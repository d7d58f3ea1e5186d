//! `scgpt-perturb reverse`: ranking of perturbations toward a target state (docs/methods.md, "Reverse perturbation").
//!
//! The model predicts the expression of control cells after every candidate perturbation. Cells in the target state vote for the
//! candidates whose predicted profiles are nearest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::request::{self, Predictions, Request};
use crate::cells::perturbation::Perturbation;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::programs::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, perturbation_data, steps};
use crate::progress;
use crate::random::{self, Seed};
use crate::run_record::Run;

/// Options of `scgpt-perturb reverse`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub request: Request,
    /// TSV of candidate perturbations for each query, best first: split in training, votes and distance.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Perturbations whose cells in the input are the target states; the ranking is then evaluated. Give either --query, or
    /// --target-column and --target. Comma-separated.
    #[arg(long, help_heading = "Options", value_name = "PERTURBATION")]
    pub query: Vec<String>,
    /// Column of obs that defines the target state. Needs --target; replaces --query.
    #[arg(long, help_heading = "Options", value_name = "COLUMN")]
    pub target_column: Option<String>,
    /// Value of --target-column for cells of the target state.
    #[arg(long, help_heading = "Options", value_name = "VALUE")]
    pub target: Option<String>,
    /// Output TSV of top-k accuracy: how often the true perturbation of --query is among the k best candidates. Needs --query.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub evaluate: Option<PathBuf>,
    /// Number of candidates per query in --output.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Number of nearest candidates that each pseudobulk votes for, weighted by 1 / rank.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 1))]
    pub top_k: usize,
    /// Number of query cells averaged before they vote (pseudobulk). Larger values reduce noise; 1 lets single cells vote, as in
    /// the scGPT paper.
    #[arg(long, help_heading = "Options", hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub pseudobulk_size: usize,
    /// Exclude the genes of all candidates from the distance, because a knockout silences its own gene.
    #[arg(long, help_heading = "Options", hide_short_help = true)]
    pub ignore_targets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request: Request::default(),
            output: PathBuf::new(),
            query: Vec::new(),
            target_column: None,
            target: None,
            evaluate: None,
            top: 10,
            top_k: 10,
            pseudobulk_size: 10,
            ignore_targets: false,
        }
    }
}

/// The program.
pub struct Reverse;

/// Values of k for top-k accuracy.
const TOP_K: [usize; 5] = [1, 3, 5, 8, 10];

impl Program for Reverse {
    const NAME: &'static str = "scgpt-perturb reverse";
    const SUMMARY: &'static str = "Rank perturbations predicted to produce a target state of cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: INFERENCE,
        contents: &[("input", CELLS), ("model", MODEL)],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = request::problems(&options.request);
        if options.target_column.is_some() != options.target.is_some() {
            problems.push("`--target-column` and `--target` must be given together: the column and the value of the target state".into());
        }
        if options.query.is_empty() == options.target.is_none() {
            problems.push("give either `--query`, perturbations whose cells are the target state, or `--target-column` and `--target`".into());
        }
        if options.evaluate.is_some() && options.query.is_empty() {
            problems.push("`--evaluate` needs `--query`, whose true perturbation is known".into());
        }
        let spelling = options.request.labels.spelling();
        for text in &options.query {
            match spelling.parse(text) {
                Err(wrong) => problems.push(format!("`--query`: `{text}` {wrong}")),
                Ok(query) if query.is_control() => {
                    problems.push(format!("`--query`: `{text}` is the control"))
                }
                Ok(_) => {}
            }
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let predictions = run.stage("read", |run| Predictions::read(&options.request, run))?;
        let queries = queries(&options, &predictions)?;
        let n_genes = predictions.model.settings.genes.len();
        let mut profiles = Array2::<f32>::zeros((predictions.perturbations.len(), n_genes));
        run.stage("predict", |run| {
            predictions.each(run, |at, change| {
                let predicted = predictions
                    .mean
                    .iter()
                    .zip(change)
                    .map(|(mean, change)| *mean as f32 + change);
                profiles
                    .row_mut(at)
                    .iter_mut()
                    .zip(predicted)
                    .for_each(|(to, predicted)| *to = predicted);
            })
        })?;
        let distance_genes = distance_genes(&options, &predictions);
        let ranked: Vec<Vec<Candidate>> = run.stage("rank", |_| {
            let (counts, seed) = (&predictions.counts, options.request.seed);
            let genes = &distance_genes;
            let rank = |query: &Query| rank(&options, (counts, seed), &profiles, genes, query);
            queries.par_iter().map(rank).collect()
        });
        let text = table(&options, &predictions, &queries, &ranked);
        steps::write_text(&options.output, &text, run)?;
        if options.target.is_none() {
            let text = evaluate(&predictions, &queries, &ranked, run);
            progress::result(&text.replace('\t', "  "));
            if let Some(path) = &options.evaluate {
                steps::write_text(path, &text, run)?;
            }
        }
        Ok(())
    }
}

/// Cells in a target state, and its true perturbation if known.
struct Query {
    name: String,
    cause: Option<Perturbation>,
    cells: Vec<usize>,
}

fn queries(options: &Options, predictions: &Predictions) -> Result<Vec<Query>> {
    let no_cells = |what: String| {
        Failure::Input.error(format!(
            "no cell of `{}` {what}",
            options.request.input.display()
        ))
    };
    if let (Some(column), Some(value)) = (&options.target_column, &options.target) {
        let labels = predictions.cells.labels(column)?;
        let is_wanted = |(cell, label): (usize, &Option<String>)| {
            (label.as_ref() == Some(value)).then_some(cell)
        };
        let cells: Vec<usize> = labels.iter().enumerate().filter_map(is_wanted).collect();
        if cells.is_empty() {
            let found: BTreeSet<&String> = labels.iter().flatten().collect();
            let found: Vec<&String> = found.into_iter().collect();
            return Err(no_cells(format!(
                "has `{value}` in the column `{column}`, which has {}",
                perturbation_data::some(&found)
            )));
        }
        return Ok(vec![Query {
            name: value.clone(),
            cause: None,
            cells,
        }]);
    }
    let spelling = options.request.labels.spelling();
    let query = |text: &String| {
        let cause = spelling.parse(text)?;
        let cells = predictions.observed(&cause);
        if cells.is_empty() {
            return Err(no_cells(format!(
                "has the perturbation `{text}` of `--query`"
            )));
        }
        Ok(Query {
            name: cause.to_string(),
            cause: Some(cause),
            cells,
        })
    };
    options.query.iter().map(query).collect()
}

/// Genes that distances are computed on.
fn distance_genes(options: &Options, predictions: &Predictions) -> Vec<usize> {
    let targets: BTreeSet<&str> = predictions
        .perturbations
        .iter()
        .flat_map(|perturbation| perturbation.genes())
        .collect();
    let genes = &predictions.model.settings.genes;
    let is_used =
        |gene: &usize| !options.ignore_targets || !targets.contains(genes[*gene].as_str());
    (0..genes.len()).filter(is_used).collect()
}

/// A candidate: votes of all cells, and its mean distance from them.
struct Candidate {
    perturbation: usize,
    votes: f64,
    distance: f64,
}

/// Candidates of a query, best first: by votes, then by distance.
fn rank(
    options: &Options,
    (counts, seed): (&Counts, u64),
    profiles: &Array2<f32>,
    genes: &[usize],
    query: &Query,
) -> Vec<Candidate> {
    let mut stream = Seed(seed).stream("cells that vote together", &[]);
    let order = random::permutation(&mut stream, query.cells.len());
    let cells: Vec<usize> = order.into_iter().map(|at| query.cells[at]).collect();
    let mut candidates: Vec<Candidate> = (0..profiles.nrows())
        .map(|perturbation| Candidate {
            perturbation,
            votes: 0.0,
            distance: 0.0,
        })
        .collect();
    let voters: Vec<&[usize]> = cells.chunks(options.pseudobulk_size).collect();
    for voter in &voters {
        let seen = perturbation_data::mean(counts, voter);
        let far = |profile: ArrayView1<f32>| -> f64 {
            let difference = |&gene: &usize| (f64::from(profile[gene]) - seen[gene]).powi(2);
            genes.iter().map(difference).sum::<f64>().sqrt()
        };
        let distances: Vec<f64> = profiles.rows().into_iter().map(far).collect();
        let mut order: Vec<usize> = (0..distances.len()).collect();
        order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]).then(a.cmp(&b)));
        for (rank, &perturbation) in order.iter().take(options.top_k).enumerate() {
            candidates[perturbation].votes += 1.0 / (rank + 1) as f64;
        }
        for (candidate, distance) in candidates.iter_mut().zip(&distances) {
            candidate.distance += distance / voters.len() as f64;
        }
    }
    candidates.sort_by(|a, b| {
        let by_votes = b.votes.total_cmp(&a.votes);
        by_votes
            .then(a.distance.total_cmp(&b.distance))
            .then(a.perturbation.cmp(&b.perturbation))
    });
    candidates
}

fn table(
    options: &Options,
    predictions: &Predictions,
    queries: &[Query],
    ranked: &[Vec<Candidate>],
) -> String {
    let mut text = String::from("query\trank\tperturbation\tsplit\tvotes\tdistance\n");
    for (query, candidates) in queries.iter().zip(ranked) {
        for (rank, candidate) in candidates.iter().take(options.top).enumerate() {
            let perturbation = &predictions.perturbations[candidate.perturbation];
            text.push_str(&format!(
                "{}\t{}\t{perturbation}\t{}\t{:.4}\t{:.6}\n",
                query.name,
                rank + 1,
                predictions.split(perturbation),
                candidate.votes,
                candidate.distance
            ));
        }
    }
    text
}

/// Top-k accuracy and partial matches of the candidates, with the values expected for random candidates.
fn evaluate(
    predictions: &Predictions,
    queries: &[Query],
    ranked: &[Vec<Candidate>],
    run: &mut Run,
) -> String {
    let mut text = String::from(
        "split\tqueries\ttop_k\taccuracy\taccuracy_random\tpartial_match\tpartial_match_random\n",
    );
    let splits: BTreeSet<&str> = queries
        .iter()
        .filter_map(|query| Some(predictions.split(query.cause.as_ref()?)))
        .collect();
    let mut records = Vec::new();
    for split in std::iter::once("all").chain(splits.iter().copied().filter(|_| splits.len() > 1)) {
        let own: Vec<(&Perturbation, &Vec<Candidate>)> = queries
            .iter()
            .zip(ranked)
            .filter_map(|(query, ranked)| Some((query.cause.as_ref()?, ranked)))
            .filter(|(cause, _)| split == "all" || predictions.split(cause) == split)
            .collect();
        for k in TOP_K {
            let fractions = own
                .iter()
                .map(|(cause, ranked)| hits(predictions, cause, ranked, k));
            let sums = fractions.fold([0.0; 4], |sums, hits| {
                std::array::from_fn(|at| sums[at] + hits[at])
            });
            let [accuracy, random, partial_match, partial_match_random] =
                sums.map(|sum| sum / own.len() as f64);
            text.push_str(&format!("{split}\t{}\t{k}\t{accuracy:.4}\t{random:.4}\t{partial_match:.4}\t{partial_match_random:.4}\n", own.len()));
            records.push(json!({"split": split, "queries": own.len(), "top_k": k, "accuracy": accuracy, "accuracy_random": random, "partial_match": partial_match, "partial_match_random": partial_match_random}));
        }
    }
    run.metric("topk_accuracy", records);
    text
}

/// Whether the true perturbation is among the best k, the probability of that for random candidates, and the same for a candidate
/// with one of its genes.
fn hits(
    predictions: &Predictions,
    cause: &Perturbation,
    ranked: &[Candidate],
    k: usize,
) -> [f64; 4] {
    let genes: BTreeSet<&str> = cause.genes().into_iter().collect();
    let perturbation = |candidate: &Candidate| &predictions.perturbations[candidate.perturbation];
    let has_common_gene = |candidate: &Candidate| {
        perturbation(candidate)
            .genes()
            .iter()
            .any(|gene| genes.contains(gene))
    };
    let n = ranked.len();
    let accuracy = ranked
        .iter()
        .take(k)
        .any(|candidate| perturbation(candidate) == cause);
    let partial_match = ranked.iter().take(k).any(has_common_gene);
    let chance = |good: usize| {
        // Probability that none of k candidates drawn without replacement is good.
        let miss = |i: usize| n.saturating_sub(good + i) as f64 / n.saturating_sub(i).max(1) as f64;
        1.0 - (0..k.min(n)).map(miss).product::<f64>()
    };
    let good = ranked
        .iter()
        .filter(|candidate| perturbation(candidate) == cause)
        .count();
    let related = ranked
        .iter()
        .filter(|candidate| has_common_gene(candidate))
        .count();
    [
        f64::from(u8::from(accuracy)),
        chance(good),
        f64::from(u8::from(partial_match)),
        chance(related),
    ]
}
