//! `meta.yml` and the conda environments of a module. Texts in YAML are written as JSON writes them, which is YAML too.

use super::process::{Output, Process};
use crate::artefacts::libtorch;
use serde_json::{Value, json};
use std::fmt::Write;

/// Pattern and EDAM format of files; folders have neither.
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

/// What programs write beside the files that options name: name, format, description.
const WRITTEN: [(&str, &str, &str); 4] = [
    (
        "gene_report",
        "tsv",
        "What became of every gene of the inputs: the name under which it was found, or why it was left out.",
    ),
    (
        "metrics",
        "json",
        "Scores on the test cells, of the model and of simpler methods.",
    ),
    (
        "figures",
        "svg",
        "What each perturbation was used for, and the changes that were told and observed.",
    ),
    (
        "report",
        "json",
        "What the model is, what it can be used for, and what is wrong with it.",
    ),
];

const SAMPLE: &str = "Groovy map with the name of the sample as `id`, as in `[id: 'sample1']`.";

/// Name under which a file of the descriptor is emitted: its option, or its kind where it is the program's main result.
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

/// The whole of `meta.yml`.
pub fn text(process: &Process, descriptor: &Value) -> String {
    let word = |text: &Value| json!(text.as_str().unwrap_or_default().to_lowercase());
    let name = process.name.to_lowercase();
    let mut yaml = format!(
        "# Made from the program's descriptor: change the program, not this file.\n\
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

/// A channel: a list of lists for a tuple, else the element alone.
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
            "`{}` is emitted but neither an output of the program nor described here",
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

/// A file or folder.
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

/// A conda environment: with CUDA where the flavour says so, as in `cu130`.
pub fn environment(descriptor: &Value, flavour: &str) -> String {
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
    let cuda = flavour
        .strip_prefix("cu")
        .and_then(|version| version.split_at_checked(version.len() - 1));
    // Environments are also made where there is no accelerator, so that the flavour of libtorch must be asked for.
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

/// What nf-test compares of a stub: the version that the program reports.
pub fn snapshot(process: &Process, descriptor: &Value) -> String {
    let versions = json!([[process.name, process.version.0, descriptor["version"]]]);
    let snapshot = json!({"stub": {"content": [{"versions_scgpt": versions}]}});
    format!("{snapshot:#}\n")
}
