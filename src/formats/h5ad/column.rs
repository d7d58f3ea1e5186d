//! Columns of `obs` and `var` in every encoding AnnData has used.

use super::node::Node;
use super::values::Values;
use crate::formats::{Column, Error};

/// Reads a column of a data frame that is stored as a group of columns.
pub(super) fn read(frame: &Node, name: &str) -> Result<Column, Error> {
    let element = frame.require(name)?;
    if element.is_group() {
        return read_group(&element);
    }
    match legacy_categories(frame, &element, name)? {
        Some(categories) => categorical(&element.values()?, &categories),
        None => read_values(&element.values()?),
    }
}

/// Reads plain values: text, numbers or booleans; only NaN is missing.
pub(super) fn read_values(values: &Values) -> Result<Column, Error> {
    if values.is_text() {
        Ok(Column::Text(
            values.texts()?.into_iter().map(Some).collect(),
        ))
    } else if values.is_boolean() {
        Ok(Column::Boolean(values.flags()?))
    } else if values.is_number() {
        let present = |number: f64| (!number.is_nan()).then_some(number);
        Ok(Column::Number(
            values.numbers()?.into_iter().map(present).collect(),
        ))
    } else {
        Err(values.wrong(format!(
            "columns of type `{}` are not supported",
            values.kind()
        )))
    }
}

fn read_group(element: &Node) -> Result<Column, Error> {
    if element.child("codes")?.is_some() {
        let mut categories = categories(&element.require("categories")?)?;
        categories.ordered = element.flag_attribute("ordered")?;
        return categorical(&element.require("codes")?.values()?, &categories);
    }
    if element.child("values")?.is_some() {
        return read_nullable(element);
    }
    let encoding = element.encoding()?.unwrap_or_else(|| "none".to_owned());
    Err(element.wrong(format!(
        "columns with encoding `{encoding}` are not supported"
    )))
}

/// Values with a mask that is true where an entry is missing (integer, boolean and string alike).
fn read_nullable(element: &Node) -> Result<Column, Error> {
    let mask = element.require("mask")?;
    let missing: Vec<bool> = mask
        .values()?
        .flags()?
        .into_iter()
        .map(|flag| flag != Some(false))
        .collect();
    let mut column = read_values(&element.require("values")?.values()?)?;
    if column.len() != missing.len() {
        return Err(element.wrong(format!(
            "{} values but {} entries in the mask",
            column.len(),
            missing.len()
        )));
    }
    match &mut column {
        Column::Text(entries) => set_missing(entries, &missing),
        Column::Number(entries) => set_missing(entries, &missing),
        Column::Boolean(entries) => set_missing(entries, &missing),
        Column::Categorical { .. } => unreachable!("plain values are not categories"),
    }
    Ok(column)
}

fn set_missing<T>(entries: &mut [Option<T>], missing: &[bool]) {
    for (entry, _) in entries
        .iter_mut()
        .zip(missing)
        .filter(|(_, missing)| **missing)
    {
        *entry = None;
    }
}

/// Categories of a categorical column, by code.
pub(super) struct Categories {
    pub names: Vec<String>,
    pub ordered: bool,
}

/// Reads a list of categories: text in any encoding, or numbers and booleans, which become text.
pub(super) fn categories(element: &Node) -> Result<Categories, Error> {
    let column = if element.is_group() {
        read_group(element)?
    } else {
        read_values(&element.values()?)?
    };
    let names: Option<Vec<String>> = column.to_labels().into_iter().collect();
    let names = names.ok_or_else(|| element.wrong("a category has no name"))?;
    Ok(Categories {
        names,
        ordered: element.flag_attribute("ordered")?,
    })
}

/// Categories of a column as anndata 0.7 kept them, in `__categories` next to the columns.
fn legacy_categories(
    frame: &Node,
    element: &Node,
    name: &str,
) -> Result<Option<Categories>, Error> {
    let Some(group) = frame.child("__categories")? else {
        return Ok(None);
    };
    // The column refers to its categories; one that was overwritten by plain values later does not.
    if !element.has_attribute("categories")? {
        return Ok(None);
    }
    group
        .child(name)?
        .map(|element| categories(&element))
        .transpose()
}

/// Codes with their categories; -1 (or, in unsigned codes, nothing) is missing.
pub(super) fn categorical(values: &Values, categories: &Categories) -> Result<Column, Error> {
    if !values.is_integer() {
        return Err(values.wrong(format!(
            "codes of categories were expected, `{}` was found",
            values.kind()
        )));
    }
    let n_categories = categories.names.len();
    let code = |code: i64| match usize::try_from(code) {
        Ok(position) if position < n_categories => Ok(Some(position as u32)),
        Err(_) if code == -1 => Ok(None),
        _ => Err(values.wrong(format!(
            "code {code} is not one of the {n_categories} categories"
        ))),
    };
    let codes = values
        .numbers::<i64>()?
        .into_iter()
        .map(code)
        .collect::<Result<_, _>>()?;
    Ok(Column::Categorical {
        codes,
        categories: categories.names.clone(),
        ordered: categories.ordered,
    })
}
