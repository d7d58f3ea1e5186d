//! Writes state dicts as Python torch does.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Error;
use crate::checkpoint::tensor::{Dtype, StateDict};

/// Where storages start in the file, in bytes, as torch aligns them.
const ALIGNMENT: u16 = 64;
/// Top directory of the archive, named after the file as torch names it.
const TOP_DIRECTORY: &str = "best_model";

/// Writes a state dict that `torch.load(path, weights_only=True)` reads as an `OrderedDict`.
///
/// The same tensors give the same bytes. The file is not moved into place atomically; callers write into a new directory.
pub fn write(path: &Path, state: &StateDict) -> Result<(), Error> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path)?));
    let mut member = |name: &str, bytes: &[u8]| -> Result<(), Error> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        zip.start_file(format!("{TOP_DIRECTORY}/{name}"), options)?;
        Ok(zip.write_all(bytes)?)
    };
    member("data.pkl", &to_pickle(state))?;
    member("byteorder", b"little")?;
    for (position, tensor) in state.values().enumerate() {
        member(&format!("data/{position}"), tensor.bytes())?;
    }
    member("version", b"3\n")?;
    let file = zip
        .finish()?
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

/// An ordered dictionary of tensors, each with a storage of its own, as a protocol 2 pickle without memo.
fn to_pickle(state: &StateDict) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (position, (name, tensor)) in state.iter().enumerate() {
        push_text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        push_text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{}\n", storage_class(tensor.dtype())).bytes());
        push_text(&mut pickle, &position.to_string());
        push_text(&mut pickle, "cpu");
        push_integer(&mut pickle, tensor.numel());
        pickle.extend(b"tQK\x00");
        push_sizes(&mut pickle, tensor.shape());
        push_sizes(&mut pickle, &contiguous_strides(tensor.shape()));
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    pickle
}

fn push_text(pickle: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("tensor names are shorter than 4 GiB");
    pickle.push(b'X');
    pickle.extend(length.to_le_bytes());
    pickle.extend(text.bytes());
}

fn push_integer(pickle: &mut Vec<u8>, value: usize) {
    if let Ok(small) = i32::try_from(value) {
        pickle.push(b'J');
        pickle.extend(small.to_le_bytes());
    } else {
        pickle.extend(b"\x8a\x08");
        pickle.extend((value as u64).to_le_bytes());
    }
}

fn push_sizes(pickle: &mut Vec<u8>, sizes: &[usize]) {
    pickle.push(b'(');
    for &size in sizes {
        push_integer(pickle, size);
    }
    pickle.push(b't');
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

fn storage_class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "DoubleStorage",
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::Bf16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I8 => "CharStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
    }
}
