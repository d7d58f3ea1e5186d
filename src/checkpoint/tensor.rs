//! Tensors as bytes with a type and a shape.

use std::fmt;

use half::{bf16, f16};
use indexmap::IndexMap;
use serde::Serialize;

/// Tensors by name, in the order of the file.
pub type StateDict = IndexMap<String, Tensor>;

/// Element types that torch state dicts hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// Byte length of a tensor, unless it exceeds what can be addressed.
pub fn byte_length(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |bytes, &size| bytes.checked_mul(size))
}

/// A contiguous row-major tensor, little-endian. Equality is bit for bit.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Tensor {
    /// Wraps bytes, or returns nothing when their number is not what type and shape need.
    pub fn new(dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Option<Self> {
        (byte_length(dtype, &shape)? == data.len()).then_some(Self { dtype, shape, data })
    }

    /// A float32 tensor, or nothing when the number of values is not what the shape needs.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Option<Self> {
        Self::new(
            Dtype::F32,
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    /// An int64 tensor, or nothing when the number of values is not what the shape needs.
    pub fn from_i64(shape: Vec<usize>, values: &[i64]) -> Option<Self> {
        Self::new(
            Dtype::I64,
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements in row-major order, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Elements as float32, rounded to nearest where the type is wider.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F64 => self.map(|bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F32 => self.map(f32::from_le_bytes),
            Dtype::F16 => self.map(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => self.map(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::I64 => self.map(|bytes| i64::from_le_bytes(bytes) as f32),
            Dtype::I32 => self.map(|bytes| i32::from_le_bytes(bytes) as f32),
            Dtype::I16 => self.map(|bytes| f32::from(i16::from_le_bytes(bytes))),
            Dtype::I8 => self.map(|bytes| f32::from(i8::from_le_bytes(bytes))),
            Dtype::U8 => self.map(|[byte]| f32::from(byte)),
            Dtype::Bool => self.map(|[byte]| f32::from(u8::from(byte != 0))),
        }
    }

    fn map<const N: usize>(&self, convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (elements, _) = self.data.as_chunks::<N>();
        elements.iter().map(|&bytes| convert(bytes)).collect()
    }

    /// Whether a floating-point tensor is free of NaN and infinities; true for integers.
    pub fn is_finite(&self) -> bool {
        match self.dtype {
            Dtype::F64 => self.all(|bytes| f64::from_le_bytes(bytes).is_finite()),
            Dtype::F32 => self.all(|bytes| f32::from_le_bytes(bytes).is_finite()),
            Dtype::F16 => self.all(|bytes| f16::from_le_bytes(bytes).is_finite()),
            Dtype::Bf16 => self.all(|bytes| bf16::from_le_bytes(bytes).is_finite()),
            _ => true,
        }
    }

    fn all<const N: usize>(&self, holds: impl Fn([u8; N]) -> bool) -> bool {
        let (elements, _) = self.data.as_chunks::<N>();
        elements.iter().all(|&bytes| holds(bytes))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_converts_to_float32() {
        let convert =
            |dtype, data: &[u8]| Tensor::new(dtype, vec![1], data.to_vec()).unwrap().to_f32()[0];
        assert_eq!(convert(Dtype::F64, &(-1.5_f64).to_le_bytes()), -1.5);
        assert_eq!(convert(Dtype::F32, &0.1_f32.to_le_bytes()), 0.1);
        assert_eq!(convert(Dtype::F16, &[0x00, 0x3e]), 1.5);
        assert_eq!(convert(Dtype::Bf16, &[0xc0, 0xbf]), -1.5);
        assert_eq!(convert(Dtype::I64, &(-7_i64).to_le_bytes()), -7.0);
        assert_eq!(convert(Dtype::I32, &9_i32.to_le_bytes()), 9.0);
        assert_eq!(convert(Dtype::I16, &(-2_i16).to_le_bytes()), -2.0);
        assert_eq!(convert(Dtype::I8, &[0xff]), -1.0);
        assert_eq!(convert(Dtype::U8, &[0xff]), 255.0);
        assert_eq!(convert(Dtype::Bool, &[1]), 1.0);
    }

    #[test]
    fn lengths_are_checked() {
        assert!(Tensor::new(Dtype::F32, vec![2], vec![0; 7]).is_none());
        assert!(Tensor::new(Dtype::F32, vec![usize::MAX, 2], vec![]).is_none());
        assert_eq!(
            Tensor::new(Dtype::F32, vec![0, 3], vec![])
                .unwrap()
                .to_f32(),
            Vec::<f32>::new()
        );
        assert_eq!(
            Tensor::new(Dtype::I64, vec![], vec![0; 8]).unwrap().numel(),
            1
        );
    }

    #[test]
    fn non_finite_values_are_seen() {
        assert!(Tensor::from_f32(vec![2], &[1.0, -0.0]).unwrap().is_finite());
        assert!(
            !Tensor::from_f32(vec![2], &[1.0, f32::NAN])
                .unwrap()
                .is_finite()
        );
        assert!(
            !Tensor::new(Dtype::Bf16, vec![1], vec![0x80, 0x7f])
                .unwrap()
                .is_finite()
        );
    }
}
