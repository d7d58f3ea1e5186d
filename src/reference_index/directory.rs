//! Reading an index: search and annotations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use super::manifest::{Manifest, Metric, Shard, Stored, open};
use super::{Error, LARGEST, MOST_NEIGHBORS};
use crate::analysis::ivf;
use crate::analysis::search::{Nearest, Neighbor, Queries};

/// Number of sampled cells.
pub(super) const SAMPLE: usize = 1000;
/// Embedding values that a task reads at once (8 MB).
const PIECE: usize = 1 << 21;
/// Maximum bytes of a line of annotations.
const LONGEST_LINE: u64 = 1 << 20;
/// Maximum number of pairs of query and list in a search at once (64 MB).
const PAIRS: usize = 1 << 23;

/// An open reference index.
#[derive(Debug)]
pub struct ReferenceIndex {
    pub manifest: Manifest,
    directory: PathBuf,
    centroids: Array2<f32>,
    shards: Vec<Opened>,
}

/// The labels of the cells in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Distinct labels in alphabetical order.
    pub classes: Vec<String>,
    /// Index of the label of every cell; none if it is empty.
    pub codes: Vec<Option<u32>>,
}

/// An open shard, with the first row of each list.
#[derive(Debug)]
struct Opened {
    first: u64,
    vectors: File,
    path: PathBuf,
    starts: Vec<u32>,
}

/// Consecutive rows of one list in one shard, and the queries that search them.
struct Piece<'a> {
    shard: &'a Opened,
    rows: Range<u64>,
    queries: &'a [usize],
}

impl ReferenceIndex {
    /// Opens a directory; `verify` compares every file with its checksum, which reads all files.
    ///
    /// Fails if a file is absent or damaged, and names it.
    pub fn open(directory: &Path, verify: bool) -> Result<Self, Error> {
        let manifest = Manifest::read(directory)?;
        if verify {
            let files: Vec<&Stored> = manifest.files().collect();
            files
                .par_iter()
                .try_for_each(|stored| stored.verify(directory))?;
        }
        let mut shards = Vec::new();
        let mut first = 0;
        for shard in &manifest.shards {
            shards.push(Opened::new(directory, shard, first, &manifest)?);
            first += shard.cells;
        }
        let path = directory.join(&manifest.centroids.file);
        let centroids = matrix(&path, manifest.n_lists as u64, manifest.embedding_dim)?;
        let centroids = finite(&path, centroids)?;
        Ok(Self {
            directory: directory.to_owned(),
            centroids,
            shards,
            manifest,
        })
    }

    /// Prepares embeddings for the metric: scaled to length 1 for cosine, except embeddings of zeros.
    pub fn prepare(metric: Metric, rows: &mut Array2<f32>) {
        if metric == Metric::Euclidean {
            return;
        }
        for mut row in rows.rows_mut() {
            let squared: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
            if squared > 0.0 {
                let length = squared.sqrt();
                row.mapv_inplace(|value| (f64::from(value) / length) as f32);
            }
        }
    }

    /// The `k` nearest cells of each prepared query in its `probes` nearest lists; exact if these are all lists.
    pub fn search(
        &self,
        queries: &Queries,
        k: usize,
        probes: usize,
    ) -> Result<Vec<Vec<Neighbor>>, Error> {
        if probes >= self.manifest.n_lists {
            let all: Vec<usize> = (0..queries.len()).collect();
            return self.search_lists(queries, k, &vec![&all[..]; self.manifest.n_lists]);
        }
        let at_once = (PAIRS / probes.max(1)).max(1);
        let mut found = Vec::with_capacity(queries.len());
        for rows in queries.rows().axis_chunks_iter(Axis(0), at_once) {
            let mut queries_of = vec![Vec::new(); self.manifest.n_lists];
            for (query, lists) in self.lists_of(rows, probes).into_iter().enumerate() {
                lists
                    .into_iter()
                    .for_each(|list| queries_of[list].push(query));
            }
            let queries_of: Vec<&[usize]> = queries_of.iter().map(Vec::as_slice).collect();
            found.extend(self.search_lists(&Queries::new(rows.to_owned()), k, &queries_of)?);
        }
        Ok(found)
    }

    /// The nearest cells of each query; `queries_of` are the queries that search each list.
    fn search_lists(
        &self,
        queries: &Queries,
        k: usize,
        queries_of: &[&[usize]],
    ) -> Result<Vec<Vec<Neighbor>>, Error> {
        let pieces = self.pieces(queries_of);
        let new = || Nearest::new(queries.len(), k);
        let found = pieces
            .into_par_iter()
            .try_fold(new, |mut nearest, piece| {
                let rows = piece
                    .shard
                    .read(piece.rows.clone(), self.manifest.embedding_dim)?;
                let first = piece.shard.first + piece.rows.start;
                nearest.offer(queries, piece.queries, rows.view(), first);
                Ok::<_, Error>(nearest)
            })
            .try_reduce(new, |a, b| Ok(a.merge(b)))?;
        Ok(found.into_found())
    }

    /// Centroids of the lists, [lists, embedding dimension].
    pub(super) fn centroids(&self) -> ArrayView2<'_, f32> {
        self.centroids.view()
    }

    /// The lists to search for each row, nearest first.
    pub(super) fn lists_of(&self, rows: ArrayView2<'_, f32>, probes: usize) -> Vec<Vec<usize>> {
        ivf::nearest(self.centroids.view(), rows, probes)
    }

    fn pieces<'a>(&'a self, queries_of: &[&'a [usize]]) -> Vec<Piece<'a>> {
        let most = (PIECE / self.manifest.embedding_dim).max(1);
        let mut pieces = Vec::new();
        for shard in &self.shards {
            for (list, &queries) in queries_of
                .iter()
                .enumerate()
                .filter(|(_, queries)| !queries.is_empty())
            {
                let (start, end) = (
                    u64::from(shard.starts[list]),
                    u64::from(shard.starts[list + 1]),
                );
                pieces.extend((start..end).step_by(most).map(|from| Piece {
                    shard,
                    rows: from..end.min(from + most as u64),
                    queries,
                }));
            }
        }
        pieces
    }

    /// The list of a cell.
    pub(super) fn list_of(&self, cell: u64) -> usize {
        let shard = self.shard_of(cell);
        let row = (cell - shard.first) as u32;
        shard.starts.partition_point(|&start| start <= row) - 1
    }

    /// The embedding of a cell.
    pub(super) fn vector(&self, cell: u64) -> Result<Array2<f32>, Error> {
        let shard = self.shard_of(cell);
        let row = cell - shard.first;
        shard.read(row..row + 1, self.manifest.embedding_dim)
    }

    fn shard_of(&self, cell: u64) -> &Opened {
        let after = self.shards.partition_point(|shard| shard.first <= cell);
        &self.shards[after - 1]
    }

    /// 2-D coordinates of all cells, [cells, 2].
    pub fn coordinates(&self) -> Result<Array2<f32>, Error> {
        let mut coordinates = Vec::new();
        for shard in &self.manifest.shards {
            coordinates.extend(matrix(
                &self.directory.join(&shard.places.file),
                shard.cells,
                2,
            )?);
        }
        Ok(Array2::from_shape_vec((coordinates.len() / 2, 2), coordinates).expect("pairs"))
    }

    /// Mean and two principal components, which give coordinates to cells without any, [3, embedding dimension].
    pub(super) fn plane(&self) -> Result<Array2<f32>, Error> {
        let path = self.directory.join(&self.manifest.plane.file);
        finite(&path, matrix(&path, 3, self.manifest.embedding_dim)?)
    }

    /// Mean distances of sampled reference cells to their `k` nearest neighbors, increasing.
    pub fn own_distances(&self, k: usize) -> Result<Vec<f64>, Error> {
        let path = self.directory.join(&self.manifest.distances.file);
        let sampled = self.manifest.cells.min(SAMPLE as u64);
        let known = (self.manifest.cells as usize - 1).min(MOST_NEIGHBORS);
        let numbers = matrix(&path, sampled, known)?;
        if known == 0 {
            return Ok(Vec::new());
        }
        if numbers
            .iter()
            .any(|distance| !(distance.is_finite() && *distance >= 0.0))
        {
            return Err(Error::input(
                &path,
                "a value is not a distance: build the index again",
            ));
        }
        let near = k.clamp(1, known);
        let mean = |row: ArrayView1<'_, f32>| {
            let distances = row.iter().take(near);
            distances.map(|&distance| f64::from(distance)).sum::<f64>() / near as f64
        };
        let mut means: Vec<f64> = numbers.rows().into_iter().map(mean).collect();
        means.sort_by(f64::total_cmp);
        Ok(means)
    }

    /// The labels in one column; fails if there are more than `most` distinct ones.
    pub fn labels(&self, column: &str, most: usize) -> Result<Labels, Error> {
        let at = 1 + self.position(column)?;
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut codes = Vec::new();
        self.each_line(|_, line| {
            let label = &line[at];
            let code = match seen.get(label) {
                Some(&code) => Some(code),
                None if label.is_empty() => None,
                None if seen.len() > most => None,
                None => {
                    let code = seen.len() as u32;
                    seen.insert(label.to_owned(), code);
                    Some(code)
                }
            };
            codes.push(code);
        })?;
        if seen.len() > most {
            let example = seen.keys().min().map_or("", String::as_str);
            let problem = format!(
                "its column `{column}` has more than {most} distinct labels, such as `{example}`; it looks like a cell identifier: choose another column of `{}` with `--label`",
                self.manifest.columns.join("`, `")
            );
            return Err(Error::input(&self.directory, problem));
        }
        let mut classes: Vec<(String, u32)> = seen.into_iter().collect();
        classes.sort_unstable();
        let mut rank = vec![0; classes.len()];
        for (at, (_, code)) in (0..).zip(&classes) {
            rank[*code as usize] = at;
        }
        let rank = |code: Option<u32>| code.map(|code| rank[code as usize]);
        Ok(Labels {
            classes: classes.into_iter().map(|(label, _)| label).collect(),
            codes: codes.into_iter().map(rank).collect(),
        })
    }

    /// Name and annotations of some cells, in the order of `manifest.columns`.
    pub fn lines(&self, cells: &BTreeSet<u64>) -> Result<BTreeMap<u64, Vec<String>>, Error> {
        let mut found = BTreeMap::new();
        self.each_line(|cell, line| {
            if cells.contains(&cell) {
                found.insert(cell, line.iter().map(str::to_owned).collect());
            }
        })?;
        Ok(found)
    }

    fn position(&self, name: &str) -> Result<usize, Error> {
        let columns = &self.manifest.columns;
        columns
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| {
                let problem = format!("it has no column `{name}`, only `{}`", columns.join("`, `"));
                Error::input(&self.directory, problem)
            })
    }

    fn each_line(&self, mut work: impl FnMut(u64, &csv::StringRecord)) -> Result<(), Error> {
        let mut cell = 0;
        for shard in &self.manifest.shards {
            let path = self.directory.join(&shard.annotations.file);
            let wrong = |problem: String| Error::input(&path, problem);
            let file = open(&path)?;
            let length = file.metadata().map_err(Error::read(&path))?.len();
            if length > shard.cells.saturating_add(1).saturating_mul(LONGEST_LINE) {
                return Err(wrong(format!("{length} bytes for {} cells", shard.cells)));
            }
            let mut reader = csv::ReaderBuilder::new()
                .delimiter(b'\t')
                .from_reader(BufReader::new(file));
            let last = cell + shard.cells;
            for line in reader.records() {
                let line = line.map_err(|error| wrong(error.to_string()))?;
                if line.len() != 1 + self.manifest.columns.len() || cell == last {
                    return Err(wrong(format!(
                        "line {cell} does not match the manifest",
                        cell = cell + 2
                    )));
                }
                work(cell, &line);
                cell += 1;
            }
            if cell != last {
                return Err(wrong(format!("{} cells are missing", last - cell)));
            }
        }
        Ok(())
    }
}

impl Opened {
    fn new(
        directory: &Path,
        shard: &Shard,
        first: u64,
        manifest: &Manifest,
    ) -> Result<Self, Error> {
        let path = directory.join(&shard.vectors.file);
        check_size(&path, shard.cells, manifest.embedding_dim)?;
        let lists = directory.join(&shard.lists.file);
        check_size(&lists, manifest.n_lists as u64 + 1, 1)?;
        let bytes = fs::read(&lists).map_err(Error::read(&lists))?;
        let starts: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        let whole = starts.first() == Some(&0)
            && starts.last().map(|&end| u64::from(end)) == Some(shard.cells);
        if !whole || !starts.is_sorted() {
            return Err(Error::input(
                &lists,
                "its lists do not cover the cells of the shard: build the index again",
            ));
        }
        Ok(Self {
            first,
            vectors: open(&path)?,
            path,
            starts,
        })
    }

    fn read(&self, rows: Range<u64>, width: usize) -> Result<Array2<f32>, Error> {
        let n = (rows.end - rows.start) as usize;
        let mut bytes = vec![0; n * width * 4];
        let at = rows.start * width as u64 * 4;
        self.vectors
            .read_exact_at(&mut bytes, at)
            .map_err(Error::read(&self.path))?;
        let rows = Array2::from_shape_vec((n, width), from_bytes(&bytes));
        finite(&self.path, rows.expect("as many values as were read"))
    }
}

/// Fails unless all values are numbers up to [`LARGEST`].
fn finite(path: &Path, rows: Array2<f32>) -> Result<Array2<f32>, Error> {
    let is_wrong = |value: &&f32| value.is_nan() || value.abs() > LARGEST;
    match rows.iter().find(is_wrong) {
        None => Ok(rows),
        Some(value) => {
            let problem =
                format!("a value is {value}, expected at most {LARGEST}: build the index again");
            Err(Error::input(path, problem))
        }
    }
}

/// Fails unless a file has the expected size, before memory is allocated.
fn check_size(path: &Path, rows: u64, width: usize) -> Result<(), Error> {
    let found = open(path)?.metadata().map_err(Error::read(path))?.len();
    let expected = rows.checked_mul(4 * width as u64);
    if Some(found) != expected {
        let problem = format!(
            "{found} bytes, expected {rows} rows of {width} numbers: copy or build the index again"
        );
        return Err(Error::input(path, problem));
    }
    Ok(())
}

/// A file of rows of numbers, which may be NaN.
fn matrix(path: &Path, rows: u64, width: usize) -> Result<Array2<f32>, Error> {
    check_size(path, rows, width)?;
    Ok(
        Array2::from_shape_vec((rows as usize, width), numbers(path)?)
            .expect("the size was checked"),
    )
}

fn numbers(path: &Path) -> Result<Vec<f32>, Error> {
    let bytes = fs::read(path).map_err(Error::read(path))?;
    Ok(from_bytes(&bytes))
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    bytes.chunks_exact(4).map(number).collect()
}
