//! The assembled model: front-ends, trunk and the heads that an architecture or a task asks for (reference section 4).

use super::attention::{Sequences, Split};
use super::embedding::{ConditionEncoder, Flag, GeneEncoder, ValueEncoder};
use super::encoder::{Encoder, Width};
use super::heads::{Activation, CellDecoder, ClassDecoder, ExpressionDecoder};
use super::noise::Noise;
use super::norm::PlainNorm;
use super::store::{Init, Store};
use crate::checkpoint::{self, Architecture};
use tch::{Device, Kind, Tensor};

/// Which heads a model has beside its trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heads {
    /// Cell types of the classifier.
    pub classes: Option<usize>,
    /// Expression of masked tokens (GEP).
    pub expression: bool,
    /// Expression from the cell embedding (GEPC).
    pub cell_expression: bool,
    /// Batches of the discriminator (DAR).
    pub batches: Option<usize>,
    /// A plain batch norm before the trunk, as checkpoints of 2023 have it.
    pub plain_norm: bool,
    /// The mark of tokens whose value is to be generated.
    pub generative: bool,
    /// Conditions of a gene in a cell that the third input tells apart.
    pub conditions: Option<usize>,
}

impl Heads {
    /// The heads that a checkpoint holds weights for.
    pub fn of(stored: &checkpoint::Heads) -> Self {
        Self {
            classes: stored.classes.map(|classifier| classifier.outputs),
            expression: stored.expression,
            cell_expression: stored.mvc.is_some(),
            batches: stored.discriminator.map(|classifier| classifier.outputs),
            plain_norm: stored.batch_norm,
            generative: stored.flag_encoder,
            conditions: stored.conditions,
        }
    }
}

/// The table of gene vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genes {
    /// Vectors, one for every token of the vocabulary.
    pub rows: i64,
    /// The id of `<pad>`, whose vector is never trained.
    pub pad: Option<i64>,
}

/// Tokens of some cells.
#[derive(Debug)]
pub struct Inputs {
    /// Vocabulary ids, `[tokens]` int64.
    pub gene_ids: Tensor,
    /// Values, `[tokens]` f32.
    pub values: Tensor,
    pub sequences: Sequences,
    /// Condition of every gene in its cell, `[tokens]` int64, 0 for none; absent where the model has no third input.
    pub conditions: Option<Tensor>,
}

/// Tokens of some cells of which the model is to tell the values of a part.
#[derive(Debug)]
pub struct SplitInputs {
    /// Vocabulary ids of the perceived tokens, then of the generated ones, `[tokens]` int64.
    pub gene_ids: Tensor,
    /// Values of the perceived tokens, `[perceived]` f32.
    pub values: Tensor,
    /// As in [`Inputs`], in the order of `gene_ids`.
    pub conditions: Option<Tensor>,
    pub split: Split,
}

impl SplitInputs {
    /// The perceived genes and values, and the genes to generate, of each cell as tensors.
    pub fn new<'t>(
        perceived: impl ExactSizeIterator<Item = (&'t [i64], &'t [f32])> + Clone,
        generated: impl ExactSizeIterator<Item = &'t [i64]> + Clone,
        device: Device,
    ) -> Self {
        let lengths = perceived.clone().map(|(genes, _)| genes.len() as i64);
        let asked = generated.clone().map(|genes| genes.len() as i64);
        let split = Split::new(lengths.collect(), asked.collect(), device);
        let known = perceived.clone().map(|(genes, _)| genes);
        let genes: Vec<i64> = known.chain(generated).flatten().copied().collect();
        let values: Vec<f32> = perceived.flat_map(|(_, values)| values).copied().collect();
        Self {
            gene_ids: Tensor::from_slice(&genes).to_device(device),
            values: Tensor::from_slice(&values).to_device(device),
            conditions: None,
            split,
        }
    }
}

/// What the trunk made of them.
#[derive(Debug)]
pub struct Generated {
    /// Gene vectors of the generated tokens before anything was added, `[generated, width]`.
    pub genes: Tensor,
    /// Contextualised perceived tokens, `[perceived, width]`.
    pub perceived: Tensor,
    /// Contextualised generated tokens, `[generated, width]`.
    pub hidden: Tensor,
    /// The `<cls>` token of each cell, `[cells, width]`.
    pub cells: Tensor,
}

impl Inputs {
    /// The genes and values of each cell as tensors.
    pub fn new<'t>(
        cells: impl ExactSizeIterator<Item = (&'t [i64], &'t [f32])> + Clone,
        device: Device,
    ) -> Self {
        let lengths: Vec<i64> = cells.clone().map(|(genes, _)| genes.len() as i64).collect();
        let genes: Vec<i64> = cells
            .clone()
            .flat_map(|(genes, _)| genes.iter().copied())
            .collect();
        let values: Vec<f32> = cells
            .flat_map(|(_, values)| values.iter().copied())
            .collect();
        Self {
            gene_ids: Tensor::from_slice(&genes).to_device(device),
            values: Tensor::from_slice(&values).to_device(device),
            sequences: Sequences::new(lengths, device),
            conditions: None,
        }
    }
}

/// What the trunk made of them.
#[derive(Debug)]
pub struct Encoded {
    /// Gene vectors before values were added, `[tokens, width]`.
    pub genes: Tensor,
    /// Contextualised tokens, `[tokens, width]`; the first of each cell only if no more was asked for.
    pub hidden: Tensor,
    /// The `<cls>` token of each cell, `[cells, width]`.
    pub cells: Tensor,
}

/// How a cell embedding is made of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The `<cls>` token.
    Cls,
    /// The mean of all tokens that are not pads (quirk Q18: the reference averages pads too).
    Mean,
    /// The mean weighted by the values, normalised to length 1.
    Weighted,
}

#[derive(Debug)]
pub struct Model {
    gene_encoder: GeneEncoder,
    value_encoder: ValueEncoder,
    norm: Option<PlainNorm>,
    flag: Option<Flag>,
    conditions: Option<ConditionEncoder>,
    encoder: Encoder,
    pub expression: Option<ExpressionDecoder>,
    pub classifier: Option<ClassDecoder>,
    pub cell_expression: Option<CellDecoder>,
    pub discriminator: Option<ClassDecoder>,
}

impl Model {
    /// Builds the model on a store: new tensors are initialised there, those already there are used.
    pub fn new(store: &mut Store, architecture: &Architecture, genes: Genes, heads: Heads) -> Self {
        let width = architecture.embsize as i64;
        let layers = architecture.n_layers_cls;
        let classifier = |store: &mut Store, name: &str, classes: usize, activation| {
            ClassDecoder::new(store, name, layers, (width, classes as i64), activation)
        };
        Self {
            gene_encoder: GeneEncoder::new(
                store,
                "encoder",
                (genes.rows, width),
                Init::Uniform(0.1),
                genes.pad,
            ),
            value_encoder: ValueEncoder::new(store, architecture),
            norm: heads.plain_norm.then(|| PlainNorm::new(store, "bn", width)),
            flag: heads.generative.then(|| Flag::new(store, width)),
            conditions: heads
                .conditions
                .map(|n| ConditionEncoder::new(store, n as i64, width)),
            encoder: Encoder::new(store, architecture),
            expression: heads
                .expression
                .then(|| ExpressionDecoder::new(store, "decoder", width, width, false)),
            classifier: heads
                .classes
                .map(|k| classifier(store, "cls_decoder", k, Activation::Relu)),
            cell_expression: heads
                .cell_expression
                .then(|| CellDecoder::new(store, "mvc_decoder", width, width, false)),
            discriminator: heads.batches.map(|n| {
                classifier(
                    store,
                    "grad_reverse_discriminator",
                    n,
                    Activation::LeakyRelu,
                )
            }),
        }
    }

    /// Gene vectors and embedded tokens, the trunk's input, `[tokens, width]` each.
    pub fn embed(&self, inputs: &Inputs, noise: &mut Noise) -> (Tensor, Tensor) {
        let genes = self.gene_encoder.forward(&inputs.gene_ids);
        let tokens = self.value_encoder.add_to(&genes, &inputs.values, noise);
        (genes, self.finish(tokens, inputs.conditions.as_ref()))
    }

    /// Adds conditions and normalises, where the model does.
    fn finish(&self, mut tokens: Tensor, conditions: Option<&Tensor>) -> Tensor {
        if let (Some(encoder), Some(conditions)) = (&self.conditions, conditions) {
            tokens += encoder.forward(conditions);
        }
        match &self.norm {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        }
    }

    /// Contextualises perceived and generated tokens; given cell embeddings `[cells, width]` take the place of the `<cls>`
    /// tokens, the first perceived of each cell (reference section 7.1).
    pub fn generate(
        &self,
        inputs: &SplitInputs,
        cells: Option<&Tensor>,
        noise: &mut Noise,
    ) -> Generated {
        let sizes = [
            inputs.split.perceived.tokens(),
            inputs.split.generated.tokens(),
        ];
        let starts = Tensor::from_slice(&inputs.split.perceived.starts())
            .to_device(inputs.gene_ids.device());
        let genes = self.gene_encoder.forward(&inputs.gene_ids);
        let [known, asked] =
            [0, 1].map(|part| genes.split_with_sizes(sizes, 0)[part].shallow_clone());
        let flag = self
            .flag
            .as_ref()
            .expect("a generative model marks what it is asked for");
        let tokens = [
            self.value_encoder.add_to(&known, &inputs.values, noise),
            flag.add_to(&asked),
        ];
        let mut tokens = self.finish(Tensor::cat(&tokens, 0), inputs.conditions.as_ref());
        if let Some(cells) = cells {
            tokens = tokens.index_copy(0, &starts, &cells.to_kind(tokens.kind()));
        }
        let hidden = self.encoder.forward_split(&tokens, &inputs.split, noise);
        let mut parts = hidden.split_with_sizes(sizes, 0);
        let (hidden, perceived) = (parts.remove(1), parts.remove(0));
        Generated {
            genes: asked,
            cells: perceived.index_select(0, &starts),
            perceived,
            hidden,
        }
    }

    pub fn encode(&self, inputs: &Inputs, wanted: Width, noise: &mut Noise) -> Encoded {
        let (genes, tokens) = self.embed(inputs, noise);
        let hidden = self
            .encoder
            .forward(&tokens, &inputs.sequences, wanted, noise);
        let cells = match wanted {
            Width::FirstToken => hidden.shallow_clone(),
            Width::AllTokens => hidden.index_select(
                0,
                &Tensor::from_slice(&inputs.sequences.starts()).to_device(hidden.device()),
            ),
        };
        Encoded {
            genes,
            hidden,
            cells,
        }
    }

    pub fn trunk(&self) -> &Encoder {
        &self.encoder
    }
}

impl Encoded {
    /// Cell embeddings of ragged cells, `[cells, width]`; `values` are the tokens' input values.
    pub fn pool(&self, pooling: Pooling, values: &Tensor, lengths: &[i64]) -> Tensor {
        let pooled = |hidden: Tensor, values: Tensor| match pooling {
            Pooling::Cls => hidden.select(0, 0),
            Pooling::Mean => hidden.mean_dim([0i64].as_slice(), false, Kind::Float),
            Pooling::Weighted => {
                let sum = (hidden * values.unsqueeze(-1)).sum_dim_intlist(
                    [0i64].as_slice(),
                    false,
                    Kind::Float,
                );
                &sum / sum.norm().clamp_min(1e-12)
            }
        };
        let parts = self
            .hidden
            .split_with_sizes(lengths, 0)
            .into_iter()
            .zip(values.split_with_sizes(lengths, 0));
        Tensor::stack(
            &parts
                .map(|(hidden, values)| pooled(hidden, values))
                .collect::<Vec<_>>(),
            0,
        )
    }
}
