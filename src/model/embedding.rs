//! Input encoders: gene and value embeddings (docs/methods.md, "Gene encoder" and "Value encoder").

use super::layers::{LayerNorm, Linear};
use super::noise::Noise;
use super::store::{Init, Store};
use crate::checkpoint::{Architecture, InputStyle};
use tch::{Kind, Tensor};

/// The continuous encoder clips larger values.
const MAX_VALUE: f64 = 512.0;

/// An embedding table and a layer norm, for genes, batches and modalities.
#[derive(Debug)]
pub struct GeneEncoder {
    embedding: Tensor,
    norm: LayerNorm,
    /// Row that never receives a gradient.
    padding: i64,
}

impl GeneEncoder {
    pub fn new(
        store: &mut Store,
        name: &str,
        (rows, dim): (i64, i64),
        init: Init,
        padding: Option<i64>,
    ) -> Self {
        Self {
            embedding: store.parameter(&format!("{name}.embedding.weight"), &[rows, dim], init),
            norm: LayerNorm::new(store, &format!("{name}.enc_norm"), dim),
            padding: padding.unwrap_or(-1),
        }
    }

    /// Ids `[tokens]` to vectors `[tokens, dim]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.norm.forward(&Tensor::embedding(
            &self.embedding,
            ids,
            self.padding,
            false,
            false,
        ))
    }
}

/// Expression values to vectors.
#[derive(Debug)]
pub enum ValueEncoder {
    /// A small network on the value as a number.
    Continuous {
        linear1: Linear,
        linear2: Linear,
        norm: LayerNorm,
    },
    /// A table with a row for every bin.
    Category(GeneEncoder),
    /// No encoder: the gene embedding is multiplied by the value.
    Scaling,
}

impl ValueEncoder {
    pub fn new(store: &mut Store, architecture: &Architecture) -> Self {
        let (name, dim) = ("value_encoder", architecture.embsize as i64);
        match architecture.input_emb_style {
            InputStyle::Continuous => Self::Continuous {
                linear1: Linear::new(store, &format!("{name}.linear1"), 1, dim),
                linear2: Linear::new(store, &format!("{name}.linear2"), dim, dim),
                norm: LayerNorm::new(store, &format!("{name}.norm"), dim),
            },
            InputStyle::Category => {
                let rows = architecture.n_bins as i64 + 2;
                let padding = Some(architecture.pad_value);
                Self::Category(GeneEncoder::new(
                    store,
                    name,
                    (rows, dim),
                    Init::Normal,
                    padding,
                ))
            }
            InputStyle::Scaling => Self::Scaling,
        }
    }

    /// Adds values `[tokens]` to gene embeddings `[tokens, dim]`.
    pub fn add_to(&self, genes: &Tensor, values: &Tensor, noise: &mut Noise) -> Tensor {
        match self {
            Self::Scaling => genes * values.to_kind(genes.kind()).unsqueeze(-1),
            _ => genes + noise.apply(self.forward(values)),
        }
    }

    /// Values `[tokens]` to vectors `[tokens, dim]`, before dropout.
    pub fn forward(&self, values: &Tensor) -> Tensor {
        match self {
            Self::Continuous {
                linear1,
                linear2,
                norm,
            } => {
                let x = values
                    .clamp_max(MAX_VALUE)
                    .to_kind(linear1.weight.kind())
                    .unsqueeze(-1);
                norm.forward(&linear2.forward(&linear1.forward(&x).relu()))
            }
            Self::Category(encoder) => encoder.forward(&values.to_kind(Kind::Int64)),
            Self::Scaling => values.unsqueeze(-1),
        }
    }
}

/// The flag of a token whose value is to be generated, in place of a value embedding.
#[derive(Debug)]
pub struct Flag(Tensor);

impl Flag {
    pub fn new(store: &mut Store, dim: i64) -> Self {
        Self(store.parameter("flag_encoder.weight", &[2, dim], Init::Normal))
    }

    /// Adds the flag to gene embeddings `[tokens, dim]`. Published tables have two rows, of which the second is the flag.
    pub fn add_to(&self, genes: &Tensor) -> Tensor {
        genes + self.0.get(1)
    }
}

/// One category per gene and cell, added to the others: a condition such as a pathway (the third input; paper, Methods,
/// "Condition tokens"), or the perturbation of the gene (docs/methods.md, "Perturbation tokens").
#[derive(Debug)]
pub struct ConditionEncoder(Tensor);

impl ConditionEncoder {
    /// A table of `rows` categories. Row 0 is that of genes without one: it starts at zero and is never trained.
    pub fn new(store: &mut Store, name: &str, rows: i64, dim: i64) -> Self {
        let name = format!("{name}.weight");
        Self(store.parameter(&name, &[rows, dim], Init::NormalAfterFirst))
    }

    /// Ids `[tokens]` to vectors `[tokens, dim]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.0, ids, 0, false, false)
    }
}
