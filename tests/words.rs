//! Every text that a user can meet, and every comment, uses the terms of `docs/glossary.md`: words of `tests/words.tsv` are found.

use regex::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a word of the list has another, right sense: start of the path, the word, the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("modules", "licence", "a key of nf-core's meta.yml"),
    ("src/analysis", "neighbours", "a key of golden files"),
    ("src/expression", "normalised", "a key of golden files"),
    ("src/baselines", "asked", "a key of golden files"),
];

/// What is read: directories and files of the repository.
const PLACES: [&str; 12] = [
    "src",
    "tools",
    "modules",
    "workflows",
    "conf",
    "docs",
    "assets",
    "main.nf",
    "nextflow.config",
    "nextflow_schema.json",
    "README.md",
    "CHANGELOG.md",
];

const ENDINGS: [&str; 12] = [
    "rs", "xml", "json", "yml", "md", "nf", "test", "config", "js", "css", "csv", "sample",
];

/// The list of words, as one expression, and what to write instead of each.
struct Words {
    expression: Regex,
    standard: HashMap<String, String>,
}

impl Words {
    fn read() -> Self {
        let list = fs::read_to_string(root().join("tests/words.tsv")).expect("the list of words");
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        let standard: HashMap<String, String> = lines
            .skip(1)
            .flat_map(|line| {
                let (words, write) = line.rsplit_once('\t').expect("words, a tab, what to write");
                let words = words.split('|').map(|word| word.replace("\\t", "\t"));
                words.map(move |word| (word.to_lowercase(), write.to_owned()))
            })
            .collect();
        let mut words: Vec<&String> = standard.keys().collect();
        // Of alternatives that fit, the first is taken.
        words.sort_by_key(|word| (std::cmp::Reverse(word.len()), word.as_str()));
        let words: Vec<String> = words.into_iter().map(|word| spaced(word)).collect();
        let expression = format!(r"(?:^|[^\w-])({})(?:$|[^\w-])", words.join("|"));
        let expression = RegexBuilder::new(&expression)
            .case_insensitive(true)
            .size_limit(1 << 28)
            .build()
            .expect("an expression");
        Self {
            expression,
            standard,
        }
    }

    /// Words of the list in a text: line, word, what to write.
    fn find(&self, text: &str) -> Vec<(usize, String, &str)> {
        // Tabs belong to a word: they separate columns.
        let marks = Regex::new(r"[ \n]+(?://[/!]?[ \n]*)?").expect("an expression");
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(hit) = self.expression.captures_at(text, at) {
            let word = hit.get(1).expect("a word");
            let line = text[..word.start()].matches('\n').count() + 1;
            let name = marks.replace_all(word.as_str(), " ").to_lowercase();
            let write = self.standard.get(&name);
            found.push((line, name, write.map_or("", String::as_str)));
            at = word.end();
        }
        found
    }
}

/// The word with any white space, and the marks of comments, where it has a space.
fn spaced(word: &str) -> String {
    let parts: Vec<String> = word.split(' ').map(regex::escape).collect();
    parts.join(r"\s+(?://[/!]?\s*)?")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a path that hold text.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    let is_text = |path: &Path| {
        ENDINGS
            .iter()
            .any(|end| path.extension().is_some_and(|e| e == *end))
    };
    if path.is_file() {
        found.extend(is_text(path).then(|| path.to_owned()));
        return;
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    entries.retain(|path| !path.ends_with("test-data"));
    entries.iter().for_each(|path| files(path, found));
}

/// Comments and texts of Rust; what is between them is blank. Names of random streams are no texts: nobody reads them.
fn comments_and_texts(source: &str) -> String {
    let token = r####"(?s)//[^\n]*|b?r#".*?"#|b?r"[^"]*"|b?"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'"####;
    let token = Regex::new(token).expect("an expression");
    let blank = |text: &str| text.chars().filter(|c| *c == '\n').collect::<String>() + " ";
    let mut texts = String::new();
    let mut last = 0;
    for part in token.find_iter(source) {
        texts += &blank(&source[last..part.start()]);
        let is_stream = source[..part.start()].trim_end().ends_with("stream(");
        if !part.as_str().starts_with('\'') && !is_stream {
            texts += &part.as_str().replace("\\t", "\t");
        }
        last = part.end();
    }
    texts
}

#[test]
fn every_text_uses_the_words_of_the_field() {
    let words = Words::read();
    let mut paths = Vec::new();
    PLACES
        .iter()
        .for_each(|place| files(&root().join(place), &mut paths));
    assert!(paths.len() > 400, "{} files", paths.len());
    let mut problems = Vec::new();
    for path in paths {
        let name = path
            .strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = match name.ends_with(".rs") {
            true => comments_and_texts(&text),
            false => text,
        };
        let is_exception = |word: &str| {
            let mut exceptions = EXCEPTIONS.iter();
            exceptions.any(|(place, allowed, _)| name.starts_with(place) && word == *allowed)
        };
        // The page that explains the words.
        let found = match name == "docs/glossary.md" {
            true => Vec::new(),
            false => words.find(&text),
        };
        for (line, word, write) in found {
            if !is_exception(&word) {
                problems.push(format!("{name}:{line}: `{word}`: write {write}"));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{}\n{} words",
        problems.join("\n"),
        problems.len()
    );
}

#[test]
fn a_word_of_the_list_is_found_and_the_standard_word_named() {
    let words = Words::read();
    let source = "let told = 1; // The model tells\n/// a share\n/// of cells\nlet a = \"--truth x\"; let b = 'c';";
    let found = words.find(&comments_and_texts(source));
    let found: Vec<(usize, &str)> = found
        .iter()
        .map(|(line, word, _)| (*line, word.as_str()))
        .collect();
    assert_eq!(found, [(1, "tells"), (2, "share of"), (4, "--truth")]);
    assert!(words.find("share of")[0].2.contains("fraction"));
    assert!(
        words
            .find("The fraction of cells; foretold; --truths; un-hide")
            .is_empty()
    );
}

#[test]
fn exceptions_are_few_and_needed() {
    assert!(EXCEPTIONS.len() <= 10);
    let words = Words::read();
    for (place, word, reason) in EXCEPTIONS {
        let mut paths = Vec::new();
        let place = root().join(place);
        files(&place, &mut paths);
        let text: String = paths
            .iter()
            .map(|path| fs::read_to_string(path).expect("a text"))
            .collect();
        assert!(
            words.find(&text).iter().any(|(_, found, _)| found == word),
            "{word}: {reason}"
        );
    }
}
