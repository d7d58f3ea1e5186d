//! `scgpt-map-reference build`: an index of embedded reference cells.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::embedded::Embedded;
use super::{Facts, INDEX, MOST_LABELS, Program, SEARCH, TOPICS, steps};
use crate::failure::Failure;
use crate::formats::h5ad::Vectors;
use crate::output::{Directory, Existing};
use crate::progress::Progress;
use crate::random::{Seed, sample};
use crate::reference_index::{
    Annotated, MANIFEST, Manifest, Metric, ReferenceIndex, Settings, Writer,
};
use crate::run_record::Run;

/// Cells on which inverted lists and principal components are trained: minimum, number per list, and maximum.
const SAMPLE: usize = 10_000;
const SAMPLE_PER_LIST: usize = 32;
const LARGEST_SAMPLE: usize = 1 << 19;
/// Minimum mean number of training cells per list.
const FEWEST_PER_LIST: usize = 8;
/// Default element of obsm with coordinates, if all files contain it.
const USUAL_COORDINATES: &str = "X_umap";
/// Value of `--coordinates` for principal components.
const COMPONENTS: &str = "pca";

/// Options of `scgpt-map-reference build`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct BuildOptions {
    /// AnnData files with embedded reference cells, as written by scgpt-embed. Comma-separated.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input", "minItems" = 1))]
    pub input: Vec<PathBuf>,
    /// Directory with the reference index. It must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with the labels to transfer, such as cell types; at most 2000 distinct labels. Required unless --add-to is
    /// given.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Additional columns of obs to store; they can be used for label transfer as well. Comma-separated.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Reference index to extend; the output contains its cells and those of --input. It defines label, columns, coordinates,
    /// metric and lists. Exact indexes stay exact, which is slow above a million cells: build one from all files instead.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "input"))]
    pub add_to: Option<PathBuf>,
    /// Element of obsm with the cell embeddings, or X. Default: X_scGPT if present, else X.
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub obsm_key: Option<String>,
    /// Element of obsm whose first two columns are the coordinates of cells in plots, or pca for principal components of the cell
    /// embeddings. Default: X_umap if all files have it, else pca.
    #[arg(long, value_name = "NAME")]
    pub coordinates: Option<String>,
    /// Distance between cell embeddings.
    #[arg(long)]
    pub metric: Metric,
    /// Number of inverted lists (nlist in faiss); 1 is exact. With more, a search reads only the lists nearest to a cell and may
    /// miss a few neighbors. At least 8 cells per list are required. Default: 1 up to a million cells, above that the square root
    /// of their number.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 65536))]
    pub n_lists: Option<usize>,
    /// Random seed. Results are identical for the same seed.
    #[arg(long)]
    pub seed: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            output: PathBuf::new(),
            label: None,
            columns: Vec::new(),
            add_to: None,
            obsm_key: None,
            coordinates: None,
            metric: Metric::Cosine,
            n_lists: None,
            seed: 0,
        }
    }
}

/// The program.
pub struct Build;

impl Program for Build {
    const NAME: &'static str = "scgpt-map-reference build";
    const SUMMARY: &'static str = "Build an index of embedded reference cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0227"],
        resources: SEARCH,
        contents: &[
            ("input", &["obsm/X_scGPT", "obs"]),
            ("output", INDEX),
            ("add_to", INDEX),
        ],
    };
    type Options = BuildOptions;

    fn check(options: &BuildOptions) -> Vec<String> {
        let mut problems = Vec::new();
        if options.add_to.is_none() && options.label.is_none() {
            problems.push("`--label` is required unless `--add-to` is given".to_owned());
        }
        let fixed = [
            ("--label", options.label.is_some()),
            ("--columns", !options.columns.is_empty()),
            ("--coordinates", options.coordinates.is_some()),
            ("--n-lists", options.n_lists.is_some()),
            ("--metric", options.metric != Metric::default()),
        ];
        for (flag, _) in fixed
            .iter()
            .filter(|(_, given)| *given && options.add_to.is_some())
        {
            problems.push(format!(
                "`{flag}` cannot be used with `--add-to`, whose index defines it: remove `{flag}`"
            ));
        }
        problems
    }

    fn run(options: BuildOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.seed(options.seed);
        let directory = Directory::create(&options.output, Existing::Refuse)?;
        let files = open(&options, run)?;
        let old = options
            .add_to
            .as_ref()
            .map(|path| ReferenceIndex::open(path, true))
            .transpose()?;
        let settings = match &old {
            Some(old) => settings_of(&old.manifest, options.seed),
            None => settings(&options, &files)?,
        };
        let of = match old {
            Some(_) => "the index",
            None => "the other files",
        };
        files
            .iter()
            .try_for_each(|file| file.require_width(settings.width, of))?;
        require_few_labels(&files, &settings.label)?;
        let mut writer = match (&old, &options.add_to) {
            (Some(old), Some(from)) => {
                run.input(&from.join(MANIFEST))?;
                for (file, sha256) in old.manifest.checksums() {
                    run.input_known(&from.join(file), sha256)?;
                }
                Writer::extend(directory.path(), old, from, settings.seed)?
            }
            _ => run.stage("train_partitions", |run| {
                begin(&options, &files, &settings, directory.path(), run)
            })?,
        };
        run.stage("write_cells", |run| {
            store(&files, &settings, &mut writer, run)
        })?;
        let manifest = run.stage("calibrate", |_| writer.finish())?;
        directory.finish()?;
        report(&manifest, run);
        if options.add_to.is_some() && manifest.is_slow() {
            run.warning(format!(
                "all {} cells are in one inverted list, which is exact but slow: build an index from all files, without `--add-to`, to use several lists",
                manifest.cells
            ));
        }
        run.output(&options.output.join(MANIFEST))?;
        for (file, sha256) in manifest.checksums() {
            run.output_known(&options.output.join(file), sha256)?;
        }
        Ok(())
    }
}

fn open(options: &BuildOptions, run: &mut Run) -> Result<Vec<Embedded>> {
    let mut files = Vec::new();
    for path in &options.input {
        run.input(path)?;
        let file = Embedded::open(path, options.obsm_key.as_deref())?;
        run.note(format!(
            "`{}`: {} cells with embeddings in `{}`",
            path.display(),
            file.n_cells(),
            file.element
        ));
        files.push(file);
    }
    Ok(files)
}

fn settings(options: &BuildOptions, files: &[Embedded]) -> Result<Settings> {
    let label = options.label.clone().unwrap_or_default();
    let mut columns = vec![label.clone()];
    for column in &options.columns {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    let mut all_have = true;
    for file in files {
        all_have &= file.file.vectors(USUAL_COORDINATES)?.is_some();
    }
    let usual = if all_have {
        USUAL_COORDINATES
    } else {
        COMPONENTS
    };
    Ok(Settings {
        width: files[0].width(),
        metric: options.metric,
        label,
        columns,
        coordinates: options.coordinates.clone().unwrap_or(usual.to_owned()),
        seed: Seed(options.seed),
    })
}

/// Fails, before anything is computed, if the labels look like cell identifiers.
fn require_few_labels(files: &[Embedded], column: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for file in files {
        seen.extend(file.file.obs(column)?.to_labels().into_iter().flatten());
        if seen.len() > MOST_LABELS {
            let example = seen.iter().min().map_or("", String::as_str);
            return Err(Failure::Input.error(format!(
                "`{}`: column `{column}` of obs has more than {MOST_LABELS} distinct labels, such as `{example}`; it looks like a cell identifier: choose another column with `--label`",
                file.name()
            )));
        }
    }
    Ok(())
}

fn settings_of(manifest: &Manifest, seed: u64) -> Settings {
    Settings {
        width: manifest.embedding_dim,
        metric: manifest.metric,
        label: manifest.label.clone(),
        columns: manifest.columns.clone(),
        coordinates: manifest.coordinates.clone(),
        seed: Seed(seed),
    }
}

/// A new index, whose inverted lists are trained on a random sample of the cells of all files.
fn begin(
    options: &BuildOptions,
    files: &[Embedded],
    settings: &Settings,
    directory: &Path,
    run: &mut Run,
) -> Result<Writer> {
    let n: usize = files.iter().map(Embedded::n_cells).sum();
    let lists = lists(options, n, run);
    let wanted = (SAMPLE_PER_LIST * lists).clamp(SAMPLE, LARGEST_SAMPLE);
    let mut stream = settings.seed.stream("index sample", &[]);
    let mut chosen = sample(&mut stream, n, wanted);
    chosen.sort_unstable();
    let mut sampled = Array2::zeros((0, settings.width));
    let mut first = 0;
    for file in files {
        for range in file.blocks() {
            let from = chosen.partition_point(|&cell| cell < first + range.start);
            let to = chosen.partition_point(|&cell| cell < first + range.end);
            let block = file.read(range, settings.metric)?;
            let is_chosen = |cell: &usize| chosen[from..to].binary_search(&(first + cell)).is_ok();
            let rows: Vec<usize> = (0..block.cells.len())
                .filter(|&row| is_chosen(&block.cells[row]))
                .collect();
            sampled.append(Axis(0), block.rows.select(Axis(0), &rows).view())?;
        }
        first += file.n_cells();
    }
    Ok(Writer::create(directory, settings, sampled.view(), lists)?)
}

/// The requested or default number of inverted lists; fewer if there are too few cells.
fn lists(options: &BuildOptions, cells: usize, run: &mut Run) -> usize {
    let wanted = options
        .n_lists
        .unwrap_or(Manifest::default_lists(cells as u64));
    let most = (cells.min(LARGEST_SAMPLE) / FEWEST_PER_LIST).max(1);
    if wanted > most {
        run.warning(format!(
            "{wanted} inverted lists are too many for {cells} cells: {most} are used"
        ));
    }
    wanted.min(most)
}

fn store(
    files: &[Embedded],
    settings: &Settings,
    writer: &mut Writer,
    run: &mut Run,
) -> Result<()> {
    let total: usize = files.iter().map(Embedded::n_cells).sum();
    let mut progress = Progress::new("indexing", total as u64, "cells");
    for file in files {
        let annotations = Annotations::read(file, settings)?;
        let mut stored = 0;
        for range in file.blocks() {
            let n = range.len();
            let block = file.read(range.clone(), settings.metric)?;
            let coordinates = annotations.coordinates(range, &block.cells)?;
            stored += block.cells.len();
            writer.push(&Annotated {
                lines: block
                    .cells
                    .iter()
                    .map(|&cell| annotations.line(cell))
                    .collect(),
                vectors: block.rows,
                coordinates,
            })?;
            progress.advance(n as u64);
        }
        let without = file.n_cells() - stored;
        if without > 0 {
            run.warning(format!(
                "{without} cells of `{}` have no embedding and are dropped",
                file.name()
            ));
        }
        writer.origin(&file.name(), stored as u64);
    }
    progress.finish();
    Ok(())
}

/// Names, labels and coordinates of the cells of a file.
struct Annotations {
    names: Vec<String>,
    columns: Vec<Vec<Option<String>>>,
    coordinates: Option<Vectors>,
}

impl Annotations {
    fn read(file: &Embedded, settings: &Settings) -> Result<Self> {
        let column = |name: &String| Ok(file.file.obs(name)?.to_labels());
        let coordinates = match settings.coordinates.as_str() {
            COMPONENTS => None,
            key => Some(file.file.vectors(key)?.filter(|coordinates| coordinates.width() >= 2).ok_or_else(|| {
                Failure::Input.error(format!(
                    "`{}` has no `obsm/{key}` with two columns for the coordinates of cells: choose another element with `--coordinates`, or pca",
                    file.name()
                ))
            })?),
        };
        Ok(Self {
            names: file.file.cell_names()?,
            columns: settings.columns.iter().map(column).collect::<Result<_>>()?,
            coordinates,
        })
    }

    fn line(&self, cell: usize) -> Vec<String> {
        let values = self
            .columns
            .iter()
            .map(|column| column[cell].clone().unwrap_or_default());
        std::iter::once(self.names[cell].clone())
            .chain(values)
            .collect()
    }

    /// Coordinates of some cells of a range.
    fn coordinates(
        &self,
        range: std::ops::Range<usize>,
        cells: &[usize],
    ) -> Result<Option<Array2<f32>>> {
        let Some(coordinates) = &self.coordinates else {
            return Ok(None);
        };
        let start = range.start;
        let rows = coordinates.read(range)?;
        Ok(Some(Array2::from_shape_fn(
            (cells.len(), 2),
            |(at, axis)| {
                let value = rows[[cells[at] - start, axis]];
                if value.is_finite() { value } else { f32::NAN }
            },
        )))
    }
}

fn report(manifest: &Manifest, run: &mut Run) {
    run.note(match manifest.n_lists {
        1 => format!("{} cells, exact search", manifest.cells),
        lists => format!(
            "{} cells in {lists} inverted lists; reading the {} nearest lists finds {:.2} % of neighbors",
            manifest.cells,
            manifest.n_probe,
            100.0 * manifest.recall
        ),
    });
    run.metric("cells", manifest.cells);
    run.metric("embedding_dim", manifest.embedding_dim);
    run.metric("n_lists", manifest.n_lists);
    run.metric("n_probe", manifest.n_probe);
    run.metric("recall", manifest.recall);
}
