use clap::ValueEnum;

use super::*;
use crate::progress::Format;

/// A toy program with every type of option that programs use.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub(crate) struct Toy {
    /// AnnData with raw counts. All cells are read.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// AnnData: input with
    /// annotations added.
    #[arg(long, short)]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Name of the obs column with the labels.
    #[arg(long)]
    pub labels: String,
    /// Genes to drop.
    #[arg(long)]
    pub without: Vec<String>,
    /// Sizes of the layers.
    #[arg(long)]
    #[schemars(inner(range(min = 1)), length(min = 1))]
    pub layer_sizes: Vec<u32>,
    /// Number of cells to keep.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub max_cells: Option<usize>,
    /// Column of technical batches.
    #[arg(long)]
    pub batch: Option<String>,
    /// Memory to use at most.
    #[arg(long)]
    pub memory: Size,
    #[command(flatten)]
    #[serde(flatten)]
    pub training: Training,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
#[command(next_help_heading = "Training")]
pub(crate) struct Training {
    /// Passes over all cells.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Step size at the start.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub learning_rate: f64,
    /// Fraction of values to mask.
    #[arg(long)]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mask_ratio: f32,
    /// Smallest difference that counts.
    #[arg(long)]
    pub offset: i32,
    /// Shuffle the cells.
    #[arg(long)]
    pub shuffle: bool,
    /// Learning rate schedule.
    #[arg(long)]
    pub lr_schedule: Schedule,
    /// Schedule of the warm-up.
    #[arg(long)]
    pub warm_up: Option<Schedule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schedule {
    /// The same rate at every step.
    Constant,
    /// Down by a factor after each epoch.
    PerEpoch,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            epochs: 3,
            learning_rate: 1e-4,
            mask_ratio: 0.4,
            offset: 0,
            shuffle: true,
            lr_schedule: Schedule::Constant,
            warm_up: None,
        }
    }
}

impl Default for Toy {
    fn default() -> Self {
        let training = Training {
            epochs: 10,
            ..Training::default()
        };
        Self {
            input: PathBuf::new(),
            output: PathBuf::new(),
            labels: String::new(),
            without: Vec::new(),
            layer_sizes: vec![128, 64],
            max_cells: None,
            batch: None,
            memory: Size(1 << 30),
            training,
        }
    }
}

fn toy() -> Definition {
    Definition::of::<Toy>("scgpt-toy", "A program for tests")
}

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// An input that exists and an output that can be written, followed by the given arguments.
fn files(line: &str) -> Vec<OsString> {
    args(&format!(
        "--input {} --output toy.h5ad --labels cell_type {line}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

fn resolve(args: &[OsString]) -> Result<Toy, Vec<String>> {
    let resolved = toy().resolve(args, |_| Vec::new());
    let resolved = resolved.map_err(|invalid| invalid.problems)?;
    Ok(serde_json::from_value(Value::Object(resolved.program)).unwrap())
}

fn params(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.json");
    std::fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

#[test]
fn flags_properties_and_descriptions_agree() {
    assert_eq!(toy().disagreements(), Vec::<String>::new());
    let definition = toy();
    for (name, property) in definition.properties() {
        let arg = definition.argument(name).unwrap();
        assert_eq!(arg.get_long(), Some(name.replace('_', "-").as_str()));
        let help = arg.get_long_help().or(arg.get_help()).unwrap().to_string();
        assert_eq!(
            help.trim_end_matches('.'),
            property["description"]
                .as_str()
                .unwrap()
                .trim_end_matches('.')
        );
    }
}

#[test]
fn the_schema_is_valid_and_agrees_with_the_types() {
    let schema = toy().schema;
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(schema["title"], "scgpt-toy");
    assert_eq!(
        schema["required"],
        serde_json::json!(["input", "output", "labels"])
    );
    assert_eq!(schema["additionalProperties"], false);
    let property = |name: &str| schema["properties"][name].clone();
    assert_eq!(
        property("input"),
        serde_json::json!({"description": "AnnData with raw counts. All cells are read.", "type": "string",
            "x-format": "h5ad", "x-direction": "input", "minLength": 1})
    );
    assert_eq!(
        property("epochs"),
        serde_json::json!({"description": "Passes over all cells.", "type": "integer", "minimum": 1, "default": 10})
    );
    assert_eq!(property("mask_ratio")["default"].to_string(), "0.4");
    assert_eq!(
        property("output")["description"],
        "AnnData: input with annotations added."
    );
    assert_eq!(
        schema::choices(&property("lr_schedule"))[1],
        ("per-epoch", Some("Down by a factor after each epoch."))
    );
    assert_eq!(schema::choices(&property("warm_up")).len(), 2);
    assert!(!schema.to_string().contains("$ref"));
}

#[test]
fn help_shows_defaults_choices_and_headings() {
    let help = toy()
        .requested_text(&args("--epochs x --bogus --help"))
        .unwrap();
    for expected in [
        "[default: 10]",
        "[default: 128,64]",
        "[default: true]",
        "constant",
        "Training:",
        "General:",
        "--input <FILE>",
        "--params <FILE>",
    ] {
        assert!(help.contains(expected), "{expected} is not in\n{help}");
    }
    assert!(
        toy()
            .requested_text(&args("-h"))
            .unwrap()
            .contains("possible values: constant, per-epoch")
    );
    assert_eq!(
        toy().requested_text(&args("--version")).unwrap().trim(),
        concat!("scgpt-toy ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        toy().requested_text(&args("--input --output x -- --help")),
        None
    );
}

#[test]
fn an_empty_command_line_equals_an_empty_parameter_file() {
    let (_folder, empty) = params("{}");
    let bare = resolve(&files("")).unwrap();
    assert_eq!(bare, resolve(&files(&format!("--params {empty}"))).unwrap());
    let own = |toy: &Toy| (toy.layer_sizes.clone(), toy.training.clone(), toy.max_cells);
    assert_eq!(own(&bare), own(&Toy::default()));
}

#[test]
fn every_type_of_value_arrives() {
    let line = "--without a,b --without c --layer-sizes 8,9 --max-cells 5 --batch none --epochs 7 --learning-rate 1e-3 --mask-ratio=0.25 \
                --offset -3 --shuffle=false --lr-schedule per-epoch --warm-up constant";
    let toy = resolve(&files(line)).unwrap();
    assert_eq!(
        (toy.without.join(" "), toy.layer_sizes, toy.max_cells),
        ("a b c".into(), vec![8, 9], Some(5))
    );
    assert_eq!(
        toy.batch.as_deref(),
        Some("none"),
        "any text is a column name"
    );
    let expected = Training {
        epochs: 7,
        learning_rate: 1e-3,
        mask_ratio: 0.25,
        offset: -3,
        shuffle: false,
        lr_schedule: Schedule::PerEpoch,
        warm_up: Some(Schedule::Constant),
    };
    assert_eq!(toy.training, expected);
}

#[test]
fn sizes_are_texts_with_units_in_flags_and_parameter_files() {
    let (_folder, path) = params(r#"{"memory": "1.5GiB"}"#);
    let memory = |line: &str| resolve(&files(line)).unwrap().memory;
    assert_eq!(memory(""), Size(1 << 30));
    assert_eq!(memory(&format!("--params {path}")), Size(3 << 29));
    assert_eq!(memory("--memory 2000000"), Size(2_000_000));
    let property = &toy().schema["properties"]["memory"];
    assert_eq!(property["default"], "1G");
    assert_eq!(property["description"], "Memory to use at most.");
    assert_eq!(
        resolve(&files("--memory 1.5")).unwrap_err(),
        ["`--memory`: found `1.5`, expected a text such as `512M`, `1.5G` or `2000000000`"]
    );
}

#[test]
fn flags_override_the_parameter_file() {
    let (_folder, path) = params(
        r#"{"epochs": 5, "max_cells": 9, "shuffle": false, "warm_up": "constant", "layer_sizes": [1]}"#,
    );
    let line = format!("--params {path} --epochs 6 --max-cells none --shuffle --warm-up none");
    let toy = resolve(&files(&line)).unwrap();
    assert_eq!(
        (toy.training.epochs, toy.max_cells, toy.training.shuffle),
        (6, None, true)
    );
    assert_eq!((toy.training.warm_up, toy.layer_sizes), (None, vec![1]));
}

#[test]
fn all_problems_are_reported_together() {
    let (_folder, path) = params(
        r#"{"epoch": 5, "max_cells": 0, "learning_rate": "fast", "layer_sizes": [4, -1], "shuffle": null}"#,
    );
    let line = format!(
        "--params {path} --input gone.h5ad --output nowhere/x.h5ad --epochs abc --mask-ratio 1 --lr-schedule never --epocs 4"
    );
    let problems = resolve(&args(&line)).unwrap_err();
    let expected = [
        "unknown option `--epocs`; did you mean `--epochs`?".to_owned(),
        "`--input`: could not find `gone.h5ad`: No such file or directory (os error 2)".to_owned(),
        "`--output`: could not write into directory `nowhere`: No such file or directory"
            .to_owned(),
        format!("unknown option `epoch` in `{path}`; did you mean `epochs`?"),
        "`--labels` is required: name of the obs column with the labels".to_owned(),
        format!(
            "`layer_sizes` in `{path}`: found `-1`, expected a comma-separated list of at least 1, each a whole number of at least 1"
        ),
        format!(
            "`max_cells` in `{path}`: found `0`, expected a whole number of at least 1 (or `none`)"
        ),
        "`--epochs`: found `abc`, expected a whole number of at least 1".to_owned(),
        format!("`learning_rate` in `{path}`: found `fast`, expected a number between 0 and 1"),
        "`--mask-ratio`: found `1.0`, expected a number between 0 and 1, both excluded".to_owned(),
        format!("`shuffle` in `{path}`: found `null`, expected `true` or `false`"),
        "`--lr-schedule`: found `never`, expected one of `constant`, `per-epoch`".to_owned(),
    ];
    for text in &expected {
        assert!(
            problems.iter().any(|problem| problem.starts_with(text)),
            "{text}\nis not in\n{}",
            problems.join("\n")
        );
    }
    assert_eq!(problems.len(), expected.len(), "{}", problems.join("\n"));
}

#[test]
fn wrong_syntax_is_a_problem_like_any_other() {
    let problems = resolve(&files("--epochs 1 --epochs 2 stray --max-cells --batch"))
        .unwrap_err()
        .join("\n");
    for expected in ["`--epochs", "`stray`", "`--max-cells", "`--batch"] {
        assert!(
            problems.contains(expected),
            "{expected} is not in\n{problems}"
        );
    }
}

#[test]
fn numbers_must_be_finite_whole_and_in_range() {
    let numbers = [
        "--learning-rate nan",
        "--learning-rate inf",
        "--epochs 1.5",
        "--epochs -1",
        "--offset 3000000000",
        "--layer-sizes ,",
    ];
    for line in numbers.into_iter().chain([
        "--epochs 99999999999999999999999",
        "--threads 0",
        "--layer-sizes 4294967296",
    ]) {
        let outcome = toy().resolve(&files(line), |options| {
            let read = serde_json::from_value::<Toy>(Value::Object(options.clone()));
            read.err()
                .into_iter()
                .map(|error| error.to_string())
                .collect()
        });
        assert!(outcome.is_err(), "{line} was accepted");
    }
}

#[test]
fn parameter_files_of_any_content_are_rejected_clearly() {
    for (text, expected) in [
        ("[1]", "expected a JSON object"),
        ("{\"epochs\": ", "not JSON"),
        ("", "not JSON"),
    ] {
        let (_folder, path) = params(text);
        let problems = resolve(&files(&format!("--params {path}")))
            .unwrap_err()
            .join("\n");
        assert!(
            problems.contains(expected) && problems.contains(&path),
            "{problems}"
        );
    }
    assert!(resolve(&files("--params gone.json")).unwrap_err()[0].contains("`gone.json`"));
}

#[test]
fn an_output_cannot_be_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5ad");
    std::fs::write(&path, "cells").unwrap();
    let (path, sideways) = (path.display(), folder.path().join(".").join("a.h5ad"));
    let line = format!("--input {path} --output {} --labels x", sideways.display());
    assert!(resolve(&args(&line)).unwrap_err()[0].contains("also an input"));
}

#[test]
fn devices_are_not_outputs() {
    let problems = resolve(&files("--record /dev/null")).unwrap_err();
    assert!(
        problems[0].starts_with("`--record`: `/dev/null` is neither"),
        "{problems:?}"
    );
}

#[test]
fn rules_of_the_program_come_with_the_other_problems() {
    let rule = "`--max-cells` needs `--batch`";
    let rejected = |line: &str| {
        toy()
            .resolve(&files(line), |_| vec![rule.to_owned()])
            .unwrap_err()
    };
    assert_eq!(rejected("").problems, [rule]);
    let problems = rejected("--epochs 0").problems;
    assert!(problems.len() == 2 && problems[1] == rule, "{problems:?}");
    assert_eq!(
        toy()
            .resolve(&args(""), |_| vec![rule.to_owned()])
            .unwrap_err()
            .problems
            .len(),
        4
    );
}

#[test]
fn rules_are_silent_on_options_with_problems_of_their_own() {
    let (_folder, path) = params(r#"{"batch": 3}"#);
    for line in [
        "--batch",
        "--bach x",
        "--max-cells few",
        "--params gone.json",
        &format!("--params {path}"),
    ] {
        let outcome = toy().resolve(&files(line), |_| {
            vec!["`--max-cells` needs `--batch`".to_owned()]
        });
        assert_eq!(outcome.unwrap_err().problems.len(), 1, "{line}");
    }
}

#[test]
fn invalid_options_keep_the_log_format_of_flags_and_parameter_files() {
    let (_folder, path) = params(r#"{"log_format": "json", "epochs": 0}"#);
    for (line, format) in [
        ("--epochs 0", Format::Text),
        ("--epochs 0 --log-format json", Format::Json),
        ("--log-format xml", Format::Text),
        (&format!("--params {path}"), Format::Json),
        (&format!("--params {path} --log-format text"), Format::Text),
    ] {
        let invalid = toy().resolve(&files(line), |_| Vec::new()).unwrap_err();
        assert_eq!(
            (invalid.log_format, invalid.problems.len()),
            (format, 1),
            "{line}"
        );
    }
}

#[test]
fn the_record_shows_every_option() {
    let resolved = toy()
        .resolve(&files("--threads 2"), |_| Vec::new())
        .unwrap();
    let all = resolved.all();
    assert!(toy().properties().keys().all(|name| all.contains_key(name)));
    assert_eq!(
        (all["threads"].as_u64(), all["epochs"].as_u64()),
        (Some(2), Some(10))
    );
}
