//! What a program is, and the form in which the runner and the tests of artefacts hold programs of any kind.

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
mod given_labels;
#[cfg(feature = "torch")]
pub mod grn;
#[cfg(feature = "torch")]
pub mod integrate;
pub mod map_reference;
#[cfg(feature = "torch")]
pub mod perturb;
#[cfg(feature = "torch")]
mod perturbed;
#[cfg(feature = "torch")]
pub mod pretrain;
pub mod report;
pub mod samples;
mod steps;
pub mod tokenize;
#[cfg(feature = "torch")]
mod watch;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::options::Definition;
use crate::run_record::Run;

/// A command of its own, or a subcommand of one; then the name ends with the subcommand's word.
pub trait Program {
    /// As typed, such as `scgpt-annotate` or `scgpt-checkpoint inspect`.
    const NAME: &'static str;
    /// One sentence for help, schema and wrappers.
    const SUMMARY: &'static str;
    /// What an engine needs to know beside the options.
    const FACTS: Facts;
    /// The one definition of the options; see [`crate::options`].
    type Options: Args + Serialize + DeserializeOwned + JsonSchema + Default;

    /// What is wrong with options that are valid one by one, naming them as "`--flag`"; called before any work. An option that
    /// is wrong by itself has its default here, and what is said of it is not told.
    fn check(_: &Self::Options) -> Vec<String> {
        Vec::new()
    }

    /// Does the work.
    fn run(options: Self::Options, run: &mut Run) -> anyhow::Result<()>;
}

/// What an engine needs to know of a program beside its options.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// EDAM topics.
    pub topics: &'static [&'static str],
    /// EDAM operations.
    pub operations: &'static [&'static str],
    pub resources: Resources,
    /// What an input must hold and an output will, by option: keys of an AnnData file, files of a folder.
    pub contents: &'static [(&'static str, &'static [&'static str])],
}

/// What a run of usual size takes.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    pub cpus: u32,
    pub memory_gb: u32,
    /// Whether an accelerator makes it faster.
    pub gpu: bool,
}

/// What it takes to pass cells through a model, and to look at files.
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
/// What a file of cells and a folder with a checkpoint must hold.
#[cfg(feature = "torch")]
const CELLS: &[&str] = &["X", "obs", "var"];
const CHECKPOINT: &[&str] = &["args.json", "vocab.json"];
/// Files of a model folder.
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

/// Every program, for tests and generators of all of them. A constant: only a binary that names it contains their code.
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

/// The entry of program `P`. It alone brings the program's code into a binary, so name only what the binary is to contain.
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
