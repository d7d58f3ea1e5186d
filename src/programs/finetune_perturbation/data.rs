//! Training data: genes, perturbations and their splits, control cells.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{MissingGenes, Options};
use crate::cells::Cells;
use crate::cells::controls::Controls;
use crate::cells::perturbation::{Conditions, Perturbation};
use crate::checkpoint::Checkpoint;
use crate::counts::Counts;
use crate::expression::select_genes::{Flavor, select_genes};
use crate::failure::Failure;
use crate::programs::{perturbation_data, steps};
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::split::perturbations::{self as split, Fractions, Part};
use crate::trainer;
use crate::vocabulary::Vocabulary;

/// Number of perturbations below which none is held out for validation.
const FEW: usize = 100;

/// A perturbation, its cells and its split.
#[derive(Debug, Clone)]
pub struct Condition {
    pub perturbation: Perturbation,
    pub cells: Vec<usize>,
    pub part: Part,
}

/// Cells prepared for training.
pub struct Data {
    /// Log-normalized expression, `[cells, genes]`.
    pub counts: Counts,
    pub genes: Vec<String>,
    /// Sorted by name.
    pub conditions: Vec<Condition>,
    /// Condition of every cell; none for control cells and cells that are dropped.
    pub condition_of: Vec<Option<usize>>,
    /// Control cells that are trained on, and all of them by stratum.
    pub control_cells: Vec<usize>,
    pub controls: Controls,
    pub strata: Vec<u32>,
    pub doses: Option<Vec<f32>>,
    pub vocabulary: Vocabulary,
    pub checkpoint: Option<Checkpoint>,
}

impl Data {
    pub fn read(options: &Options, run: &mut Run) -> Result<Self> {
        run.input(&options.input)?;
        let checkpoint = trainer::open_checkpoint(options.checkpoint.as_deref(), run)?;
        let known = checkpoint.as_ref().map(|checkpoint| &checkpoint.vocabulary);
        let cells = Cells::open(&options.input, &options.cells, known)?;
        let read = options.labels.conditions(&cells, &options.input)?;
        perturbation_data::report(&cells, &read, run);
        let strata = options.labels.strata(&cells)?;
        let doses = options.dose.as_deref().map(|column| doses(&cells, column));
        let (genes, counts) = perturbation_data::log_values(&cells)?;
        let (mut conditions, all_controls) = gather(&read, options, run)?;
        resolve_missing_genes(&mut conditions, &genes, options, run)?;
        divide(&mut conditions, options, run)?;
        let control_cells = cap(&all_controls, options, u64::MAX);
        let kept = informative_genes(&genes, &counts, (&conditions, &control_cells), options, run)?;
        let genes: Vec<String> = kept.iter().map(|&gene| genes[gene].clone()).collect();
        let vocabulary = vocabulary(&genes, &conditions, known, run)?;
        let controls = Controls::new(&all_controls, &strata);
        let controls =
            controls.ok_or_else(|| Failure::Input.error("there are no control cells"))?;
        if controls.without() > 0 {
            run.warning(format!(
                "{} strata (`--strata`) have no control cells: their cells are compared with all control cells",
                controls.without()
            ));
        }
        let mut condition_of = vec![None; counts.n_cells()];
        for (at, condition) in conditions.iter().enumerate() {
            let cells = condition.cells.iter();
            cells.for_each(|&cell| condition_of[cell] = Some(at));
        }
        Ok(Self {
            counts: counts.select_genes(&kept),
            genes,
            conditions,
            condition_of,
            control_cells,
            controls,
            strata,
            doses: doses.transpose()?,
            vocabulary,
            checkpoint,
        })
    }

    /// Cells of all perturbations of some splits, in order.
    pub fn cells_of(&self, is_wanted: impl Fn(Part) -> bool) -> Vec<usize> {
        let wanted = self.conditions.iter().filter(|c| is_wanted(c.part));
        let mut cells: Vec<usize> = wanted.flat_map(|c| c.cells.iter().copied()).collect();
        cells.sort_unstable();
        cells
    }

    /// Column of a gene.
    pub fn column(&self, gene: &str) -> Option<usize> {
        self.genes.iter().position(|known| known == gene)
    }
}

/// Doses of all cells; 1 where none is given.
fn doses(cells: &Cells, column: &str) -> Result<Vec<f32>> {
    let values = cells.table.obs(column)?;
    let dose = |cell| match (values.number(cell), values.label(cell)) {
        (Some(dose), _) if dose.is_finite() => Ok(dose as f32),
        (None, None) => Ok(1.0),
        (_, found) => Err(Failure::Input.error(format!(
            "column `{column}` has `{}` for cell {cell}, but a dose is a number",
            found.unwrap_or_default()
        ))),
    };
    (0..cells.n_cells()).map(dose).collect()
}

/// Perturbations with enough cells, and the control cells.
fn gather(
    read: &Conditions,
    options: &Options,
    run: &mut Run,
) -> Result<(Vec<Condition>, Vec<usize>)> {
    let mut cells: Vec<Vec<usize>> = vec![Vec::new(); read.distinct.len()];
    for (cell, condition) in read.of_cell.iter().enumerate() {
        if let Some(condition) = condition {
            cells[*condition as usize].push(cell);
        }
    }
    let mut controls = Vec::new();
    let (mut conditions, mut few) = (Vec::new(), Vec::new());
    for (at, (perturbation, cells)) in read.distinct.iter().zip(cells).enumerate() {
        if perturbation.is_control() {
            controls = cells;
        } else if cells.len() < options.min_cells.unwrap_or(2) {
            few.push(perturbation.to_string());
        } else {
            conditions.push(Condition {
                perturbation: perturbation.clone(),
                cells: cap(&cells, options, at as u64),
                part: Part::Training,
            });
        }
    }
    match options.min_cells {
        None if !few.is_empty() => Err(Failure::Input.error(format!(
            "{} perturbations of `{}` have a single cell and so no variance estimate: {}; drop them with `--min-cells 2`, or keep them with `--min-cells 1`",
            few.len(), options.input.display(), perturbation_data::some(&few)
        ))),
        Some(least) if !few.is_empty() => {
            run.warning(format!(
                "{} perturbations of fewer than {least} cells are dropped: {}",
                few.len(), perturbation_data::some(&few)
            ));
            Ok((conditions, controls))
        }
        _ => Ok((conditions, controls)),
    }
}

/// At most `--max-cells` cells of a perturbation, chosen at random, in order.
fn cap(cells: &[usize], options: &Options, condition: u64) -> Vec<usize> {
    if options.max_cells == 0 || cells.len() <= options.max_cells {
        return cells.to_vec();
    }
    let mut stream = Seed(options.seed).stream("cells of a perturbation", &[condition]);
    let mut chosen = random::sample(&mut stream, cells.len(), options.max_cells);
    chosen.sort_unstable();
    chosen.into_iter().map(|at| cells[at]).collect()
}

/// Applies `--missing-genes` to perturbed genes that are not measured.
fn resolve_missing_genes(
    conditions: &mut Vec<Condition>,
    genes: &[String],
    options: &Options,
    run: &mut Run,
) -> Result<()> {
    let measured: BTreeSet<&String> = genes.iter().collect();
    let missing: BTreeSet<String> = conditions
        .iter()
        .flat_map(|condition| condition.perturbation.targets())
        .filter(|target| !measured.contains(&target.gene))
        .map(|target| target.gene.clone())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<&String> = missing.iter().collect();
    let listed = perturbation_data::some(&listed);
    match options.missing_genes {
        MissingGenes::Error => Err(Failure::Input.error(format!(
            "{} perturbed genes are not among the {} genes of `{}`: {listed}; if they are genes, keep them as additional tokens with `--missing-genes token`, or drop their cells with `--missing-genes drop`; give labels that are no genes in `--ignore`; check `--delimiter` and `--gene-column`",
            missing.len(), genes.len(), options.input.display()
        ))),
        MissingGenes::Token => {
            run.warning(format!("{} perturbed genes are not measured and kept as additional tokens: {listed}", missing.len()));
            Ok(())
        }
        MissingGenes::Drop => {
            run.warning(format!("{} perturbed genes are not measured, their cells are dropped: {listed}", missing.len()));
            conditions.retain(|condition| {
                let mut targets = condition.perturbation.targets().iter();
                targets.all(|target| measured.contains(&target.gene))
            });
            require_some(conditions)
        }
    }
}

fn require_some(conditions: &[Condition]) -> Result<()> {
    match conditions.is_empty() {
        true => Err(Failure::Input.error("no training perturbations left: drop fewer")),
        false => Ok(()),
    }
}

/// Assigns a split to every perturbation.
fn divide(conditions: &mut [Condition], options: &Options, run: &mut Run) -> Result<()> {
    require_some(conditions)?;
    let genes: Vec<Vec<&str>> = conditions.iter().map(|c| c.perturbation.genes()).collect();
    let usual = if conditions.len() < FEW { 0.0 } else { 0.1 };
    let validation_fraction = options.validation_fraction.unwrap_or(usual);
    let fractions = Fractions {
        training_genes: options.train_fraction,
        seen_combos: options.train_fraction,
        validation_genes: 1.0 - validation_fraction,
        validation_combos: 1.0 - validation_fraction,
        ..Fractions::default()
    };
    let seed = Seed(options.seed);
    let mut parts = if options.test.is_empty() {
        split::split(&genes, options.split, &fractions, seed)
    } else {
        let tested = named(conditions, options)?;
        split::hold_out(&genes, &tested, &fractions, seed)
    };
    if !options.test.is_empty() {
        keep_unseen(&genes, &mut parts);
    }
    let count = |is: fn(&Part) -> bool| parts.iter().filter(|part| is(part)).count();
    run.note(format!(
        "perturbations: {} training, {} validation, {} test, {} not used",
        count(|part| *part == Part::Training),
        count(|part| *part == Part::Validation),
        count(|part| matches!(part, Part::Test(_))),
        count(|part| *part == Part::Unused)
    ));
    if count(|part| *part == Part::Training) == 0 {
        return Err(Failure::Input.error("no training perturbations left: test fewer"));
    }
    for (condition, part) in conditions.iter_mut().zip(parts) {
        condition.part = part;
    }
    Ok(())
}

/// The perturbations given in `--test`.
fn named(conditions: &[Condition], options: &Options) -> Result<Vec<usize>> {
    let spelling = options.labels.spelling();
    let mut found = Vec::new();
    for text in &options.test {
        let wanted = spelling
            .parse(text)
            .map_err(|wrong| Failure::Input.error(format!("`--test`: `{text}` {wrong}")))?;
        let at = conditions.iter().position(|c| c.perturbation == wanted);
        found.push(at.ok_or_else(|| {
            let names: Vec<String> = conditions
                .iter()
                .map(|c| c.perturbation.to_string())
                .collect();
            Failure::Input.error(format!(
                "no cells have the perturbation `{text}` of `--test`; the file has {}",
                perturbation_data::some(&names)
            ))
        })?);
    }
    Ok(found)
}

/// Combinations with a gene whose single perturbation is tested would leak its effect: they are excluded from training.
fn keep_unseen(genes: &[Vec<&str>], parts: &mut [Part]) {
    let tested: BTreeSet<&str> = genes
        .iter()
        .zip(parts.iter())
        .filter(|(genes, part)| genes.len() == 1 && matches!(part, Part::Test(_)))
        .flat_map(|(genes, _)| genes.iter().copied())
        .collect();
    for (genes, part) in genes.iter().zip(parts) {
        let is_trained = matches!(part, Part::Training | Part::Validation);
        if is_trained && genes.iter().any(|gene| tested.contains(gene)) {
            *part = Part::Unused;
        }
    }
}

/// Highly variable genes, selected on the training cells, and all perturbed genes.
fn informative_genes(
    genes: &[String],
    counts: &Counts,
    (conditions, controls): (&[Condition], &[usize]),
    options: &Options,
    run: &mut Run,
) -> Result<Vec<usize>> {
    if options.n_hvg == 0 || options.n_hvg >= genes.len() {
        run.note(format!("all {} genes are read", genes.len()));
        return Ok((0..genes.len()).collect());
    }
    let trained = conditions.iter().filter(|c| c.part == Part::Training);
    let mut cells: Vec<usize> = trained.flat_map(|c| c.cells.iter().copied()).collect();
    cells.extend(controls);
    cells.sort_unstable();
    let flavor = Flavor::CellRanger;
    let selection = select_genes(&counts.select_cells(&cells), options.n_hvg, flavor, None)?;
    let targets: BTreeSet<&str> = conditions
        .iter()
        .flat_map(|c| c.perturbation.genes())
        .collect();
    let is_target = |gene: &usize| targets.contains(genes[*gene].as_str());
    let mut kept: BTreeSet<usize> = selection.kept.into_iter().collect();
    kept.extend((0..genes.len()).filter(is_target));
    run.note(format!(
        "{} genes are read: highly variable and perturbed genes",
        kept.len()
    ));
    Ok(kept.into_iter().collect())
}

/// The tokens of all genes, measured or perturbed: those of a pre-trained model first.
fn vocabulary(
    genes: &[String],
    conditions: &[Condition],
    known: Option<&Vocabulary>,
    run: &mut Run,
) -> Result<Vocabulary> {
    let measured: BTreeSet<&str> = genes.iter().map(String::as_str).collect();
    let targets = conditions.iter().flat_map(|c| c.perturbation.genes());
    let unmeasured: BTreeSet<&str> = targets.filter(|gene| !measured.contains(gene)).collect();
    let all = genes.iter().map(String::as_str).chain(unmeasured);
    let Some(known) = known else {
        return Ok(Vocabulary::from_genes(all)?);
    };
    steps::report_genes(genes, known, run);
    let new: Vec<&str> = all.filter(|gene| known.id(gene).is_none()).collect();
    if !new.is_empty() {
        run.note(format!(
            "{} genes are not in the vocabulary of the checkpoint and get new tokens",
            new.len()
        ));
    }
    Ok(Vocabulary::from_tokens(known.tokens().chain(new))?)
}
