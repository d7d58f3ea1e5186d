//! Settings of a model trained by these programs, stored in `args.json` under `scgpt_tools`: task, format and task settings.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;

/// The settings of a task.
pub trait TaskSettings: DeserializeOwned {
    const TASK: &'static str;
    /// The program that writes them.
    const PROGRAM: &'static str;

    /// Fingerprint of the options and input files that the model was trained with.
    fn fingerprint(&self) -> &str;
}

/// Tasks, and the programs that apply their models.
const TASKS: [(&str, &str); 3] = [
    ("annotation", "`scgpt-annotate` or `scgpt-embed`"),
    ("integration", "`scgpt-integrate --zero-shot`"),
    (
        "perturbation",
        "`scgpt-perturb predict`, `map` or `reverse`",
    ),
];

/// Why a model is not one of the wanted task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{path}/args.json` has no settings of `{program}` (`scgpt_tools`): train the model with that program first"
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

/// The settings of a checkpoint; none if it was not trained by these programs.
pub fn read<S: TaskSettings>(checkpoint: &Checkpoint) -> Result<Option<S>, Error> {
    let parse = |stored: &Map<String, Value>| parse(stored, &|| checkpoint.directory.clone());
    checkpoint.own_settings().map(parse).transpose()
}

/// The settings of a checkpoint that must have them.
pub fn require<S: TaskSettings>(checkpoint: &Checkpoint) -> Result<S, Error> {
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
        let id = id.ok_or_else(|| wrong(gene, "has no embedding"))?;
        match seen.insert(id) {
            true => Ok(i64::from(id)),
            false => Err(wrong(gene, "is named twice")),
        }
    };
    genes.iter().map(&mut id).collect()
}

/// Whether the directory has a model written by a run with this fingerprint.
pub fn is_written<S: TaskSettings>(model: &Path, fingerprint: &str) -> bool {
    let settings = Checkpoint::open(model).map(|model| read::<S>(&model));
    matches!(settings, Ok(Ok(Some(settings))) if settings.fingerprint() == fingerprint)
}

fn parse<S: TaskSettings>(
    stored: &Map<String, Value>,
    path: &dyn Fn() -> PathBuf,
) -> Result<S, Error> {
    let task = stored.get("task").and_then(Value::as_str);
    if let Some(other) = task.filter(|task| *task != S::TASK) {
        return Err(Error::Task {
            path: path(),
            task: other.to_owned(),
            expected: S::TASK,
        });
    }
    serde_json::from_value(Value::Object(stored.clone())).map_err(|source| Error::Damaged {
        path: path(),
        source,
    })
}
