//! Option definitions: one struct gives help, flags, JSON Schema and parameter file.
//!
//! A struct of options derives `clap::Args`, `Serialize`, `Deserialize` and `JsonSchema`, carries `#[serde(default)]` and
//! `#[group(skip)]` (so that groups of the same name can be used in one program), and implements `Default`. Then
//! - doc comments are the help and the descriptions; groups are flattened in clap and in serde alike;
//! - `Default` of the program's struct alone gives the defaults, also those of flattened groups;
//! - a text or path whose default is empty, or a value whose default its own schema rejects, must be given;
//! - file arguments have `extend("x-format" = "h5ad", "x-direction" = "input")`; a name that the program resolves itself,
//!   such as that of a published checkpoint, adds `"x-lookup" = "SCGPT_MODELS"` and is not checked here.
//!
//! The command line only collects texts. Texts become JSON by the type in the schema, override the parameter file, and are
//! validated against the schema, so that flags and parameter file have the same rules and all problems are reported together.

mod command;
mod files;
mod problems;
pub mod schema;
mod size;

use std::collections::BTreeSet;
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
    /// Number of threads. Results do not depend on it. Default: all available cores.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Output JSON run record: version, options, checksums, timings and metrics. Default: run.json in the output directory of a
    /// trained model or corpus, else NAME.run.json next to the output, such as cells.run.json for cells.h5ad; none without an
    /// output.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-format" = "json", "x-direction" = "output"))]
    pub record: Option<PathBuf>,
    /// Format of log messages on standard error.
    #[arg(long, hide_short_help = true, value_name = "FORMAT")]
    pub log_format: progress::Format,
    /// Print only warnings and errors; overrides --verbose.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print details of each step.
    #[arg(long, hide_short_help = true, short)]
    pub verbose: bool,
}

/// Option definition of one program.
#[derive(Debug)]
pub struct Definition {
    /// JSON Schema 2020-12.
    pub schema: Value,
    /// Default values; required options are absent.
    pub defaults: Map<String, Value>,
    /// The command line, for help.
    pub command: Command,
}

/// Problems of a command line that prevent a run.
#[derive(Debug)]
pub struct InvalidOptions {
    /// Each on a line of its own.
    pub problems: Vec<String>,
    /// The requested log format, if it could be read.
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
        schema::resolve(&mut properties, &mut defaults);
        let schema = schema::document(name, summary, properties, &defaults);
        let arguments = Shared::augment_args(O::augment_args(Command::new(name)));
        let command = command::build(name, summary, arguments.get_arguments(), &schema);
        Self {
            schema,
            defaults,
            command,
        }
    }

    /// The requested help or version text, whatever else is on the command line.
    pub fn requested_text(&self, args: &[OsString]) -> Option<String> {
        let has = |names: &[&str]| {
            args.iter()
                .take_while(|a| *a != "--")
                .any(|a| names.iter().any(|name| a == name))
        };
        let mut command = self.command.clone();
        match () {
            () if has(&["--help"]) => Some(command.render_long_help().to_string()),
            () if has(&["-h"]) => Some(command::short(&command).render_help().to_string()),
            () if has(&["--version", "-V"]) => Some(command.render_version()),
            () => None,
        }
    }

    /// Reads the command line (without the program's name) and the parameter file.
    ///
    /// `check` returns conflicts between options that are valid on their own, with flags written as "`--flag`". It gets defaults
    /// in place of invalid options, so its messages on these are dropped.
    ///
    /// # Errors
    /// All problems: syntax, unknown names, values, missing options, files, and what `check` finds.
    pub fn resolve(
        &self,
        args: &[OsString],
        check: impl Fn(&Map<String, Value>) -> Vec<String>,
    ) -> Result<Resolved, InvalidOptions> {
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
        Err(InvalidOptions {
            problems,
            log_format: resolved.shared.log_format,
        })
    }

    /// The given values and defaults; missing required options are absent.
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

    /// Contradictions between the derives of the struct; empty if all agree. For tests of every program.
    pub fn disagreements(&self) -> Vec<String> {
        let flags = self
            .command
            .get_arguments()
            .map(|arg| arg.get_id().as_str());
        // Help has an order of its own.
        let of_clap: BTreeSet<&str> = flags
            .filter(|id| !command::NOT_OPTIONS.contains(id))
            .collect();
        let of_serde: BTreeSet<&str> = self.properties().keys().map(String::as_str).collect();
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
    /// Parameter files are small; a larger file is a mistake, such as a count matrix.
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
