//! Outputs for programs: network, gene sets, edges and plots.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::super::network::{Network, SIMILARITY, Scores};
use super::genes::Genes;
use super::{Options, name};
use crate::analysis::gene_network::{Directions, Edge, Programs as Found, Threshold};
use crate::counts::Counts;
use crate::failure::Failure;
use crate::figures;
use crate::formats::gene_sets::{self, GeneSet};
use crate::formats::h5ad::Embedding;
use crate::formats::{Column, graphml};
use crate::output;
use crate::programs::steps;
use crate::run_record::Run;

/// Maximum number of genes of which all pairs are written; of more, only pairs above the threshold.
const ALL_PAIRS: usize = 3_000;
/// Maximum number of pairs above the threshold.
const MOST_PAIRS: usize = 20_000_000;

/// Gene pairs within a program above the threshold, by descending similarity, with the number of the program.
pub fn edges_inside(directions: &Directions, found: &Found, threshold: f64) -> Vec<(usize, Edge)> {
    let mut edges = Vec::new();
    for (program, genes) in found.programs.iter().enumerate() {
        let first = edges.len();
        for (at, &one) in genes.iter().enumerate() {
            for &other in &genes[at + 1..] {
                let similarity = directions.similarity(one, other);
                if similarity >= threshold {
                    let genes = (one, other);
                    edges.push((program, Edge { genes, similarity }));
                }
            }
        }
        edges[first..].sort_by(|a, b| {
            let order = b.1.similarity.total_cmp(&a.1.similarity);
            order.then(a.1.genes.cmp(&b.1.genes))
        });
    }
    edges
}

pub fn write_network(
    options: &Options,
    genes: &Genes,
    (directions, found): (&Directions, &Found),
    run: &mut Run,
) -> Result<()> {
    let n = genes.names.len();
    let pairs = if n <= ALL_PAIRS {
        let row = |a: usize| {
            let others = (0..n).filter(move |&b| b != a);
            others.map(move |b| (b as u32, directions.similarity(a, b) as f32))
        };
        Counts::from_rows(n, (0..n).map(row))
    } else {
        similar_pairs(directions, options.threshold)?
    };
    let mut programs = vec![None; n];
    for (program, genes) in found.programs.iter().enumerate() {
        genes
            .iter()
            .for_each(|&gene| programs[gene] = Some(name(program)));
    }
    let network = Network {
        genes: genes.names.clone(),
        scores: vec![Scores {
            name: SIMILARITY.into(),
            pairs,
        }],
    };
    let vectors = Embedding {
        width: genes.embedding.ncols(),
        values: genes.embedding.iter().copied().collect(),
    };
    let obs = [("program".to_owned(), Column::from_labels(&programs))];
    network.write(&options.output, &obs, Some(vectors))?;
    run.output(&options.output)?;
    Ok(())
}

/// Both directions of all pairs above a threshold.
fn similar_pairs(directions: &Directions, threshold: f64) -> Result<Counts> {
    let n = directions.n_genes();
    let edges = directions.edges(Threshold {
        similarity: threshold,
        self_loops: false,
        limit: MOST_PAIRS,
    })?;
    let mut rows: Vec<Vec<(u32, f32)>> = vec![Vec::new(); n];
    for Edge {
        genes: (a, b),
        similarity,
    } in edges
    {
        rows[a].push((b as u32, similarity as f32));
        rows[b].push((a as u32, similarity as f32));
    }
    rows.iter_mut()
        .for_each(|row| row.sort_by_key(|(column, _)| *column));
    Ok(Counts::from_rows(n, rows))
}

pub fn write_programs(
    options: &Options,
    genes: &[String],
    (found, edges): (&Found, &[(usize, Edge)]),
    run: &mut Run,
) -> Result<()> {
    if let Some(path) = &options.programs {
        let set = |(program, members): (usize, &Vec<usize>)| GeneSet {
            name: name(program),
            description: format!("{} genes with similar embeddings", members.len()),
            genes: members.iter().map(|&gene| genes[gene].clone()).collect(),
        };
        let sets: Vec<GeneSet> = found.programs.iter().enumerate().map(set).collect();
        output::write_file(path, |out| gene_sets::write(&sets, out))?;
        run.output(path)?;
    }
    if let Some(path) = &options.edges {
        steps::write_text(path, &edge_table(genes, edges), run)?;
    }
    if let Some(path) = &options.graph {
        let names: Vec<String> = (0..found.programs.len()).map(name).collect();
        let members = found.programs.iter().zip(&names);
        let nodes: Vec<graphml::Node> = members
            .flat_map(|(members, program)| members.iter().map(move |gene| (gene, program)))
            .map(|(&gene, program)| graphml::Node {
                name: &genes[gene],
                group: Some(program),
                is_regulator: false,
            })
            .collect();
        write_graph(path, found, (&nodes, edges))?;
        run.output(path)?;
    }
    if let Some(path) = &options.network_plot {
        steps::write_text(
            path,
            &draw(options.plot_program, genes, (found, edges))?,
            run,
        )?;
    }
    Ok(())
}

fn edge_table(genes: &[String], edges: &[(usize, Edge)]) -> String {
    let mut text = String::from("source\ttarget\tsimilarity\tprogram\trank\n");
    let (mut rank, mut last) = (0, usize::MAX);
    for (program, edge) in edges {
        rank = if *program == last { rank + 1 } else { 1 };
        last = *program;
        text.push_str(&format!(
            "{}\t{}\t{:.6}\t{}\t{rank}\n",
            steps::plain(&genes[edge.genes.0]),
            steps::plain(&genes[edge.genes.1]),
            edge.similarity,
            name(*program)
        ));
    }
    text
}

fn write_graph(
    path: &Path,
    found: &Found,
    (nodes, edges): (&[graphml::Node], &[(usize, Edge)]),
) -> Result<()> {
    let members = found.programs.iter().flatten().copied();
    let place: HashMap<usize, usize> = members.zip(0..).collect();
    let edges: Vec<graphml::Edge> = edges
        .iter()
        .map(|(_, edge)| graphml::Edge {
            from: place[&edge.genes.0],
            to: place[&edge.genes.1],
            weight: edge.similarity,
            rank: None,
            sign: None,
            condition: None,
        })
        .collect();
    let graph = graphml::Graph {
        nodes,
        edges: &edges,
        directed: false,
    };
    Ok(output::write_file(path, |out| graph.write(out))?)
}

/// Network plot of a program; empty, with a warning, if there is no program.
fn draw(
    number: usize,
    genes: &[String],
    (found, edges): (&Found, &[(usize, Edge)]),
) -> Result<String> {
    let members = found.programs.get(number).map_or(&[][..], Vec::as_slice);
    if members.is_empty() && number > 0 {
        return Err(Failure::Input.error(format!(
            "there is no program {number} to plot, only {}: choose another with `--plot-program`, or lower `--min-genes`",
            found.programs.len()
        )));
    }
    let place = |gene: usize| members.iter().position(|member| *member == gene);
    let nodes: Vec<figures::Node> = members
        .iter()
        .map(|&gene| figures::Node {
            name: &genes[gene],
            group: None,
            is_regulator: false,
        })
        .collect();
    let edges: Vec<figures::Edge> = edges
        .iter()
        .filter(|(program, _)| *program == number)
        .filter_map(|(_, edge)| {
            Some(figures::Edge {
                from: place(edge.genes.0)?,
                to: place(edge.genes.1)?,
                weight: edge.similarity,
            })
        })
        .collect();
    let network = figures::Network {
        title: &format!("Program {number}"),
        nodes: &nodes,
        edges: &edges,
        directed: false,
        groups: &[],
    };
    Ok(network.to_svg())
}
