//! Dropout with masks from seeded random streams, so that a training run can be repeated, resumed and spread over threads.

use crate::random::{Seed, Stream};
use rand::Rng;
use tch::{Device, Kind, Tensor};

/// The source of dropout masks of one forward pass; silent in evaluation.
pub struct Noise {
    rate: f64,
    stream: Option<Stream>,
}

impl Noise {
    /// No dropout.
    pub fn off() -> Self {
        Self {
            rate: 0.0,
            stream: None,
        }
    }

    /// Dropout at the given rate; the indices (step, shard) select the random stream.
    pub fn new(rate: f64, seed: Seed, indices: &[u64]) -> Self {
        let stream = (rate > 0.0).then(|| seed.stream("dropout", indices));
        Self { rate, stream }
    }

    /// Zeroes elements at random and scales the others up so that the mean is kept.
    ///
    /// On the CPU sixteen random bits decide an element, so the rate is met to 1 in 65,536; on a GPU the device draws, from a
    /// seed of the stream.
    pub fn apply(&mut self, x: Tensor) -> Tensor {
        let Some(stream) = &mut self.stream else {
            return x;
        };
        let mask = match x.device() {
            Device::Cpu => host_mask(stream, self.rate, &x),
            device => {
                tch::manual_seed(stream.next_u64() as i64);
                Tensor::rand(x.size(), (Kind::Float, device))
                    .ge(self.rate)
                    .to_kind(x.kind())
                    / (1.0 - self.rate)
            }
        };
        x * mask
    }
}

fn host_mask(stream: &mut Stream, rate: f64, x: &Tensor) -> Tensor {
    let threshold = (rate * 65536.0).round() as u16;
    let scale = (65536.0 / (65536.0 - f64::from(threshold))) as f32;
    let mut bytes = vec![0u8; 2 * x.numel()];
    stream.fill_bytes(&mut bytes);
    let keep = |pair: &[u8]| {
        if u16::from_le_bytes([pair[0], pair[1]]) >= threshold {
            scale
        } else {
            0.0
        }
    };
    let mask: Vec<f32> = bytes.chunks_exact(2).map(keep).collect();
    Tensor::from_slice(&mask).view_as(x).to_kind(x.kind())
}
