//! Parser for the processes of the modules, line by line: these modules declare one channel per line.

use scgpt_tools::programs::Entry;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directory of the module of a program.
pub fn directory(entry: &Entry) -> PathBuf {
    Path::new("modules/scgpttools/scgpt").join(word(entry))
}

/// `scgpt-checkpoint inspect` is `checkpointinspect`.
fn word(entry: &Entry) -> String {
    entry.name.replace("scgpt-", "").replace([' ', '-'], "")
}

/// An output channel.
pub struct Output {
    pub emit: String,
    /// As declared, such as `${prefix}.h5ad`.
    pub pattern: String,
}

pub struct Process {
    pub name: String,
    pub label: String,
    /// Elements of each channel: `val` or `path`, and the name.
    pub inputs: Vec<Vec<(String, String)>>,
    /// All outputs except the version.
    pub outputs: Vec<Output>,
    /// Program, and the command that prints its version.
    pub version: (String, String),
    pub script: String,
}

impl Process {
    /// Name of the process of a program.
    pub fn name(entry: &Entry) -> String {
        format!("SCGPT_{}", word(entry).to_uppercase())
    }

    pub fn read(text: &str) -> Self {
        let outputs = section(text, "output:");
        let is_version = |line: &&str| line.contains("topic: versions");
        let version = outputs.iter().copied().find(is_version).unwrap_or_default();
        Self {
            name: between(text, "process ", " {"),
            label: between(text, "label '", "'"),
            inputs: section(text, "input:").into_iter().map(elements).collect(),
            outputs: outputs
                .into_iter()
                .filter(|line| !is_version(line))
                .map(output)
                .collect(),
            version: (
                between(version, "val('", "'"),
                between(version, "eval('", "'"),
            ),
            script: between(text, "    script:\n", "    stub:\n"),
        }
    }

    /// Flags in the script.
    fn flags(&self) -> BTreeSet<String> {
        let words = self.script.split(|c: char| c.is_whitespace() || c == '"');
        let flags = words.filter_map(|word| word.strip_prefix("--"));
        flags.map(str::to_owned).collect()
    }

    /// Problems of name, label, flags and version of a process.
    pub fn disagreements(&self, entry: &Entry, parameters: &Value) -> Vec<String> {
        let (name, label) = (Self::name(entry), label(entry));
        let mut problems = Vec::new();
        let mut demand = |is_so: bool, problem: String| {
            if !is_so {
                problems.push(problem);
            }
        };
        demand(
            self.name == name,
            format!("the name of the process must be `{name}`"),
        );
        demand(self.label == label, format!("the label must be `{label}`"));
        let binary = entry.binary();
        let print = format!("{binary} --version | sed \"s/.* //\"");
        demand(
            self.version == (binary.to_owned(), print.clone()),
            format!("the version of `{binary}` must come from `{print}`"),
        );
        demand(
            self.script.contains(&format!("{} \\\\\n", entry.name)),
            format!("the script must run `{}`", entry.name),
        );
        let flags = self.flags();
        for flag in &flags {
            let is_known = parameters["properties"]
                .get(flag.replace('-', "_"))
                .is_some();
            demand(is_known, format!("`{}` has no `--{flag}`", entry.name));
        }
        for required in required(entry, parameters) {
            demand(
                flags.contains(&required),
                format!("`--{required}` is missing"),
            );
        }
        problems
    }
}

/// Flags of required options, and of those that the engine sets. Positional arguments are checked by the program.
fn required(entry: &Entry, parameters: &Value) -> Vec<String> {
    let command = (entry.define)().command;
    let flag = |name: &str| {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_id() == name)?;
        argument.get_long().map(str::to_owned)
    };
    let named = parameters["required"].as_array().into_iter().flatten();
    let named = named.filter_map(Value::as_str);
    named
        .chain(["threads", "memory", "device"])
        .filter_map(flag)
        .collect()
}

/// nf-core resource label for the resources of a program.
fn label(entry: &Entry) -> &'static str {
    match entry.facts.resources.cpus {
        0..=1 => "process_single",
        2..=3 => "process_low",
        4..=7 => "process_medium",
        _ => "process_high",
    }
}

/// Lines of a section, up to an empty line.
fn section<'a>(text: &'a str, title: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines
        .skip_while(|line| *line != title)
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect()
}

/// Text between `start` and `end`, or an empty string.
fn between(text: &str, start: &str, end: &str) -> String {
    let rest = text.split_once(start).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(end));
    found.map_or("", |(found, _)| found).to_owned()
}

/// `tuple val(meta), path(input, stageAs: 'input/*')` or `path model`.
fn elements(line: &str) -> Vec<(String, String)> {
    let line = line.strip_prefix("tuple ").unwrap_or(line);
    let kinds = line.match_indices(['v', 'p']).filter_map(|(at, _)| {
        let rest = &line[at..];
        let kind = ["val", "path"]
            .into_iter()
            .find(|kind| rest.starts_with(kind))?;
        let name = rest[kind.len()..].strip_prefix(['(', ' '])?;
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let name: String = name.chars().take_while(|c| is_name(*c)).collect();
        let is_start = at == 0 || line[..at].ends_with(' ');
        is_start.then(|| (kind.to_owned(), name))
    });
    kinds.collect()
}

fn output(line: &str) -> Output {
    let emit = line.split("emit: ").nth(1).unwrap_or_default();
    Output {
        emit: emit.split(',').next().unwrap_or_default().to_owned(),
        pattern: between(line, "path(\"", "\")"),
    }
}

#[test]
fn a_process_is_parsed() {
    let text = "process A_B {\n    label 'x'\n\n    input:\n    tuple val(meta), path(input, stageAs: 'in/*')\n    val labels\n    path p\n\n    output:\n    tuple val(meta), path(\"${prefix}.a\"), emit: a, optional: true\n    tuple val(\"${task.process}\"), val('p'), eval('p --version'), topic: versions, emit: versions_p\n\n    script:\n    \"\"\"\n    p \\\\\n        --flag-a x \"--flag-b y\"\n    \"\"\"\n\n    stub:\n";
    let process = Process::read(text);
    let pair = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
    assert_eq!(
        process.inputs,
        [
            vec![pair("val", "meta"), pair("path", "input")],
            vec![pair("val", "labels")],
            vec![pair("path", "p")]
        ]
    );
    assert_eq!(
        (process.name.as_str(), process.label.as_str()),
        ("A_B", "x")
    );
    assert_eq!(process.version, pair("p", "p --version"));
    let output = &process.outputs[0];
    assert_eq!(
        (
            process.outputs.len(),
            output.emit.as_str(),
            output.pattern.as_str()
        ),
        (1, "a", "${prefix}.a")
    );
    assert_eq!(
        process.flags().into_iter().collect::<Vec<_>>(),
        ["flag-a", "flag-b"]
    );
}
