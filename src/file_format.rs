//! Versions of the files that programs write for each other, and one rule for reading them.
//!
//! A file states its format, the version of the format and the version of scgpt-tools that wrote it. Before release 0.1.0 a change of
//! a format raises its version, and files of the old version are made again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A format, with the version that this library writes and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    pub name: &'static str,
    pub version: u32,
    /// The programs that write it.
    pub writer: &'static str,
}

/// Settings of a trained model, in `args.json` under `scgpt_tools`.
pub const MODEL: FileFormat = FileFormat {
    name: "scgpt-model",
    version: 2,
    writer: "the program that trained it",
};
/// `manifest.json` of a tokenized corpus.
pub const CORPUS: FileFormat = FileFormat {
    name: "scgpt-corpus",
    version: 2,
    writer: "`scgpt-tokenize`",
};
/// `manifest.json` of a reference index.
pub const REFERENCE_INDEX: FileFormat = FileFormat {
    name: "scgpt-reference-index",
    version: 2,
    writer: "`scgpt-map-reference build`",
};
/// `run.json`.
pub const RUN_RECORD: FileFormat = FileFormat {
    name: "scgpt-run-record",
    version: 2,
    writer: "the program that ran",
};
/// Predictions, attention and embeddings in AnnData files, in `uns/scgpt_tools`.
pub const ANNDATA: FileFormat = FileFormat {
    name: "scgpt-anndata",
    version: 2,
    writer: "the program that wrote it",
};

/// The format that a file states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub format: String,
    pub format_version: u32,
    /// Version of scgpt-tools that wrote the file.
    pub scgpt_tools_version: String,
}

/// All formats.
pub const ALL: [FileFormat; 5] = [MODEL, CORPUS, REFERENCE_INDEX, RUN_RECORD, ANNDATA];

/// Version of scgpt-tools.
pub const TOOLS: &str = env!("CARGO_PKG_VERSION");

impl FileFormat {
    /// The format that a file states.
    pub fn statement(&self) -> Statement {
        Statement {
            format: self.name.to_owned(),
            format_version: self.version,
            scgpt_tools_version: TOOLS.to_owned(),
        }
    }

    /// Whether a file states to have this format, of any version.
    pub fn is_stated(&self, statement: &Value) -> bool {
        statement["format"] == self.name
    }

    /// Checks the version that a file states.
    ///
    /// # Errors
    /// Another or no version; the text names the version of scgpt-tools that reads the file, or what to do.
    pub fn check(&self, statement: &Value) -> Result<(), String> {
        let Self {
            name,
            version,
            writer,
        } = self;
        let writer_version = statement["scgpt_tools_version"]
            .as_str()
            .unwrap_or("unknown");
        match statement["format_version"].as_u64() {
            Some(found) if found == u64::from(*version) => Ok(()),
            Some(found) if found > u64::from(*version) => Err(format!(
                "version {found} of the format `{name}` is newer than version {version}, which scgpt-tools {TOOLS} reads: use \
                 scgpt-tools {writer_version}, which wrote it, or a newer release"
            )),
            found => Err(format!(
                "{} of the format `{name}` is older than version {version}, which scgpt-tools {TOOLS} reads: write it again with {writer}",
                found.map_or_else(
                    || "an unstated version".to_owned(),
                    |found| format!("version {found}")
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_rejected_with_the_release_that_reads_them() {
        for format in ALL {
            let mut statement = serde_json::to_value(format.statement()).unwrap();
            assert_eq!(format.check(&statement), Ok(()));
            assert!(format.is_stated(&statement));
            statement["format_version"] = (format.version + 1).into();
            statement["scgpt_tools_version"] = "9.8.7".into();
            let problem = format.check(&statement).unwrap_err();
            assert!(problem.contains("use scgpt-tools 9.8.7"), "{problem}");
            statement["format_version"] = 1.into();
            let problem = format.check(&statement).unwrap_err();
            assert!(
                problem.contains("version 1") && problem.contains("write it again"),
                "{problem}"
            );
            assert!(format.check(&Value::Null).unwrap_err().contains("unstated"));
        }
    }
}
