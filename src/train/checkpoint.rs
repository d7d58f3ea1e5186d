//! Training state of a run as one file: weights, optimizer, best weights so far and position.
//!
//! One safetensors file, written to a temporary file and renamed, so that a killed run leaves the last complete state.

use super::optimizer::Adam;
use super::position::Progress;
use crate::model::Flat;
use anyhow::{Context, Result};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor, no_grad};

/// Key of the metadata entry that holds the position as JSON.
const POSITION: &str = "position";
const FINGERPRINT: &str = "fingerprint";

/// The tensors of a state, by name; the last two are the average and the best weights.
fn tensors<'t>(
    flat: &'t Flat,
    adam: &'t Adam,
    [average, best]: [&'t Tensor; 2],
) -> [(&'static str, &'t Tensor); 5] {
    [
        ("values", &flat.values),
        ("first_moment", &adam.first_moment),
        ("second_moment", &adam.second_moment),
        ("average", average),
        ("best", best),
    ]
}

/// Writes the state. `fingerprint` identifies the run it belongs to.
pub fn save(
    path: &Path,
    state: (&Flat, &Adam, [&Tensor; 2]),
    progress: &Progress,
    fingerprint: &str,
) -> Result<()> {
    let (flat, adam, kept) = state;
    let named = tensors(flat, adam, kept).map(|(name, tensor)| (name, bytes(tensor)));
    let views = named.iter().map(|(name, bytes)| {
        Ok((
            *name,
            TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?,
        ))
    });
    let views: Vec<_> = views.collect::<Result<_, SafeTensorError>>()?;
    let metadata = HashMap::from([
        (POSITION.to_owned(), serde_json::to_string(progress)?),
        (FINGERPRINT.to_owned(), fingerprint.to_owned()),
    ]);
    let file = safetensors::serialize(views, Some(metadata))?;
    crate::output::write_file(path, |out| out.write_all(&file))?;
    Ok(())
}

/// Why a state cannot be resumed from.
#[derive(Debug, thiserror::Error)]
pub enum StateMismatch {
    #[error("`{}` is not a training state: delete it to start again ({problem})", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "the training state `{}` belongs to a run with other settings or data: use the same ones, or drop `--resume` to start again",
        .0.display()
    )]
    OfAnotherRun(PathBuf),
}

/// Reads a state into the tensors of a run and returns its position.
pub fn load(
    path: &Path,
    state: (&mut Flat, &mut Adam, [&mut Tensor; 2]),
    fingerprint: &str,
) -> Result<Progress> {
    let file = std::fs::read(path)
        .with_context(|| format!("could not read the training state `{}`", path.display()))?;
    let damaged = |problem: String| StateMismatch::Damaged {
        path: path.to_owned(),
        problem,
    };
    let wrong = |error: SafeTensorError| damaged(error.to_string());
    let absent = |what: &str| damaged(format!("it has no {what}"));
    let (_, header) = SafeTensors::read_metadata(&file).map_err(wrong)?;
    let metadata = header
        .metadata()
        .as_ref()
        .ok_or_else(|| absent("metadata"))?;
    if metadata.get(FINGERPRINT).map(String::as_str) != Some(fingerprint) {
        return Err(StateMismatch::OfAnotherRun(path.to_owned()).into());
    }
    let position = metadata.get(POSITION).ok_or_else(|| absent(POSITION))?;
    let progress: Progress =
        serde_json::from_str(position).map_err(|error| damaged(error.to_string()))?;
    let stored = SafeTensors::deserialize(&file).map_err(wrong)?;
    let (flat, adam, [average, best]) = state;
    for (name, tensor) in tensors(flat, adam, [average, best]) {
        let data = stored.tensor(name).map_err(wrong)?.data();
        if data.len() != 4 * tensor.numel() {
            return Err(damaged(format!("`{name}` has {} bytes", data.len())).into());
        }
        let values: Vec<f32> = data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values)));
    }
    adam.step = progress.step;
    Ok(progress)
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor
        .to_device(tch::Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous();
    let mut bytes = vec![0; 4 * tensor.numel()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
