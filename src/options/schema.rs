//! JSON Schema of options: generated from types, then normalized for help, workflow engines and validation.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Properties of the struct `O`, types and enumerations written out in place.
pub fn properties<O: JsonSchema>() -> Map<String, Value> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<O>()
        .to_value();
    match schema["properties"].take() {
        Value::Object(properties) => properties,
        _ => Map::new(),
    }
}

/// The value as a JSON object.
pub fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        other => panic!(
            "options are a struct of numbers, texts, lists and paths in UTF-8, found {other:?}"
        ),
    }
}

/// Sets the default of every property, and removes required options from `defaults`.
pub fn resolve(properties: &mut Map<String, Value>, defaults: &mut Map<String, Value>) {
    for (name, property) in properties {
        let mut default = defaults.get(name).cloned().unwrap_or(Value::Null);
        if property["format"] == "float" {
            default = shortest(&default);
        }
        tidy(property);
        let is_empty = default.as_str().is_some_and(str::is_empty);
        if is_empty {
            property["minLength"] = 1.into();
        }
        if is_empty || !accepts(property, &default) {
            property
                .as_object_mut()
                .expect("`tidy` leaves an object")
                .shift_remove("default");
            defaults.shift_remove(name);
        } else {
            property["default"] = default.clone();
            defaults.insert(name.clone(), default);
        }
    }
}

/// Whether the schema accepts the value.
fn accepts(schema: &Value, value: &Value) -> bool {
    jsonschema::draft202012::is_valid(schema, value)
}

/// The whole schema of a program.
pub fn document(
    name: &str,
    summary: &str,
    properties: Map<String, Value>,
    defaults: &Map<String, Value>,
) -> Value {
    let required: Vec<_> = properties
        .keys()
        .filter(|name| !defaults.contains_key(*name))
        .cloned()
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "description": summary,
        "x-version": env!("CARGO_PKG_VERSION"),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The shortest decimal of a single-precision number, which JSON would show as 0.10000000149011612.
fn shortest(value: &Value) -> Value {
    let shortest = |number: f64| (number as f32).to_string().parse::<f64>();
    value
        .as_f64()
        .and_then(|number| shortest(number).ok())
        .map_or(value.clone(), Value::from)
}

/// Removes number formats that are not part of JSON Schema, and joins the lines of descriptions.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| NUMBER_FORMATS.contains(&format))
            {
                object.shift_remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = unfolded(text);
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(tidy),
        Value::Bool(_) => *schema = json!({}),
        _ => {}
    }
}

const NUMBER_FORMATS: [&str; 12] = [
    "float", "double", "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16",
    "uint32", "uint64",
];

fn unfolded(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// The schemas a value may match: the branches of `anyOf`, as for an optional enumeration, or the schema itself.
pub fn branches(schema: &Value) -> Vec<&Value> {
    schema["anyOf"]
        .as_array()
        .map_or_else(|| vec![schema], |branches| branches.iter().collect())
}

/// Whether a value of the given JSON type can be valid.
pub fn allows(schema: &Value, kind: &str) -> bool {
    let names = |schema: &Value| match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|k| k == kind),
        found => found == kind,
    };
    branches(schema).into_iter().any(names)
}

/// Name and description of every choice of an enumeration; empty for anything else.
pub fn choices(schema: &Value) -> Vec<(&str, Option<&str>)> {
    branches(schema)
        .into_iter()
        .flat_map(|branch| choices_of(branch))
        .collect()
}

fn choices_of(schema: &Value) -> Vec<(&str, Option<&str>)> {
    let list = |key: &str| {
        schema[key]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let plain = |schema: &'_ Value| schema["enum"].as_array().is_some();
    let mut found: Vec<_> = list("enum")
        .iter()
        .filter_map(|name| Some((name.as_str()?, None)))
        .collect();
    for branch in list("oneOf") {
        match branch["const"].as_str() {
            Some(name) => found.push((name, branch["description"].as_str())),
            None if plain(branch) => found.extend(choices_of(branch)),
            None => {}
        }
    }
    found
}
