//! An open table of cells by genes, whatever its format.

use std::path::Path;
use std::sync::Arc;

use super::h5ad::File;
use super::h5ad::frame::list_nearest;
use super::{Column, Error, Matrix, Plain, Source};

/// A table of cells by genes with annotations of both.
pub enum Table {
    AnnData(Box<File>),
    Plain(Plain),
}

impl Table {
    pub fn path(&self) -> &Path {
        match self {
            Self::AnnData(file) => file.path(),
            Self::Plain(plain) => &plain.path,
        }
    }

    pub fn n_cells(&self) -> usize {
        match self {
            Self::AnnData(file) => file.n_cells(),
            Self::Plain(plain) => plain.cell_names.len(),
        }
    }

    /// Names of the cells, not necessarily unique.
    pub fn cell_names(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::AnnData(file) => file.cell_names(),
            Self::Plain(plain) => Ok(plain.cell_names.clone()),
        }
    }

    /// Names of the columns that describe the cells.
    pub fn obs_columns(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::AnnData(file) => file.obs_columns(),
            Self::Plain(plain) => Ok(names(&plain.obs)),
        }
    }

    /// A column that describes the cells; where there is none of that name, the error lists those there are.
    pub fn obs(&self, name: &str) -> Result<Column, Error> {
        match self {
            Self::AnnData(file) => file.obs(name),
            Self::Plain(plain) => find(plain, &plain.obs, name, "cells"),
        }
    }

    /// Names of the genes of a matrix, not necessarily unique.
    pub fn gene_names(&self, source: &Source) -> Result<Vec<String>, Error> {
        match self {
            Self::AnnData(file) => file.gene_names(source),
            Self::Plain(plain) => Ok(plain.gene_names.clone()),
        }
    }

    /// Names of the columns that describe the genes of a matrix.
    pub fn var_columns(&self, source: &Source) -> Result<Vec<String>, Error> {
        match self {
            Self::AnnData(file) => file.var_columns(source),
            Self::Plain(plain) => Ok(names(&plain.var)),
        }
    }

    /// A column that describes the genes of a matrix.
    pub fn var(&self, source: &Source, name: &str) -> Result<Column, Error> {
        match self {
            Self::AnnData(file) => file.var(source, name),
            Self::Plain(plain) => find(plain, &plain.var, name, "genes"),
        }
    }

    /// The matrices there are.
    pub fn sources(&self) -> Result<Vec<Source>, Error> {
        match self {
            Self::AnnData(file) => file.sources(),
            Self::Plain(plain) => Ok(plain.matrices.iter().map(|(s, _)| s.clone()).collect()),
        }
    }

    /// Opens a matrix for reading; if it is missing, the error names those there are.
    pub fn matrix(&self, source: &Source) -> Result<Arc<Matrix>, Error> {
        let plain = match self {
            Self::AnnData(file) => return Ok(Arc::new(file.matrix(source)?)),
            Self::Plain(plain) => plain,
        };
        let found = plain.matrices.iter().find(|(name, _)| name == source);
        let missing = || {
            let names: Vec<String> = plain.matrices.iter().map(|(s, _)| s.to_string()).collect();
            let problem = format!(
                "there is no matrix `{source}`, it has `{}`",
                names.join("`, `")
            );
            Error::input(&plain.path, problem)
        };
        found
            .map(|(_, matrix)| Arc::clone(matrix))
            .ok_or_else(missing)
    }
}

fn names(columns: &[(String, Column)]) -> Vec<String> {
    columns.iter().map(|(name, _)| name.clone()).collect()
}

fn find(
    plain: &Plain,
    columns: &[(String, Column)],
    name: &str,
    what: &str,
) -> Result<Column, Error> {
    let found = columns.iter().find(|(known, _)| known == name);
    let missing = || {
        let nearest = list_nearest(&names(columns), name);
        Error::input(
            &plain.path,
            format!("there is no column `{name}` that describes the {what}; {nearest}"),
        )
    };
    found.map(|(_, column)| column.clone()).ok_or_else(missing)
}
