//! Writes single elements in the current AnnData encodings.

use std::str::FromStr;

use hdf5::types::{H5Type, VarLenUnicode};
use hdf5::{Dataset, Group, Location, Result};
use serde_json::Value;

use crate::formats::Column;

const DEFLATE_LEVEL: u8 = 4;

/// Creates a group marked as a mapping of names to elements.
pub(super) fn dict(parent: &Group, name: &str) -> Result<Group> {
    let group = group(parent, name)?;
    mark(&group, "dict", "0.1.0")?;
    Ok(group)
}

/// Creates a group without a time stamp, so that the same content gives the same bytes.
pub(super) fn group(parent: &Group, name: &str) -> Result<Group> {
    parent
        .create_group_builder()
        .obj_track_times(false)
        .create(name)
}

/// Sets the encoding attributes of an element.
pub(super) fn mark(element: &Location, encoding: &str, version: &str) -> Result<()> {
    text_attribute(element, "encoding-type", encoding)?;
    text_attribute(element, "encoding-version", version)
}

pub(super) fn text_attribute(element: &Location, name: &str, text: &str) -> Result<()> {
    element
        .new_attr::<VarLenUnicode>()
        .create(name)?
        .write_scalar(&to_hdf5(text)?)
}

pub(super) fn array_attribute<T: H5Type>(
    element: &Location,
    name: &str,
    values: &[T],
) -> Result<()> {
    element
        .new_attr::<T>()
        .shape(values.len())
        .create(name)?
        .write_raw(values)
}

/// Marks a group as a data frame with the given index and columns.
pub(super) fn mark_frame(frame: &Group, index: &str, columns: &[String]) -> Result<()> {
    mark(frame, "dataframe", "0.2.0")?;
    text_attribute(frame, "_index", index)?;
    column_order(frame, columns)
}

/// Sets the list of columns of a data frame.
pub(super) fn column_order(frame: &Group, columns: &[String]) -> Result<()> {
    const NAME: &str = "column-order";
    if frame.attr_names()?.iter().any(|name| name == NAME) {
        frame.delete_attr(NAME)?;
    }
    let columns: Vec<VarLenUnicode> = columns
        .iter()
        .map(|column| to_hdf5(column))
        .collect::<Result<_>>()?;
    array_attribute(frame, NAME, &columns)
}

/// Writes values in row-major order, compressed.
pub(super) fn array<T: H5Type>(
    parent: &Group,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> Result<()> {
    let dataset = compressed(parent, name, shape, values)?;
    mark(&dataset, "array", "0.2.0")
}

/// Writes values without encoding attributes, as in the parts of a sparse matrix.
pub(super) fn compressed<T: H5Type>(
    parent: &Group,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> Result<Dataset> {
    let builder = parent.new_dataset::<T>().obj_track_times(false);
    // A dataset without elements cannot be cut into chunks, and only chunks are compressed.
    let builder = if values.is_empty() {
        builder
    } else {
        builder.deflate(DEFLATE_LEVEL)
    };
    let dataset = builder.shape(shape).create(name)?;
    dataset.write_raw(values)?;
    Ok(dataset)
}

pub(super) fn texts<S: AsRef<str>>(parent: &Group, name: &str, texts: &[S]) -> Result<()> {
    let texts: Vec<VarLenUnicode> = texts
        .iter()
        .map(|text| to_hdf5(text.as_ref()))
        .collect::<Result<_>>()?;
    let dataset = parent
        .new_dataset::<VarLenUnicode>()
        .obj_track_times(false)
        .shape(texts.len())
        .create(name)?;
    dataset.write_raw(&texts)?;
    mark(&dataset, "string-array", "0.2.0")
}

fn scalar<T: H5Type>(parent: &Group, name: &str, value: &T, encoding: &str) -> Result<()> {
    let dataset = parent
        .new_dataset::<T>()
        .obj_track_times(false)
        .create(name)?;
    dataset.write_scalar(value)?;
    mark(&dataset, encoding, "0.2.0")
}

/// Writes a column of a data frame.
pub(super) fn column(frame: &Group, name: &str, column: &Column) -> Result<()> {
    match column {
        Column::Categorical {
            codes,
            categories,
            ordered,
        } => categorical(frame, name, codes, (categories, *ordered)),
        Column::Number(numbers) => {
            let numbers: Vec<f64> = numbers
                .iter()
                .map(|number| number.unwrap_or(f64::NAN))
                .collect();
            array(frame, name, &[numbers.len()], &numbers)
        }
        Column::Text(entries) => {
            let present: Vec<&str> = entries
                .iter()
                .map(|entry| entry.as_deref().unwrap_or_default())
                .collect();
            if entries.iter().all(Option::is_some) {
                return texts(frame, name, &present);
            }
            let element = nullable(frame, name, "nullable-string-array", &missing(entries))?;
            texts(&element, "values", &present)
        }
        Column::Boolean(entries) => {
            let present: Vec<bool> = entries
                .iter()
                .map(|entry| entry.unwrap_or_default())
                .collect();
            if entries.iter().all(Option::is_some) {
                return array(frame, name, &[present.len()], &present);
            }
            let element = nullable(frame, name, "nullable-boolean", &missing(entries))?;
            array(&element, "values", &[present.len()], &present)
        }
    }
}

fn missing<T>(entries: &[Option<T>]) -> Vec<bool> {
    entries.iter().map(Option::is_none).collect()
}

fn nullable(frame: &Group, name: &str, encoding: &str, missing: &[bool]) -> Result<Group> {
    let element = group(frame, name)?;
    mark(&element, encoding, "0.1.0")?;
    array(&element, "mask", &[missing.len()], missing)?;
    Ok(element)
}

fn categorical(
    frame: &Group,
    name: &str,
    codes: &[Option<u32>],
    (categories, ordered): (&[String], bool),
) -> Result<()> {
    let element = group(frame, name)?;
    mark(&element, "categorical", "0.2.0")?;
    element
        .new_attr::<bool>()
        .create("ordered")?
        .write_scalar(&ordered)?;
    texts(&element, "categories", categories)?;
    let codes: Vec<i32> = codes
        .iter()
        .map(|code| code.map_or(-1, |code| code as i32))
        .collect();
    let shape = [codes.len()];
    // The narrowest type, as pandas chooses it.
    if categories.len() <= i8::MAX as usize {
        array(
            &element,
            "codes",
            &shape,
            &codes.iter().map(|&code| code as i8).collect::<Vec<_>>(),
        )
    } else if categories.len() <= i16::MAX as usize {
        array(
            &element,
            "codes",
            &shape,
            &codes.iter().map(|&code| code as i16).collect::<Vec<_>>(),
        )
    } else {
        array(&element, "codes", &shape, &codes)
    }
}

/// Writes a JSON value: objects as mappings, lists of strings, numbers or booleans as arrays.
pub(super) fn json(parent: &Group, name: &str, value: &Value) -> Result<()> {
    match value {
        Value::Null => Err("null cannot be stored".into()),
        Value::Bool(flag) => scalar(parent, name, flag, "numeric-scalar"),
        Value::String(text) => scalar(parent, name, &to_hdf5(text)?, "string"),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => scalar(parent, name, &number, "numeric-scalar"),
            (None, Some(number)) => scalar(parent, name, &number, "numeric-scalar"),
            (None, None) => Err("a number cannot be stored".into()),
        },
        Value::Object(members) => {
            let group = dict(parent, name)?;
            members
                .iter()
                .try_for_each(|(name, value)| json(&group, name, value))
        }
        Value::Array(entries) => json_array(parent, name, entries),
    }
}

fn json_array(parent: &Group, name: &str, entries: &[Value]) -> Result<()> {
    fn all<'v, T>(
        entries: &'v [Value],
        convert: impl Fn(&'v Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        entries.iter().map(convert).collect()
    }
    let shape = [entries.len()];
    if let Some(numbers) = all(entries, Value::as_i64) {
        array(parent, name, &shape, &numbers)
    } else if let Some(numbers) = all(entries, Value::as_f64) {
        array(parent, name, &shape, &numbers)
    } else if let Some(flags) = all(entries, Value::as_bool) {
        array(parent, name, &shape, &flags)
    } else if let Some(entries) = all(entries, Value::as_str) {
        texts(parent, name, &entries)
    } else {
        Err("only lists of strings, numbers or booleans can be stored".into())
    }
}

/// Why a JSON value cannot be stored, if so.
pub(super) fn json_problem(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null cannot be stored".to_owned()),
        Value::String(text) => text_problem(text),
        Value::Bool(_) | Value::Number(_) => None,
        Value::Object(members) => {
            let mut members = members.iter();
            members.find_map(|(name, value)| name_problem(name).or_else(|| json_problem(value)))
        }
        Value::Array(entries) => {
            let uniform = entries.iter().all(Value::is_number)
                || entries.iter().all(Value::is_boolean)
                || entries.iter().all(Value::is_string);
            let mixed = || "only lists of strings, numbers or booleans can be stored".to_owned();
            if uniform {
                entries.iter().find_map(json_problem)
            } else {
                Some(mixed())
            }
        }
    }
}

/// Why an element cannot have this name, if so.
pub(super) fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." {
        Some(format!("`{name}` is not a name in HDF5"))
    } else if name.contains('/') {
        Some(format!(
            "the name `{name}` contains a slash, which HDF5 takes for a path"
        ))
    } else {
        text_problem(name)
    }
}

/// Why a text cannot be stored, if so.
pub(super) fn text_problem(text: &str) -> Option<String> {
    text.contains('\0')
        .then(|| format!("the text {text:?} contains a zero byte, which HDF5 takes for its end"))
}

fn to_hdf5(text: &str) -> Result<VarLenUnicode> {
    VarLenUnicode::from_str(text).map_err(|error| error.to_string().into())
}
