//! State dicts in the file format of Python torch: a zip archive with a pickle of names and one blob per storage.
//!
//! Reads what `torch.save(model.state_dict(), path)` writes and one dictionary around it; nothing else that torch can
//! serialize. Memory stays within a fixed multiple of the file. See docs/methods.md, "Checkpoint files".

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Heap, Value, View};
use super::tensor::{StateDict, byte_length};
use view::ViewReader;
pub use write::write;

mod view;
mod write;

/// A hundred times what scGPT needs. A pickle can describe fifty times its length in empty containers.
const MAX_PICKLE: u64 = 4 << 20;

/// Tensors may share storages or repeat elements, but in total not exceed the file more than this.
const MAX_EXPANSION: u64 = 16;

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
    #[error(
        "the archive has no member `{0}`; it was not written by `torch.save`, or it is damaged"
    )]
    NoMember(String),
    #[error("member `{0}` is compressed, which torch never does; rejected")]
    Compressed(String),
    #[error("member `{0}` claims more bytes than the file has; rejected")]
    TooLarge(String),
    #[error(
        "the pickle of names has {0} bytes, more than the {MAX_PICKLE} that are read; rejected"
    )]
    LongPickle(u64),
    #[error("the tensors are big-endian; save the file again on a little-endian machine")]
    BigEndian,
    #[error("could not read the names of the tensors")]
    Pickle(#[from] pickle::Error),
    #[error("the file holds no state dict: {0}")]
    NoStateDict(String),
    #[error("tensor `{name}` cannot be read: {what}")]
    Tensor { name: String, what: String },
    #[error(
        "the tensors together would be more than {MAX_EXPANSION} times as large as the file; rejected"
    )]
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
    let pickle::Loaded { root, heap } = pickle::load(&archive.pickle()?)?;
    archive.check_byte_order()?;
    let Found { views, unwrapped } = Found::in_value(&root, &heap)?;
    let state = archive.tensors(views)?;
    Ok(Contents { state, unwrapped })
}

fn check_magic(file: &mut File) -> Result<(), Error> {
    /// A protocol 2 pickle of torch's magic number.
    const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc";
    let mut start = Vec::new();
    (&*file).take(8).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if start.starts_with(LEGACY) {
        return Err(Error::Legacy);
    }
    if start.starts_with(b"PK") {
        Ok(())
    } else {
        Err(Error::NotZip)
    }
}

/// The members of a file below their common directory.
struct Archive {
    zip: ZipArchive<File>,
    directory: String,
    file_length: u64,
    /// Bytes that members may still claim, so that overlapping members cannot multiply.
    unread: u64,
}

impl Archive {
    fn open(file: File) -> Result<Self, Error> {
        let file_length = file.metadata()?.len();
        let zip = ZipArchive::new(file)?;
        let pickles = zip
            .file_names()
            .filter_map(|name| Some(name.ok()?.strip_suffix("/data.pkl")?.to_owned()));
        let directory = pickles
            .min_by_key(String::len)
            .ok_or_else(|| Error::NoMember("data.pkl".into()))?;
        Ok(Self {
            zip,
            directory,
            file_length,
            unread: file_length,
        })
    }

    fn has(&self, member: &str) -> bool {
        self.zip
            .index_for_name_raw(format!("{}/{member}", self.directory).as_bytes())
            .is_some()
    }

    fn pickle(&mut self) -> Result<Vec<u8>, Error> {
        let (_, size) = self.find("data.pkl")?;
        if size > MAX_PICKLE {
            Err(Error::LongPickle(size))
        } else {
            self.member("data.pkl")
        }
    }

    /// Position and size of a member, which must lie in the archive as it is.
    fn find(&mut self, member: &str) -> Result<(usize, u64), Error> {
        let name = format!("{}/{member}", self.directory);
        let Some(index) = self.zip.index_for_name_raw(name.as_bytes()) else {
            return Err(Error::NoMember(name));
        };
        let entry = self.zip.by_index_raw(index)?;
        if entry.compression() != CompressionMethod::Stored
            || entry.size() != entry.compressed_size()
        {
            return Err(Error::Compressed(name));
        }
        Ok((index, entry.size()))
    }

    /// Reads a member, whose checksum is verified on the way.
    fn member(&mut self, member: &str) -> Result<Vec<u8>, Error> {
        let (index, size) = self.find(member)?;
        let too_large = || Error::TooLarge(member.to_owned());
        self.unread = self.unread.checked_sub(size).ok_or_else(too_large)?;
        let mut bytes = Vec::with_capacity(size as usize);
        self.zip.by_index(index)?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size {
            Ok(bytes)
        } else {
            Err(too_large())
        }
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
        let bytes = |view: &View| {
            byte_length(view.storage.dtype, &view.shape).map_or(u64::MAX, |bytes| bytes as u64)
        };
        let total = views
            .iter()
            .fold(0_u64, |total, (_, view)| total.saturating_add(bytes(view)));
        if total > self.file_length.saturating_mul(MAX_EXPANSION) {
            Err(Error::Expansion)
        } else {
            Ok(())
        }
    }
}

/// The tensors of a dictionary, or the reason why it is not a state dict.
fn state_dict_views(dict: &[(Value, Value)], heap: &Heap) -> Result<Vec<(String, View)>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut views = Vec::with_capacity(dict.len());
    for (key, value) in dict {
        let Value::Text(name) = key else {
            return Err(format!("a key is not a name but {}", kind(key)));
        };
        let Value::Tensor(tensor) = *value else {
            return Err(format!("`{name}` is not a tensor but {}", kind(value)));
        };
        if !seen.insert(name.clone()) {
            return Err(format!("`{name}` appears more than once"));
        }
        views.push((name.to_string(), heap.tensors[tensor].clone()));
    }
    if views.is_empty() {
        Err("the dictionary is empty".into())
    } else {
        Ok(views)
    }
}

/// A state dict among the values of a pickle.
struct Found {
    views: Vec<(String, View)>,
    unwrapped: Option<String>,
}

impl Found {
    /// Finds the state dict at the top, or one level down where exactly one entry is one.
    fn in_value(root: &Value, heap: &Heap) -> Result<Self, Error> {
        let Value::Dict(root) = *root else {
            return Err(Error::NoStateDict(format!("it holds {}", kind(root))));
        };
        let reason = match state_dict_views(&heap.dicts[root], heap) {
            Ok(views) => {
                return Ok(Self {
                    views,
                    unwrapped: None,
                });
            }
            Err(reason) => reason,
        };
        let candidates = candidates(&heap.dicts[root], heap);
        match candidates.as_slice() {
            [] => Err(Error::NoStateDict(reason)),
            [(key, dict)] => {
                let views =
                    state_dict_views(&heap.dicts[*dict], heap).map_err(Error::NoStateDict)?;
                Ok(Self {
                    views,
                    unwrapped: Some((*key).to_owned()),
                })
            }
            several => {
                let keys: Vec<_> = several
                    .iter()
                    .take(5)
                    .map(|(key, _)| format!("`{key}`"))
                    .collect();
                let keys = keys.join(", ");
                Err(Error::NoStateDict(format!(
                    "it holds several ({keys}); save only one of them"
                )))
            }
        }
    }
}

/// The entries of a dictionary that are state dicts, each dictionary once however many keys it has.
fn candidates<'a>(entries: &'a [(Value, Value)], heap: &Heap) -> Vec<(&'a str, usize)> {
    let mut tried = std::collections::HashSet::new();
    let mut found = Vec::new();
    for entry in entries {
        if let (Value::Text(key), &Value::Dict(dict)) = (&entry.0, &entry.1)
            && tried.insert(dict)
            && state_dict_views(&heap.dicts[dict], heap).is_ok()
        {
            found.push((&**key, dict));
        }
    }
    found
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
