//! A network as a file: AnnData with a row for every gene, scores of pairs of genes in obsp, vectors of genes in obsm.

use std::path::Path;

use anyhow::Result;

use crate::counts::Counts;
use crate::failure::Failure;
use crate::formats::Column;
use crate::formats::h5ad::{self, Embedding, File};
use crate::programs::perturbed::some;
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

/// A condition as it stands in the names of scores: HDF5 takes a slash for a path.
pub fn in_name(condition: &str) -> String {
    condition.replace('/', "_")
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
    /// The condition that attention was told in, such as `ctrl`; of other scores the whole name.
    pub fn condition(&self) -> &str {
        let name = &self.name;
        let attention = name.strip_prefix(ATTENTION);
        attention
            .and_then(|rest| rest.strip_prefix('_'))
            .unwrap_or(name)
    }

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
    /// Adds what every condition has over the control, and tells the first scores to show: a difference if there is one.
    /// Conditions are named by what follows [`ATTENTION`] in the names of their scores.
    pub fn with_differences(mut self, control: &str) -> Result<(Self, usize)> {
        let names: Vec<&str> = self.scores.iter().map(Scores::condition).collect();
        let is_control = |name: &&str| *name == in_name(control);
        let Some(at) = names.iter().position(is_control) else {
            return Err(Failure::Input.error(format!(
                "there is no condition `{control}` of `--control`, but {}: choose another",
                some(&names)
            )));
        };
        let difference = |other: &Scores| {
            let name = format!("{DIFFERENCE}_{}", other.condition());
            other.less(&self.scores[at], name)
        };
        let (before, after) = (&self.scores[..at], &self.scores[at + 1..]);
        let differences: Vec<Scores> = before.iter().chain(after).map(difference).collect();
        let shown = match differences.is_empty() {
            true => 0,
            false => self.scores.len(),
        };
        self.scores.extend(differences);
        Ok((self, shown))
    }

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
