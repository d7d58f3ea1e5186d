//! The data frames `obs` and `var`: a group of columns, or one table of records as anndata wrote before 0.7.

use hdf5::types::TypeDescriptor;

use super::column::{self, Categories};
use super::node::Node;
use super::values::Values;
use crate::formats::Column;
use crate::formats::Error;

/// A data frame: a named index and columns of the same length.
#[derive(Clone)]
pub(in crate::formats) struct Frame {
    node: Node,
    index: String,
    len: usize,
    /// Fields of a table; none for a group of columns.
    fields: Option<Vec<String>>,
    /// Where tables kept their categories.
    uns: Option<Node>,
}

impl Frame {
    /// Opens the frame at `node`; `uns` is where a table finds its categories.
    pub fn open(node: Node, uns: Option<Node>) -> Result<Self, Error> {
        if node.is_group() {
            let index = index_name(&node)?;
            let len = column_len(&node.require(&index)?)?;
            return Ok(Self {
                node,
                index,
                len,
                fields: None,
                uns: None,
            });
        }
        let TypeDescriptor::Compound(record) = node.descriptor()? else {
            return Err(node.wrong("it is neither a group of columns nor a table"));
        };
        let mut fields = record.fields.into_iter().map(|field| field.name);
        let index = fields
            .next()
            .ok_or_else(|| node.wrong("the table has no columns"))?;
        let fields = fields.collect();
        let len = node.field(&index)?.len();
        Ok(Self {
            node,
            index,
            len,
            fields: Some(fields),
            uns,
        })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Name of the index: a member of the group or a field of the table.
    pub fn index(&self) -> &str {
        &self.index
    }

    pub fn is_table(&self) -> bool {
        self.fields.is_some()
    }

    /// Entries of the index.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let column = match self.fields {
            Some(_) => column::read_values(&self.node.field(&self.index)?)?,
            None => column::read(&self.node, &self.index)?,
        };
        self.check_len(&column, "the index", &self.index)?;
        let missing = || {
            self.node
                .wrong(format!("an entry of the index `{}` is missing", self.index))
        };
        column
            .to_labels()
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(missing)
    }

    /// Names of the columns, in the order their author gave them.
    pub fn columns(&self) -> Result<Vec<String>, Error> {
        if let Some(fields) = &self.fields {
            return Ok(fields.clone());
        }
        if let Some(columns) = self.node.texts_attribute("column-order")? {
            return Ok(columns);
        }
        let mut members = self.node.members()?;
        members.retain(|name| *name != self.index && name != "__categories");
        Ok(members)
    }

    /// The column `name`, as long as the frame.
    pub fn column(&self, name: &str) -> Result<Column, Error> {
        let columns = self.columns()?;
        if !columns.iter().any(|known| known == name) {
            return Err(self.node.wrong(format!(
                "there is no column `{name}`; {}",
                list_nearest(&columns, name)
            )));
        }
        let column = match self.fields {
            Some(_) => self.field(name)?,
            None => column::read(&self.node, name)?,
        };
        self.check_len(&column, "column", name)?;
        Ok(column)
    }

    fn check_len(&self, column: &Column, what: &str, name: &str) -> Result<(), Error> {
        if column.len() == self.len {
            return Ok(());
        }
        Err(self.node.wrong(format!(
            "{what} `{name}` has {} entries, {} were expected",
            column.len(),
            self.len
        )))
    }

    fn field(&self, name: &str) -> Result<Column, Error> {
        let values = self.node.field(name)?;
        match self.field_categories(&values, name)? {
            Some(categories) => column::categorical(&values, &categories),
            None => column::read_values(&values),
        }
    }

    /// Categories that a table kept in `uns`, if the codes of the column fit them.
    fn field_categories(&self, values: &Values, name: &str) -> Result<Option<Categories>, Error> {
        let (true, Some(uns)) = (values.is_integer(), &self.uns) else {
            return Ok(None);
        };
        let Some(element) = uns.child(&categories_key(name))? else {
            return Ok(None);
        };
        let categories = column::categories(&element)?;
        let fit = values
            .numbers::<i64>()?
            .iter()
            .all(|&code| code >= -1 && code < categories.names.len() as i64);
        Ok(fit.then_some(categories))
    }
}

/// Key in `uns` of the categories of a table's column.
pub(in crate::formats) fn categories_key(column: &str) -> String {
    format!("{column}_categories")
}

fn index_name(node: &Node) -> Result<String, Error> {
    if let Some(name) = node.text_attribute("_index")? {
        return Ok(name);
    }
    for name in ["_index", "index"] {
        if node.child(name)?.is_some() {
            return Ok(name.to_owned());
        }
    }
    Err(node.wrong("there is no index, so it is not an AnnData data frame"))
}

/// Entries of a column without reading it: those of its codes, else of its values, in the order in which they are read.
fn column_len(element: &Node) -> Result<usize, Error> {
    let codes = element.child("codes")?;
    let values = match codes {
        Some(codes) => codes,
        None => element.child("values")?.unwrap_or_else(|| element.clone()),
    };
    match values.shape()?[..] {
        [len] => Ok(len),
        ref shape => Err(values.wrong(format!(
            "{} dimensions were found, one was expected",
            shape.len()
        ))),
    }
}

/// Lists the names there are, those most like `name` first.
pub(in crate::formats) fn list_nearest(names: &[String], name: &str) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "there are none".to_owned();
    }
    let mut nearest: Vec<&String> = names.iter().collect();
    nearest.sort_by_key(|candidate| edit_distance(&candidate.to_lowercase(), &name.to_lowercase()));
    let shown: Vec<String> = nearest
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("there are {}{more}", shown.join(", "))
}

/// Number of single-letter changes that turn one name into the other (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    // Names in damaged files can be of any length; their beginnings decide well enough.
    let to: Vec<char> = to.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use crate::counts::Counts;
    use crate::formats::h5ad::{self, Cells, File};

    #[test]
    fn an_index_that_is_not_as_long_as_the_frame_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cells.h5ad");
        let names: Vec<String> = (0..4).map(|at| format!("n{at}")).collect();
        let counts = Counts::from_rows(4, vec![[(0_u32, 1.0_f32)]; 4]);
        h5ad::create(&path, &Cells::new(&counts, &names, &names)).unwrap();
        let file = hdf5::File::open_rw(&path).unwrap();
        let obs = file.group("obs").unwrap();
        let index = obs.attr("_index").unwrap();
        let index: hdf5::types::VarLenUnicode = index.read_scalar().unwrap();
        obs.unlink(&index).unwrap();
        let index = obs.create_group(&index).unwrap();
        let add = |name: &str, values: Vec<i32>| {
            let dataset = index.new_dataset_builder().with_data(&values);
            dataset.create(name).unwrap();
        };
        add("categories", vec![7, 8, 9]);
        add("codes", vec![0, 1, 2]);
        add("values", vec![0; 200]);
        drop((index, obs, file));
        let file = File::open(&path).unwrap();
        assert_eq!(file.cell_names().unwrap().len(), file.n_cells());
    }
}
