//! The command line: what clap shows and reads, with defaults and choices from the schema, and texts turned into JSON.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::schema;

/// Arguments that steer the reading of options and are none themselves.
pub const NOT_OPTIONS: [&str; 2] = ["params", "schema"];

/// What a command line said.
pub struct Line {
    pub given: Map<String, Value>,
    pub params: Option<PathBuf>,
    pub problems: Vec<String>,
}

/// The command as help shows it; clap enforces nothing but syntax when [`read`] uses it.
pub fn build<'a>(
    name: &'static str,
    summary: &'static str,
    args: impl Iterator<Item = &'a Arg>,
    schema: &Value,
) -> Command {
    let required = schema["required"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let argument = |arg: &Arg| {
        let id = arg.get_id().as_str();
        argument(arg.clone(), &schema["properties"][id])
            .required(required.iter().any(|name| name == id))
    };
    let params = Arg::new("params")
        .long("params")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf));
    let schema_flag = Arg::new("schema").long("schema").action(ArgAction::SetTrue);
    Command::new(name)
        .bin_name(name)
        .about(summary)
        .version(env!("CARGO_PKG_VERSION"))
        .args(args.map(argument))
        .next_help_heading("General")
        .arg(params.help("Read options from a JSON object; flags on the command line win"))
        .arg(schema_flag.help("Print the JSON Schema of the options and exit"))
}

/// The argument, reading texts of any content, with default and choices shown.
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
    let arg = arg
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

/// `--flag` alone means true; `--flag=false` can take back what a parameter file or a default says.
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

/// Takes any text and only tells clap which ones are meant, because the schema judges all values together.
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

/// Reads the arguments. What cannot be read is a problem and left aside, so that the rest is still looked at.
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

/// The argument that clap stumbled over, without its value.
fn culprit(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(shown) => shown.split([' ', '=', '[']).next().map(str::to_owned),
        _ => None,
    }
}

/// Takes the argument and its value away; false if it cannot be found.
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

/// `; did you mean ...` with the nearest name, if one is near.
pub fn did_you_mean(name: &str, known: impl Iterator<Item = String>) -> String {
    let near = known
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(likeness, _)| *likeness > 0.8);
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

/// The text as the type that the schema names; a text that is none stays a text, which the schema then refuses.
/// `none` is no value, except where any text is one.
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
