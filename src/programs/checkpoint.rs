//! `scgpt-checkpoint inspect` and `scgpt-checkpoint convert`: what a checkpoint is, and the same in another form.

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
    /// Folder with args.json, vocab.json and weights, or the name of one in a folder of SCGPT_MODELS.
    #[arg(value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Says what a checkpoint is and what is wrong with it.
pub struct Inspect;

impl Program for Inspect {
    const NAME: &'static str = "scgpt-checkpoint inspect";
    const SUMMARY: &'static str =
        "Say what a model is, what it can be used for, and what is wrong with it";
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
    /// Folder with args.json, vocab.json and weights, or the name of one in a folder of SCGPT_MODELS.
    #[arg(value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// New folder to write.
    #[arg(value_name = "OUT")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Form of the weights: safetensors, which everything reads, or the reference's own best_model.pt.
    #[arg(long)]
    pub to: Target,
    /// Names of the attention tensors: A as plain PyTorch has them, B as the released checkpoints. Default: A for safetensors,
    /// B for the reference.
    #[arg(long)]
    pub layout: Option<Naming>,
}

/// Names of the attention tensors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
pub enum Naming {
    /// As plain PyTorch names them.
    #[value(name = "A")]
    A,
    /// As the released checkpoints name them.
    #[value(name = "B")]
    B,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            checkpoint: PathBuf::new(),
            output: PathBuf::new(),
            to: Target::Safetensors,
            layout: None,
        }
    }
}

/// Writes a checkpoint in another form.
pub struct Convert;

impl Program for Convert {
    const NAME: &'static str = "scgpt-checkpoint convert";
    const SUMMARY: &'static str = "Write a model as safetensors, or in the reference's own format";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0335"],
        resources: INSPECTION,
        contents: &[("checkpoint", CHECKPOINT), ("output", CHECKPOINT)],
    };
    type Options = ConvertOptions;

    fn run(options: ConvertOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        let attention = options.layout.map(|naming| match naming {
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
