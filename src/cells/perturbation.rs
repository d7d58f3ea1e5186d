//! Perturbation of each cell, read from the labels of a column of obs.
//!
//! Labels follow GEARS (Roohani et al. 2024, Nat Biotechnol 42:927; docs/methods.md, "Perturbation splits"): `ctrl`,
//! `GENE+ctrl`, `GENE1+GENE2`, with any delimiter and control name. A gene may carry a direction, `GENE(+)` or `GENE(-)`. The
//! order of the genes and further `ctrl` parts are ignored: `A+B`, `B+A` and `A+B+ctrl` are one perturbation.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Maximum number of genes of a perturbation.
pub const MOST: usize = 8;
/// Marks of direction after the name of a gene, and whether they mean activation (overexpression).
const DIRECTIONS: [(&str, bool); 2] = [("(+)", true), ("(-)", false)];
/// Usual names of control cells, in lower case with hyphens.
const CONTROLS: [&str; 16] = [
    "ctrl",
    "ctl",
    "control",
    "controls",
    "negative-control",
    "neg-ctrl",
    "non-targeting",
    "nontargeting",
    "safe-targeting",
    "nt",
    "untreated",
    "unperturbed",
    "vehicle",
    "dmso",
    "mock",
    "wt",
];
/// Invalid labels listed in an error.
const INVALID_LISTED: usize = 3;
/// Labels found that are listed in an error.
const LABELS_LISTED: usize = 5;

/// A gene, and whether it was activated (overexpression, `GENE(+)`) rather than knocked out or down (`GENE(-)` or `GENE`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Its name as in the label.
    pub gene: String,
    pub activated: bool,
}

impl Target {
    /// `GENE`, `GENE(-)` or `GENE(+)`, with or without blanks in between.
    fn read(part: &str) -> Self {
        let marked = |&(mark, activated)| Some((part.strip_suffix(mark)?, activated));
        let (gene, activated) = DIRECTIONS.iter().find_map(marked).unwrap_or((part, false));
        let gene = gene.trim().to_owned();
        Self { gene, activated }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.gene,
            if self.activated { "(+)" } else { "" }
        )
    }
}

/// Targets in order of their names, each gene once; none: a control cell.
///
/// Written `ctrl`, `A`, `A(+)` or `A+B`, whatever the spelling that it was read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Perturbation(Vec<Target>);

impl Perturbation {
    /// In order of the names.
    pub fn targets(&self) -> &[Target] {
        &self.0
    }

    /// Names of the targets, in order.
    pub fn genes(&self) -> Vec<&str> {
        self.0.iter().map(|target| target.gene.as_str()).collect()
    }

    pub fn is_control(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_control() {
            return f.write_str("ctrl");
        }
        let targets: Vec<String> = self.0.iter().map(Target::to_string).collect();
        f.write_str(&targets.join("+"))
    }
}

/// Why a label is no perturbation; the text follows the label in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misspelled {
    #[error("is empty")]
    Empty,
    #[error("lacks a gene before or after a `{delimiter}`")]
    EmptyPart { delimiter: String },
    #[error("names the gene {gene} twice")]
    Twice { gene: String },
    #[error("names {found} genes, but at most {MOST} can be perturbed together")]
    ManyGenes { found: usize },
}

/// Delimiter and control name of labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelling {
    /// Between genes; default `+`.
    pub delimiter: String,
    /// Label of control cells, also in place of a second gene; default `ctrl`.
    pub control: String,
}

impl Default for Spelling {
    fn default() -> Self {
        Self {
            delimiter: "+".to_owned(),
            control: "ctrl".to_owned(),
        }
    }
}

impl Spelling {
    /// Reads one label. Blanks around the label and its parts are ignored; case matters.
    pub fn parse(&self, label: &str) -> Result<Perturbation, Misspelled> {
        let (label, control) = (label.trim(), self.control.trim());
        if label.is_empty() {
            return Err(Misspelled::Empty);
        }
        if label == control {
            return Ok(Perturbation(Vec::new()));
        }
        let mut targets = Vec::new();
        for part in self.parts(label).into_iter().map(str::trim) {
            let target = Target::read(part);
            if target.gene.is_empty() {
                let delimiter = self.delimiter.clone();
                return Err(Misspelled::EmptyPart { delimiter });
            }
            if part != control && target.gene != control {
                targets.push(target);
            }
        }
        in_order(targets)
    }

    /// Text between delimiters; a `+` or `-` in a mark of direction is no delimiter.
    fn parts<'l>(&self, label: &'l str) -> Vec<&'l str> {
        let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
        while let Some(next) = label[at..].chars().next() {
            let rest = &label[at..];
            let mark = DIRECTIONS.iter().find(|(mark, _)| rest.starts_with(mark));
            if let Some((mark, _)) = mark {
                at += mark.len();
            } else if !self.delimiter.is_empty() && rest.starts_with(&self.delimiter) {
                parts.push(&label[start..at]);
                at += self.delimiter.len();
                start = at;
            } else {
                at += next.len_utf8();
            }
        }
        parts.push(&label[start..]);
        parts
    }
}

/// Sorts targets; fails if a gene is there twice, in either direction, or if there are too many.
fn in_order(mut targets: Vec<Target>) -> Result<Perturbation, Misspelled> {
    targets.sort();
    if let Some(pair) = targets.windows(2).find(|pair| pair[0].gene == pair[1].gene) {
        let gene = pair[0].gene.clone();
        return Err(Misspelled::Twice { gene });
    }
    match targets.len() {
        found if found > MOST => Err(Misspelled::ManyGenes { found }),
        _ => Ok(Perturbation(targets)),
    }
}

/// A label and its number of cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCount {
    pub label: String,
    pub cells: usize,
}

impl LabelCount {
    fn new((&label, &cells): (&&str, &usize)) -> Self {
        let label = label.to_owned();
        Self { label, cells }
    }
}

impl fmt::Display for LabelCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = if self.cells == 1 { "cell" } else { "cells" };
        write!(f, "`{}` ({} {cells})", self.label, self.cells)
    }
}

/// Why the labels of a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The first invalid labels, and the number of the others.
    #[error(
        "the column of `--condition` has labels that are no perturbation: {}{}; expected {}; correct them, exclude their cells with `--ignore`, or give the delimiter between genes with `--delimiter`",
        invalid_labels(listed), and_more(*others), forms(spelling)
    )]
    Misspelled {
        listed: Vec<(LabelCount, Misspelled)>,
        others: usize,
        spelling: Spelling,
    },
    /// The first labels found, and the number of the others.
    #[error(
        "there are no control cells: no label in the column of `--condition` is `{control}`; {}; {}",
        labels_found(listed, *others), advice(suggestion.as_deref())
    )]
    NoControl {
        control: String,
        listed: Vec<LabelCount>,
        others: usize,
        suggestion: Option<String>,
    },
    #[error(
        "`{0}` is given both as `--control` and in `--ignore`, but control cells are needed: remove it from `--ignore`"
    )]
    ControlIgnored(String),
    #[error(
        "there are no perturbed cells: all {cells} cells with a label in the column of `--condition` are controls (`{control}`); give the column with the perturbed genes with `--condition`, or the label of the controls with `--control`"
    )]
    NoPerturbed { control: String, cells: usize },
    #[error("no cell has the label {} of `--ignore`; {}; correct `--ignore`", quoted(names), labels_found(listed, *others))]
    IgnoredUnknown {
        names: Vec<String>,
        listed: Vec<LabelCount>,
        others: usize,
    },
}

fn invalid_labels(listed: &[(LabelCount, Misspelled)]) -> String {
    let texts: Vec<String> = listed
        .iter()
        .map(|(label, why)| format!("{label} {why}"))
        .collect();
    texts.join(", ")
}

fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => ", and 1 more label".to_owned(),
        _ => format!(", and {others} more labels"),
    }
}

fn forms(Spelling { delimiter, control }: &Spelling) -> String {
    format!("`{control}`, `GENE`, `GENE{delimiter}{control}` or `GENE1{delimiter}GENE2`")
}

fn labels_found(listed: &[LabelCount], others: usize) -> String {
    if listed.is_empty() {
        return "no cell has a label that is not ignored".to_owned();
    }
    let texts: Vec<String> = listed.iter().map(LabelCount::to_string).collect();
    format!("the labels are {}{}", texts.join(", "), and_more(others))
}

fn advice(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(label) => format!("if `{label}` is the control, use `--control {}`", shell(label)),
        None => "give the label of the control cells with `--control`, or another column with `--condition`".to_owned(),
    }
}

/// Quoted for a shell where needed.
fn shell(label: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.+".contains(c);
    if label.chars().all(is_plain) {
        label.to_owned()
    } else {
        format!("'{}'", label.replace('\'', r"'\''"))
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Distinct labels without blanks around, in order of appearance, with their numbers of cells.
type Tally<'l> = IndexMap<&'l str, usize>;

/// Perturbations of the cells of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// Sorted: the control first, then by names of genes.
    pub distinct: Vec<Perturbation>,
    /// Index into `distinct` of every cell; none if its label is missing or ignored.
    pub of_cell: Vec<Option<u32>>,
}

impl Conditions {
    /// Reads the labels of all cells. There must be control cells and perturbed cells, and a cell for every ignored label.
    pub fn read(
        labels: &[Option<String>],
        spelling: &Spelling,
        ignored: &[String],
    ) -> Result<Self, ReadError> {
        let mut tally = tally(labels);
        require_used(ignored, &tally)?;
        let control = spelling.control.trim();
        if ignored.iter().any(|name| name.trim() == control) {
            return Err(ReadError::ControlIgnored(control.to_owned()));
        }
        tally.retain(|label, _| !ignored.iter().any(|name| name.trim() == *label));
        let read = parse_all(&tally, spelling)?;
        let distinct = in_use(&read, &tally, spelling)?;
        let place = |perturbation| distinct.binary_search(perturbation).ok();
        let index: HashMap<&str, u32> = read
            .iter()
            .filter_map(|(&label, perturbation)| Some((label, place(perturbation)? as u32)))
            .collect();
        let of = |label: &Option<String>| index.get(label.as_deref()?.trim()).copied();
        let of_cell = labels.iter().map(of).collect();
        Ok(Self { distinct, of_cell })
    }
}

fn tally(labels: &[Option<String>]) -> Tally<'_> {
    let mut tally = Tally::new();
    for label in labels.iter().flatten() {
        *tally.entry(label.trim()).or_default() += 1;
    }
    tally
}

/// The first labels, and the number of the others.
fn first(tally: &Tally<'_>) -> (Vec<LabelCount>, usize) {
    let listed: Vec<LabelCount> = tally
        .iter()
        .take(LABELS_LISTED)
        .map(LabelCount::new)
        .collect();
    let others = tally.len() - listed.len();
    (listed, others)
}

fn require_used(ignored: &[String], tally: &Tally<'_>) -> Result<(), ReadError> {
    let unknown = |name: &&String| !tally.contains_key(name.trim());
    let names: Vec<String> = ignored.iter().filter(unknown).cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let (listed, others) = first(tally);
    Err(ReadError::IgnoredUnknown {
        names,
        listed,
        others,
    })
}

/// The perturbation of every label, or an error with the first invalid labels.
fn parse_all<'l>(
    tally: &Tally<'l>,
    spelling: &Spelling,
) -> Result<IndexMap<&'l str, Perturbation>, ReadError> {
    let mut read = IndexMap::with_capacity(tally.len());
    let mut listed = Vec::new();
    for (label, cells) in tally {
        match spelling.parse(label) {
            Ok(perturbation) => {
                read.insert(*label, perturbation);
            }
            Err(why) => listed.push((LabelCount::new((label, cells)), why)),
        }
    }
    let others = listed.len().saturating_sub(INVALID_LISTED);
    listed.truncate(INVALID_LISTED);
    if listed.is_empty() {
        return Ok(read);
    }
    Err(ReadError::Misspelled {
        listed,
        others,
        spelling: spelling.clone(),
    })
}

/// All perturbations in order; fails unless there are controls and others.
fn in_use(
    read: &IndexMap<&str, Perturbation>,
    tally: &Tally<'_>,
    spelling: &Spelling,
) -> Result<Vec<Perturbation>, ReadError> {
    let sorted: BTreeSet<&Perturbation> = read.values().collect();
    let distinct: Vec<Perturbation> = sorted.into_iter().cloned().collect();
    let control = spelling.control.trim().to_owned();
    if !distinct.first().is_some_and(Perturbation::is_control) {
        let suggestion = tally.keys().find(|label| is_usual_control(label));
        let (listed, others) = first(tally);
        return Err(ReadError::NoControl {
            control,
            listed,
            others,
            suggestion: suggestion.map(|&label| label.to_owned()),
        });
    }
    if distinct.len() == 1 {
        let cells = tally.values().sum();
        return Err(ReadError::NoPerturbed { control, cells });
    }
    Ok(distinct)
}

/// Whether the label is a usual name of controls, in any case and with blanks, hyphens or underscores.
fn is_usual_control(label: &str) -> bool {
    let plain = label.to_lowercase().replace([' ', '_'], "-");
    CONTROLS.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(label: &str) -> Result<String, Misspelled> {
        Spelling::default().parse(label).map(|p| p.to_string())
    }

    fn labels(texts: &[&str]) -> Vec<Option<String>> {
        let label = |text: &&str| (*text != "-").then(|| (*text).to_owned());
        texts.iter().map(label).collect()
    }

    fn failure(texts: &[&str], ignored: &[&str]) -> ReadError {
        let ignored: Vec<String> = ignored.iter().map(|&name| name.to_owned()).collect();
        Conditions::read(&labels(texts), &Spelling::default(), &ignored).unwrap_err()
    }

    #[test]
    fn spellings_of_one_perturbation_are_equal() {
        for (expected, spellings) in [
            ("ctrl", &["ctrl", " ctrl ", "ctrl+ctrl"][..]),
            ("A", &["A", "A+ctrl", "ctrl+A", "A(-)", " A +ctrl", "A (-)"]),
            ("A(+)", &["A(+)", "A(+)+ctrl", "ctrl+A(+)", "A (+)"]),
            ("A+B", &["A+B", "B+A", "A+B+ctrl", " B + A ", "A(-)+B(-)"]),
            ("A(+)+B", &["B(-)+A(+)", "A(+)+B", "B+ctrl+A(+)"]),
            ("A+B+C", &["C+A+B"]),
        ] {
            for spelling in spellings {
                assert_eq!(parse(spelling).as_deref(), Ok(expected), "{spelling}");
            }
        }
        assert_ne!(parse("A(+)"), parse("A"));
    }

    #[test]
    fn delimiters_and_controls_are_free_texts() {
        let spelling = |delimiter: &str, control: &str| Spelling {
            delimiter: delimiter.to_owned(),
            control: control.to_owned(),
        };
        for (delimiter, control, label, expected) in [
            ("_", "control", "AHR_FEV", "AHR+FEV"),
            ("_", "control", "control", "ctrl"),
            (";", "NT", "HLA-A(+); NT", "HLA-A(+)"),
            ("-", "non-targeting", "non-targeting", "ctrl"),
            ("-", "NT", "A(-)-B(+)", "A+B(+)"),
            ("--", "NT", "α--β-1", "α+β-1"),
            ("", "ctrl", "A+B", "A+B"),
            ("+", " NT(-) ", "NT(-)", "ctrl"),
        ] {
            let read = spelling(delimiter, control).parse(label).unwrap();
            assert_eq!(read.to_string(), expected, "{label}");
        }
        assert_eq!(spelling("", "ctrl").parse("A+B").unwrap().genes(), ["A+B"]);
    }

    #[test]
    fn wrong_labels_give_the_reason() {
        let delimiter = || "+".to_owned();
        assert_eq!(parse("  "), Err(Misspelled::Empty));
        for label in ["A++B", "A+", "+A", "+", "(+)", "A+(-)"] {
            let expected = Err(Misspelled::EmptyPart {
                delimiter: delimiter(),
            });
            assert_eq!(parse(label), expected, "{label}");
        }
        for label in ["A+A", "A+B+A", "A(+)+A(-)"] {
            let gene = "A".to_owned();
            assert_eq!(parse(label), Err(Misspelled::Twice { gene }), "{label}");
        }
        assert!(parse("A+B+C+D+E+F+G+H+ctrl").is_ok());
        let many = parse("A+B+C+D+E+F+G+H+I");
        assert_eq!(many, Err(Misspelled::ManyGenes { found: 9 }));
    }

    #[test]
    fn cells_share_conditions_whatever_the_spelling() {
        let texts = [
            "B+A", "ctrl", "-", "A+ctrl", "ctrl+A", "A+B", "x?", "A(+)", " ctrl",
        ];
        let ignored = ["x?".to_owned()];
        let read =
            Conditions::read(&labels(&texts), &Spelling::default(), &ignored).expect("readable");
        let names: Vec<String> = read.distinct.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["ctrl", "A", "A+B", "A(+)"]);
        let expected = [2, 0, 9, 1, 1, 2, 9, 3, 0].map(|i| (i < 9).then_some(i));
        assert_eq!(read.of_cell, expected);
    }

    #[test]
    fn the_first_wrong_labels_are_shown_with_their_cells() {
        let texts = ["ctrl", "A+", "B+B", "A+", "", "+C", "D++E", "A"];
        let message = failure(&texts, &[]).to_string();
        for part in [
            "`A+` (2 cells) lacks a gene before or after a `+`, `B+B` (1 cell) names the gene B twice, `` (1 cell) is empty, and 2 more labels;",
            "expected `ctrl`, `GENE`, `GENE+ctrl` or `GENE1+GENE2`;",
            "--condition",
            "--ignore",
            "--delimiter",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("+C"), "{message}");
        let one = failure(&["ctrl", "A+", "A"], &[]).to_string();
        assert!(!one.contains("more label"), "{one}");
    }

    #[test]
    fn missing_controls_are_searched() {
        let mut texts = vec!["A", "B", "A", "C", "D", "E", "F"];
        let message = failure(&texts, &[]).to_string();
        let found = "no label in the column of `--condition` is `ctrl`; the labels are `A` (2 cells), `B` (1 cell), `C` (1 cell), `D` (1 cell), `E` (1 cell), and 1 more label; give the label of the control cells with `--control`";
        assert!(message.contains(found), "{message}");
        for name in [
            "control",
            "non-targeting",
            "Non_Targeting",
            "NT",
            "CTRL",
            "DMSO",
            "mock",
            "unperturbed",
        ] {
            texts.push(name);
            let message = failure(&texts, &[]).to_string();
            assert!(
                message.ends_with(&format!("use `--control {name}`")),
                "{message}"
            );
            texts.pop();
        }
        texts.push("non targeting");
        let message = failure(&texts, &[]).to_string();
        assert!(
            message.ends_with("use `--control 'non targeting'`"),
            "{message}"
        );
    }

    #[test]
    fn files_without_use_are_rejected() {
        assert!(matches!(
            failure(&["ctrl", "-", "ctrl+ctrl"], &[]),
            ReadError::NoPerturbed { cells: 2, .. }
        ));
        for nothing in [&[][..], &["-", "-"]] {
            let message = failure(nothing, &[]).to_string();
            assert!(message.contains("no cell has a label"), "{message}");
        }
        let message = failure(&["ctrl", "A"], &["x", "A", "y"]).to_string();
        assert!(
            message.contains("no cell has the label `x`, `y` of `--ignore`"),
            "{message}"
        );
        assert_eq!(
            failure(&["ctrl", "A"], &["ctrl"]),
            ReadError::ControlIgnored("ctrl".to_owned())
        );
    }
}
