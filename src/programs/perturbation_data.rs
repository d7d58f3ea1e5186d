//! Data of the perturbation programs: perturbation label and log-normalized expression of each cell.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cells::controls;
use crate::cells::perturbation::{Conditions, Perturbation, Spelling, Target as Perturbed};
use crate::cells::{Cells, Error};
use crate::counts::Counts;
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::predict::perturbation::{ACTIVATED, Controls, PERTURBED, PerturbedGene};
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::vocabulary::Vocabulary;

/// Counts per cell after normalization, before log1p.
const DEPTH: f32 = 1e4;

/// Perturbation labels of a file.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Labels {
    /// Column of obs with the perturbation of each cell: the control label, or the perturbed genes, such as STAT1, STAT1+ctrl or
    /// STAT1+JAK2. An overexpressed gene may be marked, as in STAT1(+).
    #[arg(long, value_name = "COLUMN")]
    pub condition: String,
    /// Value of --condition for control cells.
    #[arg(long, value_name = "LABEL")]
    pub control: String,
    /// Delimiter between the genes of a combination in --condition.
    #[arg(long, hide_short_help = true, value_name = "TEXT")]
    pub delimiter: String,
    /// Values of --condition whose cells are dropped, such as unassigned. Comma-separated.
    #[arg(long, hide_short_help = true, value_name = "LABEL")]
    pub ignore: Vec<String>,
    /// All perturbations are overexpression (CRISPRa), not knockout or knockdown. If only some are, mark these in the labels
    /// instead, as in STAT1(+).
    #[arg(long, hide_short_help = true)]
    pub activation: bool,
    /// Columns of obs, such as batch or cell type, within which perturbed cells are compared with control cells (strata).
    /// Comma-separated.
    #[arg(long, hide_short_help = true, value_name = "COLUMN")]
    pub strata: Vec<String>,
}

impl Default for Labels {
    fn default() -> Self {
        let Spelling { delimiter, control } = Spelling::default();
        Self {
            condition: "condition".into(),
            control,
            delimiter,
            ignore: Vec::new(),
            activation: false,
            strata: Vec::new(),
        }
    }
}

impl Labels {
    pub fn spelling(&self) -> Spelling {
        Spelling {
            delimiter: self.delimiter.clone(),
            control: self.control.clone(),
        }
    }

    /// Perturbation of every cell of a file.
    pub fn conditions(&self, cells: &Cells, path: &Path) -> Result<Conditions> {
        let labels = cells.labels(&self.condition)?;
        let read = Conditions::read(&labels, &self.spelling(), &self.ignore);
        Ok(read.map_err(|source| Error::Conditions {
            path: path.to_owned(),
            column: self.condition.clone(),
            source: Box::new(source),
        })?)
    }

    /// Stratum of every cell.
    pub fn strata(&self, cells: &Cells) -> Result<Vec<u32>> {
        let columns = self.strata.iter().map(|column| cells.labels(column));
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        Ok(controls::strata(&columns, cells.n_cells()))
    }
}

/// Problems of the label options.
pub fn problems(labels: &Labels) -> Vec<String> {
    let mut problems = Vec::new();
    if labels.delimiter.is_empty() {
        problems.push(
            "`--delimiter` is empty: give the text between the genes of a combination".into(),
        );
    }
    if labels.control.trim().is_empty() {
        problems.push("`--control` is empty: give the label of the control cells".into());
    }
    problems
}

/// All genes of a file, those with the same name as one, and their log-normalized expression in all cells.
pub fn log_values(cells: &Cells) -> Result<(Vec<String>, Counts)> {
    let mut seen = HashSet::new();
    let names = cells.genes.iter().filter(|name| !name.is_empty());
    let names: Vec<String> = names.filter(|name| seen.insert(*name)).cloned().collect();
    let columns = cells.columns(&names)?;
    let mut counts = cells.read(0..cells.n_cells(), &columns)?;
    if cells.judgment.state != State::LogNormalized {
        normalize_total(&mut counts, Target::Sum(DEPTH))?;
        log1p(&mut counts)?;
    }
    Ok((names, counts))
}

/// Perturbed genes as model input. Genes that are not in the vocabulary, if any, are the error.
pub fn perturbed_genes(
    perturbation: &Perturbation,
    vocabulary: &Vocabulary,
    (activation, dose): (bool, f32),
) -> Result<Vec<PerturbedGene>, Vec<String>> {
    let of = |target: &Perturbed| {
        let gene = vocabulary.id(&target.gene).map(i64::from);
        gene.map(|gene| PerturbedGene {
            gene,
            flag: if activation || target.activated {
                ACTIVATED
            } else {
                PERTURBED
            },
            dose,
        })
    };
    let targets = perturbation.targets();
    let unknown = targets.iter().filter(|target| of(target).is_none());
    let unknown: Vec<String> = unknown.map(|target| target.gene.clone()).collect();
    if unknown.is_empty() {
        Ok(targets.iter().filter_map(of).collect())
    } else {
        Err(unknown)
    }
}

/// Mean of some cells, gene by gene.
pub fn mean(counts: &Counts, cells: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0f64; counts.n_genes];
    for &cell in cells {
        let (genes, values) = counts.row(cell);
        for (&gene, &value) in genes.iter().zip(values) {
            sums[gene as usize] += f64::from(value);
        }
    }
    let n = cells.len().max(1) as f64;
    sums.into_iter().map(|sum| sum / n).collect()
}

/// Profiles of randomly chosen control cells from which perturbations are predicted.
pub fn drawn_controls(counts: &Counts, (cells, n): (&[usize], usize), seed: Seed) -> Controls {
    let mut stream = seed.stream("controls to predict from", &[]);
    let mut chosen = random::sample(&mut stream, cells.len(), n);
    chosen.sort_unstable();
    let profile = |at: usize| dense(counts, cells[at]);
    Controls {
        weights: vec![1.0; chosen.len()],
        profiles: chosen.into_iter().map(profile).collect(),
    }
}

/// Mean profiles of control cells, one for each stratum that has some, weighted by their number.
pub fn mean_controls(counts: &Counts, cells: &[usize], strata: &[u32]) -> Controls {
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &cell in cells {
        groups.entry(strata[cell]).or_default().push(cell);
    }
    let profile = |cells: &Vec<usize>| {
        let mean = mean(counts, cells).into_iter();
        mean.map(|value| value as f32).collect()
    };
    Controls {
        profiles: groups.values().map(profile).collect(),
        weights: groups.values().map(|cells| cells.len() as f64).collect(),
    }
}

/// Values of all genes of a cell.
pub fn dense(counts: &Counts, cell: usize) -> Vec<f32> {
    let mut row = vec![0.0; counts.n_genes];
    let (genes, values) = counts.row(cell);
    for (&gene, &value) in genes.iter().zip(values) {
        row[gene as usize] = value;
    }
    row
}

/// The first names in quotes, and the number of the others.
pub fn some<S: AsRef<str>>(names: &[S]) -> String {
    const LISTED: usize = 5;
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    let more = names.len().saturating_sub(LISTED);
    match more {
        0 => listed.join(", "),
        _ => format!("{} and {more} more", listed.join(", ")),
    }
}

/// The error that perturbed genes are not in the vocabulary of a model.
pub fn unknown_genes(genes: &[String], known: &[String]) -> anyhow::Error {
    Failure::Input.error(format!(
        "the vocabulary of the model has no gene {}; it has genes such as {}: check the spelling",
        some(genes),
        some(known)
    ))
}

/// Notes the form of the values and the numbers of perturbed and control cells.
pub fn report(cells: &Cells, conditions: &Conditions, run: &mut Run) {
    cells.notes.iter().for_each(|note| run.note(note));
    let control = conditions
        .distinct
        .iter()
        .position(Perturbation::is_control);
    let control = control.map(|at| at as u32);
    let count = |of: fn(Option<u32>, Option<u32>) -> bool| {
        let cells = conditions.of_cell.iter();
        cells.filter(|cell| of(**cell, control)).count()
    };
    let perturbed = count(|cell, control| cell.is_some() && cell != control);
    let controls = count(|cell, control| cell.is_some() && cell == control);
    let ignored = count(|cell, _| cell.is_none());
    run.note(format!(
        "{perturbed} cells of {} perturbations, {controls} control cells, {ignored} dropped",
        conditions.distinct.len() - usize::from(control.is_some())
    ));
}

/// 5, 25, 50, 75 and 95 % quantiles of the difference of some cells from reference values, for some genes.
pub fn quantiles(
    counts: &Counts,
    cells: &[usize],
    genes: &[usize],
    reference: &[f64],
) -> Vec<[f64; 5]> {
    const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
    let mut values: Vec<Vec<f64>> = vec![Vec::with_capacity(cells.len()); genes.len()];
    for &cell in cells {
        let (columns, row) = counts.row(cell);
        for (values, &gene) in values.iter_mut().zip(genes) {
            let found = columns.binary_search(&(gene as u32));
            let value = found.map_or(0.0, |at| f64::from(row[at]));
            values.push(value - reference[gene]);
        }
    }
    let of = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1) as f64;
        QUANTILES.map(|quantile| {
            values
                .get((quantile * last).round() as usize)
                .copied()
                .unwrap_or(f64::NAN)
        })
    };
    values.into_iter().map(of).collect()
}

/// A name that is safe as part of a file name.
pub fn file_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "+-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).take(80).collect()
}
