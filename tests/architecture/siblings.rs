//! Files of one directory: which import which, and whether any do so in a circle.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module, by the names of its parents and its own.
pub type Module = Vec<String>;

/// The module of a file below `src`.
pub fn module(path: &Path) -> Module {
    let names = path.with_extension("");
    let names = names
        .iter()
        .map(|name| name.to_str().expect("UTF-8").to_owned());
    let mut names: Module = names.collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// Paths in some code: those of `use`, braces written out, and those in expressions and types.
fn paths(code: &str) -> Vec<String> {
    let statement =
        Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);").expect("an expression");
    let inline = Regex::new(r"\b(?:crate|super|self)(?:::\w+)+").expect("an expression");
    let trees = statement.captures_iter(code);
    let trees = trees.map(|found| found[1].split_whitespace().collect::<String>());
    let mut paths: Vec<String> = trees.flat_map(|tree| written_out(&tree)).collect();
    paths.extend(
        inline
            .find_iter(code)
            .map(|found| found.as_str().to_owned()),
    );
    paths
}

/// `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn written_out(tree: &str) -> Vec<String> {
    let Some((head, body)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let body = body.strip_suffix('}').unwrap_or(body);
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&body[start..]);
    let items = items.into_iter().filter(|item| !item.is_empty());
    items
        .flat_map(|item| written_out(&format!("{head}{item}")))
        .collect()
}

/// The module of `modules` that a path in `from` leads to.
fn target(path: &str, from: &Module, modules: &BTreeSet<&Module>) -> Option<Module> {
    let mut names: Vec<&str> = path.split("::").collect();
    let mut absolute = match names[0] {
        "crate" => Module::new(),
        "self" | "super" => from.clone(),
        // A child of this module, or another crate.
        first => {
            let child: Module = from.iter().cloned().chain([first.to_owned()]).collect();
            modules.contains(&child).then(|| from.clone())?
        }
    };
    if matches!(names[0], "crate" | "self") {
        names.remove(0);
    }
    while names.first() == Some(&"super") {
        absolute.pop();
        names.remove(0);
    }
    absolute.extend(names.into_iter().map(str::to_owned));
    while !absolute.is_empty() && !modules.contains(&absolute) {
        absolute.pop();
    }
    (!absolute.is_empty() && absolute != *from).then_some(absolute)
}

/// Circles of siblings, by the directory that they are in: modules each of which leads to each other.
pub fn circles(files: &[(Module, String)]) -> Vec<String> {
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, code) in files {
        for to in paths(code)
            .iter()
            .filter_map(|path| target(path, from, &modules))
        {
            // The first names in which both differ are siblings.
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if shared > 0 && shared < from.len() && shared < to.len() {
                let sibling = |module: &Module| module[..=shared].to_vec();
                imports
                    .entry(sibling(from))
                    .or_default()
                    .insert(sibling(&to));
            }
        }
    }
    let reached = |start: &Module| {
        let (mut found, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(module) = open.pop() {
            for next in imports.get(&module).into_iter().flatten() {
                if found.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        found
    };
    let in_circle = imports
        .keys()
        .filter(|module| reached(module).contains(*module));
    in_circle.map(|module| module.join("::")).collect()
}
