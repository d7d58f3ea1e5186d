//! Prompts of cells or groups of cells, and the genes to generate.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::Result;

use super::{Entry, Options, Prompt};
use crate::cells::Cells;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::formats::{self, Column};
use crate::model::Model;
use crate::predict::generation::{Generated, Generator, Method, Query};
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::{Tokens, binning};
use crate::vocabulary::Vocabulary;

/// All prompts of a run.
pub struct Prompts {
    prompt: Prompt,
    /// Names of the genes that are columns of the output, their ids, and whether they may be generated.
    pub genes: Vec<String>,
    ids: Vec<i64>,
    is_target: Vec<bool>,
    /// Bins of every cell, by column.
    pub cells: Counts,
    groups: Option<Groups>,
    cls: (i64, f32),
    max_length: usize,
    seed: Seed,
}

/// Groups of cells, and their mean embeddings.
struct Groups {
    column: String,
    names: Vec<String>,
    embeddings: Vec<Vec<f32>>,
}

impl Prompts {
    pub fn read(
        options: &Options,
        model: &Generator,
        cells: &Cells,
        run: &mut Run,
    ) -> Result<Self> {
        let (genes, columns) = cells.known_genes(&model.vocabulary)?;
        let ids = genes
            .iter()
            .filter_map(|gene| model.vocabulary.id(gene))
            .map(i64::from);
        let mut counts = cells.read(0..cells.n_cells(), &columns)?;
        let n_bins = model.architecture.n_bins;
        for cell in 0..counts.n_cells() {
            let mut stream = Seed(options.seed).stream("bins", &[cell as u64]);
            binning::bin(counts.row_mut(cell).1, n_bins, options.ties, &mut stream);
        }
        let mut prompts = Self {
            prompt: options.prompt,
            ids: ids.collect(),
            is_target: targets(options, &genes, run)?,
            genes,
            cells: counts,
            groups: None,
            cls: (
                i64::from(cls(&model.vocabulary)?),
                model.architecture.pad_value as f32,
            ),
            max_length: options.max_length,
            seed: Seed(options.seed),
        };
        if let Some(column) = &options.group {
            prompts.groups = Some(prompts.grouped(column, model, cells, run)?);
        }
        Ok(prompts)
    }

    /// Number of cells to generate.
    pub fn len(&self) -> usize {
        self.groups
            .as_ref()
            .map_or(self.cells.n_cells(), |groups| groups.names.len())
    }

    pub fn names(&self, cells: &Cells) -> Result<Vec<String>> {
        match &self.groups {
            Some(groups) => Ok(groups.names.clone()),
            None => Ok(cells.table.cell_names()?),
        }
    }

    pub fn obs(&self) -> Vec<(String, Column)> {
        let column = |groups: &Groups| {
            let labels: Vec<Option<&str>> = groups
                .names
                .iter()
                .map(|name| Some(name.as_str()))
                .collect();
            (groups.column.clone(), Column::from_labels(&labels))
        };
        self.groups.iter().map(column).collect()
    }

    /// Prompt and target genes of a cell or group.
    pub fn query(&self, method: &Method, network: &Model, at: usize) -> Query {
        if let Some(groups) = &self.groups {
            return Query {
                known: self.tokens(&[]),
                cell: Some(groups.embeddings[at].clone()),
                targets: self.targets_except(&[]),
            };
        }
        let given = self.given(at);
        let known = if self.prompt == Prompt::Cell {
            &[][..]
        } else {
            &given
        };
        let tokens = self.tokens(&self.sample(known, at as u64));
        let is_embedded = self.prompt != Prompt::Genes;
        Query {
            known: tokens,
            cell: is_embedded.then(|| self.embed(method, network, &given, at)),
            targets: self.targets_except(known),
        }
    }

    /// The embedding of a cell from the given columns.
    pub fn embed(
        &self,
        method: &Method,
        network: &Model,
        given: &[(u32, f32)],
        at: usize,
    ) -> Vec<f32> {
        method.embed(network, &self.tokens(&self.sample(given, at as u64)))
    }

    /// Columns and bins of the expressed genes of a cell, without the genes of `--genes`.
    pub fn given(&self, at: usize) -> Vec<(u32, f32)> {
        let (columns, values) = self.cells.row(at);
        let all_are_targets = self.is_target.iter().all(|is_target| *is_target);
        let pairs = columns.iter().copied().zip(values.iter().copied());
        pairs
            .filter(|(column, value)| {
                *value != 0.0 && (all_are_targets || !self.is_target[*column as usize])
            })
            .collect()
    }

    /// Token sequence of `<cls>` and some genes.
    pub fn tokens(&self, genes: &[(u32, f32)]) -> Tokens {
        let ids = genes.iter().map(|(column, _)| self.ids[*column as usize]);
        let values = genes.iter().map(|(_, value)| *value);
        Tokens {
            genes: std::iter::once(self.cls.0).chain(ids).collect(),
            values: std::iter::once(self.cls.1).chain(values).collect(),
        }
    }

    pub fn id(&self, column: u32) -> i64 {
        self.ids[column as usize]
    }

    /// A random sample of at most as many genes as a prompt may have.
    pub fn sample(&self, genes: &[(u32, f32)], cell: u64) -> Vec<(u32, f32)> {
        let most = self.max_length - 1;
        if genes.len() <= most {
            return genes.to_vec();
        }
        let mut stream = self.seed.stream("genes", &[cell]);
        let mut kept = random::sample(&mut stream, genes.len(), most);
        kept.sort_unstable();
        kept.into_iter().map(|at| genes[at]).collect()
    }

    /// Ids of the genes to generate, except known ones.
    fn targets_except(&self, known: &[(u32, f32)]) -> Vec<i64> {
        self.target_columns(known)
            .into_iter()
            .map(|column| self.id(column))
            .collect()
    }

    fn target_columns(&self, known: &[(u32, f32)]) -> Vec<u32> {
        let known: HashSet<u32> = known.iter().map(|(column, _)| *column).collect();
        let all = (0..self.ids.len() as u32).filter(|column| self.is_target[*column as usize]);
        all.filter(|column| !known.contains(column)).collect()
    }

    /// A row of the output: known genes with their bins in round 0, and generated ones.
    pub fn row(&self, at: usize, generated: &Generated) -> Vec<Entry> {
        let has_genes = self.groups.is_none() && self.prompt != Prompt::Cell;
        let known = if has_genes {
            self.given(at)
        } else {
            Vec::new()
        };
        let mut row: Vec<Entry> = known
            .iter()
            .map(|&(column, value)| (column, value, 1.0, 0))
            .collect();
        let targets = self.target_columns(&known).into_iter().enumerate();
        row.extend(targets.map(|(i, column)| {
            (
                column,
                generated.values[i],
                generated.confidence[i],
                generated.rounds[i],
            )
        }));
        row.sort_unstable_by_key(|entry| entry.0);
        row
    }

    /// Mean embeddings of the cells of every group.
    fn grouped(
        &self,
        column: &str,
        model: &Generator,
        cells: &Cells,
        run: &mut Run,
    ) -> Result<Groups> {
        let labels = cells.labels(column)?;
        let names: BTreeSet<&String> = labels.iter().flatten().collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        if names.is_empty() {
            return Err(Failure::Input.error(format!("column `{column}` has no labels")));
        }
        let (method, mut workers) = (&model.method, model.workers(run.threads()));
        let all = workers.each(labels.len(), |network, at| {
            self.embed(method, network, &self.given(at), at)
        });
        let mean = |name: &String| {
            let members = labels
                .iter()
                .zip(&all)
                .filter(|(label, _)| label.as_ref() == Some(name));
            let members: Vec<&Vec<f32>> = members.map(|(_, embedding)| embedding).collect();
            let sum = |i: usize| {
                members
                    .iter()
                    .map(|member| f64::from(member[i]))
                    .sum::<f64>()
            };
            (0..model.architecture.embsize)
                .map(|i| (sum(i) / members.len() as f64) as f32)
                .collect()
        };
        run.note(format!("{} groups of cells", names.len()));
        Ok(Groups {
            column: column.to_owned(),
            embeddings: names.iter().map(mean).collect(),
            names,
        })
    }
}

fn cls(vocabulary: &Vocabulary) -> Result<u32> {
    vocabulary
        .cls()
        .ok_or_else(|| Failure::Input.error("the vocabulary of the model has no token `<cls>`"))
}

/// Which genes may be generated: all, or those of a list.
fn targets(options: &Options, genes: &[String], run: &mut Run) -> Result<Vec<bool>> {
    let Some(path) = &options.genes else {
        return Ok(vec![true; genes.len()]);
    };
    run.input(path)?;
    let listed = read_list(path)?;
    let is_target: Vec<bool> = genes.iter().map(|gene| listed.contains(gene)).collect();
    let found = is_target.iter().filter(|is_target| **is_target).count();
    if found == 0 {
        return Err(Failure::Input.error(format!(
            "`{}`: none of its {} genes is both in `{}` and in the vocabulary",
            path.display(),
            listed.len(),
            options.input.display()
        )));
    }
    run.note(format!(
        "{found} of the {} listed genes are generated",
        listed.len()
    ));
    Ok(is_target)
}

fn read_list(path: &Path) -> Result<HashSet<String>> {
    Ok(formats::read_text(path)?
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}
