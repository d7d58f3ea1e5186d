//! Sums of tensors over the processes of a distributed run (all-reduce).

use crate::distributed::{OnDevice, Ranks};
use anyhow::Result;
use tch::{Device, Kind, Tensor, no_grad};

/// Sums a contiguous vector of f32 over all ranks, in place: bit-identical on every rank.
pub fn add_up(ranks: &dyn Ranks, vector: &mut Tensor) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    if vector.device() != Device::Cpu && ranks.has_device() {
        return ranks.sum_on_device(on_device(vector));
    }
    let mut numbers = Vec::<f32>::try_from(&vector.to_device(Device::Cpu))?;
    ranks.sum(&mut numbers)?;
    no_grad(|| vector.copy_(&Tensor::from_slice(&numbers)));
    Ok(())
}

#[allow(unsafe_code)]
fn on_device(vector: &Tensor) -> OnDevice {
    assert!(vector.is_contiguous() && vector.kind() == Kind::Float);
    // SAFETY: the buffer has that many floats; the tensor lives as long as the model, and libtorch uses the default stream.
    unsafe { OnDevice::new(vector.data_ptr() as u64, vector.numel()) }
}
