//! Checks the layers of `src/lib.rs` against the imports, and the length of functions.

mod siblings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use, from the highest to the lowest. `cells` and `split` prepare data for `programs` alone.
const LAYERS: &[(&str, &[&str])] = &[
    ("bin", &["malloc", "cli", "programs"]),
    (
        "cli",
        &[
            "signal_handler",
            "descriptor",
            "failure",
            "options",
            "output",
            "programs",
            "progress",
            "distributed",
            "run_record",
        ],
    ),
    ("descriptor", &["failure", "programs"]),
    (
        "programs",
        &[
            "analysis",
            "reference_index",
            "baselines",
            "cells",
            "checkpoint",
            "compute",
            "corpus",
            "counts",
            "expression",
            "failure",
            "figures",
            "file_format",
            "formats",
            "model",
            "options",
            "output",
            "predict",
            "progress",
            "random",
            "distributed",
            "report",
            "run_record",
            "split",
            "tokens",
            "train",
            "trainer",
            "vocabulary",
        ],
    ),
    (
        "trainer",
        &[
            "checkpoint",
            "distributed",
            "failure",
            "model",
            "options",
            "output",
            "predict",
            "progress",
            "random",
            "run_record",
            "train",
            "vocabulary",
        ],
    ),
    // Distinguishes every error, so it depends on every module that has one.
    (
        "failure",
        &[
            "analysis",
            "reference_index",
            "baselines",
            "cells",
            "checkpoint",
            "corpus",
            "expression",
            "formats",
            "model",
            "output",
            "predict",
            "distributed",
            "train",
            "vocabulary",
        ],
    ),
    (
        "report",
        &[
            "analysis",
            "cells",
            "expression",
            "file_format",
            "formats",
            "random",
            "run_record",
        ],
    ),
    (
        "train",
        &[
            "checkpoint",
            "compute",
            "corpus",
            "counts",
            "model",
            "output",
            "random",
            "distributed",
            "tokens",
        ],
    ),
    (
        "predict",
        &[
            "cells",
            "checkpoint",
            "compute",
            "counts",
            "file_format",
            "model",
            "random",
            "tokens",
            "vocabulary",
        ],
    ),
    ("baselines", &["analysis", "counts", "expression", "tokens"]),
    ("model", &["checkpoint", "compute", "random", "vocabulary"]),
    (
        "cells",
        &["counts", "expression", "formats", "random", "vocabulary"],
    ),
    ("tokens", &["counts", "random", "vocabulary"]),
    ("split", &["random"]),
    ("checkpoint", &["file_format", "vocabulary"]),
    (
        "reference_index",
        &["analysis", "file_format", "output", "random"],
    ),
    ("analysis", &["counts", "random"]),
    ("figures", &["counts"]),
    ("expression", &["counts"]),
    (
        "corpus",
        &[
            "counts",
            "file_format",
            "formats",
            "output",
            "random",
            "vocabulary",
        ],
    ),
    ("formats", &["counts", "file_format", "signal_handler"]),
    ("options", &["output", "progress"]),
    (
        "run_record",
        &[
            "clock",
            "file_format",
            "interrupt",
            "memory",
            "output",
            "progress",
        ],
    ),
    ("vocabulary", &[]),
    ("counts", &[]),
    ("fuzz_mutations", &["random"]),
    ("random", &[]),
    ("compute", &["distributed"]),
    ("distributed", &["progress"]),
    ("malloc", &[]),
    ("file_format", &[]),
    ("signal_handler", &[]),
    ("output", &[]),
    ("progress", &["clock"]),
    ("clock", &[]),
    ("interrupt", &[]),
    ("memory", &[]),
];

/// Crates that only some modules may use. `programs` uses libtorch only for the type of a device.
const CRATES: &[(&str, &[&str])] = &[
    (
        "tch",
        &[
            "analysis",
            "baselines",
            "compute",
            "model",
            "predict",
            "programs",
            "train",
            "trainer",
        ],
    ),
    ("hdf5", &["formats"]),
    ("hdf5_sys", &["formats"]),
    ("parquet", &["corpus"]),
];

/// Names that do not describe a module.
const NAMELESS: [&str; 5] = ["util", "utils", "helpers", "common", "misc"];

const LONGEST_FUNCTION: usize = 60;

/// A source file without its tests.
struct Source {
    path: PathBuf,
    code: String,
}

impl Source {
    /// The module that the file is a part of: its directory or its name right under `src`.
    fn module(&self) -> &str {
        let first = self
            .path
            .components()
            .next()
            .expect("a path")
            .as_os_str()
            .to_str()
            .expect("a UTF-8 name");
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file but those of tests.
fn sources() -> Vec<Source> {
    let (mut directories, mut found) = (vec![root()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path
                    .strip_prefix(root())
                    .expect("under the root")
                    .to_owned();
                found.push(Source {
                    path,
                    code: without_tests(&text),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the sources are found");
    found
}

/// Drops comments, and items under `#[cfg(test)]` (formatted, so that a block ends at its own indent).
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let first = lines.next().unwrap_or_default();
            if !first.trim_end().ends_with(';') {
                lines.find(|line| *line == format!("{indent}}}"));
            }
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Modules of this crate that some code names as `crate::x` or in `use crate::{x, y::z}`.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(heads(list)),
            None => found.extend([word(rest)]),
        }
    }
    found
}

fn word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// First words of the items of a braced list that `list` begins inside of.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                found.push(word(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|head| !head.is_empty());
    found
}

#[test]
fn imports_follow_the_layers() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module() != "lib") {
        let module = source.module();
        let path = source.path.display();
        let Some(allowed) = layers.get(module) else {
            wrong.push(format!(
                "{path}: the module `{module}` has no layer in this test"
            ));
            continue;
        };
        // A binary names this crate from outside.
        let code = source.code.replace("scgpt_tools::", "crate::");
        for used in uses(&code)
            .iter()
            .filter(|used| *used != module && layers.contains_key(used.as_str()))
        {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{path}: `{module}` may not use `{used}`"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that violate the layers of src/lib.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_layers_lead_downwards_and_are_those_of_the_crate() {
    let order: Vec<&str> = LAYERS.iter().map(|(module, _)| *module).collect();
    for (position, (module, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            assert!(
                order[position + 1..].contains(used),
                "`{module}` may use `{used}`, which is not below it"
            );
        }
    }
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    let declared: BTreeSet<&str> = lib
        .lines()
        .map(|line| line.strip_prefix("pub ").unwrap_or(line))
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(
        declared,
        order
            .into_iter()
            .filter(|module| *module != "bin")
            .collect()
    );
}

#[test]
fn programs_do_not_use_each_other() {
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("programs"))
    {
        for (at, path) in source.code.match_indices("crate::programs::") {
            let used = word(&source.code[at + path.len()..]);
            assert!(
                [
                    "",
                    "Program",
                    "Entry",
                    "entry",
                    "from_scratch",
                    "gene_vectors",
                    "label_column",
                    "perturbation_data",
                    "samples",
                    "steps",
                ]
                .contains(&used.as_str()),
                "{} uses `{used}`",
                source.path.display()
            );
        }
        let name = source
            .path
            .components()
            .nth(1)
            .expect("a file")
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        for other in [
            "annotate",
            "checkpoint",
            "embed",
            "finetune_annotation",
            "generate",
            "integrate",
            "map_reference",
            "pretrain",
            "tokenize",
        ] {
            let from_above = format!("super::{other}::");
            let is_top = source.path.components().count() == 2;
            assert!(
                !is_top || other == name || !source.code.contains(&from_above),
                "{} uses `{other}`",
                source.path.display()
            );
        }
    }
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, allowed) in CRATES {
            let is_named = |line: &str| {
                line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                })
            };
            if source.code.lines().any(is_named) && !allowed.contains(&source.module()) {
                wrong.push(format!(
                    "{}: `{}` may not use the crate `{name}`",
                    source.path.display(),
                    source.module()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_have_names() {
    for source in sources() {
        let parts = source
            .path
            .iter()
            .map(|part| part.to_str().unwrap().trim_end_matches(".rs"));
        assert!(
            !parts.into_iter().any(|part| NAMELESS.contains(&part)),
            "{}: name it after what it is about",
            source.path.display()
        );
    }
}

/// Functions of formatted code with their lengths in lines, signature and braces included.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(at) = line.find("fn ") else { continue };
        let qualifiers = line[..at].split_whitespace();
        let mut words = qualifiers.map(|word| word.split('(').next().unwrap_or(word));
        if !words.all(|word| ["pub", "const", "async", "unsafe", "extern", "in"].contains(&word)) {
            continue;
        }
        // The signature ends where the body opens, or it has no body of its own lines.
        let ends = |line: &&&str| line.ends_with(['{', '}', ';']);
        if !lines[start..]
            .iter()
            .find(ends)
            .is_some_and(|line| line.ends_with('{'))
        {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
            found.push((word(&line[at + "fn ".len()..]), length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        let functions = functions(&source.code)
            .into_iter()
            .filter(|(_, lines)| *lines > LONGEST_FUNCTION);
        long.extend(
            functions.map(|(name, lines)| {
                format!("{}: `{name}` has {lines} lines", source.path.display())
            }),
        );
    }
    assert!(
        long.is_empty(),
        "longer than {LONGEST_FUNCTION} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn files_of_a_directory_do_not_import_each_other_in_circles() {
    let files = sources().into_iter();
    let files: Vec<_> = files
        .map(|source| (siblings::module(&source.path), source.code))
        .collect();
    assert_eq!(siblings::circles(&files), Vec::<String>::new());
}

#[test]
fn circles_of_siblings_are_found() {
    let file = |name: &str, code: &str| (siblings::module(Path::new(name)), code.to_owned());
    let made = |second: &str| {
        siblings::circles(&[
            file("a/mod.rs", "mod b;\nmod c;\nuse b::X;\n"),
            file("a/b.rs", "use super::c::{self, Y};\nuse super::Error;\n"),
            file("a/c.rs", "use crate::{a::d::{E, F}, g};\n"),
            file("a/d.rs", second),
            file("g.rs", "use crate::a::b::X;\n"),
        ])
    };
    assert_eq!(made("fn f() { other::g(); }\n"), Vec::<String>::new());
    assert_eq!(
        made("fn f() { super::b::g(); }\n"),
        ["a::b", "a::c", "a::d"]
    );
    assert_eq!(
        made("use crate::{\n    a::{c::G, x},\n};\n"),
        ["a::c", "a::d"]
    );
}

#[test]
fn these_checks_see_what_they_look_for() {
    let code = "use crate::{a::B, c::{D, e::F}, g};\nuse super::x;\nfn f() { crate::h::i(); mycrate::j(); }\n";
    assert_eq!(
        uses(code).into_iter().collect::<Vec<_>>(),
        ["a", "c", "g", "h"]
    );
    let tested = "fn a() {\n}\n#[cfg(test)]\nmod tests {\n    use crate::z;\n}\n// crate::y\nfn b() {\n    1;\n}\n";
    assert_eq!(without_tests(tested), "fn a() {\n}\nfn b() {\n    1;\n}\n");
    assert_eq!(
        functions(&without_tests(tested)),
        [("a".to_owned(), 2), ("b".to_owned(), 3)]
    );
    assert!(
        functions("    let f = |x: fn ()| x;\n}\n    fn a();\n    fn b() {}\n    }\n").is_empty()
    );
}
