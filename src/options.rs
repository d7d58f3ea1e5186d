//! From one options struct to everything that must agree with it: help, flags, JSON Schema and parameter file.
//!
//! A struct of options derives `clap::Args`, `Serialize`, `Deserialize` and `JsonSchema`, carries `#[serde(default)]` and
//! `#[group(skip)]` (so that groups of the same name can meet in one program), and implements `Default`. Then
//! - doc comments are the help and the descriptions; groups are flattened in clap and in serde alike;
//! - `Default` of the program's struct alone gives the defaults, also those of flattened groups;
//! - a text or path whose default is empty, or a value whose default its own schema refuses, must be given;
//! - file arguments say `extend("x-format" = "h5ad", "x-direction" = "input")`; a name that the program looks up itself,
//!   such as a published checkpoint, adds `"x-lookup" = "SCGPT_MODELS"` and is not checked here.
//!
//! The command line only collects texts. Texts become JSON by the type in the schema, are laid over the parameter file, and
//! are checked against the schema, so that both ways in have the same rules and all problems are reported together.

mod command;
mod files;
mod problems;
pub mod schema;
mod size;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::size::Size;
use crate::progress;

/// Options that every program has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
#[command(next_help_heading = "General")]
pub struct Shared {
    /// Number of threads to compute with; all available cores if not given. The results do not depend on it.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Where to write the run record: version, options, checksums, timings and metrics as JSON. Beside the output if not given.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub record: Option<PathBuf>,
    /// Form of the messages on standard error.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: progress::Format,
    /// Say nothing but warnings and errors; wins over verbose.
    #[arg(long, short)]
    pub quiet: bool,
    /// Say more about what is being done.
    #[arg(long, short)]
    pub verbose: bool,
}

/// All that is known about the options of one program.
#[derive(Debug)]
pub struct Definition {
    /// JSON Schema 2020-12.
    pub schema: Value,
    /// Values that hold where nothing is given; options that must be given are absent.
    pub defaults: Map<String, Value>,
    /// The command line, for help.
    pub command: Command,
}

/// Why a command line does not lead to a run.
#[derive(Debug)]
pub struct Refusal {
    /// Each on a line of its own.
    pub problems: Vec<String>,
    /// The form of messages that was asked for, as far as that could be read.
    pub log_format: progress::Format,
}

/// The options of a run, complete and valid.
#[derive(Debug)]
pub struct Resolved {
    /// The program's own options.
    pub program: Map<String, Value>,
    pub shared: Shared,
}

impl Resolved {
    /// All options together, for the run record.
    pub fn all(&self) -> Map<String, Value> {
        self.program
            .clone()
            .into_iter()
            .chain(schema::object(&self.shared))
            .collect()
    }
}

impl Definition {
    /// Derives everything from the struct `O`.
    pub fn of<O: Args + Serialize + JsonSchema + Default>(
        name: &'static str,
        summary: &'static str,
    ) -> Self {
        let mut properties = schema::properties::<O>();
        properties.extend(schema::properties::<Shared>());
        let mut defaults = schema::object(&O::default());
        defaults.extend(schema::object(&Shared::default()));
        schema::settle(&mut properties, &mut defaults);
        let schema = schema::document(name, summary, properties, &defaults);
        let arguments = Shared::augment_args(O::augment_args(Command::new(name)));
        let command = command::build(name, summary, arguments.get_arguments(), &schema);
        Self {
            schema,
            defaults,
            command,
        }
    }

    /// What help or version text was asked for, whatever else stands on the command line.
    pub fn text_asked_for(&self, args: &[OsString]) -> Option<String> {
        let asked = |names: &[&str]| {
            args.iter()
                .take_while(|a| *a != "--")
                .any(|a| names.iter().any(|name| a == name))
        };
        let mut command = self.command.clone();
        match () {
            () if asked(&["--help"]) => Some(command.render_long_help().to_string()),
            () if asked(&["-h"]) => Some(command.render_help().to_string()),
            () if asked(&["--version", "-V"]) => Some(command.render_version()),
            () => None,
        }
    }

    /// Reads the command line (without the program's name) and the parameter file.
    ///
    /// `check` says what is wrong with options that are valid one by one, and names flags as "`--flag`". It also sees defaults
    /// in place of options that are wrong, so what it says of these is left out.
    ///
    /// # Errors
    /// All problems: syntax, unknown names, values, missing options, files, and what `check` finds.
    pub fn resolve(
        &self,
        args: &[OsString],
        check: impl Fn(&Map<String, Value>) -> Vec<String>,
    ) -> Result<Resolved, Refusal> {
        let command::Line {
            given,
            params,
            mut problems,
        } = command::read(&self.command, args, self.properties());
        let file = params.as_deref().map(read_params).transpose();
        let all_is_read = file.is_ok();
        let file = file.unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let mut values = file.unwrap_or_default();
        values.extend(given.clone());
        let names = problems::Names {
            definition: self,
            given: &given,
            params: params.as_deref(),
        };
        let invalid = names.problems(&values);
        values.retain(|name, _| !invalid.iter().any(|problem| problem.property == *name));
        problems.extend(files::problems(&names, &values));
        problems.extend(invalid.into_iter().map(|problem| problem.text));
        let resolved = self.complete(&values);
        let mut rules = check(&resolved.program);
        rules.retain(|rule| all_is_read && !names.is_moot(rule, &problems));
        problems.extend(rules);
        if problems.is_empty() {
            return Ok(resolved);
        }
        Err(Refusal {
            problems,
            log_format: resolved.shared.log_format,
        })
    }

    /// The values that were given, and defaults; an option that must be given and was not is absent.
    fn complete(&self, values: &Map<String, Value>) -> Resolved {
        let value = |name: &String| values.get(name).or(self.defaults.get(name)).cloned();
        let names = self.properties().keys();
        let all = names.filter_map(|name| Some((name.clone(), value(name)?)));
        let shared = schema::object(&Shared::default());
        let (shared, program) = all.partition(|(name, _)| shared.contains_key(name));
        let shared = serde_json::from_value(Value::Object(shared))
            .expect("the schema accepted the shared options");
        Resolved { program, shared }
    }

    /// Name and schema of every option, in the order of the help.
    pub fn properties(&self) -> &Map<String, Value> {
        self.schema["properties"]
            .as_object()
            .expect("the schema has properties")
    }

    fn argument(&self, name: &str) -> Option<&Arg> {
        self.command
            .get_arguments()
            .find(|arg| arg.get_id() == name)
    }

    /// Where the struct's derives contradict each other; empty if all agree. For tests of every program.
    pub fn disagreements(&self) -> Vec<String> {
        let flags = self
            .command
            .get_arguments()
            .map(|arg| arg.get_id().as_str());
        let of_clap = flags
            .filter(|id| !command::NOT_OPTIONS.contains(id))
            .collect::<Vec<_>>();
        let of_serde = self
            .properties()
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>();
        let mut found = Vec::new();
        if of_clap != of_serde {
            found.push(format!(
                "flags {of_clap:?} are not the properties {of_serde:?}"
            ));
        }
        found.extend(self.properties().iter().filter_map(|(name, property)| {
            let described = property["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            (!described).then(|| format!("`{name}` has no description"))
        }));
        let empty = problems::Names {
            definition: self,
            given: &Map::new(),
            params: None,
        };
        found.extend(
            empty
                .problems(&self.defaults)
                .into_iter()
                .map(|p| p.text)
                .filter(|text| !text.contains("is required")),
        );
        found
    }
}

fn read_params(path: &Path) -> Result<Map<String, Value>, String> {
    /// Parameter files are written by hand or by an engine; a larger one is a mistake, such as a count matrix.
    const LIMIT: u64 = 16 << 20;
    let problem = |what: String| format!("`--params`: could not read `{}`: {what}", path.display());
    let file = File::open(path).map_err(|error| problem(error.to_string()))?;
    let mut text = String::new();
    let size = file
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| problem(error.to_string()))?;
    if size as u64 > LIMIT {
        return Err(problem(
            "it is larger than 16 MiB, expected a JSON object of options".into(),
        ));
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(problem(
            "expected a JSON object with option names as keys".into(),
        )),
        Err(error) => Err(problem(format!("it is not JSON: {error}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
