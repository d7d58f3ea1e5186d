//! The named parameters and buffers of a model, and the one flat buffer they live in while training.

use crate::random::{self, Seed};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor, no_grad};

/// How a new parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Constant(f64),
    /// Uniform in +-bound.
    Uniform(f64),
    /// Standard normal.
    Normal,
    /// Standard normal but for the first row, which is 0.
    NormalAfterFirst,
}

/// Parameters (trained) and buffers (kept with them) by the names that published checkpoints use.
///
/// A name requested twice gives the same tensor, so a second model built on a shared store shares every weight: that is how
/// worker threads get a model each.
#[derive(Debug)]
pub struct Store {
    parameters: IndexMap<String, Tensor>,
    buffers: IndexMap<String, Tensor>,
    seed: Seed,
    device: Device,
}

/// All parameters, and after them the buffers of floats, as one vector, which the model's tensors view, and one of the same
/// length for their gradients.
#[derive(Debug)]
pub struct Flat {
    pub values: Tensor,
    pub gradients: Tensor,
    /// Start and length of the stretches that are trained; frozen parameters and buffers lie between and behind them.
    pub trained: Vec<(i64, i64)>,
}

impl Store {
    /// An empty store. Every new parameter draws from its own stream, named after it.
    pub fn new(seed: Seed, device: Device) -> Self {
        Self {
            parameters: IndexMap::new(),
            buffers: IndexMap::new(),
            seed,
            device,
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameter of that name, made and initialized if it is new.
    pub fn parameter(&mut self, name: &str, shape: &[i64], init: Init) -> Tensor {
        if let Some(tensor) = self.parameters.get(name) {
            return tensor.shallow_clone();
        }
        let tensor = initial(self.seed, name, shape, init)
            .to_device(self.device)
            .set_requires_grad(true);
        self.parameters
            .insert(name.to_owned(), tensor.shallow_clone());
        tensor
    }

    /// The buffer of that name, made if it is new.
    pub fn buffer(&mut self, name: &str, shape: &[i64], value: f64, kind: Kind) -> Tensor {
        let new = || Tensor::full(shape, value, (kind, self.device));
        self.buffers
            .entry(name.to_owned())
            .or_insert_with(new)
            .shallow_clone()
    }

    /// Another handle on the same tensors.
    pub fn share(&self) -> Self {
        let share = |map: &IndexMap<String, Tensor>| {
            map.iter()
                .map(|(n, t)| (n.clone(), t.shallow_clone()))
                .collect()
        };
        Self {
            parameters: share(&self.parameters),
            buffers: share(&self.buffers),
            seed: self.seed,
            device: self.device,
        }
    }

    /// The same tensors in another number format. Gradients flow back into those of this store.
    pub fn cast(&self, kind: Kind) -> Self {
        let cast = |map: &IndexMap<String, Tensor>| {
            let in_kind = |t: &Tensor| {
                if t.is_floating_point() {
                    t.to_kind(kind)
                } else {
                    t.shallow_clone()
                }
            };
            map.iter()
                .map(|(name, tensor)| (name.clone(), in_kind(tensor)))
                .collect()
        };
        Self {
            parameters: cast(&self.parameters),
            buffers: cast(&self.buffers),
            ..*self
        }
    }

    /// Parameters by name, in the order in which the model made them.
    pub fn parameters(&self) -> &IndexMap<String, Tensor> {
        &self.parameters
    }

    /// Parameters, then buffers.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters
            .iter()
            .chain(&self.buffers)
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.parameters.get(name).or_else(|| self.buffers.get(name))
    }

    /// Stops the training of every parameter whose name fits.
    pub fn freeze(&self, frozen: impl Fn(&str) -> bool) {
        for (_, tensor) in self.parameters.iter().filter(|(name, _)| frozen(name)) {
            let _ = tensor.set_requires_grad(false);
        }
    }

    /// Moves all parameters and float buffers into one vector; the tensors that modules hold view it from then on.
    pub fn flatten(&mut self) -> Flat {
        no_grad(|| {
            let buffers = self.buffers.values_mut();
            let floats = buffers.filter(|buffer| buffer.kind() == Kind::Float);
            let moved: Vec<&mut Tensor> = self.parameters.values_mut().chain(floats).collect();
            let values: Vec<Tensor> = moved.iter().map(|t| t.detach().flatten(0, -1)).collect();
            let values = Tensor::cat(&values, 0);
            let (mut start, mut trained) = (0, Vec::new());
            for tensor in moved {
                let length = tensor.numel() as i64;
                let view = values
                    .narrow(0, start, length)
                    .view(tensor.size().as_slice());
                tensor.set_data(&view);
                if tensor.requires_grad() {
                    trained.push((start, length));
                }
                start += length;
            }
            Flat {
                gradients: values.zeros_like(),
                values,
                trained,
            }
        })
    }
}

/// Initial values, drawn on the host so that every device starts the same.
fn initial(seed: Seed, name: &str, shape: &[i64], init: Init) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let mut stream = seed.stream(name, &[]);
    let mut values: Vec<f32> = match init {
        Init::Constant(value) => vec![value as f32; count],
        Init::Uniform(bound) => (0..count)
            .map(|_| ((2.0 * random::uniform(&mut stream) - 1.0) * bound) as f32)
            .collect(),
        Init::Normal | Init::NormalAfterFirst => {
            let pairs = (0..count.div_ceil(2)).map(|_| random::normal_pair(&mut stream));
            pairs
                .flat_map(|(a, b)| [a as f32, b as f32])
                .take(count)
                .collect()
        }
    };
    if init == Init::NormalAfterFirst {
        let row = count / shape.first().map_or(1, |&rows| rows.max(1) as usize);
        values[..row].fill(0.0);
    }
    Tensor::from_slice(&values).view(shape)
}
