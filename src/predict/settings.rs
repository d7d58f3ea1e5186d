//! What a model of ours says of itself in `args.json`, under `scgpt_tools`: task, format, and what its programs need to know.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;

/// The settings of a task.
pub trait OfTask: DeserializeOwned {
    const TASK: &'static str;
    /// Version of what they say.
    const FORMAT: u32;
    /// The program that writes them.
    const PROGRAM: &'static str;

    /// Stands for the options and input files that the model was made from.
    fn fingerprint(&self) -> &str;
}

/// Tasks, and the programs that apply a model of theirs.
const TASKS: [(&str, &str); 3] = [
    ("annotation", "`scgpt-annotate` or `scgpt-embed`"),
    ("integration", "`scgpt-integrate --no-train`"),
    (
        "perturbation",
        "`scgpt-perturb predict`, `map` or `reverse`",
    ),
];

/// Why a model is not one of the wanted task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{path}` has no settings of ours in `args.json`, as `{program}` writes them: train it by that program first"
    )]
    None {
        path: PathBuf,
        program: &'static str,
    },
    #[error("the settings in `{path}/args.json` are damaged")]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "`{path}` was trained for the task `{task}`, but a model for `{expected}` is needed{}",
        advice(task)
    )]
    Task {
        path: PathBuf,
        task: String,
        expected: &'static str,
    },
    #[error(
        "the settings in `{path}/args.json` are of format {found}, but this version reads format {expected}: train the model anew, or use the version of this program that wrote it"
    )]
    Format {
        path: PathBuf,
        found: u64,
        expected: u32,
    },
    #[error("the settings in `{path}/args.json` are damaged: the gene `{gene}` {problem}")]
    Gene {
        path: PathBuf,
        gene: String,
        problem: &'static str,
    },
}

fn advice(task: &str) -> String {
    let known = TASKS.iter().find(|(name, _)| *name == task);
    known.map_or_else(String::new, |(_, programs)| {
        format!(": use it with {programs}")
    })
}

/// The settings of a checkpoint; none if it is not one of ours.
pub fn read<S: OfTask>(checkpoint: &Checkpoint) -> Result<Option<S>, Error> {
    let parse = |stored: &Map<String, Value>| parse(stored, &|| checkpoint.directory.clone());
    checkpoint.own_settings().map(parse).transpose()
}

/// The settings of a checkpoint that must be one of ours.
pub fn require<S: OfTask>(checkpoint: &Checkpoint) -> Result<S, Error> {
    let none = || Error::None {
        path: checkpoint.directory.clone(),
        program: S::PROGRAM,
    };
    read(checkpoint)?.ok_or_else(none)
}

/// Ids of the genes that settings name, each of which must be in the vocabulary, once.
pub fn gene_ids(genes: &[String], checkpoint: &Checkpoint) -> Result<Vec<i64>, Error> {
    let mut seen = HashSet::new();
    let wrong = |gene: &String, problem| Error::Gene {
        path: checkpoint.directory.clone(),
        gene: gene.clone(),
        problem,
    };
    let mut id = |gene: &String| {
        let id = checkpoint.vocabulary.gene_id(gene);
        let id = id.ok_or_else(|| wrong(gene, "has no vector"))?;
        match seen.insert(id) {
            true => Ok(i64::from(id)),
            false => Err(wrong(gene, "is named twice")),
        }
    };
    genes.iter().map(&mut id).collect()
}

/// Whether a model is there that a run of this fingerprint wrote.
pub fn is_written<S: OfTask>(model: &Path, fingerprint: &str) -> bool {
    let settings = Checkpoint::open(model).map(|model| read::<S>(&model));
    matches!(settings, Ok(Ok(Some(settings))) if settings.fingerprint() == fingerprint)
}

fn parse<S: OfTask>(stored: &Map<String, Value>, path: &dyn Fn() -> PathBuf) -> Result<S, Error> {
    let task = stored.get("task").and_then(Value::as_str);
    if let Some(other) = task.filter(|task| *task != S::TASK) {
        return Err(Error::Task {
            path: path(),
            task: other.to_owned(),
            expected: S::TASK,
        });
    }
    let format = stored.get("format").and_then(Value::as_u64);
    if let Some(found) = format.filter(|found| *found != u64::from(S::FORMAT)) {
        return Err(Error::Format {
            path: path(),
            found,
            expected: S::FORMAT,
        });
    }
    serde_json::from_value(Value::Object(stored.clone())).map_err(|source| Error::Damaged {
        path: path(),
        source,
    })
}
