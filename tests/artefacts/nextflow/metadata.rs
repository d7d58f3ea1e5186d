//! `meta.yml` and the conda environments of a module. Strings are written as JSON, which is valid YAML.

use super::process::{Output, Process};
use crate::artefacts::libtorch;
use serde_json::{Value, json};
use std::fmt::Write;

/// Pattern and EDAM format of files; directories have neither.
const FORMATS: [(&str, &str, &str); 9] = [
    ("h5ad", "*.h5ad", "format_3590"),
    ("csv", "*.csv", "format_3752"),
    ("tsv", "*.tsv", "format_3475"),
    ("json", "*.json", "format_3464"),
    ("svg", "*.svg", "format_3604"),
    ("gmt", "*.gmt", "format_2330"),
    ("graphml", "*.graphml", "format_2332"),
    ("txt", "*.txt", "format_2330"),
    ("html", "*.html", "format_2331"),
];

/// Outputs without an option of their own: name, format, description.
const WRITTEN: [(&str, &str, &str); 4] = [
    (
        "gene_report",
        "tsv",
        "TSV with the mapping status of every input gene: its name in the vocabulary, or why it was dropped.",
    ),
    (
        "metrics",
        "json",
        "JSON with test metrics of the model and the baselines.",
    ),
    (
        "figures",
        "svg",
        "SVG figures: split of each perturbation, and predicted and observed responses.",
    ),
    (
        "report",
        "json",
        "JSON report: architecture, vocabulary, weights, supported tasks and problems of the checkpoint.",
    ),
];

const SAMPLE: &str = "Groovy map with sample information, e.g. `[id: 'sample1']`.";

/// Name of the output channel of a file: its option, or its format if it is the main output.
pub fn emit(output: &Value) -> &str {
    match (
        output["name"].as_str(),
        output["format"].as_str().unwrap_or_default(),
    ) {
        (Some("output"), "checkpoint") => "model",
        (Some("output"), format) => format,
        (name, _) => name.unwrap_or_default(),
    }
}

/// Content of `meta.yml`.
pub fn text(process: &Process, descriptor: &Value) -> String {
    let word = |text: &Value| json!(text.as_str().unwrap_or_default().to_lowercase());
    let name = process.name.to_lowercase();
    let mut yaml = format!(
        "# Generated from the descriptor of the program: change the program, not this file.\n\
         name: {name}\ndescription: {}\nkeywords:\n  - single-cell\n  - scgpt\n  - {}\n\
         tools:\n  - {}:\n      description: {}\n      doi: {}\n      licence: [\"MIT\"]\n      identifier: \"\"\n\ninput:\n",
        descriptor["summary"],
        name.replace("scgpt_", ""),
        word(&descriptor["name"])
            .as_str()
            .unwrap_or_default()
            .split(' ')
            .next()
            .unwrap_or_default(),
        json!(env!("CARGO_PKG_DESCRIPTION")),
        descriptor["doi"],
    );
    for channel in &process.inputs {
        input(&mut yaml, channel, descriptor);
    }
    yaml += "\noutput:\n";
    for output in &process.outputs {
        let _ = write!(yaml, "  {}:\n    - - meta:\n", output.emit);
        field(&mut yaml, 10, "map", SAMPLE);
        emitted(&mut yaml, output, descriptor);
    }
    let version = version(process);
    let _ = write!(
        yaml,
        "  versions_scgpt:\n{version}\ntopics:\n  versions:\n{version}"
    );
    yaml + "\nauthors:\n  - \"@scgpt-tools\"\nmaintainers:\n  - \"@scgpt-tools\"\n"
}

/// An input channel: a list of lists for a tuple, else a single element.
fn input(yaml: &mut String, channel: &[(String, String)], descriptor: &Value) {
    let is_tuple = channel.len() > 1;
    for (position, (_, name)) in channel.iter().enumerate() {
        let dashes = match (is_tuple, position) {
            (true, 0) => "  - - ",
            (true, _) => "    - ",
            (false, _) => "  - ",
        };
        let _ = writeln!(yaml, "{dashes}{name}:");
        let indent = dashes.len() + 2;
        if name.starts_with("meta") {
            field(yaml, indent, "map", SAMPLE);
            continue;
        }
        let property = &descriptor["parameters"]["properties"][name];
        let description = property["description"].as_str().unwrap_or_default();
        match property["x-format"].as_str() {
            Some(format) => file(yaml, indent, format, description),
            None => field(yaml, indent, "string", description),
        }
    }
}

fn emitted(yaml: &mut String, output: &Output, descriptor: &Value) {
    let _ = writeln!(yaml, "      - {}:", json!(output.pattern));
    let outputs = descriptor["outputs"].as_array();
    let named = outputs
        .into_iter()
        .flatten()
        .find(|named| emit(named) == output.emit);
    let written = WRITTEN.iter().find(|written| written.0 == output.emit);
    let (format, description) = match (named, written) {
        (Some(named), _) => (named["format"].as_str(), named["description"].as_str()),
        (_, Some(written)) => (Some(written.1), Some(written.2)),
        _ => panic!(
            "`{}` is emitted, but is neither an output of the program nor described here",
            output.emit
        ),
    };
    file(
        yaml,
        10,
        format.unwrap_or_default(),
        description.unwrap_or_default(),
    );
}

/// A file or directory.
fn file(yaml: &mut String, indent: usize, format: &str, description: &str) {
    let Some((_, pattern, edam)) = FORMATS.iter().find(|known| known.0 == format) else {
        let kind = if format == "matrix" || format.contains(',') {
            "file"
        } else {
            "directory"
        };
        return field(yaml, indent, kind, description);
    };
    field(yaml, indent, "file", description);
    let space = " ".repeat(indent);
    let _ = writeln!(
        yaml,
        "{space}pattern: \"{pattern}\"\n{space}ontologies:\n{space}  - edam: http://edamontology.org/{edam}"
    );
}

fn field(yaml: &mut String, indent: usize, kind: &str, description: &str) {
    let space = " ".repeat(indent);
    let _ = writeln!(
        yaml,
        "{space}type: {kind}\n{space}description: {}",
        json!(description)
    );
}

fn version(process: &Process) -> String {
    let (program, command) = &process.version;
    format!(
        "    - - ${{task.process}}:\n          type: string\n          description: The name of the process\n      \
         - {program}:\n          type: string\n          description: The name of the program\n      \
         - {command}:\n          type: eval\n          description: The expression that prints the version of the program\n"
    )
}

/// A conda environment, with CUDA for flavors such as `cu130`.
pub fn environment(descriptor: &Value, flavor: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conda = &descriptor["conda"];
    let channels = conda["channels"].as_array().into_iter().flatten();
    let channels: String = channels
        .map(|channel| format!("  - {}\n", text(channel)))
        .collect();
    let package = format!(
        "bioconda::{}={}",
        text(&conda["package"]),
        text(&conda["version"])
    );
    let cuda = flavor
        .strip_prefix("cu")
        .and_then(|version| version.split_at_checked(version.len() - 1));
    // Environments may be solved on a machine without a GPU, so the CUDA build of libtorch is requested explicitly.
    let cuda = cuda.map(|(major, minor)| {
        format!(
            "  - \"conda-forge::cuda-version={major}.{minor}\"\n  - \"conda-forge::libtorch={}=cuda*\"\n",
            libtorch()
        )
    });
    format!(
        "---\n# yaml-language-server: $schema=https://raw.githubusercontent.com/nf-core/modules/master/modules/environment-schema.json\n\
         channels:\n{channels}dependencies:\n  - \"{package}\"\n{}",
        cuda.unwrap_or_default()
    )
}

/// nf-test snapshot of a stub: the version of the program.
pub fn snapshot(process: &Process, descriptor: &Value) -> String {
    let versions = json!([[process.name, process.version.0, descriptor["version"]]]);
    let snapshot = json!({"stub": {"content": [{"versions_scgpt": versions}]}});
    format!("{snapshot:#}\n")
}
