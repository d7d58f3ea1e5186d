//! A network as a file: AnnData with a row for every gene, scores of pairs of genes in obsp, vectors of genes in obsm.

use std::path::Path;

use anyhow::Result;

use crate::counts::Counts;
use crate::failure::Failure;
use crate::formats::Column;
use crate::formats::h5ad::{self, Embedding, File};
use crate::programs::perturbed::some;
use crate::random::{self, Seed};
use crate::run_record::Run;

/// What names of obsp begin with that are scores of edges.
pub const ATTENTION: &str = "attention";
pub const DIFFERENCE: &str = "difference";
pub const SIMILARITY: &str = "similarity";

/// Genes and scores of pairs of them.
pub struct Network {
    pub genes: Vec<String>,
    pub scores: Vec<Scores>,
}

/// Scores of pairs, `[targets, regulators]`; pairs that are not there were not scored.
pub struct Scores {
    /// Such as `attention_ctrl`.
    pub name: String,
    pub pairs: Counts,
}

/// A target of a regulator, both by their place among the genes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub regulator: usize,
    pub target: usize,
    pub score: f32,
    /// From 1, among the targets of the regulator.
    pub rank: usize,
}

impl Scores {
    /// The best targets of some regulators, regulator by regulator; of equal scores the first gene.
    pub fn top(&self, regulators: &[usize], top: usize) -> Vec<Ranked> {
        let mut place = vec![None; self.pairs.n_genes];
        for (at, &regulator) in regulators.iter().enumerate() {
            place[regulator] = Some(at);
        }
        let mut targets: Vec<Vec<(f32, usize)>> = vec![Vec::new(); regulators.len()];
        for (target, (columns, scores)) in self.pairs.rows().enumerate() {
            for (&regulator, &score) in columns.iter().zip(scores) {
                let at = place[regulator as usize].filter(|_| regulator as usize != target);
                if let Some(at) = at {
                    targets[at].push((score, target));
                }
            }
        }
        let best = |(&regulator, mut targets): (&usize, Vec<(f32, usize)>)| {
            targets.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            targets.truncate(top);
            let ranked = targets.into_iter().zip(1..);
            let ranked = ranked.map(move |((score, target), rank)| Ranked {
                regulator,
                target,
                score,
                rank,
            });
            ranked.collect::<Vec<_>>()
        };
        regulators.iter().zip(targets).flat_map(best).collect()
    }

    /// What these scores have over others, pair by pair.
    pub fn less(&self, other: &Self, name: String) -> Self {
        let rows = self.pairs.rows().zip(other.pairs.rows());
        let rows = rows.map(|((columns, scores), (others, less))| {
            let own = columns.iter().zip(scores);
            let both = own.filter_map(|(column, score)| {
                let at = others.binary_search(column).ok()?;
                Some((*column, score - less[at]))
            });
            both.collect::<Vec<_>>()
        });
        Self {
            name,
            pairs: Counts::from_rows(self.pairs.n_genes, rows),
        }
    }
}

impl Network {
    /// Reads what a program of this suite wrote; all matrices of obsp whose names begin with one of the given words.
    pub fn read(path: &Path, kinds: &[&str], run: &mut Run) -> Result<Self> {
        run.input(path)?;
        let file = File::open(path)?;
        let genes = file.cell_names()?;
        let mut scores = Vec::new();
        for name in file.relations()? {
            if kinds.iter().any(|kind| name.starts_with(kind)) {
                let matrix = file.relation(&name)?;
                let pairs = matrix.read(0..genes.len())?;
                scores.push(Scores { name, pairs });
            }
        }
        if scores.is_empty() {
            return Err(Failure::Input.error(format!(
                "`{}` has no scores of pairs of genes: obsp/{} is missing; expected a file that `scgpt-grn attention`, `difference` or `programs` wrote",
                path.display(),
                kinds.join("... or obsp/")
            )));
        }
        Ok(Self { genes, scores })
    }

    /// Writes the network with what else is known of its genes.
    pub fn write(
        &self,
        path: &Path,
        obs: &[(String, Column)],
        vectors: Option<Embedding>,
    ) -> Result<()> {
        let nothing = Counts::from_rows(0, self.genes.iter().map(|_| Vec::new()));
        let obsp: Vec<(String, Counts)> = self
            .scores
            .iter()
            .map(|scores| (scores.name.clone(), scores.pairs.clone()))
            .collect();
        let obsm: Vec<_> = vectors
            .map(|vectors| ("X_scGPT".to_owned(), vectors))
            .into_iter()
            .collect();
        let content = h5ad::Cells {
            obs,
            obsm: &obsm,
            obsp: &obsp,
            ..h5ad::Cells::new(&nothing, &self.genes, &[])
        };
        Ok(h5ad::create(path, &content)?)
    }
}

/// Cells of every group, in the order of their names, and of no group.
pub struct Groups {
    pub names: Vec<String>,
    pub of_cell: Vec<Option<u32>>,
}

impl Groups {
    /// The groups of a column's labels that are wanted, all if none are named; all cells are one group without a column.
    pub fn new(
        labels: Option<&[Option<String>]>,
        n_cells: usize,
        wanted: &[String],
    ) -> Result<Self> {
        let Some(labels) = labels else {
            return Ok(Self {
                names: vec!["all".into()],
                of_cell: vec![Some(0); n_cells],
            });
        };
        let mut names: Vec<String> = labels.iter().flatten().cloned().collect();
        names.sort_unstable();
        names.dedup();
        if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
            return Err(Failure::Input.error(format!(
                "no cell has the label `{missing}`; there are {}",
                some(&names)
            )));
        }
        names.retain(|name| wanted.is_empty() || wanted.contains(name));
        let number = |label: &Option<String>| {
            let found = names.binary_search(label.as_ref()?);
            found.ok().map(|at| at as u32)
        };
        Ok(Self {
            of_cell: labels.iter().map(number).collect(),
            names,
        })
    }

    /// Leaves at most so many cells in each group, chosen at random, the same whatever other groups there are; 0 leaves all.
    pub fn limit(&mut self, most: usize, seed: Seed) {
        if most == 0 {
            return;
        }
        for (group, name) in self.names.iter().enumerate() {
            let own: Vec<usize> = (0..self.of_cell.len())
                .filter(|&cell| self.of_cell[cell] == Some(group as u32))
                .collect();
            let mut stream = seed.stream(&format!("cells of the condition {name}"), &[]);
            let order = random::permutation(&mut stream, own.len());
            order
                .into_iter()
                .skip(most)
                .for_each(|at| self.of_cell[own[at]] = None);
        }
    }

    /// Number of cells of each group.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.names.len()];
        self.of_cell
            .iter()
            .flatten()
            .for_each(|&group| sizes[group as usize] += 1);
        sizes
    }
}
