//! Network files: AnnData with a row for every gene, scores of gene pairs in obsp, gene embeddings in obsm.

use std::path::Path;

use anyhow::Result;

use crate::counts::Counts;
use crate::failure::Failure;
use crate::formats::Column;
use crate::formats::h5ad::{self, Embedding, File};
use crate::programs::perturbation_data::some;
use crate::run_record::Run;

/// Prefixes of the matrices in obsp that contain edge scores.
pub const ATTENTION: &str = "attention";
pub const DIFFERENCE: &str = "difference";
pub const SIMILARITY: &str = "similarity";

/// Genes and scores of gene pairs.
pub struct Network {
    pub genes: Vec<String>,
    pub scores: Vec<Scores>,
}

/// Scores of gene pairs, `[targets, regulators]`; absent pairs have no score.
pub struct Scores {
    /// Such as `attention_ctrl`.
    pub name: String,
    pub pairs: Counts,
}

/// A condition as it appears in the names of matrices, without slashes, which separate paths in HDF5.
pub fn in_name(condition: &str) -> String {
    condition.replace('/', "_")
}

/// A target of a regulator, both as indices of genes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub regulator: usize,
    pub target: usize,
    pub score: f32,
    /// Rank among the targets of the regulator, from 1.
    pub rank: usize,
}

impl Scores {
    /// The condition of an attention matrix, such as `ctrl`; the whole name of other matrices.
    pub fn condition(&self) -> &str {
        let name = &self.name;
        let attention = name.strip_prefix(ATTENTION);
        attention
            .and_then(|rest| rest.strip_prefix('_'))
            .unwrap_or(name)
    }

    /// The top targets of some regulators, regulator by regulator; ties go to the first gene.
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

    /// Difference from other scores, for pairs that both have.
    pub fn minus(&self, other: &Self, name: String) -> Self {
        let rows = self.pairs.rows().zip(other.pairs.rows());
        let rows = rows.map(|((columns, scores), (others, minus))| {
            let own = columns.iter().zip(scores);
            let both = own.filter_map(|(column, score)| {
                let at = others.binary_search(column).ok()?;
                Some((*column, score - minus[at]))
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
    /// Adds the differences of all conditions from the control, and returns the index of the scores to plot: the first difference
    /// if there is one. The name of a condition follows [`ATTENTION`] in the name of its scores.
    pub fn with_differences(mut self, control: &str) -> Result<(Self, usize)> {
        let names: Vec<&str> = self.scores.iter().map(Scores::condition).collect();
        let is_control = |name: &&str| *name == in_name(control);
        let Some(at) = names.iter().position(is_control) else {
            return Err(Failure::Input.error(format!(
                "no condition `{control}` of `--control`; found {}: choose one of these",
                some(&names)
            )));
        };
        let difference = |other: &Scores| {
            let name = format!("{DIFFERENCE}_{}", other.condition());
            other.minus(&self.scores[at], name)
        };
        let (before, after) = (&self.scores[..at], &self.scores[at + 1..]);
        let differences: Vec<Scores> = before.iter().chain(after).map(difference).collect();
        let plotted = match differences.is_empty() {
            true => 0,
            false => self.scores.len(),
        };
        self.scores.extend(differences);
        Ok((self, plotted))
    }

    /// Reads a file that scgpt-grn wrote: all matrices of obsp whose names begin with one of the prefixes.
    pub fn read(path: &Path, prefixes: &[&str], run: &mut Run) -> Result<Self> {
        run.input(path)?;
        let file = File::open(path)?;
        file.check_format()?;
        let genes = file.cell_names()?;
        let mut scores = Vec::new();
        for name in file.relations()? {
            if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                let matrix = file.relation(&name)?;
                let pairs = matrix.read(0..genes.len())?;
                scores.push(Scores { name, pairs });
            }
        }
        if scores.is_empty() {
            return Err(Failure::Input.error(format!(
                "`{}` contains no scores of gene pairs: obsp/{} is missing; expected a file that `scgpt-grn attention`, `difference` or `programs` wrote",
                path.display(),
                prefixes.join("... or obsp/")
            )));
        }
        Ok(Self { genes, scores })
    }

    /// Writes the network with columns of obs and embeddings of its genes.
    pub fn write(
        self,
        path: &Path,
        obs: &[(String, Column)],
        vectors: Option<Embedding>,
    ) -> Result<()> {
        let nothing = Counts::from_rows(0, self.genes.iter().map(|_| Vec::new()));
        let named = |scores: Scores| (scores.name, scores.pairs);
        let obsp: Vec<(String, Counts)> = self.scores.into_iter().map(named).collect();
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
