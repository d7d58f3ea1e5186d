//! The scGPT model: input encoders, transformer and the output heads of an architecture or a task (docs/methods.md, "Model";
//! `TransformerModel.forward` in `scgpt/model/model.py`).

use super::attention::{Sequences, Split};
use super::embedding::{ConditionEncoder, Flag, GeneEncoder, ValueEncoder};
use super::encoder::{Encoder, OutputTokens};
use super::heads::{Activation, AffineDecoder, CellDecoder, ClassDecoder, ExpressionDecoder, Line};
use super::noise::Noise;
use super::norm::{DomainNorm, Moments, PlainNorm};
use super::store::{Init, Store};
use crate::checkpoint::{self, Architecture};
use tch::{Device, Kind, Tensor};

/// The output heads and optional inputs of a model, in addition to its backbone.
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
    /// A plain batch norm before the transformer, as checkpoints of 2023 have it.
    pub plain_norm: bool,
    /// The mark of tokens whose value is to be generated.
    pub generative: bool,
    /// Conditions of a gene in a cell that the third input distinguishes.
    pub conditions: Option<usize>,
    /// Both expression heads also predict the probability that a value is not zero.
    pub zero_probability: bool,
    /// Batches that the expression heads are conditioned on.
    pub batch_labels: Option<usize>,
    /// Batches with their own normalization of the embedded tokens (DSBN).
    pub domain_norm: Option<usize>,
    /// Modalities of tokens, the special ones included, that the expression heads are conditioned on.
    pub modalities: Option<usize>,
    /// The queries of the GEPC head are conditioned on batch and modality too, as in the multi-omic model of the original
    /// implementation.
    pub conditioned_query: bool,
    /// The input with the perturbation of each gene.
    pub perturbation: bool,
    /// Expression of every token as an affine function of its value.
    pub affine_expression: Option<Line>,
}

impl Heads {
    /// The backbone alone.
    pub const NONE: Self = Self {
        classes: None,
        expression: false,
        cell_expression: false,
        batches: None,
        plain_norm: false,
        generative: false,
        conditions: None,
        zero_probability: false,
        batch_labels: None,
        domain_norm: None,
        modalities: None,
        conditioned_query: false,
        perturbation: false,
        affine_expression: None,
    };

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
            zero_probability: stored.zero_probability,
            batch_labels: stored.batch_labels,
            domain_norm: stored.domain_norm.map(|norm| norm.domains),
            modalities: stored.modalities,
            conditioned_query: stored.mvc.is_some_and(|mvc| mvc.conditioned_query),
            perturbation: stored.perturbation_flags.is_some(),
            affine_expression: stored.affine_expression.then(Line::default),
        }
    }

    /// Whether the expression heads are conditioned on more than the hidden state.
    fn is_conditioned(&self) -> bool {
        self.batch_labels.is_some() || self.modalities.is_some()
    }
}

/// The table of gene embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genes {
    /// Embeddings, one for every token of the vocabulary.
    pub rows: i64,
    /// The id of `<pad>`, whose embedding is never trained.
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
    /// Batch of every cell, on which the expression heads are conditioned, for models with batch labels.
    pub batches: Option<Vec<i64>>,
    /// Batch of every cell whose statistics normalize its tokens, for models with DSBN.
    pub domains: Option<Vec<i64>>,
    /// Modality of every token, `[tokens]` int64, for models with modalities.
    pub modalities: Option<Tensor>,
    /// Perturbation of every gene, for perturbation models.
    pub perturbed: Option<Perturbed>,
}

/// Perturbations of genes.
#[derive(Debug)]
pub struct Perturbed {
    /// Of every token, `[tokens]` int64: 0 unperturbed, 1 knocked out or down (or perturbed, in models with one flag), 2
    /// overexpressed.
    pub flags: Tensor,
    /// Dose, `[tokens]` f32; 1 where absent.
    pub doses: Option<Tensor>,
}

/// Rows of the table of perturbation flags.
const PERTURBATION_FLAGS: i64 = 3;

/// Tokens of some cells, for a part of which the model predicts the values.
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
        let requested = generated.clone().map(|genes| genes.len() as i64);
        let split = Split::new(lengths.collect(), requested.collect(), device);
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

/// Outputs of the transformer for perceived and generated tokens.
#[derive(Debug)]
pub struct Generated {
    /// Gene embeddings of the generated tokens before anything was added, `[generated, dim]`.
    pub genes: Tensor,
    /// Contextualized perceived tokens, `[perceived, dim]`.
    pub perceived: Tensor,
    /// Contextualized generated tokens, `[generated, dim]`.
    pub hidden: Tensor,
    /// The `<cls>` token of each cell, `[cells, dim]`.
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
            batches: None,
            domains: None,
            modalities: None,
            perturbed: None,
        }
    }
}

/// Predicted values of tokens `[tokens]` and, if the head has it, the probability of each not being zero.
pub type Predictions = (Tensor, Option<Tensor>);

/// Outputs of the transformer.
#[derive(Debug)]
pub struct Encoded {
    /// Gene embeddings before values were added, `[tokens, dim]`.
    pub genes: Tensor,
    /// Contextualized tokens, `[tokens, dim]`; the first of each cell only with [`OutputTokens::First`].
    pub hidden: Tensor,
    /// The `<cls>` token of each cell, `[cells, dim]`.
    pub cells: Tensor,
}

/// How token outputs are pooled into a cell embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The `<cls>` token.
    Cls,
    /// The mean of all tokens that are not pads (docs/methods.md, "Cell embedding"; the original implementation averages pads
    /// too).
    Mean,
    /// The mean weighted by the values, normalized to length 1.
    Weighted,
}

#[derive(Debug)]
pub struct Model {
    gene_encoder: GeneEncoder,
    value_encoder: ValueEncoder,
    norm: Option<PlainNorm>,
    domain_norm: Option<DomainNorm>,
    batch_encoder: Option<GeneEncoder>,
    modality_encoder: Option<GeneEncoder>,
    conditioned_query: bool,
    flag: Option<Flag>,
    conditions: Option<ConditionEncoder>,
    perturbation: Option<ConditionEncoder>,
    encoder: Encoder,
    pub expression: Option<ExpressionDecoder>,
    pub classifier: Option<ClassDecoder>,
    pub cell_expression: Option<CellDecoder>,
    pub discriminator: Option<ClassDecoder>,
    affine: Option<AffineDecoder>,
}

impl Model {
    /// Builds the model on a store: new tensors are initialized there, those already there are used.
    pub fn new(store: &mut Store, architecture: &Architecture, genes: Genes, heads: Heads) -> Self {
        let dim = architecture.embsize as i64;
        let layers = architecture.n_layers_cls;
        let classifier = |store: &mut Store, name: &str, classes: usize, activation| {
            ClassDecoder::new(store, name, layers, (dim, classes as i64), activation)
        };
        let table = |store: &mut Store, name: &str, rows: usize| {
            GeneEncoder::new(store, name, (rows as i64, dim), Init::Normal, None)
        };
        let conditioned = if heads.is_conditioned() { 2 * dim } else { dim };
        let query = if heads.conditioned_query {
            conditioned
        } else {
            dim
        };
        let explicit_zero = heads.zero_probability;
        Self {
            gene_encoder: GeneEncoder::new(
                store,
                "encoder",
                (genes.rows, dim),
                Init::Uniform(0.1),
                genes.pad,
            ),
            value_encoder: ValueEncoder::new(store, architecture),
            norm: heads.plain_norm.then(|| PlainNorm::new(store, "bn", dim)),
            domain_norm: heads.domain_norm.map(|n| DomainNorm::new(store, n, dim)),
            batch_encoder: heads.batch_labels.map(|n| table(store, "batch_encoder", n)),
            modality_encoder: heads.modalities.map(|n| table(store, "mod_encoder", n)),
            conditioned_query: heads.conditioned_query,
            flag: heads.generative.then(|| Flag::new(store, dim)),
            conditions: heads
                .conditions
                .map(|n| ConditionEncoder::new(store, "condition_encoder", n as i64 + 1, dim)),
            perturbation: heads
                .perturbation
                .then(|| ConditionEncoder::new(store, "pert_encoder", PERTURBATION_FLAGS, dim)),
            encoder: Encoder::new(store, architecture),
            expression: heads
                .expression
                .then(|| ExpressionDecoder::new(store, "decoder", conditioned, dim, explicit_zero)),
            classifier: heads
                .classes
                .map(|k| classifier(store, "cls_decoder", k, Activation::Relu)),
            cell_expression: heads
                .cell_expression
                .then(|| CellDecoder::new(store, "mvc_decoder", query, conditioned, explicit_zero)),
            discriminator: heads.batches.map(|n| {
                classifier(
                    store,
                    "grad_reverse_discriminator",
                    n,
                    Activation::LeakyRelu,
                )
            }),
            affine: heads
                .affine_expression
                .map(|line| AffineDecoder::new(store, "decoder", dim, explicit_zero, line)),
        }
    }

    /// Gene embeddings and embedded tokens, the input of the transformer, `[tokens, dim]` each. DSBN uses the statistics of the
    /// given moments, or its running ones.
    pub fn embed(
        &self,
        inputs: &Inputs,
        moments: Option<&Moments>,
        noise: &mut Noise,
    ) -> (Tensor, Tensor) {
        let (genes, tokens) = self.join(inputs, noise);
        let tokens = match (&self.domain_norm, &inputs.domains) {
            (Some(norm), Some(domains)) => {
                norm.forward(&tokens, (domains, &inputs.sequences), moments)
            }
            _ => tokens,
        };
        (genes, tokens)
    }

    /// The moments of the embedded tokens of some cells, batch by batch, for DSBN.
    pub fn moments(&self, inputs: &Inputs, noise: &mut Noise) -> Option<Tensor> {
        let (norm, domains) = (self.domain_norm.as_ref()?, inputs.domains.as_ref()?);
        let (_, tokens) = self.join(inputs, noise);
        Some(norm.moments(&tokens, (domains, &inputs.sequences)))
    }

    /// Gene embeddings, and their sum with the embeddings of values and perturbations, before DSBN.
    fn join(&self, inputs: &Inputs, noise: &mut Noise) -> (Tensor, Tensor) {
        let genes = self.gene_encoder.forward(&inputs.gene_ids);
        let mut tokens = self.value_encoder.add_to(&genes, &inputs.values, noise);
        if let (Some(encoder), Some(perturbed)) = (&self.perturbation, &inputs.perturbed) {
            let perturbation = encoder.forward(&perturbed.flags);
            tokens += match &perturbed.doses {
                Some(doses) => perturbation * doses.unsqueeze(-1),
                None => perturbation,
            };
        }
        (genes, self.finish(tokens, inputs.conditions.as_ref()))
    }

    /// Moves the running statistics of DSBN toward those of a minibatch.
    pub fn learn_moments(&self, moments: &Moments) {
        if let Some(norm) = &self.domain_norm {
            norm.learn(moments);
        }
    }

    /// Sets the statistics of DSBN to those of the given moments.
    pub fn set_moments(&self, moments: &Moments) {
        if let Some(norm) = &self.domain_norm {
            norm.set(moments);
        }
    }

    /// Gene embeddings by id, `[tokens, dim]`.
    pub fn gene_embeddings(&self, ids: &Tensor) -> Tensor {
        self.gene_encoder.forward(ids)
    }

    /// Values of all tokens predicted from their own hidden state (GEP).
    pub fn predict_expression(&self, encoded: &Encoded, inputs: &Inputs) -> Option<Predictions> {
        if let Some(decoder) = &self.affine {
            let x = &encoded.hidden;
            let values = decoder.forward(x, &inputs.values, || mean_of_cells(inputs));
            return Some((values, decoder.nonzero_probability(x)));
        }
        let decoder = self.expression.as_ref()?;
        let hidden = concat(&encoded.hidden, self.condition_of_tokens(inputs));
        Some((
            decoder.forward(&hidden),
            decoder.nonzero_probability(&hidden),
        ))
    }

    /// Values of all tokens predicted from the cell embedding (GEPC).
    pub fn predict_from_cell(&self, encoded: &Encoded, inputs: &Inputs) -> Option<Predictions> {
        let decoder = self.cell_expression.as_ref()?;
        let cells = concat(&encoded.cells, self.condition_of_cells(inputs));
        let genes = match self.conditioned_query {
            true => concat(&encoded.genes, self.condition_of_tokens(inputs)),
            false => encoded.genes.shallow_clone(),
        };
        Some(decoder.forward(&genes, &inputs.sequences.spread(&cells)))
    }

    /// Batch and modality of every token, `[tokens, dim]`, for models that are conditioned on them.
    fn condition_of_tokens(&self, inputs: &Inputs) -> Option<Tensor> {
        let batches = self.batch_vectors(inputs);
        let batches = batches.map(|batches| inputs.sequences.spread(&batches));
        sum(batches, self.modality_vectors(inputs))
    }

    /// Batch of every cell and modality of its first token, `[cells, dim]`.
    fn condition_of_cells(&self, inputs: &Inputs) -> Option<Tensor> {
        let first = |modalities: Tensor| {
            let starts = Tensor::from_slice(&inputs.sequences.starts());
            modalities.index_select(0, &starts.to_device(modalities.device()))
        };
        sum(
            self.batch_vectors(inputs),
            self.modality_vectors(inputs).map(first),
        )
    }

    fn batch_vectors(&self, inputs: &Inputs) -> Option<Tensor> {
        let ids = Tensor::from_slice(inputs.batches.as_ref()?);
        let encoder = self.batch_encoder.as_ref()?;
        Some(encoder.forward(&ids.to_device(inputs.gene_ids.device())))
    }

    fn modality_vectors(&self, inputs: &Inputs) -> Option<Tensor> {
        let encoder = self.modality_encoder.as_ref()?;
        Some(encoder.forward(inputs.modalities.as_ref()?))
    }

    /// Adds conditions and normalizes, where the model does.
    fn finish(&self, mut tokens: Tensor, conditions: Option<&Tensor>) -> Tensor {
        if let (Some(encoder), Some(conditions)) = (&self.conditions, conditions) {
            tokens += encoder.forward(conditions);
        }
        match &self.norm {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        }
    }

    /// Contextualizes perceived and generated tokens; given cell embeddings `[cells, dim]` take the place of the `<cls>`
    /// tokens, the first perceived of each cell (docs/methods.md, "Generative attention").
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
        let [known, requested] =
            [0, 1].map(|part| genes.split_with_sizes(sizes, 0)[part].shallow_clone());
        let flag = self
            .flag
            .as_ref()
            .expect("a generative model has a flag encoder");
        let tokens = [
            self.value_encoder.add_to(&known, &inputs.values, noise),
            flag.add_to(&requested),
        ];
        let mut tokens = self.finish(Tensor::cat(&tokens, 0), inputs.conditions.as_ref());
        if let Some(cells) = cells {
            tokens = tokens.index_copy(0, &starts, &cells.to_kind(tokens.kind()));
        }
        let hidden = self.encoder.forward_split(&tokens, &inputs.split, noise);
        let mut parts = hidden.split_with_sizes(sizes, 0);
        let (hidden, perceived) = (parts.remove(1), parts.remove(0));
        Generated {
            genes: requested,
            cells: perceived.index_select(0, &starts),
            perceived,
            hidden,
        }
    }

    pub fn encode(&self, inputs: &Inputs, wanted: OutputTokens, noise: &mut Noise) -> Encoded {
        self.encode_with(inputs, None, wanted, noise)
    }

    /// The same with tokens normalized by the given moments.
    pub fn encode_with(
        &self,
        inputs: &Inputs,
        moments: Option<&Moments>,
        wanted: OutputTokens,
        noise: &mut Noise,
    ) -> Encoded {
        let (genes, tokens) = self.embed(inputs, moments, noise);
        let hidden = self
            .encoder
            .forward(&tokens, &inputs.sequences, wanted, noise);
        let cells = match wanted {
            OutputTokens::First => hidden.shallow_clone(),
            OutputTokens::All => hidden.index_select(
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

    pub fn transformer(&self) -> &Encoder {
        &self.encoder
    }
}

/// The mean of the values that are not zero of each token's cell, `[tokens]`.
fn mean_of_cells(inputs: &Inputs) -> Tensor {
    let sequences = &inputs.sequences;
    let lengths = sequences.lengths();
    let mean =
        |values: Tensor| values.sum(Kind::Float) / values.ne(0.0).sum(Kind::Float).clamp_min(1.0);
    let cells = inputs.values.split_with_sizes(lengths, 0);
    sequences.spread(&Tensor::stack(
        &cells.into_iter().map(mean).collect::<Vec<_>>(),
        0,
    ))
}

/// Vectors with the condition appended, if there is one.
fn concat(vectors: &Tensor, condition: Option<Tensor>) -> Tensor {
    match condition {
        Some(condition) => Tensor::cat(&[vectors, &condition], -1),
        None => vectors.shallow_clone(),
    }
}

fn sum(one: Option<Tensor>, other: Option<Tensor>) -> Option<Tensor> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

impl Encoded {
    /// Cell embeddings of ragged cells, `[cells, dim]`; `values` are the tokens' input values.
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
