//! Loom files: a dense matrix of genes by cells, with attributes of both.
//!
//! Source: <https://linnarssonlab.org/loompy/format>.

use super::column::read_values;
use super::node::Node;
use super::tenx::texts;
use crate::formats::{Column, Error, Matrix, Plain, Source};

/// Attributes that name genes and cells, in the order in which they are looked for.
const GENE_NAMES: [&str; 5] = ["Gene", "gene_name", "var_names", "Accession", "gene"];
const CELL_NAMES: [&str; 4] = ["CellID", "obs_names", "cell_id", "Barcode"];

pub(in crate::formats) fn is_loom(root: &Node) -> Result<bool, Error> {
    Ok(root.child("row_attrs")?.is_some() && root.child("matrix")?.is_some_and(|m| !m.is_group()))
}

pub(in crate::formats) fn open(root: &Node) -> Result<Plain, Error> {
    let matrix = root.require("matrix")?;
    let [n_genes, n_cells] = matrix.shape()?[..] else {
        return Err(matrix.wrong("a matrix of genes by cells was expected"));
    };
    let (rows, columns) = (root.require("row_attrs")?, root.require("col_attrs")?);
    let path = root.file().to_owned();
    let mut matrices = vec![(
        Source::X,
        Matrix::dense_by_gene(matrix, n_cells, n_genes)?.into(),
    )];
    for (name, layer) in attributes(root, "layers")? {
        let layer_shape = layer.shape()?;
        if layer_shape != [n_genes, n_cells] {
            return Err(layer.wrong(format!(
                "its shape is {layer_shape:?}, that of the matrix [{n_genes}, {n_cells}]"
            )));
        }
        let matrix = Matrix::dense_by_gene(layer, n_cells, n_genes)?;
        matrices.push((Source::Layer(name), matrix.into()));
    }
    Ok(Plain {
        gene_names: names(&rows, &GENE_NAMES, n_genes, "genes")?,
        cell_names: names(&columns, &CELL_NAMES, n_cells, "cells")?,
        var: annotations(root, "row_attrs", n_genes)?,
        obs: annotations(root, "col_attrs", n_cells)?,
        matrices,
        path,
    })
}

fn attributes(root: &Node, group: &str) -> Result<Vec<(String, Node)>, Error> {
    let Some(group) = root.child(group)? else {
        return Ok(Vec::new());
    };
    let member = |name: String| Ok((name.clone(), group.require(&name)?));
    group.members()?.into_iter().map(member).collect()
}

/// Attributes with one value for every gene or cell; others, such as coordinates, are passed over.
fn annotations(root: &Node, group: &str, n: usize) -> Result<Vec<(String, Column)>, Error> {
    let mut columns = Vec::new();
    for (name, node) in attributes(root, group)? {
        if !node.is_group() && node.shape()? == [n] {
            columns.push((name, read_values(&node.values()?)?));
        }
    }
    Ok(columns)
}

fn names(attributes: &Node, known: &[&str], n: usize, what: &str) -> Result<Vec<String>, Error> {
    for name in known {
        if let Some(node) = attributes.child(name)? {
            let names = texts(&node)?;
            if names.len() != n {
                return Err(node.wrong(format!("{} names for {n} {what}", names.len())));
            }
            return Ok(names);
        }
    }
    Err(attributes.wrong(format!(
        "none of the attributes that name {what} is there: {}; there are {}",
        known.join(", "),
        attributes.members()?.join(", ")
    )))
}
