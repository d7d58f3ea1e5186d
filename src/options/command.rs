//! Command line: help and parsing by clap, with defaults and choices from the schema, and conversion of texts to JSON.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::schema;

/// Arguments that control the reading of options and are not options themselves.
pub const NOT_OPTIONS: [&str; 4] = ["params", "schema", "help", "version"];

/// Content of a command line.
pub struct Line {
    pub given: Map<String, Value>,
    pub params: Option<PathBuf>,
    pub problems: Vec<String>,
}

/// Headings that every program has: what must be given, what most runs set, and what all programs share.
const REQUIRED: &str = "Required";
const OPTIONS: &str = "Options";
const GENERAL: &str = "General";
/// Minimum length of a clause before a colon that is complete without the rest.
const SHORTEST_CLAUSE: usize = 12;

/// The command as help shows it; clap checks only the syntax when [`read`] uses it.
pub fn build<'a>(
    name: &'static str,
    summary: &'static str,
    args: impl Iterator<Item = &'a Arg>,
    schema: &Value,
) -> Command {
    let is_required = |arg: &Arg| {
        let names = schema["required"].as_array().into_iter().flatten();
        names.into_iter().any(|name| name == arg.get_id().as_str())
    };
    let shown = |arg: &Arg| {
        let required = is_required(arg);
        let heading = match arg.get_help_heading() {
            _ if required => REQUIRED,
            heading => heading.unwrap_or(OPTIONS),
        };
        let heading = heading.to_owned();
        argument(arg.clone(), &schema["properties"][arg.get_id().as_str()])
            .required(required)
            .help_heading(heading)
    };
    let mut args: Vec<Arg> = args.map(shown).collect();
    args.sort_by_key(|arg| position(arg, &schema["properties"][arg.get_id().as_str()]));
    let ordered = |(at, arg): (usize, Arg)| arg.display_order(at);
    let others = (args.len()..).zip(general()).map(ordered);
    let args = args.into_iter().enumerate().map(ordered);
    Command::new(name)
        .bin_name(name)
        .about(summary)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(args)
        .next_help_heading(GENERAL)
        .args(others)
}

/// Required options come first, inputs before outputs, and what all programs share comes last.
fn position(arg: &Arg, property: &Value) -> u8 {
    match (arg.get_help_heading(), property["x-direction"].as_str()) {
        (Some(REQUIRED), Some("input")) => 0,
        (Some(REQUIRED), Some("output")) => 2,
        (Some(REQUIRED), _) => 1,
        (Some(OPTIONS), _) => 3,
        (Some(GENERAL), _) => 5,
        _ => 4,
    }
}

/// Arguments of every command line in addition to the options of the schema.
fn general() -> [Arg; 4] {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let params = Arg::new("params")
        .long("params")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf));
    [
        params.help(r#"JSON file with options by name, such as {"log_format":"json"}; options on the command line take precedence"#),
        flag("schema").help("Print the JSON Schema of the options and exit"),
        flag("help")
            .short('h')
            .help("Print the most used options with -h, all options with --help"),
        flag("version").short('V').help("Print the version"),
    ]
}

/// The command with the most used options only, and the first clause of each description.
pub fn short(command: &Command) -> Command {
    let brief = |arg: Arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(first_sentence(&help).to_owned())
    };
    let all = format!("All options: {} --help", command.get_name());
    command.clone().mut_args(brief).after_help(all)
}

/// The text up to the first full stop or semicolon, or colon after more than a word or two.
fn first_sentence(text: &str) -> &str {
    let colon = text.find(": ").filter(|&at| at > SHORTEST_CLAUSE);
    let ends = [text.find(". "), text.find("; "), colon];
    let end = ends.into_iter().flatten().min().unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

/// The argument, accepting any text, with default and choices shown.
fn argument(arg: Arg, property: &Value) -> Arg {
    let choice = |(name, help): (&str, Option<&str>)| match help {
        Some(help) => PossibleValue::new(name.to_owned()).help(help.to_owned()),
        None => PossibleValue::new(name.to_owned()),
    };
    let choices = schema::choices(property)
        .into_iter()
        .chain(schema::choices(&property["items"]))
        .map(choice)
        .collect();
    let arg = named(arg, property)
        .value_parser(ValueParser::new(Text(choices)))
        .allow_negative_numbers(true);
    let arg = match () {
        () if schema::allows(property, "boolean") => boolean(arg),
        () if schema::allows(property, "array") => arg
            .action(ArgAction::Append)
            .num_args(1)
            .value_delimiter(','),
        () => arg.action(ArgAction::Set).num_args(1),
    };
    match &property["default"] {
        Value::Null | Value::Bool(false) => arg,
        Value::Array(items) if items.is_empty() => arg,
        Value::Array(items) => {
            arg.default_value(items.iter().map(plain).collect::<Vec<_>>().join(","))
        }
        default => arg.default_value(plain(default)),
    }
}

/// The argument with a short name for its value where the option gives none: N for a whole number, X for another.
fn named(arg: Arg, property: &Value) -> Arg {
    let given = arg.get_value_names().and_then(|names| names.first());
    let is_given = given.is_some_and(|name| *name != arg.get_id().as_str().to_uppercase());
    match () {
        () if is_given => arg,
        () if schema::allows(property, "integer") => arg.value_name("N"),
        () if schema::allows(property, "number") => arg.value_name("X"),
        () => arg,
    }
}

/// `--flag` alone means true; `--flag=false` overrides a parameter file or a default.
fn boolean(arg: Arg) -> Arg {
    let values = ["true", "false"].map(PossibleValue::new).to_vec();
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("true|false")
        .value_parser(ValueParser::new(Text(values)))
        .hide_possible_values(true)
}

/// The JSON value as a user would type it.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Accepts any text and only lists the choices for clap, because the schema validates all values together.
#[derive(Clone)]
struct Text(Vec<PossibleValue>);

impl TypedValueParser for Text {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        (!self.0.is_empty())
            .then(|| Box::new(self.0.iter().cloned()) as Box<dyn Iterator<Item = _>>)
    }
}

/// Reads the arguments. Arguments that cannot be parsed are reported as problems and skipped, so that the rest is still checked.
pub fn read(command: &Command, args: &[OsString], properties: &Map<String, Value>) -> Line {
    let lenient = command
        .clone()
        .no_binary_name(true)
        .mut_args(|arg| arg.required(false));
    let (mut args, mut problems) = (args.to_vec(), Vec::new());
    loop {
        let error = match lenient.clone().try_get_matches_from(&args) {
            Ok(matches) => {
                let params = matches.get_one::<PathBuf>("params").cloned();
                return Line {
                    given: given(&matches, properties),
                    params,
                    problems,
                };
            }
            Err(error) => error,
        };
        problems.push(problem(&error, command));
        if !remove_culprit(&mut args, &error) {
            return Line {
                given: Map::new(),
                params: None,
                problems,
            };
        }
    }
}

fn problem(error: &clap::Error, command: &Command) -> String {
    if let (ErrorKind::UnknownArgument, Some(name)) = (error.kind(), culprit(error)) {
        let longs = command
            .get_arguments()
            .filter_map(Arg::get_long)
            .map(|long| format!("--{long}"));
        return format!("unknown option `{name}`{}", did_you_mean(&name, longs));
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("error: ").replace('\'', "`")
}

/// The argument that clap rejected, without its value.
fn culprit(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(shown) => shown.split([' ', '=', '[']).next().map(str::to_owned),
        _ => None,
    }
}

/// Removes the argument and its value; false if it cannot be found.
fn remove_culprit(args: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let Some(name) = culprit(error) else {
        return false;
    };
    let with_value = format!("{name}=");
    let starts = |arg: &OsString| arg.to_string_lossy().starts_with(&with_value);
    let Some(at) = args.iter().position(|arg| *arg == *name || starts(arg)) else {
        return false;
    };
    let is_flag = args.remove(at) == *name && name.starts_with('-');
    if is_flag
        && args
            .get(at)
            .is_some_and(|next| !next.to_string_lossy().starts_with('-'))
    {
        args.remove(at);
    }
    true
}

/// `; did you mean ...` with the most similar name, if one is similar enough.
pub fn did_you_mean(name: &str, known: impl Iterator<Item = String>) -> String {
    let near = known
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(similarity, _)| *similarity > 0.8);
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}

fn given(matches: &ArgMatches, properties: &Map<String, Value>) -> Map<String, Value> {
    let typed = |name: &&String| matches.value_source(name) == Some(ValueSource::CommandLine);
    let value = |name: &String| {
        let texts = matches
            .get_many::<String>(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>();
        (name.clone(), json(&texts, &properties[name]))
    };
    properties.keys().filter(typed).map(value).collect()
}

fn json(texts: &[&str], property: &Value) -> Value {
    match schema::allows(property, "array") {
        true => texts
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| scalar(text, &property["items"]))
            .collect(),
        false => texts
            .last()
            .map_or(Value::Null, |text| scalar(text, property)),
    }
}

/// The text as the type in the schema; a text that does not parse stays a text, which the schema then rejects.
/// `none` means no value, except where any text is valid.
fn scalar(text: &str, schema: &Value) -> Value {
    let allows = |kind| schema::allows(schema, kind);
    let is_enumerated = !schema::choices(schema).is_empty();
    let parsed = match text {
        "none" if allows("null") && (is_enumerated || !allows("string")) => Some(Value::Null),
        "true" | "false" if allows("boolean") => Some(Value::Bool(text == "true")),
        _ if allows("integer") => integer(text),
        _ if allows("number") => text
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

fn integer(text: &str) -> Option<Value> {
    text.parse::<u64>()
        .map(Value::from)
        .or_else(|_| text.parse::<i64>().map(Value::from))
        .ok()
}
