//! Input data: cells, batches, and the features of each modality.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;

use super::{MaskedModality, Options};
use crate::cells::Columns;
use crate::cells::cohort::{Cohort, ModalityKind, Source};
use crate::checkpoint::Checkpoint;
use crate::counts::Counts;
use crate::expression::select_genes::{Flavor, select_genes};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::predict::integration::{Features, Settings};
use crate::predict::settings;
use crate::programs::samples;
use crate::programs::steps;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::trainer;
use crate::vocabulary::Vocabulary;

/// Batches with fewer cells are pooled for gene selection: the variance of a gene needs enough cells.
const SMALL_BATCH: usize = 20;

/// Cells of one or more modalities, prepared for training.
pub struct Data {
    pub cohort: Cohort,
    /// Features of each modality, in the order of the cohort.
    pub parts: Vec<Part>,
    pub batch_names: Vec<String>,
    /// Batch of every cell.
    pub batches: Vec<i64>,
    /// Cell type of every cell, for evaluation.
    pub labels: Option<Vec<Option<String>>>,
    /// Labels that color the plot, if given.
    pub color: Option<Vec<Option<String>>>,
    /// Root cell of pseudotime.
    pub root: Option<usize>,
    /// The modality that is masked in some cells, and those cells.
    pub masked: Option<(usize, Vec<usize>)>,
    pub vocabulary: Vocabulary,
    pub checkpoint: Option<Checkpoint>,
    /// Settings of the model, if it was trained by this program.
    pub settings: Option<Settings>,
}

/// The features of one modality that the model reads.
pub struct Part {
    pub kind: ModalityKind,
    /// Names of the features, and their tokens.
    pub features: Vec<String>,
    pub tokens: Vec<String>,
    /// Their values, one row per cell; on a linear scale, except antibodies, which are centered log ratios.
    pub counts: Counts,
    pub measured: Vec<bool>,
}

impl Data {
    pub fn read(options: &Options, run: &mut Run) -> Result<Self> {
        let checkpoint = trainer::open_checkpoint(options.checkpoint.as_deref(), run)?;
        let settings = checkpoint.as_ref().map(|model| own(model, options));
        let settings = settings.transpose()?.flatten();
        let known = checkpoint.as_ref().map(|checkpoint| &checkpoint.vocabulary);
        let sources = sources(options, run)?;
        for source in &sources {
            run.input(&source.path)?;
        }
        let cohort = Cohort::read(&sources, &options.cells, known)?;
        cohort.notes.iter().for_each(|note| run.note(note));
        require_pairs(&cohort)?;
        let (batch_names, batches) = read_batches(&cohort, options, settings.as_ref(), run)?;
        let column = |name: &Option<String>| {
            let name = name.as_deref();
            name.map(|column| cohort.labels(column)).transpose()
        };
        let (labels, color) = (column(&options.labels)?, column(&options.color)?);
        if labels.is_none() {
            run.note("without `--labels` cell type metrics are skipped");
        }
        let mut parts = match &settings {
            Some(settings) => known_parts(&cohort, settings, run)?,
            None => chosen_parts(&cohort, options, &batches, known, run)?,
        };
        let masked = mask(&mut parts, options, run)?;
        let tokens = parts.iter().flat_map(|part| &part.tokens);
        let vocabulary = match known {
            Some(known) => {
                let new = tokens.filter(|token| known.id(token).is_none());
                let new: Vec<&str> = new.map(String::as_str).collect();
                Vocabulary::from_tokens(known.tokens().chain(new))?
            }
            None => Vocabulary::from_genes(tokens.cloned())?,
        };
        let data = Self {
            cohort,
            parts,
            batch_names,
            batches,
            labels,
            color,
            root: None,
            masked,
            vocabulary,
            checkpoint,
            settings,
        };
        data.require_placed(options)?;
        Ok(Self {
            root: data.find_root(options)?,
            ..data
        })
    }

    /// There must be cells to embed, and a token for each modality of them.
    fn require_placed(&self, options: &Options) -> Result<()> {
        if self.placed().len() < 2 {
            return Err(Failure::Input.error(
                "fewer than two cells have a value in any feature that the model reads: give more cells, or other features",
            ));
        }
        if options.tokens.max_length <= self.parts.len() {
            return Err(Failure::Input.error(format!(
                "`--max-length` {} leaves no token for each of {} modalities: increase it",
                options.tokens.max_length,
                self.parts.len()
            )));
        }
        Ok(())
    }

    fn find_root(&self, options: &Options) -> Result<Option<usize>> {
        let Some(name) = &options.root else {
            return Ok(None);
        };
        let placed = self.placed();
        let found = placed
            .iter()
            .find(|&&cell| self.cohort.names[cell] == *name);
        found.copied().map(Some).ok_or_else(|| {
            Failure::Input.error(format!(
                "no embedded cell has the name `{name}` of `--root`; the first cell is `{}`",
                self.cohort.names[placed[0]]
            ))
        })
    }

    pub fn n_cells(&self) -> usize {
        self.cohort.names.len()
    }

    /// The values of a cell in each modality, none where it was not measured.
    pub fn rows(&self, cell: usize) -> Vec<Option<(&[u32], &[f32])>> {
        let parts = self.parts.iter();
        parts
            .map(|part| part.measured[cell].then(|| part.counts.row(cell)))
            .collect()
    }

    /// Whether some cells lack a modality.
    pub fn is_mosaic(&self) -> bool {
        self.parts.iter().any(|part| part.measured.contains(&false))
    }

    /// Cells with at least one token: the others cannot be embedded.
    pub fn placed(&self) -> Vec<usize> {
        let expressed = |cell: &usize| {
            let mut rows = self.rows(*cell).into_iter().flatten();
            rows.any(|(_, values)| values.iter().any(|value| *value != 0.0))
        };
        (0..self.n_cells()).filter(expressed).collect()
    }

    /// Number of batches that the model was trained on; of all batches for a new model.
    pub fn known_batches(&self) -> usize {
        self.settings
            .as_ref()
            .map_or(self.batch_names.len(), |settings| settings.batches.len())
    }

    /// The features and their tokens, as stored with the model.
    pub fn features(&self) -> Vec<Features> {
        let features = |part: &Part| Features {
            kind: part.kind.name().to_owned(),
            features: part.features.clone(),
            tokens: part.tokens.clone(),
        };
        self.parts.iter().map(features).collect()
    }
}

/// Settings of a model trained by this program. A model of another task has other settings, and can only be trained further.
fn own(checkpoint: &Checkpoint, options: &Options) -> Result<Option<Settings>, settings::Error> {
    match settings::read(checkpoint) {
        Err(settings::Error::Task { .. }) if !options.zero_shot => Ok(None),
        read => read,
    }
}

/// The files, with modality, sample and batch from the options or the sample sheet.
fn sources(options: &Options, run: &mut Run) -> Result<Vec<Source>> {
    if let Some(sheet) = &options.samples {
        let (sources, notes) = samples::read_sources(sheet)?;
        if !notes.is_empty() {
            let names = notes.join("`, `");
            run.note(format!(
                "columns of the sample sheet that are not read: `{names}`"
            ));
        }
        return Ok(sources);
    }
    let of = |kind: ModalityKind, paths: &[PathBuf]| -> Vec<Source> {
        let source = |path: &PathBuf| Source {
            path: path.clone(),
            kind,
            sample: None,
            batch: None,
        };
        paths.iter().map(source).collect()
    };
    Ok([
        of(ModalityKind::Rna, &options.input),
        of(ModalityKind::Protein, &options.protein),
        of(ModalityKind::Atac, &options.atac),
    ]
    .concat())
}

/// Modalities without common cells cannot be integrated.
fn require_pairs(cohort: &Cohort) -> Result<()> {
    let all = &cohort.modalities;
    for (at, one) in all.iter().enumerate() {
        let shared = all.iter().enumerate().any(|(other_at, other)| {
            let both = one.measured.iter().zip(&other.measured);
            other_at != at && both.into_iter().any(|(a, b)| *a && *b)
        });
        if all.len() > 1 && !shared {
            return Err(Failure::Input.error(format!(
                "no cell with {} has another modality: cells are matched by name, so names must be the same in all files; or list files with the same cells in a sample sheet (`--samples`); cells with it are `{}`, others `{}`",
                one.kind.name(),
                first_names(cohort, &one.measured),
                first_names(cohort, &one.measured.iter().map(|measured| !measured).collect::<Vec<_>>())
            )));
        }
    }
    Ok(())
}

fn first_names(cohort: &Cohort, measured: &[bool]) -> String {
    let names = cohort.names.iter().zip(measured).filter(|(_, m)| **m);
    let names: Vec<&str> = names.take(3).map(|(name, _)| name.as_str()).collect();
    names.join("`, `")
}

/// Names of the batches, those of the model first, and the batch of every cell.
fn read_batches(
    cohort: &Cohort,
    options: &Options,
    settings: Option<&Settings>,
    run: &mut Run,
) -> Result<(Vec<String>, Vec<i64>)> {
    let labels: Vec<Option<String>> = match &options.batch {
        Some(column) => cohort.labels(column)?,
        None if cohort.batches.iter().any(Option::is_some) => cohort.batches.clone(),
        None => {
            let name = |sample: &usize| cohort.sample_names.get(*sample).cloned();
            cohort.samples.iter().map(name).collect()
        }
    };
    let missing = labels.iter().filter(|label| label.is_none()).count();
    if missing > 0 && missing < labels.len() {
        let column = options.batch.as_deref().unwrap_or("batch");
        return Err(Failure::Input.error(format!(
            "{missing} of {} cells have no value in the batch column `{column}`: fill it in or remove those cells",
            labels.len()
        )));
    }
    let mut names: Vec<String> = settings.map_or_else(Vec::new, |known| known.batches.clone());
    let found: BTreeSet<&String> = labels.iter().flatten().collect();
    names.extend(
        found
            .into_iter()
            .filter(|name| !settings.is_some_and(|known| known.batches.contains(name)))
            .cloned()
            .collect::<Vec<_>>(),
    );
    if names.is_empty() {
        names.push("all".to_owned());
    }
    let new = settings.map_or(names.len(), |known| names.len() - known.batches.len());
    if new > 2 && 2 * new > labels.len() {
        return Err(Failure::Input.error(format!(
            "the batch column `{}` has {new} values for {} cells: it looks like a cell identifier, not a batch; give another column with `--batch`",
            options.batch.as_deref().unwrap_or("batch"),
            labels.len()
        )));
    }
    let number = |label: &Option<String>| {
        let at = label
            .as_ref()
            .and_then(|l| names.iter().position(|n| n == l));
        at.unwrap_or(0) as i64
    };
    let batches: Vec<i64> = labels.iter().map(number).collect();
    let sizes = names.iter().zip(0i64..).map(|(name, number)| {
        let cells = batches.iter().filter(|batch| **batch == number).count();
        format!("{name} ({cells})")
    });
    let sizes: Vec<String> = sizes.collect();
    run.note(format!("batches: {}", sizes.join(", ")));
    if batches.iter().all(|batch| *batch == batches[0]) {
        run.note("all cells are in one batch: batch metrics are skipped");
    }
    Ok((names, batches))
}

/// The features that the model was trained on, in its order.
fn known_parts(cohort: &Cohort, settings: &Settings, run: &mut Run) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for known in &settings.features {
        let modality = cohort
            .modalities
            .iter()
            .find(|m| m.kind.name() == known.kind);
        let Some(modality) = modality else {
            parts.push(unmeasured(cohort, known)?);
            continue;
        };
        let columns = Columns::new(&modality.features, &known.features);
        let found = columns.n_matched;
        if found == 0 {
            return Err(Failure::Input.error(format!(
                "none of the {} {} features that the model reads is in the files: the model has features such as `{}`, the files `{}`",
                known.features.len(),
                known.kind,
                known.features.first().map_or("", String::as_str),
                modality.features.first().map_or("", String::as_str)
            )));
        }
        run.note(format!(
            "{}: {found} of the {} features that the model reads are in the files",
            known.kind,
            known.features.len()
        ));
        parts.push(Part {
            kind: modality.kind,
            features: known.features.clone(),
            tokens: known.tokens.clone(),
            counts: model_values(
                modality.kind,
                modality.state,
                columns.apply(&modality.counts),
            ),
            measured: modality.measured.clone(),
        });
    }
    let others = cohort
        .modalities
        .iter()
        .filter(|m| parts.iter().all(|part| part.kind != m.kind));
    for other in others {
        run.warning(format!(
            "the model was not trained on {}, which is dropped",
            other.kind.name()
        ));
    }
    if parts.iter().all(|part| !part.measured.contains(&true)) {
        return Err(
            Failure::Input.error("the files have none of the modalities that the model reads")
        );
    }
    Ok(parts)
}

/// A modality that the model reads and no cell has: its values are predicted.
fn unmeasured(cohort: &Cohort, known: &Features) -> Result<Part> {
    let kind = ModalityKind::from_str(&known.kind).map_err(|error| Failure::Input.error(error))?;
    let nothing = (0..cohort.names.len()).map(|_| Vec::new());
    Ok(Part {
        kind,
        features: known.features.clone(),
        tokens: known.tokens.clone(),
        counts: Counts::from_rows(known.features.len(), nothing),
        measured: vec![false; cohort.names.len()],
    })
}

/// The features to train on.
fn chosen_parts(
    cohort: &Cohort,
    options: &Options,
    batches: &[i64],
    known: Option<&Vocabulary>,
    run: &mut Run,
) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for modality in &cohort.modalities {
        let kind = modality.kind;
        let mut readable: Vec<usize> = (0..modality.features.len())
            .filter(|&at| !modality.features[at].is_empty())
            .collect();
        if let Some(known) = known.filter(|_| kind == ModalityKind::Rna) {
            steps::report_genes(&modality.features, known, run);
            readable.retain(|&at| known.gene_id(&modality.features[at]).is_some());
        }
        if readable.is_empty() {
            return Err(Failure::Input.error(format!(
                "none of the {} {} features is in the vocabulary: the files have features such as `{}`, the model `{}`; give the column of gene symbols with `--gene-column`",
                modality.features.len(),
                kind.name(),
                modality.features.first().map_or("", String::as_str),
                known.and_then(|known| known.genes().next()).unwrap_or_default()
            )));
        }
        let counts = modality.counts.select_genes(&readable);
        let wanted = match kind {
            ModalityKind::Rna => options.n_hvg,
            ModalityKind::Protein => 0,
            ModalityKind::Atac => options.n_peaks,
        };
        let kept = if wanted == 0 || wanted >= counts.n_genes {
            (0..counts.n_genes).collect()
        } else if kind == ModalityKind::Atac {
            frequent(&counts, &modality.measured, wanted)
        } else {
            variable(&counts, modality.state, batches, &modality.measured, wanted)?
        };
        run.note(format!(
            "{}: {} of {} features are read",
            kind.name(),
            kept.len(),
            modality.features.len()
        ));
        let names: Vec<String> = kept
            .iter()
            .map(|&at| modality.features[readable[at]].clone())
            .collect();
        parts.push(Part {
            kind,
            tokens: names.iter().map(|name| token(kind, name)).collect(),
            features: names,
            counts: model_values(kind, modality.state, counts.select_genes(&kept)),
            measured: modality.measured.clone(),
        });
    }
    Ok(parts)
}

/// Masks a modality in a fraction of the cells that also have another one.
fn mask(
    parts: &mut [Part],
    options: &Options,
    run: &mut Run,
) -> Result<Option<(usize, Vec<usize>)>> {
    let Some(modality) = options.mask_modality else {
        return Ok(None);
    };
    let kind = match modality {
        MaskedModality::Rna => ModalityKind::Rna,
        MaskedModality::Protein => ModalityKind::Protein,
        MaskedModality::Atac => ModalityKind::Atac,
    };
    let part = parts.iter().position(|part| part.kind == kind);
    let Some(part) = part.filter(|_| parts.len() > 1) else {
        return Err(Failure::Input.error(format!(
            "`--mask-modality`: the files do not have {} together with another modality",
            kind.name()
        )));
    };
    let has_other = |cell: usize| {
        let others = parts.iter().enumerate().filter(|(at, _)| *at != part);
        others.into_iter().any(|(_, other)| other.measured[cell])
    };
    let both: Vec<usize> = (0..parts[part].measured.len())
        .filter(|&cell| parts[part].measured[cell] && has_other(cell))
        .collect();
    let count = (both.len() as f64 * options.masked_fraction).round() as usize;
    let mut stream = Seed(options.seed).stream("cells with a hidden modality", &[]);
    let mut cells: Vec<usize> = random::sample(&mut stream, both.len(), count)
        .into_iter()
        .map(|at| both[at])
        .collect();
    cells.sort_unstable();
    cells
        .iter()
        .for_each(|&cell| parts[part].measured[cell] = false);
    run.note(format!(
        "{} is masked in {} cells",
        kind.name(),
        cells.len()
    ));
    Ok(Some((part, cells)))
}

/// Vocabulary token of a feature: an antibody or peak may have the name of a gene.
fn token(kind: ModalityKind, feature: &str) -> String {
    match kind {
        ModalityKind::Rna => feature.to_owned(),
        ModalityKind::Protein => format!("protein:{feature}"),
        ModalityKind::Atac => format!("peak:{feature}"),
    }
}

/// Counts on a linear scale, to which the tokenizer applies log1p; antibodies as centered log ratios.
fn model_values(kind: ModalityKind, state: State, mut counts: Counts) -> Counts {
    if kind == ModalityKind::Protein {
        if state == State::RawCounts {
            centered_log_ratios(&mut counts);
        }
    } else if state == State::LogNormalized {
        counts
            .values
            .iter_mut()
            .for_each(|value| *value = value.exp_m1());
    }
    counts
}

/// Counts to log1p of their ratio to the geometric mean of 1 + count over the features of the cell (Stoeckius et al. 2017).
fn centered_log_ratios(counts: &mut Counts) {
    let features = counts.n_genes.max(1) as f64;
    for cell in 0..counts.n_cells() {
        let values = counts.row_mut(cell).1;
        let sum: f64 = values.iter().map(|&value| f64::from(value).ln_1p()).sum();
        let mean = (sum / features).exp();
        values
            .iter_mut()
            .for_each(|value| *value = (f64::from(*value) / mean).ln_1p() as f32);
    }
}

/// Highly variable genes within batches.
fn variable(
    counts: &Counts,
    state: State,
    batches: &[i64],
    measured: &[bool],
    wanted: usize,
) -> Result<Vec<usize>> {
    let cells: Vec<usize> = (0..counts.n_cells())
        .filter(|&cell| measured[cell])
        .collect();
    let flavor = match state {
        State::LogNormalized => Flavor::CellRanger,
        _ => Flavor::SeuratV3,
    };
    let size = |batch: i64| cells.iter().filter(|&&cell| batches[cell] == batch).count();
    let codes: Vec<u32> = cells
        .iter()
        .map(|&cell| {
            if size(batches[cell]) < SMALL_BATCH {
                0
            } else {
                batches[cell] as u32 + 1
            }
        })
        .collect();
    // Pooled small batches may still have too few cells to estimate variances.
    let few = (1..SMALL_BATCH).contains(&codes.iter().filter(|code| **code == 0).count());
    let codes = (!few).then_some(codes);
    let counts = counts.select_cells(&cells);
    Ok(select_genes(&counts, wanted, flavor, codes.as_deref())?.kept)
}

/// The most variable peaks: open in nearest to half of the cells; the first of equally variable ones.
fn frequent(counts: &Counts, measured: &[bool], wanted: usize) -> Vec<usize> {
    let mut open = vec![0usize; counts.n_genes];
    for (peaks, values) in counts.rows() {
        let found = peaks.iter().zip(values).filter(|(_, value)| **value > 0.0);
        found.for_each(|(&peak, _)| open[peak as usize] += 1);
    }
    let cells = measured.iter().filter(|measured| **measured).count();
    let variability = |peak: &usize| open[*peak].min(cells - open[*peak]);
    let mut order: Vec<usize> = (0..counts.n_genes).collect();
    order.sort_by_key(|peak| (std::cmp::Reverse(variability(peak)), *peak));
    order.truncate(wanted);
    order.sort_unstable();
    order
}
