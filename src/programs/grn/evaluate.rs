//! `scgpt-grn evaluate`: gene networks evaluated against curated regulation, compared with baselines.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gene_selection;
use super::network::{ATTENTION, DIFFERENCE, Network, SIMILARITY, Scores};
use super::{TABLE_MEMORY, scores};
use crate::analysis::coexpression::{self, Boosting, Expression, Lags};
use crate::analysis::edge_scores::{EdgeScore, Edges};
use crate::cells::{self, Cells};
use crate::failure::Failure;
use crate::formats::edges;
use crate::programs::perturbation_data::some;
use crate::programs::{Facts, Program, Resources, TOPICS, steps};
use crate::progress;
use crate::random::Seed;
use crate::run_record::Run;

/// Bootstrap resamples of an interval.
const RESAMPLES: usize = 200;

/// Options of `scgpt-grn evaluate`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData files of scgpt-grn attention, difference or programs. Each matrix of scores in obsp is evaluated as a method.
    /// Comma-separated.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"), length(min = 1))]
    pub networks: Vec<PathBuf>,
    /// Edge tables of other methods, with columns for regulator, target and score. Pairs that are not listed rank last.
    /// Comma-separated.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub edges: Vec<PathBuf>,
    /// Tables of known edges, such as DoRothEA or TRRUST, with columns for regulator (or tf) and target. Comma-separated.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"), length(min = 1))]
    pub known_edges: Vec<PathBuf>,
    /// Levels in the column confidence (or level) of --known-edges to keep, such as A, B and C. Comma-separated. Default: all
    /// edges.
    #[arg(long, value_name = "LEVEL")]
    pub confidence: Vec<String>,
    /// AnnData file with cells, to evaluate baselines: correlation, and regression of targets on regulators.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: Option<PathBuf>,
    /// Column of obs with the pseudotime of the cells, to add lagged correlation as a baseline. Needs --input.
    #[arg(long, value_name = "COLUMN")]
    pub pseudotime: Option<String>,
    /// TSV of AUPRC, AUROC and early precision of each method, over all regulators and for each regulator.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Random seed. Results are identical for the same seed.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            edges: Vec::new(),
            known_edges: Vec::new(),
            confidence: Vec::new(),
            input: None,
            pseudotime: None,
            output: PathBuf::new(),
            seed: 0,
            cells: cells::Options::default(),
        }
    }
}

/// The program.
pub struct Evaluate;

impl Program for Evaluate {
    const NAME: &'static str = "scgpt-grn evaluate";
    const SUMMARY: &'static str =
        "Evaluate gene networks against known regulatory edges, compared with baselines";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2428"],
        resources: Resources {
            cpus: 4,
            memory_gb: 8,
            gpu: false,
        },
        contents: &[("networks", &["obs", "obsp"])],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.pseudotime.is_some() && options.input.is_none() {
            problems.push("`--pseudotime` needs `--input`, the cells with this column".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let networks: Vec<Network> = options
            .networks
            .iter()
            .map(|path| Network::read(path, &[ATTENTION, DIFFERENCE, SIMILARITY], run))
            .collect::<Result<_>>()?;
        let cells = options.input.as_ref().map(|path| open(path, &options, run));
        let cells = cells.transpose()?;
        let genes = shared(&networks, cells.as_ref())?;
        let truth = Truth::read(&options, genes, run)?;
        let mut methods = Vec::new();
        for (network, path) in networks.iter().zip(&options.networks) {
            let several = networks.len() > 1;
            methods.extend(truth.of_network(network, several.then_some(path)));
        }
        for path in &options.edges {
            methods.push(truth.of_table(path, run)?);
        }
        if let Some(cells) = &cells {
            methods.extend(run.stage("baselines", |_| truth.of_cells(&options, cells))?);
        }
        let seed = Seed(options.seed);
        let text = run.stage("compare", |run| truth.table(&methods, seed, run))?;
        steps::write_text(&options.output, &text, run)
    }
}

fn open(path: &Path, options: &Options, run: &mut Run) -> Result<Cells> {
    run.input(path)?;
    let cells = Cells::open(path, &options.cells, None)?;
    cells.notes.iter().for_each(|note| run.note(note));
    Ok(cells)
}

/// Genes of all networks, and of the cells if there are some, in the order of the first network.
fn shared(networks: &[Network], cells: Option<&Cells>) -> Result<Vec<String>> {
    let mut sets: Vec<HashSet<&String>> = networks
        .iter()
        .map(|network| network.genes.iter().collect())
        .collect();
    sets.extend(cells.map(|cells| cells.genes.iter().collect::<HashSet<_>>()));
    let mut seen = HashSet::new();
    let is_shared = |gene: &&String| sets.iter().all(|genes| genes.contains(gene));
    let genes = networks.first().map_or(&[][..], |first| &first.genes);
    let genes: Vec<String> = genes
        .iter()
        .filter(is_shared)
        .filter(|gene| seen.insert(*gene))
        .cloned()
        .collect();
    if genes.is_empty() {
        return Err(Failure::Input
            .error("no gene is in all networks and in the cells: check that they use the same gene identifiers"));
    }
    Ok(genes)
}

/// Known edges between the shared genes.
struct Truth {
    genes: Vec<String>,
    place: HashMap<String, usize>,
    /// Genes with a known target.
    regulators: Vec<usize>,
    /// `[regulators, genes]`.
    known: Array2<bool>,
}

/// A method and its scores, `[regulators, genes]`; NaN for pairs without a score.
struct Method {
    name: String,
    scores: Array2<f64>,
}

impl Truth {
    fn read(options: &Options, genes: Vec<String>, run: &mut Run) -> Result<Self> {
        let levels: BTreeSet<String> = options.confidence.iter().cloned().collect();
        let levels = (!levels.is_empty()).then_some(&levels);
        let place: HashMap<String, usize> = genes.iter().cloned().zip(0..).collect();
        let mut targets: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut example = None;
        for path in &options.known_edges {
            run.input(path)?;
            for edge in edges::read(path, levels, TABLE_MEMORY)? {
                let both = (place.get(&*edge.regulator), place.get(&*edge.target));
                if let (Some(&regulator), Some(&target)) = both
                    && regulator != target
                {
                    targets.entry(regulator).or_default().insert(target);
                }
                example.get_or_insert(edge.regulator);
            }
        }
        if targets.is_empty() {
            let example = example.map_or(String::new(), |gene| format!(" (it contains `{gene}`)"));
            return Err(Failure::Input.error(format!(
                "no known edge connects genes of the networks, such as {}: check that `--known-edges` uses the same gene identifiers{example}",
                some(&genes)
            )));
        }
        let regulators: Vec<usize> = targets.keys().copied().collect();
        let mut known = Array2::from_elem((regulators.len(), genes.len()), false);
        for (row, targets) in targets.values().enumerate() {
            targets
                .iter()
                .for_each(|&target| known[(row, target)] = true);
        }
        run.note(format!(
            "{} known edges of {} regulators are among the {} genes",
            known.iter().filter(|known| **known).count(),
            regulators.len(),
            genes.len()
        ));
        Ok(Self {
            genes,
            place,
            regulators,
            known,
        })
    }

    fn unscored(&self) -> Array2<f64> {
        Array2::from_elem(self.known.dim(), f64::NAN)
    }

    /// Row of every gene that is a regulator.
    fn rows(&self) -> HashMap<usize, usize> {
        self.regulators.iter().copied().zip(0..).collect()
    }

    fn of_network(&self, network: &Network, path: Option<&PathBuf>) -> Vec<Method> {
        let places: Vec<Option<usize>> = network
            .genes
            .iter()
            .map(|gene| self.place.get(gene).copied())
            .collect();
        let rows = self.rows();
        let method = |one: &Scores| {
            let mut scores = self.unscored();
            for (target, (columns, values)) in one.pairs.rows().enumerate() {
                let Some(target) = places[target] else {
                    continue;
                };
                for (&column, &value) in columns.iter().zip(values) {
                    let row = places[column as usize].and_then(|gene| rows.get(&gene));
                    if let Some(&row) = row {
                        scores[(row, target)] = f64::from(value);
                    }
                }
            }
            let file = path.and_then(|path| path.file_stem());
            let name = file.map_or(one.name.clone(), |file| {
                format!("{}: {}", file.to_string_lossy(), one.name)
            });
            Method { name, scores }
        };
        network.scores.iter().map(method).collect()
    }

    fn of_table(&self, path: &Path, run: &mut Run) -> Result<Method> {
        run.input(path)?;
        let rows = self.rows();
        let mut scores = self.unscored();
        for edge in edges::read(path, None, TABLE_MEMORY)? {
            let places = (
                self.place.get(&*edge.regulator),
                self.place.get(&*edge.target),
            );
            let (Some(regulator), Some(&target)) = places else {
                continue;
            };
            if let (Some(&row), Some(score)) = (rows.get(regulator), edge.score) {
                let known = &mut scores[(row, target)];
                *known = known.max(score);
            }
        }
        let name = path.file_stem().unwrap_or_default();
        Ok(Method {
            name: name.to_string_lossy().into_owned(),
            scores,
        })
    }

    /// Baselines from expression: correlation and regression.
    fn of_cells(&self, options: &Options, cells: &Cells) -> Result<Vec<Method>> {
        let seed = Seed(options.seed);
        let columns = cells.columns(&self.genes)?;
        let everyone = vec![Some(0); cells.n_cells()];
        let (chosen, counts) = gene_selection::sampled(cells, &columns, &everyone, seed)?;
        let values = scores::log_values(cells, counts)?
            .to_dense()
            .mapv(f64::from);
        let targets: Vec<usize> = (0..self.genes.len()).collect();
        let expression = Expression {
            values: values.view(),
            regulators: &self.regulators,
            targets: &targets,
        };
        let method = |name: &str, scores: Array2<f64>| Method {
            name: name.into(),
            scores,
        };
        let mut methods = vec![
            method("absolute Pearson", coexpression::pearson(expression)?),
            method("absolute Spearman", coexpression::spearman(expression)?),
            method(
                "boosted trees",
                coexpression::boosting(expression, Boosting::default(), seed)?,
            ),
        ];
        if let Some(column) = &options.pseudotime {
            let labels = cells.labels(column)?;
            let time = |&cell: &usize| {
                let label = labels[cell].as_ref();
                label
                    .and_then(|label| label.parse().ok())
                    .unwrap_or(f64::NAN)
            };
            let times: Vec<f64> = chosen.iter().map(time).collect();
            let scores = coexpression::lagged(expression, &times, Lags::default())?;
            methods.push(method("lagged correlation", scores));
        }
        Ok(methods)
    }

    /// Metrics of all methods as a table; those over all regulators are printed as well.
    fn table(&self, methods: &[Method], seed: Seed, run: &mut Run) -> Result<String> {
        let own: Vec<Option<usize>> = self.regulators.iter().map(|&gene| Some(gene)).collect();
        let mut text = String::from(HEADER);
        let mut summary = format!(
            "{:<28} {:>8} {:>17} {:>8} {:>8} {:>16}",
            "", "AUPRC", "95 %", "ratio", "AUROC", "early precision"
        );
        for method in methods {
            let edges = Edges {
                scores: method.scores.view(),
                truth: self.known.view(),
                own: &own,
            };
            let scores = edges.score()?;
            let all = &scores.overall;
            let interval = edges.interval(RESAMPLES, seed)?;
            text.push_str(&row((&method.name, "all"), all, interval));
            for (&gene, score) in self.regulators.iter().zip(&scores.regulators) {
                text.push_str(&row((&method.name, &self.genes[gene]), score, None));
            }
            let [low, high] = interval.unwrap_or([f64::NAN; 2]);
            summary.push_str(&format!(
                "\n{:<28} {:>8.4} {:>8.4}-{:.4} {:>9.3} {:>8.4} {:>16.4}",
                method.name, all.auprc, low, high, all.auprc_ratio, all.auroc, all.early_precision
            ));
            run.metric(&format!("auprc_ratio {}", method.name), all.auprc_ratio);
            run.metric(&format!("auroc {}", method.name), all.auroc);
        }
        progress::result(&summary);
        Ok(text)
    }
}

const HEADER: &str = "method\tregulator\tn_candidate_edges\tn_true_edges\tauprc\tci_low\tci_high\tauprc_random\tauprc_ratio\tauroc\tearly_precision\tearly_precision_ratio\n";

fn row((method, regulator): (&str, &str), score: &EdgeScore, interval: Option<[f64; 2]>) -> String {
    let [low, high] = interval.map_or([String::new(), String::new()], |interval| {
        interval.map(|value| format!("{value:.6}"))
    });
    format!(
        "{method}\t{regulator}\t{}\t{}\t{:.6}\t{low}\t{high}\t{:.6}\t{:.4}\t{:.6}\t{:.6}\t{:.4}\n",
        score.possible,
        score.true_edges,
        score.auprc,
        score.random_auprc,
        score.auprc_ratio,
        score.auroc,
        score.early_precision,
        score.early_precision_ratio
    )
}
