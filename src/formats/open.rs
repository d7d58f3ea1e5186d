//! Detects the format of a file or directory from its content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::h5ad::frame::{Frame, list_nearest};
use super::h5ad::node::Node;
use super::h5ad::{self, loom, open_root, tenx};
use super::{Error, Orientation, Plain, Table, compressed, delimited, market};

/// What to read of files that hold more than one table or do not state their orientation.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Modality to read from a multimodal file (.h5mu). Default: rna or gex, or the only one.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub modality: Option<String>,
    /// Genome to read from a 10x file of several genomes (Cell Ranger before version 3).
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub genome: Option<String>,
    /// Orientation of text tables (CSV, TSV).
    #[arg(long, hide_short_help = true)]
    pub orientation: Orientation,
}

const HDF5_SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Where HDF5 may begin; MuData files begin with a text of 512 bytes.
const HDF5_STARTS: [usize; 5] = [0, 512, 1024, 2048, 4096];
/// Bytes of a text that is read whole.
const LONGEST_TEXT: u64 = 64 << 20;
const ZIP_SIGNATURE: &[u8] = b"PK\x03\x04";

/// Opens a table in any of the formats that are read. `is_gene` helps to distinguish genes from cells in text tables. What has to
/// be put in order first takes so much memory and, beyond that, a temporary file.
pub fn open(
    path: &Path,
    options: &Options,
    is_gene: Option<&dyn Fn(&str) -> bool>,
    memory: usize,
) -> Result<Table, Error> {
    if path.is_dir() {
        return open_directory(path, memory);
    }
    let start = beginning(path)?;
    match () {
        () if begins_as_hdf5(&start) => open_hdf5(path, options),
        () if start.starts_with(ZIP_SIGNATURE) => Err(Error::input(
            path,
            "it is a zip archive; zipped zarr stores and Excel sheets are not read: write the table as .h5ad",
        )),
        () => open_text(path, options, is_gene, memory),
    }
}

/// Names of the modalities of a multimodal file (.h5mu), in the order its author gave them; none for a file of another format.
pub fn modalities(path: &Path) -> Result<Vec<String>, Error> {
    if path.is_dir() || !is_hdf5(path)? {
        return Ok(Vec::new());
    }
    let (_file, root) = open_root(path)?;
    let Some(group) = root.child("mod")?.filter(Node::is_group) else {
        return Ok(Vec::new());
    };
    let mut names = group.members()?;
    let order = group.texts_attribute("mod-order")?.unwrap_or_default();
    let place = |name: &String| order.iter().position(|listed| listed == name);
    names.sort_by_key(|name| place(name).unwrap_or(order.len()));
    Ok(names)
}

/// Whether a file is HDF5, whatever its name.
pub fn is_hdf5(path: &Path) -> Result<bool, Error> {
    Ok(begins_as_hdf5(&beginning(path)?))
}

/// A list, a sheet or another small text that a user wrote.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let file = File::open(path).map_err(|error| Error::opening(path, error))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_TEXT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::read(path, error))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        let problem = "it has more than 64 MB; expected a short text, such as a list of names";
        return Err(Error::input(path, problem));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let line = line + 1;
        Error::input(
            path,
            format!("line {line} is not text in UTF-8: save it as plain text"),
        )
    })
}

/// As many bytes as it takes to distinguish HDF5 and archives from text.
fn beginning(path: &Path) -> Result<Vec<u8>, Error> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| Error::opening(path, error))?;
    file.take(4096 + HDF5_SIGNATURE.len() as u64)
        .read_to_end(&mut start)
        .map_err(|error| Error::read(path, error))?;
    Ok(start)
}

fn begins_as_hdf5(start: &[u8]) -> bool {
    let begins = |at: &usize| {
        start
            .get(*at..)
            .is_some_and(|rest| rest.starts_with(HDF5_SIGNATURE))
    };
    HDF5_STARTS.iter().any(begins)
}

fn open_directory(path: &Path, memory: usize) -> Result<Table, Error> {
    let is_zarr = [".zgroup", ".zattrs", "zarr.json"];
    if is_zarr.iter().any(|name| path.join(name).exists()) {
        return Err(Error::input(
            path,
            "it is a zarr store, which is not read: write the table as .h5ad, with `anndata.read_zarr(...).write_h5ad(...)`",
        ));
    }
    let text = market::open_directory(path, memory)?;
    Ok(Table::Plain(text.into_plain(path)))
}

fn open_text(
    path: &Path,
    options: &Options,
    is_gene: Option<&dyn Fn(&str) -> bool>,
    memory: usize,
) -> Result<Table, Error> {
    let mut start = Vec::new();
    compressed::open(path)?
        .take(4096)
        .read_to_end(&mut start)
        .map_err(|error| compressed::unreadable(path, error))?;
    if start.contains(&0) {
        return Err(Error::input(
            path,
            "its format is not supported: HDF5 (.h5ad, .h5mu, .h5, .loom), Matrix Market, CSV or TSV was expected",
        ));
    }
    let text = if start.starts_with(b"%%MatrixMarket") {
        market::open_file(path, memory)?
    } else {
        delimited::open_file(path, options.orientation, is_gene, memory)?
    };
    Ok(Table::Plain(text.into_plain(path)))
}

fn open_hdf5(path: &Path, options: &Options) -> Result<Table, Error> {
    let (file, root) = open_root(path)?;
    let genomes = tenx::genomes(&root)?;
    match () {
        () if root.child("mod")?.is_some_and(|node| node.is_group()) => {
            open_modality(file, &root, options)
        }
        () if loom::is_loom(&root)? => loom::open(&root).map(Table::Plain),
        () if root.child("matrix")?.is_some_and(|node| node.is_group()) => {
            tenx::open(&root).map(Table::Plain)
        }
        () if !genomes.is_empty() => open_genome(&root, &genomes, options).map(Table::Plain),
        () => h5ad::File::in_group(file, root, None).map(|file| Table::AnnData(file.into())),
    }
}

fn open_modality(file: hdf5::File, root: &Node, options: &Options) -> Result<Table, Error> {
    let group = root.require("mod")?;
    let modalities = group.members()?;
    let usual = ["rna", "gex", "RNA", "GEX"];
    let chosen = match (&options.modality, &modalities[..]) {
        (Some(name), _) => Some(name.as_str()),
        (None, [only]) => Some(only.as_str()),
        (None, _) => usual
            .into_iter()
            .find(|name| modalities.iter().any(|m| m == name)),
    };
    let chosen = chosen.filter(|name| modalities.iter().any(|modality| modality == name));
    let Some(name) = chosen else {
        let wanted = options.modality.as_deref().unwrap_or("rna");
        let found = list_nearest(&modalities, wanted);
        return Err(Error::input(
            root.file(),
            format!("there is no modality `{wanted}`; {found}: choose one with `--modality`"),
        ));
    };
    let whole = match root.child("obs")? {
        Some(obs) => Some(Frame::open(obs, None)?),
        None => None,
    };
    let modality = group.require(name)?;
    h5ad::File::in_group(file, modality, whole).map(|file| Table::AnnData(file.into()))
}

fn open_genome(root: &Node, genomes: &[String], options: &Options) -> Result<Plain, Error> {
    let chosen = match (&options.genome, genomes) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), _) => genomes.iter().find(|genome| *genome == name),
    };
    let Some(genome) = chosen else {
        let wanted = options.genome.as_deref().unwrap_or_default();
        let found = list_nearest(genomes, wanted);
        return Err(Error::input(
            root.file(),
            format!("one genome has to be chosen with `--genome`; {found}"),
        ));
    };
    tenx::open_genome(root, genome)
}
