//! For every program: its definition is consistent, and the committed files match those generated from it.
//!
//! `UPDATE=1 cargo test --release --test main artefacts` writes the files.

mod conda;
mod container;
mod galaxy;
mod jobs;
mod nextflow;

use crate::support::{programs, python};
use scgpt_tools::descriptor;
use scgpt_tools::programs::{ALL, Entry};
use std::fs;
use std::path::{Path, PathBuf};

/// `tools/<tool>`, where `scgpt-checkpoint inspect` is the tool `checkpoint_inspect`.
fn directory(entry: &Entry) -> PathBuf {
    let tool = entry
        .name
        .strip_prefix("scgpt-")
        .expect("programs are called scgpt-...")
        .replace([' ', '-'], "_");
    Path::new("tools").join(tool)
}

/// The schema that the program prints.
fn printed_schema(entry: &Entry) -> String {
    let mut words = entry.name.split(' ');
    let mut command = programs::program(words.next().expect("a name"));
    let done = command.args(words).arg("--schema").assert().success();
    String::from_utf8(done.get_output().stdout.clone()).expect("JSON is UTF-8")
}

/// A file of the repository, if it exists.
fn committed(path: &Path) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Major and minor version of libtorch, from the list of wheels.
fn libtorch() -> String {
    let wheels = committed(Path::new("containers/libtorch-cpu.txt")).expect("a list of wheels");
    let torch = wheels.lines().find_map(|line| line.strip_prefix("torch=="));
    let version = torch.and_then(|rest| rest.split(' ').next());
    let series = version.and_then(|version| version.rsplit_once('.'));
    series.expect("a version of torch").0.to_owned()
}

/// Writes the file if `UPDATE` is set, else fails unless its content is this text.
fn assert_current(path: &Path, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::create_dir_all(file.parent().expect("a file in a directory"))
            .expect("the directory of the tool");
        fs::write(file, text).expect("a file of the repository");
        return;
    }
    let committed = committed(path).unwrap_or_default();
    let (mut ours, mut theirs) = (text.lines(), committed.lines());
    let line = (1..).find(|_| match (ours.next(), theirs.next()) {
        (None, None) => true,
        (a, b) => a != b,
    });
    assert!(
        text == committed,
        "`{}` is outdated from line {} on; write it with `UPDATE=1 cargo test --release --test main artefacts`",
        path.display(),
        line.unwrap_or_default()
    );
}

/// Validates with the schemas of Kubernetes, the types of AWS and Google, and the parser of rattler-build.
#[test]
fn job_definitions_and_recipe_are_valid() {
    if let Some(python) = python::python() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        python::check(&python, "check_definitions.py", &[root]);
    }
}

#[test]
fn definitions_are_consistent() {
    for entry in ALL {
        assert_eq!(
            (entry.define)().disagreements(),
            Vec::<String>::new(),
            "{}",
            entry.name
        );
    }
}

#[test]
fn every_binary_is_in_the_table() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let binaries = manifest
        .split("[[bin]]")
        .skip(1)
        .map(|part| part.split('"').nth(1).expect("a name"));
    for binary in binaries {
        assert!(
            ALL.iter().any(|entry| entry.binary() == binary),
            "`{binary}` is not in `programs::ALL`"
        );
    }
}

#[test]
fn committed_schemas_are_current() {
    for entry in ALL {
        let schema = printed_schema(entry);
        assert_eq!(schema, descriptor::text(entry), "{}", entry.name);
        assert_current(&directory(entry).join("schema.json"), &schema);
    }
}

/// Usage block of a program in the README, between `<!-- usage: PROGRAM -->` and `<!-- end of usage -->`: its help, collapsed.
fn usage(entry: &Entry) -> String {
    let command = (entry.define)().command.term_width(128);
    let help = command
        .help_template("{usage-heading} {usage}\n\n{all-args}")
        .render_help();
    let help = help.to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!(
        "<details>\n<summary><code>{}</code>: {}</summary>\n\n```text\n{}\n```\n\n</details>\n",
        entry.name,
        entry.summary,
        lines.join("\n")
    )
}

#[test]
fn usage_blocks_of_the_readme_are_current() {
    let path = Path::new("README.md");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let current = ALL.iter().fold(readme, |readme, entry| {
        let (start, end) = (
            format!("<!-- usage: {} -->\n", entry.name),
            "<!-- end of usage -->",
        );
        let block = readme.split_once(&start).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(end)?;
            Some((before, after))
        });
        let (before, after) = block
            .unwrap_or_else(|| panic!("`README.md` has no block of lines `{start}` to `{end}`"));
        format!("{before}{start}{}{end}{after}", usage(entry))
    });
    assert_current(path, &current);
}

#[test]
fn schemas_are_draft_2020_12_with_format_and_direction_of_files() {
    for entry in ALL {
        let descriptor: serde_json::Value = serde_json::from_str(&printed_schema(entry)).unwrap();
        let schema = &descriptor["parameters"];
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{}",
            entry.name
        );
        let problem = jsonschema::meta::validate(schema)
            .err()
            .map(|error| error.to_string());
        assert_eq!(problem, None, "{}", entry.name);
        let files = schema["properties"]
            .as_object()
            .unwrap()
            .values()
            .filter(|property| property.get("x-format").is_some());
        let directions: Vec<&str> = files
            .map(|property| property["x-direction"].as_str().expect("a direction"))
            .collect();
        assert!(directions.contains(&"input"), "{}", entry.name);
    }
}
