//! The name and shape that every tensor of a model should have, in naming scheme A, and how a state dict differs from that.
//!
//! See docs/methods.md, "Parameter names".

use std::fmt;

use super::architecture::{Architecture, InputStyle};
use super::heads::{Classifier, DomainNorm, Heads, Mvc, MvcStyle};
use super::tensor::StateDict;

/// Names with shapes, in the order of state dicts of the original implementation.
pub type Expected = Vec<(String, Vec<usize>)>;

/// Tensors that every model must have: gene encoder (`rows` tokens), value encoder, transformer.
pub fn backbone(architecture: &Architecture, rows: usize, value_rows: Option<usize>) -> Expected {
    let d = architecture.embsize;
    let mut table = Table::default();
    table.embedding("encoder", rows, d);
    match architecture.input_emb_style {
        InputStyle::Continuous => {
            table.dense("value_encoder.linear1", d, 1);
            table.dense("value_encoder.linear2", d, d);
            table.norm("value_encoder.norm", d);
        }
        InputStyle::Category => {
            // One row per bin, then padding and mask, when the tensor is absent.
            table.embedding(
                "value_encoder",
                value_rows.unwrap_or(architecture.n_bins + 2),
                d,
            );
        }
        InputStyle::Scaling => {}
    }
    for layer in 0..architecture.nlayers {
        table.layer(
            &format!("transformer_encoder.layers.{layer}"),
            d,
            architecture.d_hid,
        );
    }
    table.rows
}

/// Tensors of everything that a model with these heads has.
pub fn expected(architecture: &Architecture, rows: usize, heads: &Heads) -> Expected {
    let d = architecture.embsize;
    let width = if heads.is_conditioned() { 2 * d } else { d };
    let mut table = Table {
        rows: backbone(architecture, rows, heads.value_rows),
    };
    table.encoders(heads, d);
    table.norms(heads, d);
    table.expression(heads, d, width);
    if let Some(classes) = heads.classes {
        table.classifier("cls_decoder", classes, d);
    }
    if let Some(mvc) = heads.mvc {
        table.mvc(mvc, d, width);
    }
    if let Some(batches) = heads.discriminator {
        table.classifier("grad_reverse_discriminator", batches, d);
    }
    table.rows
}

#[derive(Default)]
struct Table {
    rows: Expected,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.rows.push((name.into(), shape.to_vec()));
    }

    fn dense(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(format!("{name}.weight"), &[outputs, inputs]);
        self.add(format!("{name}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn embedding(&mut self, name: &str, rows: usize, width: usize) {
        self.add(format!("{name}.embedding.weight"), &[rows, width]);
        self.norm(&format!("{name}.enc_norm"), width);
    }

    fn layer(&mut self, name: &str, d: usize, hidden: usize) {
        self.add(format!("{name}.self_attn.in_proj_weight"), &[3 * d, d]);
        self.add(format!("{name}.self_attn.in_proj_bias"), &[3 * d]);
        self.dense(&format!("{name}.self_attn.out_proj"), d, d);
        self.dense(&format!("{name}.linear1"), hidden, d);
        self.dense(&format!("{name}.linear2"), d, hidden);
        self.norm(&format!("{name}.norm1"), d);
        self.norm(&format!("{name}.norm2"), d);
    }

    fn encoders(&mut self, heads: &Heads, d: usize) {
        if heads.flag_encoder {
            self.add("flag_encoder.weight", &[2, d]);
        }
        if heads.perturbation_flags.is_some() {
            self.add("pert_encoder.weight", &[3, d]);
        }
        if let Some(batches) = heads.batch_labels {
            self.embedding("batch_encoder", batches, d);
        }
        if let Some(modalities) = heads.modalities {
            self.embedding("mod_encoder", modalities, d);
        }
    }

    fn norms(&mut self, heads: &Heads, d: usize) {
        if let Some(DomainNorm { domains, affine }) = heads.domain_norm {
            for domain in 0..domains {
                self.batch_norm(&format!("dsbn.bns.{domain}"), d, affine);
            }
        }
        if heads.batch_norm {
            self.batch_norm("bn", d, true);
        }
    }

    fn batch_norm(&mut self, name: &str, d: usize, affine: bool) {
        if affine {
            self.norm(name, d);
        }
        self.add(format!("{name}.running_mean"), &[d]);
        self.add(format!("{name}.running_var"), &[d]);
        self.add(format!("{name}.num_batches_tracked"), &[]);
    }

    fn expression(&mut self, heads: &Heads, d: usize, width: usize) {
        let mut decoders = Vec::new();
        if heads.expression {
            decoders.push("decoder");
        }
        if heads.affine_expression {
            decoders.extend(["decoder.coeff_decoder", "decoder.bias_decoder"]);
        }
        for decoder in decoders {
            self.token_decoder(&format!("{decoder}.fc"), d, width);
            if heads.zero_probability {
                self.token_decoder(&format!("{decoder}.zero_logit"), d, width);
            }
        }
    }

    fn token_decoder(&mut self, name: &str, d: usize, width: usize) {
        self.dense(&format!("{name}.0"), d, width);
        self.dense(&format!("{name}.2"), d, d);
        self.dense(&format!("{name}.4"), 1, d);
    }

    fn classifier(&mut self, name: &str, classifier: Classifier, d: usize) {
        // The sequence repeats dense layer, activation without tensors, layer normalization.
        for block in 1..classifier.layers {
            self.dense(&format!("{name}._decoder.{}", 3 * block - 3), d, d);
            self.norm(&format!("{name}._decoder.{}", 3 * block - 1), d);
        }
        self.dense(&format!("{name}.out_layer"), classifier.outputs, d);
    }

    fn mvc(&mut self, mvc: Mvc, d: usize, width: usize) {
        /// Size of the hidden layer of the two query styles.
        const QUERY: usize = 64;
        let (query, fc1) = match mvc.style {
            MvcStyle::InnerProduct => return self.inner_product(mvc, d, width),
            MvcStyle::ConcatQuery => (QUERY, d + QUERY),
            MvcStyle::SumQuery => (d, d),
        };
        self.dense("mvc_decoder.gene2query", query, d);
        self.dense("mvc_decoder.fc1", QUERY, fc1);
        self.add("mvc_decoder.hidden_activation.weight", &[1]);
        self.dense("mvc_decoder.fc2", 1, QUERY);
    }

    fn inner_product(&mut self, mvc: Mvc, d: usize, width: usize) {
        let query = if mvc.conditioned_query { 2 * d } else { d };
        self.dense("mvc_decoder.gene2query", query, query);
        self.add("mvc_decoder.W.weight", &[width, query]);
        if mvc.zero_probability {
            self.dense("mvc_decoder.W_zero_logit", width, query);
        }
    }
}

/// One way in which a state dict is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing {
        name: String,
        shape: Vec<usize>,
    },
    Unexpected {
        name: String,
        shape: Vec<usize>,
    },
    Shape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missing { name, shape } => write!(f, "`{name}` {shape:?} is missing"),
            Self::Unexpected { name, shape } => {
                write!(f, "`{name}` {shape:?} is not part of the model")
            }
            Self::Shape {
                name,
                expected,
                found,
            } => write!(f, "`{name}` is {found:?}, expected {expected:?}"),
        }
    }
}

/// Tensors that are missing or have another shape, in table order.
pub fn shortcomings(state: &StateDict, expected: &Expected) -> Vec<Difference> {
    let compare = |(name, shape): &(String, Vec<usize>)| match state.get(name) {
        None => Some(Difference::Missing {
            name: name.clone(),
            shape: shape.clone(),
        }),
        Some(tensor) if tensor.shape() != shape => Some(Difference::Shape {
            name: name.clone(),
            expected: shape.clone(),
            found: tensor.shape().to_vec(),
        }),
        Some(_) => None,
    };
    expected.iter().filter_map(compare).collect()
}

/// Tensors that the table does not know, in file order.
pub fn unexpected(state: &StateDict, expected: &Expected) -> Vec<Difference> {
    let known: std::collections::HashSet<&str> =
        expected.iter().map(|(name, _)| name.as_str()).collect();
    let strangers = state
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()));
    strangers
        .map(|(name, tensor)| Difference::Unexpected {
            name: name.clone(),
            shape: tensor.shape().to_vec(),
        })
        .collect()
}
