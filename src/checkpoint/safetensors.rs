//! State dicts as safetensors files.
//!
//! The header is parsed and validated by the `safetensors` crate; tensors are then read one by one, so that the file is
//! never twice in memory. See docs/methods.md, "Checkpoint files".

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use super::tensor::{Dtype, StateDict, Tensor};

/// A thousand times what scGPT needs; parsing takes a multiple of it in memory.
const MAX_HEADER: u64 = 16 << 20;

/// Why a safetensors file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read or write the file")]
    Io(#[from] std::io::Error),
    #[error(
        "the header declares a length of {header} bytes in a file of {file} bytes; the file is truncated or not safetensors"
    )]
    Header { header: u64, file: u64 },
    #[error("the header is not that of a safetensors file")]
    Json(#[from] serde_json::Error),
    #[error(
        "the header describes {described} bytes of tensors but the file has {found}; the file is truncated or damaged"
    )]
    Length { described: u64, found: u64 },
    #[error("tensor `{name}` has type {dtype}, which no scGPT checkpoint uses")]
    Dtype { name: String, dtype: String },
    #[error("could not arrange the tensors")]
    Write(#[from] safetensors::SafeTensorError),
}

/// Reads a state dict, in the order in which the tensors lie in the file.
pub fn read(path: &Path) -> Result<StateDict, Error> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let metadata = read_header(&mut file, length)?;
    let mut state = StateDict::with_capacity(metadata.tensors().len());
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let tensor = read_tensor(&mut file, &name, info)?;
        state.insert(name, tensor);
    }
    Ok(state)
}

/// Reads and validates the header: tensors lie one after the other and fill the rest of the file.
fn read_header(file: &mut impl Read, length: u64) -> Result<Metadata, Error> {
    let mut size = [0; 8];
    let found = if length >= 8 {
        file.read_exact(&mut size)
            .map(|()| u64::from_le_bytes(size))?
    } else {
        0
    };
    if length < 8 || found > MAX_HEADER.min(length - 8) {
        return Err(Error::Header {
            header: found,
            file: length,
        });
    }
    let mut header = Vec::new();
    file.take(found).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let (described, rest) = (metadata.data_len() as u64, length - 8 - found);
    if described == rest {
        Ok(metadata)
    } else {
        Err(Error::Length {
            described,
            found: rest,
        })
    }
}

fn read_tensor(file: &mut impl Read, name: &str, info: &TensorInfo) -> Result<Tensor, Error> {
    let dtype = Dtype::try_from(info.dtype).map_err(|()| Error::Dtype {
        name: name.to_owned(),
        dtype: format!("{:?}", info.dtype),
    })?;
    let (start, end) = info.data_offsets;
    let mut data = vec![0; end - start];
    file.read_exact(&mut data)?;
    Ok(Tensor::new(dtype, info.shape.clone(), data).expect("the header was validated"))
}

/// Writes a state dict; the same tensors give the same bytes, whatever their order.
///
/// Metadata contain `format`: `pt`, which other readers use to create the tensors.
pub fn write(path: &Path, state: &StateDict) -> Result<(), Error> {
    // The crate can write to a file itself, but makes it readable by its owner alone.
    let bytes = to_bytes(state)?;
    let mut file = File::create(path)?;
    file.write_all(&bytes)?;
    Ok(file.sync_all()?)
}

/// A state dict as the content of a file.
pub fn to_bytes(state: &StateDict) -> Result<Vec<u8>, Error> {
    let views = state
        .iter()
        .map(|(name, tensor)| Ok((name, view(tensor)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

fn view(tensor: &Tensor) -> Result<TensorView<'_>, Error> {
    Ok(TensorView::new(
        tensor.dtype().into(),
        tensor.shape().to_vec(),
        tensor.bytes(),
    )?)
}

impl TryFrom<safetensors::Dtype> for Dtype {
    type Error = ();

    fn try_from(dtype: safetensors::Dtype) -> Result<Self, ()> {
        Ok(match dtype {
            safetensors::Dtype::F64 => Self::F64,
            safetensors::Dtype::F32 => Self::F32,
            safetensors::Dtype::F16 => Self::F16,
            safetensors::Dtype::BF16 => Self::Bf16,
            safetensors::Dtype::I64 => Self::I64,
            safetensors::Dtype::I32 => Self::I32,
            safetensors::Dtype::I16 => Self::I16,
            safetensors::Dtype::I8 => Self::I8,
            safetensors::Dtype::U8 => Self::U8,
            safetensors::Dtype::BOOL => Self::Bool,
            _ => return Err(()),
        })
    }
}

impl From<Dtype> for safetensors::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
            Dtype::I64 => Self::I64,
            Dtype::I32 => Self::I32,
            Dtype::I16 => Self::I16,
            Dtype::I8 => Self::I8,
            Dtype::U8 => Self::U8,
            Dtype::Bool => Self::BOOL,
        }
    }
}
