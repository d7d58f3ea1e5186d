//! How well changes of expression are told for perturbations that were not learnt from, beside simpler methods.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Axis};
use serde_json::{Map, Value, json};

use super::Options;
use super::data::{Condition, Data};
use super::learner::Learner;
use super::perceptron;
use crate::analysis::differential::{self, Reference};
use crate::analysis::projection::Pca;
use crate::analysis::responses::{self, Distance, Mean, Response, Scores};
use crate::baselines::perturbation::{self as baselines, Known};
use crate::failure::Failure;
use crate::figures::{Changes, Combinations, State};
use crate::predict::perturbation::Controls;
use crate::programs::perturbed;
use crate::progress;
use crate::run_record::Run;
use crate::split::perturbations::{Part, Subgroup};

/// Vectors of genes and perturbations in the linear model, as in its publication (Ahlmann-Eltze, Huber and Anders 2025).
const COMPONENTS: usize = 10;
/// Perturbations that are drawn, at most: those of most cells.
const DRAWN: usize = 12;
/// Genes of a picture.
const GENES_DRAWN: usize = 20;

/// What was observed of a condition.
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

/// A method and the changes that it tells, `[tested, genes]`.
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
    data: &Data,
    learner: &Learner,
    (work, run): (&Path, &mut Run),
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![(
        "combinations.svg".to_owned(),
        combinations(data).into_bytes(),
    )];
    let is_tested = |at: &usize| matches!(data.conditions[*at].part, Part::Test(_));
    let tested: Vec<usize> = (0..data.conditions.len()).filter(is_tested).collect();
    if tested.is_empty() {
        run.note("no perturbations were set aside to test on");
        return Ok(files);
    }
    let truths = truths(options, data)?;
    let controls = learner.reader.controls(options, data);
    let own = run.stage("predict", |run| {
        model_changes(learner, &controls, &tested, run)
    });
    let mut methods = vec![("scGPT", own)];
    methods.push(("no change", Array2::zeros((tested.len(), data.genes.len()))));
    if options.baselines {
        methods.extend(simple(data, &truths, &tested, run)?);
        let asked = (&controls, &tested[..]);
        let told = run.stage("perceptron", |run| {
            perceptron::changes(options, data, &learner.reader, asked, (work, run))
        })?;
        methods.push((
            "perceptron",
            told.ok_or_else(|| {
                Failure::Interrupted
                    .error("stopped by a signal; the same command with `--resume` goes on")
            })?,
        ));
    }
    let rows = score(data, &truths, &tested, &methods)?;
    let summary = summarise(&rows);
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
    files.extend(pictures(data, &truths, &tested, &methods[0].1));
    Ok(files)
}

fn model_changes(
    learner: &Learner,
    controls: &Controls,
    asked: &[usize],
    run: &Run,
) -> Array2<f64> {
    let rows = learner.changes(controls, asked, run.threads());
    let width = rows.first().map_or(0, Vec::len);
    let values = rows.iter().flatten().map(|&value| f64::from(value));
    Array2::from_shape_vec((asked.len(), width), values.collect()).expect("a row per question")
}

/// What was observed of every condition.
fn truths(options: &Options, data: &Data) -> Result<Vec<Truth>> {
    let reference = Reference::new(&data.counts, &data.control_cells)?;
    let strata: BTreeSet<u32> = data.strata.iter().copied().collect();
    let mean = |&stratum: &u32| {
        let controls = data.controls.of(stratum);
        (stratum, perturbed::mean(&data.counts, controls))
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
            observed: perturbed::mean(&data.counts, &condition.cells),
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

/// What simple methods, which learn from the same perturbations, tell; each is a stage of the run by its own name.
fn simple(data: &Data, truths: &[Truth], tested: &[usize], run: &mut Run) -> Result<Vec<Method>> {
    let learnt =
        |at: &usize| matches!(data.conditions[*at].part, Part::Training | Part::Validation);
    let training: Vec<usize> = (0..data.conditions.len()).filter(learnt).collect();
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
    let (known_targets, asked) = (targets_of(&training), targets_of(tested));
    let changes = changes_of(truths, &training);
    let cells: Vec<usize> = training
        .iter()
        .map(|&at| data.conditions[at].cells.len())
        .collect();
    let known = Known {
        targets: &known_targets,
        changes: changes.view(),
        cells: &cells,
    };
    let mean = run.stage("mean of training", |_| {
        baselines::mean_change(&known, &asked)
    });
    let additive = run.stage("additive", |_| baselines::additive(&known, &asked));
    let linear = run.stage("linear", |_| linear(data, &known, &names, &asked))?;
    Ok(vec![
        ("mean of training", mean),
        ("additive", additive),
        ("linear", linear),
    ])
}

/// The linear model of principal components of the cells that were learnt from; `targets` are the names of perturbed genes.
fn linear(
    data: &Data,
    known: &Known<'_>,
    targets: &[&str],
    asked: &[Vec<usize>],
) -> Result<Array2<f64>> {
    let mut learnt_from = data.cells_of(|part| matches!(part, Part::Training | Part::Validation));
    learnt_from.extend(&data.control_cells);
    learnt_from.sort_unstable();
    let cells = data.counts.select_cells(&learnt_from).to_dense();
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
        asked,
    )?)
}

fn score(data: &Data, truths: &[Truth], tested: &[usize], methods: &[Method]) -> Result<Vec<Row>> {
    let all: Vec<usize> = (0..truths.len()).collect();
    let observed = changes_of(truths, &all);
    let mut rows = Vec::new();
    for (method, changes) in methods {
        let told_apart = |distance| -> Result<Vec<f64>> {
            match truths.len() {
                0 | 1 => Ok(vec![f64::NAN; tested.len()]),
                _ => Ok(responses::discrimination(
                    changes.view(),
                    tested,
                    observed.view(),
                    distance,
                )?),
            }
        };
        let [near, similar] = [
            told_apart(Distance::Euclidean)?,
            told_apart(Distance::Cosine)?,
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
            let scores = responses::score(&Response {
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
fn summarise(rows: &[Row]) -> Summary {
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
                (first.scores[at].0.clone(), responses::mean(&values))
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
                    json!({"mean": mean, "low": low, "high": high, "conditions": n}),
                )
            })
            .collect();
        let entry = groups.entry(group.clone()).or_insert_with(|| json!({}));
        entry[*method] = Value::Object(scores);
    }
    Value::Object(groups)
}

/// Scores that are shown, with what they are called.
const SHOWN: [(&str, &str); 6] = [
    ("pearson_delta", "delta"),
    ("pearson_de_delta", "delta DE"),
    ("mse", "MSE"),
    ("sign_de", "sign DE"),
    ("sign_de_others", "sign others"),
    ("discrimination", "told apart"),
];

fn text(summary: &Summary) -> String {
    let mut lines = Vec::new();
    let mut last = "";
    for (group, method, scores) in summary {
        if group != last {
            let n = scores.first().map_or(0, |(_, mean)| mean.n);
            let heads: Vec<String> = SHOWN
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
        let values = SHOWN
            .iter()
            .map(|(name, _)| of(name).map_or(f64::NAN, |(_, m)| m.mean));
        let values: Vec<String> = values.map(|value| format!("{value:>12.4}")).collect();
        lines.push(format!("{method:<28}{}", values.concat()));
    }
    lines.join("\n")
}

fn summary_tsv(summary: &Summary) -> String {
    let mut text = String::from("subgroup\tmethod\tconditions\tscore\tmean\tlow\thigh\n");
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

/// The most changed genes of the test perturbations of most cells, as observed and as told.
fn pictures(
    data: &Data,
    truths: &[Truth],
    tested: &[usize],
    told: &Array2<f64>,
) -> Vec<(String, Vec<u8>)> {
    let mut order: Vec<usize> = (0..tested.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(data.conditions[tested[at]].cells.len()));
    let picture = |&at: &usize| {
        let condition = &data.conditions[tested[at]];
        let truth = &truths[tested[at]];
        let genes = &truth.ranking[..truth.ranking.len().min(GENES_DRAWN)];
        let name = condition.perturbation.to_string();
        let names: Vec<String> = genes.iter().map(|&gene| data.genes[gene].clone()).collect();
        let spread =
            |cells: &[usize]| perturbed::quantiles(&data.counts, cells, genes, &truth.control);
        let svg = Changes {
            title: &name,
            genes: &names,
            observed: &spread(&condition.cells),
            control: &spread(&data.control_cells),
            predicted: &genes
                .iter()
                .map(|&gene| told[(at, gene)])
                .collect::<Vec<_>>(),
            observed_mean: &genes
                .iter()
                .map(|&gene| truth.observed[gene] - truth.control[gene])
                .collect::<Vec<_>>(),
        }
        .to_svg();
        (
            format!("changes_{}.svg", perturbed::file_name(&name)),
            svg.into_bytes(),
        )
    };
    order.iter().take(DRAWN).map(picture).collect()
}

/// All singles and pairs, and what each is for.
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
        title: "What perturbations are for",
        genes: &genes,
        state: &state,
    }
    .to_svg()
}
