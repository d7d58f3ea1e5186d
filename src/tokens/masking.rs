//! Random masking of expression values in training (docs/methods.md, "Masking").

use crate::random::{self, Stream};

/// Positions to mask: `floor(n * ratio)` of the `n` eligible ones, without replacement, in increasing order.
pub fn choose(eligible: &[usize], ratio: f64, stream: &mut Stream) -> Vec<usize> {
    let wanted = (eligible.len() as f64 * ratio).floor() as usize;
    let mut chosen: Vec<usize> = random::sample(stream, eligible.len(), wanted)
        .into_iter()
        .map(|i| eligible[i])
        .collect();
    chosen.sort_unstable();
    chosen
}

/// Replaces the chosen values by the mask value.
pub fn apply(values: &mut [f32], chosen: &[usize], mask_value: f32) {
    for &position in chosen {
        values[position] = mask_value;
    }
}
