//! One tensor out of the bytes of its storage, whatever its offset and strides.

use super::Error;
use crate::checkpoint::pickle::View;
use crate::checkpoint::tensor::{Tensor, byte_length};

/// Cuts one tensor out of the bytes of its storage.
pub struct ViewReader<'a> {
    pub name: &'a str,
    pub view: View,
}

impl ViewReader<'_> {
    /// Uses the storage itself where the tensor is all of it.
    pub fn take(self, storage: Vec<u8>) -> Result<Tensor, Error> {
        self.check(&storage)?;
        let View {
            storage: kind,
            offset: 0,
            shape,
            ..
        } = &self.view
        else {
            return self.copy(&storage);
        };
        if !self.is_contiguous() || byte_length(kind.dtype, shape) != Some(storage.len()) {
            return self.copy(&storage);
        }
        Ok(self.tensor(storage))
    }

    pub fn copy(&self, storage: &[u8]) -> Result<Tensor, Error> {
        self.check(storage)?;
        let size = self.view.storage.dtype.size();
        let length = byte_length(self.view.storage.dtype, &self.view.shape)
            .expect("the expansion check passed");
        let data = if length == 0 {
            Vec::new()
        } else if self.is_contiguous() {
            storage[self.view.offset * size..][..length].to_vec()
        } else {
            self.gather(storage, length)
        };
        Ok(self.tensor(data))
    }

    fn tensor(&self, data: Vec<u8>) -> Tensor {
        let View { storage, shape, .. } = &self.view;
        Tensor::new(storage.dtype, shape.clone(), data).expect("the data were cut to the shape")
    }

    fn fail<T>(&self, what: String) -> Result<T, Error> {
        Err(Error::Tensor {
            name: self.name.to_owned(),
            what,
        })
    }

    /// Checks that the storage has its size and that the view stays inside.
    fn check(&self, storage: &[u8]) -> Result<(), Error> {
        let View {
            storage: kind,
            offset,
            shape,
            strides,
        } = &self.view;
        if kind.numel.checked_mul(kind.dtype.size()) != Some(storage.len()) {
            let (numel, dtype, found) = (kind.numel, kind.dtype, storage.len());
            return self.fail(format!(
                "its storage should hold {numel} {dtype} values but has {found} bytes"
            ));
        }
        if shape.contains(&0) {
            return Ok(());
        }
        let reach = |last: usize, (&size, &stride): (&usize, &usize)| {
            last.checked_add((size - 1).checked_mul(stride)?)
        };
        let last = shape.iter().zip(strides).try_fold(*offset, reach);
        if last.is_some_and(|last| last < kind.numel) {
            return Ok(());
        }
        let numel = kind.numel;
        self.fail(format!(
            "offset {offset}, shape {shape:?} and strides {strides:?} leave its storage of {numel} values"
        ))
    }

    /// Strides of dimensions with one entry do not matter.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1_usize;
        self.view
            .shape
            .iter()
            .zip(&self.view.strides)
            .rev()
            .all(|(&size, &stride)| {
                let fits = size == 1 || stride == expected;
                expected = expected.saturating_mul(size);
                fits
            })
    }

    /// Copies element by element, the last dimension fastest.
    fn gather(&self, storage: &[u8], length: usize) -> Vec<u8> {
        let View {
            storage: kind,
            offset,
            shape,
            strides,
        } = &self.view;
        let size = kind.dtype.size();
        let mut data = Vec::with_capacity(length);
        let mut index = vec![0; shape.len()];
        let mut element = *offset;
        while data.len() < length {
            data.extend_from_slice(&storage[element * size..][..size]);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                element += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                element -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        data
    }
}
