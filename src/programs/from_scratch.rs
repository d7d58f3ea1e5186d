//! The size of a model that is trained from scratch, for every program that can.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Architecture, InputStyle};
use crate::vocabulary::PAD;

/// Size of a model that is trained from scratch.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Size {
    /// Number of transformer layers: more learn more, more slowly.
    #[arg(long)]
    #[schemars(range(min = 1, max = 96))]
    pub layers: usize,
    /// Width of the vectors that stand for genes and cells.
    #[arg(long)]
    #[schemars(range(min = 4, max = 8192))]
    pub width: usize,
    /// Attention heads of each layer; the width must be a multiple of them.
    #[arg(long)]
    #[schemars(range(min = 1, max = 128))]
    pub heads: usize,
    /// Width of the feed-forward network inside each layer.
    #[arg(long)]
    #[schemars(range(min = 1, max = 32768))]
    pub hidden: usize,
    /// How the value of a gene enters the model.
    #[arg(long)]
    pub value_encoding: ValueEncoding,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            layers: 4,
            width: 128,
            heads: 4,
            hidden: 128,
            value_encoding: ValueEncoding::Scaling,
        }
    }
}

/// How the value of a gene enters a model from scratch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum ValueEncoding {
    /// Through a small network whose output is added to the gene's vector, as published models do.
    Continuous,
    /// As a factor of the gene's vector.
    Scaling,
}

impl Size {
    /// What is wrong with sizes that are valid one by one.
    pub fn problem(&self) -> Option<String> {
        let Self { width, heads, .. } = self;
        (width % heads != 0)
            .then(|| format!("`--width` {width} is not a multiple of `--heads` {heads}"))
    }

    pub fn architecture(&self, dropout: f64, n_bins: usize, max_length: usize) -> Architecture {
        Architecture {
            embsize: self.width,
            nheads: self.heads,
            d_hid: self.hidden,
            nlayers: self.layers,
            n_layers_cls: 3,
            dropout,
            pad_token: PAD.into(),
            pad_value: -2,
            mask_value: -1,
            n_bins,
            input_emb_style: self.value_encoding.style(),
            max_seq_len: max_length,
        }
    }
}

impl ValueEncoding {
    fn style(self) -> InputStyle {
        match self {
            Self::Continuous => InputStyle::Continuous,
            Self::Scaling => InputStyle::Scaling,
        }
    }
}
