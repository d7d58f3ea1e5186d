//! Self-attention inside each cell, and how the tokens of a minibatch are laid out.

use super::layers::Linear;
use super::store::{Init, Store};
use tch::{Device, Kind, Tensor};

/// Which tokens of the flat `[tokens, width]` stream form a cell.
///
/// The stream holds the cells one after the other, without padding, and everything but attention works on single tokens.
/// Attention goes cell by cell on a CPU; a GPU prefers all cells at once, padded for that one operation.
#[derive(Debug)]
pub struct Sequences {
    lengths: Vec<i64>,
    padding: Option<Padding>,
}

/// How cells are padded for attention at once.
#[derive(Debug)]
struct Padding {
    longest: i64,
    /// Place of every token in the padded stream, `[tokens]`; none if the stream holds the pads itself.
    places: Option<Tensor>,
    /// True at keys that are not pads, `[cells, 1, 1, longest]`.
    keys: Tensor,
}

impl Sequences {
    /// Cells of the given lengths, laid out as the device likes them.
    pub fn new(lengths: Vec<i64>, device: Device) -> Self {
        let padding = (device != Device::Cpu).then(|| Padding::new(&lengths, device));
        Self { lengths, padding }
    }

    /// Cells that carry their pads: `pads [cells, length]` is true where a token must not be attended to.
    pub fn with_pads(pads: &Tensor) -> Self {
        let size = pads.size();
        let keys = pads.logical_not().unsqueeze(1).unsqueeze(1);
        let padding = Padding {
            longest: size[1],
            places: None,
            keys,
        };
        Self {
            lengths: vec![size[1]; size[0] as usize],
            padding: Some(padding),
        }
    }

    /// Position of every cell's first token in the stream.
    pub fn starts(&self) -> Vec<i64> {
        starts(&self.lengths)
    }

    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// A per-cell tensor `[cells, width]` repeated for every token of the cell.
    pub fn spread(&self, per_cell: &Tensor) -> Tensor {
        let repeats = Tensor::from_slice(&self.lengths).to_device(per_cell.device());
        per_cell.repeat_interleave_self_tensor(&repeats, 0, None)
    }
}

fn starts(lengths: &[i64]) -> Vec<i64> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    std::iter::once(0).chain(ends).take(lengths.len()).collect()
}

impl Padding {
    fn new(lengths: &[i64], device: Device) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let rows = (0i64..).zip(lengths);
        let places: Vec<i64> = rows
            .flat_map(|(cell, &length)| (0..length).map(move |at| cell * longest + at))
            .collect();
        let lengths = Tensor::from_slice(lengths).view([-1, 1, 1, 1]);
        let keys = Tensor::arange(longest, (Kind::Int64, Device::Cpu))
            .lt_tensor(&lengths)
            .to_device(device);
        Self {
            longest,
            places: Some(Tensor::from_slice(&places).to_device(device)),
            keys,
        }
    }

    /// `[tokens, heads, head width]` to `[cells, longest, heads, head width]`.
    fn pad(&self, tokens: &Tensor) -> Tensor {
        let [heads, width] = [tokens.size()[1], tokens.size()[2]];
        let padded = match &self.places {
            None => tokens.shallow_clone(),
            Some(places) => {
                let cells = self.keys.size()[0];
                Tensor::zeros(
                    [cells * self.longest, heads, width],
                    (tokens.kind(), tokens.device()),
                )
                .index_copy(0, places, tokens)
            }
        };
        padded.view([-1, self.longest, heads, width])
    }

    /// `[cells, longest, width]` back to `[tokens, width]`.
    fn unpad(&self, padded: &Tensor) -> Tensor {
        let flat = padded.flatten(0, 1);
        self.places
            .as_ref()
            .map_or(flat.shallow_clone(), |places| flat.index_select(0, places))
    }
}

/// Multi-head self-attention with fused projections (reference section 3, layout A of section 2.5).
#[derive(Debug)]
pub struct Attention {
    projection: Linear,
    output: Linear,
    heads: i64,
}

impl Attention {
    pub fn new(store: &mut Store, name: &str, width: i64, heads: i64) -> Self {
        // Xavier-uniform over the fused matrix, biases zero: torch's own start.
        let bound = (6.0 / (4.0 * width as f64)).sqrt();
        let weight = store.parameter(
            &format!("{name}.in_proj_weight"),
            &[3 * width, width],
            Init::Uniform(bound),
        );
        let bias = store.parameter(
            &format!("{name}.in_proj_bias"),
            &[3 * width],
            Init::Constant(0.0),
        );
        let bound = 1.0 / (width as f64).sqrt();
        let output = Linear {
            weight: store.parameter(
                &format!("{name}.out_proj.weight"),
                &[width, width],
                Init::Uniform(bound),
            ),
            bias: Some(store.parameter(
                &format!("{name}.out_proj.bias"),
                &[width],
                Init::Constant(0.0),
            )),
        };
        Self {
            projection: Linear {
                weight,
                bias: Some(bias),
            },
            output,
            heads,
        }
    }

    /// Tokens `[tokens, width]` to contextualised tokens of the same shape.
    pub fn forward(&self, x: &Tensor, sequences: &Sequences) -> Tensor {
        let [q, k, v] = self.project(x);
        self.output.forward(&attend(&q, &k, &v, sequences, false))
    }

    /// The same for the first token of every cell only, `[cells, width]`; `first` are those tokens.
    pub fn forward_first(&self, x: &Tensor, first: &Tensor, sequences: &Sequences) -> Tensor {
        let width = x.size()[1];
        let rows = |from: i64, count: i64, x: &Tensor| {
            let bias = self
                .projection
                .bias
                .as_ref()
                .map(|bias| bias.narrow(0, from, count));
            x.linear(
                &self.projection.weight.narrow(0, from, count),
                bias.as_ref(),
            )
        };
        let q = rows(0, width, first).view([-1, self.heads, width / self.heads]);
        let kv = rows(width, 2 * width, x).view([-1, 2, self.heads, width / self.heads]);
        self.output.forward(&attend(
            &q,
            &kv.select(1, 0),
            &kv.select(1, 1),
            sequences,
            true,
        ))
    }

    /// Attention weights of every cell, `[heads, length, length]` each: for looking at, not for training.
    pub fn weights(&self, x: &Tensor, lengths: &[i64]) -> Vec<Tensor> {
        let [q, k, _] = self.project(x);
        let scale = ((x.size()[1] / self.heads) as f64).sqrt();
        let scores = |(&start, &length): (&i64, &i64)| {
            let head_first = |t: &Tensor| t.narrow(0, start, length).transpose(0, 1);
            (head_first(&q).matmul(&head_first(&k).transpose(1, 2)) / scale).softmax(-1, x.kind())
        };
        starts(lengths).iter().zip(lengths).map(scores).collect()
    }

    /// Queries, keys and values, `[tokens, heads, width / heads]` each.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let width = x.size()[1];
        let fused = self
            .projection
            .forward(x)
            .view([-1, 3, self.heads, width / self.heads]);
        [0, 1, 2].map(|part| fused.select(1, part))
    }
}

/// Scaled dot-product attention inside cells; with `first_only` there is one query per cell.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences, first_only: bool) -> Tensor {
    let Some(padding) = &sequences.padding else {
        return attend_by_cell(q, k, v, sequences, first_only);
    };
    let (k, v) = (padding.pad(k), padding.pad(v));
    if first_only {
        return fused(&q.unsqueeze(1), &k, &v, Some(&padding.keys)).squeeze_dim(1);
    }
    padding.unpad(&fused(&padding.pad(q), &k, &v, Some(&padding.keys)))
}

fn attend_by_cell(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sequences: &Sequences,
    first_only: bool,
) -> Tensor {
    let starts = sequences.starts();
    let cell = |(cell, (&start, &length)): (usize, (&i64, &i64))| {
        let span = |t: &Tensor| t.narrow(0, start, length).unsqueeze(0);
        let q = if first_only {
            q.narrow(0, cell as i64, 1).unsqueeze(0)
        } else {
            span(q)
        };
        fused(&q, &span(k), &span(v), None).squeeze_dim(0)
    };
    let mut cells: Vec<Tensor> = starts
        .iter()
        .zip(&sequences.lengths)
        .enumerate()
        .map(cell)
        .collect();
    if cells.len() == 1 {
        cells.remove(0)
    } else {
        Tensor::cat(&cells, 0)
    }
}

/// `[cells, tokens, heads, head width]` to `[cells, query tokens, width]` by libtorch's fused kernel.
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, keep: Option<&Tensor>) -> Tensor {
    let heads_first = |t: &Tensor| t.transpose(1, 2);
    let context = Tensor::scaled_dot_product_attention(
        &heads_first(q),
        &heads_first(k),
        &heads_first(v),
        keep,
        0.0,
        false,
        None,
        false,
    );
    context.transpose(1, 2).flatten(2, 3)
}
