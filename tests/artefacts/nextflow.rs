//! Checks the hand-written Nextflow modules against the programs, and generates the other files from the descriptors.

mod metadata;
mod parameters;
mod process;

use self::process::{Process, directory};
use super::{assert_current, committed};
use scgpt_tools::descriptor::{self, IMAGE};
use scgpt_tools::failure::CODES;
use scgpt_tools::programs::{ALL, Entry};
use serde_json::Value;
use std::path::Path;

#[test]
fn every_program_has_a_complete_module() {
    let problems: Vec<String> = ALL.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn metadata_and_environments_of_modules_are_current() {
    for entry in ALL {
        let (directory, descriptor) = (directory(entry), descriptor::of(entry));
        let Some(text) = committed(&directory.join("main.nf")) else {
            continue;
        };
        let process = Process::read(&text);
        assert_current(
            &directory.join("meta.yml"),
            &metadata::text(&process, &descriptor),
        );
        assert_current(
            &directory.join("tests/main.nf.test.snap"),
            &metadata::snapshot(&process, &descriptor),
        );
        for (name, flavor) in environments(&descriptor) {
            assert_current(
                &directory.join(name),
                &metadata::environment(&descriptor, flavor),
            );
        }
    }
}

#[test]
fn the_parameter_schema_is_current() {
    assert_current(Path::new("nextflow_schema.json"), &parameters::text());
    assert_eq!(parameters::problems(), Vec::<String>::new());
}

#[test]
fn the_gpu_profile_lists_the_programs_that_use_a_gpu() {
    let names: Vec<String> = ALL
        .iter()
        .filter(|entry| entry.facts.resources.gpu)
        .map(|entry| Process::name(entry).replace("SCGPT_", ""))
        .collect();
    let config = committed(Path::new("conf/gpu.config")).unwrap_or_default();
    let listed = config
        .split_once("'SCGPT_(")
        .and_then(|(_, rest)| Some(rest.split_once(")'")?.0));
    let mut listed: Vec<&str> = listed.unwrap_or_default().split('|').collect();
    listed.sort_unstable();
    assert_eq!(listed, names, "`conf/gpu.config`");
}

#[test]
fn retried_exit_codes_match_the_descriptors() {
    let config = committed(Path::new("conf/base.config")).unwrap_or_default();
    let codes = CODES.iter().filter(|(_, _, _, retry)| *retry);
    let codes: Vec<String> = codes.map(|(code, ..)| code.to_string()).collect();
    let listed = format!("task.exitStatus in [{}]", codes.join(", "));
    assert!(
        config.contains(&listed),
        "`conf/base.config` must contain `{listed}`"
    );
}

#[test]
fn the_manifest_has_version_and_doi() {
    let config = committed(Path::new("nextflow.config")).expect("a configuration");
    for (key, value) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("doi", descriptor::DOI),
    ] {
        let line = config
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{key} ")));
        let found = line.and_then(|line| line.split('\'').nth(1));
        assert_eq!(found, Some(value), "`nextflow.config`: `manifest.{key}`");
    }
}

/// Conda environment files and their flavors.
fn environments(descriptor: &Value) -> Vec<(&'static str, &'static str)> {
    let [cpu, gpu] = descriptor::FLAVORS;
    let mut files = vec![("environment.yml", cpu)];
    if descriptor["resources"]["gpu"] == true {
        files.push(("environment.gpu.yml", gpu));
    }
    files
}

/// Problems of the module of a program.
fn problems(entry: &Entry) -> Vec<String> {
    let directory = directory(entry);
    let path = directory.join("main.nf");
    let mut problems = Vec::new();
    match committed(&path) {
        None => problems.push(format!(
            "there is no process for `{}`: write it",
            entry.name
        )),
        Some(text) => problems.extend(wiring(entry, &text)),
    }
    let mut all: Vec<String> = problems
        .iter()
        .map(|problem| format!("`{}`: {problem}", path.display()))
        .collect();
    let test = directory.join("tests/main.nf.test");
    let text = committed(&test).unwrap_or_default();
    for word in [Process::name(entry), "-stub".into()] {
        if !text.contains(&format!("\"{word}\"")) {
            all.push(format!(
                "`{}`: there is no test `{word}`: write it",
                test.display()
            ));
        }
    }
    all
}

/// Differences between a program and its process.
fn wiring(entry: &Entry, text: &str) -> Vec<String> {
    let (process, descriptor) = (Process::read(text), descriptor::of(entry));
    let mut problems = process.disagreements(entry, &descriptor["parameters"]);
    for input in descriptor["inputs"].as_array().into_iter().flatten() {
        let name = input["name"].as_str().unwrap_or_default();
        if !process.inputs.iter().flatten().any(|(_, n)| n == name) {
            problems.push(format!(
                "the input file `{name}` is not an input of the process"
            ));
        }
    }
    for output in descriptor["outputs"].as_array().into_iter().flatten() {
        let emit = metadata::emit(output);
        if !process.outputs.iter().any(|output| output.emit == emit) {
            problems.push(format!("the process has no output `emit: {emit}`"));
        }
    }
    problems.extend(images(&descriptor, text));
    problems
}

/// Missing and unexpected images of a process.
fn images(descriptor: &Value, text: &str) -> Vec<String> {
    let named: Vec<&str> = text
        .match_indices(IMAGE)
        .filter_map(|(at, _)| text[at..].split(['\'', '"']).next())
        .collect();
    let expected: Vec<&str> = environments(descriptor)
        .iter()
        .filter_map(|(_, flavor)| descriptor["container"][flavor].as_str())
        .collect();
    let missing = expected.iter().filter(|image| !named.contains(image));
    let foreign = named.iter().filter(|image| !expected.contains(image));
    missing
        .map(|image| format!("the image `{image}` is missing"))
        .chain(foreign.map(|image| format!("the image `{image}` is not one of this program")))
        .collect()
}
