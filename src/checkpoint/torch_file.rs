//! State dicts in the file format of Python torch: a zip archive with a pickle of names and one blob per storage.
//!
//! Reads what `torch.save(model.state_dict(), path)` writes and one dictionary around it; nothing else that torch can
//! serialise. Memory stays within a fixed multiple of the file. Source: reference section 2.1.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::pickle::{self, Heap, Value, View};
use super::tensor::{Dtype, StateDict, Tensor, byte_length};

/// Tensors may share storages or repeat elements, but in total not exceed the file more than this.
const MAX_EXPANSION: u64 = 16;
/// Where storages start in the file, in bytes, as torch aligns them.
const ALIGNMENT: u16 = 64;
/// Top folder of the archive, named after the file as torch names it.
const FOLDER: &str = "best_model";

/// Why a torch file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read or write the file")]
    Io(#[from] std::io::Error),
    #[error(
        "the file was written by torch before 1.6, in a format that is no zip archive; convert it with Python: \
         `torch.save(torch.load(\"old.pt\", weights_only=True), \"best_model.pt\")`"
    )]
    Legacy,
    #[error("the file is not a zip archive, as torch writes them")]
    NotZip,
    #[error("the zip archive is truncated or damaged")]
    Zip(#[from] zip::result::ZipError),
    #[error("the archive has no member `{0}`; it was not written by `torch.save`, or it is damaged")]
    NoMember(String),
    #[error("member `{0}` is compressed, which torch never does; refused")]
    Compressed(String),
    #[error("member `{0}` claims more bytes than the file has; refused")]
    TooLarge(String),
    #[error("the tensors are big-endian; save the file again on a little-endian machine")]
    BigEndian,
    #[error("could not read the names of the tensors")]
    Pickle(#[from] pickle::Error),
    #[error("the file holds no state dict: {0}")]
    NoStateDict(String),
    #[error("tensor `{name}` cannot be read: {what}")]
    Tensor { name: String, what: String },
    #[error("the tensors together would be more than {MAX_EXPANSION} times as large as the file; refused")]
    Expansion,
}

/// What a torch file holds.
#[derive(Debug)]
pub struct Contents {
    pub state: StateDict,
    /// The key under which a dictionary around the state dict held it.
    pub unwrapped: Option<String>,
}

/// Reads a state dict.
///
/// Fails on anything that is not one, on files of torch before 1.6, and on damage; never runs code from the file.
pub fn read(path: &Path) -> Result<Contents, Error> {
    let mut file = File::open(path)?;
    check_magic(&mut file)?;
    let mut archive = Archive::open(file)?;
    let pickle::Loaded { root, heap } = pickle::load(&archive.member("data.pkl")?)?;
    archive.check_byte_order()?;
    let (views, unwrapped) = find_state_dict(&root, &heap)?;
    let state = archive.tensors(views)?;
    Ok(Contents { state, unwrapped })
}

fn check_magic(file: &mut File) -> Result<(), Error> {
    /// A protocol 2 pickle of torch's magic number, and the start of a tar archive of torch 0.1.
    const LEGACY: [&[u8]; 2] = [b"\x80\x02\x8a\x0a\x6c\xfc", b"storages"];
    let mut start = Vec::new();
    (&*file).take(8).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if LEGACY.iter().any(|magic| start.starts_with(magic)) {
        return Err(Error::Legacy);
    }
    if start.starts_with(b"PK") { Ok(()) } else { Err(Error::NotZip) }
}

/// The members of a file below their common folder.
struct Archive {
    zip: ZipArchive<File>,
    folder: String,
    file_length: u64,
    /// Bytes that members may still claim, so that overlapping members cannot multiply.
    unread: u64,
}

impl Archive {
    fn open(file: File) -> Result<Self, Error> {
        let file_length = file.metadata()?.len();
        let zip = ZipArchive::new(file)?;
        let pickles = zip.file_names().filter_map(|name| Some(name.ok()?.strip_suffix("/data.pkl")?.to_owned()));
        let folder = pickles.min_by_key(String::len).ok_or_else(|| Error::NoMember("data.pkl".into()))?;
        Ok(Self { zip, folder, file_length, unread: file_length })
    }

    fn has(&self, member: &str) -> bool {
        self.zip.index_for_name_raw(format!("{}/{member}", self.folder).as_bytes()).is_some()
    }

    /// Reads a member, whose checksum is verified on the way.
    fn member(&mut self, member: &str) -> Result<Vec<u8>, Error> {
        let name = format!("{}/{member}", self.folder);
        let index = self.zip.index_for_name_raw(name.as_bytes()).ok_or_else(|| Error::NoMember(name.clone()))?;
        let mut entry = self.zip.by_index(index)?;
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            return Err(Error::Compressed(name));
        }
        let size = entry.size();
        self.unread = self.unread.checked_sub(size).ok_or_else(|| Error::TooLarge(name.clone()))?;
        let mut bytes = Vec::with_capacity(size as usize);
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(Error::TooLarge(name)) }
    }

    fn check_byte_order(&mut self) -> Result<(), Error> {
        if self.has("byteorder") && self.member("byteorder")? == b"big" {
            return Err(Error::BigEndian);
        }
        Ok(())
    }

    /// Reads every storage once and forgets it after its last tensor.
    fn tensors(&mut self, views: Vec<(String, View)>) -> Result<StateDict, Error> {
        self.check_expansion(&views)?;
        let mut uses = HashMap::new();
        for (_, view) in &views {
            *uses.entry(view.storage.key.clone()).or_insert(0_usize) += 1;
        }
        let mut storages = HashMap::new();
        let mut state = StateDict::with_capacity(views.len());
        for (name, view) in views {
            let key = view.storage.key.clone();
            let storage = match storages.remove(&key) {
                Some(storage) => storage,
                None => self.member(&format!("data/{key}"))?,
            };
            let left = uses.get_mut(&key).expect("every key was counted");
            *left -= 1;
            let reader = ViewReader { name: &name, view };
            let tensor = if *left == 0 {
                reader.take(storage)?
            } else {
                let tensor = reader.copy(&storage)?;
                storages.insert(key, storage);
                tensor
            };
            state.insert(name, tensor);
        }
        Ok(state)
    }

    fn check_expansion(&self, views: &[(String, View)]) -> Result<(), Error> {
        let bytes = |view: &View| byte_length(view.storage.dtype, &view.shape).map_or(u64::MAX, |bytes| bytes as u64);
        let total = views.iter().fold(0_u64, |total, (_, view)| total.saturating_add(bytes(view)));
        if total > self.file_length.saturating_mul(MAX_EXPANSION) { Err(Error::Expansion) } else { Ok(()) }
    }
}

/// Cuts one tensor out of the bytes of its storage.
struct ViewReader<'a> {
    name: &'a str,
    view: View,
}

impl ViewReader<'_> {
    /// Uses the storage itself where the tensor is all of it.
    fn take(self, storage: Vec<u8>) -> Result<Tensor, Error> {
        self.check(&storage)?;
        let View { storage: kind, offset: 0, shape, .. } = &self.view else { return self.copy(&storage) };
        if !self.is_contiguous() || byte_length(kind.dtype, shape) != Some(storage.len()) {
            return self.copy(&storage);
        }
        Ok(self.tensor(storage))
    }

    fn copy(&self, storage: &[u8]) -> Result<Tensor, Error> {
        self.check(storage)?;
        let size = self.view.storage.dtype.size();
        let length = byte_length(self.view.storage.dtype, &self.view.shape).expect("the expansion check passed");
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
        Err(Error::Tensor { name: self.name.to_owned(), what })
    }

    /// Checks that the storage has its size and that the view stays inside.
    fn check(&self, storage: &[u8]) -> Result<(), Error> {
        let View { storage: kind, offset, shape, strides } = &self.view;
        if kind.numel.checked_mul(kind.dtype.size()) != Some(storage.len()) {
            let (numel, dtype, found) = (kind.numel, kind.dtype, storage.len());
            return self.fail(format!("its storage should hold {numel} {dtype} values but has {found} bytes"));
        }
        if shape.contains(&0) {
            return Ok(());
        }
        let reach = |last: usize, (&size, &stride): (&usize, &usize)| last.checked_add((size - 1).checked_mul(stride)?);
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
        self.view.shape.iter().zip(&self.view.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.saturating_mul(size);
            fits
        })
    }

    /// Copies element by element, the last dimension fastest.
    fn gather(&self, storage: &[u8], length: usize) -> Vec<u8> {
        let View { storage: kind, offset, shape, strides } = &self.view;
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

/// The tensors of a dictionary, or the reason why it is not a state dict.
fn state_dict_views(dict: &[(Value, Value)], heap: &Heap) -> Result<Vec<(String, View)>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut views = Vec::with_capacity(dict.len());
    for (key, value) in dict {
        let Value::Text(name) = key else { return Err(format!("a key is not a name but {}", kind(key))) };
        let Value::Tensor(tensor) = *value else { return Err(format!("`{name}` is not a tensor but {}", kind(value))) };
        if !seen.insert(name.clone()) {
            return Err(format!("`{name}` appears more than once"));
        }
        views.push((name.to_string(), heap.tensors[tensor].clone()));
    }
    if views.is_empty() { Err("the dictionary is empty".into()) } else { Ok(views) }
}

/// Finds the state dict at the top, or one level down where exactly one entry is one.
fn find_state_dict(root: &Value, heap: &Heap) -> Result<(Vec<(String, View)>, Option<String>), Error> {
    let Value::Dict(root) = *root else {
        return Err(Error::NoStateDict(format!("it holds {}", kind(root))));
    };
    let reason = match state_dict_views(&heap.dicts[root], heap) {
        Ok(views) => return Ok((views, None)),
        Err(reason) => reason,
    };
    // The same dictionary under many keys is read only once, so that the work stays within the length of the input.
    let mut candidates: Vec<(&str, usize)> = Vec::new();
    let mut tried = std::collections::HashSet::new();
    for (key, value) in &heap.dicts[root] {
        if let (Value::Text(key), &Value::Dict(dict)) = (key, value)
            && tried.insert(dict)
            && state_dict_views(&heap.dicts[dict], heap).is_ok()
        {
            candidates.push((key, dict));
        }
    }
    match candidates.as_slice() {
        [] => Err(Error::NoStateDict(reason)),
        [(key, dict)] => {
            let views = state_dict_views(&heap.dicts[*dict], heap).map_err(Error::NoStateDict)?;
            Ok((views, Some((*key).to_owned())))
        }
        several => {
            let keys: Vec<_> = several.iter().take(5).map(|(key, _)| format!("`{key}`")).collect();
            Err(Error::NoStateDict(format!("it holds several ({}); save the one you mean by itself", keys.join(", "))))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "`None`",
        Value::Bool => "a boolean",
        Value::Int(_) => "an integer",
        Value::Float => "a number",
        Value::Text(_) => "a text",
        Value::Global(_) => "a class or function",
        Value::Tuple(_) | Value::List(_) => "a sequence",
        Value::Dict(_) => "a dictionary",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
    }
}

/// Writes a state dict that `torch.load(path, weights_only=True)` reads as an `OrderedDict`.
///
/// The same tensors give the same bytes. The file is not moved into place atomically; callers write into a new folder.
pub fn write(path: &Path, state: &StateDict) -> Result<(), Error> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path)?));
    let mut member = |name: &str, bytes: &[u8]| -> Result<(), Error> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        Ok(zip.write_all(bytes)?)
    };
    member("data.pkl", &to_pickle(state))?;
    member("byteorder", b"little")?;
    for (position, tensor) in state.values().enumerate() {
        member(&format!("data/{position}"), tensor.bytes())?;
    }
    member("version", b"3\n")?;
    let file = zip.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
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
