//! The selected genes and their embeddings.

use anyhow::Result;
use ndarray::Array2;

use super::super::cell_reader::{CellReader, Reading};
use super::super::gene_selection;
use super::super::groups::Groups;
use super::{GeneEmbedding, Options};
use crate::cells::Cells;
use crate::checkpoint::Checkpoint;
use crate::failure::Failure;
use crate::model::{Inputs, Model, Noise, OutputTokens};
use crate::predict::{self, Pretrained};
use crate::programs::perturbation_data::some;
use crate::programs::steps;
use crate::random::Seed;
use crate::run_record::Run;

/// Genes, their embeddings, and the cells if there are any.
pub struct Genes {
    pub names: Vec<String>,
    /// `[genes, embedding dimension]`.
    pub embedding: Array2<f32>,
    pub cells: Option<(Cells, Groups)>,
}

impl Genes {
    pub fn read(
        options: &Options,
        checkpoint: Checkpoint,
        device: tch::Device,
        run: &mut Run,
    ) -> Result<Self> {
        let Some(path) = &options.input else {
            let named = options.choice.named(run)?;
            let genes = of_vocabulary(&checkpoint, &named, &options.similar_to, run)?;
            let vectors = predict::gene_vectors(&checkpoint, &genes, device)?;
            return Ok(Self {
                names: genes,
                embedding: vectors,
                cells: None,
            });
        };
        run.input(path)?;
        let cells = Cells::open(path, &options.cells, Some(&checkpoint.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let labels = options.groups.as_ref();
        let labels = labels.map(|column| cells.labels(column)).transpose()?;
        let groups = Groups::new(labels.as_deref(), cells.n_cells()).only(&options.subset)?;
        let (known, _) = cells.known_genes(&checkpoint.vocabulary)?;
        if known.is_empty() {
            let known = checkpoint.vocabulary.genes().map(str::to_owned);
            return Err(cells.no_genes(known.collect()).into());
        }
        steps::report_genes(&cells.genes, &checkpoint.vocabulary, run);
        let seed = Seed(options.seed);
        let genes = gene_selection::choose(
            &options.choice,
            (&cells, &known),
            (&options.similar_to, &groups.of_cell),
            (seed, run),
        )?;
        let vectors = match options.embedding {
            GeneEmbedding::Static => predict::gene_vectors(&checkpoint, &genes, device)?,
            GeneEmbedding::Contextual => {
                let model = Pretrained::new(checkpoint, device)?;
                contextual(options, (&model, &cells, &groups), &genes, run)?
            }
        };
        Ok(Self {
            names: genes,
            embedding: vectors,
            cells: Some((cells, groups)),
        })
    }

    /// Index of a selected gene.
    pub fn place(&self, gene: &str) -> Option<usize> {
        self.names.iter().position(|known| known == gene)
    }
}

/// The given genes, or all genes in the vocabulary.
fn of_vocabulary(
    checkpoint: &Checkpoint,
    named: &[String],
    needed: &[String],
    run: &mut Run,
) -> Result<Vec<String>> {
    let vocabulary = &checkpoint.vocabulary;
    let all: Vec<String> = vocabulary.genes().map(str::to_owned).collect();
    if named.is_empty() {
        run.note(format!(
            "all {} genes in the vocabulary are selected",
            all.len()
        ));
        return Ok(all);
    }
    let unknown: Vec<&String> = named
        .iter()
        .filter(|gene| vocabulary.gene_id(gene).is_none())
        .collect();
    if unknown.len() == named.len() {
        return Err(Failure::Input.error(format!(
            "the vocabulary does not contain {}; expected genes such as {}: check the spelling",
            some(&unknown),
            some(&all)
        )));
    }
    if !unknown.is_empty() {
        run.warning(format!(
            "{} genes are not in the vocabulary and are dropped: {}",
            unknown.len(),
            some(&unknown)
        ));
    }
    let is_kept = |gene: &String| named.contains(gene) || needed.contains(gene);
    Ok(all.into_iter().filter(is_kept).collect())
}

/// Mean contextual embedding of each gene over the cells, `[genes, embedding dimension]`; 0 for genes that no cell expresses.
fn contextual(
    options: &Options,
    (model, cells, groups): (&Pretrained, &Cells, &Groups),
    genes: &[String],
    run: &mut Run,
) -> Result<Array2<f32>> {
    let mut groups = groups.clone();
    groups.limit(options.max_cells, Seed(options.seed));
    let reading = Reading {
        n_bins: model.architecture.n_bins,
        expressed_only: true,
        seed: Seed(options.seed),
    };
    let reader = CellReader::new((model, cells), genes, reading)?;
    let width = model.architecture.embsize;
    let mut sums = Array2::<f64>::zeros((genes.len(), width));
    let mut counts = vec![0usize; genes.len()];
    let encode_cell = |model: &Model, cell: &Inputs| {
        let encode = || model.encode(cell, OutputTokens::All, &mut Noise::off());
        predict::to_rows(&tch::no_grad(encode).hidden)
    };
    reader.each((model, &groups), encode_cell, run, |_, rows, places| {
        for (row, place) in rows.iter().zip(places) {
            if let Some(gene) = place {
                counts[*gene] += 1;
                let mut sum = sums.row_mut(*gene);
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
    })?;
    let missing = counts.iter().filter(|count| **count == 0).count();
    if missing > 0 {
        run.warning(format!(
            "{missing} genes are expressed in no cell; their embeddings are 0"
        ));
    }
    Ok(Array2::from_shape_fn(sums.dim(), |(gene, at)| {
        (sums[(gene, at)] / counts[gene].max(1) as f64) as f32
    }))
}
