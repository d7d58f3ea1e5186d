//! Helpers shared by several programs: device, gene lists, cell streams and output files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::output;
use crate::run_record::Run;

#[cfg(feature = "torch")]
use std::{collections::BTreeSet, ops::Range};

#[cfg(feature = "torch")]
use crate::{
    cells::{self, Cells, Columns},
    compute,
    counts::Counts,
    failure::Failure,
    formats::{self, h5ad::File},
    progress::Progress,
    tokens::Values,
    vocabulary::Vocabulary,
};

/// Values of a file that are held in memory at once.
#[cfg(feature = "torch")]
pub const BLOCK_VALUES: usize = 4_000_000;
/// Cells between two checks for an interrupt.
#[cfg(feature = "torch")]
const SLICE: usize = 512;

/// Path of the run record for an output file or directory: NAME.run.json next to it.
pub fn record_path(output: &Path) -> PathBuf {
    let mut name = output
        .file_stem()
        .map_or_else(OsString::new, OsString::from);
    name.push(".run.json");
    output.with_file_name(name)
}

/// Writes a text file atomically, as an output of the run.
pub fn write_text(path: &Path, text: &str, run: &mut Run) -> anyhow::Result<()> {
    output::write_file(path, |out| out.write_all(text.as_bytes()))?;
    Ok(run.output(path)?)
}

/// Text without tabs and line breaks, for a cell of a table.
pub fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// Selects the device and reports it.
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

/// Returns an error if the run was interrupted.
#[cfg(feature = "torch")]
pub fn check_interrupted(run: &Run) -> anyhow::Result<()> {
    if run.interrupted() {
        return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
    }
    Ok(())
}

/// Genes from a list, and from a file with one gene per line or a gene-level AnnData file: unique and sorted.
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

/// Lines of a text file, or row names of a gene-level AnnData file, which has gene pair scores in `obsp`.
#[cfg(feature = "torch")]
fn names(path: &Path) -> anyhow::Result<Vec<String>> {
    if formats::is_hdf5(path)? {
        let file = File::open(path)?;
        file.check_format()?;
        if file.relations()?.is_empty() {
            return Err(Failure::Input.error(format!(
                "`{}` is not a gene-level AnnData file: `obsp` has no gene pair scores; expected a file written by `scgpt-grn programs` or `attention`, or a text file with one gene per line",
                path.display()
            )));
        }
        return Ok(file.cell_names()?);
    }
    let text = formats::read_text(path)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Prints and records how many genes of a file are in the vocabulary.
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
        "{} of {} genes are in the vocabulary; {} are dropped{}",
        matched.matched,
        genes.len(),
        matched.unmatched.count,
        examples(&matched.unmatched.examples)
    ));
    if matched.repeated.count > 0 {
        run.note(format!(
            "{} gene names occur more than once{}; their values are summed",
            matched.repeated.count,
            examples(&matched.repeated.examples)
        ));
    }
    run.metric("genes_matched", matched.matched);
    run.metric("genes_unmatched", matched.unmatched);
}

/// Streams the cells of a file in constant memory.
#[cfg(feature = "torch")]
pub struct CellStream<'a> {
    pub cells: &'a Cells,
    pub columns: &'a Columns,
    pub values: Values,
}

#[cfg(feature = "torch")]
impl CellStream<'_> {
    /// Calls `work` with blocks of cells and the index of their first cell; stops when the run is interrupted.
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
                check_interrupted(run)?;
                let part: Vec<usize> = (start..block.n_cells().min(start + SLICE)).collect();
                work((range.start + start) as u64, &block.select_cells(&part));
                progress.advance(part.len() as u64);
            }
        }
        progress.finish();
        Ok(())
    }

    /// Reads values as the tokenizer expects them: on a linear scale if it applies log1p.
    fn read(&self, range: Range<usize>) -> Result<Counts, cells::Error> {
        match self.values {
            Values::Log1p => self.cells.read_linear(range, self.columns),
            Values::Binned | Values::Raw => self.cells.read(range, self.columns),
        }
    }
}
