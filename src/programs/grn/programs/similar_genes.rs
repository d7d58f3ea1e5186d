//! Genes most similar to a gene, and the similarity within gene families.

use std::collections::HashMap;

use anyhow::Result;

use super::super::TABLE_MEMORY;
use super::Options;
use super::genes::Genes;
use crate::analysis::gene_network::{Directions, Search, Ties};
use crate::failure::Failure;
use crate::formats::gene_sets;
use crate::programs::perturbation_data::some;
use crate::programs::steps;
use crate::random::Seed;
use crate::run_record::Run;

/// Number of random gene sets for a p-value.
const RANDOM_SETS: usize = 999;

/// Table of the genes most similar to those of `--similar-to`.
pub fn nearest(options: &Options, genes: &Genes, directions: &Directions) -> Result<String> {
    let place = |gene: &String| {
        genes.place(gene).ok_or_else(|| {
            Failure::Input.error(format!(
                "`{gene}` of `--similar-to` is not among the selected genes, such as {}: check the spelling",
                some(&genes.names)
            ))
        })
    };
    let queries: Vec<usize> = options
        .similar_to
        .iter()
        .map(place)
        .collect::<Result<_>>()?;
    let search = Search {
        k: options.top,
        with_self: false,
        ties: Ties::LowerFirst,
    };
    let found = directions.most_similar(&queries, search)?;
    let mut text = String::from("gene\tneighbor\tsimilarity\trank\n");
    for (gene, similar) in queries.iter().zip(found) {
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

/// Table of the similarity within gene families, compared with random gene sets.
pub fn families(
    options: &Options,
    genes: &Genes,
    directions: &Directions,
    run: &mut Run,
) -> Result<String> {
    let background: Vec<usize> = (0..genes.names.len()).collect();
    let place: HashMap<&String, usize> = genes.names.iter().zip(0..).collect();
    let mut text =
        String::from("gene_set\tgenes\tn_present\tsimilarity\tsimilarity_random\tp_value\n");
    for path in &options.gene_families {
        run.input(path)?;
        for family in gene_sets::read(path, TABLE_MEMORY)? {
            let genes = family.genes.iter();
            let own: Vec<usize> = genes.filter_map(|gene| place.get(gene).copied()).collect();
            let (size, found) = (family.genes.len(), own.len());
            if found < 2 {
                run.warning(format!(
                    "the family `{}` is skipped: only {found} of its {size} genes are selected, at least 2 are required",
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
