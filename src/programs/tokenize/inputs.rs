//! The inputs: files and folders given one by one or in a sample sheet, opened when their turn comes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::Options;
use crate::cells::{Cells, Prefer};
use crate::failure::Failure;
use crate::formats::{self, Source};
use crate::output;
use crate::run_record::Run;
use crate::vocabulary::Vocabulary;

/// A table to read, with what the sample sheet says of its cells.
pub struct Input {
    pub path: PathBuf,
    pub annotations: Vec<(String, String)>,
}

/// All tables to read, in order.
pub struct Inputs {
    pub list: Vec<Input>,
}

impl Inputs {
    pub fn list(options: &Options, run: &mut Run) -> Result<Self> {
        let list = match &options.samples {
            Some(sheet) => read_sheet(sheet)?,
            None => options
                .input
                .iter()
                .map(|path| Input {
                    path: path.clone(),
                    annotations: Vec::new(),
                })
                .collect(),
        };
        for input in &list {
            run.input_unread(&input.path)?;
        }
        Ok(Self { list })
    }

    /// What the inputs are, for a later run to tell whether they are the same.
    pub fn fingerprint(&self) -> Result<serde_json::Value> {
        let mut found = Vec::new();
        for Input { path, annotations } in &self.list {
            let metadata = fs::metadata(path)?;
            let modified = metadata.modified().ok();
            let modified = modified.and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
            let modified = modified.map(|duration| duration.as_nanos().to_string());
            found.push(json!([path, metadata.len(), modified, annotations]));
        }
        Ok(found.into())
    }
}

/// A table whose matrix and gene names are chosen.
pub struct Opened {
    pub cells: Cells,
    /// Names of the genes, empty for features of another kind than asked for.
    pub genes: Vec<String>,
}

/// Opens an input; `known` is the vocabulary, if it was given.
pub fn open(options: &Options, input: &Input, known: Option<&Vocabulary>) -> Result<Opened> {
    let table = formats::open(&input.path, &options.formats, options.spool_memory())?;
    let mut cells = Cells::of(table, &options.cells, known, Prefer::Counts)?;
    let mut genes = cells.genes.clone();
    leave_out_other_features(options, &mut cells, &mut genes)?;
    Ok(Opened { cells, genes })
}

/// Cell Ranger puts antibodies and guides beside the genes.
fn leave_out_other_features(
    options: &Options,
    cells: &mut Cells,
    genes: &mut [String],
) -> Result<()> {
    let source = cells.source.clone();
    let columns = cells.table.var_columns(&source)?;
    if !columns.iter().any(|name| name == "feature_types") {
        return Ok(());
    }
    let kinds = cells.table.var(&source, "feature_types")?.to_labels();
    let wanted = |kind: &Option<String>| kind.as_ref().is_none_or(|k| *k == options.feature_type);
    let left_out = kinds.iter().filter(|kind| !wanted(kind)).count();
    if left_out == kinds.len() && !kinds.is_empty() {
        let found = kinds[0].as_deref().unwrap_or_default();
        return Err(Failure::Input.error(format!(
            "`{}` has no feature of the type `{}`, but such as `{found}`; choose one with `--feature-type`",
            cells.table.path().display(),
            options.feature_type
        )));
    }
    if left_out > 0 {
        let note = format!("{left_out} features are not of the type `{}` and are left out", options.feature_type);
        cells.notes.push(note);
    }
    for (gene, kind) in genes.iter_mut().zip(&kinds) {
        if !wanted(kind) {
            gene.clear();
        }
    }
    Ok(())
}

fn read_sheet(sheet: &Path) -> Result<Vec<Input>> {
    let wrong = |problem: String| Failure::Input.error(format!("`{}`: {problem}", sheet.display()));
    let text = fs::read_to_string(sheet)
        .with_context(|| format!("could not read the sample sheet `{}`", sheet.display()))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let names = ["path", "file", "input"];
    let Some(path) = header.iter().position(|name| names.contains(&name)) else {
        let found: Vec<&str> = header.iter().collect();
        return Err(wrong(format!("a column `path` was expected, there are `{}`", found.join("`, `"))));
    };
    let mut inputs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let others = header.iter().zip(&record).enumerate().filter(|(at, _)| *at != path);
        inputs.push(Input {
            path: output::parent(sheet).join(&record[path]),
            annotations: others
                .map(|(_, (name, value))| (name.to_owned(), value.to_owned()))
                .collect(),
        });
    }
    match inputs.iter().find(|input| !input.path.exists()) {
        _ if inputs.is_empty() => Err(wrong("it lists no file".into())),
        Some(input) => Err(wrong(format!("there is no `{}`", input.path.display()))),
        None => Ok(inputs),
    }
}

impl Opened {
    pub fn source(&self) -> &Source {
        &self.cells.source
    }
}
