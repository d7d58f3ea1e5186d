//! Further outputs of a network: edge table, graph and plots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gene_selection::unknown_genes;
use super::network::{DIFFERENCE, Network, Ranked, Scores};
use crate::figures::{self, HeatMap, Scale};
use crate::formats::graphml;
use crate::output;
use crate::programs::steps;
use crate::run_record::Run;

/// Maximum number of edges of the network plot, and of genes on a side of the heatmap.
const PLOTTED_EDGES: usize = 80;
const PLOTTED_GENES: usize = 40;

/// Options for further outputs.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Results {
    /// Output TSV of the top targets of each regulator: condition, regulator, target, score and rank.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub edges: Option<PathBuf>,
    /// Number of targets per regulator in --edges and --graph.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Genes to report as regulators, such as transcription factors. Comma-separated. Default: all selected genes.
    #[arg(long, value_name = "GENE")]
    pub regulators: Vec<String>,
    /// Text file with regulators as in --regulators, one per line; those that are not among the selected genes are dropped.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub regulators_file: Option<PathBuf>,
    /// Output GraphML of the edges of --edges, for Cytoscape or networkx.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "graphml", "x-direction" = "output"))]
    pub graph: Option<PathBuf>,
    /// Output network plot (SVG) of the strongest edges. It shows the first condition, or the first difference from the control.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub network_plot: Option<PathBuf>,
    /// Output heatmap (SVG) of the scores between the genes with the strongest edges. It shows the first condition, or the first
    /// difference from the control.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            edges: None,
            top: 20,
            regulators: Vec::new(),
            regulators_file: None,
            graph: None,
            network_plot: None,
            plot: None,
        }
    }
}

impl Results {
    /// The regulators of `--regulators`; each must be among the given genes.
    pub fn named(&self, known: &[String], run: &mut Run) -> Result<Vec<String>> {
        let all: BTreeSet<&String> = known.iter().collect();
        let named = steps::gene_names(&self.regulators, None, run)?;
        let unknown: Vec<&String> = named.iter().filter(|gene| !all.contains(gene)).collect();
        match unknown.is_empty() {
            true => Ok(named),
            false => Err(unknown_genes(&unknown, known)),
        }
    }

    /// Indices of the regulators among the selected genes: those of `--regulators` and `--regulators-file`, of which at least one
    /// must be selected, or all genes.
    fn regulators(&self, genes: &[String], run: &mut Run) -> Result<Vec<usize>> {
        let wanted = steps::gene_names(&self.regulators, self.regulators_file.as_ref(), run)?;
        if wanted.is_empty() && self.regulators_file.is_none() {
            return Ok((0..genes.len()).collect());
        }
        let all: BTreeSet<&String> = wanted.iter().collect();
        let is_wanted = |at: &usize| all.contains(&genes[*at]);
        let found: Vec<usize> = (0..genes.len()).filter(is_wanted).collect();
        if found.is_empty() {
            return Err(unknown_genes(&all.into_iter().collect::<Vec<_>>(), genes));
        }
        run.note(format!(
            "{} of {} regulators are among the selected genes",
            found.len(),
            wanted.len()
        ));
        Ok(found)
    }

    /// Writes the requested outputs; `plotted` is the index of the scores in the plots.
    pub fn write(&self, network: &Network, plotted: usize, run: &mut Run) -> Result<()> {
        let regulators = self.regulators(&network.genes, run)?;
        let best = |scores: &Scores| scores.top(&regulators, self.top);
        let edges: Vec<Vec<Ranked>> = network.scores.iter().map(best).collect();
        if let Some(path) = &self.edges {
            let text = table(network, &edges);
            steps::write_text(path, &text, run)?;
        }
        if let Some(path) = &self.graph {
            write_graph(path, network, (&edges, &regulators))?;
            run.output(path)?;
        }
        let strongest = strongest(&edges[plotted]);
        if let Some(path) = &self.network_plot {
            let svg = network_plot_svg(network, plotted, (&strongest, &regulators));
            steps::write_text(path, &svg, run)?;
        }
        if let Some(path) = &self.plot {
            let svg = heat_map(network, plotted, &strongest);
            steps::write_text(path, &svg, run)?;
        }
        Ok(())
    }
}

fn table(network: &Network, edges: &[Vec<Ranked>]) -> String {
    let mut text = String::from("condition\tregulator\ttarget\tscore\trank\n");
    for (scores, edges) in network.scores.iter().zip(edges) {
        for edge in edges {
            text.push_str(&format!(
                "{}\t{}\t{}\t{:.6}\t{}\n",
                steps::plain(scores.condition()),
                steps::plain(&network.genes[edge.regulator]),
                steps::plain(&network.genes[edge.target]),
                edge.score,
                edge.rank
            ));
        }
    }
    text
}

/// The edges with the highest scores, in descending order.
fn strongest(edges: &[Ranked]) -> Vec<Ranked> {
    let mut all = edges.to_vec();
    all.sort_by(|a, b| {
        let order = b.score.total_cmp(&a.score);
        order.then((a.regulator, a.target).cmp(&(b.regulator, b.target)))
    });
    all.truncate(PLOTTED_EDGES);
    all
}

/// Genes of edges, in order, numbered.
fn genes_of<'e>(edges: impl Iterator<Item = &'e Ranked>) -> BTreeMap<usize, usize> {
    let genes: BTreeSet<usize> = edges
        .flat_map(|edge| [edge.regulator, edge.target])
        .collect();
    genes.into_iter().zip(0..).collect()
}

fn write_graph(
    path: &Path,
    network: &Network,
    (edges, regulators): (&[Vec<Ranked>], &[usize]),
) -> Result<()> {
    let places = genes_of(edges.iter().flatten());
    let regulators: BTreeSet<&usize> = regulators.iter().collect();
    let nodes: Vec<graphml::Node> = places
        .keys()
        .map(|gene| graphml::Node {
            name: &network.genes[*gene],
            group: None,
            is_regulator: regulators.contains(gene),
        })
        .collect();
    let with_scores = network.scores.iter().zip(edges);
    let edges: Vec<graphml::Edge> = with_scores
        .flat_map(|(scores, edges)| edges.iter().map(move |edge| (scores.condition(), edge)))
        .map(|(condition, edge)| graphml::Edge {
            from: places[&edge.regulator],
            to: places[&edge.target],
            weight: f64::from(edge.score),
            rank: Some(edge.rank),
            sign: None,
            condition: Some(condition),
        })
        .collect();
    let graph = graphml::Graph {
        nodes: &nodes,
        edges: &edges,
        directed: true,
    };
    Ok(output::write_file(path, |out| graph.write(out))?)
}

fn network_plot_svg(
    network: &Network,
    plotted: usize,
    (edges, regulators): (&[Ranked], &[usize]),
) -> String {
    let places = genes_of(edges.iter());
    let few = regulators.len() < network.genes.len();
    let nodes: Vec<figures::Node> = places
        .keys()
        .map(|gene| figures::Node {
            name: &network.genes[*gene],
            group: None,
            is_regulator: few && regulators.contains(gene),
        })
        .collect();
    let plotted_edges: Vec<figures::Edge> = edges
        .iter()
        .map(|edge| figures::Edge {
            from: places[&edge.regulator],
            to: places[&edge.target],
            weight: f64::from(edge.score),
        })
        .collect();
    figures::Network {
        title: &format!("Strongest edges, {}", network.scores[plotted].name),
        nodes: &nodes,
        edges: &plotted_edges,
        directed: true,
        groups: &[],
    }
    .to_svg()
}

fn heat_map(network: &Network, plotted: usize, edges: &[Ranked]) -> String {
    let mut chosen: Vec<usize> = Vec::new();
    for gene in edges.iter().flat_map(|edge| [edge.regulator, edge.target]) {
        if chosen.len() < PLOTTED_GENES && !chosen.contains(&gene) {
            chosen.push(gene);
        }
    }
    chosen.sort_unstable();
    let scores = &network.scores[plotted];
    let value = |target: usize, regulator: usize| {
        let (columns, values) = scores.pairs.row(target);
        let found = columns.binary_search(&(regulator as u32));
        let found = found.ok().filter(|_| target != regulator);
        found.map_or(f64::NAN, |at| f64::from(values[at]))
    };
    let values: Vec<Vec<f64>> = chosen
        .iter()
        .map(|&target| {
            chosen
                .iter()
                .map(|&regulator| value(target, regulator))
                .collect()
        })
        .collect();
    let names: Vec<String> = chosen.iter().map(|&at| network.genes[at].clone()).collect();
    HeatMap {
        title: &scores.name,
        axes: ["regulator (key)", "target (query)"],
        rows: &names,
        columns: &names,
        values: &values,
        legend: "score",
        scale: match scores.name.starts_with(DIFFERENCE) {
            true => Scale::Diverging,
            false => Scale::Sequential,
        },
    }
    .to_svg()
}
