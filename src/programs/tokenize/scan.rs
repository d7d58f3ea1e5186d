//! A scan of all inputs before anything is written: vocabulary, annotations and problems.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexSet;

use super::Options;
use super::inputs::{Inputs, Opened};
use crate::cells::conditions::Condition;
use crate::cells::naming::{How, Naming, Recognized};
use crate::corpus::{Kind, Schema};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::formats::Column;
use crate::programs::samples::Input;
use crate::run_record::Run;
use crate::vocabulary::{PAD, Vocabulary};

/// Columns whose composition the manifest contains, if they exist.
pub const COMPOSITION: [&str; 7] = [
    "tissue",
    "tissue_general",
    "study",
    "study_id",
    "dataset_id",
    "disease",
    "assay",
];

/// Gene names that several inputs share.
struct GeneList {
    /// The first of these inputs.
    path: PathBuf,
    genes: Vec<String>,
    inputs: usize,
}

/// Summary of all inputs.
pub struct Scan {
    pub vocabulary: Vocabulary,
    /// Whether the vocabulary was given, and is fixed.
    pub is_given: bool,
    pub naming: Naming,
    pub conditions: Vec<Condition>,
    pub schema: Schema,
    pub n_cells: u64,
    /// Id in the corpus of every gene of the vocabulary; none for those that are dropped.
    pub numbers: Vec<Option<u32>>,
    /// The vocabulary of the corpus: the given one, or that of the kept genes.
    pub written: Vocabulary,
    /// Name, gene and mapping status, with the number of inputs.
    pub genes: BTreeMap<(String, Option<u32>, How), usize>,
    lists: Vec<GeneList>,
}

impl Scan {
    pub fn new(options: &Options, inputs: &Inputs, run: &mut Run) -> Result<Self> {
        let naming = Naming::read(&options.naming)?;
        let given = options.vocab.as_deref().map(read_vocabulary).transpose()?;
        let conditions = options
            .conditions()
            .map_err(|problem| Failure::Input.error(problem))?;
        let mut names: IndexSet<String> = IndexSet::new();
        let mut scan = Self {
            is_given: given.is_some(),
            vocabulary: given.unwrap_or_default(),
            naming,
            conditions,
            schema: Schema::default(),
            n_cells: 0,
            numbers: Vec::new(),
            written: Vocabulary::default(),
            genes: BTreeMap::new(),
            lists: Vec::new(),
        };
        let mut states = Vec::new();
        for (number, input) in inputs.list.iter().enumerate() {
            let opened = inputs.open(number, options, scan.known())?;
            opened.cells.notes.iter().for_each(|note| run.note(note));
            states.push(opened.cells.judgment.state);
            scan.n_cells += opened.cells.n_cells() as u64;
            scan.check_annotations(options, input, &opened)?;
            scan.add_genes(&opened);
            if scan.is_given {
                scan.recognized(&opened)?;
            } else {
                let named = opened.genes.iter().filter(|gene| !gene.is_empty());
                names.extend(named.map(|gene| scan.naming.new_name(gene).to_owned()));
            }
        }
        if !scan.is_given {
            scan.vocabulary = Vocabulary::from_genes(names)?;
        }
        scan.look_up()?;
        scan.numbers = (0..scan.vocabulary.len() as u32).map(Some).collect();
        warn_of_normalized(options, &states, run);
        scan.report(run);
        Ok(scan)
    }

    pub fn known(&self) -> Option<&Vocabulary> {
        self.is_given.then_some(&self.vocabulary)
    }

    /// Number of kept genes, including special tokens.
    pub fn n_kept(&self) -> usize {
        self.numbers.iter().flatten().count()
    }

    /// Drops the genes of the vocabulary for which `keeps` is false.
    pub fn keep(&mut self, keeps: impl Fn(usize, &str) -> bool) {
        let genes = self.vocabulary.tokens().enumerate();
        for (number, (id, gene)) in self.numbers.iter_mut().zip(genes) {
            if !keeps(id, gene) {
                *number = None;
            }
        }
    }

    /// Resolves the vocabulary of the corpus: a given one is unchanged, a new one contains the kept genes.
    pub fn resolve(&mut self) -> Result<()> {
        if self.is_given {
            self.written = self.vocabulary.clone();
        } else {
            let vocabulary = &self.vocabulary;
            let kept = |gene: &&str| {
                let id = vocabulary.gene_id(gene);
                id.is_some_and(|id| self.numbers[id as usize].is_some())
            };
            self.written = Vocabulary::from_genes(vocabulary.genes().filter(kept))?;
            let number = |gene: &str| self.written.gene_id(gene);
            self.numbers = vocabulary.tokens().map(number).collect();
        }
        self.schema.genes = self.written.len();
        Ok(())
    }

    /// Stores the gene names of an input; many files share theirs.
    fn add_genes(&mut self, opened: &Opened) {
        let path = opened.cells.table.path().to_owned();
        match self
            .lists
            .iter_mut()
            .find(|list| list.genes == opened.genes)
        {
            Some(list) => list.inputs += 1,
            None => self.lists.push(GeneList {
                path,
                genes: opened.genes.clone(),
                inputs: 1,
            }),
        }
    }

    /// Looks up the genes of all inputs, for the gene table.
    pub fn look_up(&mut self) -> Result<()> {
        self.genes.clear();
        for list in &self.lists {
            let found = self
                .naming
                .recognize(&list.path, &list.genes, &self.vocabulary)?;
            let columns = list.genes.iter().zip(&found.ids).zip(&found.how);
            for ((gene, id), how) in columns.filter(|((gene, _), _)| !gene.is_empty()) {
                *self.genes.entry((gene.clone(), *id, *how)).or_default() += list.inputs;
            }
        }
        Ok(())
    }

    pub fn recognized(&self, opened: &Opened) -> Result<Recognized> {
        let path = opened.cells.table.path();
        Ok(self
            .naming
            .recognize(path, &opened.genes, &self.vocabulary)?)
    }

    /// Finds the types of the annotations to keep; a type that differs between inputs is text.
    fn check_annotations(
        &mut self,
        options: &Options,
        input: &Input,
        opened: &Opened,
    ) -> Result<()> {
        for condition in &self.conditions {
            column_of(input, opened, &condition.column)?;
        }
        let from_sheet = input.annotations.iter().map(|(name, _)| name);
        let from_file = options.obs.iter().filter(|name| !has(input, name));
        for name in from_sheet.chain(from_file) {
            let kind = Kind::of(&column_of(input, opened, name)?);
            match self.schema.obs.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) if *known != kind => *known = Kind::Text,
                Some(_) => {}
                None => self.schema.obs.push((name.clone(), kind)),
            }
        }
        Ok(())
    }

    fn report(&self, run: &mut Run) {
        let n_genes = self.vocabulary.genes().count();
        run.note(format!(
            "{} cells; {n_genes} genes in the vocabulary",
            self.n_cells
        ));
        let unmatched = self
            .genes
            .keys()
            .filter(|(_, _, how)| *how == How::Unmatched);
        let examples: Vec<&str> = unmatched
            .clone()
            .take(5)
            .map(|(gene, ..)| gene.as_str())
            .collect();
        let count = unmatched.count();
        if count > 0 {
            run.note(format!(
                "{count} gene names are not in the vocabulary and are dropped, such as {}; `genes.tsv` lists them",
                examples.join(", ")
            ));
        }
        run.metric("genes_unmatched", count);
    }

    /// The table with the mapping status of every gene name.
    pub fn gene_table(&self) -> String {
        let mut table = "name\tgene\tid\trecognized_by\tinputs\n".to_owned();
        for ((name, id, how), inputs) in &self.genes {
            let gene = id
                .and_then(|id| self.vocabulary.token(id))
                .unwrap_or_default();
            let number = id.and_then(|id| self.numbers[id as usize]);
            let number = number.map_or("dropped".to_owned(), |number| number.to_string());
            table += &format!("{name}\t{gene}\t{number}\t{}\t{inputs}\n", how.word());
        }
        table
    }
}

fn has(input: &Input, name: &str) -> bool {
    input.annotations.iter().any(|(known, _)| known == name)
}

/// An annotation of the cells: the value of the sample sheet, or the column of the file.
pub fn column_of(input: &Input, opened: &Opened, name: &str) -> Result<Column> {
    let from_sheet = input.annotations.iter().find(|(known, _)| known == name);
    match from_sheet {
        Some((_, value)) => Ok(Column::Categorical {
            codes: vec![Some(0); opened.cells.n_cells()],
            categories: vec![value.clone()],
            ordered: false,
        }),
        None => Ok(opened.cells.table.obs(name)?),
    }
}

fn read_vocabulary(path: &std::path::Path) -> Result<Vocabulary> {
    let file = if path.is_dir() {
        path.join(crate::corpus::VOCABULARY)
    } else {
        path.to_owned()
    };
    let vocabulary = Vocabulary::from_json_file(&file)?;
    // Published gene lists lack the special tokens that a model needs.
    Ok(if vocabulary.id(PAD).is_none() {
        vocabulary.with_special_tokens()
    } else {
        vocabulary
    })
}

fn warn_of_normalized(options: &Options, states: &[State], run: &mut Run) {
    let raw = states
        .iter()
        .filter(|state| **state == State::RawCounts)
        .count();
    if raw < states.len() && options.values == crate::tokens::Values::Raw {
        run.warning(format!(
            "{} of {} inputs contain no raw counts, which pre-training expects: choose the matrix with counts with `--matrix`",
            states.len() - raw,
            states.len()
        ));
    }
}
