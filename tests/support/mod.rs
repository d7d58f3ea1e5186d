//! Stored golden numbers and how to compare with them; simulated cells; the programs.

pub mod cells;
pub mod interruption;
pub mod needs;
pub mod programs;
pub mod python;
pub mod simulation;
pub mod trained;

use scgpt_tools::checkpoint::Checkpoint;
use sha2::{Digest, Sha256};
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

    /// A matrix as rows of floats.
    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        Vec::try_from(self.get(name).to_kind(Kind::Float)).expect("a matrix")
    }

    /// A matrix as rows of whole numbers.
    pub fn whole_rows(&self, name: &str) -> Vec<Vec<i64>> {
        Vec::try_from(self.get(name)).expect("a matrix of whole numbers")
    }

    /// A vector of positions.
    pub fn positions(&self, name: &str) -> Vec<usize> {
        let vector = Vec::<i64>::try_from(self.get(name)).expect("a vector of whole numbers");
        vector
            .into_iter()
            .map(|at| usize::try_from(at).expect("a position"))
            .collect()
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

/// Checksum in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
