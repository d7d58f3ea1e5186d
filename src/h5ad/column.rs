//! Columns of `obs` and `var`: categories, text, numbers and truth values, in every encoding AnnData has used.

use super::error::Error;
use super::node::Node;
use super::values::Values;

/// A column of annotations, one entry for each cell or gene.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Labels from a list of categories; a code is a position in the list.
    Categorical {
        codes: Vec<Option<u32>>,
        categories: Vec<String>,
        ordered: bool,
    },
    /// Free text.
    Text(Vec<Option<String>>),
    /// Numbers of any stored type; whole numbers beyond 2^53 are rounded, NaN counts as missing.
    Number(Vec<Option<f64>>),
    /// Truth values.
    Boolean(Vec<Option<bool>>),
}

impl Column {
    /// A categorical column of the given labels, with the categories in alphabetical order.
    pub fn from_labels<S: AsRef<str>>(labels: &[Option<S>]) -> Self {
        let mut categories: Vec<&str> = labels.iter().flatten().map(AsRef::as_ref).collect();
        categories.sort_unstable();
        categories.dedup();
        let code = |label: &Option<S>| {
            let position = categories
                .binary_search(&label.as_ref()?.as_ref())
                .expect("every label is among the categories");
            Some(position as u32)
        };
        let codes = labels.iter().map(code).collect();
        Self::Categorical {
            codes,
            categories: categories.into_iter().map(str::to_owned).collect(),
            ordered: false,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Categorical { codes, .. } => codes.len(),
            Self::Text(texts) => texts.len(),
            Self::Number(numbers) => numbers.len(),
            Self::Boolean(flags) => flags.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every entry as text: category, text, shortest number, `True` or `False`.
    pub fn to_labels(&self) -> Vec<Option<String>> {
        fn show<T>(entries: &[Option<T>], show: impl Fn(&T) -> String) -> Vec<Option<String>> {
            entries
                .iter()
                .map(|entry| entry.as_ref().map(&show))
                .collect()
        }
        match self {
            Self::Categorical {
                codes, categories, ..
            } => show(codes, |&code| categories[code as usize].clone()),
            Self::Text(texts) => texts.clone(),
            Self::Number(numbers) => show(numbers, f64::to_string),
            Self::Boolean(flags) => show(flags, |&flag| {
                if flag { "True" } else { "False" }.to_owned()
            }),
        }
    }
}

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

/// Reads plain values: text, numbers or truth values, without an entry missing but NaN.
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

/// Values beside a mask that is true where an entry is missing (integer, boolean and string alike).
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
        Column::Text(entries) => hide(entries, &missing),
        Column::Number(entries) => hide(entries, &missing),
        Column::Boolean(entries) => hide(entries, &missing),
        Column::Categorical { .. } => unreachable!("plain values are not categories"),
    }
    Ok(column)
}

fn hide<T>(entries: &mut [Option<T>], missing: &[bool]) {
    for (entry, _) in entries
        .iter_mut()
        .zip(missing)
        .filter(|(_, missing)| **missing)
    {
        *entry = None;
    }
}

/// What the codes of a categorical column stand for.
pub(super) struct Categories {
    pub names: Vec<String>,
    pub ordered: bool,
}

/// Reads a list of categories: text in any encoding, or numbers and truth values, which become text.
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

/// Categories of a column as anndata 0.7 kept them, in `__categories` beside the columns.
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

/// Codes with their meaning; -1 (or, in unsigned codes, nothing) is missing.
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
            "code {code} does not name one of the {n_categories} categories"
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
