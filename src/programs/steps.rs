//! Steps that several programs take in the same way.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[cfg(feature = "torch")]
use crate::{compute, failure::Failure, model::weights, run_record::Run, vocabulary::Vocabulary};

/// Cells between two looks at whether to stop.
const SLICE: usize = 512;

/// A problem if the output is the input.
pub fn same_file(input: &Path, output: &Path) -> Vec<String> {
    let same = input
        .canonicalize()
        .ok()
        .is_some_and(|input| output.canonicalize().is_ok_and(|output| output == input));
    if same {
        vec!["`--output` is `--input` itself, which is never changed: name another file".into()]
    } else {
        Vec::new()
    }
}

/// Where the record of a run goes that wrote the given file or folder: NAME.run.json beside it.
pub fn record_beside(output: &Path) -> PathBuf {
    let mut name = output
        .file_stem()
        .map_or_else(OsString::new, OsString::from);
    name.push(".run.json");
    output.with_file_name(name)
}

/// The numbers 0..n in slices.
pub fn slices(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n)
        .step_by(SLICE)
        .map(move |start| start..n.min(start + SLICE))
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

/// Prints and records what became of every tensor of a checkpoint.
#[cfg(feature = "torch")]
pub fn report_weights(table: &weights::Table, run: &mut Run) {
    run.note(table.to_string());
    run.metric("weights", table);
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

/// An error that ends the run if it was told to stop.
#[cfg(feature = "torch")]
pub fn stop_if_interrupted(run: &Run) -> anyhow::Result<()> {
    if run.interrupted() {
        return Err(Failure::Interrupted.error("stopped by a signal; nothing was written"));
    }
    Ok(())
}
