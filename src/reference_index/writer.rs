//! Writing an index.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2, Axis};

use super::Error;
use super::calibration::calibrate;
use super::directory::ReferenceIndex;
use super::manifest::{Manifest, Metric, Origin, Shard, Stored, open};
use crate::analysis::components::Components;
use crate::analysis::ivf;
use crate::output;
use crate::random::Seed;

/// Maximum embedding values in a shard (256 MB).
const SHARD: usize = 1 << 26;
/// Bytes copied at once.
const COPIED: usize = 1 << 20;

/// Settings of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub width: usize,
    pub metric: Metric,
    pub label: String,
    /// Including the label.
    pub columns: Vec<String>,
    pub coordinates: String,
    pub seed: Seed,
}

/// Cells to store.
#[derive(Debug, Clone)]
pub struct Annotated {
    /// Prepared embeddings, finite, [cells, embedding dimension].
    pub vectors: Array2<f32>,
    /// 2-D coordinates, [cells, 2]; computed from the embeddings if none.
    pub coordinates: Option<Array2<f32>>,
    /// Name and annotations of each cell, in the order of the columns.
    pub lines: Vec<Vec<String>>,
}

/// An index that is being written.
pub struct Writer {
    directory: PathBuf,
    manifest: Manifest,
    centroids: Array2<f32>,
    plane: Array2<f32>,
    seed: Seed,
    vectors: Vec<f32>,
    places: Vec<f32>,
    lines: Vec<Vec<String>>,
}

impl Writer {
    /// Begins an index in an empty directory; inverted lists and principal components are trained on a sample of embeddings.
    pub fn create(
        directory: &Path,
        settings: &Settings,
        sample: ArrayView2<'_, f32>,
        lists: usize,
    ) -> Result<Self, Error> {
        if sample.nrows() == 0 {
            return Err(Error::Cells(
                "no cell has an embedding: an index needs at least one".into(),
            ));
        }
        let centroids = if lists <= 1 {
            sample
                .mean_axis(Axis(0))
                .expect("there are rows")
                .insert_axis(Axis(0))
        } else {
            ivf::learn(sample, lists, settings.seed)
        };
        Ok(Self {
            directory: directory.to_owned(),
            manifest: Manifest::new(settings, centroids.nrows()),
            centroids,
            plane: plane(sample)?,
            seed: settings.seed,
            vectors: Vec::new(),
            places: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Begins with the cells of an index, whose files are hard-linked, or copied if links are not possible.
    pub fn extend(
        directory: &Path,
        index: &ReferenceIndex,
        from: &Path,
        seed: Seed,
    ) -> Result<Self, Error> {
        let mut manifest = index.manifest.clone();
        for (number, shard) in manifest.shards.iter_mut().enumerate() {
            for (stored, name) in shard.files_mut().into_iter().zip(Shard::names(number)) {
                link_or_copy(&from.join(&stored.file), &directory.join(&name))?;
                stored.file = name;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            centroids: index.centroids().to_owned(),
            plane: index.plane()?,
            manifest,
            seed,
            vectors: Vec::new(),
            places: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Adds cells, in memory that does not grow with their number.
    pub fn push(&mut self, cells: &Annotated) -> Result<(), Error> {
        let (n, width) = cells.vectors.dim();
        if width != self.manifest.embedding_dim {
            return Err(Error::Cells(format!(
                "cells with embedding dimension {width} cannot be added to an index with {}: embed all cells with the same model",
                self.manifest.embedding_dim
            )));
        }
        let most = (SHARD / width.max(1)).max(1);
        for at in 0..n {
            self.vectors.extend(cells.vectors.row(at));
            match &cells.coordinates {
                Some(coordinates) => self.places.extend(coordinates.row(at)),
                None => self.places.extend(self.project(cells.vectors.row(at))),
            }
            self.lines.push(cells.lines[at].clone());
            if self.lines.len() == most {
                self.write_shard()?;
            }
        }
        Ok(())
    }

    /// Records a file with reference cells.
    pub fn origin(&mut self, file: &str, cells: u64) {
        self.manifest.origins.push(Origin {
            file: file.to_owned(),
            cells,
        });
    }

    fn project(&self, vector: ndarray::ArrayView1<'_, f32>) -> [f32; 2] {
        let along = |direction: usize| {
            let pairs = vector
                .iter()
                .zip(self.plane.row(0))
                .zip(self.plane.row(direction));
            let products =
                pairs.map(|((&v, &mean), &d)| (f64::from(v) - f64::from(mean)) * f64::from(d));
            products.sum::<f64>() as f32
        };
        [along(1), along(2)]
    }

    /// Writes the buffered cells, list after list.
    fn write_shard(&mut self) -> Result<(), Error> {
        let (n, width) = (self.lines.len(), self.manifest.embedding_dim);
        if n == 0 {
            return Ok(());
        }
        let vectors = Array2::from_shape_vec((n, width), std::mem::take(&mut self.vectors))
            .expect("whole rows");
        let list: Vec<usize> = match self.manifest.n_lists {
            1 => vec![0; n],
            _ => ivf::nearest(self.centroids.view(), vectors.view(), 1)
                .into_iter()
                .map(|lists| lists[0])
                .collect(),
        };
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&at| list[at]);
        let starts =
            (0..=self.manifest.n_lists).map(|l| order.partition_point(|&at| list[at] < l) as u32);
        let names = Shard::names(self.manifest.shards.len());
        let places = std::mem::take(&mut self.places);
        let lines = std::mem::take(&mut self.lines);
        let rows = order.iter().flat_map(|&at| vectors.row(at).to_vec());
        let shard = Shard {
            cells: n as u64,
            vectors: self.store(&names[0], rows.map(f32::to_le_bytes))?,
            places: self.store(
                &names[1],
                order
                    .iter()
                    .flat_map(|&at| [places[2 * at], places[2 * at + 1]])
                    .map(f32::to_le_bytes),
            )?,
            lists: self.store(&names[2], starts.map(u32::to_le_bytes))?,
            annotations: self.store_lines(&names[3], order.iter().map(|&at| &lines[at]))?,
        };
        self.manifest.cells += shard.cells;
        self.manifest.shards.push(shard);
        Ok(())
    }

    fn store(&self, name: &str, numbers: impl Iterator<Item = [u8; 4]>) -> Result<Stored, Error> {
        output::write_file(&self.directory.join(name), |file| {
            let mut numbers = numbers;
            numbers.try_for_each(|number| file.write_all(&number))
        })?;
        Stored::of(&self.directory, name)
    }

    fn store_lines<'a>(
        &self,
        name: &str,
        lines: impl Iterator<Item = &'a Vec<String>>,
    ) -> Result<Stored, Error> {
        output::write_file(&self.directory.join(name), |file| {
            let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(file);
            writer.write_field("cell")?;
            writer.write_record(&self.manifest.columns)?;
            for line in lines {
                writer.write_record(line)?;
            }
            writer.flush()
        })?;
        Stored::of(&self.directory, name)
    }

    /// Writes the remaining cells, calibrates the index and completes it with its manifest.
    pub fn finish(mut self) -> Result<Manifest, Error> {
        self.write_shard()?;
        let numbers = |rows: &Array2<f32>| {
            rows.iter()
                .copied()
                .map(f32::to_le_bytes)
                .collect::<Vec<_>>()
        };
        self.manifest.centroids =
            self.store("centroids.f32", numbers(&self.centroids).into_iter())?;
        self.manifest.plane = self.store("plane.f32", numbers(&self.plane).into_iter())?;
        self.manifest.write(&self.directory)?;
        let found = calibrate(&ReferenceIndex::open(&self.directory, false)?, self.seed)?;
        (self.manifest.n_probe, self.manifest.recall) = (found.probes, found.recall);
        let distances = found.distances.into_iter().map(f32::to_le_bytes);
        self.manifest.distances = self.store("distances.f32", distances)?;
        self.manifest.write(&self.directory)?;
        Ok(self.manifest)
    }
}

/// Mean and first two principal components, [3, embedding dimension]; zeros if there are fewer.
fn plane(vectors: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
    let mut plane = Array2::zeros((3, vectors.ncols()));
    match Components::fit(vectors, 2) {
        Ok(found) => {
            plane
                .row_mut(0)
                .assign(&found.mean.mapv(|value| value as f32));
            for (direction, mut row) in found
                .directions
                .rows()
                .into_iter()
                .zip(plane.rows_mut().into_iter().skip(1))
            {
                row.assign(&direction.mapv(|value| value as f32));
            }
        }
        Err(crate::analysis::Error::AllEqual { .. } | crate::analysis::Error::FewCells { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(plane)
}

/// Hard-links a file, or copies it if links are not possible. Never overwrites a file.
fn link_or_copy(source: &Path, target: &Path) -> Result<(), Error> {
    let reading = Error::read(source);
    let source = fs::canonicalize(source).map_err(&reading)?;
    if fs::hard_link(&source, target).is_ok() {
        return Ok(());
    }
    let writing = |source| {
        Error::from(output::Error::Write {
            path: target.to_owned(),
            source,
        })
    };
    let mut from = BufReader::with_capacity(COPIED, open(&source)?);
    let mut to = File::create_new(target).map_err(writing)?;
    loop {
        let chunk = from.fill_buf().map_err(&reading)?;
        if chunk.is_empty() {
            return to.flush().map_err(writing);
        }
        to.write_all(chunk).map_err(writing)?;
        let n = chunk.len();
        from.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let [source, target] = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(&source, "cells").unwrap();
        link_or_copy(&source, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"cells");
        // The target is now the source itself.
        let error = link_or_copy(&source, &target).unwrap_err();
        assert!(matches!(error, Error::Output(_)), "{error}");
        assert_eq!(fs::read(&source).unwrap(), b"cells");
    }
}
