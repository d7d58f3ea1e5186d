//! Attention between genes: matrices in h5ad files of scgpt-grn, and edge tables.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::formats;
use crate::formats::Error;
use crate::formats::h5ad::File;

/// Default number of genes of a heatmap.
const DEFAULT_GENES: usize = 24;
/// Stored values read at a time.
const BLOCK: usize = 4_000_000;
/// Maximum number of edges per group, and of groups.
pub const MOST_EDGES: usize = 200;
const MOST_GROUPS: usize = 500;
/// Prefix of the names of difference matrices.
const DIFFERENCE: &str = "difference_";

/// Scores between some genes.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Name in obsp, such as `attention_control`.
    pub name: String,
    pub path: PathBuf,
    pub genes: Vec<String>,
    /// [targets (queries), regulators (keys)].
    pub scores: Array2<f64>,
    /// Number of genes in the file.
    pub n_genes: usize,
}

impl Matrix {
    /// Whether the scores are signed differences between conditions.
    pub fn is_difference(&self) -> bool {
        self.name.starts_with(DIFFERENCE)
    }
}

/// Whether the report includes a matrix of obsp with this name.
pub fn is_supported(name: &str) -> bool {
    name.starts_with("attention_") || name.starts_with(DIFFERENCE)
}

/// Attention matrices of a file, at most `most`, and the number of omitted ones. They contain the `chosen` genes, a single gene
/// with its strongest partners, or the genes with the highest scores.
pub fn matrices(
    path: &Path,
    chosen: &[String],
    most: usize,
) -> Result<(Vec<Matrix>, usize), Error> {
    let file = File::open(path)?;
    file.check_format()?;
    let mut names = file.relations()?;
    names.retain(|name| is_supported(name));
    let omitted = names.len().saturating_sub(most);
    names.truncate(most);
    let found = names.into_iter().map(|name| read(&file, name, chosen));
    Ok((found.collect::<Result<_, _>>()?, omitted))
}

fn read(file: &File, name: String, chosen: &[String]) -> Result<Matrix, Error> {
    let (genes, matrix) = (file.cell_names()?, file.relation(&name)?);
    let wanted: HashSet<&String> = chosen.iter().collect();
    let mut kept: Vec<usize> = (0..genes.len())
        .filter(|&at| wanted.contains(&genes[at]))
        .collect();
    if kept.len() < 2 {
        kept = strongest(&matrix, kept.first().copied())?;
    }
    kept.truncate(DEFAULT_GENES.max(chosen.len()));
    let mut scores = Array2::zeros((kept.len(), kept.len()));
    for (row, &gene) in kept.iter().enumerate() {
        let counts = matrix.read(gene..gene + 1)?;
        let (columns, values) = counts.row(0);
        for (column, &other) in kept.iter().enumerate() {
            if let Ok(at) = columns.binary_search(&(other as u32)) {
                scores[(row, column)] = f64::from(values[at]);
            }
        }
    }
    Ok(Matrix {
        name,
        path: file.path().to_owned(),
        genes: kept.iter().map(|&at| genes[at].clone()).collect(),
        scores,
        n_genes: genes.len(),
    })
}

/// Genes with the highest absolute scores, or with the highest absolute scores with one gene, which is included; in the order of
/// the file.
fn strongest(matrix: &formats::Matrix, with: Option<usize>) -> Result<Vec<usize>, Error> {
    let mut most = vec![0.0_f32; matrix.n_cells()];
    for block in matrix.blocks(BLOCK)? {
        let counts = matrix.read(block.clone())?;
        for (row, (columns, values)) in block.zip(counts.rows()) {
            for (&column, &value) in columns.iter().zip(values) {
                let column = column as usize;
                let counts_here = with.is_none_or(|gene| gene == row || gene == column);
                if column != row && counts_here {
                    most[row] = most[row].max(value.abs());
                    most[column] = most[column].max(value.abs());
                }
            }
        }
    }
    if let Some(gene) = with {
        most[gene] = f32::INFINITY;
    }
    let mut order: Vec<usize> = (0..most.len()).collect();
    order.sort_by(|a, b| most[*b].total_cmp(&most[*a]).then(a.cmp(b)));
    order.truncate(DEFAULT_GENES);
    order.sort_unstable();
    Ok(order)
}

/// An edge between genes.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub score: f64,
    /// Condition or program.
    pub group: String,
}

impl Edge {
    /// By descending absolute score; ties by gene names.
    fn by_strength(&self, other: &Self) -> Ordering {
        let strength = other.score.abs().total_cmp(&self.score.abs());
        strength.then_with(|| (&self.from, &self.to).cmp(&(&other.from, &other.to)))
    }
}

/// The strongest edges of every group of an edge table.
#[derive(Debug, Clone)]
pub struct Edges {
    /// Attention edges are directed, similarity edges are not.
    pub is_directed: bool,
    /// Number of edges, and of those whose groups are omitted.
    pub n: usize,
    pub n_omitted: usize,
    /// Number of edges of each group and the strongest ones; edges outside of programs have an empty group.
    groups: BTreeMap<String, (usize, Vec<Edge>)>,
}

impl Edges {
    pub fn new(is_directed: bool) -> Self {
        Self {
            is_directed,
            n: 0,
            n_omitted: 0,
            groups: BTreeMap::new(),
        }
    }

    /// Adds an edge, unless it is a self-loop. If there are very many groups, the first ones are kept.
    pub fn add(&mut self, edge: Edge) {
        if edge.from == edge.to {
            return;
        }
        self.n += 1;
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&edge.group) {
            self.n_omitted += 1;
            return;
        }
        let (n, kept) = self.groups.entry(edge.group.clone()).or_default();
        *n += 1;
        kept.push(edge);
        // Sorted occasionally, not for each edge.
        if kept.len() >= MOST_EDGES * 2 {
            kept.sort_by(Edge::by_strength);
            kept.truncate(MOST_EDGES);
        }
    }

    /// The strongest edges of all groups, at most `most`, and [`MOST_EDGES`] per group.
    pub fn strongest(&self, most: usize) -> Vec<&Edge> {
        first(self.groups.values().flat_map(|(_, kept)| kept), most)
    }

    /// The strongest edges of one group, at most `most` and [`MOST_EDGES`].
    pub fn top(&self, group: &str, most: usize) -> Vec<&Edge> {
        let kept = self.groups.get(group);
        first(kept.into_iter().flat_map(|(_, kept)| kept), most)
    }

    /// Whether there are negative scores, that is differences.
    pub fn has_negative(&self) -> bool {
        let mut kept = self.groups.values().flat_map(|(_, kept)| kept);
        kept.any(|edge| edge.score < 0.0)
    }

    /// Groups by descending number of edges, without the empty group.
    pub fn groups(&self) -> Vec<&str> {
        let named = self.groups.iter().filter(|(group, _)| !group.is_empty());
        let mut groups: Vec<(&str, usize)> =
            named.map(|(group, (n, _))| (group.as_str(), *n)).collect();
        groups.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        groups.into_iter().map(|(group, _)| group).collect()
    }
}

fn first<'a>(edges: impl Iterator<Item = &'a Edge>, most: usize) -> Vec<&'a Edge> {
    let mut edges: Vec<&Edge> = edges.collect();
    edges.sort_by(|a, b| a.by_strength(b));
    edges.truncate(most.min(MOST_EDGES));
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::formats::h5ad;
    use crate::report::table::{Kind, Table};

    fn write(path: &Path, n: usize) {
        // Gene i attends to gene i + 1, with increasing scores.
        let row = |gene: usize| [((gene as u32 + 1) % n as u32, gene as f32 / n as f32)];
        let names = |n: usize| (0..n).map(|at| format!("g{at}")).collect::<Vec<_>>();
        let attention = Counts::from_rows(n, (0..n).map(row));
        let (nothing, genes, one) = (Counts::from_rows(1, vec![[]; n]), names(n), names(1));
        let cells = h5ad::Cells {
            obsp: &[("attention_all".into(), attention)],
            ..h5ad::Cells::new(&nothing, &genes, &one)
        };
        h5ad::create(path, &cells).unwrap();
    }

    #[test]
    fn matrices_contain_the_chosen_or_the_strongest_genes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("genes.h5ad");
        write(&path, 60);
        let matrix = |chosen: &[String]| matrices(&path, chosen, 1).unwrap().0.remove(0);
        let strongest = matrix(&[]);
        assert_eq!(
            (strongest.genes.len(), strongest.n_genes),
            (DEFAULT_GENES, 60)
        );
        assert_eq!(strongest.genes.last().unwrap(), "g59");
        let chosen = matrix(&["g10".into(), "g11".into(), "absent".into()]);
        assert_eq!(chosen.genes, ["g10", "g11"]);
        assert!((chosen.scores[(0, 1)] - 10.0 / 60.0).abs() < 1e-6 && chosen.scores[(1, 0)] == 0.0);
        // A single gene is included with its partners.
        let one = matrix(&["g10".into()]).genes;
        assert!(
            one.len() == DEFAULT_GENES
                && ["g9", "g10", "g11"]
                    .iter()
                    .all(|gene| one.contains(&gene.to_string()))
        );
        let (none, omitted) = matrices(&path, &[], 0).unwrap();
        assert!(none.is_empty() && omitted == 1);
    }

    #[test]
    fn edge_tables_are_recognized_by_their_columns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edges.tsv");
        std::fs::write(&path, "source\ttarget\tsimilarity\trank\tprogram\nA\tB\t0.9\t1\tP1\nA\tA\t1\t2\tP1\nB\tC\tnan\t3\t\nB\tC\t-0.95\t4\tP1\n").unwrap();
        let table = Table::read(&path).unwrap().unwrap();
        let Kind::Edges(edges) = table.kind else {
            panic!("edges");
        };
        assert_eq!((edges.n, edges.groups()), (2, vec!["P1"]));
        let top: Vec<&str> = edges
            .top("P1", 5)
            .iter()
            .map(|edge| edge.from.as_str())
            .collect();
        assert_eq!(top, ["B", "A"]);
    }
}
