//! A first look at all inputs, before anything is written: vocabulary, annotations, and what is wrong with any of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexSet;

use super::Options;
use super::inputs::{Inputs, Opened};
use crate::cells::conditions::Condition;
use crate::cells::naming::{How, Naming, Recognised};
use crate::corpus::{Kind, Schema};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::formats::Column;
use crate::programs::samples::Input;
use crate::run_record::Run;
use crate::vocabulary::{PAD, Vocabulary};

/// Columns whose make-up the manifest tells, where they exist.
pub const COMPOSITION: [&str; 7] = [
    "tissue",
    "tissue_general",
    "study",
    "study_id",
    "dataset_id",
    "disease",
    "assay",
];

/// Gene names that some inputs have.
struct GeneList {
    /// The first of the inputs.
    path: PathBuf,
    genes: Vec<String>,
    inputs: usize,
}

/// What is known of all inputs together.
pub struct Survey {
    pub vocabulary: Vocabulary,
    /// Whether the vocabulary was given, and so must stay as it is.
    pub is_given: bool,
    pub naming: Naming,
    pub conditions: Vec<Condition>,
    pub schema: Schema,
    pub n_cells: u64,
    /// Id in the corpus of every gene of the vocabulary; none for those that are left out.
    pub numbers: Vec<Option<u32>>,
    /// The vocabulary of the corpus: the given one, or that of the genes that are kept.
    pub written: Vocabulary,
    /// Name, gene and how it was recognised, with the number of inputs where that is so.
    pub genes: BTreeMap<(String, Option<u32>, How), usize>,
    lists: Vec<GeneList>,
}

impl Survey {
    pub fn of(options: &Options, inputs: &Inputs, run: &mut Run) -> Result<Self> {
        let naming = Naming::read(&options.naming)?;
        let given = options.vocab.as_deref().map(read_vocabulary).transpose()?;
        let conditions = options
            .conditions()
            .map_err(|problem| Failure::Input.error(problem))?;
        let mut names: IndexSet<String> = IndexSet::new();
        let mut survey = Self {
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
            let opened = inputs.open(number, options, survey.known())?;
            opened.cells.notes.iter().for_each(|note| run.note(note));
            states.push(opened.cells.judgement.state);
            survey.n_cells += opened.cells.n_cells() as u64;
            survey.look_at_annotations(options, input, &opened)?;
            survey.remember(&opened);
            if survey.is_given {
                survey.recognised(&opened)?;
            } else {
                let named = opened.genes.iter().filter(|gene| !gene.is_empty());
                names.extend(named.map(|gene| survey.naming.new_name(gene).to_owned()));
            }
        }
        if !survey.is_given {
            survey.vocabulary = Vocabulary::from_genes(names)?;
        }
        survey.look_up()?;
        survey.numbers = (0..survey.vocabulary.len() as u32).map(Some).collect();
        warn_of_mixture(options, &states, run);
        survey.say(run);
        Ok(survey)
    }

    pub fn known(&self) -> Option<&Vocabulary> {
        self.is_given.then_some(&self.vocabulary)
    }

    /// Number of genes that are kept, special tokens among them.
    pub fn n_kept(&self) -> usize {
        self.numbers.iter().flatten().count()
    }

    /// Leaves out the genes of the vocabulary that `keeps` does not keep.
    pub fn keep(&mut self, keeps: impl Fn(usize, &str) -> bool) {
        let genes = self.vocabulary.tokens().enumerate();
        for (number, (id, gene)) in self.numbers.iter_mut().zip(genes) {
            if !keeps(id, gene) {
                *number = None;
            }
        }
    }

    /// Settles the vocabulary of the corpus: a given one stays as it is, one made from the data has the genes that are kept.
    pub fn settle(&mut self) -> Result<()> {
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

    /// Keeps the gene names of an input; those of many files are the same.
    fn remember(&mut self, opened: &Opened) {
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

    /// Looks up the genes of all inputs, for the report.
    pub fn look_up(&mut self) -> Result<()> {
        self.genes.clear();
        for list in &self.lists {
            let found = self
                .naming
                .recognise(&list.path, &list.genes, &self.vocabulary)?;
            let columns = list.genes.iter().zip(&found.ids).zip(&found.how);
            for ((gene, id), how) in columns.filter(|((gene, _), _)| !gene.is_empty()) {
                *self.genes.entry((gene.clone(), *id, *how)).or_default() += list.inputs;
            }
        }
        Ok(())
    }

    pub fn recognised(&self, opened: &Opened) -> Result<Recognised> {
        let path = opened.cells.table.path();
        Ok(self
            .naming
            .recognise(path, &opened.genes, &self.vocabulary)?)
    }

    /// Kinds of the annotations to keep; a kind that differs between inputs is text.
    fn look_at_annotations(
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

    fn say(&self, run: &mut Run) {
        let n_genes = self.vocabulary.genes().count();
        run.note(format!(
            "{} cells; a vocabulary of {n_genes} genes",
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
                "{count} gene names are not in the vocabulary and are left out, such as {}; `genes.tsv` lists them",
                examples.join(", ")
            ));
        }
        run.metric("genes_unmatched", count);
    }

    /// The table of what became of every gene name.
    pub fn gene_table(&self) -> String {
        let mut table = "name\tgene\tid\trecognised_by\tinputs\n".to_owned();
        for ((name, id, how), inputs) in &self.genes {
            let gene = id
                .and_then(|id| self.vocabulary.token(id))
                .unwrap_or_default();
            let number = id.and_then(|id| self.numbers[id as usize]);
            let number = number.map_or("left out".to_owned(), |number| number.to_string());
            table += &format!("{name}\t{gene}\t{number}\t{}\t{inputs}\n", how.word());
        }
        table
    }
}

fn has(input: &Input, name: &str) -> bool {
    input.annotations.iter().any(|(known, _)| known == name)
}

/// An annotation of the cells: what the sample sheet says, or the column of the file.
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
    // Published gene lists come without the special tokens that a model needs.
    Ok(if vocabulary.id(PAD).is_none() {
        vocabulary.with_special_tokens()
    } else {
        vocabulary
    })
}

fn warn_of_mixture(options: &Options, states: &[State], run: &mut Run) {
    let raw = states
        .iter()
        .filter(|state| **state == State::RawCounts)
        .count();
    if raw < states.len() && options.values == crate::tokens::Values::Unchanged {
        run.warning(format!(
            "{} of {} inputs hold no raw counts, which pre-training expects; name a matrix that does with `--matrix`",
            states.len() - raw,
            states.len()
        ));
    }
}
