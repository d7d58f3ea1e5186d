//! TSV tables of programs. Only supported ones are read.

use std::fs::{self, File};
use std::io::{self, Read, Take};
use std::path::{Path, PathBuf};

use super::attention::{Edge, Edges};

/// Maximum number of rows; of edge tables, the strongest edges.
pub const MOST_ROWS: usize = 500;
/// Maximum bytes of a table, and of an edge table.
const LARGEST: u64 = 16 << 20;
const LARGEST_EDGES: u64 = 256 << 20;
/// Maximum number of columns.
const MOST_COLUMNS: usize = 200;
/// Supported tables, by their columns, with their titles.
const SUPPORTED: [(&[&str], &str); 3] = [
    (&["group", "program", "score"], "Program scores"),
    (
        &["query", "gene_set", "overlap", "fdr_bh"],
        "Enriched gene sets",
    ),
    (
        &["method", "regulator", "auprc", "auroc"],
        "Evaluation against known regulation",
    ),
];
/// Columns of edge tables: two genes, score and group. Attention edges are directed.
const DIRECTED: [&str; 4] = ["regulator", "target", "score", "condition"];
const UNDIRECTED: [&str; 4] = ["source", "target", "similarity", "program"];

/// Contents of a table.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The strongest edges of an edge table.
    Edges(Edges),
    /// The first rows of another table.
    Rows {
        what: &'static str,
        header: Vec<String>,
        rows: Vec<Vec<String>>,
    },
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    pub path: PathBuf,
    pub kind: Kind,
    /// Whether there are rows that were not read.
    pub is_cut: bool,
}

impl Table {
    /// Reads a table; none if its columns are not those of a supported table. Fails on files that are not text tables.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut rows = Rows::open(path)?;
        let header = rows.header()?;
        let column = |name: &str| header.iter().position(|column| column == name);
        let positions =
            |names: [&str; 4]| names.map(column).into_iter().collect::<Option<Vec<_>>>();
        let edges = [(DIRECTED, true), (UNDIRECTED, false)]
            .into_iter()
            .find_map(|(names, is_directed)| Some((positions(names)?, is_directed)));
        let supported = SUPPORTED
            .iter()
            .find(|(columns, _)| columns.iter().all(|name| column(name).is_some()));
        let (kind, is_cut) = match (edges, supported) {
            (Some((positions, is_directed)), _) => strongest(rows, &positions, is_directed)?,
            (None, Some((_, what))) => first(rows, what, header)?,
            (None, None) => return Ok(None),
        };
        let path = path.to_owned();
        Ok(Some(Self { path, kind, is_cut }))
    }

    /// Name of the file.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// Reads an edge table and keeps the strongest edges.
fn strongest(mut rows: Rows, positions: &[usize], is_directed: bool) -> io::Result<(Kind, bool)> {
    let mut edges = Edges::new(is_directed);
    rows.extend_limit(LARGEST_EDGES);
    while let Some(row) = rows.next()? {
        let field = |at: usize| row.get(positions[at]).cloned().unwrap_or_default();
        let score = field(2).parse().ok();
        if let Some(score) = score.filter(|score: &f64| score.is_finite()) {
            let (from, to, group) = (field(0), field(1), field(3));
            edges.add(Edge {
                from,
                to,
                score,
                group,
            });
        }
    }
    Ok((Kind::Edges(edges), rows.is_cut))
}

fn first(mut rows: Rows, what: &'static str, header: Vec<String>) -> io::Result<(Kind, bool)> {
    let mut kept = Vec::new();
    while let Some(row) = rows.next()? {
        if kept.len() == MOST_ROWS {
            rows.is_cut = true;
            break;
        }
        kept.push(row);
    }
    let (rows, is_cut) = (kept, rows.is_cut);
    Ok((Kind::Rows { what, header, rows }, is_cut))
}

/// The rows of a file up to a maximum number of bytes.
struct Rows {
    reader: csv::Reader<Take<File>>,
    /// Bytes of the file, and maximum bytes to read.
    size: u64,
    limit: u64,
    is_cut: bool,
}

impl Rows {
    fn open(path: &Path) -> io::Result<Self> {
        let size = fs::metadata(path)?.len();
        let reader = csv::ReaderBuilder::new()
            .delimiter(b'\t')
            .quoting(false)
            .flexible(true)
            .from_reader(File::open(path)?.take(LARGEST));
        Ok(Self {
            reader,
            size,
            limit: LARGEST,
            is_cut: false,
        })
    }

    fn header(&mut self) -> io::Result<Vec<String>> {
        let header = self.reader.byte_headers().map_err(io::Error::other)?;
        Ok(texts(header))
    }

    /// Increases the number of bytes to read.
    fn extend_limit(&mut self, limit: u64) {
        let read = self.reader.get_mut();
        read.set_limit(read.limit() + (limit - self.limit));
        self.limit = limit;
    }

    /// The next row; none at the end. A row that the limit truncates is dropped.
    fn next(&mut self) -> io::Result<Option<Vec<String>>> {
        let mut record = csv::ByteRecord::new();
        let is_there = self
            .reader
            .read_byte_record(&mut record)
            .map_err(io::Error::other)?;
        self.is_cut = self.size > self.limit && self.reader.position().byte() >= self.limit;
        Ok((is_there && !self.is_cut).then(|| texts(&record)))
    }
}

fn texts(record: &csv::ByteRecord) -> Vec<String> {
    let fields = record.iter().take(MOST_COLUMNS);
    fields
        .map(|field| String::from_utf8_lossy(field).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Table> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.tsv");
        fs::write(&path, text).unwrap();
        Table::read(&path).unwrap()
    }

    #[test]
    fn the_strongest_edges_of_every_condition_are_kept() {
        let mut text = String::from("condition\tregulator\ttarget\tscore\trank\n");
        for condition in ["a", "b"] {
            for edge in 0..20_000 {
                text += &format!("{condition}\tR{}\tT{edge}\t0.{edge:05}\t1\n", edge / 100);
            }
        }
        let table = read(&text).unwrap();
        let Kind::Edges(edges) = &table.kind else {
            panic!("{table:?}");
        };
        assert_eq!(
            (edges.n, edges.groups(), table.is_cut),
            (40_000, vec!["a", "b"], false)
        );
        for condition in ["a", "b"] {
            let top = edges.top(condition, 60);
            assert_eq!(
                (top.len(), top[0].to.as_str(), top[59].to.as_str()),
                (60, "T19999", "T19940")
            );
        }
    }

    #[test]
    fn rows_are_never_truncated() {
        let long = "x".repeat(1 << 20);
        let rows: String = (0..20)
            .map(|row| format!("{row}\t{long}\t0.123456789\n"))
            .collect();
        let table = read(&format!("group\tprogram\tscore\n{rows}")).unwrap();
        let Kind::Rows { rows, .. } = &table.kind else {
            panic!("not a table of rows");
        };
        assert!(table.is_cut && rows.len() == 15, "{}", rows.len());
        assert!(rows.iter().all(|row| row[2] == "0.123456789"));
    }

    #[test]
    fn other_tables_are_not_read() {
        assert!(read("gene\tcells\nA\t3\n").is_none());
        assert!(read("").is_none());
    }
}
