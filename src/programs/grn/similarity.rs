//! `scgpt-grn programs`: genes that a model holds for similar, as programs and as a network (reference section 11.6).

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, ArrayView2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::{self, Choice};
use super::network::{Groups, Network, SIMILARITY, Scores};
use super::scene::{Reading, Scene};
use super::{TABLE_MEMORY, scores};
use crate::analysis::gene_network::{
    self, Directions, Edge, ProgramSettings, Programs as Found, Search, Threshold, Ties,
};
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::figures::{self, HeatMap, Scale};
use crate::formats::gene_sets::{self, GeneSet};
use crate::formats::h5ad::Embedding;
use crate::formats::{Column, graphml};
use crate::model::{Noise, Width};
use crate::output;
use crate::predict::{self, Pretrained};
use crate::programs::perturbed::some;
use crate::programs::{CHECKPOINT, Facts, INFERENCE, Program, TOPICS, steps};
use crate::progress;
use crate::random::Seed;
use crate::run_record::Run;

/// Genes of which all pairs are kept; of more, those above the threshold.
const ALL_PAIRS: usize = 3_000;
/// Pairs above the threshold, at most.
const MOST_PAIRS: usize = 20_000_000;
/// Random sets behind a p-value.
const RANDOM_SETS: usize = 999;

/// What stands for a gene.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Vectors {
    /// The vector that the model has learnt for it, whatever the cells.
    #[default]
    Learnt,
    /// The mean of what the model makes of it in the cells of --input.
    InCells,
}

/// Options of `scgpt-grn programs`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Model: a folder, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Cells in which programs are looked at, an AnnData file. Without it all genes of the model are looked at.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Option<PathBuf>,
    /// Where to write the genes, an AnnData file with a row for every gene: its program in obs, its vector in obsm/X_scGPT, its
    /// similarity with others in obsp/similarity.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// What stands for a gene: the vector the model has learnt for it, or the mean of what the model makes of it in the cells.
    #[arg(long)]
    pub vectors: Vectors,
    /// Column of obs with groups of cells, such as cell types.
    #[arg(long, value_name = "COLUMN")]
    pub groups: Option<String>,
    /// Groups whose cells are looked at. Default: all.
    #[arg(long, value_name = "VALUE")]
    pub only: Vec<String>,
    /// Most cells of each group that the model looks at, chosen at random; 0 takes all.
    #[arg(long)]
    pub max_cells: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub choice: Choice,
    /// Resolution of the clusters of genes (Leiden): higher finds more and smaller programs.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub resolution: f64,
    /// Neighbours of every gene in the graph.
    #[arg(long)]
    #[schemars(range(min = 2, max = 200))]
    pub neighbours: usize,
    /// Genes of the smallest cluster that is called a program.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub min_genes: usize,
    /// Least similarity (cosine) of two genes of a program that are joined by an edge.
    #[arg(long)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: f64,
    /// Also write the programs as gene sets.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "output"))]
    pub programs: Option<PathBuf>,
    /// Also write the edges inside programs as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub edges: Option<PathBuf>,
    /// Also write these edges as a graph that Cytoscape and networkx read.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "graphml", "x-direction" = "output"))]
    pub graph: Option<PathBuf>,
    /// Also draw a program as a network.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub drawing: Option<PathBuf>,
    /// Program to draw; 0 is the largest.
    #[arg(long, value_name = "NUMBER", help_heading = "Results")]
    pub drawn: usize,
    /// Also write how active the programs are in each group of cells, from 0 to 1 over the cells, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub scores: Option<PathBuf>,
    /// Also write a copy of the cells with how active the programs are in each of them in obsm/X_programs.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub scored: Option<PathBuf>,
    /// Also draw how active the programs are in each group of cells as a heat map.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub figure: Option<PathBuf>,
    /// Genes whose most similar genes are listed. In a model of several modalities these may be proteins or peaks.
    #[arg(long, value_name = "GENE", help_heading = "Results")]
    pub nearest: Vec<String>,
    /// Where to write the genes most similar to those of --nearest, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub nearest_table: Option<PathBuf>,
    /// Genes listed for each of --nearest.
    #[arg(long, help_heading = "Results")]
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Gene families, GMT files: are their genes more similar to each other than genes drawn at random?
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "gmt", "x-direction" = "input"))]
    pub families: Vec<PathBuf>,
    /// Where to write how similar the genes of families are, as a table.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub family_table: Option<PathBuf>,
    /// Seed of all random choices: the same seed gives the same programs.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint: PathBuf::new(),
            input: None,
            output: PathBuf::new(),
            vectors: Vectors::default(),
            groups: None,
            only: Vec::new(),
            max_cells: 500,
            choice: Choice::default(),
            resolution: 40.0,
            neighbours: 15,
            min_genes: 5,
            threshold: 0.4,
            programs: None,
            edges: None,
            graph: None,
            drawing: None,
            drawn: 0,
            scores: None,
            scored: None,
            figure: None,
            nearest: Vec::new(),
            nearest_table: None,
            top: 20,
            families: Vec::new(),
            family_table: None,
            seed: 0,
            cells: cells::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct Programs;

impl Program for Programs {
    const NAME: &'static str = "scgpt-grn programs";
    const SUMMARY: &'static str = "Find programs of genes that a model holds for similar";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3432"],
        resources: INFERENCE,
        contents: &[
            (
                "output",
                &["obs/program", "obsm/X_scGPT", "obsp/similarity"],
            ),
            ("scored", &["obsm/X_programs"]),
            ("checkpoint", CHECKPOINT),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        let mut needs = |is_asked: bool, has: bool, what: &str, needed: &str| {
            if is_asked && !has {
                problems.push(format!("`{what}` needs `{needed}`"));
            }
        };
        let (has_cells, has_groups) = (options.input.is_some(), options.groups.is_some());
        needs(
            options.vectors == Vectors::InCells,
            has_cells,
            "--vectors in-cells",
            "--input",
        );
        needs(options.scored.is_some(), has_cells, "--scored", "--input");
        needs(
            options.scores.is_some(),
            has_cells && has_groups,
            "--scores",
            "--input and --groups",
        );
        needs(
            options.figure.is_some(),
            has_cells && has_groups,
            "--figure",
            "--input and --groups",
        );
        needs(!options.only.is_empty(), has_groups, "--only", "--groups");
        needs(has_groups, has_cells, "--groups", "--input");
        let has_table = options.nearest_table.is_some();
        needs(
            has_table,
            !options.nearest.is_empty(),
            "--nearest-table",
            "--nearest",
        );
        needs(
            !options.nearest.is_empty(),
            has_table,
            "--nearest",
            "--nearest-table",
        );
        let has_table = options.family_table.is_some();
        needs(
            has_table,
            !options.families.is_empty(),
            "--family-table",
            "--families",
        );
        needs(
            !options.families.is_empty(),
            has_table,
            "--families",
            "--family-table",
        );
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        checkpoint.notes.iter().for_each(|note| run.note(note));
        let scene = run.stage("read", |run| Stage::new(&options, checkpoint, device, run))?;
        let directions = Directions::new(scene.vectors.view())?;
        let settings = ProgramSettings {
            neighbours: options.neighbours,
            resolution: options.resolution,
            min_genes: options.min_genes,
            seed: options.seed,
        };
        let found = run.stage("cluster", |_| {
            gene_network::programs(scene.vectors.view(), settings)
        })?;
        report(&scene, &found, run);
        let edges = edges_inside(&directions, &found, options.threshold);
        run.metric("edges", edges.len());
        write_network(&options, &scene, (&directions, &found), run)?;
        write_programs(&options, &scene.genes, (&found, &edges), run)?;
        if let Some(path) = &options.nearest_table {
            write(path, &nearest(&options, &scene, &directions)?, run)?;
        }
        if let Some(path) = &options.family_table {
            let text = families(&options, &scene, &directions, run)?;
            write(path, &text, run)?;
        }
        if options.scores.is_some() || options.scored.is_some() || options.figure.is_some() {
            run.stage("score", |run| {
                activity(&options, &scene, &found.programs, run)
            })?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str, run: &mut Run) -> Result<()> {
    output::write_file(path, |out| out.write_all(text.as_bytes()))?;
    run.output(path)?;
    Ok(())
}

/// Genes, what stands for them, and the cells they are looked at in.
struct Stage {
    genes: Vec<String>,
    /// `[genes, width]`.
    vectors: Array2<f32>,
    cells: Option<(Cells, Groups)>,
}

impl Stage {
    fn new(
        options: &Options,
        checkpoint: Checkpoint,
        device: tch::Device,
        run: &mut Run,
    ) -> Result<Self> {
        let Some(path) = &options.input else {
            let named = options.choice.named(run)?;
            let genes = of_vocabulary(&checkpoint, &named, &options.nearest, run)?;
            let vectors = predict::gene_vectors(&checkpoint, &genes, device)?;
            return Ok(Self {
                genes,
                vectors,
                cells: None,
            });
        };
        run.input(path)?;
        let cells = Cells::open(path, &options.cells, Some(&checkpoint.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let labels = options.groups.as_ref();
        let labels = labels.map(|column| cells.labels(column)).transpose()?;
        let groups = Groups::new(labels.as_deref(), cells.n_cells(), &options.only)?;
        let (known, _) = cells.known_genes(&checkpoint.vocabulary)?;
        if known.is_empty() {
            let known = checkpoint.vocabulary.genes().map(str::to_owned);
            return Err(cells.no_genes(known.collect()).into());
        }
        steps::report_genes(&cells.genes, &checkpoint.vocabulary, run);
        let seed = Seed(options.seed);
        let genes = choice::choose(
            &options.choice,
            (&cells, &known),
            (&options.nearest, &groups.of_cell),
            (seed, run),
        )?;
        let vectors = match options.vectors {
            Vectors::Learnt => predict::gene_vectors(&checkpoint, &genes, device)?,
            Vectors::InCells => {
                let model = Pretrained::new(checkpoint, device)?;
                in_cells(options, (&model, &cells, &groups), &genes, run)?
            }
        };
        Ok(Self {
            genes,
            vectors,
            cells: Some((cells, groups)),
        })
    }

    fn place(&self, gene: &str) -> Option<usize> {
        self.genes.iter().position(|known| known == gene)
    }
}

/// The genes that were named, or all that the model knows.
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
            "all {} genes of the model are looked at",
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
            "the model knows no gene {}; its genes are named like {}: check the spelling",
            some(&unknown),
            some(&all)
        )));
    }
    if !unknown.is_empty() {
        run.warning(format!(
            "{} genes are not known to the model and left out: {}",
            unknown.len(),
            some(&unknown)
        ));
    }
    let is_kept = |gene: &String| named.contains(gene) || needed.contains(gene);
    Ok(all.into_iter().filter(is_kept).collect())
}

/// Mean of what the model makes of each gene in the cells, `[genes, width]`; 0 for genes that no cell has.
fn in_cells(
    options: &Options,
    (model, cells, groups): (&Pretrained, &Cells, &Groups),
    genes: &[String],
    run: &mut Run,
) -> Result<Array2<f32>> {
    let mut groups = Groups {
        names: groups.names.clone(),
        of_cell: groups.of_cell.clone(),
    };
    groups.limit(options.max_cells, Seed(options.seed));
    let reading = Reading {
        n_bins: 51,
        expressed_only: true,
        seed: Seed(options.seed),
    };
    let scene = Scene::new((model, cells), genes, reading)?;
    let width = model.architecture.embsize;
    let mut sums = Array2::<f64>::zeros((genes.len(), width));
    let mut counts = vec![0usize; genes.len()];
    let look = |model: &crate::model::Model, cell: &crate::model::Inputs| {
        let encode = || model.encode(cell, Width::AllTokens, &mut Noise::off());
        predict::to_rows(&tch::no_grad(encode).hidden)
    };
    scene.each((model, &groups), look, run, |_, rows, places| {
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
            "{missing} genes are expressed in none of the cells; their vectors are 0"
        ));
    }
    Ok(Array2::from_shape_fn(sums.dim(), |(gene, at)| {
        (sums[(gene, at)] / counts[gene].max(1) as f64) as f32
    }))
}

fn report(stage: &Stage, found: &Found, run: &mut Run) {
    let programs = &found.programs;
    let covered: usize = programs.iter().map(Vec::len).sum();
    progress::result(&format!(
        "{} programs of {} genes; {} of {} genes are in none",
        programs.len(),
        covered,
        stage.genes.len() - covered,
        stage.genes.len()
    ));
    if programs.is_empty() {
        run.warning("no cluster of genes is large enough for a program: lower `--resolution` or `--min-genes`");
    }
    run.metric("programs", programs.len());
    run.metric("genes", stage.genes.len());
    run.metric("genes_in_programs", covered);
}

/// Pairs of genes of the same program that are similar enough, the most similar first, with the program.
fn edges_inside(directions: &Directions, found: &Found, threshold: f64) -> Vec<(usize, Edge)> {
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

fn name(program: usize) -> String {
    format!("program_{program}")
}

fn write_network(
    options: &Options,
    stage: &Stage,
    (directions, found): (&Directions, &Found),
    run: &mut Run,
) -> Result<()> {
    let n = stage.genes.len();
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
        genes: stage.genes.clone(),
        scores: vec![Scores {
            name: SIMILARITY.into(),
            pairs,
        }],
    };
    let vectors = Embedding {
        width: stage.vectors.ncols(),
        values: stage.vectors.iter().copied().collect(),
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

fn write_programs(
    options: &Options,
    genes: &[String],
    (found, edges): (&Found, &[(usize, Edge)]),
    run: &mut Run,
) -> Result<()> {
    if let Some(path) = &options.programs {
        let set = |(program, members): (usize, &Vec<usize>)| GeneSet {
            name: name(program),
            description: format!("{} genes that the model holds for similar", members.len()),
            genes: members.iter().map(|&gene| genes[gene].clone()).collect(),
        };
        let sets: Vec<GeneSet> = found.programs.iter().enumerate().map(set).collect();
        output::write_file(path, |out| gene_sets::write(&sets, out))?;
        run.output(path)?;
    }
    if let Some(path) = &options.edges {
        write(path, &edge_table(genes, edges), run)?;
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
    if let Some(path) = &options.drawing {
        write(path, &draw(options.drawn, genes, (found, edges))?, run)?;
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
            genes[edge.genes.0],
            genes[edge.genes.1],
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
    let place: std::collections::HashMap<usize, usize> = members.zip(0..).collect();
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

/// A program as a network.
fn draw(
    drawn: usize,
    genes: &[String],
    (found, edges): (&Found, &[(usize, Edge)]),
) -> Result<String> {
    // With no program at all, which was warned of, the picture is empty.
    let none = Vec::new();
    let first = found.programs.first().unwrap_or(&none);
    let drawn_program = if drawn == 0 {
        Some(first)
    } else {
        found.programs.get(drawn)
    };
    let Some(members) = drawn_program else {
        return Err(Failure::Input.error(format!(
            "there is no program {drawn} to draw, only {}: choose another with `--drawn`, or lower `--min-genes`",
            found.programs.len()
        )));
    };
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
        .filter(|(program, _)| *program == drawn)
        .filter_map(|(_, edge)| {
            Some(figures::Edge {
                from: place(edge.genes.0)?,
                to: place(edge.genes.1)?,
                weight: edge.similarity,
            })
        })
        .collect();
    let network = figures::Network {
        title: &format!("Program {drawn}"),
        nodes: &nodes,
        edges: &edges,
        directed: false,
        groups: &[],
    };
    Ok(network.to_svg())
}

/// The genes most similar to those asked for.
fn nearest(options: &Options, stage: &Stage, directions: &Directions) -> Result<String> {
    let place = |gene: &String| {
        stage.place(gene).ok_or_else(|| {
            Failure::Input.error(format!(
                "`{gene}` of `--nearest` is not among the genes that are looked at, which are named like {}: check the spelling",
                some(&stage.genes)
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
                stage.genes[*gene], stage.genes[one.gene], one.similarity
            ));
        }
    }
    Ok(text)
}

/// How similar the genes of families are to each other, beside random sets.
fn families(
    options: &Options,
    stage: &Stage,
    directions: &Directions,
    run: &mut Run,
) -> Result<String> {
    let background: Vec<usize> = (0..stage.genes.len()).collect();
    let place: std::collections::HashMap<&String, usize> = stage.genes.iter().zip(0..).collect();
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

/// How active the programs are, cell by cell and group by group.
fn activity(
    options: &Options,
    stage: &Stage,
    programs: &[Vec<usize>],
    run: &mut Run,
) -> Result<()> {
    let Some((cells, groups)) = &stage.cells else {
        return Ok(());
    };
    if programs.is_empty() {
        return Err(Failure::Input.error("no program was found whose activity could be told: lower `--resolution` or `--min-genes`"));
    }
    let scores = scores::of_cells(cells, (&stage.genes, programs), Seed(options.seed))?;
    let names: Vec<String> = (0..programs.len()).map(name).collect();
    if let Some(path) = &options.scored {
        scores::write_cells(cells, path, scores.view())?;
        run.output(path)?;
    }
    let means = scores::of_groups(scores.view(), groups)?;
    if let Some(path) = &options.scores {
        write(path, &score_table(means.view(), &names, &groups.names), run)?;
    }
    if let Some(path) = &options.figure {
        write(path, &heat_map(means.view(), &names, &groups.names), run)?;
    }
    Ok(())
}

/// Mean scores `[programs, groups]` as a table.
fn score_table(means: ArrayView2<f64>, names: &[String], groups: &[String]) -> String {
    let mut text = String::from("group\tprogram\tscore\n");
    for (at, group) in groups.iter().enumerate() {
        for (program, name) in names.iter().enumerate() {
            text.push_str(&format!("{group}\t{name}\t{:.6}\n", means[(program, at)]));
        }
    }
    text
}

fn heat_map(means: ArrayView2<f64>, names: &[String], groups: &[String]) -> String {
    let scaled = crate::analysis::program_scores::scale_rows(means);
    let values: Vec<Vec<f64>> = scaled.rows().into_iter().map(|row| row.to_vec()).collect();
    HeatMap {
        title: "Activity of gene programs",
        axes: ["group of cells", "program"],
        rows: names,
        columns: groups,
        values: &values,
        legend: "mean score, scaled by program",
        scale: Scale::Sequential,
    }
    .to_svg()
}
