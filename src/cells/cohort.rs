//! Cells measured in one or more modalities, in one or more files, all in memory.
//!
//! A cell of one file is the cell of the same name in another file, if both belong to the same sample; see [`Cohort::read`].
//! Cells that lack some modalities stay ("mosaic" data).

mod annotations;
mod pairing;
mod reading;
mod unique_names;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::str::FromStr;

use indexmap::IndexSet;

use self::annotations::Annotations;
use self::pairing::Pairing;
use self::reading::{Part, Reader};
use self::unique_names::UniqueNames;
use super::{Error, Options};
use crate::counts::Counts;
use crate::expression::state::State;
use crate::formats::Column;
use crate::vocabulary::Vocabulary;

/// Modality of a measurement, in the order of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModalityKind {
    /// Transcripts by gene.
    Rna,
    /// Surface proteins by antibody.
    Protein,
    /// Accessible chromatin by peak.
    Atac,
}

/// One file with its modality, sample and batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub path: PathBuf,
    /// Modality of the file. A multimodal file (.h5mu) has its own; a matrix given as RNA with several feature types, as written
    /// by Cell Ranger, is split by type.
    pub kind: ModalityKind,
    /// Files of the same sample are of the same cells.
    pub sample: Option<String>,
    /// Batch of all its cells.
    pub batch: Option<String>,
}

/// One modality of all files of a cohort.
#[derive(Debug, Clone, PartialEq)]
pub struct Modality {
    pub kind: ModalityKind,
    /// Names of genes, antibodies or peaks, without repetition, in the order of their first appearance.
    pub features: Vec<String>,
    /// A row for every cell of the cohort, empty where the modality was not measured.
    pub counts: Counts,
    /// Whether the modality was measured, for every cell of the cohort.
    pub measured: Vec<bool>,
    pub state: State,
}

/// Cells with all their modalities.
#[derive(Debug)]
pub struct Cohort {
    /// Unique names of the cells: as in the files, followed by `-` and the sample where two samples share a name.
    pub names: Vec<String>,
    /// Position in `sample_names` for every cell: its sample, or where all files share their names, the first file with the cell.
    pub samples: Vec<usize>,
    /// Samples as given, else named after their files.
    pub sample_names: Vec<String>,
    /// Batch of every cell, as given for its source.
    pub batches: Vec<Option<String>>,
    /// RNA, Protein and ATAC, those that were measured.
    pub modalities: Vec<Modality>,
    /// Messages on what was found and chosen.
    pub notes: Vec<String>,
    annotations: Vec<Annotations>,
}

impl ModalityKind {
    pub const ALL: [Self; 3] = [Self::Rna, Self::Protein, Self::Atac];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rna => "RNA",
            Self::Protein => "Protein",
            Self::Atac => "ATAC",
        }
    }

    /// Feature type in Cell Ranger output.
    pub fn feature_type(self) -> &'static str {
        match self {
            Self::Rna => "Gene Expression",
            Self::Protein => "Antibody Capture",
            Self::Atac => "Peaks",
        }
    }

    /// The modality of a feature type of Cell Ranger.
    fn of_feature_type(text: &str) -> Option<Self> {
        let means = |kind: &Self| kind.feature_type().eq_ignore_ascii_case(text.trim());
        Self::ALL.into_iter().find(means)
    }

    /// Usual names of the modality, in lower-case letters and digits; the first is the preferred one.
    fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Rna => &[
                "rna",
                "gex",
                "gene",
                "genes",
                "geneexpression",
                "expression",
                "mrna",
                "scrna",
                "transcriptome",
            ],
            Self::Protein => &[
                "protein",
                "prot",
                "adt",
                "proteins",
                "adts",
                "antibody",
                "antibodies",
                "antibodycapture",
                "citeseq",
            ],
            Self::Atac => &[
                "atac",
                "scatac",
                "peaks",
                "peak",
                "chromatinaccessibility",
                "accessibility",
            ],
        }
    }
}

impl FromStr for ModalityKind {
    type Err = String;

    /// Recognizes the usual names, whatever their case and punctuation.
    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        let plain = letters.collect::<String>().to_lowercase();
        let found = Self::ALL
            .into_iter()
            .find(|kind| kind.usual_names().contains(&plain.as_str()));
        found.ok_or_else(|| {
            let known = Self::ALL.map(|kind| {
                let names = &kind.usual_names()[..3];
                format!("{} (`{}`)", kind.name(), names.join("`, `"))
            });
            format!(
                "`{text}` is not a supported modality: expected {}",
                known.join(", ")
            )
        })
    }
}

impl Cohort {
    /// Reads all files and matches cells that are the same.
    ///
    /// Sources are matched by their samples. Without samples: if no two files of a modality have a cell name in common, a name is the
    /// same cell in every file. If some have, as with barcodes, every file is its own sample if all have the same modality, else the
    /// first files of all modalities are one sample, the second files the next, and so on.
    ///
    /// `known` is the vocabulary of a model, by which the column of gene names is chosen; all genes are kept. Features with the same
    /// name in a file are summed.
    pub fn read(
        sources: &[Source],
        options: &Options,
        known: Option<&Vocabulary>,
    ) -> Result<Self, Error> {
        if sources.is_empty() {
            return Err(Error::Cohort(
                "no file is given: give at least one with cells".into(),
            ));
        }
        let Reader {
            parts, mut notes, ..
        } = Reader::read(sources, options, known)?;
        let pairing = Pairing::find(sources, &parts)?;
        let merged = Merged::new(&parts, &pairing, sources)?;
        let modalities = ModalityKind::ALL
            .into_iter()
            .map(|kind| merged.modality(kind, &parts, &mut notes))
            .collect::<Result<Vec<_>, _>>()?;
        let modalities: Vec<Modality> = modalities.into_iter().flatten().collect();
        describe(&modalities, &mut notes);
        let annotations = annotations::of(parts, &merged.rows, sources);
        Ok(Self {
            names: merged.names(&pairing.sample_names, &mut notes),
            samples: merged.samples,
            sample_names: pairing.sample_names,
            batches: merged.batches,
            modalities,
            notes,
            annotations,
        }
        .without_unused_samples())
    }

    pub fn n_cells(&self) -> usize {
        self.names.len()
    }

    pub fn modality(&self, kind: ModalityKind) -> Option<&Modality> {
        self.modalities.iter().find(|found| found.kind == kind)
    }

    /// Labels of all cells from a column of obs: of the first file that has a value for the cell.
    pub fn labels(&self, column: &str) -> Result<Vec<Option<String>>, Error> {
        annotations::labels(&self.annotations, column, self.n_cells())
    }

    /// All columns that describe the cells, each with the values of the first file that has one for the cell.
    pub fn obs(&self) -> Vec<(String, Column)> {
        annotations::merge(&self.annotations, self.n_cells())
    }

    /// Where the cohort has cells of the given names, for results in the order of a file.
    pub fn positions(&self, names: &[String]) -> Vec<Option<usize>> {
        let place: HashMap<&str, usize> = self.names.iter().map(String::as_str).zip(0..).collect();
        names
            .iter()
            .map(|name| place.get(name.as_str()).copied())
            .collect()
    }

    fn without_unused_samples(mut self) -> Self {
        let used: HashSet<usize> = self.samples.iter().copied().collect();
        let kept: IndexSet<usize> = (0..self.sample_names.len())
            .filter(|sample| used.contains(sample))
            .collect();
        self.sample_names = kept
            .iter()
            .map(|&sample| self.sample_names[sample].clone())
            .collect();
        for sample in &mut self.samples {
            *sample = kept.get_index_of(sample).unwrap_or_default();
        }
        self
    }
}

/// The cells of all parts, each once.
struct Merged {
    /// Cell of the cohort for every row of every part.
    rows: Vec<Vec<usize>>,
    /// Name in the files, sample and batch of every cell.
    in_file: Vec<String>,
    samples: Vec<usize>,
    batches: Vec<Option<String>>,
}

impl Merged {
    fn new(parts: &[Part], pairing: &Pairing, sources: &[Source]) -> Result<Self, Error> {
        let mut merged = Self {
            rows: Vec::new(),
            in_file: Vec::new(),
            samples: Vec::new(),
            batches: Vec::new(),
        };
        let mut found: HashMap<(usize, &str), usize> = HashMap::new();
        let mut measured: HashMap<(ModalityKind, usize), usize> = HashMap::new();
        for (at, part) in parts.iter().enumerate() {
            let mut rows = Vec::with_capacity(part.names.len());
            for name in &part.names {
                let key = (pairing.space[at], name.as_str());
                let cell = *found.entry(key).or_insert(merged.in_file.len());
                if cell == merged.in_file.len() {
                    merged.in_file.push(name.clone());
                    merged.samples.push(pairing.sample[at]);
                    merged.batches.push(None);
                }
                if let Some(earlier) = measured.insert((part.kind, cell), at) {
                    return Err(twice(&parts[earlier], part, name, sources));
                }
                if merged.batches[cell].is_none() {
                    merged.batches[cell].clone_from(&sources[part.source].batch);
                }
                rows.push(cell);
            }
            merged.rows.push(rows);
        }
        Ok(merged)
    }

    /// Unique names of the cells.
    fn names(&self, sample_names: &[String], notes: &mut Vec<String>) -> Vec<String> {
        let mut count: HashMap<&str, usize> = HashMap::new();
        for name in &self.in_file {
            *count.entry(name).or_default() += 1;
        }
        let shared = count.values().filter(|count| **count > 1).count();
        if shared > 0 {
            notes.push(format!(
                "{shared} cell names occur in several samples: they become NAME-SAMPLE"
            ));
        }
        let mut names = UniqueNames::default();
        let named = self.in_file.iter().zip(&self.samples);
        named
            .map(|(name, &sample)| match count[name.as_str()] {
                1 => names.add(name),
                _ => names.add(&format!("{name}-{}", sample_names[sample])),
            })
            .collect()
    }

    /// The part and row of each cell, if there is one.
    fn places<'r>(&self, parts: impl Iterator<Item = &'r [usize]>) -> Vec<Option<(usize, usize)>> {
        let mut places = vec![None; self.in_file.len()];
        for (part, rows) in parts.enumerate() {
            for (row, &cell) in rows.iter().enumerate() {
                places[cell] = Some((part, row));
            }
        }
        places
    }

    /// All parts of a modality together; none without such a part.
    fn modality(
        &self,
        kind: ModalityKind,
        parts: &[Part],
        notes: &mut Vec<String>,
    ) -> Result<Option<Modality>, Error> {
        let of_kind: Vec<(&Part, &Vec<usize>)> = parts
            .iter()
            .zip(&self.rows)
            .filter(|(part, _)| part.kind == kind)
            .collect();
        let Some((first, _)) = of_kind.first() else {
            return Ok(None);
        };
        require_one_state(of_kind.iter().map(|(part, _)| *part))?;
        let mut features: IndexSet<&str> = IndexSet::new();
        let columns: Vec<Vec<u32>> = of_kind
            .iter()
            .map(|(part, _)| {
                let names = part.features.iter();
                names
                    .map(|name| features.insert_full(name).0 as u32)
                    .collect()
            })
            .collect();
        require_common_features(kind, &columns, features.len(), notes)?;
        let place = self.places(of_kind.iter().map(|(_, rows)| &rows[..]));
        let row = |place: &Option<(usize, usize)>| {
            let Some((part, row)) = *place else {
                return Vec::new();
            };
            let (genes, values) = of_kind[part].0.counts.row(row);
            let columns = genes.iter().map(|&gene| columns[part][gene as usize]);
            let mut row: Vec<(u32, f32)> = columns.zip(values.iter().copied()).collect();
            row.sort_unstable_by_key(|(feature, _)| *feature);
            row
        };
        Ok(Some(Modality {
            kind,
            counts: Counts::from_rows(features.len(), place.iter().map(row)),
            measured: place.iter().map(Option::is_some).collect(),
            features: features.into_iter().map(str::to_owned).collect(),
            state: first.judgment.state,
        }))
    }
}

fn twice(earlier: &Part, part: &Part, name: &str, sources: &[Source]) -> Error {
    let kind = part.kind.name();
    let path = |part: &Part| sources[part.source].path.display().to_string();
    let sample = sources[part.source].sample.as_deref().unwrap_or_default();
    Error::Cohort(format!(
        "`{}` and `{}` are both {kind} of the sample `{sample}` and both have a cell `{name}`: give each its own sample",
        path(earlier),
        path(part)
    ))
}

/// Values of several files can only be read together if they have the same form.
fn require_one_state<'p>(mut parts: impl Iterator<Item = &'p Part>) -> Result<(), Error> {
    let Some(first) = parts.next() else {
        return Ok(());
    };
    match parts.find(|part| part.judgment.state != first.judgment.state) {
        None => Ok(()),
        Some(other) => Err(Error::Cohort(format!(
            "the values of all {} files must have the same form, but `{}` holds {} and `{}` {}: choose a matrix of the same form in all files with `--matrix`",
            first.kind.name(),
            first.path.display(),
            first.judgment,
            other.path.display(),
            other.judgment
        ))),
    }
}

/// Notes how many features are common to all files of a modality; none is an error.
fn require_common_features(
    kind: ModalityKind,
    columns: &[Vec<u32>],
    n_features: usize,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let mut files = vec![0; n_features];
    for feature in columns.iter().flatten() {
        files[*feature as usize] += 1;
    }
    let common = files.iter().filter(|n| **n == columns.len()).count();
    let (kind, n_files) = (kind.name(), columns.len());
    match common {
        _ if n_files == 1 => {}
        0 => {
            return Err(Error::Cohort(format!(
                "none of the {n_features} features of {kind} is common to all {n_files} files: identifier types differ, or the files do not belong together"
            )));
        }
        _ => notes.push(format!(
            "{kind}: {common} of {n_features} features are common to all {n_files} files"
        )),
    }
    Ok(())
}

/// Notes how many cells each modality has, and which modalities have no cell in common.
fn describe(modalities: &[Modality], notes: &mut Vec<String>) {
    for modality in modalities {
        let n = modality.measured.iter().filter(|is| **is).count();
        let without = match modality.measured.len() - n {
            0 => String::new(),
            without => format!("; {without} cells lack it"),
        };
        notes.push(format!(
            "{}: {n} cells, {} features{without}",
            modality.kind.name(),
            modality.features.len()
        ));
    }
    for (at, one) in modalities.iter().enumerate() {
        for other in &modalities[at + 1..] {
            let mut both = one.measured.iter().zip(&other.measured);
            if !both.any(|(one, other)| *one && *other) {
                notes.push(format!(
                    "no cell was measured in both {} and {}: if the files have the same cells, cell names differ between them",
                    one.kind.name(),
                    other.kind.name()
                ));
            }
        }
    }
}
