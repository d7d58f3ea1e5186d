//! Rewrites the tables of files from before anndata 0.7 into groups, so that columns can be added to them.
//!
//! Only what has to be: `obs`, with it `var` (both keep their categories in `uns`, where readers look for them
//! only while `obs` is a table), and `obsm` when something is added to it. Values and their types stay the same.

use half::f16;
use hdf5::Group;
use hdf5::types::{FloatSize, H5Type, IntSize, TypeDescriptor};

use super::encode;
use super::frame::{Frame, categories_key};
use super::node::Node;
use super::values::Values;
use crate::formats::Column;
use crate::formats::Error;

/// Converts a failed HDF5 call, while an element is written, into an error.
pub(super) type Explain<'a> = &'a dyn Fn(&str, hdf5::Error) -> Error;

/// Rewrites `obs` and `var` if they are tables.
pub(super) fn rewrite_frames(root: &Node, explain: Explain) -> Result<(), Error> {
    let uns = root.child("uns")?;
    if !Frame::open(root.require("obs")?, uns.clone())?.is_table() {
        return Ok(());
    }
    let mut stale = Vec::new();
    for name in ["obs", "var"] {
        let frame = Frame::open(root.require(name)?, uns.clone())?;
        if frame.is_table() {
            let store = |error| explain(name, error);
            let group = encode::group(root.group()?, PROVISIONAL).map_err(store)?;
            stale.extend(rewrite_frame(&frame, &group, explain)?);
            put_in_place(root.group()?, name).map_err(store)?;
        }
    }
    stale.sort_unstable();
    stale.dedup();
    if let Some(uns) = uns {
        for key in stale {
            uns.group()?
                .unlink(&key)
                .map_err(|error| explain("uns", error))?;
        }
    }
    Ok(())
}

/// Rewrites a table of arrays, one row for each cell, into a group of arrays.
pub(super) fn rewrite_arrays(root: &Node, name: &str, explain: Explain) -> Result<(), Error> {
    let Some(node) = root.child(name)?.filter(|node| !node.is_group()) else {
        return Ok(());
    };
    let TypeDescriptor::Compound(record) = node.descriptor()? else {
        return Err(node.wrong("it is neither a group of arrays nor a table"));
    };
    let group = encode::dict(root.group()?, PROVISIONAL).map_err(|error| explain(name, error))?;
    for field in record.fields {
        let target = Target {
            group: &group,
            name: &field.name,
            explain,
        };
        let values = node.field(&field.name)?;
        match field.ty {
            TypeDescriptor::FixedArray(element, width) => {
                copy_typed(&values, &element, Some(width), &target)?
            }
            element => copy_typed(&values, &element, None, &target)?,
        }
    }
    put_in_place(root.group()?, name).map_err(|error| explain(name, error))
}

const PROVISIONAL: &str = "__rewritten";

fn put_in_place(root: &Group, name: &str) -> hdf5::Result<()> {
    root.unlink(name)?;
    root.relink(PROVISIONAL, name)
}

/// Writes the columns of a table into a group and gives the keys in `uns` that the group no longer needs.
fn rewrite_frame(frame: &Frame, group: &Group, explain: Explain) -> Result<Vec<String>, Error> {
    let columns = frame.columns()?;
    let store = |error| explain(frame.node().name(), error);
    let mut stale = Vec::new();
    for name in &columns {
        match frame.column(name)? {
            Column::Number(_) => {
                let values = frame.node().field(name)?;
                copy_typed(
                    &values,
                    values.kind(),
                    None,
                    &Target {
                        group,
                        name,
                        explain,
                    },
                )?;
            }
            column => {
                if matches!(column, Column::Categorical { .. }) {
                    stale.push(categories_key(name));
                }
                encode::column(group, name, &column).map_err(store)?;
            }
        }
    }
    encode::texts(group, frame.index(), &frame.names()?).map_err(store)?;
    encode::mark_frame(group, frame.index(), &columns).map_err(store)?;
    Ok(stale)
}

/// Where an array goes.
struct Target<'a> {
    group: &'a Group,
    name: &'a str,
    explain: Explain<'a>,
}

/// Copies numbers, or rows of `width` numbers, in the type they are stored as.
fn copy_typed(
    values: &Values,
    element: &TypeDescriptor,
    width: Option<usize>,
    target: &Target,
) -> Result<(), Error> {
    use TypeDescriptor as Kind;
    let copy = match element {
        Kind::Integer(IntSize::U1) => copy::<i8>,
        Kind::Integer(IntSize::U2) => copy::<i16>,
        Kind::Integer(IntSize::U4) => copy::<i32>,
        Kind::Integer(IntSize::U8) => copy::<i64>,
        Kind::Unsigned(IntSize::U1) => copy::<u8>,
        Kind::Unsigned(IntSize::U2) => copy::<u16>,
        Kind::Unsigned(IntSize::U4) => copy::<u32>,
        Kind::Unsigned(IntSize::U8) => copy::<u64>,
        Kind::Float(FloatSize::U2) => copy::<f16>,
        Kind::Float(FloatSize::U4) => copy::<f32>,
        Kind::Float(FloatSize::U8) => copy::<f64>,
        other => return Err(values.wrong(format!("arrays of `{other}` cannot be rewritten"))),
    };
    copy(values, width, target)
}

fn copy<T: H5Type>(values: &Values, width: Option<usize>, target: &Target) -> Result<(), Error> {
    let written = match width {
        Some(width) => encode::array(
            target.group,
            target.name,
            &[values.len(), width],
            &values.rows::<T>(width)?,
        ),
        None => encode::array(
            target.group,
            target.name,
            &[values.len()],
            &values.numbers::<T>()?,
        ),
    };
    written.map_err(|error| (target.explain)(target.name, error))
}
