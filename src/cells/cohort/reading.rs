//! Reads the modalities of single files.

use std::path::{Path, PathBuf};

use super::unique_names::UniqueNames;
use super::{ModalityKind, Source};
use crate::cells::{Cells, Columns, Error, Options, Prefer};
use crate::counts::Counts;
use crate::expression::state::{State, ValueKindReport, judge};
use crate::formats::{self, Column, Table};
use crate::vocabulary::Vocabulary;

/// Memory for tables that are sorted; larger ones go to a temporary file.
const SPOOL_MEMORY: usize = 1 << 30;
/// Values per block while reading, held twice.
const BLOCK_VALUES: usize = 50_000_000;
/// Columns of var that may hold the type of a feature.
const TYPE_COLUMNS: [&str; 2] = ["feature_types", "feature_type"];

/// One modality of one file.
pub(super) struct Part {
    /// Number of the source.
    pub source: usize,
    pub path: PathBuf,
    pub kind: ModalityKind,
    /// Unique names of its cells.
    pub names: Vec<String>,
    /// Columns of obs, unless an earlier part of the same file has them.
    pub obs: Vec<(String, Column)>,
    pub features: Vec<String>,
    pub counts: Counts,
    pub judgment: ValueKindReport,
}

/// Reads one file after the other.
pub(super) struct Reader<'a> {
    sources: &'a [Source],
    options: &'a Options,
    known: Option<&'a Vocabulary>,
    /// In the order of the modalities, then of the sources.
    pub parts: Vec<Part>,
    pub notes: Vec<String>,
}

/// Origin of a table: number and modality of its source, and whether the modality is that of a multimodal file.
#[derive(Clone, Copy)]
struct Origin {
    source: usize,
    kind: ModalityKind,
    is_certain: bool,
}

impl<'a> Reader<'a> {
    pub fn read(
        sources: &'a [Source],
        options: &'a Options,
        known: Option<&'a Vocabulary>,
    ) -> Result<Self, Error> {
        let mut reader = Self {
            sources,
            options,
            known,
            parts: Vec::new(),
            notes: Vec::new(),
        };
        // RNA first: a matrix of several types of features may be given again for one of them.
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|&source| sources[source].kind);
        for source in order {
            reader.source(source)?;
        }
        reader.parts.sort_by_key(|part| (part.kind, part.source));
        if reader.parts.is_empty() {
            return Err(Error::Cohort(
                "the files hold no value other than zero".into(),
            ));
        }
        Ok(reader)
    }

    fn source(&mut self, number: usize) -> Result<(), Error> {
        let source = &self.sources[number];
        let modalities = formats::modalities(&source.path)?;
        if modalities.is_empty() {
            let origin = Origin {
                source: number,
                kind: source.kind,
                is_certain: false,
            };
            return self.table(origin, None);
        }
        let (mut read, mut dropped) = (Vec::new(), Vec::new());
        for name in &modalities {
            match name.parse::<ModalityKind>() {
                Ok(kind) if !read.contains(&kind) => {
                    read.push(kind);
                    let origin = Origin {
                        source: number,
                        kind,
                        is_certain: true,
                    };
                    self.table(origin, Some(name))?;
                }
                _ => dropped.push(name.as_str()),
            }
        }
        let path = source.path.display();
        let names = dropped.join("`, `");
        if read.is_empty() {
            return Err(Error::Cohort(format!(
                "`{path}` has the modalities `{names}`, none of which is RNA, Protein or ATAC: rename them to `rna`, `prot` or `atac`"
            )));
        }
        if !dropped.is_empty() {
            let note = format!("`{path}`: modality `{names}` is dropped");
            self.notes.push(note);
        }
        Ok(())
    }

    /// Reads a table: one modality, or several by the types of its features.
    fn table(&mut self, origin: Origin, modality: Option<&String>) -> Result<(), Error> {
        let path = &self.sources[origin.source].path;
        if self.is_read(origin)? {
            self.notes.push(format!(
                "`{}` is given twice as {}: it is read once",
                path.display(),
                origin.kind.name()
            ));
            return Ok(());
        }
        let known = self.known.filter(|_| origin.kind == ModalityKind::Rna);
        let is_gene = known.map(|known| move |gene: &str| known.gene_id(gene).is_some());
        let is_gene = is_gene.as_ref().map(|is| is as &dyn Fn(&str) -> bool);
        let formats = formats::Options {
            modality: modality.cloned(),
            ..Default::default()
        };
        let table = formats::open(path, &formats, is_gene, SPOOL_MEMORY)?;
        let options = self.options_for(origin.kind, &table)?;
        let mut cells = Cells::of(table, &options, known, Prefer::First)?;
        self.note_each(origin, &mut cells.notes);
        let kinds = self.kinds(&cells, origin)?;
        let names = self.cell_names(&cells)?;
        let mut obs = self.annotations(&cells.table)?;
        for (kind, features) in kinds {
            let counts = read_counts(&cells, &features)?;
            // Part of a matrix may have another form than the whole.
            let is_part = features != cells.genes;
            let judgment = if is_part {
                judge(&counts)
            } else {
                cells.judgment.clone()
            };
            if judgment.state == State::Empty {
                self.notes.push(format!(
                    "`{}`: {} holds no value other than zero and is dropped",
                    path.display(),
                    kind.name()
                ));
                continue;
            }
            self.parts.push(Part {
                source: origin.source,
                path: path.clone(),
                kind,
                names: names.clone(),
                obs: std::mem::take(&mut obs),
                features: unique(&features),
                counts,
                judgment,
            });
        }
        Ok(())
    }

    /// Whether the file was read before as the same modality. Another modality or sample is an error.
    fn is_read(&self, origin: Origin) -> Result<bool, Error> {
        let source = &self.sources[origin.source];
        let same = |path: &Path| {
            path == source.path
                || matches!((path.canonicalize(), source.path.canonicalize()), (Ok(a), Ok(b)) if a == b)
        };
        let is_other = |part: &&Part| part.source != origin.source && same(&part.path);
        let mut earlier = self.parts.iter().filter(is_other).peekable();
        let Some(first) = earlier.peek() else {
            return Ok(false);
        };
        let given = &self.sources[first.source];
        if given.sample != source.sample {
            let sample = |source: &Source| source.sample.clone().unwrap_or_default();
            return Err(Error::Cohort(format!(
                "`{}` is given twice, for the samples `{}` and `{}`",
                source.path.display(),
                sample(given),
                sample(source)
            )));
        }
        if origin.is_certain || earlier.any(|part| part.kind == origin.kind) {
            return Ok(true);
        }
        Err(Error::Cohort(format!(
            "`{}` is given as {} and as {}, but does not hold both: give each modality its own file, or one with a column `feature_types`",
            source.path.display(),
            given.kind.name(),
            origin.kind.name()
        )))
    }

    /// Options are for genes; other modalities follow the choice of a matrix where they have it.
    fn options_for(&mut self, kind: ModalityKind, table: &Table) -> Result<Options, Error> {
        if kind == ModalityKind::Rna {
            return Ok(self.options.clone());
        }
        let mut matrix = self.options.matrix.clone();
        if let Some(name) = &matrix {
            let sources = table.sources()?;
            if !sources.iter().any(|source| source.to_string() == *name) {
                self.notes.push(format!(
                    "`{}` has no matrix `{name}` for {}: the default one is read",
                    table.path().display(),
                    kind.name()
                ));
                matrix = None;
            }
        }
        Ok(Options {
            matrix,
            gene_column: None,
        })
    }

    /// Adds the notes of a table, with its modality.
    fn note_each(&mut self, origin: Origin, notes: &mut Vec<String>) {
        let kind = origin.kind.name();
        self.notes
            .extend(notes.drain(..).map(|note| format!("{kind}: {note}")));
    }

    /// The modalities of a table with the names of their features; empty for a column that belongs to another.
    fn kinds(
        &mut self,
        cells: &Cells,
        origin: Origin,
    ) -> Result<Vec<(ModalityKind, Vec<String>)>, Error> {
        let types = if origin.is_certain {
            None
        } else {
            feature_types(cells)?
        };
        let Some(types) = types else {
            return Ok(vec![(origin.kind, cells.genes.clone())]);
        };
        let kinds: Vec<Option<ModalityKind>> = types
            .iter()
            .map(|label| match label {
                Some(label) => ModalityKind::of_feature_type(label),
                None => Some(origin.kind),
            })
            .collect();
        let wanted: Vec<ModalityKind> = ModalityKind::ALL
            .into_iter()
            .filter(|kind| origin.kind == ModalityKind::Rna || *kind == origin.kind)
            .filter(|kind| kinds.contains(&Some(*kind)))
            .collect();
        if !wanted.contains(&origin.kind) {
            return Err(other_type(&cells.path, origin.kind, &types));
        }
        let is_dropped = |kind: &&Option<ModalityKind>| kind.is_none_or(|k| !wanted.contains(&k));
        match kinds.iter().filter(is_dropped).count() {
            0 => {}
            n => self.notes.push(format!(
                "`{}`: {n} features of other types are dropped",
                cells.path.display()
            )),
        }
        let as_in_file = cells.table.gene_names(&cells.source)?;
        let named = |kind| match kind {
            ModalityKind::Rna => (kind, of_kind(kind, &cells.genes, &kinds)),
            _ => (kind, of_kind(kind, &as_in_file, &kinds)),
        };
        Ok(wanted.into_iter().map(named).collect())
    }

    fn cell_names(&mut self, cells: &Cells) -> Result<Vec<String>, Error> {
        let in_file = cells.table.cell_names()?;
        let mut unique = UniqueNames::default();
        let names: Vec<String> = in_file.iter().map(|name| unique.add(name)).collect();
        let renamed = names.iter().zip(&in_file).filter(|(a, b)| a != b).count();
        if renamed > 0 {
            self.notes.push(format!(
                "`{}`: {renamed} cells have the name of an earlier cell and are numbered (NAME-1, NAME-2)",
                cells.path.display()
            ));
        }
        Ok(names)
    }

    /// All readable columns of obs.
    fn annotations(&mut self, table: &Table) -> Result<Vec<(String, Column)>, Error> {
        let mut columns = Vec::new();
        for name in table.obs_columns()? {
            match table.obs(&name) {
                Ok(column) => columns.push((name, column)),
                Err(error) if error.is_io() => return Err(error.into()),
                Err(error) => self
                    .notes
                    .push(format!("a column of obs is dropped: {error}")),
            }
        }
        Ok(columns)
    }
}

/// The names of the features of one modality at their positions; empty for others.
fn of_kind(wanted: ModalityKind, names: &[String], kinds: &[Option<ModalityKind>]) -> Vec<String> {
    let named = |(name, kind): (&String, &Option<ModalityKind>)| match kind {
        Some(kind) if *kind == wanted => name.clone(),
        _ => String::new(),
    };
    names.iter().zip(kinds).map(named).collect()
}

fn other_type(path: &Path, kind: ModalityKind, types: &[Option<String>]) -> Error {
    let found = types.iter().flatten().next();
    Error::Cohort(format!(
        "`{}` is given as {}, but none of its features is of the type `{}`; there are others such as `{}`",
        path.display(),
        kind.name(),
        kind.feature_type(),
        found.map_or("", String::as_str)
    ))
}

/// The type of every feature, if a column has feature types of Cell Ranger.
fn feature_types(cells: &Cells) -> Result<Option<Vec<Option<String>>>, Error> {
    let columns = cells.table.var_columns(&cells.source)?;
    for name in TYPE_COLUMNS {
        if !columns.iter().any(|column| column == name) {
            continue;
        }
        let types = cells.table.var(&cells.source, name)?.to_labels();
        let is_known = |label: &String| ModalityKind::of_feature_type(label).is_some();
        if types.iter().flatten().any(is_known) {
            return Ok(Some(types));
        }
    }
    Ok(None)
}

/// The values of the named columns; columns with the same name are summed, columns without a name dropped.
fn read_counts(cells: &Cells, features: &[String]) -> Result<Counts, Error> {
    let wanted = unique(features);
    let columns = Columns::new(features, &wanted);
    let mut counts = Counts::empty(wanted.len());
    for block in cells.blocks(BLOCK_VALUES)? {
        for (genes, values) in cells.read(block, &columns)?.rows() {
            counts.push(genes.iter().copied().zip(values.iter().copied()));
        }
    }
    Ok(counts)
}

/// Names without repetition and without the empty one, in the order of their first appearance.
fn unique(names: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    names
        .iter()
        .filter(|name| !name.is_empty() && seen.insert(name.as_str()))
        .cloned()
        .collect()
}
