//! What is asked of genes: which are most similar to a gene, and how similar those of a family are to each other.

use std::collections::HashMap;

use anyhow::Result;

use super::super::TABLE_MEMORY;
use super::Options;
use super::genes::Genes;
use crate::analysis::gene_network::{Directions, Search, Ties};
use crate::failure::Failure;
use crate::formats::gene_sets;
use crate::programs::perturbed::some;
use crate::programs::steps;
use crate::random::Seed;
use crate::run_record::Run;

/// Random sets behind a p-value.
const RANDOM_SETS: usize = 999;

/// The genes most similar to those asked for.
pub fn nearest(options: &Options, genes: &Genes, directions: &Directions) -> Result<String> {
    let place = |gene: &String| {
        genes.place(gene).ok_or_else(|| {
            Failure::Input.error(format!(
                "`{gene}` of `--nearest` is not among the genes that are looked at, which are named like {}: check the spelling",
                some(&genes.names)
            ))
        })
    };
    let asked: Vec<usize> = options.nearest.iter().map(place).collect::<Result<_>>()?;
    let search = Search {
        k: options.top,
        with_self: false,
        ties: Ties::LowerFirst,
    };
    let found = directions.most_similar(&asked, search)?;
    let mut text = String::from("gene\tsimilar\tsimilarity\trank\n");
    for (gene, similar) in asked.iter().zip(found) {
        for (one, rank) in similar.iter().zip(1..) {
            text.push_str(&format!(
                "{}\t{}\t{:.6}\t{rank}\n",
                steps::plain(&genes.names[*gene]),
                steps::plain(&genes.names[one.gene]),
                one.similarity
            ));
        }
    }
    Ok(text)
}

/// How similar the genes of families are to each other, beside random sets.
pub fn families(
    options: &Options,
    genes: &Genes,
    directions: &Directions,
    run: &mut Run,
) -> Result<String> {
    let background: Vec<usize> = (0..genes.names.len()).collect();
    let place: HashMap<&String, usize> = genes.names.iter().zip(0..).collect();
    let mut text = String::from("family\tgenes\tfound\tsimilarity\trandom_similarity\tp_value\n");
    for path in &options.families {
        run.input(path)?;
        for family in gene_sets::read(path, TABLE_MEMORY)? {
            let genes = family.genes.iter();
            let own: Vec<usize> = genes.filter_map(|gene| place.get(gene).copied()).collect();
            let (size, found) = (family.genes.len(), own.len());
            if found < 2 {
                run.warning(format!(
                    "only {found} of {size} genes of the family `{}` are looked at: its similarity cannot be told",
                    family.name
                ));
                continue;
            }
            let seed = Seed(options.seed);
            let coherence = directions.coherence(&own, &background, RANDOM_SETS, seed)?;
            text.push_str(&format!(
                "{}\t{size}\t{found}\t{:.6}\t{:.6}\t{}\n",
                family.name, coherence.mean, coherence.random_mean, coherence.p_value
            ));
        }
    }
    Ok(text)
}
