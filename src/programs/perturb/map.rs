//! `scgpt-perturb map`: embedding and clusters of perturbations by predicted response.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{self, Predictions, Request};
use crate::analysis::graph::Graph;
use crate::analysis::layout::{LayoutOptions, layout};
use crate::analysis::leiden::leiden;
use crate::analysis::neighbors::{Metric, nearest};
use crate::analysis::projection::Pca;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::figures::Scatter;
use crate::formats::h5ad::{self, Embedding};
use crate::formats::{self, Column};
use crate::programs::{CELLS, Facts, INFERENCE, MODEL, Program, TOPICS, steps};
use crate::progress;
use crate::random::{self, Seed};
use crate::run_record::Run;

/// Principal components of changes that neighbors are computed on.
const COMPONENTS: usize = 50;
/// Permutations of labels for a p-value.
const PERMUTATIONS: usize = 999;

/// Options of `scgpt-perturb map`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub request: Request,
    /// AnnData file with one row per perturbation: predicted change of log-normalized expression in X, UMAP coordinates in
    /// obsm/X_umap, cluster in obs/cluster.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Output TSV of coordinates, cluster and dominant gene of the cluster for each perturbation.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub table: Option<PathBuf>,
    /// Output UMAP plot (SVG) of the perturbations, colored by --groups if given, else by cluster.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "svg", "x-direction" = "output"))]
    pub plot: Option<PathBuf>,
    /// Table (TSV) of genes and their functional groups, to color --plot. One gene and one group per line.
    #[arg(long, help_heading = "Options", value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub groups: Option<PathBuf>,
    /// Resolution of Leiden clustering; higher values give more clusters.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub resolution: f64,
    /// Number of neighbors of each perturbation in the kNN graph.
    #[arg(long, help_heading = "Options")]
    #[schemars(range(min = 2, max = 200))]
    pub n_neighbors: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request: Request::default(),
            output: PathBuf::new(),
            table: None,
            plot: None,
            groups: None,
            resolution: 1.0,
            n_neighbors: 15,
        }
    }
}

/// The program.
pub struct Map;

impl Program for Map {
    const NAME: &'static str = "scgpt-perturb map";
    const SUMMARY: &'static str = "Embed and cluster perturbations by predicted response";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_3432"],
        resources: INFERENCE,
        contents: &[
            ("input", CELLS),
            ("output", &["X", "obs/cluster", "obsm/X_umap"]),
            ("model", MODEL),
        ],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        request::problems(&options.request)
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        let groups = options
            .groups
            .as_ref()
            .map(|path| read_groups(path, run))
            .transpose()?;
        let predictions = run.stage("read", |run| Predictions::read(&options.request, run))?;
        let n = predictions.perturbations.len();
        if n < 3 {
            return Err(Failure::Input.error(format!("{n} perturbations are too few to embed: request at least three, such as all pairs of some genes with `--pairs`")));
        }
        let width = predictions.model.settings.genes.len();
        let mut changes = Array2::<f32>::zeros((n, width));
        run.stage("predict", |run| {
            predictions.each(run, |at, change| {
                changes
                    .row_mut(at)
                    .iter_mut()
                    .zip(change)
                    .for_each(|(to, from)| *to = *from);
            })
        })?;
        let seed = Seed(options.request.seed);
        let placed = run.stage("embed", |_| place(&options, &changes, seed))?;
        let dominant = dominant(&predictions, &placed.clusters, seed);
        report(&dominant, run);
        if let Some(path) = &options.table {
            let text = table(&predictions, &placed, &dominant, groups.as_ref());
            steps::write_text(path, &text, run)?;
        }
        if let Some(path) = &options.plot {
            let svg = draw(&predictions, &placed, groups.as_ref());
            steps::write_text(path, &svg, run)?;
        }
        write(&options, &predictions, &placed, &changes)?;
        run.output(&options.output)?;
        Ok(())
    }
}

/// Functional group by gene.
type Groups = BTreeMap<String, String>;

fn read_groups(path: &Path, run: &mut Run) -> Result<Groups> {
    run.input(path)?;
    let text = formats::read_text(path)?;
    let line = |(number, line): (usize, &str)| match line.split_once('\t') {
        Some((gene, group)) if !gene.trim().is_empty() && !group.trim().is_empty() => {
            Ok((gene.trim().to_owned(), group.trim().to_owned()))
        }
        _ => Err(Failure::Input.error(format!(
            "line {} of `{}` is `{line}`; expected a gene and its group, separated by a tab",
            number + 1,
            path.display()
        ))),
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines.map(line).collect()
}

struct Embedded {
    places: Array2<f64>,
    clusters: Vec<usize>,
}

fn place(options: &Options, changes: &Array2<f32>, seed: Seed) -> Result<Embedded> {
    let components = match Pca::fit(changes.view(), COMPONENTS) {
        Ok(pca) => pca.transform(changes.view())?,
        Err(crate::analysis::Error::AllEqual { .. }) => {
            return Err(Failure::Input.error(
                "the model predicts the same change for all perturbations: no embedding can be computed",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let k = options.n_neighbors.min(changes.nrows());
    let neighbors = nearest(components.view(), components.view(), k, Metric::Euclidean)?;
    let graph = Graph::connectivities(&neighbors)?;
    Ok(Embedded {
        clusters: leiden(&graph, options.resolution, options.request.seed)?,
        places: layout(&graph, &LayoutOptions::default(), seed)?,
    })
}

/// The gene that most perturbations of a cluster have in common, with a p-value.
struct Dominant {
    cluster: usize,
    size: usize,
    gene: String,
    with_gene: usize,
    p_value: f64,
}

/// The dominant gene of every cluster, with a p-value by permuting the clusters of perturbations: the fraction of permutations in
/// which some gene is as frequent in the cluster.
fn dominant(predictions: &Predictions, clusters: &[usize], seed: Seed) -> Vec<Dominant> {
    let genes: Vec<Vec<&str>> = predictions
        .perturbations
        .iter()
        .map(|perturbation| perturbation.genes())
        .collect();
    let n = clusters.iter().max().map_or(0, |last| last + 1);
    let most = |clusters: &[usize]| -> Vec<(usize, String)> {
        let mut counts: Vec<BTreeMap<&str, usize>> = vec![BTreeMap::new(); n];
        for (genes, &cluster) in genes.iter().zip(clusters) {
            genes
                .iter()
                .for_each(|gene| *counts[cluster].entry(gene).or_default() += 1);
        }
        let best = |counts: &BTreeMap<&str, usize>| {
            let best = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
            best.map_or((0, String::new()), |(gene, count)| {
                (*count, (*gene).to_owned())
            })
        };
        counts.iter().map(best).collect()
    };
    let found = most(clusters);
    let mut as_good = vec![0usize; n];
    for permutation in 0..PERMUTATIONS {
        let mut stream = seed.stream("clusters permuted", &[permutation as u64]);
        let order = random::permutation(&mut stream, clusters.len());
        let permuted: Vec<usize> = order.into_iter().map(|at| clusters[at]).collect();
        for (count, (by_chance, (most, _))) in as_good.iter_mut().zip(
            most(&permuted)
                .iter()
                .zip(&found)
                .map(|((by_chance, _), found)| (by_chance, found)),
        ) {
            *count += usize::from(by_chance >= most);
        }
    }
    let of = |(cluster, (with_gene, gene)): (usize, (usize, String))| Dominant {
        cluster,
        size: clusters.iter().filter(|&&c| c == cluster).count(),
        gene,
        with_gene,
        p_value: (1 + as_good[cluster]) as f64 / (1 + PERMUTATIONS) as f64,
    };
    found.into_iter().enumerate().map(of).collect()
}

fn report(dominant: &[Dominant], run: &mut Run) {
    let mut text = String::from("cluster  perturbations  dominant gene  with it  p-value");
    for Dominant {
        cluster,
        size,
        gene,
        with_gene,
        p_value,
    } in dominant
    {
        text.push_str(&format!(
            "\n{cluster:>7}  {size:>13}  {gene:<13}  {with_gene:>7}  {p_value:.3}"
        ));
    }
    progress::result(&text);
    let significant = dominant
        .iter()
        .filter(|dominant| dominant.p_value <= 0.05)
        .count();
    run.metric("clusters", dominant.len());
    run.metric("clusters_with_dominant_gene", significant);
}

/// The group of a perturbation: that of its genes, or of each.
fn group_of(genes: &[&str], groups: &Groups) -> String {
    let names: BTreeSet<&str> = genes
        .iter()
        .map(|gene| groups.get(*gene).map_or("other", String::as_str))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(" + ")
}

fn table(
    predictions: &Predictions,
    placed: &Embedded,
    dominant: &[Dominant],
    groups: Option<&Groups>,
) -> String {
    let mut text =
        String::from("perturbation\tsplit\tx\ty\tcluster\tdominant_gene\tp_value\tgroup\n");
    for (at, perturbation) in predictions.perturbations.iter().enumerate() {
        let cluster = &dominant[placed.clusters[at]];
        let group = groups.map_or(String::new(), |groups| {
            group_of(&perturbation.genes(), groups)
        });
        text.push_str(&format!(
            "{perturbation}\t{}\t{:.4}\t{:.4}\t{}\t{}\t{}\t{group}\n",
            predictions.split(perturbation),
            placed.places[(at, 0)],
            placed.places[(at, 1)],
            cluster.cluster,
            cluster.gene,
            cluster.p_value
        ));
    }
    text
}

fn draw(predictions: &Predictions, placed: &Embedded, groups: Option<&Groups>) -> String {
    let label = |at: usize| match groups {
        Some(groups) => group_of(&predictions.perturbations[at].genes(), groups),
        None => format!("cluster {:02}", placed.clusters[at]),
    };
    let labels: Vec<String> = (0..predictions.perturbations.len()).map(label).collect();
    let names: BTreeSet<&String> = labels.iter().collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let categories: Vec<Option<usize>> = labels
        .iter()
        .map(|label| names.binary_search(label).ok())
        .collect();
    let points: Vec<(f64, f64)> = placed
        .places
        .rows()
        .into_iter()
        .map(|row| (row[0], row[1]))
        .collect();
    Scatter {
        title: "Perturbations by predicted response",
        axes: ["UMAP 1", "UMAP 2"],
        points: &points,
        categories: &categories,
        names: &names,
    }
    .to_svg()
}

fn write(
    options: &Options,
    predictions: &Predictions,
    placed: &Embedded,
    changes: &Array2<f32>,
) -> Result<()> {
    let names: Vec<String> = predictions
        .perturbations
        .iter()
        .map(ToString::to_string)
        .collect();
    let row = |row: ndarray::ArrayView1<f32>| (0u32..).zip(row.to_vec()).collect::<Vec<_>>();
    let counts = Counts::from_rows(changes.ncols(), changes.rows().into_iter().map(row));
    let clusters: Vec<Option<String>> = placed
        .clusters
        .iter()
        .map(|cluster| Some(cluster.to_string()))
        .collect();
    let splits: Vec<Option<&str>> = predictions
        .perturbations
        .iter()
        .map(|perturbation| Some(predictions.split(perturbation)))
        .collect();
    let content = h5ad::Cells {
        obs: &[
            ("cluster".to_owned(), Column::from_labels(&clusters)),
            ("split".to_owned(), Column::from_labels(&splits)),
        ],
        obsm: &[(
            "X_umap".to_owned(),
            Embedding {
                width: 2,
                values: placed.places.iter().map(|&value| value as f32).collect(),
            },
        )],
        ..h5ad::Cells::new(&counts, &names, &predictions.model.settings.genes)
    };
    Ok(h5ad::create(&options.output, &content)?)
}
