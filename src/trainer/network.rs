//! A network with its weights: built new, loaded from a checkpoint, applied by several threads, and written.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tch::Device;

use crate::checkpoint::{Architecture, Checkpoint, write};
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::predict::Workers;
use crate::random::Seed;
use crate::run_record::Run;
use crate::train::METRICS_FILES;
use crate::vocabulary::Vocabulary;

/// What a network consists of.
#[derive(Debug, Clone)]
pub struct Shape {
    pub architecture: Architecture,
    pub genes: Genes,
    pub heads: Heads,
}

impl Shape {
    /// The architecture of the checkpoint, or of a new model, and a row of the gene table for every token.
    pub fn new(architecture: Architecture, vocabulary: &Vocabulary, heads: Heads) -> Self {
        let genes = Genes {
            rows: vocabulary.len() as i64,
            pad: vocabulary.pad().map(i64::from),
        };
        Self {
            architecture,
            genes,
            heads,
        }
    }

    /// Builds the model on a store.
    pub fn model(&self, store: &mut Store) -> Model {
        Model::new(store, &self.architecture, self.genes, self.heads)
    }
}

/// A network and its weights.
pub struct Network {
    pub shape: Shape,
    pub store: Store,
    /// Tensors of the checkpoint that were loaded.
    table: Option<weights::Table>,
}

/// What is written of a network in addition to its weights.
pub struct Description<'a> {
    pub vocabulary: &'a Vocabulary,
    /// Further keys of `args.json`.
    pub arguments: Map<String, Value>,
    /// Further files by name.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Network {
    /// A network with random weights.
    pub fn new(shape: Shape, seed: u64, device: Device) -> Self {
        let mut store = Store::new(Seed(seed), device);
        shape.model(&mut store);
        Self {
            shape,
            store,
            table: None,
        }
    }

    /// Loads the weights of a checkpoint, and its gene embeddings also if the vocabulary was extended.
    ///
    /// # Errors
    /// A tensor of the backbone that the checkpoint lacks.
    pub fn load(&mut self, checkpoint: &Checkpoint, run: &mut Run) -> Result<()> {
        let known = checkpoint.vocabulary.len();
        let extended = weights::with_more_genes(&self.store, &checkpoint.state, known);
        let table = weights::load(&self.store, extended.as_ref().unwrap_or(&checkpoint.state));
        report_weights(&table, run);
        table.require_backbone()?;
        self.table = Some(table);
        Ok(())
    }

    /// Loads the weights that an earlier run with the same fingerprint wrote.
    ///
    /// # Errors
    /// A directory that is no checkpoint, or lacks a tensor.
    pub fn reload(&self, written: &Path, run: &mut Run) -> Result<()> {
        run.note(format!("`{}` is already complete", written.display()));
        let written = Checkpoint::open(written)?;
        Ok(weights::load(&self.store, &written.state).require_all()?)
    }

    /// Whether the model predicts expression from a cell embedding (MVC, the decoder of GEPC).
    pub fn has_mvc_decoder(&self) -> bool {
        self.shape.heads.cell_expression
    }

    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// A model on every thread.
    pub fn workers(&self, threads: usize) -> Workers {
        Workers::new(&self.store, threads, |store| self.shape.model(store))
    }

    /// Writes the directory of the model; `work` holds the metrics of training.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn write(&self, output: &Path, work: &Path, description: Description) -> Result<()> {
        let Description {
            vocabulary,
            arguments,
            mut files,
        } = description;
        if let Some(table) = &self.table {
            let table = serde_json::to_vec_pretty(table)?;
            files.push(("loaded_weights.json".into(), table));
        }
        for name in METRICS_FILES {
            let path = work.join(name);
            let content = std::fs::read(&path);
            let content =
                content.with_context(|| format!("could not read `{}`", path.display()))?;
            files.push((name.into(), content));
        }
        let contents = write::Contents {
            state: &weights::state(&self.store),
            architecture: &self.shape.architecture,
            arguments: &arguments,
            vocabulary,
            files: &files,
        };
        Ok(write::write(output, contents, write::Form::OWN)?)
    }
}

/// Opens the checkpoint to start from, if one was given.
///
/// # Errors
/// A directory that is no checkpoint.
pub fn open_checkpoint(path: Option<&Path>, run: &mut Run) -> Result<Option<Checkpoint>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let checkpoint = Checkpoint::open(path)?;
    run.input(&checkpoint.directory)?;
    checkpoint.notes.iter().for_each(|note| run.note(note));
    Ok(Some(checkpoint))
}

/// Prints and records which tensors of a checkpoint were loaded.
pub fn report_weights(table: &weights::Table, run: &mut Run) {
    run.note(table.to_string());
    run.metric("loaded_weights", table);
}
