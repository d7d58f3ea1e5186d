//! Evaluation on held-out perturbations, compared with baselines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Axis};
use serde_json::{Map, Value, json};

use super::Options;
use super::data::{Condition, Data};
use super::perceptron;
use crate::analysis::differential::{self, Reference};
use crate::analysis::perturbation_metrics::{self, Distance, Mean, Response, Scores};
use crate::analysis::projection::Pca;
use crate::baselines::perturbation::{self as baselines, ObservedEffects};
use crate::failure::Failure;
use crate::figures::{Changes, Combinations, State};
use crate::predict::perturbation::Controls;
use crate::programs::perturbation_data;
use crate::progress;
use crate::run_record::Run;
use crate::split::perturbations::{Part, Subgroup};
use crate::trainer::{Files, Trained};

/// Dimension of gene and perturbation embeddings of the linear model, as published (Ahlmann-Eltze, Huber and Anders 2025).
const COMPONENTS: usize = 10;
/// Maximum number of figures: of the perturbations with most cells.
const MAX_FIGURES: usize = 12;
/// Genes of a figure.
const GENES_DRAWN: usize = 20;

/// Observed expression of a condition.
struct Truth {
    /// Mean of the control cells of its strata, and of its own cells.
    control: Vec<f64>,
    observed: Vec<f64>,
    /// Genes from the most to the least changed.
    ranking: Vec<usize>,
    /// Columns of the perturbed genes.
    targets: Vec<usize>,
}

impl Truth {
    fn change(&self) -> Vec<f64> {
        let pairs = self.observed.iter().zip(&self.control);
        pairs
            .map(|(observed, control)| observed - control)
            .collect()
    }
}

/// A method and its predicted changes, `[tested, genes]`.
type Method = (&'static str, Array2<f64>);

/// A scored condition: method, and scores by name.
struct Row {
    condition: usize,
    subgroup: Subgroup,
    method: &'static str,
    scores: Vec<(String, f64)>,
}

/// Scores the model and the baselines on the test perturbations; returns the files to keep with the model.
pub fn test(
    options: &Options,
    trained: Trained<'_, Options>,
    (work, run): (&Path, &mut Run),
) -> Result<Files> {
    let Trained { data, reader, .. } = trained;
    let mut files = vec![(
        "perturbation_splits.svg".to_owned(),
        combinations(data).into_bytes(),
    )];
    let is_tested = |at: &usize| matches!(data.conditions[*at].part, Part::Test(_));
    let tested: Vec<usize> = (0..data.conditions.len()).filter(is_tested).collect();
    if tested.is_empty() {
        run.note("no perturbations were held out for testing");
        return Ok(files);
    }
    let truths = truths(options, data)?;
    let controls = reader.controls(options, data);
    let own = run.stage("predict", |run| {
        model_changes(trained, &controls, &tested, run)
    });
    let mut methods = vec![("scGPT", own)];
    methods.push(("control", Array2::zeros((tested.len(), data.genes.len()))));
    if options.baselines {
        methods.extend(baseline_changes(data, &truths, &tested, run)?);
        let queries = (&controls, &tested[..]);
        let predicted = run.stage("mlp", |run| {
            perceptron::changes(options, data, reader, queries, (work, run))
        })?;
        methods.push((
            "mlp",
            predicted.ok_or_else(|| {
                Failure::Interrupted.error("stopped by a signal; rerun with `--resume` to continue")
            })?,
        ));
    }
    let rows = score(data, &truths, &tested, &methods)?;
    let summary = summarize(&rows);
    progress::result(&text(&summary));
    run.metric("test", to_json(&summary));
    files.push((
        "test_metrics.json".into(),
        serde_json::to_vec_pretty(&to_json(&summary))?,
    ));
    files.push((
        "test_metrics.tsv".into(),
        summary_tsv(&summary).into_bytes(),
    ));
    files.push((
        "test_conditions.tsv".into(),
        rows_tsv(data, &rows).into_bytes(),
    ));
    files.extend(figures(data, &truths, &tested, &methods[0].1));
    Ok(files)
}

fn model_changes(
    trained: Trained<'_, Options>,
    controls: &Controls,
    queries: &[usize],
    run: &Run,
) -> Array2<f64> {
    let workers = trained.network.workers(run.threads());
    let rows = trained.reader.changes(workers, controls, queries);
    let width = rows.first().map_or(0, Vec::len);
    let values = rows.iter().flatten().map(|&value| f64::from(value));
    Array2::from_shape_vec((queries.len(), width), values.collect()).expect("a row per query")
}

/// Observed expression of every condition.
fn truths(options: &Options, data: &Data) -> Result<Vec<Truth>> {
    let reference = Reference::new(&data.counts, &data.control_cells)?;
    let strata: BTreeSet<u32> = data.strata.iter().copied().collect();
    let mean = |&stratum: &u32| {
        let controls = data.controls.of(stratum);
        (stratum, perturbation_data::mean(&data.counts, controls))
    };
    let means: BTreeMap<u32, Vec<f64>> = strata.iter().map(mean).collect();
    let truth = |condition: &Condition| -> Result<Truth> {
        let mut control = vec![0.0; data.genes.len()];
        for &cell in &condition.cells {
            let mean = &means[&data.strata[cell]];
            control
                .iter_mut()
                .zip(mean)
                .for_each(|(sum, mean)| *sum += mean);
        }
        let n = condition.cells.len() as f64;
        control.iter_mut().for_each(|sum| *sum /= n);
        let differences = reference.compare(&data.counts, &condition.cells, options.de_test)?;
        let genes = condition.perturbation.genes();
        Ok(Truth {
            control,
            observed: perturbation_data::mean(&data.counts, &condition.cells),
            ranking: differential::ranking(&differences),
            targets: genes
                .into_iter()
                .filter_map(|gene| data.column(gene))
                .collect(),
        })
    };
    data.conditions.iter().map(truth).collect()
}

fn changes_of(truths: &[Truth], conditions: &[usize]) -> Array2<f64> {
    let width = truths.first().map_or(0, |truth| truth.control.len());
    let values = conditions.iter().flat_map(|&at| truths[at].change());
    Array2::from_shape_vec((conditions.len(), width), values.collect())
        .expect("a row per condition")
}

/// Predictions of baselines trained on the same perturbations; each is a stage of the run with its name.
fn baseline_changes(
    data: &Data,
    truths: &[Truth],
    tested: &[usize],
    run: &mut Run,
) -> Result<Vec<Method>> {
    let trained =
        |at: &usize| matches!(data.conditions[*at].part, Part::Training | Part::Validation);
    let training: Vec<usize> = (0..data.conditions.len()).filter(trained).collect();
    let names: BTreeSet<&str> = data
        .conditions
        .iter()
        .flat_map(|c| c.perturbation.genes())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let place = |gene: &&str| names.binary_search(gene).expect("a perturbed gene");
    let targets_of = |conditions: &[usize]| -> Vec<Vec<usize>> {
        let genes = |&at: &usize| {
            data.conditions[at]
                .perturbation
                .genes()
                .iter()
                .map(place)
                .collect()
        };
        conditions.iter().map(genes).collect()
    };
    let (known_targets, queries) = (targets_of(&training), targets_of(tested));
    let changes = changes_of(truths, &training);
    let cells: Vec<usize> = training
        .iter()
        .map(|&at| data.conditions[at].cells.len())
        .collect();
    let known = ObservedEffects {
        targets: &known_targets,
        changes: changes.view(),
        cells: &cells,
    };
    let mean = run.stage("training_mean", |_| {
        baselines::mean_change(&known, &queries)
    });
    let additive = run.stage("additive", |_| baselines::additive(&known, &queries));
    let linear = run.stage("linear", |_| linear(data, &known, &names, &queries))?;
    Ok(vec![
        ("training_mean", mean),
        ("additive", additive),
        ("linear", linear),
    ])
}

/// The linear model on principal components of the training cells; `targets` are the names of perturbed genes.
fn linear(
    data: &Data,
    known: &ObservedEffects<'_>,
    targets: &[&str],
    queries: &[Vec<usize>],
) -> Result<Array2<f64>> {
    let is_trained = |part| matches!(part, Part::Training | Part::Validation);
    let mut training_cells = data.cells_of(is_trained);
    training_cells.extend(&data.control_cells);
    training_cells.sort_unstable();
    let cells = data.counts.select_cells(&training_cells).to_dense();
    let pca = Pca::fit(cells.view(), COMPONENTS)?;
    let vectors = pca.components.t().to_owned();
    let mut target_vectors = Array2::zeros((targets.len(), vectors.ncols()));
    for (mut row, gene) in target_vectors.axis_iter_mut(Axis(0)).zip(targets) {
        if let Some(column) = data.column(gene) {
            row.assign(&vectors.row(column));
        }
    }
    Ok(baselines::linear(
        known,
        vectors.view(),
        target_vectors.view(),
        queries,
    )?)
}

fn score(data: &Data, truths: &[Truth], tested: &[usize], methods: &[Method]) -> Result<Vec<Row>> {
    let all: Vec<usize> = (0..truths.len()).collect();
    let observed = changes_of(truths, &all);
    let mut rows = Vec::new();
    for (method, changes) in methods {
        let discrimination = |distance| -> Result<Vec<f64>> {
            match truths.len() {
                0 | 1 => Ok(vec![f64::NAN; tested.len()]),
                _ => Ok(perturbation_metrics::discrimination(
                    changes.view(),
                    tested,
                    observed.view(),
                    distance,
                )?),
            }
        };
        let [near, similar] = [
            discrimination(Distance::Euclidean)?,
            discrimination(Distance::Cosine)?,
        ];
        for (at, &condition) in tested.iter().enumerate() {
            let truth = &truths[condition];
            let change = changes.row(at);
            let predicted: Vec<f64> = truth
                .control
                .iter()
                .zip(change)
                .map(|(control, change)| control + change)
                .collect();
            let scores = perturbation_metrics::score(&Response {
                control: &truth.control,
                predicted: &predicted,
                observed: &truth.observed,
                changed: &truth.ranking,
                targets: &truth.targets,
            })?;
            let mut scores = by_name(&scores)?;
            scores.push(("discrimination".into(), near[at]));
            scores.push(("discrimination_cosine".into(), similar[at]));
            let Part::Test(subgroup) = data.conditions[condition].part else {
                continue;
            };
            rows.push(Row {
                condition,
                subgroup,
                method,
                scores,
            });
        }
    }
    Ok(rows)
}

fn by_name(scores: &Scores) -> Result<Vec<(String, f64)>> {
    let Value::Object(map) = serde_json::to_value(scores)? else {
        unreachable!("scores are an object");
    };
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    Ok(map
        .iter()
        .map(|(name, value)| (name.clone(), number(value)))
        .collect())
}

/// Subgroup, method, and the mean of each score.
type Summary = Vec<(String, &'static str, Vec<(String, Mean)>)>;

/// Means over the conditions of each subgroup, and over all if there are several.
fn summarize(rows: &[Row]) -> Summary {
    let subgroups: BTreeSet<Subgroup> = rows.iter().map(|row| row.subgroup).collect();
    let mut groups: Vec<Option<Subgroup>> = subgroups.into_iter().map(Some).collect();
    if groups.len() > 1 {
        groups.insert(0, None);
    }
    let mut methods: Vec<&'static str> = Vec::new();
    for row in rows {
        if !methods.contains(&row.method) {
            methods.push(row.method);
        }
    }
    let mut summary = Vec::new();
    for group in groups {
        for &method in &methods {
            let is_own =
                |row: &&Row| row.method == method && group.is_none_or(|g| g == row.subgroup);
            let own: Vec<&Row> = rows.iter().filter(is_own).collect();
            let Some(first) = own.first() else { continue };
            let mean = |at: usize| {
                let values: Vec<f64> = own.iter().map(|row| row.scores[at].1).collect();
                (
                    first.scores[at].0.clone(),
                    perturbation_metrics::mean(&values),
                )
            };
            let name = group.map_or_else(|| "all".to_owned(), |group| group.to_string());
            summary.push((name, method, (0..first.scores.len()).map(mean).collect()));
        }
    }
    summary
}

fn to_json(summary: &Summary) -> Value {
    let mut groups = Map::new();
    for (group, method, scores) in summary {
        let scores: Map<String, Value> = scores
            .iter()
            .map(|(name, mean)| {
                let Mean { mean, low, high, n } = mean;
                (
                    name.clone(),
                    json!({"mean": mean, "ci_low": low, "ci_high": high, "n_perturbations": n}),
                )
            })
            .collect();
        let entry = groups.entry(group.clone()).or_insert_with(|| json!({}));
        entry[*method] = Value::Object(scores);
    }
    Value::Object(groups)
}

/// Scores in the printed table and their short names.
const REPORTED: [(&str, &str); 6] = [
    ("pearson_delta", "delta"),
    ("pearson_de_delta", "delta DE"),
    ("mse", "MSE"),
    ("direction_accuracy_de", "direction DE"),
    ("direction_accuracy_de_non_target", "direction other"),
    ("discrimination", "discrimination"),
];

fn text(summary: &Summary) -> String {
    let mut lines = Vec::new();
    let mut last = "";
    for (group, method, scores) in summary {
        if group != last {
            let n = scores.first().map_or(0, |(_, mean)| mean.n);
            let heads: Vec<String> = REPORTED
                .iter()
                .map(|(_, name)| format!("{name:>12}"))
                .collect();
            lines.push(format!(
                "{:<28}{}",
                format!("{group} ({n})"),
                heads.concat()
            ));
            last = group;
        }
        let of = |wanted: &str| scores.iter().find(|(name, _)| name == wanted);
        let values = REPORTED
            .iter()
            .map(|(name, _)| of(name).map_or(f64::NAN, |(_, m)| m.mean));
        let values: Vec<String> = values.map(|value| format!("{value:>12.4}")).collect();
        lines.push(format!("{method:<28}{}", values.concat()));
    }
    lines.join("\n")
}

fn summary_tsv(summary: &Summary) -> String {
    let mut text =
        String::from("subgroup\tmethod\tn_perturbations\tmetric\tmean\tci_low\tci_high\n");
    for (group, method, scores) in summary {
        for (name, Mean { mean, low, high, n }) in scores {
            text.push_str(&format!(
                "{group}\t{method}\t{n}\t{name}\t{mean}\t{low}\t{high}\n"
            ));
        }
    }
    text
}

fn rows_tsv(data: &Data, rows: &[Row]) -> String {
    let names = rows.first().map_or(&[][..], |row| &row.scores);
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = format!("condition\tsubgroup\tcells\tmethod\t{}\n", names.join("\t"));
    for row in rows {
        let condition = &data.conditions[row.condition];
        let scores: Vec<String> = row
            .scores
            .iter()
            .map(|(_, score)| score.to_string())
            .collect();
        text.push_str(&format!(
            "{}\t{}\t{}\t{}\t{}\n",
            condition.perturbation,
            row.subgroup,
            condition.cells.len(),
            row.method,
            scores.join("\t")
        ));
    }
    text
}

/// The most changed genes of the test perturbations of most cells, as observed and as predicted.
fn figures(
    data: &Data,
    truths: &[Truth],
    tested: &[usize],
    predicted: &Array2<f64>,
) -> Vec<(String, Vec<u8>)> {
    let mut order: Vec<usize> = (0..tested.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(data.conditions[tested[at]].cells.len()));
    let figure = |&at: &usize| {
        let condition = &data.conditions[tested[at]];
        let truth = &truths[tested[at]];
        let genes = &truth.ranking[..truth.ranking.len().min(GENES_DRAWN)];
        let name = condition.perturbation.to_string();
        let names: Vec<String> = genes.iter().map(|&gene| data.genes[gene].clone()).collect();
        let spread = |cells: &[usize]| {
            perturbation_data::quantiles(&data.counts, cells, genes, &truth.control)
        };
        let svg = Changes {
            title: &name,
            genes: &names,
            observed: &spread(&condition.cells),
            control: &spread(&data.control_cells),
            predicted: &genes
                .iter()
                .map(|&gene| predicted[(at, gene)])
                .collect::<Vec<_>>(),
            observed_mean: &genes
                .iter()
                .map(|&gene| truth.observed[gene] - truth.control[gene])
                .collect::<Vec<_>>(),
        }
        .to_svg();
        (
            format!("response_{}.svg", perturbation_data::file_name(&name)),
            svg.into_bytes(),
        )
    };
    order.iter().take(MAX_FIGURES).map(figure).collect()
}

/// Figure of the splits of all single and pairwise perturbations.
fn combinations(data: &Data) -> String {
    let genes: BTreeSet<&str> = data
        .conditions
        .iter()
        .flat_map(|c| c.perturbation.genes())
        .collect();
    let genes: Vec<String> = genes.into_iter().map(str::to_owned).collect();
    let place = |gene: &&str| genes.iter().position(|known| known == gene);
    let mut states = BTreeMap::new();
    for condition in &data.conditions {
        let state = match condition.part {
            Part::Training => State::Training,
            Part::Validation => State::Validation,
            Part::Test(_) => State::Test,
            Part::Unused => State::Unused,
        };
        let at: Vec<usize> = condition
            .perturbation
            .genes()
            .iter()
            .filter_map(place)
            .collect();
        match at[..] {
            [one] => drop(states.insert((one, one), state)),
            [one, other] => drop(states.insert((one.min(other), one.max(other)), state)),
            _ => {}
        }
    }
    let state = |one: usize, other: usize| {
        let found = states.get(&(one.min(other), one.max(other)));
        found.copied().unwrap_or(State::Absent)
    };
    Combinations {
        title: "Perturbation splits",
        genes: &genes,
        state: &state,
    }
    .to_svg()
}
