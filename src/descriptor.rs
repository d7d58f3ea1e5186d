//! Tool descriptor for workflow engines, one JSON document: schema of the parameters, input and output files, exit codes,
//! resources, container image and conda package. Wrappers for engines are generated from it.

use serde_json::{Map, Value, json};

use crate::failure::CODES;
use crate::programs::{Entry, Facts};

/// The paper to cite.
pub const DOI: &str = "10.1038/s41592-024-02201-0";
/// Name of the conda package, which holds all programs.
pub const PACKAGE: &str = "scgpt-tools";
/// Container image without tag.
pub const IMAGE: &str = "quay.io/scgpt-tools/scgpt-tools";
/// Suffixes of the image tags without and with GPU support.
pub const FLAVORS: [&str; 2] = ["cpu", "cu130"];

/// The descriptor of a program, as `--schema` prints it.
pub fn of(entry: &Entry) -> Value {
    let parameters = (entry.define)().schema;
    let files = |direction| files(&parameters, direction, &entry.facts);
    let version = env!("CARGO_PKG_VERSION");
    let images = FLAVORS.map(|flavor| (flavor.to_owned(), format!("{IMAGE}:{version}-{flavor}")));
    let codes = CODES.map(|(code, name, meaning, retry)| {
        json!({"code": code, "name": name, "meaning": meaning, "retry": retry})
    });
    let Facts {
        topics,
        operations,
        resources,
        ..
    } = entry.facts;
    json!({
        "name": entry.name,
        "version": version,
        "summary": entry.summary,
        "inputs": files("input"),
        "outputs": files("output"),
        "exit_codes": codes,
        "resources": {"cpus": resources.cpus, "memory_gb": resources.memory_gb, "gpu": resources.gpu},
        "container": images.into_iter().map(|(k, v)| (k, v.into())).collect::<Map<_, _>>(),
        "conda": {"package": PACKAGE, "version": version, "channels": ["conda-forge", "bioconda"]},
        "edam": {"topics": topics, "operations": operations},
        "doi": DOI,
        "parameters": parameters,
    })
}

/// The descriptor as indented JSON.
pub fn text(entry: &Entry) -> String {
    format!("{:#}\n", of(entry))
}

/// Options that name files or directories of one direction.
fn files(parameters: &Value, direction: &str, facts: &Facts) -> Vec<Value> {
    let required = parameters["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
    let properties = parameters["properties"].as_object();
    let named = properties.into_iter().flatten();
    let of_direction = named.filter(|(_, property)| property["x-direction"] == direction);
    let describe = |(name, property): (&String, &Value)| {
        let is_many = property["type"] == "array" || property["type"][0] == "array";
        let content = facts.contents.iter().find(|content| content.0 == name);
        json!({
            "name": name,
            "format": property["x-format"],
            "required": is_required(name),
            "cardinality": if is_many { "many" } else { "one" },
            "content": content.map_or(&[][..], |content| content.1),
            "description": property["description"],
        })
    };
    of_direction.map(describe).collect()
}
