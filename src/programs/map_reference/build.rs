//! `scgpt-map-reference build`: an index of embedded reference cells.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::embedded::Embedded;
use super::{Facts, INDEX, MOST_LABELS, Program, SEARCH, TOPICS, steps};
use crate::atlas::{Annotated, Atlas, MANIFEST, Manifest, Metric, Settings, Writer};
use crate::failure::Failure;
use crate::formats::h5ad::Vectors;
use crate::output::{Directory, Existing};
use crate::progress::Progress;
use crate::random::{Seed, sample};
use crate::run_record::Run;

/// Cells that the lists and the plane are learnt from: at least this many, so many for each list, and at most this many.
const SAMPLE: usize = 10_000;
const SAMPLE_PER_LIST: usize = 32;
const LARGEST_SAMPLE: usize = 1 << 19;
/// A list has at least so many of the cells that it is learnt from, on average.
const FEWEST_PER_LIST: usize = 8;
/// Element of obsm with coordinates, where all files have it.
const USUAL_COORDINATES: &str = "X_umap";
/// What `--coordinates` says for principal components.
const COMPONENTS: &str = "pca";

/// Options of `scgpt-map-reference build`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct BuildOptions {
    /// Embedded reference cells, AnnData files that scgpt-embed wrote, several with commas between them.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[schemars(extend("x-format" = "h5ad", "x-direction" = "input", "minItems" = 1))]
    pub input: Vec<PathBuf>,
    /// Folder to write the index to.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "output"))]
    pub output: PathBuf,
    /// Column of obs with the labels that new cells will be given, such as their type; at most 2000 different ones. An index that is
    /// extended has one already.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Further columns of obs to keep, with commas between them: cells can be given these labels too.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Index to add the cells to. It is not changed: the new index has its cells and the new ones. An index that is searched exactly
    /// stays so, and becomes slow above a million cells: build one from all files instead.
    #[arg(long, value_name = "DIR")]
    #[schemars(extend("x-format" = "index", "x-direction" = "input"))]
    pub extend: Option<PathBuf>,
    /// Element of obsm with the vectors, or X. Default: X_scGPT, or X where there is none.
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Element of obsm whose first two columns are the places of cells in pictures, or pca for principal components of the vectors.
    /// Default: X_umap where all files have it, else pca.
    #[arg(long, value_name = "NAME")]
    pub coordinates: Option<String>,
    /// How far apart two cells are: by the angle between their vectors, as scGPT compares them, or by the length of the difference.
    #[arg(long)]
    pub metric: Metric,
    /// Lists to divide the cells into; a search then looks only into those nearest to a cell, and may miss a few neighbours. 1 is
    /// exact. There are at least 8 cells for each list. Default: 1 up to a million cells, above that the square root of their number.
    #[arg(long, value_name = "N")]
    #[schemars(range(min = 1, max = 65536))]
    pub lists: Option<usize>,
    /// Seed of all random choices: the same seed gives the same index.
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
            extend: None,
            key: None,
            coordinates: None,
            metric: Metric::Cosine,
            lists: None,
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
            ("extend", INDEX),
        ],
    };
    type Options = BuildOptions;

    fn check(options: &BuildOptions) -> Vec<String> {
        let mut problems = Vec::new();
        if options.extend.is_none() && options.label.is_none() {
            problems.push(
                "`--label` is required, unless `--extend` names an index, which has one".to_owned(),
            );
        }
        let settled = [
            ("--label", options.label.is_some()),
            ("--columns", !options.columns.is_empty()),
            ("--coordinates", options.coordinates.is_some()),
            ("--lists", options.lists.is_some()),
            ("--metric", options.metric != Metric::default()),
        ];
        for (flag, _) in settled
            .iter()
            .filter(|(_, given)| *given && options.extend.is_some())
        {
            problems.push(format!(
                "`{flag}` is that of the index which `--extend` names: leave it out"
            ));
        }
        problems
    }

    fn run(options: BuildOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_beside(&options.output));
        run.seed(options.seed);
        let folder = Directory::create(&options.output, Existing::Refuse)?;
        let files = open(&options, run)?;
        let old = options
            .extend
            .as_ref()
            .map(|path| Atlas::open(path, true))
            .transpose()?;
        let settings = match &old {
            Some(old) => settings_of(&old.manifest, options.seed),
            None => settings(&options, &files)?,
        };
        let of = match old {
            Some(_) => "the index",
            None => "the others",
        };
        files
            .iter()
            .try_for_each(|file| file.require_width(settings.width, of))?;
        require_few_labels(&files, &settings.label)?;
        let mut writer = match (&old, &options.extend) {
            (Some(old), Some(from)) => {
                run.input(&from.join(MANIFEST))?;
                for (file, sha256) in old.manifest.checksums() {
                    run.input_known(&from.join(file), sha256)?;
                }
                Writer::extend(folder.path(), old, from, settings.seed)?
            }
            _ => run.stage("learn the lists", |run| {
                begin(&options, &files, &settings, folder.path(), run)
            })?,
        };
        run.stage("store", |run| store(&files, &settings, &mut writer, run))?;
        let manifest = run.stage("calibrate", |_| writer.finish())?;
        folder.finish()?;
        report(&manifest, run);
        if options.extend.is_some() && manifest.is_slow() {
            run.warning(format!(
                "all {} cells are in one list, which is exact but slow: build an index from all files, without --extend, to divide them into lists",
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
        let file = Embedded::open(path, options.key.as_deref())?;
        run.note(format!(
            "`{}`: {} cells with vectors in `{}`",
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

/// Fails, before anything is computed, if the labels are rather names of cells than kinds of them.
fn require_few_labels(files: &[Embedded], column: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for file in files {
        seen.extend(file.file.obs(column)?.to_labels().into_iter().flatten());
        if seen.len() > MOST_LABELS {
            let example = seen.iter().min().map_or("", String::as_str);
            return Err(Failure::Input.error(format!(
                "`{}`: column `{column}` of obs has more than {MOST_LABELS} distinct labels, such as `{example}`; labels are kinds of cells, of which there are fewer: name another column in `--label`",
                file.name()
            )));
        }
    }
    Ok(())
}

fn settings_of(manifest: &Manifest, seed: u64) -> Settings {
    Settings {
        width: manifest.width,
        metric: manifest.metric,
        label: manifest.label.clone(),
        columns: manifest.columns.clone(),
        coordinates: manifest.coordinates.clone(),
        seed: Seed(seed),
    }
}

/// A new index, its lists learnt from cells drawn of all files.
fn begin(
    options: &BuildOptions,
    files: &[Embedded],
    settings: &Settings,
    folder: &Path,
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
    Ok(Writer::create(folder, settings, sampled.view(), lists)?)
}

/// The lists asked for, or those that are usual; fewer where there are too few cells for as many.
fn lists(options: &BuildOptions, cells: usize, run: &mut Run) -> usize {
    let wanted = options.lists.unwrap_or(Manifest::usual_lists(cells as u64));
    let most = (cells.min(LARGEST_SAMPLE) / FEWEST_PER_LIST).max(1);
    if wanted > most {
        run.warning(format!(
            "{wanted} lists are too many for {cells} cells: there will be {most}, so that each has some cells"
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
            let places = annotations.places(range, &block.cells)?;
            stored += block.cells.len();
            writer.push(&Annotated {
                lines: block
                    .cells
                    .iter()
                    .map(|&cell| annotations.line(cell))
                    .collect(),
                vectors: block.rows,
                places,
            })?;
            progress.advance(n as u64);
        }
        let without = file.n_cells() - stored;
        if without > 0 {
            run.warning(format!(
                "{without} cells of `{}` have no vector and are left out",
                file.name()
            ));
        }
        writer.origin(&file.name(), stored as u64);
    }
    progress.finish();
    Ok(())
}

/// What is known of the cells of a file beside their vectors.
struct Annotations {
    names: Vec<String>,
    columns: Vec<Vec<Option<String>>>,
    places: Option<Vectors>,
}

impl Annotations {
    fn read(file: &Embedded, settings: &Settings) -> Result<Self> {
        let column = |name: &String| Ok(file.file.obs(name)?.to_labels());
        let places = match settings.coordinates.as_str() {
            COMPONENTS => None,
            key => Some(file.file.vectors(key)?.filter(|places| places.width() >= 2).ok_or_else(|| {
                Failure::Input.error(format!(
                    "`{}` has no `obsm/{key}` of two columns for the places of its cells: name another in `--coordinates`, or pca",
                    file.name()
                ))
            })?),
        };
        Ok(Self {
            names: file.file.cell_names()?,
            columns: settings.columns.iter().map(column).collect::<Result<_>>()?,
            places,
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
    fn places(
        &self,
        range: std::ops::Range<usize>,
        cells: &[usize],
    ) -> Result<Option<Array2<f32>>> {
        let Some(places) = &self.places else {
            return Ok(None);
        };
        let start = range.start;
        let rows = places.read(range)?;
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
    run.note(match manifest.lists {
        1 => format!("{} cells, searched exactly", manifest.cells),
        lists => format!(
            "{} cells in {lists} lists; the {} nearest hold {:.2} % of neighbours",
            manifest.cells,
            manifest.probes,
            100.0 * manifest.recall
        ),
    });
    run.metric("cells", manifest.cells);
    run.metric("width", manifest.width);
    run.metric("lists", manifest.lists);
    run.metric("probes", manifest.probes);
    run.metric("recall", manifest.recall);
}
