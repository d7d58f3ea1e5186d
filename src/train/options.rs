//! How a model is trained, as a user sets it.

use super::schedule::{Position, Schedule};
use crate::compute::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Training settings shared by every program that trains.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// How many times the training cells are gone through. Default: 6 to 15 with a pre-trained model, depending on the task; from
    /// scratch the more the fewer cells there are, between 1 and 60. The number is told when training starts.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// Cells per optimiser step.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Cells that go through the model at once; the gradients of a batch are added up over such groups. Fewer need less
    /// memory, and what is learnt is the same up to rounding. Default: 4 on a CPU, the whole batch on a GPU.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub microbatch: Option<usize>,
    /// Number format of training: f32, or bf16, which halves memory and is much faster on a GPU; the weights themselves are
    /// kept in f32. auto takes bf16 on a GPU and f32 on a CPU.
    #[arg(long)]
    pub precision: Precision,
    /// Peak learning rate. Default: 0.0001 with a pre-trained model, 0.001 from scratch.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub learning_rate: Option<f64>,
    /// How the learning rate changes during the run.
    #[arg(long)]
    pub schedule: Schedule,
    /// Factor on the learning rate after every epoch (schedule decay).
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
    /// Share of the run over which the learning rate rises (schedule cosine).
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// Share of activations switched off at random while training, against learning by heart. Default: that of the pre-trained
    /// model, 0.1 from scratch.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: Option<f64>,
    /// Decoupled weight decay (AdamW); 0 is plain Adam.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Adam's epsilon. The reference uses 1e-8, and 1e-4 in half precision.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub adam_eps: f64,
    /// Validate and keep an average of the weights over the last steps, about 1 / (1 - this) of them, instead of the weights of
    /// one step; 0 keeps those of one step, as the reference does. Small data are learnt more evenly so.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9999))]
    pub average: f64,
    /// Largest norm of the gradient; larger ones are scaled down to it.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// Stop after this many epochs without a better validation loss; 0 never stops early.
    #[arg(long)]
    pub patience: u64,
    /// Validate every so many steps too, not only after every epoch, which takes days on large corpora; 0 does not.
    #[arg(long)]
    pub validate_every: u64,
    /// Write a line of metrics every so many steps; 0 writes one for every validation only.
    #[arg(long)]
    pub log_every: u64,
    /// Write the state of the run every so many steps, and after every epoch.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub save_every: u64,
    /// Go on with the interrupted run whose state lies in the output folder. The result is the same, bit for bit on a CPU, as
    /// that of a run that was never interrupted.
    #[arg(long)]
    pub resume: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: None,
            batch_size: 32,
            microbatch: None,
            precision: Precision::Auto,
            learning_rate: None,
            schedule: Schedule::default(),
            decay: 0.9,
            warmup: 0.1,
            dropout: None,
            weight_decay: 0.0,
            adam_eps: 1e-8,
            average: 0.995,
            clip: 1.0,
            patience: 0,
            validate_every: 0,
            log_every: 0,
            save_every: 200,
            resume: false,
        }
    }
}

/// What the options leave open, settled by whoever knows the data and the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    pub epochs: u64,
    pub learning_rate: f64,
    pub dropout: f64,
}

impl Options {
    /// The same options with nothing left open.
    pub fn settle(&self, usual: Usual) -> Plan {
        Plan {
            epochs: self.epochs.unwrap_or(usual.epochs),
            learning_rate: self.learning_rate.unwrap_or(usual.learning_rate),
            dropout: self.dropout.unwrap_or(usual.dropout),
            options: self.clone(),
        }
    }
}

/// Options with nothing left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub epochs: u64,
    pub learning_rate: f64,
    pub dropout: f64,
    pub options: Options,
}

impl Plan {
    /// The learning rate at a place in the run.
    pub fn learning_rate_at(&self, at: Position) -> f64 {
        let Options {
            schedule,
            decay,
            warmup,
            ..
        } = self.options;
        self.learning_rate * schedule.factor(at, decay, warmup)
    }
}
