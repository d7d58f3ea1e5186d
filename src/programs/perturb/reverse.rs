//! `scgpt-perturb reverse`: which perturbations would lead to a state (reference section 11.4, end).
//!
//! For every candidate the model tells the expression of control cells after it. Cells in the wanted state vote for the candidates
//! whose told profiles are nearest to them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::asking::{self, Asked, Asking};
use crate::cells::perturbation::Perturbation;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::programs::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, perturbed, steps};
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
    pub asking: Asking,
    /// Where to write the candidates, best first, as a table.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Perturbations whose cells in the input are the wanted state: each is a query whose cause is known, which tests the model.
    #[arg(long, value_name = "PERTURBATION")]
    pub query: Vec<String>,
    /// Column of obs that names the wanted state instead.
    #[arg(long, value_name = "COLUMN")]
    pub target_column: Option<String>,
    /// Value in that column of the cells in the wanted state.
    #[arg(long, value_name = "VALUE")]
    pub target: Option<String>,
    /// Also write how often the cause is among the best candidates, for queries whose cause is known.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub evaluate: Option<PathBuf>,
    /// Candidates of every query in the table.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Candidates that a cell votes for, the nearest most.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub votes: usize,
    /// Cells that are averaged before they vote, so that chance plays less of a part; 1 lets single cells vote, as the paper does.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub pool: usize,
    /// Do not look at the expression of the candidates' own genes, which a knock-out itself silences.
    #[arg(long)]
    pub ignore_targets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            asking: Asking::default(),
            output: PathBuf::new(),
            query: Vec::new(),
            target_column: None,
            target: None,
            evaluate: None,
            top: 10,
            votes: 10,
            pool: 10,
            ignore_targets: false,
        }
    }
}

/// The program.
pub struct Reverse;

/// Numbers of candidates that hits are counted among.
const AMONG: [usize; 5] = [1, 3, 5, 8, 10];

impl Program for Reverse {
    const NAME: &'static str = "scgpt-perturb reverse";
    const SUMMARY: &'static str = "Rank the perturbations that would lead to a state of cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: INFERENCE,
        contents: &[("input", CELLS), ("model", MODEL)],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = asking::problems(&options.asking);
        if options.target_column.is_some() != options.target.is_some() {
            problems.push("`--target-column` and `--target` go together: the column and the value of the wanted state".into());
        }
        if options.query.is_empty() == options.target.is_none() {
            problems.push("give either `--query`, perturbations whose cells are the wanted state, or `--target-column` and `--target`".into());
        }
        if options.evaluate.is_some() && options.query.is_empty() {
            problems.push("`--evaluate` needs `--query`, whose cause is known".into());
        }
        let spelling = options.asking.labels.spelling();
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
        run.record_at(steps::record_beside(&options.output));
        let asked = run.stage("read", |run| Asked::read(&options.asking, run))?;
        let queries = queries(&options, &asked)?;
        let mut profiles =
            Array2::<f32>::zeros((asked.questions.len(), asked.model.settings.genes.len()));
        run.stage("tell", |run| {
            asked.each(run, |at, change| {
                let told = asked
                    .mean
                    .iter()
                    .zip(change)
                    .map(|(mean, change)| *mean as f32 + change);
                profiles
                    .row_mut(at)
                    .iter_mut()
                    .zip(told)
                    .for_each(|(to, told)| *to = told);
            })
        })?;
        let looked_at = looked_at(&options, &asked);
        let ranked: Vec<Vec<Candidate>> = run.stage("vote", |_| {
            let (counts, seed) = (&asked.counts, options.asking.seed);
            let rank = |query: &Query| rank(&options, (counts, seed), &profiles, &looked_at, query);
            queries.par_iter().map(rank).collect()
        });
        let text = table(&options, &asked, &queries, &ranked);
        steps::write_text(&options.output, &text, run)?;
        if options.target.is_none() {
            let text = evaluate(&asked, &queries, &ranked, run);
            progress::result(&text.replace('\t', "  "));
            if let Some(path) = &options.evaluate {
                steps::write_text(path, &text, run)?;
            }
        }
        Ok(())
    }
}

/// Cells in a wanted state, and its cause if that is known.
struct Query {
    name: String,
    cause: Option<Perturbation>,
    cells: Vec<usize>,
}

fn queries(options: &Options, asked: &Asked) -> Result<Vec<Query>> {
    let no_cells = |what: String| {
        Failure::Input.error(format!(
            "no cell of `{}` {what}",
            options.asking.input.display()
        ))
    };
    if let (Some(column), Some(value)) = (&options.target_column, &options.target) {
        let labels = asked.cells.labels(column)?;
        let is_wanted = |(cell, label): (usize, &Option<String>)| {
            (label.as_ref() == Some(value)).then_some(cell)
        };
        let cells: Vec<usize> = labels.iter().enumerate().filter_map(is_wanted).collect();
        if cells.is_empty() {
            let found: BTreeSet<&String> = labels.iter().flatten().collect();
            let found: Vec<&String> = found.into_iter().collect();
            return Err(no_cells(format!(
                "has `{value}` in the column `{column}`, which has {}",
                perturbed::some(&found)
            )));
        }
        return Ok(vec![Query {
            name: value.clone(),
            cause: None,
            cells,
        }]);
    }
    let spelling = options.asking.labels.spelling();
    let query = |text: &String| {
        let cause = spelling.parse(text)?;
        let cells = asked.observed(&cause);
        if cells.is_empty() {
            return Err(no_cells(format!(
                "was perturbed by `{text}`, which `--query` names"
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

/// Genes that distances are taken over.
fn looked_at(options: &Options, asked: &Asked) -> Vec<usize> {
    let targets: BTreeSet<&str> = asked
        .questions
        .iter()
        .flat_map(|question| question.genes())
        .collect();
    let genes = &asked.model.settings.genes;
    let is_looked_at =
        |gene: &usize| !options.ignore_targets || !targets.contains(genes[*gene].as_str());
    (0..genes.len()).filter(is_looked_at).collect()
}

/// A candidate: votes of all cells, and its mean distance from them.
struct Candidate {
    question: usize,
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
        .map(|question| Candidate {
            question,
            votes: 0.0,
            distance: 0.0,
        })
        .collect();
    let voters: Vec<&[usize]> = cells.chunks(options.pool).collect();
    for voter in &voters {
        let seen = perturbed::mean(counts, voter);
        let far = |profile: ArrayView1<f32>| -> f64 {
            let difference = |&gene: &usize| (f64::from(profile[gene]) - seen[gene]).powi(2);
            genes.iter().map(difference).sum::<f64>().sqrt()
        };
        let distances: Vec<f64> = profiles.rows().into_iter().map(far).collect();
        let mut order: Vec<usize> = (0..distances.len()).collect();
        order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]).then(a.cmp(&b)));
        for (rank, &question) in order.iter().take(options.votes).enumerate() {
            candidates[question].votes += 1.0 / (rank + 1) as f64;
        }
        for (candidate, distance) in candidates.iter_mut().zip(&distances) {
            candidate.distance += distance / voters.len() as f64;
        }
    }
    candidates.sort_by(|a, b| {
        let by_votes = b.votes.total_cmp(&a.votes);
        by_votes
            .then(a.distance.total_cmp(&b.distance))
            .then(a.question.cmp(&b.question))
    });
    candidates
}

fn table(options: &Options, asked: &Asked, queries: &[Query], ranked: &[Vec<Candidate>]) -> String {
    let mut text = String::from("query\trank\tperturbation\tpart\tvotes\tdistance\n");
    for (query, candidates) in queries.iter().zip(ranked) {
        for (rank, candidate) in candidates.iter().take(options.top).enumerate() {
            let question = &asked.questions[candidate.question];
            text.push_str(&format!(
                "{}\t{}\t{question}\t{}\t{:.4}\t{:.6}\n",
                query.name,
                rank + 1,
                asked.part(question),
                candidate.votes,
                candidate.distance
            ));
        }
    }
    text
}

/// How often the cause, or one of its genes, is among the best candidates, beside what chance would give.
fn evaluate(asked: &Asked, queries: &[Query], ranked: &[Vec<Candidate>], run: &mut Run) -> String {
    let mut text = String::from(
        "part\tqueries\tamong\tcorrect\tcorrect_by_chance\trelevant\trelevant_by_chance\n",
    );
    let parts: BTreeSet<&str> = queries
        .iter()
        .filter_map(|query| Some(asked.part(query.cause.as_ref()?)))
        .collect();
    let mut records = Vec::new();
    for part in std::iter::once("all").chain(parts.iter().copied().filter(|_| parts.len() > 1)) {
        let own: Vec<(&Perturbation, &Vec<Candidate>)> = queries
            .iter()
            .zip(ranked)
            .filter_map(|(query, ranked)| Some((query.cause.as_ref()?, ranked)))
            .filter(|(cause, _)| part == "all" || asked.part(cause) == part)
            .collect();
        for k in AMONG {
            let shares = own
                .iter()
                .map(|(cause, ranked)| hits(asked, cause, ranked, k));
            let sums = shares.fold([0.0; 4], |sums, hits| {
                std::array::from_fn(|at| sums[at] + hits[at])
            });
            let [correct, by_chance, relevant, relevant_by_chance] =
                sums.map(|sum| sum / own.len() as f64);
            text.push_str(&format!("{part}\t{}\t{k}\t{correct:.4}\t{by_chance:.4}\t{relevant:.4}\t{relevant_by_chance:.4}\n", own.len()));
            records.push(json!({"part": part, "queries": own.len(), "among": k, "correct": correct, "correct_by_chance": by_chance, "relevant": relevant, "relevant_by_chance": relevant_by_chance}));
        }
    }
    run.metric("hits", records);
    text
}

/// Whether the cause is among the best, by how much chance it would be, and the same of a candidate with one of its genes.
fn hits(asked: &Asked, cause: &Perturbation, ranked: &[Candidate], k: usize) -> [f64; 4] {
    let genes: BTreeSet<&str> = cause.genes().into_iter().collect();
    let question = |candidate: &Candidate| &asked.questions[candidate.question];
    let is_relevant = |candidate: &Candidate| {
        question(candidate)
            .genes()
            .iter()
            .any(|gene| genes.contains(gene))
    };
    let n = ranked.len();
    let correct = ranked
        .iter()
        .take(k)
        .any(|candidate| question(candidate) == cause);
    let relevant = ranked.iter().take(k).any(is_relevant);
    let by_chance = |good: usize| {
        // Chance that none of k candidates drawn without replacement is good.
        let miss = |i: usize| n.saturating_sub(good + i) as f64 / n.saturating_sub(i).max(1) as f64;
        1.0 - (0..k.min(n)).map(miss).product::<f64>()
    };
    let good = ranked
        .iter()
        .filter(|candidate| question(candidate) == cause)
        .count();
    let related = ranked
        .iter()
        .filter(|candidate| is_relevant(candidate))
        .count();
    [
        f64::from(u8::from(correct)),
        by_chance(good),
        f64::from(u8::from(relevant)),
        by_chance(related),
    ]
}
