//! Self-attention inside each cell, and how the tokens of a minibatch are laid out.

use super::layers::Linear;
use super::store::{Init, Store};
use tch::{Device, Kind, Tensor};

/// Which tokens of the flat `[tokens, dim]` stream form a cell.
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
    /// Position of every token in the padded stream, `[tokens]`; none if the stream holds the pads itself.
    places: Option<Tensor>,
    /// True at keys that are not pads, `[cells, 1, 1, longest]`.
    keys: Tensor,
}

impl Sequences {
    /// Cells of the given lengths, padded if the device is a GPU.
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

    /// Number of tokens of all cells.
    pub fn tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    /// A per-cell tensor `[cells, dim]` repeated for every token of the cell.
    pub fn spread(&self, per_cell: &Tensor) -> Tensor {
        let repeats = Tensor::from_slice(&self.lengths).to_device(per_cell.device());
        per_cell.repeat_interleave_self_tensor(&repeats, 0, None)
    }
}

/// Perceived tokens, whose values are known, and generated tokens, whose values are predicted, of the same cells.
#[derive(Debug)]
pub struct Split {
    pub perceived: Sequences,
    pub generated: Sequences,
    /// The perceived tokens of every cell with one more behind them, which stands for the query itself.
    keys: Sequences,
    /// For every token of `keys`, its position among the perceived tokens; the position behind the last for the additional ones.
    places: Tensor,
}

/// Columns that are added to queries, keys and values; a multiple of what fused kernels on GPUs need.
const EXTRA_COLUMNS: i64 = 8;

impl Split {
    pub fn new(perceived: Vec<i64>, generated: Vec<i64>, device: Device) -> Self {
        let behind = perceived.iter().sum::<i64>();
        let cells = starts(&perceived).into_iter().zip(&perceived);
        let places: Vec<i64> = cells
            .flat_map(|(start, length)| (start..start + length).chain([behind]))
            .collect();
        let keys = perceived.iter().map(|length| length + 1).collect();
        Self {
            keys: Sequences::new(keys, device),
            perceived: Sequences::new(perceived, device),
            generated: Sequences::new(generated, device),
            places: Tensor::from_slice(&places).to_device(device),
        }
    }

    /// Context of the generated tokens, `[generated, dim]`, in memory linear in the tokens: their queries, keys and values, and
    /// keys and values of the perceived ones, `[tokens, heads, head dim]` each.
    ///
    /// The own key differs from query to query, which no fused kernel supports. But weights depend on differences of scores alone:
    /// with its own score taken off all scores of a query, the own key scores 0 for every query, and one key of zeros per cell
    /// stands for it. Two of the additional columns take the score off (in two parts, so that it keeps its digits in a short
    /// number format); one of the values' returns the weight of the key of zeros, which belongs to the own value.
    pub fn attend(&self, [q, k, v]: [&Tensor; 3], (keys, values): (&Tensor, &Tensor)) -> Tensor {
        let dim = q.size()[2];
        let own = (q.to_kind(Kind::Float) * k).sum_dim_intlist(-1, true, Kind::Float);
        let whole = own.detach().to_kind(q.kind());
        let rest = (own - &whole).to_kind(q.kind());
        let q = widen(&Tensor::cat(&[q, &-whole, &-rest], 2), dim);
        let ones = Tensor::ones([keys.size()[0], keys.size()[1], 2], (q.kind(), q.device()));
        let keys = self.with_own(&widen(&Tensor::cat(&[keys, &ones], 2), dim), None);
        let values = self.with_own(&widen(values, dim), Some(dim));
        let scale = 1.0 / (dim as f64).sqrt();
        let context = attend(
            (&q, &self.generated),
            (&keys, &values, &self.keys),
            Some(scale),
        )
        .view([q.size()[0], q.size()[1], -1]);
        let own_weight = context.narrow(2, dim, 1);
        (context.narrow(2, 0, dim) + own_weight * v).flatten(1, 2)
    }

    /// The tokens in the order of `keys`, with zeros in the additional places but for a one in the given column.
    fn with_own(&self, tokens: &Tensor, one_at: Option<i64>) -> Tensor {
        let size = tokens.size();
        let own = Tensor::zeros([1, size[1], size[2]], (tokens.kind(), tokens.device()));
        if let Some(column) = one_at {
            let _ = own.narrow(2, column, 1).fill_(1.0);
        }
        Tensor::cat(&[tokens, &own], 0).index_select(0, &self.places)
    }
}

/// `[tokens, heads, columns]` with zeros behind, for `dim` and the additional columns.
fn widen(tokens: &Tensor, dim: i64) -> Tensor {
    let missing = dim + EXTRA_COLUMNS - tokens.size()[2];
    tokens.constant_pad_nd([0, missing])
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

    /// `[tokens, heads, head dim]` to `[cells, longest, heads, head dim]`.
    fn pad(&self, tokens: &Tensor) -> Tensor {
        let [heads, dim] = [tokens.size()[1], tokens.size()[2]];
        let padded = match &self.places {
            None => tokens.shallow_clone(),
            Some(places) => {
                let cells = self.keys.size()[0];
                Tensor::zeros(
                    [cells * self.longest, heads, dim],
                    (tokens.kind(), tokens.device()),
                )
                .index_copy(0, places, tokens)
            }
        };
        padded.view([-1, self.longest, heads, dim])
    }

    /// `[cells, longest, dim]` back to `[tokens, dim]`.
    fn unpad(&self, padded: &Tensor) -> Tensor {
        let flat = padded.flatten(0, 1);
        self.places
            .as_ref()
            .map_or(flat.shallow_clone(), |places| flat.index_select(0, places))
    }
}

/// Multi-head self-attention with fused projections (docs/methods.md, "Transformer layer"), named as in scheme A ("Naming
/// schemes").
#[derive(Debug)]
pub struct Attention {
    projection: Linear,
    output: Linear,
    heads: i64,
}

impl Attention {
    pub fn new(store: &mut Store, name: &str, dim: i64, heads: i64) -> Self {
        // Xavier-uniform over the fused matrix, biases zero: torch's own start.
        let bound = (6.0 / (4.0 * dim as f64)).sqrt();
        let weight = store.parameter(
            &format!("{name}.in_proj_weight"),
            &[3 * dim, dim],
            Init::Uniform(bound),
        );
        let bias = store.parameter(
            &format!("{name}.in_proj_bias"),
            &[3 * dim],
            Init::Constant(0.0),
        );
        let bound = 1.0 / (dim as f64).sqrt();
        let output = Linear {
            weight: store.parameter(
                &format!("{name}.out_proj.weight"),
                &[dim, dim],
                Init::Uniform(bound),
            ),
            bias: Some(store.parameter(
                &format!("{name}.out_proj.bias"),
                &[dim],
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

    /// Tokens `[tokens, dim]` to contextualized tokens of the same shape.
    pub fn forward(&self, x: &Tensor, sequences: &Sequences) -> Tensor {
        let [q, k, v] = self.project(x);
        self.output
            .forward(&attend((&q, sequences), (&k, &v, sequences), None))
    }

    /// The same for the first token of every cell only, `[cells, dim]`; `first` are those tokens.
    pub fn forward_first(&self, x: &Tensor, first: &Tensor, sequences: &Sequences) -> Tensor {
        let dim = x.size()[1];
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
        let q = rows(0, dim, first).view([-1, self.heads, dim / self.heads]);
        let kv = rows(dim, 2 * dim, x).view([-1, 2, self.heads, dim / self.heads]);
        let queries = Sequences::new(vec![1; sequences.lengths.len()], x.device());
        let (k, v) = (kv.select(1, 0), kv.select(1, 1));
        self.output
            .forward(&attend((&q, &queries), (&k, &v, sequences), None))
    }

    /// Perceived tokens to their context, and generated tokens to theirs: of the perceived tokens of their cell and of
    /// themselves, never of each other (docs/methods.md, "Generative attention"). `x [tokens, dim]` holds the perceived
    /// tokens of all cells, then the generated ones.
    ///
    /// As in the published models, the output projection is applied to the perceived tokens only.
    pub fn forward_split(&self, x: &Tensor, split: &Split) -> Tensor {
        let sizes = [split.perceived.tokens(), split.generated.tokens()];
        let [q, k, v] = self.project(x).map(|t| t.split_with_sizes(sizes, 0));
        let perceived = attend(
            (&q[0], &split.perceived),
            (&k[0], &v[0], &split.perceived),
            None,
        );
        let perceived = self.output.forward(&perceived);
        if sizes[1] == 0 {
            return perceived;
        }
        let generated = split.attend([&q[1], &k[1], &v[1]], (&k[0], &v[0]));
        Tensor::cat(&[perceived, generated], 0)
    }

    /// Attention weights of every cell, `[heads, length, length]` each: for analysis, not for training.
    pub fn weights(&self, x: &Tensor, lengths: &[i64]) -> Vec<Tensor> {
        let [q, k, _] = self.project(x);
        let scale = ((x.size()[1] / self.heads) as f64).sqrt();
        let scores = |(&start, &length): (&i64, &i64)| {
            let head_first = |t: &Tensor| t.narrow(0, start, length).transpose(0, 1);
            (head_first(&q).matmul(&head_first(&k).transpose(1, 2)) / scale).softmax(-1, x.kind())
        };
        starts(lengths).iter().zip(lengths).map(scores).collect()
    }

    /// Queries and keys of every token, `[tokens, heads, head dim]` each.
    pub fn queries_and_keys(&self, x: &Tensor) -> [Tensor; 2] {
        let [q, k, _] = self.project(x);
        [q, k]
    }

    /// Queries, keys and values, `[tokens, heads, dim / heads]` each.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let dim = x.size()[1];
        let fused = self
            .projection
            .forward(x)
            .view([-1, 3, self.heads, dim / self.heads]);
        [0, 1, 2].map(|part| fused.select(1, part))
    }
}

/// Scaled dot-product attention inside cells: queries `[query tokens, heads, head dim]` and keys and values of the same cells.
/// `scale` multiplies the scores; by default it is 1 / sqrt(head dim).
fn attend(
    (q, queries): (&Tensor, &Sequences),
    (k, v, keys): (&Tensor, &Tensor, &Sequences),
    scale: Option<f64>,
) -> Tensor {
    match (&queries.padding, &keys.padding) {
        (Some(of_queries), Some(of_keys)) => {
            let (k, v) = (of_keys.pad(k), of_keys.pad(v));
            of_queries.unpad(&fused(
                &of_queries.pad(q),
                &k,
                &v,
                Some(&of_keys.keys),
                scale,
            ))
        }
        _ => attend_by_cell((q, queries), (k, v, keys), scale),
    }
}

fn attend_by_cell(
    (q, queries): (&Tensor, &Sequences),
    (k, v, keys): (&Tensor, &Tensor, &Sequences),
    scale: Option<f64>,
) -> Tensor {
    let spans = |sequences: &Sequences| {
        sequences
            .starts()
            .into_iter()
            .zip(sequences.lengths.clone())
    };
    let cut = |t: &Tensor, (start, length): (i64, i64)| t.narrow(0, start, length).unsqueeze(0);
    let cell = |(query, key)| {
        fused(&cut(q, query), &cut(k, key), &cut(v, key), None, scale).squeeze_dim(0)
    };
    let query_spans = spans(queries)
        .zip(spans(keys))
        .filter(|((_, length), _)| *length > 0);
    let mut cells: Vec<Tensor> = query_spans.map(cell).collect();
    if cells.len() == 1 {
        cells.remove(0)
    } else {
        Tensor::cat(&cells, 0)
    }
}

/// `[cells, tokens, heads, head dim]` to `[cells, query tokens, dim]` by libtorch's fused kernel.
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, keep: Option<&Tensor>, scale: Option<f64>) -> Tensor {
    let heads_first = |t: &Tensor| t.transpose(1, 2);
    let context = Tensor::scaled_dot_product_attention(
        &heads_first(q),
        &heads_first(k),
        &heads_first(v),
        keep,
        0.0,
        false,
        scale,
        false,
    );
    context.transpose(1, 2).flatten(2, 3)
}
