//! Training options.

use super::schedule::{Position, Schedule};
use crate::compute::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Training options shared by every program that trains.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Number of training epochs. Default: chosen from task, checkpoint and number of training examples; printed when training
    /// starts.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// Training examples per optimizer step: cells, or pseudobulks of cells. In distributed training, per process.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Training examples per forward pass. Gradients are accumulated over the batch: smaller values need less memory, and the
    /// result is the same up to rounding. Default: 4 on a CPU, --batch-size on a GPU.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1))]
    pub micro_batch_size: Option<usize>,
    /// Numerical precision of training. bf16 halves memory and is much faster on a GPU; weights are kept in f32.
    #[arg(long, hide_short_help = true)]
    pub precision: Precision,
    /// Peak learning rate. Default: 0.0001 with a pre-trained model; from scratch 0.001, or 0.0003 for perturbations.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub learning_rate: Option<f64>,
    /// Learning rate schedule.
    #[arg(long, hide_short_help = true)]
    pub lr_schedule: Schedule,
    /// Factor on the learning rate after every epoch, for --lr-schedule decay.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lr_decay: f64,
    /// Fraction of the training steps in which the learning rate rises to its peak, for --lr-schedule cosine.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// Dropout probability during training. Default: that of the pre-trained model; 0.1 from scratch and for perturbations.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: Option<f64>,
    /// Decoupled weight decay (AdamW); 0 uses plain Adam.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Epsilon of Adam. scGPT in Python uses 1e-8, or 1e-4 in half precision.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub adam_eps: f64,
    /// Decay of the exponential moving average (EMA) of the weights, which is validated and saved. It averages over about
    /// 1/(1-decay) steps, which stabilizes training on small data; 0 uses the weights of single steps, as scGPT in Python does.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 0.9999))]
    pub ema_decay: f64,
    /// Maximum gradient norm, to which larger gradients are scaled down (gradient clipping). Use a large value, not 0, to disable
    /// it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Stop after more than N epochs without a better validation loss; 0 never stops early.
    #[arg(long, hide_short_help = true)]
    pub patience: u64,
    /// Also validate every N steps, for large corpora with long epochs; 0 validates only after every epoch.
    #[arg(long, hide_short_help = true)]
    pub validate_every: u64,
    /// Write metrics every N steps; 0 writes them only at validation.
    #[arg(long, hide_short_help = true)]
    pub log_every: u64,
    /// Save the training state for --resume every N steps, and after every epoch.
    #[arg(long, hide_short_help = true)]
    #[schemars(extend("x-fingerprint" = false), range(min = 1))]
    pub save_every: u64,
    /// Resume an interrupted run from the training state in OUTPUT.partial. On a CPU the result is bit-identical to that of an
    /// uninterrupted run.
    #[arg(long)]
    #[schemars(extend("x-fingerprint" = false))]
    pub resume: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: None,
            batch_size: 32,
            micro_batch_size: None,
            precision: Precision::Auto,
            learning_rate: None,
            lr_schedule: Schedule::default(),
            lr_decay: 0.9,
            warmup: 0.1,
            dropout: None,
            weight_decay: 0.0,
            adam_eps: 1e-8,
            ema_decay: 0.995,
            max_grad_norm: 1.0,
            patience: 0,
            validate_every: 0,
            log_every: 0,
            save_every: 200,
            resume: false,
        }
    }
}

/// Defaults of options that depend on the data and the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub epochs: u64,
    pub learning_rate: f64,
    pub dropout: f64,
}

impl Options {
    /// The options with all defaults filled in.
    pub fn resolve(&self, defaults: Defaults) -> Plan {
        Plan {
            epochs: self.epochs.unwrap_or(defaults.epochs),
            learning_rate: self.learning_rate.unwrap_or(defaults.learning_rate),
            dropout: self.dropout.unwrap_or(defaults.dropout),
            options: self.clone(),
        }
    }
}

/// Options with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub epochs: u64,
    pub learning_rate: f64,
    pub dropout: f64,
    pub options: Options,
}

impl Plan {
    /// The learning rate at a position in the run.
    pub fn learning_rate_at(&self, at: Position) -> f64 {
        let Options {
            lr_schedule: schedule,
            lr_decay: decay,
            warmup,
            ..
        } = self.options;
        self.learning_rate * schedule.factor(at, decay, warmup)
    }
}
