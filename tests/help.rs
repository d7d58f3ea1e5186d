//! Help of all programs: required options first, every heading holds its own options, and `-h` fits a screen.

use scgpt_tools::options::Definition;
use scgpt_tools::programs::{ALL, Entry};
use scgpt_tools::{cells, compute, formats, options, tokens, train};
use schemars::JsonSchema;
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Lines of a screen, and of them those that the shell needs.
const SCREEN: usize = 50;

/// Names of the options of a group.
fn names<O: JsonSchema>() -> BTreeSet<String> {
    options::schema::properties::<O>()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// Options that a heading may hold; headings that are not here hold options of one program.
fn group(heading: &str) -> Option<BTreeSet<String>> {
    Some(match heading {
        "Computing" => names::<compute::Options>(),
        "Training" => names::<train::Options>(),
        "Tokens" => names::<tokens::Options>(),
        "Model from scratch (ignored with --checkpoint)" => owned(&[
            "n_layers",
            "embedding_dim",
            "n_heads",
            "ffn_dim",
            "value_encoding",
        ]),
        "Outputs" => owned(&[
            "edges",
            "top",
            "regulators",
            "regulators_file",
            "graph",
            "network_plot",
            "plot",
            "programs",
            "program_scores",
            "scored_cells",
            "similar_genes",
            "family_test",
        ]),
        "Reading" => {
            &(&names::<formats::Options>() | &names::<cells::Options>()) | &owned(&["feature_type"])
        }
        "General" => &names::<options::Shared>() | &owned(&["params", "schema", "help", "version"]),
        _ => return None,
    })
}

fn owned(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn definition(entry: &Entry) -> Definition {
    (entry.define)()
}

#[test]
fn required_options_come_first_and_general_ones_last() {
    for entry in ALL {
        let definition = definition(entry);
        let required = definition.schema["required"].as_array().expect("a list");
        let mut headings = Vec::new();
        for argument in definition.command.get_arguments() {
            let heading = argument.get_help_heading().expect("a heading");
            let is_required = required
                .iter()
                .any(|name| name == argument.get_id().as_str());
            assert_eq!(
                heading == "Required",
                is_required,
                "{}: {}",
                entry.name,
                argument.get_id()
            );
            if headings.last() != Some(&heading) {
                headings.push(heading);
            }
        }
        let unique: BTreeSet<&&str> = headings.iter().collect();
        assert_eq!(
            unique.len(),
            headings.len(),
            "{}: a heading appears twice: {headings:?}",
            entry.name
        );
        assert_eq!(headings.last(), Some(&"General"), "{}", entry.name);
        if !required.is_empty() {
            assert_eq!(headings.first(), Some(&"Required"), "{}", entry.name);
        }
    }
}

#[test]
fn a_heading_holds_the_options_of_its_group() {
    let mut checked = 0;
    for entry in ALL {
        let definition = definition(entry);
        for argument in definition.command.get_arguments() {
            let heading = argument.get_help_heading().expect("a heading");
            let name = argument.get_id().as_str();
            if let Some(group) = group(heading) {
                checked += 1;
                assert!(
                    group.contains(name),
                    "{}: `{name}` is under `{heading}`",
                    entry.name
                );
            }
        }
    }
    assert!(checked > 200, "{checked}");
}

#[test]
fn short_help_fits_a_screen_and_shows_what_is_required() {
    for entry in ALL {
        let definition = definition(entry);
        let text = |flag: &str| {
            definition
                .requested_text(&[OsString::from(flag)])
                .expect("help")
        };
        let (short, long) = (text("-h"), text("--help"));
        let lines = short.lines().count();
        assert!(lines <= SCREEN, "{}: {lines} lines\n{short}", entry.name);
        let required = definition.schema["required"].as_array().expect("a list");
        for argument in definition.command.get_arguments() {
            let Some(name) = argument.get_long() else {
                continue;
            };
            let flag = format!("--{name}");
            assert!(
                long.contains(&flag),
                "{}: {flag} is not in --help",
                entry.name
            );
            let is_required = required
                .iter()
                .any(|name| name == argument.get_id().as_str());
            assert!(
                !is_required || short.contains(&flag),
                "{}: {flag} is not in -h",
                entry.name
            );
        }
        assert!(short.contains(&format!("{} --help", entry.name)), "{short}");
    }
}
