//! Architecture options of models that are trained from scratch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Architecture, InputStyle};
use crate::vocabulary::PAD;

/// Architecture of a model that is trained from scratch.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Size {
    /// Number of transformer layers.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1, max = 96))]
    pub n_layers: usize,
    /// Embedding dimension of genes and cells.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 4, max = 8192))]
    pub embedding_dim: usize,
    /// Number of attention heads per layer; must divide the embedding dimension.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1, max = 128))]
    pub n_heads: usize,
    /// Dimension of the feed-forward network in each layer.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 1, max = 32768))]
    pub ffn_dim: usize,
    /// Value encoder, through which expression values enter the model.
    #[arg(long, hide_short_help = true)]
    pub value_encoding: ValueEncoding,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            n_layers: 4,
            embedding_dim: 128,
            n_heads: 4,
            ffn_dim: 128,
            value_encoding: ValueEncoding::Scaling,
        }
    }
}

/// Value encoder of a model from scratch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum ValueEncoding {
    /// A small network; its output is added to the gene embedding, as in the published models.
    Continuous,
    /// The gene embedding is multiplied by the value.
    Scaling,
}

impl Size {
    /// Conflict between options that are valid on their own.
    pub fn problem(&self) -> Option<String> {
        let Self {
            embedding_dim: width,
            n_heads: heads,
            ..
        } = self;
        (width % heads != 0)
            .then(|| format!("`--embedding-dim` {width} is not a multiple of `--n-heads` {heads}"))
    }

    pub fn architecture(&self, dropout: f64, n_bins: usize, max_length: usize) -> Architecture {
        Architecture {
            embsize: self.embedding_dim,
            nheads: self.n_heads,
            d_hid: self.ffn_dim,
            nlayers: self.n_layers,
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
