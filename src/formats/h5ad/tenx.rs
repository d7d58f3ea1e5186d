//! Count matrices of Cell Ranger in HDF5: one `matrix` group since version 3, one group for each genome before.
//!
//! Source: 10x Genomics, "Feature-barcode matrices (HDF5)".

use super::node::Node;
use super::sparse::read_sizes;
use crate::formats::{Column, Error, Matrix, Plain, Source};

/// Opens the matrix of a file from version 3 on.
pub(in crate::formats) fn open(root: &Node) -> Result<Plain, Error> {
    let group = root.require("matrix")?;
    let features = group.require("features")?;
    let mut var = Vec::new();
    for (field, column) in [
        ("id", "gene_ids"),
        ("feature_type", "feature_types"),
        ("genome", "genome"),
        ("gene_id", "gene_id"),
        ("gene_name", "gene_name"),
    ] {
        if let Some(values) = features.child(field)? {
            var.push((column.to_owned(), text_column(&values)?));
        }
    }
    read(group, texts(&features.require("name")?)?, var)
}

/// Names of the genomes of a file from before version 3.
pub(in crate::formats) fn genomes(root: &Node) -> Result<Vec<String>, Error> {
    let mut genomes = Vec::new();
    for name in root.members()? {
        if let Some(group) = root.child(&name)?
            && group.child("barcodes")?.is_some()
            && group.child("gene_names")?.is_some()
        {
            genomes.push(name);
        }
    }
    Ok(genomes)
}

/// Opens the matrix of one genome.
pub(in crate::formats) fn open_genome(root: &Node, genome: &str) -> Result<Plain, Error> {
    let group = root.require(genome)?;
    let names = texts(&group.require("gene_names")?)?;
    let ids = text_column(&group.require("genes")?)?;
    read(group, names, vec![("gene_ids".into(), ids)])
}

fn read(group: Node, gene_names: Vec<String>, var: Vec<(String, Column)>) -> Result<Plain, Error> {
    let cell_names = texts(&group.require("barcodes")?)?;
    let (n_cells, n_genes) = (cell_names.len(), gene_names.len());
    let shape = read_sizes(&group.require("shape")?)?;
    if shape != [n_genes, n_cells] {
        return Err(group.wrong(format!(
            "its shape is {shape:?}, but there are {n_genes} features and {n_cells} barcodes"
        )));
    }
    if let Some((name, column)) = var.iter().find(|(_, column)| column.len() != n_genes) {
        let found = column.len();
        return Err(group.wrong(format!(
            "`{name}` has {found} entries for {n_genes} features"
        )));
    }
    let file = group.file().to_owned();
    Ok(Plain {
        matrices: vec![(Source::X, Matrix::by_cell(group, n_cells, n_genes)?.into())],
        path: file,
        cell_names,
        gene_names,
        obs: Vec::new(),
        var,
    })
}

pub(super) fn texts(node: &Node) -> Result<Vec<String>, Error> {
    node.values()?.texts()
}

fn text_column(node: &Node) -> Result<Column, Error> {
    Ok(Column::Text(texts(node)?.into_iter().map(Some).collect()))
}
