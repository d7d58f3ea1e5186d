//! Problems of options, described without JSON or schema terms.

use std::path::Path;

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use super::command::did_you_mean;
use super::{Definition, schema};

/// A problem of one option.
pub struct Problem {
    pub property: String,
    pub text: String,
}

/// Names options as they were given: flag, or key of the parameter file.
pub struct Names<'a> {
    pub definition: &'a Definition,
    pub given: &'a Map<String, Value>,
    pub params: Option<&'a Path>,
}

impl Names<'_> {
    /// Problems found by the schema; at most one for each option.
    pub fn problems(&self, values: &Map<String, Value>) -> Vec<Problem> {
        let validator = jsonschema::draft202012::new(&self.definition.schema)
            .expect("generated schemas are valid");
        let values = Value::Object(values.clone());
        let mut problems = validator
            .iter_errors(&values)
            .flat_map(|error| self.describe(&error, &values))
            .collect::<Vec<_>>();
        let order = |name: &str| {
            self.definition
                .properties()
                .keys()
                .position(|known| known == name)
        };
        problems.sort_by_key(|problem| order(&problem.property));
        problems.dedup_by(|a, b| a.property == b.property);
        problems
    }

    fn describe(&self, error: &jsonschema::ValidationError<'_>, values: &Value) -> Vec<Problem> {
        let problem = |property: &str, text| Problem {
            property: property.into(),
            text,
        };
        match error.kind() {
            ValidationErrorKind::Required {
                property: Value::String(name),
            } => vec![problem(name, self.missing(name))],
            ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
                .iter()
                .map(|name| problem(name, self.unknown(name)))
                .collect(),
            _ => {
                let name = error
                    .instance_path()
                    .as_str()
                    .split('/')
                    .nth(1)
                    .unwrap_or_default();
                vec![problem(
                    name,
                    self.wrong(name, &values[name], error.instance()),
                )]
            }
        }
    }

    fn missing(&self, name: &str) -> String {
        let description = self.definition.properties()[name]["description"]
            .as_str()
            .unwrap_or_default();
        let first = description
            .split(". ")
            .next()
            .unwrap_or_default()
            .trim_end_matches('.');
        format!("{} is required: {}", self.flag(name), lower_first(first))
    }

    fn unknown(&self, name: &str) -> String {
        let known = self.definition.properties().keys().cloned();
        format!(
            "unknown option {}{}",
            self.name(name),
            did_you_mean(name, known)
        )
    }

    fn wrong(&self, name: &str, whole: &Value, part: &Value) -> String {
        // Of a list, the message has the wrong element only, or the whole list if its length is wrong.
        let found = if whole.is_array() && !part.is_array() {
            part
        } else {
            whole
        };
        format!(
            "{}: found {}, expected {}",
            self.name(name),
            shown(found),
            expected(&self.definition.properties()[name])
        )
    }

    /// Whether a rule across options concerns an option that has a problem of its own.
    pub fn is_moot(&self, rule: &str, problems: &[String]) -> bool {
        let mut options = self.definition.properties().keys();
        options.any(|name| {
            let flag = format!("`--{}", name.replace('_', "-"));
            let of_it = |problem: &String| {
                problem.contains(&flag) || problem.contains(&format!("`{name}`"))
            };
            rule.contains(&format!("{flag}`")) && problems.iter().any(of_it)
        })
    }

    /// The option as it was given: a flag, or a key of the parameter file.
    pub fn name(&self, name: &str) -> String {
        match self.params {
            Some(params) if !self.given.contains_key(name) => {
                format!("`{name}` in `{}`", params.display())
            }
            _ => self.flag(name),
        }
    }

    fn flag(&self, name: &str) -> String {
        let arg = self.definition.argument(name);
        match arg.map(|arg| (arg.get_long(), arg.get_value_names())) {
            Some((Some(long), _)) => format!("`--{long}`"),
            Some((None, Some([value, ..]))) => format!("`{value}`"),
            _ => format!("`{name}`"),
        }
    }
}

fn lower_first(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut letters = word.chars();
    match letters.next() {
        // Names and abbreviations, such as AnnData and RNA, stay as they are.
        Some(first) if !letters.any(char::is_uppercase) => {
            first.to_lowercase().to_string() + &text[first.len_utf8()..]
        }
        _ => text.into(),
    }
}

/// The value, cut if long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None if text.is_empty() => "nothing".into(),
        None => format!("`{text}`"),
    }
}

/// What the schema accepts, to follow "expected".
pub fn expected(property: &Value) -> String {
    let or_none = match schema::allows(property, "null") && !schema::allows(property, "string") {
        true => " (or `none`)",
        false => "",
    };
    let names = schema::choices(property)
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect::<Vec<_>>();
    let allows = |kind| schema::allows(property, kind);
    let range = range(property);
    match () {
        () if !names.is_empty() => format!("one of {}", names.join(", ")),
        () if allows("boolean") => "`true` or `false`".into(),
        () if allows("integer") => format!("a whole number{range}{or_none}"),
        () if allows("number") => format!("a number{range}{or_none}"),
        () if allows("array") => list(property),
        () if property.get("x-direction").is_some() => "a path".into(),
        () => format!("a text{}", examples(property)),
    }
}

fn examples(property: &Value) -> String {
    let texts = property["examples"].as_array().into_iter().flatten();
    let texts: Vec<_> = texts.map(shown).collect();
    match texts.split_last() {
        Some((last, [])) => format!(" such as {last}"),
        Some((last, others)) => format!(" such as {} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn list(property: &Value) -> String {
    let limit = |key: &str, bound: &str| property[key].as_u64().map(|n| format!("{bound} {n}"));
    let limits = [limit("minItems", "at least"), limit("maxItems", "at most")];
    let limits = limits
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" and ");
    let count = if limits.is_empty() {
        limits
    } else {
        format!(" of {limits}")
    };
    format!(
        "a comma-separated list{count}, each {}",
        expected(&property["items"])
    )
}

fn range(property: &Value) -> String {
    let bound = |key: &str| property[key].as_f64();
    match (
        bound("minimum"),
        bound("maximum"),
        bound("exclusiveMinimum"),
        bound("exclusiveMaximum"),
    ) {
        (Some(low), Some(high), _, _) => format!(" between {low} and {high}"),
        (Some(low), None, _, Some(high)) => format!(" of at least {low} and less than {high}"),
        (Some(low), None, _, None) => format!(" of at least {low}"),
        (None, Some(high), Some(low), _) => format!(" greater than {low} and at most {high}"),
        (None, Some(high), None, _) => format!(" of at most {high}"),
        (None, None, Some(low), Some(high)) => format!(" between {low} and {high}, both excluded"),
        (None, None, Some(low), None) => format!(" greater than {low}"),
        (None, None, None, Some(high)) => format!(" less than {high}"),
        (None, None, None, None) => String::new(),
    }
}
