//! Matching of files that have the same cells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;

use super::reading::Part;
use super::unique_names::UniqueNames;
use super::{ModalityKind, Source};
use crate::cells::Error;
use crate::formats;

/// Sample of each part, and parts whose cell names are matched.
pub(super) struct Pairing {
    /// In one space, cells with the same name are the same cell.
    pub space: Vec<usize>,
    /// Position in `sample_names`.
    pub sample: Vec<usize>,
    pub sample_names: Vec<String>,
}

impl Pairing {
    /// Matches parts, which are in the order of their modalities and then of their sources.
    pub fn find(sources: &[Source], parts: &[Part]) -> Result<Self, Error> {
        if sources.iter().any(|source| source.sample.is_some()) {
            return by_sample(sources, parts);
        }
        let of_source: Vec<usize> = parts.iter().map(|part| part.source).collect();
        let Some(clash) = clash(parts) else {
            let mut pairing = Self::of_files(of_source, parts);
            pairing.space.fill(0);
            return Ok(pairing);
        };
        if are_of_one_list(sources)? {
            return Ok(Self::of_files(of_source, parts));
        }
        let positions = by_position(parts).ok_or_else(|| ambiguous(clash))?;
        Ok(Self::of_files(positions, parts))
    }

    /// Parts with the same number are a sample, named after the file of the first of them.
    fn of_files(numbers: Vec<usize>, parts: &[Part]) -> Self {
        let mut first: IndexMap<usize, &Path> = IndexMap::new();
        let sample: Vec<usize> = numbers
            .into_iter()
            .zip(parts)
            .map(|(number, part)| {
                let entry = first.entry(number);
                let at = entry.index();
                entry.or_insert(&part.path);
                at
            })
            .collect();
        let files: Vec<&Path> = first.into_values().collect();
        Self {
            space: sample.clone(),
            sample,
            sample_names: names_of_files(&files),
        }
    }
}

/// Two parts of the same modality and a cell name that both have.
type Clash<'p> = (&'p Part, &'p Part, &'p str);

fn clash(parts: &[Part]) -> Option<Clash<'_>> {
    let mut seen: HashMap<(ModalityKind, &str), usize> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        for name in &part.names {
            if let Some(earlier) = seen.insert((part.kind, name), at) {
                return Some((&parts[earlier], part, name));
            }
        }
    }
    None
}

fn by_sample(sources: &[Source], parts: &[Part]) -> Result<Pairing, Error> {
    let mut sample_names: Vec<String> = Vec::new();
    let mut of_source = Vec::new();
    for source in sources {
        let Some(sample) = &source.sample else {
            return Err(Error::Cohort(format!(
                "`{}` has no sample, but other files have one: give a sample for every file",
                source.path.display()
            )));
        };
        let at = sample_names.iter().position(|name| name == sample);
        of_source.push(at.unwrap_or(sample_names.len()));
        if at.is_none() {
            sample_names.push(sample.clone());
        }
    }
    let sample: Vec<usize> = parts.iter().map(|part| of_source[part.source]).collect();
    Ok(Pairing {
        space: sample.clone(),
        sample,
        sample_names,
    })
}

/// Whether all files were given as the same modality, or are multimodal, so that no two files have the same cells.
fn are_of_one_list(sources: &[Source]) -> Result<bool, Error> {
    let mut kinds = BTreeSet::new();
    for source in sources {
        let is_multimodal = !formats::modalities(&source.path)?.is_empty();
        kinds.insert(if is_multimodal {
            ModalityKind::Rna
        } else {
            source.kind
        });
    }
    Ok(kinds.len() == 1)
}

/// Position of each part among those of its modality, if all modalities have as many and no file is at two positions.
fn by_position(parts: &[Part]) -> Option<Vec<usize>> {
    let mut n_of_kind: HashMap<ModalityKind, usize> = HashMap::new();
    let mut of_source: HashMap<usize, usize> = HashMap::new();
    let mut positions = Vec::new();
    for part in parts {
        let n = n_of_kind.entry(part.kind).or_default();
        if *of_source.entry(part.source).or_insert(*n) != *n {
            return None;
        }
        positions.push(*n);
        *n += 1;
    }
    let counts: HashSet<usize> = n_of_kind.into_values().collect();
    (counts.len() == 1).then_some(positions)
}

fn ambiguous((one, other, name): Clash) -> Error {
    Error::Cohort(format!(
        "`{}` and `{}` both have a cell `{name}`, and the modalities have different numbers of files, so files with the same cells cannot be matched: give the sample of each file in a sample sheet",
        one.path.display(),
        other.path.display()
    ))
}

/// Short distinct names of files: their own, else those of their directories, else numbered.
fn names_of_files(files: &[&Path]) -> Vec<String> {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
    };
    let stem = |path: &Path| {
        let name = text(path.file_name());
        let endings = [
            ".gz", ".h5ad", ".h5mu", ".h5", ".loom", ".mtx", ".csv", ".tsv", ".txt",
        ];
        endings
            .iter()
            .fold(name, |name, ending| match name.strip_suffix(ending) {
                Some(stem) if !stem.is_empty() => stem.to_owned(),
                _ => name,
            })
    };
    let folder = |path: &Path| text(path.parent().and_then(Path::file_name));
    let names = |of: &dyn Fn(&Path) -> String| -> Vec<String> {
        files.iter().map(|file| of(file)).collect()
    };
    let are_apart = |names: &[String]| {
        let different: HashSet<&String> = names.iter().collect();
        different.len() == names.len() && names.iter().all(|name| !name.is_empty())
    };
    let (stems, folders) = (names(&stem), names(&folder));
    if are_apart(&stems) {
        return stems;
    }
    if are_apart(&folders) {
        return folders;
    }
    let mut unique = UniqueNames::default();
    stems.iter().map(|name| unique.add(name)).collect()
}
