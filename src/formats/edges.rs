//! Tables of gene network edges: curated regulation (DoRothEA, TRRUST and others) and inferred networks.
//!
//! A header names the columns, in any order and among others; fields are separated by tabs, commas or semicolons; plain, gzip or
//! zstd. Lines that are blank or begin with `#` are dropped.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::delimited::table::Table;
use super::text::{Names, longest_line, shown};

/// What a regulator does to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sign {
    Activates,
    Represses,
    /// One or the other: sources differ, or it depends.
    Both,
    #[default]
    Unknown,
}

impl Sign {
    /// The sign from two sources.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Unknown) | (Self::Unknown, one) => one,
            (one, other) if one == other => one,
            _ => Self::Both,
        }
    }
}

/// One gene regulates another, or is similar to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    pub regulator: Arc<str>,
    pub target: Arc<str>,
    pub sign: Sign,
    /// Level of confidence, such as the letters of DoRothEA: A is the best.
    pub confidence: Option<Arc<str>>,
    /// Finite if there is one.
    pub score: Option<f64>,
    /// Condition or program to which the edge belongs.
    pub group: Option<Arc<str>>,
}

/// What a column may be called, in lower case; the first name that a header has counts.
struct Column {
    what: &'static str,
    names: &'static [&'static str],
}

const REGULATOR: Column = Column {
    what: "regulators",
    names: &["regulator", "tf", "source", "from"],
};
const TARGET: Column = Column {
    what: "targets",
    names: &["target", "gene", "to"],
};
const SIGN: Column = Column {
    what: "signs",
    names: &["sign", "mor", "mode", "effect"],
};
const CONFIDENCE: Column = Column {
    what: "levels of confidence",
    names: &["confidence", "level"],
};
const SCORE: Column = Column {
    what: "scores",
    names: &["score", "weight", "similarity", "importance"],
};
const GROUP: Column = Column {
    what: "conditions",
    names: &["condition", "program"],
};

/// Reads a table of edges with about `memory` bytes at most, in the order in which they first come.
///
/// `confidence` are the levels to keep, whatever their case; `None` keeps all edges and needs no such column. Edges of the same
/// regulator, target and group become one, with the best confidence (first in the alphabet), the score farthest from 0, and the sign
/// that is known; [`Sign::Both`] if signs contradict each other. Edges from a gene to itself are kept.
///
/// # Errors
/// A file that cannot be read or takes more memory; columns that are missing (the error lists those found); a row that is not as wide
/// as the header, without a regulator or target, with a sign that is neither a number nor a known word, or a score that is not a
/// finite number; levels none of which any row has.
pub fn read(
    path: &Path,
    confidence: Option<&BTreeSet<String>>,
    memory: usize,
) -> Result<Vec<Edge>, Error> {
    std::fs::metadata(path).map_err(|error| Error::opening(path, error))?;
    let mut table = Table::open(path, longest_line(memory))?;
    let columns = Columns::find(&table, confidence.is_some())?;
    let mut edges = Edges::within(memory);
    let mut levels = Levels::keep(confidence);
    while table.advance()? {
        let edge = columns
            .edge(&table, &mut edges)
            .map_err(|problem| table.wrong(problem))?;
        if levels.has(edge.confidence.as_deref()) {
            edges.add(edge).map_err(|problem| table.wrong(problem))?;
        }
    }
    levels.require_some(path)?;
    Ok(edges.edges)
}

/// Where the columns are.
struct Columns {
    regulator: usize,
    target: usize,
    sign: Option<usize>,
    confidence: Option<usize>,
    score: Option<usize>,
    group: Option<usize>,
    width: usize,
}

impl Columns {
    fn find(table: &Table, needs_confidence: bool) -> Result<Self, Error> {
        let header: Vec<Vec<u8>> = table
            .header
            .iter()
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .collect();
        let find = |column: &Column| {
            let mut names = column.names.iter();
            names.find_map(|name| header.iter().position(|found| found == name.as_bytes()))
        };
        let require = |column: &Column| find(column).ok_or_else(|| missing(table, column));
        Ok(Self {
            regulator: require(&REGULATOR)?,
            target: require(&TARGET)?,
            sign: find(&SIGN),
            confidence: match needs_confidence {
                true => Some(require(&CONFIDENCE)?),
                false => find(&CONFIDENCE),
            },
            score: find(&SCORE),
            group: find(&GROUP),
            width: header.len(),
        })
    }

    /// The edge of the current row, or what is wrong with it.
    fn edge(&self, table: &Table, edges: &mut Edges) -> Result<Edge, String> {
        let found = table.record.len();
        // Tables of R have names of rows, which the header drops.
        let extra = found.checked_sub(self.width).filter(|&extra| extra < 2);
        let extra = extra
            .ok_or_else(|| format!("{found} fields were found, {} were expected", self.width))?;
        let field = |at: usize| {
            table
                .record
                .get(at + extra)
                .unwrap_or_default()
                .trim_ascii()
        };
        let optional = |at: Option<usize>| at.map(field).filter(|text| !is_missing(text));
        let score = |text| {
            number(text)
                .ok_or_else(|| format!("the score `{}` is not a finite number", shown(text)))
        };
        let mut name = |text: Option<&[u8]>| text.map(|text| edges.name(text)).transpose();
        Ok(Edge {
            regulator: name(Some(gene(field(self.regulator), "regulator")?))?.unwrap_or_default(),
            target: name(Some(gene(field(self.target), "target")?))?.unwrap_or_default(),
            sign: optional(self.sign).map_or(Ok(Sign::Unknown), sign)?,
            confidence: name(optional(self.confidence))?,
            score: optional(self.score).map(score).transpose()?,
            group: name(self.group.map(field).filter(|text| !text.is_empty()))?,
        })
    }
}

fn missing(table: &Table, column: &Column) -> Error {
    let found: Vec<String> = table
        .header
        .iter()
        .take(20)
        .map(|name| format!("`{}`", shown(name)))
        .collect();
    let more = if table.header.len() > found.len() {
        ", ..."
    } else {
        ""
    };
    let problem = format!(
        "no column of {} was found: `{}` was expected in the header, which has {}{more}",
        column.what,
        column.names.join("` or `"),
        found.join(", ")
    );
    Error::input(table.path(), problem)
}

fn gene<'a>(text: &'a [u8], what: &str) -> Result<&'a [u8], String> {
    match text.is_empty() {
        true => Err(format!(
            "the {what} is empty, the name of a gene was expected"
        )),
        false => Ok(text),
    }
}

fn is_missing(text: &[u8]) -> bool {
    ["", "na", "nan", "n/a", "null", "none", "."]
        .iter()
        .any(|missing| text.eq_ignore_ascii_case(missing.as_bytes()))
}

fn number(text: &[u8]) -> Option<f64> {
    let number: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The sign that a number has or a word means.
fn sign(text: &[u8]) -> Result<Sign, String> {
    if let Some(number) = number(text) {
        return Ok(match number {
            number if number > 0.0 => Sign::Activates,
            number if number < 0.0 => Sign::Represses,
            _ => Sign::Unknown,
        });
    }
    match text.to_ascii_lowercase().as_slice() {
        b"+" | b"activation" | b"activates" | b"activator" | b"stimulation" | b"positive"
        | b"up" => Ok(Sign::Activates),
        b"-" | b"repression" | b"represses" | b"repressor" | b"inhibition" | b"negative"
        | b"down" => Ok(Sign::Represses),
        b"?" | b"unknown" | b"unspecified" => Ok(Sign::Unknown),
        b"both" | b"dual" => Ok(Sign::Both),
        _ => Err(format!(
            "`{}` is not a sign: a number, `+`, `-`, `activation`, `repression` or `unknown` was expected",
            shown(text)
        )),
    }
}

/// Levels of confidence that are kept, and those met.
struct Levels {
    wanted: Option<BTreeSet<String>>,
    any: bool,
    found: BTreeSet<String>,
}

impl Levels {
    fn keep(wanted: Option<&BTreeSet<String>>) -> Self {
        let lower =
            |wanted: &BTreeSet<String>| wanted.iter().map(|level| level.to_lowercase()).collect();
        Self {
            wanted: wanted.map(lower),
            any: false,
            found: BTreeSet::new(),
        }
    }

    fn has(&mut self, level: Option<&str>) -> bool {
        const SHOWN: usize = 10;
        let Some(wanted) = &self.wanted else {
            return true;
        };
        let level = level.unwrap_or_default();
        if wanted.contains(&level.to_lowercase()) {
            self.any = true;
            return true;
        }
        if self.found.len() < SHOWN && !self.found.contains(level) {
            self.found.insert(level.to_owned());
        }
        false
    }

    fn require_some(&self, path: &Path) -> Result<(), Error> {
        let Some(wanted) = self
            .wanted
            .as_ref()
            .filter(|_| !self.any && !self.found.is_empty())
        else {
            return Ok(());
        };
        let list = |levels: &BTreeSet<String>| {
            let levels: Vec<String> = levels
                .iter()
                .map(|level| format!("`{}`", shown(level.as_bytes())))
                .collect();
            levels.join(", ")
        };
        let problem = format!(
            "no edge has a level of confidence among {}; it has {}",
            list(wanted),
            list(&self.found)
        );
        Err(Error::input(path, problem))
    }
}

/// Regulator, target and group.
type Key = (Arc<str>, Arc<str>, Option<Arc<str>>);

/// Edges so far, each once, whose names are kept once.
struct Edges {
    names: HashSet<Arc<str>>,
    left: Names,
    limit: usize,
    edges: Vec<Edge>,
    places: HashMap<Key, usize>,
}

impl Edges {
    fn within(memory: usize) -> Self {
        Self {
            names: HashSet::new(),
            left: Names::within(memory / 2),
            limit: memory / 2 / (2 * (size_of::<Edge>() + size_of::<Key>())),
            edges: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn name(&mut self, bytes: &[u8]) -> Result<Arc<str>, String> {
        if let Some(known) = str::from_utf8(bytes)
            .ok()
            .and_then(|name| self.names.get(name))
        {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = self.left.name(bytes)?.into();
        self.names.insert(Arc::clone(&name));
        Ok(name)
    }

    fn add(&mut self, edge: Edge) -> Result<(), String> {
        let key = (
            Arc::clone(&edge.regulator),
            Arc::clone(&edge.target),
            edge.group.clone(),
        );
        if let Some(&place) = self.places.get(&key) {
            self.edges[place].merge(edge);
            return Ok(());
        }
        if self.edges.len() >= self.limit {
            return Err(format!(
                "there are more than {} edges, as many as the memory holds: give more memory",
                self.limit
            ));
        }
        self.places.insert(key, self.edges.len());
        self.edges.push(edge);
        Ok(())
    }
}

impl Edge {
    /// Merges another edge of the same genes.
    fn merge(&mut self, other: Self) {
        self.sign = self.sign.and(other.sign);
        self.confidence = match (self.confidence.take(), other.confidence) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        let own = self.score.take();
        self.score = match other.score {
            Some(score) if own.is_none_or(|own| score.abs() > own.abs()) => Some(score),
            _ => own,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::fuzz_mutations;

    const MEMORY: usize = 1 << 24;

    fn parse_levels(text: impl AsRef<[u8]>, levels: Option<&[&str]>) -> Result<Vec<Edge>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let levels = levels.map(|levels| levels.iter().map(|&level| level.to_owned()).collect());
        read(file.path(), levels.as_ref(), MEMORY)
    }

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<Edge>, Error> {
        parse_levels(text, None)
    }

    fn problem(text: impl AsRef<[u8]>) -> String {
        let error = parse(text).unwrap_err();
        assert!(!error.is_io());
        error.to_string()
    }

    fn edge(regulator: &str, target: &str) -> Edge {
        Edge {
            regulator: regulator.into(),
            target: target.into(),
            sign: Sign::Unknown,
            confidence: None,
            score: None,
            group: None,
        }
    }

    const DOROTHEA: &str =
        "tf\tconfidence\ttarget\tmor\nAR\tA\tKLK3\t1\nAR\tb\tACP3\t-1\nMYC\tD\tTERT\t0\n";

    #[test]
    fn truths_are_read_by_the_names_of_columns() {
        let known = |regulator, target, sign, level: &str| Edge {
            sign,
            confidence: Some(level.into()),
            ..edge(regulator, target)
        };
        let expected = [
            known("AR", "KLK3", Sign::Activates, "A"),
            known("AR", "ACP3", Sign::Represses, "b"),
            known("MYC", "TERT", Sign::Unknown, "D"),
        ];
        assert_eq!(parse(DOROTHEA).unwrap(), expected);
        let commas = "# made by hand\n\"Target\",TF, Mode ,Level\r\nKLK3,AR,activation,A\r\n\"ACP3\",AR,Repression,b\r\nTERT,MYC,unknown,D\r\n";
        assert_eq!(parse(commas).unwrap(), expected);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(DOROTHEA.as_bytes()).unwrap();
        assert_eq!(parse(gzip.finish().unwrap()).unwrap(), expected);
        let of_r = "from\tto\n1\tAR\tKLK3\n2\tMYC\tTERT\n";
        assert_eq!(
            parse(of_r).unwrap(),
            [edge("AR", "KLK3"), edge("MYC", "TERT")]
        );
    }

    #[test]
    fn own_tables_have_scores_and_groups() {
        let found = |score, group: Option<&str>| Edge {
            score: Some(score),
            group: group.map(Arc::from),
            ..edge("STAT1", "IRF1")
        };
        let attention = "condition\tregulator\ttarget\tscore\trank\nctrl\tSTAT1\tIRF1\t0.25\t1\nstim\tSTAT1\tIRF1\t-1e-3\t2\n";
        assert_eq!(
            parse(attention).unwrap(),
            [found(0.25, Some("ctrl")), found(-1e-3, Some("stim"))]
        );
        let similarity = "source\ttarget\tsimilarity\trank\tprogram\nSTAT1\tIRF1\t0.9\t1\t\n";
        assert_eq!(parse(similarity).unwrap(), [found(0.9, None)]);
        assert_eq!(
            parse("tf\ttarget\tweight\nA\tB\tNA\n").unwrap(),
            [edge("A", "B")]
        );
    }

    #[test]
    fn levels_of_confidence_are_chosen() {
        let targets = |levels: &[&str]| {
            let edges = parse_levels(DOROTHEA, Some(levels)).unwrap();
            edges
                .iter()
                .map(|edge| edge.target.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(targets(&["A"]), ["KLK3"]);
        assert_eq!(targets(&["a", "B", "C"]), ["KLK3", "ACP3"]);
        let none = parse_levels(DOROTHEA, Some(&["E"]))
            .unwrap_err()
            .to_string();
        assert!(none.contains("among `e`; it has `A`, `D`, `b`"), "{none}");
        let missing = parse_levels("tf\ttarget\nA\tB\n", Some(&["A"]))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no column of levels of confidence was found: `confidence` or `level` was expected in the header, which has `tf`, `target`"), "{missing}");
        assert!(
            parse_levels("tf\ttarget\tlevel\n", Some(&["A"]))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn duplicates_become_one_whatever_their_order() {
        let rows = [
            "A\tB\t1\tC\t0.5",
            "A\tB\t-1\tA\t-0.7",
            "A\tB\t1\tB\t",
            "A\tB\t0\tB\t0.1",
        ];
        for turn in 0..rows.len() {
            let mut rows = rows;
            rows.rotate_left(turn);
            let edges = parse(format!(
                "tf\ttarget\tsign\tlevel\tscore\n{}\nB\tA\t0\t\t\n",
                rows.join("\n")
            ))
            .unwrap();
            let merged = Edge {
                sign: Sign::Both,
                confidence: Some("A".into()),
                score: Some(-0.7),
                ..edge("A", "B")
            };
            assert_eq!(edges, [merged, edge("B", "A")]);
        }
    }

    #[test]
    fn errors_name_the_line_what_is_there_and_what_should_be() {
        for (text, part) in [
            (
                &b"tf\tgenes\nA\tB\n"[..],
                "no column of targets was found: `target` or `gene` or `to` was expected in the header, which has `tf`, `genes`",
            ),
            (b"a,target\nA,B\n", "no column of regulators"),
            (
                b"tf\ttarget\nA\tB\tC\tD\n",
                "line 2: 4 fields were found, 2 were expected",
            ),
            (
                b"tf\ttarget\nA\tB\nA\n",
                "line 3: 1 fields were found, 2 were expected",
            ),
            (b"tf\ttarget\nA\t\n", "line 2: the target is empty"),
            (
                b"tf\ttarget\n\xff\tB\n",
                "line 2: the name `\u{fffd}` is not UTF-8",
            ),
            (
                b"tf\ttarget\tmor\nA\tB\tmaybe\n",
                "line 2: `maybe` is not a sign",
            ),
            (
                b"tf\ttarget\tscore\nA\tB\thigh\n",
                "the score `high` is not a finite number",
            ),
            (
                b"tf\ttarget\tscore\nA\tB\tinf\n",
                "the score `inf` is not a finite number",
            ),
            (b"one column\nA\n", "line 1: neither a tab nor a comma"),
            (b"", "it is empty, a header was expected"),
        ] {
            let found = problem(text);
            assert!(found.contains(part), "{part} is not in {found}");
        }
        let many: Vec<String> = (0..99).map(|i| format!("c{i}")).collect();
        let found = problem(format!("{}\n", many.join("\t")));
        assert!(
            found.contains("`c19`, ...") && !found.contains("`c20`"),
            "{found}"
        );
    }

    #[test]
    fn memory_is_bounded_and_odd_names_are_kept() {
        let long = "x".repeat(10_000);
        let edges = parse(format!("tf\ttarget\n<script>\tתא\n{long}\t{long}\n")).unwrap();
        assert_eq!(edges, [edge("<script>", "תא"), edge(&long, &long)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        let same: String = (0..2000)
            .map(|i| format!("A{}\tB{}\n", i / 40, i % 40))
            .collect();
        std::fs::write(file.path(), format!("tf\ttarget\n{same}")).unwrap();
        let found = read(file.path(), None, 100_000).unwrap_err().to_string();
        assert!(
            found.contains("edges, as many as the memory holds"),
            "{found}"
        );
        std::fs::write(
            file.path(),
            [b"tf\ttarget\n".to_vec(), vec![b'x'; 3 << 20]].concat(),
        )
        .unwrap();
        let found = read(file.path(), None, 1 << 20).unwrap_err().to_string();
        assert!(found.contains("line 2: it is longer"), "{found}");
    }

    #[test]
    fn missing_files_and_directories_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read(&directory.path().join("none.tsv"), None, MEMORY).unwrap_err();
        assert!(
            !missing.is_io() && missing.to_string().contains("no such file"),
            "{missing}"
        );
        assert!(read(directory.path(), None, MEMORY).is_err());
    }

    #[test]
    fn damaged_files_give_edges_or_an_error() {
        let text =
            "tf\tconfidence\ttarget\tmor\tscore\nAR\tA\tKLK3\t1\t0.5\nAR\tB\tACP3\t-1\t1e-3\n";
        fuzz_mutations::each_file(text.as_bytes(), |path| match read(path, None, MEMORY) {
            Ok(edges) => assert!(
                edges
                    .iter()
                    .all(|edge| edge.score.is_none_or(f64::is_finite))
            ),
            Err(error) => assert!(
                error.to_string().contains(&*path.to_string_lossy()),
                "{error}"
            ),
        });
    }
}
