//! What was done to a cell, as the labels of a column of the cell table (obs) spell it.
//!
//! Labels follow GEARS (Roohani et al. 2024, Nat Biotechnol 42:927; reference 11.4): `ctrl`, `GENE+ctrl`, `GENE1+GENE2`, with
//! any delimiter and control name. A gene may carry a direction, `GENE(+)` or `GENE(-)`. The order of the genes and further
//! `ctrl` parts mean nothing: `A+B`, `B+A` and `A+B+ctrl` are one perturbation.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Genes that one perturbation may hit.
pub const MOST: usize = 8;
/// Marks of direction after the name of a gene, and whether they say that it was raised.
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
/// Unreadable labels that an error shows.
const OFFENCES_SHOWN: usize = 3;
/// Labels found that an error shows.
const LABELS_SHOWN: usize = 5;

/// A gene, and whether it was raised (over-expressed, written `GENE(+)`) rather than knocked out or down (`GENE(-)` or `GENE`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Its name as in the label.
    pub gene: String,
    pub raised: bool,
}

impl Target {
    /// `GENE`, `GENE(-)` or `GENE(+)`, with or without blanks in between.
    fn read(part: &str) -> Self {
        let marked = |&(mark, raised)| Some((part.strip_suffix(mark)?, raised));
        let (gene, raised) = DIRECTIONS.iter().find_map(marked).unwrap_or((part, false));
        let gene = gene.trim().to_owned();
        Self { gene, raised }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.gene, if self.raised { "(+)" } else { "" })
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

/// Why a label names no perturbation; completes the sentence "the label `...` ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misspelt {
    #[error("is empty")]
    Empty,
    #[error("lacks a gene before or after a `{delimiter}`")]
    EmptyPart { delimiter: String },
    #[error("names the gene {gene} twice")]
    Twice { gene: String },
    #[error("names {found} genes, but at most {MOST} can be perturbed together")]
    ManyGenes { found: usize },
}

/// How labels are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelling {
    /// Between genes; `+` if not given.
    pub delimiter: String,
    /// Label of control cells, which may also stand for a missing second gene; `ctrl` if not given.
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
    /// Reads one label. Blanks around the label and its parts do not count, upper and lower case do.
    pub fn parse(&self, label: &str) -> Result<Perturbation, Misspelt> {
        let (label, control) = (label.trim(), self.control.trim());
        if label.is_empty() {
            return Err(Misspelt::Empty);
        }
        if label == control {
            return Ok(Perturbation(Vec::new()));
        }
        let mut targets = Vec::new();
        for part in self.parts(label).into_iter().map(str::trim) {
            let target = Target::read(part);
            if target.gene.is_empty() {
                let delimiter = self.delimiter.clone();
                return Err(Misspelt::EmptyPart { delimiter });
            }
            if part != control && target.gene != control {
                targets.push(target);
            }
        }
        in_order(targets)
    }

    /// What stands between delimiters; a `+` or `-` in a mark of direction is none.
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
fn in_order(mut targets: Vec<Target>) -> Result<Perturbation, Misspelt> {
    targets.sort();
    if let Some(pair) = targets.windows(2).find(|pair| pair[0].gene == pair[1].gene) {
        let gene = pair[0].gene.clone();
        return Err(Misspelt::Twice { gene });
    }
    match targets.len() {
        found if found > MOST => Err(Misspelt::ManyGenes { found }),
        _ => Ok(Perturbation(targets)),
    }
}

/// A label and the number of cells that bear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borne {
    pub label: String,
    pub cells: usize,
}

impl Borne {
    fn new((&label, &cells): (&&str, &usize)) -> Self {
        let label = label.to_owned();
        Self { label, cells }
    }
}

impl fmt::Display for Borne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = if self.cells == 1 { "cell" } else { "cells" };
        write!(f, "`{}` ({} {cells})", self.label, self.cells)
    }
}

/// Why the labels of a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The first unreadable labels, and the number of the others.
    #[error(
        "the column of `--condition` has labels that name no perturbation: {}{}; expected {}; correct them, leave their cells out with `--ignore`, or say with `--delimiter` what stands between genes",
        offences(shown), and_more(*others), forms(spelling)
    )]
    Misspelt {
        shown: Vec<(Borne, Misspelt)>,
        others: usize,
        spelling: Spelling,
    },
    /// The first labels found, and the number of the others.
    #[error(
        "there are no control cells: no label in the column of `--condition` is `{control}`; {}; {}",
        labels_found(shown, *others), advice(suggestion.as_deref())
    )]
    NoControl {
        control: String,
        shown: Vec<Borne>,
        others: usize,
        suggestion: Option<String>,
    },
    #[error(
        "`{0}` is named both as the control in `--control` and in `--ignore`, but control cells are needed: take it out of `--ignore`"
    )]
    ControlIgnored(String),
    #[error(
        "there are no perturbed cells: all {cells} cells with a label in the column of `--condition` are controls (`{control}`); name the column that says which gene was perturbed with `--condition`, or the label of the controls with `--control`"
    )]
    NoPerturbed { control: String, cells: usize },
    #[error("no cell bears {}, named in `--ignore`; {}; correct `--ignore`", quoted(names), labels_found(shown, *others))]
    IgnoredUnknown {
        names: Vec<String>,
        shown: Vec<Borne>,
        others: usize,
    },
}

fn offences(shown: &[(Borne, Misspelt)]) -> String {
    let texts: Vec<String> = shown
        .iter()
        .map(|(borne, why)| format!("{borne} {why}"))
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

fn labels_found(shown: &[Borne], others: usize) -> String {
    if shown.is_empty() {
        return "no cell has a label that is not ignored".to_owned();
    }
    let texts: Vec<String> = shown.iter().map(Borne::to_string).collect();
    format!("the labels are {}{}", texts.join(", "), and_more(others))
}

fn advice(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(label) => format!("if `{label}` is the control, say `--control {}`", shell(label)),
        None => "name the label of the control cells with `--control`, or another column with `--condition`".to_owned(),
    }
}

/// As typed in a shell.
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

/// What was done to the cells of a file.
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
        require_borne(ignored, &tally)?;
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
fn first(tally: &Tally<'_>) -> (Vec<Borne>, usize) {
    let shown: Vec<Borne> = tally.iter().take(LABELS_SHOWN).map(Borne::new).collect();
    let others = tally.len() - shown.len();
    (shown, others)
}

fn require_borne(ignored: &[String], tally: &Tally<'_>) -> Result<(), ReadError> {
    let unknown = |name: &&String| !tally.contains_key(name.trim());
    let names: Vec<String> = ignored.iter().filter(unknown).cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let (shown, others) = first(tally);
    Err(ReadError::IgnoredUnknown {
        names,
        shown,
        others,
    })
}

/// What every label says, or the first that say nothing.
fn parse_all<'l>(
    tally: &Tally<'l>,
    spelling: &Spelling,
) -> Result<IndexMap<&'l str, Perturbation>, ReadError> {
    let mut read = IndexMap::with_capacity(tally.len());
    let mut shown = Vec::new();
    for (label, cells) in tally {
        match spelling.parse(label) {
            Ok(perturbation) => {
                read.insert(*label, perturbation);
            }
            Err(why) => shown.push((Borne::new((label, cells)), why)),
        }
    }
    let others = shown.len().saturating_sub(OFFENCES_SHOWN);
    shown.truncate(OFFENCES_SHOWN);
    if shown.is_empty() {
        return Ok(read);
    }
    Err(ReadError::Misspelt {
        shown,
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
        let (shown, others) = first(tally);
        return Err(ReadError::NoControl {
            control,
            shown,
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

/// Whether controls are often called so, in whatever case and with blanks, hyphens or underscores.
fn is_usual_control(label: &str) -> bool {
    let plain = label.to_lowercase().replace([' ', '_'], "-");
    CONTROLS.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(label: &str) -> Result<String, Misspelt> {
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
    fn wrong_labels_say_what_is_wrong() {
        let delimiter = || "+".to_owned();
        assert_eq!(parse("  "), Err(Misspelt::Empty));
        for label in ["A++B", "A+", "+A", "+", "(+)", "A+(-)"] {
            let expected = Err(Misspelt::EmptyPart {
                delimiter: delimiter(),
            });
            assert_eq!(parse(label), expected, "{label}");
        }
        for label in ["A+A", "A+B+A", "A(+)+A(-)"] {
            let gene = "A".to_owned();
            assert_eq!(parse(label), Err(Misspelt::Twice { gene }), "{label}");
        }
        assert!(parse("A+B+C+D+E+F+G+H+ctrl").is_ok());
        let many = parse("A+B+C+D+E+F+G+H+I");
        assert_eq!(many, Err(Misspelt::ManyGenes { found: 9 }));
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
    fn missing_controls_are_looked_for() {
        let mut texts = vec!["A", "B", "A", "C", "D", "E", "F"];
        let message = failure(&texts, &[]).to_string();
        let found = "no label in the column of `--condition` is `ctrl`; the labels are `A` (2 cells), `B` (1 cell), `C` (1 cell), `D` (1 cell), `E` (1 cell), and 1 more label; name the label of the control cells with `--control`";
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
                message.ends_with(&format!("say `--control {name}`")),
                "{message}"
            );
            texts.pop();
        }
        texts.push("non targeting");
        let message = failure(&texts, &[]).to_string();
        assert!(
            message.ends_with("say `--control 'non targeting'`"),
            "{message}"
        );
    }

    #[test]
    fn files_without_use_are_refused() {
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
            message.contains("no cell bears `x`, `y`, named in `--ignore`"),
            "{message}"
        );
        assert_eq!(
            failure(&["ctrl", "A"], &["ctrl"]),
            ReadError::ControlIgnored("ctrl".to_owned())
        );
    }
}
