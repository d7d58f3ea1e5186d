//! Sample sheets: CSV tables of input files and annotations of their cells.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cells::cohort::{ModalityKind, Source};
use crate::failure::Failure;
use crate::formats;
use crate::output;

/// An input file with the annotations of its cells from the sample sheet.
pub struct Input {
    pub path: PathBuf,
    pub annotations: Vec<(String, String)>,
}

impl Input {
    /// Value of a column of the sheet; none if it is empty or missing.
    pub fn annotation(&self, column: &str) -> Option<&str> {
        let mut annotations = self.annotations.iter();
        let found = annotations.find(|(name, _)| name == column)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }
}

/// Reads a sheet with a column `path` (or `file` or `input`); paths are relative to the sheet. All files have to exist.
pub fn read(sheet: &Path) -> Result<Vec<Input>> {
    let wrong = |problem: String| wrong(sheet, problem);
    let text = formats::read_text(sheet)?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = reader
        .headers()
        .map_err(|error| wrong(error.to_string()))?
        .clone();
    let names = ["path", "file", "input"];
    let Some(path) = header.iter().position(|name| names.contains(&name)) else {
        let found: Vec<&str> = header.iter().collect();
        return Err(wrong(format!(
            "expected a column `path`, found `{}`",
            found.join("`, `")
        )));
    };
    let mut inputs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let others = header
            .iter()
            .zip(&record)
            .enumerate()
            .filter(|(at, _)| *at != path);
        inputs.push(Input {
            path: output::parent(sheet).join(&record[path]),
            annotations: others
                .map(|(_, (name, value))| (name.to_owned(), value.to_owned()))
                .collect(),
        });
    }
    match inputs.iter().find(|input| !input.path.exists()) {
        _ if inputs.is_empty() => Err(wrong("it lists no files".into())),
        Some(input) => Err(wrong(format!(
            "file `{}` does not exist",
            input.path.display()
        ))),
        None => Ok(inputs),
    }
}

/// Reads a sheet of files of one or more modalities: column `path`, and optionally `sample`, `batch` and `modality`, which may be
/// empty. The default modality is RNA. Also returns the names of the columns that are not read.
pub fn read_sources(sheet: &Path) -> Result<(Vec<Source>, Vec<String>)> {
    let inputs = read(sheet)?;
    let known = ["sample", "batch", "modality"];
    let columns = inputs.first().map_or(&[][..], |input| &input.annotations);
    let others = columns.iter().map(|(name, _)| name);
    let unread = others.filter(|name| !known.contains(&name.as_str()));
    let unread = unread.cloned().collect();
    let source = |input: Input| {
        let kind = input.annotation("modality").map(str::parse);
        let kind = kind.unwrap_or(Ok(ModalityKind::Rna));
        Ok(Source {
            kind: kind.map_err(|problem: String| wrong(sheet, problem))?,
            sample: input.annotation("sample").map(str::to_owned),
            batch: input.annotation("batch").map(str::to_owned),
            path: input.path,
        })
    };
    let sources = inputs.into_iter().map(source).collect::<Result<_>>()?;
    Ok((sources, unread))
}

fn wrong(sheet: &Path, problem: String) -> anyhow::Error {
    Failure::Input.error(format!("`{}`: {problem}", sheet.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz_mutations;
    use std::fs;

    #[test]
    fn damaged_sample_sheets_give_inputs_or_an_error() {
        let sheet = "path,sample,batch\n.,a,1\n\".\",\"b, c\",2\r\n./,d,\n";
        fuzz_mutations::each_file(sheet.as_bytes(), |path| match read(path) {
            Ok(inputs) => assert!(inputs.iter().all(|input| input.path.exists())),
            Err(error) => {
                assert_eq!(Failure::of(&error), Some(Failure::Input), "{error:#}");
                assert!(
                    error.to_string().contains(&*path.to_string_lossy()),
                    "{error:#}"
                );
            }
        });
    }

    #[test]
    fn sheets_of_modalities_give_the_modality_of_each_file() {
        let folder = tempfile::tempdir().unwrap();
        let sheet = folder.path().join("sheet.csv");
        let text = "sample,file,modality,age,batch\na,.,,7,\nb,.,ADT,8,x\n,.,Peaks,9,\n";
        fs::write(&sheet, text).unwrap();
        let (sources, unread) = read_sources(&sheet).unwrap();
        let found: Vec<_> = sources
            .iter()
            .map(|s| (s.kind, s.sample.as_deref(), s.batch.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                (ModalityKind::Rna, Some("a"), None),
                (ModalityKind::Protein, Some("b"), Some("x")),
                (ModalityKind::Atac, None, None)
            ]
        );
        assert_eq!(sources[0].path, folder.path().join("."));
        assert_eq!(unread, ["age"]);
        fs::write(&sheet, "path,modality\n.,methylation\n").unwrap();
        let error = read_sources(&sheet).unwrap_err();
        assert_eq!(Failure::of(&error), Some(Failure::Input));
        for part in ["sheet.csv", "`methylation`", "RNA", "`adt`", "ATAC"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
