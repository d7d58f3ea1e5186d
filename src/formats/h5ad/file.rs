//! An open `.h5ad` file: what cells, genes, columns and matrices it has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hdf5::MinorErrorCode;
use hdf5::types::TypeDescriptor;
use ndarray::Array2;
use serde_json::json;

use super::frame::{Frame, list_nearest};
use super::global_heaps;
use super::node::Node;
use super::sparse::require_numbers;
use super::values::check_size;
use super::watchdog;
use crate::file_format::ANNDATA;
use crate::formats::{Column, Error, Matrix, Source};
use crate::signal_handler;

/// Element of `uns` with the version of the format.
pub(super) const STATEMENT: &str = "scgpt_tools";

/// An AnnData file, open for reading.
pub struct File {
    path: PathBuf,
    root: Node,
    obs: Frame,
    /// Annotations of the cells of all modalities.
    whole: Option<Frame>,
    // Closed last: what is read above belongs to it.
    _file: hdf5::File,
}

impl File {
    /// Opens an AnnData file in any encoding since anndata 0.5 and checks that it has `obs` and `var`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (file, root) = open_root(path)?;
        Self::in_group(file, root, None)
    }

    /// The table in a group of a file; `whole` is the annotation of the cells of all modalities, if it is one of several.
    pub(in crate::formats) fn in_group(
        file: hdf5::File,
        root: Node,
        whole: Option<Frame>,
    ) -> Result<Self, Error> {
        for frame in ["obs", "var"] {
            if root.child(frame)?.is_none() {
                let members = root.members()?;
                let found = list_nearest(&members, frame);
                return Err(Error::input(
                    root.file(),
                    format!("not an AnnData file: `{frame}` was expected, {found}"),
                ));
            }
        }
        let obs = Frame::open(root.require("obs")?, root.child("uns")?)?;
        Ok(Self {
            path: root.file().to_owned(),
            root,
            obs,
            whole,
            _file: file,
        })
    }

    /// Checks the version of the format that programs of this library stated when they wrote the file; other files have none.
    ///
    /// # Errors
    /// A version that this library does not read, and a damaged file.
    pub fn check_format(&self) -> Result<(), Error> {
        let group = |node: Option<Node>| node.filter(Node::is_group);
        let Some(uns) = group(self.root.child("uns")?) else {
            return Ok(());
        };
        let Some(own) = group(uns.child(STATEMENT)?) else {
            return Ok(());
        };
        let version = own.child("format_version")?;
        let version = version.map(|node| node.values()?.numbers::<u64>());
        let writer = own.child("scgpt_tools_version")?;
        let writer = writer.map(|node| node.values()?.texts());
        let statement = json!({
            "format_version": version.transpose()?.and_then(|numbers| numbers.first().copied()),
            "scgpt_tools_version": writer.transpose()?.and_then(|texts| texts.first().cloned()),
        });
        ANNDATA
            .check(&statement)
            .map_err(|problem| own.wrong(problem))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn n_cells(&self) -> usize {
        self.obs.len()
    }

    /// Names of the cells: the index of `obs`, not necessarily unique.
    pub fn cell_names(&self) -> Result<Vec<String>, Error> {
        self.obs.names()
    }

    /// Names of the columns of `obs`, in their order.
    pub fn obs_columns(&self) -> Result<Vec<String>, Error> {
        let mut columns = self.obs.columns()?;
        if let Some(whole) = &self.whole {
            let mut shared = whole.columns()?;
            shared.retain(|name| !columns.contains(name));
            columns.extend(shared);
        }
        Ok(columns)
    }

    /// A column of `obs`; where there is none of that name, the error lists those there are.
    pub fn obs(&self, name: &str) -> Result<Column, Error> {
        match &self.whole {
            Some(whole) if !self.obs.columns()?.iter().any(|column| column == name) => {
                self.shared_column(whole, name)
            }
            _ => self.obs.column(name),
        }
    }

    /// A column that the modalities share, for the cells of this one.
    fn shared_column(&self, whole: &Frame, name: &str) -> Result<Column, Error> {
        let labels = whole.column(name)?.to_labels();
        let place: HashMap<String, usize> = whole.names()?.into_iter().zip(0..).collect();
        let names = self.obs.names()?;
        let label = |cell: &String| labels.get(*place.get(cell)?)?.clone();
        Ok(Column::Text(names.iter().map(label).collect()))
    }

    /// Names of the columns that describe the genes of a matrix, in their order.
    pub fn var_columns(&self, source: &Source) -> Result<Vec<String>, Error> {
        self.genes(source)?.columns()
    }

    /// A column that describes the genes of a matrix.
    pub fn var(&self, source: &Source, name: &str) -> Result<Column, Error> {
        self.genes(source)?.column(name)
    }

    /// Names of the genes of a matrix: the index of its `var`, not necessarily unique.
    pub fn gene_names(&self, source: &Source) -> Result<Vec<String>, Error> {
        self.genes(source)?.names()
    }

    /// The matrices there are.
    pub fn sources(&self) -> Result<Vec<Source>, Error> {
        let layers = match self.root.child("layers")? {
            Some(layers) => layers.members()?,
            None => Vec::new(),
        };
        let mut sources = vec![Source::X, Source::Raw];
        sources.extend(layers.into_iter().map(Source::Layer));
        let mut present = Vec::new();
        for source in sources {
            if self.find(&source)?.is_some() {
                present.push(source);
            }
        }
        Ok(present)
    }

    /// Opens a matrix for reading; if it is missing, the error names those there are.
    pub fn matrix(&self, source: &Source) -> Result<Matrix, Error> {
        let Some(node) = self.find(source)? else {
            let sources: Vec<String> = self
                .sources()?
                .iter()
                .map(|source| format!("`{source}`"))
                .collect();
            let found = if sources.is_empty() {
                "no matrix at all".to_owned()
            } else {
                sources.join(", ")
            };
            return Err(Error::input(
                &self.path,
                format!("there is no matrix `{source}`, it has {found}"),
            ));
        };
        Matrix::open(node, self.n_cells(), self.genes(source)?.len())
    }

    /// Names of the matrices of cells by anything that `obsm` holds.
    pub fn embeddings(&self) -> Result<Vec<String>, Error> {
        self.members("obsm")
    }

    /// A matrix of `obsm`, [cells, columns]; NaN where a cell has no coordinates.
    pub fn embedding(&self, name: &str) -> Result<Array2<f32>, Error> {
        let node = self.root.require("obsm")?.require(name)?;
        let (cells, shape) = (self.n_cells(), node.shape()?);
        let &[rows, width] = &shape[..] else {
            return Err(node.wrong(format!("its shape is {shape:?}, a matrix was expected")));
        };
        if rows != cells {
            return Err(node.wrong(format!("it has {rows} rows, {cells} were expected")));
        }
        require_numbers(&node)?;
        check_size(&node, cells.saturating_mul(width), size_of::<f32>())?;
        let values = node.dataset()?.read_2d::<f32>();
        values.map_err(|source| node.damaged(source))
    }

    /// Names of the matrices of cells by cells that `obsp` holds.
    pub fn relations(&self) -> Result<Vec<String>, Error> {
        self.members("obsp")
    }

    /// A matrix of `obsp`, [cells, cells].
    pub fn relation(&self, name: &str) -> Result<Matrix, Error> {
        let node = self.root.require("obsp")?.require(name)?;
        Matrix::open(node, self.n_cells(), self.n_cells())
    }

    fn members(&self, group: &str) -> Result<Vec<String>, Error> {
        self.root
            .child(group)?
            .map_or_else(|| Ok(Vec::new()), |node| node.members())
    }

    /// Whether `obs`, `obsm` or `uns` has an element of this name.
    pub(super) fn has(&self, parent: &str, name: &str) -> Result<bool, Error> {
        match self.root.child(parent)? {
            Some(node) if node.is_group() => Ok(node.child(name)?.is_some()),
            Some(node) => match node.descriptor()? {
                TypeDescriptor::Compound(table) => {
                    Ok(table.fields.iter().any(|field| field.name == name))
                }
                _ => Ok(false),
            },
            None => Ok(false),
        }
    }

    /// An element of `obsm`, if it is there.
    pub(super) fn obsm(&self, name: &str) -> Result<Option<Node>, Error> {
        member(&self.root, "obsm", name)
    }

    pub(super) fn is_cell_index(&self, name: &str) -> bool {
        self.obs.index() == name
    }

    fn find(&self, source: &Source) -> Result<Option<Node>, Error> {
        let node = match source {
            Source::X => self.root.child("X")?,
            Source::Layer(name) => member(&self.root, "layers", name)?,
            // `raw.X` and `raw.var` are names of members before anndata 0.7.
            Source::Raw => match member(&self.root, "raw", "X")? {
                Some(node) => Some(node),
                None => self.root.child("raw.X")?,
            },
        };
        match node {
            Some(node) if node.encoding()?.as_deref() == Some("null") => Ok(None),
            node => Ok(node),
        }
    }

    fn genes(&self, source: &Source) -> Result<Frame, Error> {
        let node = match source {
            Source::X | Source::Layer(_) => self.root.require("var")?,
            Source::Raw => match member(&self.root, "raw", "var")? {
                Some(node) => node,
                None => {
                    let missing = || {
                        Error::input(&self.path, "there is no matrix `raw` with genes of its own")
                    };
                    self.root.child("raw.var")?.ok_or_else(missing)?
                }
            },
        };
        Frame::open(node, self.root.child("uns")?)
    }
}

fn member(root: &Node, group: &str, name: &str) -> Result<Option<Node>, Error> {
    match root.child(group)? {
        Some(group) => group.child(name),
        None => Ok(None),
    }
}

/// Opens an HDF5 file for reading, with a specific error if that fails.
pub(in crate::formats) fn open_root(path: &Path) -> Result<(hdf5::File, Node), Error> {
    let file = open_hdf5(path)?;
    let group = file.group("/").map_err(|error| explain(path, error))?;
    Ok((file, Node::root(path, group)))
}

fn open_hdf5(path: &Path) -> Result<hdf5::File, Error> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::input(path, "there is no such file"));
        }
        Err(error) => return Err(Error::read(path, error)),
    };
    std::fs::File::open(path).map_err(|error| Error::read(path, error))?;
    if metadata.is_dir() {
        return Err(Error::input(
            path,
            "it is a directory, an AnnData file (.h5ad) was expected",
        ));
    }
    signal_handler::reading(path);
    watchdog::watch();
    let file = hdf5::File::open(path).map_err(|error| explain(path, error))?;
    global_heaps::check(path)?;
    Ok(file)
}

fn explain(path: &Path, error: hdf5::Error) -> Error {
    if error.contains_minor(MinorErrorCode::NotHdf5) {
        Error::input(
            path,
            "it is not an HDF5 file, an AnnData file (.h5ad) was expected",
        )
    } else if error.contains_minor(MinorErrorCode::Truncated) {
        Error::input(
            path,
            "the file is truncated: it is shorter than it declares; copy or download it again",
        )
    } else if error.contains_minor(MinorErrorCode::CantLockFile) {
        let remedy = "wait until the program that writes it ends, or set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks";
        Error::input(path, format!("the file is locked: {remedy}"))
    } else {
        Error::damaged(path, "/", error)
    }
}
