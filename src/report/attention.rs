//! What genes attend to: matrices of genes by genes in files of genes, and lists of edges.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::table::Table;
use crate::formats::Error;
use crate::formats::h5ad::File;

/// Genes of a heat map that nobody chose.
const SHOWN: usize = 24;
/// Stored values held at a time.
const BLOCK: usize = 4_000_000;

/// Scores between some genes.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Name in obsp, such as `attention_control`.
    pub name: String,
    pub path: PathBuf,
    pub genes: Vec<String>,
    /// [targets (queries), regulators (keys)].
    pub scores: Array2<f64>,
    /// Genes in the file.
    pub n_genes: usize,
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

/// Matrices of attention of a file; `chosen` genes, or those with the largest scores. None if the file has none.
pub fn matrices(path: &Path, chosen: &[String]) -> Result<Vec<Matrix>, Error> {
    let file = File::open(path)?;
    let names = file.relations()?;
    let mut found = Vec::new();
    for name in names
        .iter()
        .filter(|name| name.starts_with("attention_") || name.starts_with("difference_"))
    {
        let (genes, matrix) = (file.cell_names()?, file.relation(name)?);
        let wanted: HashSet<&String> = chosen.iter().collect();
        let mut kept: Vec<usize> = (0..genes.len())
            .filter(|&at| wanted.contains(&genes[at]))
            .collect();
        if kept.len() < 2 {
            kept = strongest(&matrix)?;
        }
        kept.truncate(SHOWN.max(chosen.len()));
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
        found.push(Matrix {
            name: name.clone(),
            path: path.to_owned(),
            genes: kept.iter().map(|&at| genes[at].clone()).collect(),
            scores,
            n_genes: genes.len(),
        });
    }
    Ok(found)
}

/// Genes in the order of their largest score with another gene, the first few, in the order of the file.
fn strongest(matrix: &crate::formats::Matrix) -> Result<Vec<usize>, Error> {
    let mut most = vec![0.0_f32; matrix.n_cells()];
    for block in matrix.blocks(BLOCK)? {
        let counts = matrix.read(block.clone())?;
        for (row, (columns, values)) in block.zip(counts.rows()) {
            for (&column, &value) in columns
                .iter()
                .zip(values)
                .filter(|(column, _)| **column as usize != row)
            {
                most[row] = most[row].max(value.abs());
                most[column as usize] = most[column as usize].max(value.abs());
            }
        }
    }
    let mut order: Vec<usize> = (0..most.len()).collect();
    order.sort_by(|a, b| most[*b].total_cmp(&most[*a]).then(a.cmp(b)));
    order.truncate(SHOWN);
    order.sort_unstable();
    Ok(order)
}

/// Edges of a table by its columns: `regulator target` of attention, `source target` of similarity. None if it is neither.
pub fn edges(table: &Table) -> Option<Vec<Edge>> {
    let (from, score, group) = if table.has(&["condition", "regulator", "target", "score"]) {
        ("regulator", "score", "condition")
    } else if table.has(&["source", "target", "similarity", "program"]) {
        ("source", "similarity", "program")
    } else {
        return None;
    };
    let edge = |row: &Vec<String>| {
        Some(Edge {
            from: table.get(row, from).to_owned(),
            to: table.get(row, "target").to_owned(),
            score: table.number(row, score)?,
            group: table.get(row, group).to_owned(),
        })
    };
    Some(table.rows.iter().filter_map(edge).collect())
}

/// The strongest edges of one group, at most so many.
pub fn top<'a>(edges: &'a [Edge], group: &str, most: usize) -> Vec<&'a Edge> {
    let mut found: Vec<&Edge> = edges
        .iter()
        .filter(|edge| edge.group == group && edge.from != edge.to)
        .collect();
    found.sort_by(|a, b| {
        b.score
            .abs()
            .total_cmp(&a.score.abs())
            .then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    });
    found.truncate(most);
    found
}

/// Groups of edges, those of most edges first; edges outside of a program have none.
pub fn groups(edges: &[Edge]) -> Vec<String> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for edge in edges.iter().filter(|edge| !edge.group.is_empty()) {
        *sizes.entry(&edge.group).or_default() += 1;
    }
    let mut groups: Vec<(&str, usize)> = sizes.into_iter().collect();
    groups.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    groups
        .into_iter()
        .map(|(group, _)| group.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::formats::h5ad;

    fn write(path: &Path, n: usize) {
        // Gene i attends to gene i + 1, the later the more.
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
    fn chosen_genes_are_shown_or_the_strongest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genes.h5ad");
        write(&path, 60);
        let strongest = matrices(&path, &[]).unwrap().remove(0);
        assert_eq!((strongest.genes.len(), strongest.n_genes), (SHOWN, 60));
        assert_eq!(strongest.genes.last().unwrap(), "g59");
        let chosen = matrices(&path, &["g10".into(), "g11".into(), "absent".into()])
            .unwrap()
            .remove(0);
        assert_eq!(chosen.genes, ["g10", "g11"]);
        assert!((chosen.scores[(0, 1)] - 10.0 / 60.0).abs() < 1e-6 && chosen.scores[(1, 0)] == 0.0);
    }

    #[test]
    fn edges_are_known_by_their_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edges.tsv");
        std::fs::write(&path, "source\ttarget\tsimilarity\trank\tprogram\nA\tB\t0.9\t1\tP1\nA\tA\t1\t2\tP1\nB\tC\tnan\t3\t\nB\tC\t-0.95\t4\tP1\n").unwrap();
        let edges = edges(&Table::read(&path).unwrap()).unwrap();
        assert_eq!((edges.len(), groups(&edges)), (3, vec!["P1".to_owned()]));
        let top: Vec<&str> = top(&edges, "P1", 5)
            .iter()
            .map(|edge| edge.from.as_str())
            .collect();
        assert_eq!(top, ["B", "A"]);
    }
}
