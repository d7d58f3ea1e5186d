//! Output heads: expression per token, class per cell, expression from the cell embedding (docs/methods.md,
//! "Expression decoder" to "Classifier and discriminator").

use super::layers::{LayerNorm, Linear};
use super::store::Store;
use tch::Tensor;

/// Three dense layers down to a number per token, and optionally three more to the probability that it is not zero.
#[derive(Debug)]
pub struct ExpressionDecoder {
    value: [Linear; 3],
    nonzero: Option<[Linear; 3]>,
}

impl ExpressionDecoder {
    /// `input` is the dimension of a token, twice the model's when a batch embedding is appended.
    pub fn new(store: &mut Store, name: &str, input: i64, dim: i64, explicit_zero: bool) -> Self {
        let mut network = |part: &str| {
            [(0, input, dim), (2, dim, dim), (4, dim, 1)]
                .map(|(at, from, to)| Linear::new(store, &format!("{name}.{part}.{at}"), from, to))
        };
        Self {
            value: network("fc"),
            nonzero: explicit_zero.then(|| network("zero_logit")),
        }
    }

    /// Tokens `[tokens, input]` to predicted values `[tokens]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        Self::run(&self.value, x)
    }

    /// Probability of every value being other than zero, `[tokens]`, if the head has it.
    pub fn nonzero_probability(&self, x: &Tensor) -> Option<Tensor> {
        self.nonzero
            .as_ref()
            .map(|network| Self::run(network, x).sigmoid())
    }

    fn run(network: &[Linear; 3], x: &Tensor) -> Tensor {
        let [first, second, third] = network;
        third
            .forward(&second.forward(&first.forward(x).leaky_relu()).leaky_relu())
            .squeeze_dim(-1)
    }
}

/// Options of an [`AffineDecoder`]; published models have the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// The intercept is multiplied by the mean of the cell's values that are not zero.
    pub adaptive_bias: bool,
    /// Slope and intercept pass through softplus.
    pub softplus: bool,
}

/// Affine expression decoder (docs/methods.md, "Affine decoder"): expression as slope times input value plus intercept, both
/// predicted for every token (`AffineExprDecoder`).
#[derive(Debug)]
pub struct AffineDecoder {
    slope: ExpressionDecoder,
    intercept: ExpressionDecoder,
    line: Line,
}

impl AffineDecoder {
    pub fn new(store: &mut Store, name: &str, dim: i64, explicit_zero: bool, line: Line) -> Self {
        let mut decoder = |part: &str| {
            let name = format!("{name}.{part}_decoder");
            ExpressionDecoder::new(store, &name, dim, dim, explicit_zero)
        };
        Self {
            slope: decoder("coeff"),
            intercept: decoder("bias"),
            line,
        }
    }

    /// Tokens `[tokens, dim]` and their values `[tokens]` to predicted values `[tokens]`. `mean` is that of the values of each
    /// token's cell that are not zero, `[tokens]`.
    pub fn forward(&self, x: &Tensor, values: &Tensor, mean: impl FnOnce() -> Tensor) -> Tensor {
        let predict = |decoder: &ExpressionDecoder| {
            let output = decoder.forward(x);
            if self.line.softplus {
                output.softplus()
            } else {
                output
            }
        };
        let mut intercept = predict(&self.intercept);
        if self.line.adaptive_bias {
            intercept *= mean();
        }
        predict(&self.slope) * values + intercept
    }

    /// Probability of every value being other than zero, `[tokens]`, if the head has it.
    pub fn nonzero_probability(&self, x: &Tensor) -> Option<Tensor> {
        self.slope.nonzero_probability(x)
    }
}

/// The activation between the layers of a class decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Cell-type classifier.
    Relu,
    /// Batch discriminator.
    LeakyRelu,
}

/// Dense, activation, layer norm, repeated; then one score per class.
#[derive(Debug)]
pub struct ClassDecoder {
    hidden: Vec<(Linear, LayerNorm)>,
    output: Linear,
    activation: Activation,
}

impl ClassDecoder {
    pub fn new(
        store: &mut Store,
        name: &str,
        layers: usize,
        (dim, classes): (i64, i64),
        activation: Activation,
    ) -> Self {
        let mut block = |i: usize| {
            let dense = Linear::new(store, &format!("{name}._decoder.{}", 3 * i), dim, dim);
            (
                dense,
                LayerNorm::new(store, &format!("{name}._decoder.{}", 3 * i + 2), dim),
            )
        };
        let hidden = (0..layers.saturating_sub(1)).map(&mut block).collect();
        Self {
            hidden,
            output: Linear::new(store, &format!("{name}.out_layer"), dim, classes),
            activation,
        }
    }

    /// Cell embeddings `[cells, dim]` to scores `[cells, classes]`.
    pub fn forward(&self, cells: &Tensor) -> Tensor {
        let mut x = cells.shallow_clone();
        for (dense, norm) in &self.hidden {
            let y = dense.forward(&x);
            x = norm.forward(&if self.activation == Activation::Relu {
                y.relu()
            } else {
                y.leaky_relu()
            });
        }
        self.output.forward(&x)
    }
}

/// Expression from the cell embedding alone (GEPC, called MVC in the original implementation): gene embeddings are the queries.
#[derive(Debug)]
pub struct CellDecoder {
    query: Linear,
    value: Linear,
    nonzero: Option<Linear>,
}

impl CellDecoder {
    /// `cell_dim` is the dimension of a cell embedding, twice the model's when a batch embedding is appended.
    pub fn new(
        store: &mut Store,
        name: &str,
        dim: i64,
        cell_dim: i64,
        explicit_zero: bool,
    ) -> Self {
        Self {
            query: Linear::new(store, &format!("{name}.gene2query"), dim, dim),
            value: Linear::without_bias(store, &format!("{name}.W"), dim, cell_dim),
            nonzero: explicit_zero
                .then(|| Linear::new(store, &format!("{name}.W_zero_logit"), dim, cell_dim)),
        }
    }

    /// Gene embeddings `[tokens, dim]` and the embedding of each token's cell `[tokens, cell dim]` to values `[tokens]` and,
    /// if the head has it, the probability of each being other than zero.
    pub fn forward(&self, genes: &Tensor, cells: &Tensor) -> (Tensor, Option<Tensor>) {
        let query = self.query.forward(genes).sigmoid();
        let predict = |layer: &Linear| {
            (layer.forward(&query) * cells).sum_dim_intlist(-1, false, None::<tch::Kind>)
        };
        (
            predict(&self.value),
            self.nonzero.as_ref().map(|layer| predict(layer).sigmoid()),
        )
    }
}

/// Gradient reversal: the same tensor, with the sign of its gradient flipped, so that a discriminator trains the model against
/// it.
pub fn reverse_gradient(x: &Tensor) -> Tensor {
    // 2x is exact in floating point, so the difference is x itself, bit for bit.
    x.detach() * 2.0 - x
}
