//! `scgpt-finetune-annotation`: learn cell types from labelled cells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tch::Device;

use super::{Program, steps};
use crate::analysis::classification::{self, Scores};
use crate::baselines::{self, Labelled, Values};
use crate::cells::{self, Cells};
use crate::checkpoint::{Architecture, Checkpoint, InputStyle, write};
use crate::counts::Counts;
use crate::expression::select_genes::{Flavour, select_genes};
use crate::expression::state::State;
use crate::failure::Failure;
use crate::figures;
use crate::model::{Genes, Heads, Model, Store, weights};
use crate::predict::{self, Workers, annotation::Settings};
use crate::progress::{self, Progress};
use crate::random::Seed;
use crate::run_record::Run;
use crate::split::Split;
use crate::tokens::{self, Tokenizer};
use crate::train::annotation::{Annotation, Weights};
use crate::train::{self, Fit, Observer, Outcome, Report};
use crate::vocabulary::Vocabulary;
use crate::{compute, output};

/// Options of `scgpt-finetune-annotation`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Labelled cells, an AnnData file.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input"))]
    pub input: PathBuf,
    /// New folder for the model, its metrics and pictures.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with the cell types. Cells without one are left out.
    #[arg(long, value_name = "COLUMN")]
    pub labels: String,
    /// Pre-trained model to start from: a folder, or the name of one in a folder of SCGPT_MODELS. Without it a small model
    /// is trained from scratch.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "checkpoint", "x-direction" = "input", "x-lookup" = "SCGPT_MODELS"))]
    pub checkpoint: Option<PathBuf>,
    /// Column of obs with the technical batch or donor: highly variable genes are chosen within batches, and --dar-weight and
    /// --test-groups use it.
    #[arg(long, value_name = "COLUMN")]
    pub batch: Option<String>,
    /// Share of the labelled cells of every type that is set aside to test the model on.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_share: f64,
    /// Test on all cells of these batches, such as donors, instead of a share of all cells.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub test_groups: Vec<String>,
    /// Share of the other cells of every type by which the best epoch is chosen.
    #[arg(long)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_share: f64,
    /// Highly variable genes to read, chosen on the training cells; 0 reads all genes.
    #[arg(long)]
    pub n_hvg: usize,
    /// Give rare types the same say as common ones (class weights).
    #[arg(long)]
    pub class_weights: bool,
    /// Parts of a pre-trained model that are not trained further.
    #[arg(long)]
    pub freeze: Freeze,
    /// Also let simpler methods (PCA with logistic regression, and with nearest neighbours) learn and predict the same cells.
    #[arg(long)]
    pub baselines: bool,
    /// Seed of all random choices: the same seed gives the same model.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub cells: cells::Options,
    #[command(flatten, next_help_heading = "Model from scratch")]
    #[serde(flatten)]
    pub size: Size,
    #[command(flatten, next_help_heading = "Tokens")]
    #[serde(flatten)]
    pub tokens: tokens::Options,
    #[command(flatten, next_help_heading = "Training")]
    #[serde(flatten)]
    pub training: train::Options,
    #[command(flatten, next_help_heading = "Objectives")]
    #[serde(flatten)]
    pub weights: Weights,
    #[command(flatten, next_help_heading = "Computing")]
    #[serde(flatten)]
    pub compute: compute::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: PathBuf::new(),
            output: PathBuf::new(),
            labels: String::new(),
            checkpoint: None,
            batch: None,
            test_share: 0.2,
            test_groups: Vec::new(),
            validation_share: 0.1,
            n_hvg: 2000,
            class_weights: false,
            freeze: Freeze::None,
            baselines: true,
            seed: 0,
            cells: cells::Options::default(),
            size: Size::default(),
            tokens: tokens::Options::default(),
            training: train::Options::default(),
            weights: Weights::default(),
            compute: compute::Options::default(),
        }
    }
}

/// Size of a model that is trained from scratch.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Size {
    /// Transformer layers.
    #[arg(long)]
    #[schemars(range(min = 1, max = 96))]
    pub layers: usize,
    /// Width of the vectors that stand for genes and cells; a multiple of the heads.
    #[arg(long)]
    #[schemars(range(min = 4, max = 8192))]
    pub width: usize,
    /// Attention heads.
    #[arg(long)]
    #[schemars(range(min = 1, max = 128))]
    pub heads: usize,
    /// Width of the feed-forward layers.
    #[arg(long)]
    #[schemars(range(min = 1, max = 32768))]
    pub hidden: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            layers: 4,
            width: 128,
            heads: 4,
            hidden: 128,
        }
    }
}

/// Parts of a pre-trained model that are not trained further.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// Everything is trained.
    #[default]
    None,
    /// The gene and value encoders stay as they are.
    Encoders,
    /// Only the new heads are trained.
    Trunk,
}

impl Freeze {
    fn applies(self, name: &str) -> bool {
        let encoder = name.starts_with("encoder.") || name.starts_with("value_encoder.");
        match self {
            Self::None => false,
            Self::Encoders => encoder,
            Self::Trunk => {
                encoder || name.starts_with("transformer_encoder.") || name.starts_with("bn.")
            }
        }
    }
}

/// The program.
pub struct FinetuneAnnotation;

impl Program for FinetuneAnnotation {
    const NAME: &'static str = "scgpt-finetune-annotation";
    const SUMMARY: &'static str = "Teach a scGPT model the cell types of labelled cells";
    type Options = Options;

    fn check(options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        let Size { width, heads, .. } = options.size;
        if options.checkpoint.is_none() && width % heads != 0 {
            problems.push(format!(
                "`--width` {width} is not a multiple of `--heads` {heads}"
            ));
        }
        if options.batch.is_none() && !options.test_groups.is_empty() {
            problems.push("`--test-groups` needs `--batch`, the column the groups are in".into());
        }
        if options.batch.is_none() && options.weights.dar_weight > 0.0 {
            problems.push("`--dar-weight` needs `--batch`, the column to hide".into());
        }
        problems
    }

    fn run(options: Options, run: &mut Run) -> Result<()> {
        run.seed(options.seed);
        let work = WorkFolder::create(&options, run)?;
        run.record_at(options.output.join("run.json"));
        let device = steps::device(&options.compute, run)?;
        let data = run.stage("read cells", |run| Data::read(&options, run))?;
        let mut learner = run.stage("build the model", |run| {
            Learner::build(&options, &data, device, run)
        })?;
        run.stage("train", |run| learner.train(&options, &data, &work.0, run))?;
        let files = run.stage("test", |run| test(&options, &data, &learner, run))?;
        run.stage("write", |_| learner.write(&options, &data, &work.0, files))?;
        work.remove();
        run.output(&options.output)?;
        Ok(())
    }
}

/// Where state and metrics lie while a run goes on: OUTPUT.partial, from which it can be resumed.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn create(options: &Options, run: &mut Run) -> Result<Self> {
        output::check_directory(&options.output, output::Existing::Refuse)?;
        let mut name = options.output.as_os_str().to_owned();
        name.push(".partial");
        let folder = PathBuf::from(name);
        let failed = || format!("could not create the work folder `{}`", folder.display());
        if !options.training.resume && folder.exists() {
            run.note(format!(
                "`{}` is left from another run and is started again",
                folder.display()
            ));
            std::fs::remove_dir_all(&folder).with_context(failed)?;
        }
        std::fs::create_dir_all(&folder).with_context(failed)?;
        Ok(Self(folder))
    }

    fn remove(self) {
        // The model is complete; a folder that cannot be removed is only in the way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Labelled cells, ready to learn from.
struct Data {
    counts: Counts,
    /// Names of the genes that are columns of `counts`.
    genes: Vec<String>,
    state: State,
    class_names: Vec<String>,
    /// Class of every cell; -1 without a label.
    classes: Vec<i64>,
    batches: Option<Vec<i64>>,
    n_batches: usize,
    split: Split,
    vocabulary: Vocabulary,
    checkpoint: Option<Checkpoint>,
}

impl Data {
    fn read(options: &Options, run: &mut Run) -> Result<Self> {
        run.input(&options.input)?;
        let checkpoint = options
            .checkpoint
            .as_deref()
            .map(Checkpoint::open)
            .transpose()?;
        if let Some(checkpoint) = &checkpoint {
            run.input(&checkpoint.directory)?;
            checkpoint.notes.iter().for_each(|note| run.note(note));
        }
        let known = checkpoint.as_ref().map(|checkpoint| &checkpoint.vocabulary);
        let cells = Cells::open(&options.input, &options.cells, known)?;
        cells.notes.iter().for_each(|note| run.note(note));
        let (class_names, classes) = read_classes(&cells, options, run)?;
        let labels = options
            .batch
            .as_deref()
            .map(|column| cells.labels(column))
            .transpose()?;
        let split = split(options, &classes, labels.as_deref(), run)?;
        let (batch_names, batches) = labels.as_deref().map_or((Vec::new(), None), |labels| {
            let (names, codes) = codes(labels);
            (names, Some(codes))
        });
        let (genes, columns) = match known {
            Some(vocabulary) => {
                steps::report_genes(&cells.genes, vocabulary, run);
                cells.known_genes(vocabulary)?
            }
            None => every_gene(&cells)?,
        };
        let counts = cells.read(0..cells.n_cells(), &columns)?;
        let kept = informative_genes(
            options,
            &counts,
            cells.judgement.state,
            batches.as_deref(),
            &split,
            run,
        )?;
        let genes: Vec<String> = kept.iter().map(|&gene| genes[gene].clone()).collect();
        let vocabulary = match &checkpoint {
            Some(checkpoint) => checkpoint.vocabulary.clone(),
            None => Vocabulary::from_genes(genes.iter().cloned())?,
        };
        Ok(Self {
            counts: counts.select_genes(&kept),
            genes,
            state: cells.judgement.state,
            class_names,
            classes,
            batches,
            n_batches: batch_names.len(),
            split,
            vocabulary,
            checkpoint,
        })
    }

    /// Classes of some cells.
    fn classes_of(&self, cells: &[usize]) -> Vec<usize> {
        cells
            .iter()
            .map(|&cell| self.classes[cell] as usize)
            .collect()
    }
}

/// Sorted names and a code for every label; -1 where it is missing.
fn codes(labels: &[Option<String>]) -> (Vec<String>, Vec<i64>) {
    let names: Vec<String> = labels
        .iter()
        .flatten()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect();
    let code = |label: &String| {
        names
            .binary_search(label)
            .expect("every label is among the names") as i64
    };
    let codes = labels
        .iter()
        .map(|label| label.as_ref().map_or(-1, code))
        .collect();
    (names, codes)
}

fn read_classes(
    cells: &Cells,
    options: &Options,
    run: &mut Run,
) -> Result<(Vec<String>, Vec<i64>)> {
    let labels = cells.labels(&options.labels)?;
    let (names, classes) = codes(&labels);
    if names.len() < 2 {
        let found = names.first().map_or("no label at all".to_owned(), |name| {
            format!("only `{name}`")
        });
        return Err(Failure::Input.error(format!(
            "column `{}` of `{}` has {found}; at least two cell types are needed to tell apart",
            options.labels,
            options.input.display()
        )));
    }
    let missing = classes.iter().filter(|class| **class < 0).count();
    if missing > 0 {
        run.note(format!(
            "{missing} cells have no label in `{}` and are left out",
            options.labels
        ));
    }
    run.note(format!(
        "{} cells of {} types",
        classes.len() - missing,
        names.len()
    ));
    Ok((names, classes))
}

fn split(
    options: &Options,
    classes: &[i64],
    batches: Option<&[Option<String>]>,
    run: &mut Run,
) -> Result<Split> {
    let labelled: Vec<usize> = (0..classes.len())
        .filter(|&cell| classes[cell] >= 0)
        .collect();
    let seed = Seed(options.seed);
    let split = match batches {
        Some(batches) if !options.test_groups.is_empty() => {
            let tested = |cell: &usize| {
                batches[*cell]
                    .as_ref()
                    .is_some_and(|batch| options.test_groups.contains(batch))
            };
            for group in &options.test_groups {
                if !batches.iter().flatten().any(|batch| batch == group) {
                    let names: BTreeSet<&String> = batches.iter().flatten().collect();
                    return Err(Failure::Input.error(format!(
                        "no cell is of the test group `{group}`; there are {names:?}"
                    )));
                }
            }
            let (test, rest): (Vec<usize>, Vec<usize>) = labelled.into_iter().partition(tested);
            Split::with_test(&rest, test, classes, options.validation_share, seed)
        }
        _ => Split::stratified(
            &labelled,
            classes,
            options.test_share,
            options.validation_share,
            seed,
        ),
    };
    if split.training.is_empty() {
        return Err(
            Failure::Input.error("no cells are left to learn from: test on fewer cells or groups")
        );
    }
    let Split {
        training,
        validation,
        test,
    } = &split;
    run.note(format!(
        "{} cells to learn from, {} to choose the epoch, {} to test",
        training.len(),
        validation.len(),
        test.len()
    ));
    Ok(split)
}

/// All genes of a file, those of the same name as one.
fn every_gene(cells: &Cells) -> Result<(Vec<String>, cells::Columns)> {
    let vocabulary = Vocabulary::from_genes(unique(&cells.genes))?;
    Ok(cells.known_genes(&vocabulary)?)
}

fn unique(names: &[String]) -> impl Iterator<Item = String> + '_ {
    let mut seen = std::collections::HashSet::new();
    names
        .iter()
        .filter(move |name| !name.is_empty() && seen.insert(name.as_str()))
        .cloned()
}

/// The highly variable genes, chosen on training cells only, so that the test stays a test.
fn informative_genes(
    options: &Options,
    counts: &Counts,
    state: State,
    batches: Option<&[i64]>,
    split: &Split,
    run: &mut Run,
) -> Result<Vec<usize>> {
    if options.n_hvg == 0 || options.n_hvg >= counts.n_genes {
        run.note(format!("all {} genes are read", counts.n_genes));
        return Ok((0..counts.n_genes).collect());
    }
    let seen: Vec<usize> = [&split.training[..], &split.validation].concat();
    let (flavour, name) = match state {
        State::RawCounts => (Flavour::SeuratV3, "seurat_v3"),
        _ => (Flavour::CellRanger, "cell_ranger"),
    };
    let batches: Option<Vec<u32>> =
        batches.map(|codes| seen.iter().map(|&cell| (codes[cell] + 1) as u32).collect());
    let selection = select_genes(
        &counts.select_cells(&seen),
        options.n_hvg,
        flavour,
        batches.as_deref(),
    )?;
    run.note(format!(
        "{} highly variable genes chosen by {name} on the training cells",
        selection.kept.len()
    ));
    Ok(selection.kept)
}

/// The model being trained.
struct Learner {
    architecture: Architecture,
    genes: Genes,
    heads: Heads,
    store: Store,
    tokenizer: Tokenizer,
    table: Option<weights::Table>,
}

impl Learner {
    fn build(options: &Options, data: &Data, device: Device, run: &mut Run) -> Result<Self> {
        let (architecture, genes, plain_norm) = match &data.checkpoint {
            Some(checkpoint) => (
                checkpoint.architecture.clone(),
                predict::genes(checkpoint),
                checkpoint.heads.batch_norm,
            ),
            None => {
                let genes = Genes {
                    rows: data.vocabulary.len() as i64,
                    pad: data.vocabulary.pad().map(i64::from),
                };
                (new_architecture(options), genes, false)
            }
        };
        let heads = Heads {
            plain_norm,
            ..options
                .weights
                .heads(data.class_names.len(), data.n_batches)
        };
        let mut store = Store::new(Seed(options.seed), device);
        Model::new(&mut store, &architecture, genes, heads);
        let table = data
            .checkpoint
            .as_ref()
            .map(|checkpoint| weights::load(&store, &checkpoint.state));
        if let Some(table) = &table {
            steps::report_weights(table, run);
            table.require_trunk()?;
        }
        store.freeze(|name| options.freeze.applies(name));
        let settings = tokens::Settings {
            options: options.tokens.clone(),
            cls: data.vocabulary.cls().map(i64::from),
            cls_value: 0.0,
            binned: true,
        };
        let ids = data
            .genes
            .iter()
            .filter_map(|gene| data.vocabulary.id(gene))
            .map(i64::from)
            .collect();
        let tokenizer = Tokenizer::new(settings, ids, Seed(options.seed));
        Ok(Self {
            architecture,
            genes,
            heads,
            store,
            tokenizer,
            table,
        })
    }

    fn train(&mut self, options: &Options, data: &Data, work: &Path, run: &mut Run) -> Result<()> {
        let class_weights = options.class_weights.then(|| balanced(data));
        let objective = Annotation {
            cells: &data.counts,
            tokenizer: &self.tokenizer,
            classes: &data.classes,
            batches: data.batches.as_deref(),
            class_weights: class_weights.as_deref(),
            weights: &options.weights,
            architecture: &self.architecture,
            genes: self.genes,
            heads: self.heads,
            seed: Seed(options.seed),
            device: self.store.device(),
        };
        let fit = Fit {
            options: &options.training,
            training: data.split.training.clone(),
            validation: data.split.validation.clone(),
            seed: Seed(options.seed),
            threads: run.threads(),
            device: self.store.device(),
            folder: work.to_owned(),
            fingerprint: fingerprint(options, run),
        };
        let mut watch = Watch::new(&fit, run);
        let outcome = fit.run(&objective, &mut self.store, &mut watch)?;
        match outcome {
            Outcome::Finished {
                best_epoch,
                best_loss,
            } => {
                run.metric("best_epoch", best_epoch);
                run.metric("best_validation_loss", best_loss);
                Ok(())
            }
            Outcome::Interrupted => Err(Failure::Interrupted
                .error("stopped by a signal; the same command with `--resume` goes on")),
        }
    }

    /// Class probabilities of some cells, in their order.
    fn predict(&self, data: &Data, cells: &[usize], threads: usize) -> Vec<Vec<f32>> {
        let build =
            |store: &mut Store| Model::new(store, &self.architecture, self.genes, self.heads);
        let mut workers = Workers::new(&self.store, threads, build);
        // Cells are tokenised under the numbers they have in the file, as in training.
        workers.rows_of(
            (&self.tokenizer, &data.counts, cells),
            predict::annotation::probabilities,
        )
    }

    fn write(
        &self,
        options: &Options,
        data: &Data,
        work: &Path,
        mut files: Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        let settings = Settings {
            format: predict::annotation::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            task: "annotation".into(),
            classes: data.class_names.clone(),
            genes: data.genes.clone(),
            tokens: self.tokenizer.settings().clone(),
            seed: options.seed,
        };
        let mut arguments = data
            .checkpoint
            .as_ref()
            .map_or_else(Map::new, |checkpoint| checkpoint.arguments.clone());
        arguments.insert("n_classes".into(), json!(data.class_names.len()));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        if let Some(table) = &self.table {
            files.push((
                "loaded_weights.json".into(),
                serde_json::to_vec_pretty(table)?,
            ));
        }
        let metrics = work.join("metrics.jsonl");
        files.push((
            "metrics.jsonl".into(),
            std::fs::read(&metrics)
                .with_context(|| format!("could not read `{}`", metrics.display()))?,
        ));
        let contents = write::Contents {
            state: &weights::state(&self.store),
            architecture: &self.architecture,
            arguments: &arguments,
            vocabulary: &data.vocabulary,
            files: &files,
        };
        Ok(write::write(&options.output, contents, write::Form::OWN)?)
    }
}

fn new_architecture(options: &Options) -> Architecture {
    let Size {
        layers,
        width,
        heads,
        hidden,
    } = options.size;
    Architecture {
        embsize: width,
        nheads: heads,
        d_hid: hidden,
        nlayers: layers,
        n_layers_cls: 3,
        dropout: options.training.dropout,
        pad_token: "<pad>".into(),
        pad_value: -2,
        mask_value: -1,
        n_bins: options.tokens.n_bins,
        input_emb_style: InputStyle::Continuous,
        max_seq_len: options.tokens.max_length,
    }
}

/// Weights that give every class the same total among the training cells.
fn balanced(data: &Data) -> Vec<f32> {
    let classes = data.classes_of(&data.split.training);
    let count = |class| classes.iter().filter(|&&c| c == class).count().max(1);
    let share = classes.len() as f32 / data.class_names.len() as f32;
    (0..data.class_names.len())
        .map(|class| share / count(class) as f32)
        .collect()
}

/// One word for everything that decides the course of a run: version, options and input files.
fn fingerprint(options: &Options, run: &Run) -> String {
    let mut options = serde_json::to_value(options).expect("options are JSON");
    if let Value::Object(map) = &mut options {
        for free in ["resume", "save_every", "output", "device", "baselines"] {
            map.remove(free);
        }
    }
    let text = format!(
        "{} {options} {}",
        env!("CARGO_PKG_VERSION"),
        serde_json::to_string(run.inputs()).unwrap_or_default()
    );
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Shows the progress of training.
struct Watch<'r> {
    run: &'r Run,
    progress: Progress,
    per_epoch: u64,
    done: u64,
}

impl<'r> Watch<'r> {
    fn new(fit: &Fit, run: &'r Run) -> Self {
        let per_epoch = fit.training.len() as u64;
        let progress = Progress::new("training", fit.options.epochs * per_epoch, "cells");
        Self {
            run,
            progress,
            per_epoch,
            done: 0,
        }
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, report: &Report) {
        let done = report.epoch * self.per_epoch + report.cells_done;
        self.progress.set_fields(format!("loss {:.4}", report.loss));
        self.progress.advance(done - self.done);
        self.done = done;
    }

    fn epoch(&mut self, line: &str) {
        progress::note(line);
    }

    fn interrupted(&self) -> bool {
        self.run.interrupted()
    }
}

/// Scores the model and the baselines on the test cells; returns the files to keep with the model.
fn test(
    options: &Options,
    data: &Data,
    learner: &Learner,
    run: &mut Run,
) -> Result<Vec<(String, Vec<u8>)>> {
    if data.split.test.is_empty() {
        run.note("no cells were set aside to test on");
        return Ok(Vec::new());
    }
    let truth = data.classes_of(&data.split.test);
    let best =
        |row: &Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    let predicted: Vec<Option<usize>> = learner
        .predict(data, &data.split.test, run.threads())
        .iter()
        .map(best)
        .collect();
    let scores = classification::score(&truth, &predicted, &data.class_names)?;
    let mut table = vec![("scGPT".to_owned(), scores.clone())];
    if options.baselines {
        table.extend(run.stage("baselines", |_| baseline_scores(data, &truth))?);
    }
    progress::line(&table_text(&table));
    let by_method: Map<String, Value> = table
        .iter()
        .map(|(name, scores)| Ok((name.clone(), serde_json::to_value(scores)?)))
        .collect::<Result<_>>()?;
    run.metric("test", &by_method);
    Ok(vec![
        (
            "test_metrics.json".into(),
            serde_json::to_vec_pretty(&by_method)?,
        ),
        ("test_metrics.tsv".into(), table_tsv(&table).into_bytes()),
        (
            "confusion.tsv".into(),
            confusion_tsv(&scores, &data.class_names).into_bytes(),
        ),
        (
            "confusion.svg".into(),
            figures::confusion_matrix(&scores.confusion, &data.class_names, "Test cells")
                .into_bytes(),
        ),
    ])
}

/// What simpler methods make of the same cells and genes.
fn baseline_scores(data: &Data, truth: &[usize]) -> Result<Vec<(String, Scores)>> {
    let seen: Vec<usize> = [&data.split.training[..], &data.split.validation].concat();
    let labels: Vec<u32> = data
        .classes_of(&seen)
        .into_iter()
        .map(|class| class as u32)
        .collect();
    let counts = data.counts.select_cells(&seen);
    let values = if data.state == State::RawCounts {
        Values::Raw
    } else {
        Values::Logarithms
    };
    let known = Labelled {
        counts: &counts,
        labels: &labels,
    };
    let options = baselines::Options {
        genes: data.counts.n_genes,
        ..baselines::Options::default()
    };
    let baselines = baselines::predict(
        known,
        &data.counts.select_cells(&data.split.test),
        values,
        options,
    )?;
    let score = |name: &str, prediction: baselines::Prediction| -> Result<(String, Scores)> {
        let predicted: Vec<Option<usize>> = prediction
            .classes
            .iter()
            .map(|&class| Some(class as usize))
            .collect();
        Ok((
            name.to_owned(),
            classification::score(truth, &predicted, &data.class_names)?,
        ))
    };
    Ok(vec![
        score("PCA + logistic regression", baselines.logistic)?,
        score("PCA + nearest neighbours", baselines.neighbours)?,
    ])
}

fn table_text(table: &[(String, Scores)]) -> String {
    let line = |(name, scores): &(String, Scores)| {
        format!(
            "{name:<26} {:>8.4} {:>9.4} {:>12.4}",
            scores.accuracy, scores.macro_average.f1, scores.weighted_average.f1
        )
    };
    let lines: Vec<String> = table.iter().map(line).collect();
    format!(
        "{:<26} {:>8} {:>9} {:>12}\n{}",
        "test cells",
        "accuracy",
        "macro F1",
        "weighted F1",
        lines.join("\n")
    )
}

fn table_tsv(table: &[(String, Scores)]) -> String {
    let mut text = String::from(
        "method\taccuracy\tmacro_precision\tmacro_recall\tmacro_f1\tweighted_precision\tweighted_recall\tweighted_f1\n",
    );
    for (name, scores) in table {
        let (m, w) = (&scores.macro_average, &scores.weighted_average);
        let numbers = [
            scores.accuracy,
            m.precision,
            m.recall,
            m.f1,
            w.precision,
            w.recall,
            w.f1,
        ];
        let numbers: Vec<String> = numbers
            .iter()
            .map(|number| format!("{number:.6}"))
            .collect();
        text.push_str(&format!("{name}\t{}\n", numbers.join("\t")));
    }
    text
}

/// True types in rows, predicted ones in columns.
fn confusion_tsv(scores: &Scores, names: &[String]) -> String {
    let mut text = format!("true\t{}\tunassigned\n", names.join("\t"));
    for (name, row) in names.iter().zip(&scores.confusion) {
        let counts: Vec<String> = row.iter().map(u64::to_string).collect();
        text.push_str(&format!("{name}\t{}\n", counts.join("\t")));
    }
    text
}
