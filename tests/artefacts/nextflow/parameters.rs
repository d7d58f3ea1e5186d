//! `nextflow_schema.json`: parameters of the pipelines, with all options of their programs.

use super::process::{Process, directory};
use crate::artefacts::committed;
use scgpt_tools::descriptor;
use scgpt_tools::programs::{ALL, Entry};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Programs whose options are parameters, with the prefix of the parameters.
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

/// Parameters of the pipelines: name, type, description. Further lines of a description become the help text.
const OWN: [(&str, &str, &str); 21] = [
    (
        "analysis",
        "annotate|tokenize|pretrain|integrate|map|perturb|grn|all",
        "Analysis to run.\n\
         annotate: predict cell types of all samples\n\
         tokenize: write one corpus of tokenized cells\n\
         pretrain: pre-train a model and embed all samples with it\n\
         integrate: integrate batches and modalities\n\
         map: map samples with the model of an integration\n\
         perturb: predict perturbation responses and rank perturbations toward a target state\n\
         grn: infer gene programs and gene networks\n\
         all: pre-train one model on the samples and run the other analyses with it",
    ),
    (
        "input",
        "file",
        "Sample sheet: CSV with the columns sample and path, and optional columns such as batch. For integrate and map, a sample may have one row per modality (column modality).",
    ),
    ("outdir", "directory", "Output directory."),
    (
        "skip_unreadable",
        "boolean",
        "Skip unreadable samples; they are missing from the summary.",
    ),
    (
        "model",
        "directory",
        "Model directory. annotate: model fine-tuned on cell types (default: trained on the reference). map: model of an integration. perturb: model fine-tuned on perturbed cells.",
    ),
    (
        "reference",
        "file",
        "AnnData file to train on. annotate, all: labeled cells. perturb: perturbed and control cells.",
    ),
    (
        "perturbation_queries",
        "file",
        "perturb, all: perturbation queries, a CSV with the column query_id, and perturb, query, or column and target; items of lists are separated by semicolons.",
    ),
    (
        "perturbed_cells",
        "file",
        "all: AnnData file with perturbed and control cells to train on and query. Without it, perturbations are skipped.",
    ),
    (
        "labels",
        "text",
        "Column of obs of the reference with the cell types.",
    ),
    (
        "checkpoint",
        "directory",
        "Pre-trained model to start from (default: train from scratch). grn: model whose gene embeddings and attention are analyzed.",
    ),
    (
        "vocab",
        "path",
        "Vocabulary of the corpus: a vocab.json, or the directory of a pre-trained model. Default: the genes of all samples.",
    ),
    (
        "genes",
        "file",
        "Text file with one gene per line. tokenize, pretrain: genes to keep. perturb: genes to perturb. grn: genes to include.",
    ),
    (
        "gene_map",
        "file",
        "Table of gene names in the files and in the vocabulary.",
    ),
    ("aliases", "file", "Table of gene aliases."),
    (
        "gene_conditions",
        "file",
        "pretrain: gene-level condition tokens, such as pathways: gene sets (.gmt), or a table (.tsv).",
    ),
    (
        "conditions",
        "text",
        "grn: column of obs with the conditions, such as perturbations or cell types. Default: all cells are one condition.",
    ),
    (
        "compare",
        "text",
        "grn: conditions to compare, separated by commas, one task each. Default: all conditions, in one task per sample.",
    ),
    (
        "control",
        "text",
        "grn: control condition that the others are compared with.",
    ),
    (
        "regulators",
        "file",
        "grn: text file with regulators to report, such as transcription factors, one per line.",
    ),
    (
        "gene_sets",
        "file",
        "grn: GMT file with gene sets for the enrichment of programs and targets.",
    ),
    (
        "known_edges",
        "file",
        "grn: table of known edges (gold standard), with columns for regulator and target, to evaluate networks.",
    ),
];

/// Content of the schema.
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

/// Parameters of `nextflow.config` without description, and descriptions without parameter.
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
            "directory" => json!({"type": "string", "format": "directory-path"}),
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
        let (description, help) = description.split_once('\n').unwrap_or((description, ""));
        property["description"] = description.into();
        if !help.is_empty() {
            property["help_text"] = help.into();
        }
        (name.to_owned(), property)
    };
    json!({
        "title": "Pipeline",
        "type": "object",
        "description": "Analysis, inputs and outputs.",
        "properties": Map::from_iter(OWN.map(property)),
        "required": ["input"],
    })
}

/// Options of a program that are not set by channels or resources.
fn options(word: &str, entry: &Entry) -> Value {
    let descriptor = descriptor::of(entry);
    let module = committed(&directory(entry).join("main.nf")).unwrap_or_default();
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

/// A property as Nextflow parameter: one type, lists separated by commas, no null default.
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
