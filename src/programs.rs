//! The command line programs: trait [`Program`], and a table of all programs for the runner and the tests of artefacts.

#[cfg(feature = "torch")]
pub mod annotate;
pub mod checkpoint;
#[cfg(feature = "torch")]
pub mod embed;
#[cfg(feature = "torch")]
pub mod finetune_annotation;
#[cfg(feature = "torch")]
pub mod finetune_perturbation;
#[cfg(feature = "torch")]
mod from_scratch;
#[cfg(feature = "torch")]
mod gene_vectors;
#[cfg(feature = "torch")]
pub mod generate;
#[cfg(feature = "torch")]
pub mod grn;
#[cfg(feature = "torch")]
pub mod integrate;
mod label_column;
pub mod map_reference;
#[cfg(feature = "torch")]
pub mod perturb;
#[cfg(feature = "torch")]
mod perturbation_data;
#[cfg(feature = "torch")]
pub mod pretrain;
pub mod report;
pub mod samples;
mod steps;
pub mod tokenize;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::options::Definition;
use crate::run_record::Run;

/// A command, or a subcommand; the name of a subcommand is that of the command and a word.
pub trait Program {
    /// As typed, such as `scgpt-annotate` or `scgpt-checkpoint inspect`.
    const NAME: &'static str;
    /// One-line summary for help, schema and wrappers.
    const SUMMARY: &'static str;
    /// Metadata for workflow engines in addition to the options.
    const FACTS: Facts;
    /// The one definition of the options; see [`crate::options`].
    type Options: Args + Serialize + DeserializeOwned + JsonSchema + Default;

    /// Conflicts between options that are valid on their own, with flags written as "`--flag`"; called before any work. An option
    /// that is invalid on its own has its default here, and messages on it are dropped.
    fn check(_: &Self::Options) -> Vec<String> {
        Vec::new()
    }

    /// Does the work.
    fn run(options: Self::Options, run: &mut Run) -> anyhow::Result<()>;
}

/// Metadata of a program for workflow engines, in addition to its options.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// EDAM topics.
    pub topics: &'static [&'static str],
    /// EDAM operations.
    pub operations: &'static [&'static str],
    pub resources: Resources,
    /// Required contents of inputs and contents of outputs, by option: keys of an AnnData file, files of a directory.
    pub contents: &'static [(&'static str, &'static [&'static str])],
}

/// Resources of a run of typical size.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    pub cpus: u32,
    pub memory_gb: u32,
    /// Whether a GPU makes it faster.
    pub gpu: bool,
}

/// Resources for inference, and for reading files.
#[cfg(feature = "torch")]
const INFERENCE: Resources = Resources {
    cpus: 4,
    memory_gb: 8,
    gpu: true,
};
const INSPECTION: Resources = Resources {
    cpus: 1,
    memory_gb: 2,
    gpu: false,
};
/// Required contents of an AnnData file with cells, and of a checkpoint directory.
#[cfg(feature = "torch")]
const CELLS: &[&str] = &["X", "obs", "var"];
const CHECKPOINT: &[&str] = &["args.json", "vocab.json"];
/// Files of a model directory.
#[cfg(feature = "torch")]
const MODEL: &[&str] = &["args.json", "vocab.json", "model.safetensors", "run.json"];
/// EDAM: RNA-Seq; machine learning.
const TOPICS: &[&str] = &["topic_3170", "topic_3474"];

/// A [`Program`] as a value.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub summary: &'static str,
    pub facts: Facts,
    /// Schema, defaults and command line.
    pub define: fn() -> Definition,
    /// [`Program::check`] on valid options.
    pub check: fn(&Map<String, Value>) -> Vec<String>,
    /// [`Program::run`] on checked options.
    pub run: fn(&Map<String, Value>, &mut Run) -> anyhow::Result<()>,
}

impl Entry {
    /// The binary, which may have subcommands.
    pub fn binary(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// All programs, for tests and generators. A constant: only a binary that uses it contains their code.
pub const ALL: &[Entry] = &[
    #[cfg(feature = "torch")]
    entry::<annotate::Annotate>(),
    entry::<checkpoint::Convert>(),
    entry::<checkpoint::Inspect>(),
    #[cfg(feature = "torch")]
    entry::<embed::Embed>(),
    #[cfg(feature = "torch")]
    entry::<finetune_annotation::FinetuneAnnotation>(),
    #[cfg(feature = "torch")]
    entry::<finetune_perturbation::FinetunePerturbation>(),
    #[cfg(feature = "torch")]
    entry::<generate::Generate>(),
    #[cfg(feature = "torch")]
    entry::<grn::Attention>(),
    #[cfg(feature = "torch")]
    entry::<grn::Difference>(),
    #[cfg(feature = "torch")]
    entry::<grn::Enrich>(),
    #[cfg(feature = "torch")]
    entry::<grn::Evaluate>(),
    #[cfg(feature = "torch")]
    entry::<grn::Programs>(),
    #[cfg(feature = "torch")]
    entry::<integrate::Integrate>(),
    entry::<map_reference::Build>(),
    entry::<map_reference::Query>(),
    #[cfg(feature = "torch")]
    entry::<perturb::InSilico>(),
    #[cfg(feature = "torch")]
    entry::<perturb::Map>(),
    #[cfg(feature = "torch")]
    entry::<perturb::Predict>(),
    #[cfg(feature = "torch")]
    entry::<perturb::Reverse>(),
    #[cfg(feature = "torch")]
    entry::<pretrain::Pretrain>(),
    entry::<report::Report>(),
    entry::<tokenize::Tokenize>(),
];

/// The entry of program `P`. It links the code of the program into a binary, so use it only for programs of that binary.
pub const fn entry<P: Program>() -> Entry {
    Entry {
        name: P::NAME,
        summary: P::SUMMARY,
        facts: P::FACTS,
        define: define::<P>,
        check: check::<P>,
        run: run::<P>,
    }
}

fn define<P: Program>() -> Definition {
    Definition::of::<P::Options>(P::NAME, P::SUMMARY)
}

fn check<P: Program>(options: &Map<String, Value>) -> Vec<String> {
    match read::<P>(options) {
        Ok(options) => P::check(&options),
        Err(error) => vec![format!("could not use the options: {error}")],
    }
}

fn run<P: Program>(options: &Map<String, Value>, run: &mut Run) -> anyhow::Result<()> {
    P::run(read::<P>(options)?, run)
}

fn read<P: Program>(options: &Map<String, Value>) -> serde_json::Result<P::Options> {
    serde_json::from_value(Value::Object(options.clone()))
}
