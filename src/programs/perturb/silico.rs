//! `scgpt-perturb in-silico`: where cells move if a gene is deleted from them or raised, by any model, without training on
//! perturbations (the manner of Geneformer; Theodoris et al. 2023, Nature 618:616).

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array1, Array2, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::differential::adjust;
use crate::cells::{self, Cells};
use crate::checkpoint::Checkpoint;
use crate::compute;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::predict::{Pretrained, Workers, normalised};
use crate::programs::{CELLS, CHECKPOINT, Facts, INFERENCE, Program, TOPICS, perturbed, steps};
use crate::progress::Progress;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer};

/// Options of `scgpt-perturb in-silico`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Cells, an AnnData file.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Pre-trained model: a folder, or the name of one in a folder of SCGPT_MODELS.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// Where to write how far each gene moves the cells, as a table.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Genes to delete or raise, one at a time.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// File with such genes, one in a line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Raise the genes to the highest value of the cell instead of deleting them.
    #[arg(long)]
    pub raise: bool,
    /// Column of obs with the groups of cells, such as cell types or states.
    #[arg(long, value_name = "COLUMN")]
    pub groups: String,
    /// Group whose cells are perturbed.
    #[arg(long, value_name = "VALUE")]
    pub start: String,
    /// Group towards which a move counts.
    #[arg(long, value_name = "VALUE")]
    pub target: String,
    /// Most cells of each group, chosen at random; 0 takes all.
    #[arg(long)]
    pub max_cells: usize,
    /// Permutations of the groups behind a p-value.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub permutations: usize,
    /// Seed of all random choices: the same seed gives the same answers.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Tokens")]
    #[serde(flatten)]
    pub tokens: tokens::Options,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            checkpoint: PathBuf::new(),
            output: PathBuf::new(),
            genes: Vec::new(),
            genes_file: None,
            raise: false,
            groups: String::new(),
            start: String::new(),
            target: String::new(),
            max_cells: 200,
            permutations: 999,
            seed: 0,
            cells: cells::Options::default(),
            tokens: tokens::Options::default(),
            compute: compute::Options::default(),
        }
    }
}

/// The program.
pub struct InSilico;

impl Program for InSilico {
    const NAME: &'static str = "scgpt-perturb in-silico";
    const SUMMARY: &'static str =
        "Delete or raise genes in cells and measure where a model moves them";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_2423"],
        resources: INFERENCE,
        contents: &[("input", CELLS), ("checkpoint", CHECKPOINT)],
    };
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        if options.genes.is_empty() && options.genes_file.is_none() {
            problems.push("give `--genes` or `--genes-file`, the genes to delete or raise".into());
        }
        if !options.start.is_empty() && options.start == options.target {
            problems.push("`--start` and `--target` are the same group: name two".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let genes = steps::gene_names(&options.genes, options.genes_file.as_ref(), run)?;
        let model = run.stage("load the model", |_| Pretrained::new(checkpoint, device))?;
        steps::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let scene = Scene::new(&options, &model, &cells)?;
        let (known, unknown): (Vec<String>, Vec<String>) = genes
            .into_iter()
            .partition(|gene| scene.genes.contains(gene));
        if known.is_empty() {
            return Err(perturbed::unknown_genes(&unknown, &scene.genes));
        }
        if !unknown.is_empty() {
            run.warning(format!(
                "{} genes are not both in the file and known to the model, and left out: {}",
                unknown.len(),
                perturbed::some(&unknown)
            ));
        }
        let mut workers = model.workers(run.threads());
        let moves = run.stage("move", |run| {
            scene.moves(&options, &mut workers, &known, run)
        })?;
        let text = table(&moves);
        steps::write_text(&options.output, &text, run)
    }
}

/// Cells of both groups: first those to start from, then those of the target.
struct Scene {
    counts: Counts,
    n_start: usize,
    genes: Vec<String>,
    tokenizer: Tokenizer,
}

/// What became of the cells without a gene, or with more of it.
struct Move {
    gene: String,
    /// Cells that changed.
    cells: usize,
    /// Mean move in the direction from the start to the target, in units of the embedding, whose vectors have length 1.
    towards_target: f64,
    /// Mean change of the cosine with the centre of the target.
    cosine: f64,
    /// Share of permutations of the groups with a move as large.
    p_value: f64,
}

impl Scene {
    fn new(options: &Options, model: &Pretrained, cells: &Cells) -> Result<Self> {
        let labels = cells.labels(&options.groups)?;
        let group = |name: &String, number: u64| -> Result<Vec<usize>> {
            let own = labels
                .iter()
                .enumerate()
                .filter(|(_, label)| label.as_ref() == Some(name));
            let own: Vec<usize> = own.map(|(cell, _)| cell).collect();
            if own.is_empty() {
                let found: BTreeSet<&String> = labels.iter().flatten().collect();
                let found: Vec<&String> = found.into_iter().collect();
                return Err(Failure::Input.error(format!(
                    "no cell of `{}` is of the group `{name}` of the column `{}`, which has {}",
                    options.input.display(),
                    options.groups,
                    perturbed::some(&found)
                )));
            }
            let most = if options.max_cells == 0 {
                own.len()
            } else {
                options.max_cells
            };
            let mut stream = Seed(options.seed).stream("cells of a group", &[number]);
            let mut chosen = random::sample(&mut stream, own.len(), most.min(own.len()));
            chosen.sort_unstable();
            Ok(chosen.into_iter().map(|at| own[at]).collect())
        };
        let (start, target) = (group(&options.start, 0)?, group(&options.target, 1)?);
        let genes = model.genes_of(&cells.genes);
        if genes.is_empty() {
            let known = model.vocabulary.genes().map(str::to_owned);
            return Err(cells.no_genes(known.collect()).into());
        }
        let tokenizer = model.tokenizer(&options.tokens, &genes, Seed(options.seed));
        let columns = cells.columns(&genes)?;
        let all = match tokenizer.settings().values {
            tokens::Values::Logarithms => cells.read_linear(0..cells.n_cells(), &columns)?,
            _ => cells.read(0..cells.n_cells(), &columns)?,
        };
        let n_start = start.len();
        let both: Vec<usize> = start.into_iter().chain(target).collect();
        Ok(Self {
            counts: all.select_cells(&both),
            n_start,
            genes,
            tokenizer,
        })
    }

    /// Vectors of some cells, `[cells, width]`.
    fn vectors(&self, workers: &mut Workers, counts: &Counts, cells: &[usize]) -> Array2<f64> {
        let rows = workers.rows_of((&self.tokenizer, counts, cells), |_, encoded| {
            normalised(encoded)
        });
        let width = rows.first().map_or(0, Vec::len);
        let values = rows.concat().into_iter().map(f64::from).collect();
        Array2::from_shape_vec((rows.len(), width), values).expect("a vector for every cell")
    }

    fn moves(
        &self,
        options: &Options,
        workers: &mut Workers,
        genes: &[String],
        run: &Run,
    ) -> Result<Vec<Move>> {
        let n = self.counts.n_cells();
        let all: Vec<usize> = (0..n).collect();
        let before = self.vectors(workers, &self.counts, &all);
        let directions = directions(&before, self.n_start, options);
        let centre = unit(mean(&before, &all[self.n_start..]));
        let mut progress = Progress::new("moving", genes.len() as u64, "genes");
        let mut moves = Vec::new();
        for gene in genes {
            steps::stop_if_asked(run)?;
            let column = self.genes.iter().position(|known| known == gene);
            let column = column.expect("a gene of the scene") as u32;
            let (counts, changed) = self.perturb(column, options.raise);
            let shift = match changed.is_empty() {
                true => Array1::zeros(before.ncols()),
                false => {
                    let after = self.vectors(workers, &counts, &changed);
                    let moves = &after - &before.select(Axis(0), &changed);
                    moves.sum_axis(Axis(0)) / self.n_start as f64
                }
            };
            let towards: Vec<f64> = directions
                .iter()
                .map(|direction| shift.dot(direction))
                .collect();
            let as_far = towards[1..]
                .iter()
                .filter(|by_chance| by_chance.abs() >= towards[0].abs())
                .count();
            moves.push(Move {
                gene: gene.clone(),
                cells: changed.len(),
                towards_target: towards[0],
                cosine: shift.dot(&centre),
                p_value: (1 + as_far) as f64 / towards.len() as f64,
            });
            progress.advance(1);
        }
        progress.finish();
        Ok(moves)
    }

    /// The cells to start from without a gene, or with it at their highest value, and which of them that changes.
    fn perturb(&self, column: u32, raise: bool) -> (Counts, Vec<usize>) {
        let mut changed = Vec::new();
        let mut counts = Counts::empty(self.counts.n_genes);
        for cell in 0..self.n_start {
            let (genes, values) = self.counts.row(cell);
            let mut row: Vec<(u32, f32)> =
                genes.iter().copied().zip(values.iter().copied()).collect();
            let highest = values.iter().copied().fold(0.0, f32::max);
            let wanted = if raise { highest } else { 0.0 };
            let found = row.binary_search_by_key(&column, |(gene, _)| *gene);
            let current = found.map_or(0.0, |at| row[at].1);
            let others = row
                .iter()
                .any(|(gene, value)| *gene != column && *value != 0.0);
            if current != wanted && (raise || others) {
                changed.push(cell);
                match found {
                    Ok(at) if raise => row[at].1 = wanted,
                    Ok(at) => drop(row.remove(at)),
                    Err(at) => row.insert(at, (column, wanted)),
                }
            }
            counts.push(row);
        }
        (counts, changed)
    }
}

fn mean(vectors: &Array2<f64>, cells: &[usize]) -> Array1<f64> {
    let own = vectors.select(Axis(0), cells);
    own.sum_axis(Axis(0)) / cells.len().max(1) as f64
}

fn unit(vector: Array1<f64>) -> Array1<f64> {
    let length = vector.dot(&vector).sqrt();
    if length > 0.0 {
        vector / length
    } else {
        vector
    }
}

/// The direction from the centre of the start to that of the target, and the same for permuted groups.
fn directions(vectors: &Array2<f64>, n_start: usize, options: &Options) -> Vec<Array1<f64>> {
    let n = vectors.nrows();
    let between =
        |order: &[usize]| unit(mean(vectors, &order[n_start..]) - mean(vectors, &order[..n_start]));
    let permuted = (0..options.permutations as u64).map(|permutation| {
        let mut stream = Seed(options.seed).stream("groups permuted", &[permutation]);
        between(&random::permutation(&mut stream, n))
    });
    let own: Vec<usize> = (0..n).collect();
    std::iter::once(between(&own)).chain(permuted).collect()
}

/// Genes from the one that moves cells most towards the target.
fn table(moves: &[Move]) -> String {
    let adjusted = adjust(&moves.iter().map(|m| m.p_value).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..moves.len()).collect();
    order.sort_by(|&a, &b| {
        moves[b]
            .towards_target
            .total_cmp(&moves[a].towards_target)
            .then(a.cmp(&b))
    });
    let mut text =
        String::from("gene\tcells\ttowards_target\tcosine_shift\tp_value\tadjusted_p_value\n");
    for at in order {
        let Move {
            gene,
            cells,
            towards_target,
            cosine,
            p_value,
        } = &moves[at];
        text.push_str(&format!(
            "{gene}\t{cells}\t{towards_target:.8}\t{cosine:.8}\t{p_value}\t{}\n",
            adjusted[at]
        ));
    }
    text
}
