//! Weights from a state dict into a model and back, with a list of loaded, missing and unused tensors (docs/methods.md, "Loading
//! weights").

use super::store::Store;
use crate::checkpoint::{StateDict, Tensor as Stored};
use serde::Serialize;
use std::fmt;
use tch::{Device, Kind, Tensor, no_grad};

/// Prefixes of the backbone: without these tensors a model is not the published one.
const BACKBONE: [&str; 3] = ["encoder.", "value_encoder.", "transformer_encoder."];

/// Loading status of every tensor of a checkpoint and of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    pub loaded: Vec<String>,
    /// In the model, not in the checkpoint: left at its initial values.
    pub missing: Vec<String>,
    /// In the checkpoint, not in the model: not used.
    pub unexpected: Vec<String>,
    /// In both with different shapes: left at its initial values.
    pub wrong_shape: Vec<WrongShape>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrongShape {
    pub name: String,
    pub stored: Vec<usize>,
    pub model: Vec<usize>,
}

/// Required tensors that are missing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the checkpoint does not hold the model: {}; run `scgpt-checkpoint inspect` on it", .0.join(", "))]
pub struct Incomplete(pub Vec<String>);

impl Table {
    /// Fails if a tensor of the backbone was not loaded.
    pub fn require_backbone(&self) -> Result<(), Incomplete> {
        self.require(|name| BACKBONE.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// Fails if any tensor of the model was not loaded.
    pub fn require_all(&self) -> Result<(), Incomplete> {
        self.require(|_| true)
    }

    fn require(&self, needed: impl Fn(&str) -> bool) -> Result<(), Incomplete> {
        let missing = self
            .missing
            .iter()
            .filter(|name| needed(name))
            .map(|name| format!("`{name}` is missing"));
        let wrong = self
            .wrong_shape
            .iter()
            .filter(|wrong| needed(&wrong.name))
            .map(ToString::to_string);
        let problems: Vec<String> = missing.chain(wrong).collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Incomplete(problems))
        }
    }
}

impl fmt::Display for WrongShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is {:?} and should be {:?}",
            self.name, self.stored, self.model
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<String> = self.wrong_shape.iter().map(ToString::to_string).collect();
        write!(f, "weights: {} tensors loaded", self.loaded.len())?;
        for (what, names) in [
            ("new, at initial values", &self.missing),
            ("not used", &self.unexpected),
            ("of another shape, at initial values", &wrong),
        ] {
            if !names.is_empty() {
                write!(f, "\n  {} {what}: {}", names.len(), names.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Copies every tensor whose name and shape the model has.
pub fn load(store: &Store, state: &StateDict) -> Table {
    let mut table = Table::default();
    for (name, tensor) in store.tensors() {
        let model: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        match state.get(name) {
            None => table.missing.push(name.to_owned()),
            Some(stored) if stored.shape() == model => {
                no_grad(|| {
                    tensor
                        .shallow_clone()
                        .copy_(&to_torch(stored).view_as(tensor))
                });
                table.loaded.push(name.to_owned());
            }
            Some(stored) => {
                table.wrong_shape.push(WrongShape {
                    name: name.to_owned(),
                    stored: stored.shape().to_vec(),
                    model,
                });
            }
        }
    }
    let unused = state.keys().filter(|name| store.tensor(name).is_none());
    table.unexpected = unused.cloned().collect();
    table
}

/// The state dict with the first `known` gene embeddings of a stored table and this model's own for the others; none if the table
/// already has the rows of the model.
pub fn with_more_genes(store: &Store, state: &StateDict, known: usize) -> Option<StateDict> {
    const TABLE: &str = "encoder.embedding.weight";
    let (stored, own) = (state.get(TABLE)?, store.tensor(TABLE)?);
    let (rows, dim) = (own.size()[0], own.size()[1]);
    if stored.shape() == [rows as usize, dim as usize] && known as i64 == rows {
        return None;
    }
    let &[stored_rows, stored_dim] = stored.shape() else {
        return None;
    };
    if stored_dim as i64 != dim || known > stored_rows {
        return None;
    }
    let mut values = from_torch(own).to_f32();
    let kept = known * stored_dim;
    values[..kept].copy_from_slice(&stored.to_f32()[..kept]);
    let mut extended = state.clone();
    let table = Stored::from_f32(vec![rows as usize, stored_dim], &values);
    extended.insert(
        TABLE.to_owned(),
        table.expect("as many values as the shape"),
    );
    Some(extended)
}

/// Every parameter and buffer of a model.
pub fn state(store: &Store) -> StateDict {
    store
        .tensors()
        .map(|(name, tensor)| (name.to_owned(), from_torch(tensor)))
        .collect()
}

/// One vector of the stored values, as f32.
pub fn to_torch(stored: &Stored) -> Tensor {
    Tensor::from_slice(&stored.to_f32())
}

fn from_torch(tensor: &Tensor) -> Stored {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let tensor = tensor
        .detach()
        .to_device(Device::Cpu)
        .contiguous()
        .view([-1]);
    if tensor.kind() == Kind::Int64 {
        let values = Vec::<i64>::try_from(&tensor).expect("an int64 vector");
        return Stored::from_i64(shape, &values).expect("as many values as the shape");
    }
    let values = Vec::<f32>::try_from(&tensor.to_kind(Kind::Float)).expect("a float vector");
    Stored::from_f32(shape, &values).expect("as many values as the shape")
}
