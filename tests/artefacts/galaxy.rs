//! Galaxy tools. `tools/<tool>/generated.xml` is generated from the definition of the program: a macro `option_<name>` for every
//! option, and `@OPTIONS@`, which collects them from the form. `tools/<tool>/<tool>.xml` is written by hand and checked here.

use super::{assert_current, directory};
use crate::support::cells::{Simulated, TYPES, write};
use crate::support::programs::{from_to, program, succeed, tokenize};
use crate::support::simulation::{Network, Noise};
use crate::support::trained::{SIZE, TRAINED};
use roxmltree::{Document, Node};
use scgpt_tools::counts::Counts;
use scgpt_tools::descriptor;
use scgpt_tools::formats::{Column, h5ad};
use scgpt_tools::options::schema::{allows, choices};
use scgpt_tools::programs::{ALL, Entry};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options that neither form nor command has: start of the name of the program, option, reason.
const EXCLUDED: &[(&str, &str, &str)] = &[
    ("", "log_format", "messages of a job are read by users"),
    (
        "",
        "quiet",
        "messages of a job are separate from its outputs",
    ),
    ("", "verbose", "the run record has all details"),
    ("", "resume", "a job starts in an empty directory"),
    (
        "",
        "save_every",
        "a job starts in an empty directory, without a training state",
    ),
    (
        "scgpt-tokenize",
        "input",
        "the sample sheet lists the files with their names in the history",
    ),
    (
        "scgpt-finetune-perturbation",
        "record",
        "it is in the model directory",
    ),
    (
        "scgpt-finetune-annotation",
        "record",
        "it is in the model directory",
    ),
    (
        "scgpt-integrate",
        "samples",
        "the form has an input for each modality",
    ),
    ("scgpt-pretrain", "record", "it is in the model directory"),
    ("scgpt-tokenize", "record", "it is in the corpus"),
    (
        "scgpt-checkpoint inspect",
        "record",
        "the report is the only output",
    ),
    ("scgpt-checkpoint", "threads", "nothing is computed"),
];

/// Macros of `macros.xml` and `generated.xml` that every tool expands.
const EXPECTED_MACROS: [&str; 6] = [
    "citations",
    "creator",
    "edam",
    "requirements",
    "version_command",
    "xrefs",
];

const GENERATED: &str =
    "<!-- Generated from the definition of the program (see tools/README.md); do not edit. -->";

/// Position of an option in the form.
struct Place {
    option: String,
    /// Cheetah variable, such as `$training.epochs`.
    variable: String,
    /// Cheetah condition under which the option is in the form.
    condition: Option<String>,
}

impl Place {
    fn of(expand: Node, option: &str) -> Self {
        let case = expand.ancestors().find(|node| node.has_tag_name("when"));
        let condition = case.and_then(|case| {
            let choice = case
                .parent()?
                .children()
                .find(|node| node.has_tag_name("param"))?;
            let variable = path(choice) + choice.attribute("name")?;
            Some(format!("str({variable}) == '{}'", case.attribute("value")?))
        });
        Self {
            option: option.to_owned(),
            variable: path(expand) + option,
            condition,
        }
    }

    /// The item of `@OPTIONS@`: name, reader and value.
    fn collected(&self, property: &Value) -> String {
        let condition = self.condition.as_ref().map_or(String::new(), |condition| {
            format!(" if {condition} else ''")
        });
        format!(
            "('{}', '{}', {}{condition}),",
            self.option,
            param_type(property).1,
            self.variable
        )
    }
}

/// Sections and conditionals around an element, as prefix of a variable.
fn path(node: Node) -> String {
    let is_group = |node: &Node| node.has_tag_name("section") || node.has_tag_name("conditional");
    let groups = node.ancestors().filter(is_group);
    let mut names: Vec<&str> = groups.filter_map(|group| group.attribute("name")).collect();
    names.reverse();
    names
        .iter()
        .fold("$".to_owned(), |path, name| path + name + ".")
}

/// The parts of a hand-written tool that depend on the program.
struct Tool {
    path: PathBuf,
    text: String,
    places: Vec<Place>,
    command: String,
}

impl Tool {
    fn read(entry: &Entry) -> Self {
        let directory = directory(entry);
        let name = directory
            .file_name()
            .expect("a directory of `tools`")
            .to_str()
            .expect("UTF-8");
        let path = directory.join(name).with_extension("xml");
        let text = fs::read_to_string(root().join(&path));
        let text = text.unwrap_or_else(|error| {
            panic!(
                "`{}` needs a hand-written Galaxy tool `{}`: {error}",
                entry.name,
                path.display()
            )
        });
        let (mut places, mut command) = (Vec::new(), String::new());
        for node in parsed(&text, &path).descendants() {
            if node.has_tag_name("command") {
                command = node.text().unwrap_or_default().to_owned();
            }
            if let Some(option) = option_of(node) {
                places.push(Place::of(node, option));
            }
        }
        Self {
            path,
            text,
            places,
            command,
        }
    }

    /// Whether the command passes the option, by flag or as positional argument.
    fn commands(&self, entry: &Entry, option: &str) -> bool {
        let command = (entry.define)().command;
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_id() == option);
        let argument = argument.expect("every property has an argument");
        match (argument.get_long(), argument.get_index()) {
            (Some(flag), _) => self.flags().any(|found| found == flag),
            (None, at) => {
                let rest = self.command.split(entry.name).nth(1).unwrap_or_default();
                let given = rest
                    .split_whitespace()
                    .take_while(|word| !word.starts_with('-'));
                at.is_none_or(|at| given.count() >= at)
            }
        }
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        self.command
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn parsed<'a>(text: &'a str, path: &Path) -> Document<'a> {
    Document::parse(text).unwrap_or_else(|error| panic!("`{}` is not XML: {error}", path.display()))
}

/// The option whose macro the element expands.
fn option_of<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let is_expand = node.has_tag_name("expand");
    node.attribute("macro")
        .filter(|_| is_expand)?
        .strip_prefix("option_")
}

fn flag_of(entry: &Entry, option: &str) -> Option<String> {
    let command = (entry.define)().command;
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_id() == option)?;
    argument.get_long().map(|flag| format!("--{flag}"))
}

fn reason_to_exclude(entry: &Entry, option: &str) -> Option<&'static str> {
    let fits = |(program, name, _): &&(&str, &str, &str)| {
        entry.name.starts_with(program) && *name == option
    };
    EXCLUDED.iter().find(fits).map(|(_, _, reason)| *reason)
}

/// XML as text.
mod xml {
    pub fn escaped(text: &str) -> String {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
    }

    /// An element with its children, each on a line of its own and indented once.
    pub fn element(name: &str, attributes: &[(&str, String)], children: &[String]) -> String {
        let attribute = |(name, value): &(&str, String)| format!(" {name}=\"{}\"", escaped(value));
        let start = format!(
            "<{name}{}",
            attributes.iter().map(attribute).collect::<String>()
        );
        if children.is_empty() {
            return format!("{start}/>");
        }
        let inner = children.join("\n").replace('\n', "\n    ");
        format!("{start}>\n    {inner}\n</{name}>")
    }

    /// An element with text only.
    pub fn leaf(name: &str, attributes: &[(&str, String)], text: &str) -> String {
        let empty = element(name, attributes, &[]);
        format!(
            "{}>{}</{name}>",
            empty.trim_end_matches("/>"),
            escaped(text)
        )
    }
}

/// Type of the Galaxy parameter, and the reader of its value in `@PARAMS@` of `macros.xml`.
fn param_type(property: &Value) -> (&'static str, &'static str) {
    match () {
        () if property.get("x-format").is_some() => ("data", "text"),
        () if !choices(property).is_empty() => ("select", "text"),
        () if property["items"]["type"] == "integer" => ("text", "integers"),
        () if allows(property, "array") => ("text", "list"),
        () if allows(property, "boolean") => ("boolean", "flag"),
        () if allows(property, "integer") => ("integer", "integer"),
        () if allows(property, "number") => ("float", "number"),
        () => ("text", "text"),
    }
}

/// Galaxy datatype of a format.
fn datatype(format: &str) -> &str {
    match format {
        "tsv" => "tabular,csv",
        "checkpoint" | "corpus" | "index" => "tar",
        "gmt" => "txt",
        "graphml" => "xml",
        same => same,
    }
}

/// The parameter of an option; the tool sets its label.
fn param(name: &str, property: &Value, flag: Option<String>) -> String {
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let (kind, reader) = param_type(property);
    let is_list = matches!(reader, "list" | "integers");
    let default = &property["default"];
    let mut attributes = match flag {
        Some(flag) => vec![("argument", flag)],
        None => vec![("name", name.to_owned())],
    };
    attributes.push(("type", kind.to_owned()));
    match kind {
        "data" => attributes.push((
            "format",
            datatype(property["x-format"].as_str().unwrap_or("data")).to_owned(),
        )),
        "boolean" => attributes.extend([
            ("truevalue", "true".to_owned()),
            ("falsevalue", "false".to_owned()),
            ("checked", plain(default)),
        ]),
        "text" if is_list => attributes.push(("area", "true".to_owned())),
        "select" => {}
        _ if !default.is_null() => attributes.push(("value", plain(default))),
        _ => {}
    }
    if allows(property, "null") || is_list {
        attributes.push(("optional", "true".to_owned()));
    }
    let bounds = [("min", "minimum"), ("max", "maximum")];
    attributes.extend(
        bounds
            .iter()
            .filter_map(|(name, key)| Some((*name, plain(property.get(key)?)))),
    );
    attributes.extend([("label", "@LABEL@".to_owned()), ("help", help(property))]);
    xml::element("param", &attributes, &children(kind, property))
}

/// The description. Items of a list are on separate lines in a form.
fn help(property: &Value) -> String {
    let description = property["description"].as_str().unwrap_or_default();
    match allows(property, "array") {
        true => description.replace("Comma-separated.", "One per line."),
        false => description.to_owned(),
    }
}

/// Options of a select; for texts, no sanitizer (values are only written to a JSON file), and a validator if required.
fn children(kind: &str, property: &Value) -> Vec<String> {
    let choice = |(value, description): (&str, Option<&str>)| {
        let mut attributes = vec![("value", value.to_owned())];
        if property["default"] == value {
            attributes.push(("selected", "true".to_owned()));
        }
        let text = description.map_or(value.to_owned(), |text| {
            format!("{value}: {}", lowercase_start(text))
        });
        xml::leaf("option", &attributes, &text)
    };
    let sanitizer = xml::element("sanitizer", &[("sanitize", "false".to_owned())], &[]);
    let validator = || xml::element("validator", &[("type", "empty_field".to_owned())], &[]);
    match kind {
        "select" => choices(property).into_iter().map(choice).collect(),
        "text" if property.get("default").is_some() => vec![sanitizer],
        "text" => vec![sanitizer, validator()],
        _ => Vec::new(),
    }
}

/// The text without final period, and in lower case at the start unless it starts with an abbreviation.
fn lowercase_start(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().into_iter();
    let rest = letters.as_str();
    let is_word = rest.starts_with(|c: char| c.is_lowercase() || c == ' ');
    first
        .flat_map(|c| {
            if is_word {
                c.to_lowercase().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .chain(rest.chars())
        .collect()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Package, container and resources, from the descriptor.
fn requirements(descriptor: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resources = &descriptor["resources"];
    let resource = |kind: &str, amount: u64| {
        xml::leaf(
            "resource",
            &[("type", kind.to_owned())],
            &amount.to_string(),
        )
    };
    let package = [
        ("type", "package".to_owned()),
        ("version", text(&descriptor["conda"]["version"])),
    ];
    let mut lines = vec![
        xml::leaf(
            "requirement",
            &package,
            &text(&descriptor["conda"]["package"]),
        ),
        xml::leaf(
            "container",
            &[("type", "docker".to_owned())],
            &text(&descriptor["container"]["cpu"]),
        ),
        resource("cores_min", resources["cpus"].as_u64().unwrap_or(1)),
        resource(
            "ram_min",
            1024 * resources["memory_gb"].as_u64().unwrap_or(1),
        ),
    ];
    if resources["gpu"] == true {
        lines.push(resource("cuda_device_count_max", 1));
    }
    xml::element("requirements", &[], &lines)
}

fn edam(descriptor: &Value) -> Vec<String> {
    let list = |many: &str, one: &str| {
        let terms = texts(&descriptor["edam"][many])
            .map(|term| xml::leaf(&format!("edam_{one}"), &[], term));
        xml::element(&format!("edam_{many}"), &[], &terms.collect::<Vec<_>>())
    };
    vec![list("topics", "topic"), list("operations", "operation")]
}

/// A macro of the name.
fn named(name: &str, children: &[String]) -> String {
    xml::element("xml", &[("name", name.to_owned())], children)
}

/// Content of `generated.xml`.
fn generated(entry: &Entry, tool: &Tool) -> String {
    let descriptor = descriptor::of(entry);
    let properties = &descriptor["parameters"]["properties"];
    let known: Vec<&Place> = tool
        .places
        .iter()
        .filter(|place| properties.get(&place.option).is_some())
        .collect();
    let version = xml::leaf("version_command", &[], &format!("{} --version", entry.name));
    let mut parts = vec![
        named("requirements", &[requirements(&descriptor)]),
        named("edam", &edam(&descriptor)),
        named("version_command", &[version]),
    ];
    parts.extend(known.iter().map(|Place { option, .. }| {
        let attributes = [
            ("name", format!("option_{option}")),
            ("tokens", "label".to_owned()),
        ];
        let param = param(option, &properties[option], flag_of(entry, option));
        xml::element("xml", &attributes, &[param])
    }));
    let collected = known
        .iter()
        .filter(|place| !tool.commands(entry, &place.option));
    let lines: Vec<String> = collected
        .map(|place| place.collected(&properties[&place.option]))
        .collect();
    // Lines of Cheetah must not be indented.
    let macros = xml::element("macros", &[], &parts);
    let macros = macros.trim_end_matches("</macros>");
    format!(
        "{GENERATED}\n{macros}    <token name=\"@OPTIONS@\"><![CDATA[\n{}\n]]></token>\n</macros>\n",
        lines.join("\n")
    )
}

/// Problems of the hand-written tool.
fn problems(entry: &Entry, tool: &Tool) -> Vec<String> {
    let definition = (entry.define)();
    let options = definition.properties().keys();
    let mut found: Vec<String> = options
        .filter_map(|option| wiring(entry, tool, option))
        .collect();
    let flags: Vec<&str> = definition
        .command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .collect();
    let wrong = tool
        .flags()
        .filter(|flag| !flags.contains(flag) && *flag != "params");
    found.extend(
        wrong.map(|flag| {
            format!("the command has `--{flag}`, which is not an option of the program")
        }),
    );
    let document = parsed(&tool.text, &tool.path);
    for node in document.descendants().filter(Node::is_element) {
        let argument = node
            .attribute("argument")
            .map(|argument| argument.trim_start_matches('-'));
        found.extend(
            argument
                .filter(|flag| !flags.contains(flag))
                .map(|flag| format!("`argument=\"--{flag}\"` is not an option of the program")),
        );
        let Some(option) = option_of(node) else {
            continue;
        };
        if definition.properties().get(option).is_none() {
            found.push(format!(
                "`option_{option}` is expanded, but the program has no option `{option}`"
            ));
        }
        if node.attribute("label").is_none_or(str::is_empty) {
            found.push(format!("`option_{option}` is expanded without a `label`"));
        }
    }
    found.extend(missing_elements(entry, &document));
    found
}

/// An option must be in the form, in the command, or excluded for a reason.
fn wiring(entry: &Entry, tool: &Tool, option: &str) -> Option<String> {
    let is_used =
        tool.places.iter().any(|place| place.option == option) || tool.commands(entry, option);
    match (is_used, reason_to_exclude(entry, option)) {
        (false, None) => Some(format!(
            "`{option}` is missing: expand `option_{option}` with a label in the form, pass its flag in the command, or list it in `EXCLUDED`"
        )),
        (true, Some(reason)) => Some(format!("`{option}` is used, but excluded: {reason}")),
        _ => None,
    }
}

/// Missing elements that every tool must have.
fn missing_elements(entry: &Entry, document: &Document) -> Vec<String> {
    let tool = document.root_element();
    let has = |test: &dyn Fn(Node) -> bool| tool.descendants().any(test);
    let directory = directory(entry);
    let id = format!(
        "scgpt_{}",
        directory
            .file_name()
            .expect("a directory of `tools`")
            .display()
    );
    let mut found = Vec::new();
    let mut expect = |is_there: bool, what: &str| {
        if !is_there {
            found.push(format!("{what} is missing"));
        }
    };
    expect(tool.attribute("id") == Some(&id), &format!("`id=\"{id}\"`"));
    expect(
        tool.attribute("version") == Some("@TOOL_VERSION@+galaxy@VERSION_SUFFIX@"),
        "`version=\"@TOOL_VERSION@+galaxy@VERSION_SUFFIX@\"`",
    );
    for file in ["../macros.xml", "generated.xml"] {
        expect(
            has(&|node| node.has_tag_name("import") && node.text() == Some(file)),
            &format!("`<import>{file}</import>`"),
        );
    }
    for name in EXPECTED_MACROS {
        expect(
            has(&|node| node.attribute("macro") == Some(name)),
            &format!("`<expand macro=\"{name}\"/>`"),
        );
    }
    for tag in ["description", "command", "inputs", "outputs", "help"] {
        expect(has(&|node| node.has_tag_name(tag)), &format!("`<{tag}>`"));
    }
    expect(
        has(&|node| node.has_tag_name("test") && node.attribute("expect_failure").is_none()),
        "a test that succeeds",
    );
    expect(
        has(&|node| {
            node.attribute("expect_exit_code")
                .is_some_and(|code| code != "0")
        }),
        "a test that fails with an exit code",
    );
    found
}

#[test]
fn galaxy_tools_match_the_programs() {
    let of_entry = |entry: &Entry| {
        let tool = Tool::read(entry);
        problems(entry, &tool)
            .into_iter()
            .map(move |problem| format!("`{}`: {problem}", tool.path.display()))
            .collect::<Vec<_>>()
    };
    let found: Vec<String> = ALL.iter().flat_map(of_entry).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn generated_macros_are_current() {
    for entry in ALL {
        let path = directory(entry).join("generated.xml");
        let text = generated(entry, &Tool::read(entry));
        parsed(&text, &path);
        assert_current(&path, &text);
    }
}

#[test]
fn galaxy_tools_have_the_version_of_the_package() {
    let path = Path::new("tools/macros.xml");
    let text = fs::read_to_string(root().join(path)).expect("macros of all tools");
    let document = parsed(&text, path);
    let token = document
        .descendants()
        .find(|node| node.attribute("name") == Some("@TOOL_VERSION@"));
    assert_eq!(
        token.and_then(|node| node.text()),
        Some(env!("CARGO_PKG_VERSION")),
        "`@TOOL_VERSION@` of `{}`",
        path.display()
    );
}

#[test]
fn galaxy_workflows_use_tools_of_the_version_of_the_package() {
    let directory = fs::read_dir(root().join("tools/workflows")).expect("workflows");
    for file in directory.map(|file| file.expect("a file").path()) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let versions = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("tool_version: "));
        let other: Vec<&str> = versions
            .filter(|version| version.split('+').next() != Some(env!("CARGO_PKG_VERSION")))
            .collect();
        assert!(
            other.is_empty(),
            "`{}` uses tools of versions {other:?}",
            file.display()
        );
    }
}

#[test]
fn galaxy_tests_use_simulated_cells() {
    let directory = root().join("tools/test-data");
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        if !directory.join("cells.h5ad").exists() {
            write_test_data(&directory);
        }
        if !directory.join("perturbed.h5ad").exists() {
            write_perturbed(&directory);
        }
        if !directory.join("embedded.h5ad").exists() {
            write_embedded(&directory);
        }
        if !directory.join("attention.h5ad").exists() {
            write_attention(&directory);
        }
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    Simulated::SMALL.write(file.path());
    let bytes = |path: &Path| {
        fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
    };
    assert!(
        bytes(&directory.join("cells.h5ad")) == bytes(file.path()),
        "`tools/test-data` is outdated; remove it, and write it with `UPDATE=1 cargo test --release --test main artefacts`"
    );
}

/// Simulated cells, and a model trained on them: as a directory, for the data table, and as an archive. Also a corpus of these cells, a
/// model pre-trained on it, antibody counts of the cells, and a model that integrates their batches.
fn write_test_data(directory: &Path) {
    let model = directory.join("model");
    fs::create_dir_all(&model).expect("a directory");
    fs::copy(&TRAINED.cells, directory.join("cells.h5ad")).expect("a copy");
    for name in ["args.json", "vocab.json", "model.safetensors"] {
        fs::copy(TRAINED.model.join(name), model.join(name)).expect("a copy");
    }
    let table = "cell,GENE000,GENE001,GENE002\none,3,0,1\ntwo,0,2,5\n";
    fs::write(directory.join("table.csv"), table).expect("a table");
    let work = tempfile::tempdir().expect("a directory");
    let [corpus, generative, integrated] =
        ["corpus", "generative", "integrated"].map(|name| work.path().join(name));
    succeed(tokenize(&TRAINED.cells, &corpus).args(["--obs", "cell_type,batch"]));
    let mut pretrain = from_to("scgpt-pretrain", &corpus, &generative);
    succeed(pretrain.args(SIZE).args(["--epochs", "2"]));
    write_antibodies(&directory.join("proteins.h5ad"));
    let embedded = work.path().join("embedded.h5ad");
    let mut integrate = from_to("scgpt-integrate", &TRAINED.cells, &embedded);
    integrate.arg("--model").arg(&integrated).args(SIZE);
    succeed(integrate.args(["--batch", "batch", "--epochs", "4", "--batch-size", "8"]));
    for removed in [
        "corpus/run.json",
        "generative/run.json",
        "generative/last.safetensors",
        "generative/metrics.jsonl",
        "generative/events.out.tfevents.scgpt",
        "generative/training_curves.svg",
        "integrated/metrics.jsonl",
        "integrated/events.out.tfevents.scgpt",
    ] {
        fs::remove_file(work.path().join(removed)).expect("a file of the program");
    }
    for (archive, parent, content) in [
        ("model.tar", directory, "model"),
        ("no_model.tar", directory, "scgpt_models.loc"),
        ("corpus.tar", work.path(), "corpus"),
        ("generative.tar", work.path(), "generative"),
        ("integrated.tar", work.path(), "integrated"),
    ] {
        pack(&directory.join(archive), parent, content);
    }
}

/// A reproducible archive of a file or directory.
fn pack(archive: &Path, parent: &Path, content: &str) {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-cf",
    ]);
    tar.arg(archive).arg("-C").arg(parent).arg(content);
    let done = tar.status().expect("tar").success();
    assert!(done, "`{}`", archive.display());
}

/// Simulated knockouts, and a model trained on them.
fn write_perturbed(directory: &Path) {
    const CONDITIONS: [(&str, &[usize]); 7] = [
        ("ctrl", &[]),
        ("G00", &[0]),
        ("G01", &[1]),
        ("G02", &[2]),
        ("G03", &[3]),
        ("G00+G01", &[0, 1]),
        ("G01+G02", &[1, 2]),
    ];
    let network = Network::random(20, 6, 4, 1, 1);
    let (mut counts, mut labels) = (Counts::empty(20), Vec::new());
    for (label, knocked_out) in CONDITIONS {
        for (genes, values) in network.cells(knocked_out, &[], 12, &Noise::USUAL, 1).rows() {
            counts.push(genes.iter().copied().zip(values.iter().copied()));
            labels.push(Some(label));
        }
    }
    let cells: Vec<String> = (0..labels.len())
        .map(|cell| format!("cell{cell}"))
        .collect();
    let genes: Vec<String> = (0..20).map(|gene| format!("G{gene:02}")).collect();
    let content = h5ad::Cells {
        obs: &[("condition".to_owned(), Column::from_labels(&labels))],
        ..h5ad::Cells::new(&counts, &cells, &genes)
    };
    let file = directory.join("perturbed.h5ad");
    h5ad::create(&file, &content).expect("a file of cells");
    let work = tempfile::tempdir().expect("a directory");
    let model = work.path().join("perturbation_model");
    let mut finetune = from_to("scgpt-finetune-perturbation", &file, &model);
    finetune.args(SIZE).args([
        "--split",
        "no-test",
        "--epochs",
        "60",
        "--pseudobulk-size",
        "4",
    ]);
    succeed(finetune.args(["--batch-size", "4", "--learning-rate", "0.003"]));
    for entry in fs::read_dir(&model).expect("a model").flatten() {
        let name = entry.file_name();
        let is_kept = ["args.json", "vocab.json", "model.safetensors"]
            .iter()
            .any(|kept| name == *kept);
        if !is_kept {
            fs::remove_file(entry.path()).expect("a file of the program");
        }
    }
    pack(
        &directory.join("perturbation_model.tar"),
        work.path(),
        "perturbation_model",
    );
}

/// The simulated cells with embeddings, and a reference index of them.
fn write_embedded(directory: &Path) {
    let file = directory.join("embedded.h5ad");
    let mut embed = from_to("scgpt-embed", &directory.join("cells.h5ad"), &file);
    succeed(embed.arg("--checkpoint").arg(directory.join("model")));
    fs::remove_file(directory.join("embedded.run.json")).expect("a file of the program");
    let work = tempfile::tempdir().expect("a directory");
    let mut build = program("scgpt-map-reference");
    build.args(["build", "--label", "cell_type", "--columns", "batch"]);
    build.arg("--input").arg(&file);
    succeed(build.arg("--output").arg(work.path().join("index")));
    pack(&directory.join("index.tar"), work.path(), "index");
}

/// Attention in each cell type of the simulated cells, gene sets of their markers, and synthetic known edges: the first marker of a cell
/// type regulates the others.
fn write_attention(directory: &Path) {
    const MARKERS: usize = 8;
    let network = directory.join("attention.h5ad");
    let mut attention = program("scgpt-grn");
    attention.arg("attention").args(["--device", "cpu"]);
    attention.arg("--input").arg(directory.join("cells.h5ad"));
    attention.arg("--checkpoint").arg(directory.join("model"));
    attention.args(["--conditions", "cell_type", "--max-cells", "0"]);
    attention.args(["--top", "5", "--edges"]);
    attention.arg(directory.join("attention.tsv"));
    succeed(attention.arg("--output").arg(&network));
    fs::remove_file(directory.join("attention.run.json")).expect("a record of the run");
    let gene = |at: usize| format!("GENE{at:03}");
    let set = |name: &str, genes: std::ops::Range<usize>| {
        let genes: Vec<String> = genes.map(gene).collect();
        format!("{name}\tsimulated\t{}\n", genes.join("\t"))
    };
    let markers = |at: usize| at * MARKERS..(at + 1) * MARKERS;
    let (mut sets, mut edges) = (String::new(), "regulator\ttarget\tconfidence\n".to_owned());
    for (at, cell_type) in TYPES.iter().enumerate() {
        sets += &set(
            &format!("{}_MARKERS", cell_type.to_uppercase()),
            markers(at),
        );
        let regulator = gene(at * MARKERS);
        for target in 1..MARKERS {
            let level = ["A", "B"][target % 2];
            edges += &format!("{regulator}\t{}\t{level}\n", gene(at * MARKERS + target));
        }
    }
    sets += &set("OTHERS", 40..Simulated::SMALL.genes);
    fs::write(directory.join("gene_sets.gmt"), sets).expect("gene sets");
    fs::write(directory.join("known_edges.tsv"), edges).expect("a table");
}

/// Synthetic antibody counts of the simulated cells; two antibodies bind to each cell type.
fn write_antibodies(path: &Path) {
    let names: Vec<String> = (0..2 * TYPES.len()).map(|at| format!("AB{at}")).collect();
    let row = |cell: usize| {
        let is_bound = |antibody: usize| TYPES[antibody / 2] == Simulated::type_of(cell);
        let count = |antibody: usize| {
            let noise = (7 * cell + 5 * antibody) % 11;
            let bound = if is_bound(antibody) { 20 } else { 0 };
            (antibody as u32, (bound + noise) as f32)
        };
        let counts = (0..names.len()).map(count);
        counts.filter(|(_, count)| *count > 0.0).collect::<Vec<_>>()
    };
    let counts = Counts::from_rows(names.len(), (0..Simulated::SMALL.cells).map(row));
    write(path, &counts, &names, []);
}
