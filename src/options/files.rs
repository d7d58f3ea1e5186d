//! Checks of input and output files before any work: inputs exist, outputs can be written, no output is an input.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::problems::Names;
use crate::output;

/// Problems of the files of valid options.
pub fn problems(names: &Names<'_>, values: &Map<String, Value>) -> Vec<String> {
    let properties = names.definition.properties();
    let mut problems = Vec::new();
    for (name, value) in values {
        for path in paths(value) {
            let problem = match properties[name]["x-direction"].as_str() {
                Some("input") if properties[name].get("x-lookup").is_none() => input_problem(path),
                Some("output") => {
                    output_problem(path).or_else(|| same_as_input(path, properties, values))
                }
                _ => None,
            };
            problems.extend(problem.map(|problem| format!("{}: {problem}", names.name(name))));
        }
    }
    problems
}

fn paths(value: &Value) -> Vec<&Path> {
    match value {
        Value::Array(values) => values
            .iter()
            .filter_map(Value::as_str)
            .map(Path::new)
            .collect(),
        value => value.as_str().map(Path::new).into_iter().collect(),
    }
}

fn input_problem(path: &Path) -> Option<String> {
    fs::metadata(path)
        .err()
        .map(|error| format!("could not find `{}`: {error}", path.display()))
}

fn output_problem(path: &Path) -> Option<String> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let path = path.display();
        return Some(format!(
            "`{path}` is neither a file nor a directory; name another output"
        ));
    }
    let folder = output::parent(path);
    // Creates an unnamed file: permissions alone do not show full quotas or read-only mounts.
    let error = tempfile::tempfile_in(folder).err()?;
    Some(format!(
        "could not write into directory `{}`: {error}",
        folder.display()
    ))
}

fn same_as_input(
    path: &Path,
    properties: &Map<String, Value>,
    values: &Map<String, Value>,
) -> Option<String> {
    let target = fs::canonicalize(path).ok()?;
    let inputs = values.iter().filter(|(name, _)| {
        properties
            .get(*name)
            .is_some_and(|p| p["x-direction"] == "input")
    });
    let mut inputs = inputs.flat_map(|(_, value)| paths(value));
    let same = inputs.any(|input| fs::canonicalize(input).is_ok_and(|input| input == target));
    same.then(|| {
        format!(
            "`{}` is also an input, and inputs are never changed; name another output",
            path.display()
        )
    })
}
