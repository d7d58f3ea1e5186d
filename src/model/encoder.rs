//! Transformer encoder: a stack of post-norm layers over embedded tokens (docs/methods.md, "Transformer layer").

use super::attention::{Attention, Sequences, Split};
use super::layers::{LayerNorm, Linear};
use super::noise::Noise;
use super::store::Store;
use crate::checkpoint::Architecture;
use tch::Tensor;

/// Tokens for which the last layer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputTokens {
    /// Every token.
    All,
    /// The first token of each cell, `<cls>`: the rest of the last layer is not computed.
    First,
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    linear1: Linear,
    linear2: Linear,
    norm1: LayerNorm,
    norm2: LayerNorm,
}

impl Layer {
    fn new(store: &mut Store, name: &str, architecture: &Architecture) -> Self {
        let (dim, hidden) = (architecture.embsize as i64, architecture.d_hid as i64);
        Self {
            attention: Attention::new(
                store,
                &format!("{name}.self_attn"),
                dim,
                architecture.nheads as i64,
            ),
            linear1: Linear::new(store, &format!("{name}.linear1"), dim, hidden),
            linear2: Linear::new(store, &format!("{name}.linear2"), hidden, dim),
            norm1: LayerNorm::new(store, &format!("{name}.norm1"), dim),
            norm2: LayerNorm::new(store, &format!("{name}.norm2"), dim),
        }
    }

    fn forward(&self, x: &Tensor, sequences: &Sequences, noise: &mut Noise) -> Tensor {
        self.finish(x, self.attention.forward(x, sequences), noise)
    }

    fn forward_first(&self, x: &Tensor, sequences: &Sequences, noise: &mut Noise) -> Tensor {
        let starts = Tensor::from_slice(&sequences.starts()).to_device(x.device());
        let first = x.index_select(0, &starts);
        let context = self.attention.forward_first(x, &first, sequences);
        self.finish(&first, context, noise)
    }

    fn forward_split(&self, x: &Tensor, split: &Split, noise: &mut Noise) -> Tensor {
        self.finish(x, self.attention.forward_split(x, split), noise)
    }

    fn finish(&self, x: &Tensor, context: Tensor, noise: &mut Noise) -> Tensor {
        let x = self.norm1.forward(&(x + noise.apply(context)));
        let hidden = noise.apply(self.linear1.forward(&x).relu());
        self.norm2
            .forward(&(&x + noise.apply(self.linear2.forward(&hidden))))
    }
}

/// The stack of layers.
#[derive(Debug)]
pub struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    pub fn new(store: &mut Store, architecture: &Architecture) -> Self {
        let layer = |i| {
            Layer::new(
                store,
                &format!("transformer_encoder.layers.{i}"),
                architecture,
            )
        };
        Self {
            layers: (0..architecture.nlayers).map(layer).collect(),
        }
    }

    /// Embedded tokens `[tokens, dim]` to the last layer's output: `[tokens, dim]`, or `[cells, dim]` for the first
    /// tokens.
    pub fn forward(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        wanted: OutputTokens,
        noise: &mut Noise,
    ) -> Tensor {
        let (last, before) = self
            .layers
            .split_last()
            .expect("a model has at least one layer");
        let x = before.iter().fold(x.shallow_clone(), |x, layer| {
            layer.forward(&x, sequences, noise)
        });
        match wanted {
            OutputTokens::All => last.forward(&x, sequences, noise),
            OutputTokens::First => last.forward_first(&x, sequences, noise),
        }
    }

    /// Perceived tokens, then generated ones, `[tokens, dim]`, to the last layer's output of the same shape.
    pub fn forward_split(&self, x: &Tensor, split: &Split, noise: &mut Noise) -> Tensor {
        let step = |x: Tensor, layer: &Layer| layer.forward_split(&x, split, noise);
        self.layers.iter().fold(x.shallow_clone(), step)
    }

    /// The output of every layer, first to last, `[tokens, dim]` each.
    pub fn hidden_states(&self, x: &Tensor, sequences: &Sequences) -> Vec<Tensor> {
        let mut x = x.shallow_clone();
        let step = |layer: &Layer| {
            x = layer.forward(&x, sequences, &mut Noise::off());
            x.shallow_clone()
        };
        self.layers.iter().map(step).collect()
    }

    /// Queries and keys of every token in some layers, counted from 0 and increasing, `[tokens, heads, head dim]` each.
    pub fn queries_and_keys(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        layers: &[usize],
    ) -> Vec<[Tensor; 2]> {
        let mut x = x.shallow_clone();
        let mut found = Vec::with_capacity(layers.len());
        for (at, layer) in self.layers.iter().enumerate() {
            if layers.contains(&at) {
                found.push(layer.attention.queries_and_keys(&x));
            }
            if layers.last().is_none_or(|last| *last <= at) {
                break;
            }
            x = layer.forward(&x, sequences, &mut Noise::off());
        }
        found
    }

    /// Attention weights of a layer for its input, `[heads, length, length]` per cell.
    pub fn attention(&self, layer: usize, x: &Tensor, lengths: &[i64]) -> Vec<Tensor> {
        self.layers[layer].attention.weights(x, lengths)
    }
}
