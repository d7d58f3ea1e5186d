//! Nextflow's files, against the programs: what is written by hand in `modules/` names every piece of its program and nothing
//! else, and what lies beside it is made from the descriptors.

mod metadata;
mod parameters;
mod process;

use self::process::{Process, folder};
use super::{assert_current, committed};
use scgpt_tools::descriptor::{self, IMAGE};
use scgpt_tools::failure::CODES;
use scgpt_tools::programs::{ALL, Entry};
use serde_json::Value;
use std::path::Path;

#[test]
fn every_program_has_a_module_that_wires_it() {
    let problems: Vec<String> = ALL.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn metadata_and_environments_of_modules_come_from_the_descriptors() {
    for entry in ALL {
        let (folder, descriptor) = (folder(entry), descriptor::of(entry));
        let Some(text) = committed(&folder.join("main.nf")) else {
            continue;
        };
        let process = Process::read(&text);
        assert_current(
            &folder.join("meta.yml"),
            &metadata::text(&process, &descriptor),
        );
        assert_current(
            &folder.join("tests/main.nf.test.snap"),
            &metadata::snapshot(&process, &descriptor),
        );
        for (name, flavour) in environments(&descriptor) {
            assert_current(
                &folder.join(name),
                &metadata::environment(&descriptor, flavour),
            );
        }
    }
}

#[test]
fn pipelines_take_every_option_of_their_programs() {
    assert_current(Path::new("nextflow_schema.json"), &parameters::text());
    assert_eq!(parameters::problems(), Vec::<String>::new());
}

#[test]
fn the_gpu_profile_names_the_programs_that_are_faster_with_one() {
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
fn the_exit_codes_that_are_tried_again_are_those_of_the_descriptors() {
    let config = committed(Path::new("conf/base.config")).unwrap_or_default();
    let codes = CODES.iter().filter(|(_, _, _, retry)| *retry);
    let codes: Vec<String> = codes.map(|(code, ..)| code.to_string()).collect();
    let listed = format!("task.exitStatus in [{}]", codes.join(", "));
    assert!(
        config.contains(&listed),
        "`conf/base.config` lacks `{listed}`"
    );
}

#[test]
fn the_manifest_tells_version_and_paper() {
    let config = committed(Path::new("nextflow.config")).expect("a configuration");
    for (key, value) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("doi", descriptor::DOI),
    ] {
        let line = config
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{key} ")));
        let said = line.and_then(|line| line.split('\'').nth(1));
        assert_eq!(said, Some(value), "`nextflow.config`: `manifest.{key}`");
    }
}

/// Files of conda environments with the flavour of each.
fn environments(descriptor: &Value) -> Vec<(&'static str, &'static str)> {
    let [cpu, gpu] = descriptor::FLAVOURS;
    let mut files = vec![("environment.yml", cpu)];
    if descriptor["resources"]["gpu"] == true {
        files.push(("environment.gpu.yml", gpu));
    }
    files
}

/// Everything that keeps the module of a program from being complete and true.
fn problems(entry: &Entry) -> Vec<String> {
    let folder = folder(entry);
    let path = folder.join("main.nf");
    let mut problems = Vec::new();
    match committed(&path) {
        None => problems.push(format!(
            "the process that runs `{}` is missing: write it",
            entry.name
        )),
        Some(text) => problems.extend(wiring(entry, &text)),
    }
    let mut all: Vec<String> = problems
        .iter()
        .map(|problem| format!("`{}`: {problem}", path.display()))
        .collect();
    let test = folder.join("tests/main.nf.test");
    let text = committed(&test).unwrap_or_default();
    for word in [Process::name(entry), "-stub".into()] {
        if !text.contains(&format!("\"{word}\"")) {
            all.push(format!(
                "`{}`: a test of `{word}` is missing: write it",
                test.display()
            ));
        }
    }
    all
}

/// What is wrong between a program and the text of its process.
fn wiring(entry: &Entry, text: &str) -> Vec<String> {
    let (process, descriptor) = (Process::read(text), descriptor::of(entry));
    let mut problems = process.disagreements(entry, &descriptor["parameters"]);
    for input in descriptor["inputs"].as_array().into_iter().flatten() {
        let name = input["name"].as_str().unwrap_or_default();
        if !process.inputs.iter().flatten().any(|(_, n)| n == name) {
            problems.push(format!(
                "the file that `{name}` names is no input of the process"
            ));
        }
    }
    for output in descriptor["outputs"].as_array().into_iter().flatten() {
        let emit = metadata::emit(output);
        if !process.outputs.iter().any(|output| output.emit == emit) {
            problems.push(format!("no output of the process is emitted as `{emit}`"));
        }
    }
    problems.extend(images(&descriptor, text));
    problems
}

/// Images that the process names and should not, or the other way round.
fn images(descriptor: &Value, text: &str) -> Vec<String> {
    let named: Vec<&str> = text
        .match_indices(IMAGE)
        .filter_map(|(at, _)| text[at..].split(['\'', '"']).next())
        .collect();
    let expected: Vec<&str> = environments(descriptor)
        .iter()
        .filter_map(|(_, flavour)| descriptor["container"][flavour].as_str())
        .collect();
    let missing = expected.iter().filter(|image| !named.contains(image));
    let foreign = named.iter().filter(|image| !expected.contains(image));
    missing
        .map(|image| format!("the image `{image}` is not named"))
        .chain(foreign.map(|image| format!("there is no image `{image}` of this program")))
        .collect()
}
