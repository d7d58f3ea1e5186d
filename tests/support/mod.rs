//! Stored reference numbers and how to compare with them.

use scgpt_tools::checkpoint::Checkpoint;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A file under `tests/data`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

/// Tensors of a safetensors file by name.
pub struct Stored(HashMap<String, Tensor>);

impl Stored {
    pub fn read(path: &str) -> Self {
        Self(
            Tensor::read_safetensors(data(path))
                .expect("a golden file")
                .into_iter()
                .collect(),
        )
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor `{name}` in the golden file"))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Largest absolute difference of two tensors of one shape.
pub fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size(), "shapes differ");
    (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double))
        .abs()
        .max()
        .double_value(&[])
}

/// Fails unless every element is within the tolerance.
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let difference = difference(&found.detach(), expected);
    assert!(
        difference <= tolerance,
        "{what} is off by {difference:e}, allowed {tolerance:e}"
    );
}

/// A golden checkpoint directory.
pub fn checkpoint(folder: &str) -> Checkpoint {
    Checkpoint::open(&data(folder)).expect("a golden checkpoint")
}
