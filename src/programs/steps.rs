//! Steps that several programs take in the same way.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::output;
use crate::run_record::Run;

#[cfg(feature = "torch")]
use std::{collections::BTreeSet, ops::Range};

#[cfg(feature = "torch")]
use anyhow::Context;
#[cfg(feature = "torch")]
use serde::Serialize;
#[cfg(feature = "torch")]
use serde_json::Value;
#[cfg(feature = "torch")]
use sha2::{Digest, Sha256};

#[cfg(feature = "torch")]
use crate::{
    cells::{self, Cells, Columns},
    checkpoint::Checkpoint,
    compute,
    counts::Counts,
    failure::Failure,
    formats::{self, h5ad::File},
    model::{Store, weights},
    progress::Progress,
    tokens::Values,
    train::METRICS_FILES,
    vocabulary::Vocabulary,
};

/// Values of a file that are held in memory at once.
#[cfg(feature = "torch")]
pub const BLOCK_VALUES: usize = 4_000_000;
/// Cells between two looks at whether to stop.
#[cfg(feature = "torch")]
const SLICE: usize = 512;

/// Where the record of a run goes that wrote the given file or folder: NAME.run.json beside it.
pub fn record_beside(output: &Path) -> PathBuf {
    let mut name = output
        .file_stem()
        .map_or_else(OsString::new, OsString::from);
    name.push(".run.json");
    output.with_file_name(name)
}

/// Writes a text, complete or not at all, as an output of the run.
pub fn write_text(path: &Path, text: &str, run: &mut Run) -> anyhow::Result<()> {
    output::write_file(path, |out| out.write_all(text.as_bytes()))?;
    Ok(run.output(path)?)
}

/// A text that fits into a cell of a table.
pub fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// Chooses the device and says which.
#[cfg(feature = "torch")]
pub fn device(options: &compute::Options, run: &mut Run) -> anyhow::Result<tch::Device> {
    let device = options
        .resolve()
        .map_err(|error| Failure::Device.mark(error))?;
    run.device(match device {
        tch::Device::Cuda(n) => format!("GPU {n}"),
        _ => "CPU".to_owned(),
    });
    Ok(device)
}

/// Ends a run that was told to stop.
#[cfg(feature = "torch")]
pub fn stop_if_asked(run: &Run) -> anyhow::Result<()> {
    if run.interrupted() {
        return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
    }
    Ok(())
}

/// Opens the checkpoint to start from, if one was given.
#[cfg(feature = "torch")]
pub fn open_checkpoint(path: Option<&Path>, run: &mut Run) -> anyhow::Result<Option<Checkpoint>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let checkpoint = Checkpoint::open(path)?;
    run.input(&checkpoint.directory)?;
    checkpoint.notes.iter().for_each(|note| run.note(note));
    Ok(Some(checkpoint))
}

/// Takes over what a checkpoint has; its gene vectors also where the vocabulary has grown.
#[cfg(feature = "torch")]
pub fn take_over(
    checkpoint: Option<&Checkpoint>,
    store: &Store,
    run: &mut Run,
) -> anyhow::Result<Option<weights::Table>> {
    let Some(checkpoint) = checkpoint else {
        return Ok(None);
    };
    let known = checkpoint.vocabulary.len();
    let extended = weights::with_more_genes(store, &checkpoint.state, known);
    let table = weights::load(store, extended.as_ref().unwrap_or(&checkpoint.state));
    report_weights(&table, run);
    table.require_trunk()?;
    Ok(Some(table))
}

/// What lies beside the weights of a trained model: what was loaded to start with, and the course of training.
#[cfg(feature = "torch")]
pub fn training_files(
    loaded: Option<&weights::Table>,
    work: &Path,
) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    if let Some(table) = loaded {
        let table = serde_json::to_vec_pretty(table)?;
        files.push(("loaded_weights.json".into(), table));
    }
    for name in METRICS_FILES {
        let path = work.join(name);
        let content = std::fs::read(&path);
        let content = content.with_context(|| format!("could not read `{}`", path.display()))?;
        files.push((name.into(), content));
    }
    Ok(files)
}

/// Prints and records what became of every tensor of a checkpoint.
#[cfg(feature = "torch")]
pub fn report_weights(table: &weights::Table, run: &mut Run) {
    run.note(table.to_string());
    run.metric("weights", table);
}

/// Genes that are named, and those of a file, one a line or the rows of an AnnData file of genes: each once, in order.
#[cfg(feature = "torch")]
pub fn gene_names(
    named: &[String],
    file: Option<&PathBuf>,
    run: &mut Run,
) -> anyhow::Result<Vec<String>> {
    let mut genes: BTreeSet<String> = named.iter().map(|gene| gene.trim().to_owned()).collect();
    if let Some(path) = file {
        run.input(path)?;
        let names = names(path)?;
        genes.extend(names.iter().map(|name| name.trim().to_owned()));
    }
    genes.remove("");
    Ok(genes.into_iter().collect())
}

/// Lines of a text, or names of the rows of an AnnData file that has a row for every gene: with scores of pairs of them.
#[cfg(feature = "torch")]
fn names(path: &Path) -> anyhow::Result<Vec<String>> {
    if formats::is_hdf5(path)? {
        let file = File::open(path)?;
        if file.relations()?.is_empty() {
            return Err(Failure::Input.error(format!(
                "the rows of `{}` are no genes, for it has no scores of pairs of them in `obsp`: expected a file that `scgpt-grn programs` or `attention` wrote, or a text with a gene in each line",
                path.display()
            )));
        }
        return Ok(file.cell_names()?);
    }
    let text = formats::read_text(path)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Prints and records how many genes of a file the model knows.
#[cfg(feature = "torch")]
pub fn report_genes(genes: &[String], vocabulary: &Vocabulary, run: &mut Run) {
    let matched = vocabulary.match_genes(genes);
    let examples = |names: &[String]| {
        if names.is_empty() {
            String::new()
        } else {
            format!(", such as {}", names.join(", "))
        }
    };
    run.note(format!(
        "the model knows {} of {} genes; {} are left out{}",
        matched.matched,
        genes.len(),
        matched.unmatched.count,
        examples(&matched.unmatched.examples)
    ));
    if matched.repeated.count > 0 {
        run.note(format!(
            "{} gene names occur more than once{}; their values are added up",
            matched.repeated.count,
            examples(&matched.repeated.examples)
        ));
    }
    run.metric("genes_matched", matched.matched);
    run.metric("genes_unmatched", matched.unmatched);
}

/// The cells of a file, to be gone through in memory that does not grow with the file.
#[cfg(feature = "torch")]
pub struct Walk<'a> {
    pub cells: &'a Cells,
    pub columns: &'a Columns,
    pub values: Values,
}

#[cfg(feature = "torch")]
impl Walk<'_> {
    /// Hands some cells at a time, and the index of the first of them, to `work`; stops when the run is told to.
    pub fn each(
        &self,
        what: &str,
        run: &Run,
        mut work: impl FnMut(u64, &Counts),
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new(what, self.cells.n_cells() as u64, "cells");
        for range in self.cells.blocks(BLOCK_VALUES)? {
            let block = self.read(range.clone())?;
            for start in (0..block.n_cells()).step_by(SLICE) {
                stop_if_asked(run)?;
                let part: Vec<usize> = (start..block.n_cells().min(start + SLICE)).collect();
                work((range.start + start) as u64, &block.select_cells(&part));
                progress.advance(part.len() as u64);
            }
        }
        progress.finish();
        Ok(())
    }

    /// Tokenizers take logarithms of values on a linear scale.
    fn read(&self, range: Range<usize>) -> Result<Counts, cells::Error> {
        match self.values {
            Values::Logarithms => self.cells.read_linear(range, self.columns),
            Values::Bins | Values::Unchanged => self.cells.read(range, self.columns),
        }
    }
}

/// One word for everything that decides the course of a run: version, options but those named, and the content of the input
/// files, wherever they lie.
#[cfg(feature = "torch")]
pub fn fingerprint(options: &impl Serialize, irrelevant: &[&str], run: &Run) -> String {
    let mut options = serde_json::to_value(options).expect("options are JSON");
    if let Value::Object(map) = &mut options {
        irrelevant.iter().for_each(|name| drop(map.remove(*name)));
    }
    let mut hash = Sha256::new();
    hash.update(format!("{} {options}", env!("CARGO_PKG_VERSION")));
    run.inputs()
        .iter()
        .for_each(|input| hash.update(&input.sha256));
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
