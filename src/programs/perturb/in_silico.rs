//! `scgpt-perturb in-silico`: embedding shift after deletion or overexpression of a gene, with any pre-trained model and
//! without training on perturbations (as in Geneformer; Theodoris et al. 2023, Nature 618:616).

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
use crate::predict::{Pretrained, Workers, normalized};
use crate::programs::{
    CELLS, CHECKPOINT, Facts, INFERENCE, Program, TOPICS, perturbation_data, steps,
};
use crate::progress::Progress;
use crate::random::{self, Seed};
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer};
use crate::trainer;

/// Options of `scgpt-perturb in-silico`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// AnnData file with cells of the start group and of the target group.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// Pre-trained model: a directory, or the name of a model in one of the directories in the environment variable SCGPT_MODELS
    /// (separated by colons).
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: PathBuf,
    /// TSV with one row per gene, largest shift first: cells that change, shift of the embedding (of length 1) toward the target
    /// group (target_shift), change of its cosine with the center of that group (cosine_shift), and p-values.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Genes to delete or overexpress, one at a time. Required unless --genes-file is given. Comma-separated.
    #[arg(long, value_name = "GENE")]
    pub genes: Vec<String>,
    /// Text file with genes as in --genes, one per line.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "txt", "x-direction" = "input"))]
    pub genes_file: Option<PathBuf>,
    /// Overexpress the genes instead of deleting them: set a gene to the highest value of the cell.
    #[arg(long)]
    pub overexpress: bool,
    /// Column of obs with groups of cells, such as cell types or states.
    #[arg(long, value_name = "COLUMN")]
    pub groups: String,
    /// Value of --groups for the cells that are perturbed.
    #[arg(long, value_name = "VALUE")]
    pub start: String,
    /// Value of --groups for the cells toward which the shift is measured.
    #[arg(long, value_name = "VALUE")]
    pub target: String,
    /// Maximum number of cells per group, sampled at random; 0 uses all.
    #[arg(long)]
    pub max_cells: usize,
    /// Number of permutations of the cells of both groups for the p-value.
    #[arg(long)]
    #[schemars(range(min = 1))]
    pub permutations: usize,
    /// Random seed. On a CPU, results are identical for the same seed; on a GPU they may differ slightly.
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
            overexpress: false,
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
        "In silico gene deletion or overexpression: embedding shift toward a target group";
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
            problems.push(
                "give `--genes` or `--genes-file`, the genes to delete or overexpress".into(),
            );
        }
        if !options.start.is_empty() && options.start == options.target {
            problems.push(
                "`--start` and `--target` are the same group: give two different groups".into(),
            );
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let device = steps::device(&options.compute, run)?;
        let checkpoint = Checkpoint::open(&options.checkpoint)?;
        run.input(&checkpoint.directory)?;
        run.input(&options.input)?;
        let genes = steps::gene_names(&options.genes, options.genes_file.as_ref(), run)?;
        let model = run.stage("load_model", |_| Pretrained::new(checkpoint, device))?;
        trainer::report_weights(&model.weights, run);
        let cells = Cells::open(&options.input, &options.cells, Some(&model.vocabulary))?;
        cells.notes.iter().for_each(|note| run.note(note));
        let reader = CellReader::new(&options, &model, &cells)?;
        let (known, unknown): (Vec<String>, Vec<String>) = genes
            .into_iter()
            .partition(|gene| reader.genes.contains(gene));
        if known.is_empty() {
            return Err(perturbation_data::unknown_genes(&unknown, &reader.genes));
        }
        if !unknown.is_empty() {
            run.warning(format!(
                "{} genes are dropped, because they are not in both the file and the vocabulary: {}",
                unknown.len(),
                perturbation_data::some(&unknown)
            ));
        }
        let mut workers = model.workers(run.threads());
        let shifts = run.stage("perturb", |run| {
            reader.shifts(&options, &mut workers, &known, run)
        })?;
        let text = table(&shifts);
        steps::write_text(&options.output, &text, run)
    }
}

/// Cells of both groups: first those of the start, then those of the target.
struct CellReader {
    counts: Counts,
    n_start: usize,
    genes: Vec<String>,
    tokenizer: Tokenizer,
}

/// Embedding shift after deletion or overexpression of a gene.
struct Shift {
    gene: String,
    /// Cells that changed.
    cells: usize,
    /// Mean shift in the direction from the start to the target, in units of the embedding, which has length 1.
    target_shift: f64,
    /// Mean change of the cosine with the center of the target.
    cosine: f64,
    /// Fraction of permutations of the groups with a shift as large.
    p_value: f64,
}

impl CellReader {
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
                    "no cell of `{}` is in the group `{name}` of the column `{}`, which has {}",
                    options.input.display(),
                    options.groups,
                    perturbation_data::some(&found)
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
            tokens::Values::Log1p => cells.read_linear(0..cells.n_cells(), &columns)?,
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

    /// Embeddings of some cells, `[cells, embedding dimension]`.
    fn embed(&self, workers: &mut Workers, counts: &Counts, cells: &[usize]) -> Array2<f64> {
        let rows = workers.rows_of((&self.tokenizer, counts, cells), |_, encoded| {
            normalized(encoded)
        });
        let width = rows.first().map_or(0, Vec::len);
        let values = rows.concat().into_iter().map(f64::from).collect();
        Array2::from_shape_vec((rows.len(), width), values).expect("an embedding for every cell")
    }

    fn shifts(
        &self,
        options: &Options,
        workers: &mut Workers,
        genes: &[String],
        run: &Run,
    ) -> Result<Vec<Shift>> {
        let n = self.counts.n_cells();
        let all: Vec<usize> = (0..n).collect();
        let before = self.embed(workers, &self.counts, &all);
        let directions = directions(&before, self.n_start, options);
        let center = unit(mean(&before, &all[self.n_start..]));
        let mut progress = Progress::new("perturbing", genes.len() as u64, "genes");
        let mut shifts = Vec::new();
        for gene in genes {
            steps::check_interrupted(run)?;
            let column = self.genes.iter().position(|known| known == gene);
            let column = column.expect("a gene of the cells") as u32;
            let (counts, changed) = self.perturb(column, options.overexpress);
            let shift = match changed.is_empty() {
                true => Array1::zeros(before.ncols()),
                false => {
                    let after = self.embed(workers, &counts, &changed);
                    let shifts = &after - &before.select(Axis(0), &changed);
                    shifts.sum_axis(Axis(0)) / self.n_start as f64
                }
            };
            let towards: Vec<f64> = directions
                .iter()
                .map(|direction| shift.dot(direction))
                .collect();
            let as_far = towards[1..]
                .iter()
                .filter(|random| random.abs() >= towards[0].abs())
                .count();
            shifts.push(Shift {
                gene: gene.clone(),
                cells: changed.len(),
                target_shift: towards[0],
                cosine: shift.dot(&center),
                p_value: (1 + as_far) as f64 / towards.len() as f64,
            });
            progress.advance(1);
        }
        progress.finish();
        Ok(shifts)
    }

    /// The start cells without a gene, or with it at their highest value, and which of them change.
    fn perturb(&self, column: u32, overexpress: bool) -> (Counts, Vec<usize>) {
        let mut changed = Vec::new();
        let mut counts = Counts::empty(self.counts.n_genes);
        for cell in 0..self.n_start {
            let (genes, values) = self.counts.row(cell);
            let mut row: Vec<(u32, f32)> =
                genes.iter().copied().zip(values.iter().copied()).collect();
            let highest = values.iter().copied().fold(0.0, f32::max);
            let wanted = if overexpress { highest } else { 0.0 };
            let found = row.binary_search_by_key(&column, |(gene, _)| *gene);
            let current = found.map_or(0.0, |at| row[at].1);
            let others = row
                .iter()
                .any(|(gene, value)| *gene != column && *value != 0.0);
            if current != wanted && (overexpress || others) {
                changed.push(cell);
                match found {
                    Ok(at) if overexpress => row[at].1 = wanted,
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

/// The direction from the center of the start to that of the target, and the same for permuted groups.
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

/// Genes by decreasing shift toward the target.
fn table(shifts: &[Shift]) -> String {
    let adjusted = adjust(&shifts.iter().map(|m| m.p_value).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..shifts.len()).collect();
    order.sort_by(|&a, &b| {
        shifts[b]
            .target_shift
            .total_cmp(&shifts[a].target_shift)
            .then(a.cmp(&b))
    });
    let mut text =
        String::from("gene\tcells\ttarget_shift\tcosine_shift\tp_value\tadjusted_p_value\n");
    for at in order {
        let Shift {
            gene,
            cells,
            target_shift,
            cosine,
            p_value,
        } = &shifts[at];
        text.push_str(&format!(
            "{gene}\t{cells}\t{target_shift:.8}\t{cosine:.8}\t{p_value}\t{}\n",
            adjusted[at]
        ));
    }
    text
}
