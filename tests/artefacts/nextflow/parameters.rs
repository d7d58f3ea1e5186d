//! `nextflow_schema.json`: what pipelines take, all options of their programs included.

use super::process::{Process, folder};
use crate::artefacts::committed;
use scgpt_tools::descriptor;
use scgpt_tools::programs::{ALL, Entry};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Programs whose options are parameters, with the word before them.
const PROGRAMS: [(&str, &str); 14] = [
    ("finetune", "scgpt-finetune-annotation"),
    ("annotate", "scgpt-annotate"),
    ("tokenize", "scgpt-tokenize"),
    ("pretrain", "scgpt-pretrain"),
    ("integrate", "scgpt-integrate"),
    ("embed", "scgpt-embed"),
    ("perturbation", "scgpt-finetune-perturbation"),
    ("predict", "scgpt-perturb predict"),
    ("reverse", "scgpt-perturb reverse"),
    ("programs", "scgpt-grn programs"),
    ("attention", "scgpt-grn attention"),
    ("difference", "scgpt-grn difference"),
    ("enrich", "scgpt-grn enrich"),
    ("evaluate", "scgpt-grn evaluate"),
];

/// The pipelines' own parameters: name, kind, description.
const OWN: [(&str, &str, &str); 21] = [
    (
        "analysis",
        "annotate|tokenize|pretrain|integrate|map|perturb|grn|all",
        "What to do: name the cell types of all samples, turn them into one corpus of tokenised cells, pre-train a model on them and embed them with it, bring them into one space, map them into the space of a model that did so, ask what perturbing their genes would do, find gene programs and networks in them, or do all of this with one model that is pre-trained on the samples.",
    ),
    (
        "input",
        "file",
        "Sample sheet: a CSV with the columns sample and path, and any others, such as batch. To integrate, a sample may have a row for each modality, which the column modality names.",
    ),
    ("outdir", "folder", "Folder for the results."),
    (
        "skip_unusable",
        "boolean",
        "Go on without samples whose files cannot be used; the summary then lacks them.",
    ),
    (
        "model",
        "folder",
        "Fine-tuned model to annotate with; without it one is trained on the reference. To map: the model of an integration. To ask about perturbations: a model that learnt from perturbed cells.",
    ),
    (
        "reference",
        "file",
        "Labelled cells to train a model on; to ask about perturbations: perturbed cells.",
    ),
    (
        "questions",
        "file",
        "Questions about perturbations: a CSV with the columns question, and perturb, query, or column and target; lists have semicolons between their items.",
    ),
    (
        "perturbed",
        "file",
        "To do all: perturbed and control cells, about which the questions are asked. Without it none are.",
    ),
    (
        "labels",
        "text",
        "Column of obs of the reference that holds the cell types.",
    ),
    (
        "checkpoint",
        "folder",
        "Pre-trained model to start training, pre-training or integration from. Without it a model is trained from scratch. For networks: the model whose genes and attention are looked at.",
    ),
    (
        "vocab",
        "path",
        "Vocabulary of the corpus: a vocab.json, or the folder of a pre-trained model. Without it, the genes of all samples.",
    ),
    (
        "genes",
        "file",
        "File of the genes to keep or to look at, one a line.",
    ),
    (
        "gene_map",
        "file",
        "Table of the names of genes in the files and in the vocabulary.",
    ),
    ("aliases", "file", "Table of other names of genes."),
    (
        "gene_conditions",
        "file",
        "Category of genes, such as their pathway, that pre-training is told: gene sets (.gmt), or a table (.tsv).",
    ),
    (
        "conditions",
        "text",
        "Networks: column of obs with the conditions, such as perturbations or cell types. Without it all cells are one condition.",
    ),
    (
        "compare",
        "text",
        "Networks: conditions to look at, with commas between them, each in a task of its own. Without it all, in one task for each sample.",
    ),
    (
        "control",
        "text",
        "Networks: condition that the others are compared with.",
    ),
    (
        "regulators",
        "file",
        "Networks: regulators whose targets are asked for, such as transcription factors, one a line.",
    ),
    (
        "gene_sets",
        "file",
        "Networks: known gene sets, a GMT file, by which programs and targets are explained.",
    ),
    (
        "truth",
        "file",
        "Networks: known regulation, a table with columns for regulator and target, against which networks are held.",
    ),
];

/// The whole schema.
pub fn text() -> String {
    let mut groups = Map::from_iter([("pipeline".to_owned(), own())]);
    for (word, program) in PROGRAMS {
        groups.insert(word.to_owned(), options(word, entry(program)));
    }
    let all: Vec<Value> = groups
        .keys()
        .map(|group| json!({"$ref": format!("#/$defs/{group}")}))
        .collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://scgpt-tools/nextflow_schema.json",
        "title": "scgpt-tools pipeline parameters",
        "description": env!("CARGO_PKG_DESCRIPTION"),
        "type": "object",
        "$defs": groups,
        "allOf": all,
    });
    format!("{schema:#}\n")
}

/// Parameters of `nextflow.config` that are not described, and the other way round.
pub fn problems() -> Vec<String> {
    let config = committed(Path::new("nextflow.config")).unwrap_or_default();
    let block = config
        .split_once("params {")
        .and_then(|(_, rest)| rest.split_once("\n}"));
    let lines = block
        .map_or("", |(block, _)| block)
        .lines()
        .filter_map(|line| line.split_once(" = "));
    let set: Vec<&str> = lines.map(|(name, _)| name.trim()).collect();
    let described = OWN.map(|own| own.0);
    let undescribed = set.iter().filter(|name| !described.contains(name));
    let unset = described.iter().filter(|name| !set.contains(name));
    undescribed
        .map(|name| {
            format!("`nextflow.config` sets `{name}`, which `parameters.rs` does not describe")
        })
        .chain(unset.map(|name| format!("`nextflow.config` does not set `{name}`")))
        .collect()
}

fn entry(program: &str) -> &'static Entry {
    let found = ALL.iter().find(|entry| entry.name == program);
    found.unwrap_or_else(|| panic!("there is no program `{program}`"))
}

fn own() -> Value {
    let property = |(name, kind, description): (&str, &str, &str)| {
        let mut property = match kind {
            "boolean" => json!({"type": "boolean", "default": false}),
            "text" => json!({"type": "string"}),
            "file" => json!({"type": "string", "format": "file-path", "exists": true}),
            "folder" => json!({"type": "string", "format": "directory-path"}),
            "path" => json!({"type": "string", "format": "path", "exists": true}),
            choices => {
                json!({"type": "string", "enum": choices.split('|').collect::<Vec<_>>(), "default": "annotate"})
            }
        };
        match name {
            "input" => property["schema"] = "assets/schema_input.json".into(),
            "outdir" => property["default"] = "results".into(),
            _ => {}
        }
        property["description"] = description.into();
        (name.to_owned(), property)
    };
    json!({
        "title": "Pipeline",
        "type": "object",
        "description": "What to do, with which files.",
        "properties": Map::from_iter(OWN.map(property)),
        "required": ["input"],
    })
}

/// Options of a program that no channel and no resource decides.
fn options(word: &str, entry: &Entry) -> Value {
    let descriptor = descriptor::of(entry);
    let module = committed(&folder(entry).join("main.nf")).unwrap_or_default();
    let process = Process::read(&module);
    let is_open = |(name, property): &(&String, &Value)| {
        let flag = format!("--{} ", name.replace('_', "-"));
        property["x-direction"].is_null() && *name != "resume" && !process.script.contains(&flag)
    };
    let properties = descriptor["parameters"]["properties"].as_object();
    let properties: Map<String, Value> = properties
        .into_iter()
        .flatten()
        .filter(is_open)
        .map(|(name, property)| (format!("{word}_{name}"), parameter(property)))
        .collect();
    json!({
        "title": entry.name,
        "type": "object",
        "description": format!("Options of {}: {}.", entry.name, entry.summary),
        "properties": properties,
    })
}

/// A property as Nextflow's users can give it: one type, lists with commas between the items, no default of nothing.
fn parameter(property: &Value) -> Value {
    let branches = ["anyOf", "oneOf"].map(|key| property[key].as_array());
    let branches: Vec<&Value> = branches.into_iter().flatten().flatten().collect();
    let inner = branches
        .iter()
        .flat_map(|branch| branch["oneOf"].as_array().into_iter().flatten());
    let constants: Vec<&Value> = branches
        .iter()
        .copied()
        .chain(inner)
        .filter_map(|branch| branch.get("const"))
        .collect();
    let kind = match &property["type"] {
        Value::Array(kinds) => &kinds[0],
        kind => kind,
    };
    let mut parameter = match kind.as_str() {
        Some("array") | None => json!({"type": "string"}),
        Some(kind) => json!({"type": kind}),
    };
    if !constants.is_empty() {
        parameter["enum"] = json!(constants);
    }
    for key in ["enum", "minimum", "maximum", "pattern"] {
        if let Some(value) = property.get(key) {
            parameter[key] = value.clone();
        }
    }
    if let Some(choices) = parameter.get_mut("enum").and_then(Value::as_array_mut) {
        choices.retain(|choice| !choice.is_null());
    }
    let default = property
        .get("default")
        .filter(|default| !default.is_null() && !default.is_array());
    if let Some(default) = default {
        parameter["default"] = default.clone();
    }
    parameter["description"] = property["description"].clone();
    parameter
}
