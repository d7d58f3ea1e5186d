//! A group or dataset together with what its error messages need: the file and the path inside it.

use std::path::Path;
use std::sync::Arc;

use hdf5::types::TypeDescriptor;
use hdf5::{Attribute, Container, Dataset, Group, Location, LocationType};

use crate::formats::Error;

/// A named element of an open file.
#[derive(Clone)]
pub(in crate::formats) struct Node {
    file: Arc<Path>,
    name: String,
    object: Object,
}

#[derive(Clone)]
enum Object {
    Group(Group),
    Dataset(Dataset),
}

impl Node {
    pub fn root(path: &Path, group: Group) -> Self {
        Self {
            file: path.into(),
            name: String::new(),
            object: Object::Group(group),
        }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Path inside the file, without a leading slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_group(&self) -> bool {
        matches!(self.object, Object::Group(_))
    }

    fn location(&self) -> &Location {
        match &self.object {
            Object::Group(group) => group,
            Object::Dataset(dataset) => dataset,
        }
    }

    /// This element as a group.
    pub fn group(&self) -> Result<&Group, Error> {
        match &self.object {
            Object::Group(group) => Ok(group),
            Object::Dataset(_) => Err(self.wrong("a dataset was found where a group was expected")),
        }
    }

    /// This element as a dataset.
    pub fn dataset(&self) -> Result<&Dataset, Error> {
        match &self.object {
            Object::Dataset(dataset) => Ok(dataset),
            Object::Group(_) => Err(self.wrong("a group was found where a dataset was expected")),
        }
    }

    /// The member of this group with the given name, if there is one.
    pub fn child(&self, name: &str) -> Result<Option<Self>, Error> {
        let Object::Group(group) = &self.object else {
            return Ok(None);
        };
        // HDF5 takes "." for the group itself and a slash for a path: neither is a member.
        if matches!(name, "" | "." | "..") || name.contains('/') || !group.link_exists(name) {
            return Ok(None);
        }
        let path = self.path_of(name);
        let damaged = |source| Error::damaged(&self.file, &path, source);
        let object = match group.loc_type_by_name(name).map_err(damaged)? {
            LocationType::Group => Object::Group(group.group(name).map_err(damaged)?),
            LocationType::Dataset => Object::Dataset(group.dataset(name).map_err(damaged)?),
            _ => {
                return Err(Error::input(
                    &self.file,
                    format!("`{path}` is neither a group nor a dataset"),
                ));
            }
        };
        Ok(Some(Self {
            file: self.file.clone(),
            name: path,
            object,
        }))
    }

    /// The member with the given name; an error if it is missing.
    pub fn require(&self, name: &str) -> Result<Self, Error> {
        let missing = || Error::input(&self.file, format!("there is no `{}`", self.path_of(name)));
        self.child(name)?.ok_or_else(missing)
    }

    pub fn path_of(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.name)
        }
    }

    /// Names of the members of a group, in the order of their names; none for a dataset.
    pub fn members(&self) -> Result<Vec<String>, Error> {
        match &self.object {
            Object::Group(group) => group.member_names().map_err(|source| self.damaged(source)),
            Object::Dataset(_) => Ok(Vec::new()),
        }
    }

    /// Lengths of the dimensions of a dataset.
    pub fn shape(&self) -> Result<Vec<usize>, Error> {
        let space = self
            .dataset()?
            .space()
            .map_err(|source| self.damaged(source))?;
        Ok(space.shape())
    }

    pub fn descriptor(&self) -> Result<TypeDescriptor, Error> {
        let container: &Container = self.dataset()?;
        container
            .dtype()
            .and_then(|dtype| dtype.to_descriptor())
            .map_err(|source| self.damaged(source))
    }

    pub fn attribute(&self, name: &str) -> Result<Option<Attribute>, Error> {
        let names = self
            .location()
            .attr_names()
            .map_err(|source| self.damaged(source))?;
        if !names.iter().any(|known| known == name) {
            return Ok(None);
        }
        self.location()
            .attr(name)
            .map(Some)
            .map_err(|source| self.damaged(source))
    }

    pub fn has_attribute(&self, name: &str) -> Result<bool, Error> {
        Ok(self.attribute(name)?.is_some())
    }

    /// An attribute that lists whole numbers, such as the shape of a sparse matrix.
    pub fn sizes_attribute(&self, name: &str) -> Result<Option<Vec<u64>>, Error> {
        let Some(attribute) = self.attribute(name)? else {
            return Ok(None);
        };
        if attribute.size() > 8 {
            return Err(self.wrong(format!(
                "attribute `{name}` has {} values",
                attribute.size()
            )));
        }
        attribute
            .read_raw::<u64>()
            .map(Some)
            .map_err(|source| self.damaged(source))
    }

    /// A boolean attribute; false if it is missing.
    pub fn flag_attribute(&self, name: &str) -> Result<bool, Error> {
        let Some(attribute) = self.attribute(name)? else {
            return Ok(false);
        };
        if !attribute.is_scalar() {
            return Err(self.wrong(format!("attribute `{name}` is not a single boolean")));
        }
        attribute
            .read_scalar::<u8>()
            .map(|flag| flag == 1)
            .map_err(|source| self.damaged(source))
    }

    /// An error about the content of this element.
    pub fn wrong(&self, problem: impl AsRef<str>) -> Error {
        Error::input(&self.file, format!("`{}`: {}", self.name, problem.as_ref()))
    }

    /// An error about a value of this matrix.
    pub fn not_finite(&self, cell: usize, gene: usize, value: f32) -> Error {
        self.wrong(format!(
            "the value of cell {cell}, gene {gene} (counted from 0) is {value}, a finite number was expected"
        ))
    }

    /// An error of the HDF5 library while it read this element.
    pub fn damaged(&self, source: hdf5::Error) -> Error {
        Error::damaged(&self.file, &self.name, source)
    }
}
