//! `scgpt-checkpoint inspect` and `scgpt-checkpoint convert`: inspect, validate and convert checkpoints.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CHECKPOINT, Facts, INSPECTION, Program, TOPICS, steps};
use crate::checkpoint::convert::{self, Target};
use crate::checkpoint::{Attention, inspect};
use crate::output;
use crate::run_record::Run;

/// Options of `scgpt-checkpoint inspect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct InspectOptions {
    /// Model checkpoint: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Inspects and validates a checkpoint.
pub struct Inspect;

impl Program for Inspect {
    const NAME: &'static str = "scgpt-checkpoint inspect";
    const SUMMARY: &'static str =
        "Inspect an scGPT checkpoint: architecture, vocabulary, supported tasks and problems";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2945"],
        resources: INSPECTION,
        contents: &[("checkpoint", CHECKPOINT)],
    };
    type Options = InspectOptions;

    fn run(options: InspectOptions, _: &mut Run) -> Result<()> {
        let report = inspect::inspect(&options.checkpoint)?;
        let text = if options.json {
            serde_json::to_string_pretty(&report)?
        } else {
            report.to_string()
        };
        Ok(output::print(&format!("{}\n", text.trim_end()))?)
    }
}

/// Options of `scgpt-checkpoint convert`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct ConvertOptions {
    /// Model checkpoint: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Directory with the converted checkpoint. It must not exist yet, or be empty.
    #[arg(value_name = "OUT")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Weight format.
    #[arg(long)]
    pub to: Target,
    /// Names of the attention parameters in the file. Default: A for safetensors, B for pytorch.
    #[arg(long)]
    pub naming: Option<Naming>,
}

/// Naming scheme of the attention parameters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
pub enum Naming {
    /// self_attn.in_proj_weight, for PyTorch attention.
    #[value(name = "A")]
    A,
    /// self_attn.Wqkv.weight, for flash attention, as in the published models.
    #[value(name = "B")]
    B,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            checkpoint: PathBuf::new(),
            output: PathBuf::new(),
            to: Target::Safetensors,
            naming: None,
        }
    }
}

/// Converts a checkpoint between weight formats.
pub struct Convert;

impl Program for Convert {
    const NAME: &'static str = "scgpt-checkpoint convert";
    const SUMMARY: &'static str =
        "Convert an scGPT checkpoint to safetensors or to the original PyTorch format";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0335"],
        resources: INSPECTION,
        contents: &[("checkpoint", CHECKPOINT), ("output", CHECKPOINT)],
    };
    type Options = ConvertOptions;

    fn run(options: ConvertOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let attention = options.naming.map(|naming| match naming {
            Naming::A => Attention::A,
            Naming::B => Attention::B,
        });
        let source = convert::convert(&options.checkpoint, &options.output, options.to, attention)?;
        source.notes.iter().for_each(|note| run.note(note));
        run.input(&source.directory)?;
        run.output(&options.output)?;
        run.note(format!(
            "{} tensors written to `{}`",
            source.state.len(),
            options.output.display()
        ));
        Ok(())
    }
}
