//! Output heads and optional inputs of a state dict in naming scheme A, inferred from names and shapes.
//!
//! See docs/methods.md, "Parameter names".

use serde::Serialize;

use super::tensor::StateDict;

/// The class of the original implementation that a state dict belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ModelClass {
    /// `TransformerModel`: annotation, integration, embedding.
    Transformer,
    /// The generative model of pre-training, the form of the released checkpoints.
    Pretraining,
    /// `MultiOmicTransformerModel`.
    MultiOmic,
    /// `TransformerGenerator`: perturbation.
    Generator,
}

/// How the expression of a gene is predicted from the cell embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum MvcStyle {
    InnerProduct,
    ConcatQuery,
    SumQuery,
}

/// The head that predicts expression from the cell embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mvc {
    pub style: MvcStyle,
    pub zero_probability: bool,
    /// The query takes the condition too (`2 embsize` wide), as in the multi-omic model.
    pub conditioned_query: bool,
}

/// Domain-specific batch normalization (DSBN): separate statistics for each technical batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DomainNorm {
    pub domains: usize,
    /// Has trained weights and biases, as in releases before September 2023.
    pub affine: bool,
}

/// A stack of dense layers that ends in one output per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Classifier {
    pub outputs: usize,
    /// Dense layers, the output layer included.
    pub layers: usize,
}

/// Parts of a model beyond gene encoder, value encoder and transformer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Heads {
    /// Rows of the categorical value encoder.
    pub value_rows: Option<usize>,
    /// `decoder.fc`: expression of every token.
    pub expression: bool,
    /// `decoder.coeff_decoder` and `decoder.bias_decoder`: expression as an affine function of the input value.
    pub affine_expression: bool,
    /// The expression head also predicts the probability of a zero.
    pub zero_probability: bool,
    pub mvc: Option<Mvc>,
    /// `cls_decoder`; one output means it was never trained.
    pub classes: Option<Classifier>,
    /// `grad_reverse_discriminator`: predicts technical batches.
    pub discriminator: Option<Classifier>,
    /// Technical batches with an embedding.
    pub batch_labels: Option<usize>,
    pub domain_norm: Option<DomainNorm>,
    /// `bn`: one batch normalization before the transformer, as in releases up to 2023.
    pub batch_norm: bool,
    /// Modality tokens, specials included.
    pub modalities: Option<usize>,
    /// `flag_encoder` of pre-training.
    pub flag_encoder: bool,
    /// Named conditions of the third input.
    pub conditions: Option<usize>,
    /// Rows of `pert_encoder`.
    pub perturbation_flags: Option<usize>,
}

impl Heads {
    /// Finds the heads of a state dict in naming scheme A.
    pub fn find(state: &StateDict) -> Self {
        let has = |name: &str| state.contains_key(name);
        Self {
            value_rows: rows_of(state, "value_encoder.embedding.weight"),
            expression: has("decoder.fc.0.weight"),
            affine_expression: has("decoder.coeff_decoder.fc.0.weight"),
            zero_probability: has("decoder.zero_logit.0.weight")
                || has("decoder.coeff_decoder.zero_logit.0.weight"),
            mvc: find_mvc(state),
            classes: find_classifier(state, "cls_decoder"),
            discriminator: find_classifier(state, "grad_reverse_discriminator"),
            batch_labels: rows_of(state, "batch_encoder.embedding.weight"),
            domain_norm: find_domain_norm(state),
            batch_norm: has("bn.running_mean"),
            modalities: rows_of(state, "mod_encoder.embedding.weight"),
            flag_encoder: has("flag_encoder.weight"),
            conditions: rows_of(state, "condition_encoder.weight")
                .map(|rows| rows.saturating_sub(1)),
            perturbation_flags: rows_of(state, "pert_encoder.weight"),
        }
    }

    pub fn model_class(&self) -> ModelClass {
        if self.perturbation_flags.is_some() {
            ModelClass::Generator
        } else if self.modalities.is_some() || self.mvc.is_some_and(|mvc| mvc.conditioned_query) {
            ModelClass::MultiOmic
        } else if self.flag_encoder {
            ModelClass::Pretraining
        } else {
            ModelClass::Transformer
        }
    }

    /// Whether the decoders take a batch or modality embedding in addition to the hidden state.
    pub fn is_conditioned(&self) -> bool {
        self.batch_labels.is_some() || self.modalities.is_some()
    }
}

fn find_mvc(state: &StateDict) -> Option<Mvc> {
    const QUERY: &str = "mvc_decoder.gene2query.weight";
    let rows = rows_of(state, QUERY)?;
    let width = width_of(state, "encoder.embedding.weight");
    let style = if !state.contains_key("mvc_decoder.fc1.weight") {
        MvcStyle::InnerProduct
    } else if width_of(state, "mvc_decoder.fc1.weight") == width {
        MvcStyle::SumQuery
    } else {
        MvcStyle::ConcatQuery
    };
    Some(Mvc {
        style,
        zero_probability: state.contains_key("mvc_decoder.W_zero_logit.weight"),
        conditioned_query: style == MvcStyle::InnerProduct
            && Some(rows) == width.and_then(|width| width.checked_mul(2)),
    })
}

fn find_classifier(state: &StateDict, prefix: &str) -> Option<Classifier> {
    let outputs = rows_of(state, &format!("{prefix}.out_layer.weight"))?;
    Some(Classifier {
        outputs,
        layers: hidden_blocks(state, prefix) + 1,
    })
}

fn find_domain_norm(state: &StateDict) -> Option<DomainNorm> {
    let domains = count_indexed(state, "dsbn.bns.");
    (domains > 0).then(|| DomainNorm {
        domains,
        affine: state.contains_key("dsbn.bns.0.weight"),
    })
}

/// Hidden blocks of a classifier: dense layers are entries 0, 3, 6 of its sequence.
pub(super) fn hidden_blocks(state: &StateDict, prefix: &str) -> usize {
    let weight =
        |block: &usize| state.contains_key(&format!("{prefix}._decoder.{}.weight", 3 * block));
    (0..state.len()).take_while(weight).count()
}

/// How many distinct numbers follow `prefix` in the names.
pub(super) fn count_indexed(state: &StateDict, prefix: &str) -> usize {
    let index = |name: &String| {
        name.strip_prefix(prefix)?
            .split('.')
            .next()?
            .parse::<u32>()
            .ok()
    };
    state
        .keys()
        .filter_map(index)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

/// First dimension of a matrix.
pub(super) fn rows_of(state: &StateDict, name: &str) -> Option<usize> {
    match state.get(name)?.shape() {
        &[rows, _] => Some(rows),
        _ => None,
    }
}

/// Second dimension of a matrix.
pub(super) fn width_of(state: &StateDict, name: &str) -> Option<usize> {
    match state.get(name)?.shape() {
        &[_, width] => Some(width),
        _ => None,
    }
}
