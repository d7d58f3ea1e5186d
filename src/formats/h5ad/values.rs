//! One-dimensional values of a dataset, of one field of a compound dataset, or of an attribute, whatever type they are stored as.

use hdf5::types::{
    CompoundField, CompoundType, H5Type, TypeDescriptor, VarLenAscii, VarLenUnicode,
};
use hdf5::{Attribute, Container, Dataset, Datatype};

use super::node::Node;
use crate::formats::Error;

/// Values of a dataset, or of one of its fields, that can be read.
pub(in crate::formats) struct Values<'n> {
    node: &'n Node,
    field: Option<&'n str>,
    kind: TypeDescriptor,
    len: usize,
}

impl<'n> Values<'n> {
    pub fn new(node: &'n Node, field: Option<&'n str>) -> Result<Self, Error> {
        let kind = match (node.descriptor()?, field) {
            (kind, None) => kind,
            (TypeDescriptor::Compound(record), Some(field)) => {
                let found = record
                    .fields
                    .into_iter()
                    .find(|candidate| candidate.name == field);
                found
                    .ok_or_else(|| node.wrong(format!("there is no field `{field}`")))?
                    .ty
            }
            (_, Some(field)) => {
                return Err(node.wrong(format!("there is no field `{field}`, it is not a table")));
            }
        };
        let len = match node.shape()?[..] {
            [] => 1,
            [len] => len,
            ref shape => {
                return Err(node.wrong(format!(
                    "{} dimensions were found, one was expected",
                    shape.len()
                )));
            }
        };
        Ok(Self {
            node,
            field,
            kind,
            len,
        })
    }

    pub fn kind(&self) -> &TypeDescriptor {
        &self.kind
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// An error about these values.
    pub fn wrong(&self, problem: impl AsRef<str>) -> Error {
        match self.field {
            Some(field) => self
                .node
                .wrong(format!("field `{field}`: {}", problem.as_ref())),
            None => self.node.wrong(problem),
        }
    }

    pub fn is_text(&self) -> bool {
        is_text(&self.kind)
    }

    pub fn is_integer(&self) -> bool {
        matches!(
            self.kind,
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)
        )
    }

    pub fn is_number(&self) -> bool {
        self.is_integer() || matches!(self.kind, TypeDescriptor::Float(_))
    }

    pub fn is_boolean(&self) -> bool {
        match &self.kind {
            TypeDescriptor::Boolean => true,
            TypeDescriptor::Enum(kind) => kind.members.iter().any(|member| member.name == "TRUE"),
            _ => false,
        }
    }

    /// Numbers of any stored width, converted to `T`; integers out of range are clamped by HDF5.
    pub fn numbers<T: H5Type>(&self) -> Result<Vec<T>, Error> {
        if !self.is_number() {
            return Err(self.wrong(format!("numbers were expected, `{}` was found", self.kind)));
        }
        self.read(T::type_descriptor(), 1)
    }

    /// Rows of `width` numbers from a field that holds an array.
    pub fn rows<T: H5Type>(&self, width: usize) -> Result<Vec<T>, Error> {
        self.read(
            TypeDescriptor::FixedArray(Box::new(T::type_descriptor()), width),
            width,
        )
    }

    /// Booleans; missing where the enumeration has a value other than true or false, such as R's `NA`.
    pub fn flags(&self) -> Result<Vec<Option<bool>>, Error> {
        let (yes, no) = match &self.kind {
            TypeDescriptor::Boolean => (Some(1), Some(0)),
            TypeDescriptor::Enum(kind) => {
                let value = |name| {
                    kind.members
                        .iter()
                        .find(|member| member.name == name)
                        .map(|member| member.value)
                };
                (value("TRUE"), value("FALSE"))
            }
            other => {
                return Err(self.wrong(format!("booleans were expected, `{other}` was found")));
            }
        };
        let decode =
            |code: u64| (Some(code) == yes || Some(code) == no).then_some(Some(code) == yes);
        // As plain integers: HDF5 gives an undefined byte for a code outside the enumeration.
        let codes = self.read::<u64>(u64::type_descriptor(), 1)?;
        Ok(codes.into_iter().map(decode).collect())
    }

    /// Texts, from strings of fixed or variable length, ASCII or UTF-8.
    pub fn texts(&self) -> Result<Vec<String>, Error> {
        let bytes = match self.kind {
            TypeDescriptor::FixedAscii(width) | TypeDescriptor::FixedUnicode(width) => {
                let flat = self.read::<u8>(self.kind.clone(), width)?;
                return flat
                    .chunks_exact(width)
                    .map(|text| self.decode(text))
                    .collect();
            }
            TypeDescriptor::VarLenAscii => self.read::<VarLenAscii>(self.kind.clone(), 1)?,
            TypeDescriptor::VarLenUnicode => {
                let texts = self.read::<VarLenUnicode>(self.kind.clone(), 1)?;
                return texts
                    .iter()
                    .map(|text| self.decode(text.as_bytes()))
                    .collect();
            }
            _ => return Err(self.wrong(format!("text was expected, `{}` was found", self.kind))),
        };
        bytes
            .iter()
            .map(|text| self.decode(text.as_bytes()))
            .collect()
    }

    fn decode(&self, text: &[u8]) -> Result<String, Error> {
        decode(text)
            .ok_or_else(|| self.wrong(format!("`{}` is not UTF-8", String::from_utf8_lossy(text))))
    }

    fn read<T: H5Type>(
        &self,
        element: TypeDescriptor,
        per_element: usize,
    ) -> Result<Vec<T>, Error> {
        check_size(self.node, self.len, element.size())?;
        let memory = match self.field {
            None => element,
            Some(field) => {
                let size = element.size();
                TypeDescriptor::Compound(CompoundType {
                    fields: vec![CompoundField::new(field, element, 0, 0)],
                    size,
                })
            }
        };
        read_items(
            &Place::Dataset(self.node.dataset()?),
            &memory,
            self.len,
            per_element,
        )
        .map_err(|source| self.node.damaged(source))
    }
}

impl Node {
    /// The values of a dataset.
    pub fn values(&self) -> Result<Values<'_>, Error> {
        Values::new(self, None)
    }

    /// The values of one field of a compound dataset.
    pub fn field<'n>(&'n self, field: &'n str) -> Result<Values<'n>, Error> {
        Values::new(self, Some(field))
    }

    /// A text attribute; none if it is missing or not text.
    pub fn text_attribute(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self
            .texts_attribute(name)?
            .and_then(|texts| texts.into_iter().next()))
    }

    /// An attribute that lists texts; none if it is missing, empty if it holds no text.
    pub fn texts_attribute(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        match self.attribute(name)? {
            Some(attribute) => Ok(Some(read_attribute_texts(self, name, &attribute)?)),
            None => Ok(None),
        }
    }

    pub fn encoding(&self) -> Result<Option<String>, Error> {
        self.text_attribute("encoding-type")
    }
}

/// Texts of an attribute; none where it holds something else (an empty list is stored as numbers).
pub(in crate::formats) fn read_attribute_texts(
    node: &Node,
    name: &str,
    attribute: &Attribute,
) -> Result<Vec<String>, Error> {
    let damaged = |source| node.damaged(source);
    let kind = attribute
        .dtype()
        .and_then(|dtype| dtype.to_descriptor())
        .map_err(damaged)?;
    let len = attribute.space().map_err(damaged)?.size();
    if !is_text(&kind) || len == 0 {
        return Ok(Vec::new());
    }
    check_size(node, len, kind.size())?;
    let place = Place::Attribute(attribute);
    let texts: Vec<Vec<u8>> = match kind {
        TypeDescriptor::FixedAscii(width) | TypeDescriptor::FixedUnicode(width) => {
            let flat = read_items::<u8>(&place, &kind, len, width).map_err(damaged)?;
            flat.chunks_exact(width).map(<[u8]>::to_vec).collect()
        }
        TypeDescriptor::VarLenAscii => {
            let texts = read_items::<VarLenAscii>(&place, &kind, len, 1).map_err(damaged)?;
            texts.iter().map(|text| text.as_bytes().to_vec()).collect()
        }
        _ => {
            let texts = read_items::<VarLenUnicode>(&place, &kind, len, 1).map_err(damaged)?;
            texts.iter().map(|text| text.as_bytes().to_vec()).collect()
        }
    };
    let invalid = || node.wrong(format!("attribute `{name}` is not UTF-8"));
    texts
        .iter()
        .map(|text| decode(text).ok_or_else(invalid))
        .collect()
}

fn is_text(kind: &TypeDescriptor) -> bool {
    use TypeDescriptor as Kind;
    matches!(
        kind,
        Kind::FixedAscii(_) | Kind::FixedUnicode(_) | Kind::VarLenAscii | Kind::VarLenUnicode
    )
}

/// Text without the padding of a fixed length; none if it is not UTF-8 (many writers mark UTF-8 as ASCII).
fn decode(text: &[u8]) -> Option<String> {
    let end = text
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    std::str::from_utf8(&text[..end]).ok().map(str::to_owned)
}

/// Rejects a declared size that the bytes in the file cannot hold, before memory is allocated for it.
///
/// deflate, the strongest of the filters that we read, shrinks at most 1032 to 1.
pub(in crate::formats) fn check_size(
    node: &Node,
    n_elements: usize,
    element_size: usize,
) -> Result<(), Error> {
    const LARGEST_COMPRESSION: u64 = 1100;
    const ALWAYS_ALLOWED: u64 = 1 << 20;
    let available = std::fs::metadata(node.file())
        .map_err(|source| Error::read(node.file(), source))?
        .len();
    let stored = match node.dataset() {
        Ok(dataset) => dataset.storage_size().min(available),
        Err(_) => available,
    };
    let limit = ALWAYS_ALLOWED + stored.saturating_mul(LARGEST_COMPRESSION);
    let declared = (n_elements as u64).saturating_mul(element_size as u64);
    if declared > limit {
        let problem = format!(
            "it declares {n_elements} elements, but only {stored} bytes are stored: the file is damaged"
        );
        return Err(node.wrong(problem));
    }
    Ok(())
}

enum Place<'a> {
    Dataset(&'a Dataset),
    Attribute(&'a Attribute),
}

/// Reads all elements through the memory type `memory`, each of which is `per_element` values of `T`.
///
/// The HDF5 binding reads only into types whose size is known at compile time: not strings of any fixed
/// length, and not one field of a table whose fields are known at run time. This is the one place that needs more.
#[allow(unsafe_code)]
fn read_items<T: H5Type>(
    place: &Place,
    memory: &TypeDescriptor,
    n_elements: usize,
    per_element: usize,
) -> hdf5::Result<Vec<T>> {
    let container: &Container = match place {
        Place::Dataset(dataset) => dataset,
        Place::Attribute(attribute) => attribute,
    };
    let n_items = n_elements
        .checked_mul(per_element)
        .ok_or("too many elements")?;
    if n_items == 0 {
        return Ok(Vec::new());
    }
    if container.space()?.size() != n_elements || memory.size() != per_element * size_of::<T>() {
        return Err("the elements do not fit the memory allocated for them".into());
    }
    let memory = Datatype::from_descriptor(memory)?;
    if container.dtype()?.conv_path(&memory).is_none() {
        return Err("the stored type cannot be converted".into());
    }
    let mut items = Vec::<T>::with_capacity(n_items);
    let buffer = items.as_mut_ptr().cast();
    // SAFETY: the buffer holds `n_elements` elements of the memory type, as checked above, and every call below fills
    // all of them or reports an error. `T` is a number or one of the binding's owners of a string that HDF5 allocated.
    let status = hdf5::sync::sync(|| unsafe {
        match place {
            Place::Dataset(dataset) => {
                let (all, default) = (hdf5_sys::h5s::H5S_ALL, hdf5_sys::h5p::H5P_DEFAULT);
                hdf5_sys::h5d::H5Dread(dataset.id(), memory.id(), all, all, default, buffer)
            }
            Place::Attribute(attribute) => {
                hdf5_sys::h5a::H5Aread(attribute.id(), memory.id(), buffer)
            }
        }
    });
    hdf5::h5check(status)?;
    // SAFETY: filled just now.
    unsafe { items.set_len(n_items) };
    Ok(items)
}
