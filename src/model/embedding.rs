//! The front-ends: what a gene is, and how much of it there is (reference section 3).

use super::layers::{LayerNorm, Linear};
use super::noise::Noise;
use super::store::{Init, Store};
use crate::checkpoint::{Architecture, InputStyle};
use tch::{Kind, Tensor};

/// Largest value the continuous encoder tells apart.
const MAX_VALUE: f64 = 512.0;

/// A table of vectors and a layer norm: genes, batches and modalities are all encoded so.
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
        (rows, width): (i64, i64),
        init: Init,
        padding: Option<i64>,
    ) -> Self {
        Self {
            embedding: store.parameter(&format!("{name}.embedding.weight"), &[rows, width], init),
            norm: LayerNorm::new(store, &format!("{name}.enc_norm"), width),
            padding: padding.unwrap_or(-1),
        }
    }

    /// Ids `[tokens]` to vectors `[tokens, width]`.
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
    /// No encoder: the gene vector is multiplied by the value.
    Scaling,
}

impl ValueEncoder {
    pub fn new(store: &mut Store, architecture: &Architecture) -> Self {
        let (name, width) = ("value_encoder", architecture.embsize as i64);
        match architecture.input_emb_style {
            InputStyle::Continuous => Self::Continuous {
                linear1: Linear::new(store, &format!("{name}.linear1"), 1, width),
                linear2: Linear::new(store, &format!("{name}.linear2"), width, width),
                norm: LayerNorm::new(store, &format!("{name}.norm"), width),
            },
            InputStyle::Category => {
                let rows = architecture.n_bins as i64 + 2;
                let padding = Some(architecture.pad_value);
                Self::Category(GeneEncoder::new(
                    store,
                    name,
                    (rows, width),
                    Init::Normal,
                    padding,
                ))
            }
            InputStyle::Scaling => Self::Scaling,
        }
    }

    /// Adds values `[tokens]` to gene vectors `[tokens, width]`.
    pub fn add_to(&self, genes: &Tensor, values: &Tensor, noise: &mut Noise) -> Tensor {
        match self {
            Self::Scaling => genes * values.to_kind(genes.kind()).unsqueeze(-1),
            _ => genes + noise.apply(self.forward(values)),
        }
    }

    /// Values `[tokens]` to vectors `[tokens, width]`, before dropout.
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

/// The mark of a token whose value is to be generated; it stands where others have their value.
#[derive(Debug)]
pub struct Flag(Tensor);

impl Flag {
    pub fn new(store: &mut Store, width: i64) -> Self {
        Self(store.parameter("flag_encoder.weight", &[2, width], Init::Normal))
    }

    /// Marks gene vectors `[tokens, width]`. Published tables have two rows, of which the second is the mark.
    pub fn add_to(&self, genes: &Tensor) -> Tensor {
        genes + self.0.get(1)
    }
}

/// One category per gene and cell, added to the others: a condition such as a pathway (the third input; paper, Methods,
/// "Condition tokens"), or what was done to the gene (reference section 5).
#[derive(Debug)]
pub struct ConditionEncoder(Tensor);

impl ConditionEncoder {
    /// A table of `rows` categories. Row 0 is that of genes without one: it starts at zero and is never trained.
    pub fn new(store: &mut Store, name: &str, rows: i64, width: i64) -> Self {
        let name = format!("{name}.weight");
        Self(store.parameter(&name, &[rows, width], Init::NormalAfterFirst))
    }

    /// Ids `[tokens]` to vectors `[tokens, width]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.0, ids, 0, false, false)
    }
}
