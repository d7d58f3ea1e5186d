//! An atlas while it is written.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2, Axis};

use super::Error;
use super::calibration::calibrate;
use super::folder::Atlas;
use super::manifest::{Manifest, Metric, Origin, Shard, Stored, open};
use crate::analysis::components::Components;
use crate::analysis::lists;
use crate::output;
use crate::random::Seed;

/// Numbers of vectors in one shard at most (256 MB).
const SHARD: usize = 1 << 26;
/// Bytes copied at once.
const COPIED: usize = 1 << 20;

/// What holds for all cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub width: usize,
    pub metric: Metric,
    pub label: String,
    /// The label among them.
    pub columns: Vec<String>,
    pub coordinates: String,
    pub seed: Seed,
}

/// Cells to be stored.
#[derive(Debug, Clone)]
pub struct Annotated {
    /// Prepared vectors, finite, [cells, width].
    pub vectors: Array2<f32>,
    /// Coordinates in the plane, [cells, 2]; computed from the vectors if none.
    pub places: Option<Array2<f32>>,
    /// Name and annotations of each cell, in the order of the columns.
    pub lines: Vec<Vec<String>>,
}

/// A folder that becomes an atlas.
pub struct Writer {
    folder: PathBuf,
    manifest: Manifest,
    centroids: Array2<f32>,
    plane: Array2<f32>,
    seed: Seed,
    vectors: Vec<f32>,
    places: Vec<f32>,
    lines: Vec<Vec<String>>,
}

impl Writer {
    /// Begins an atlas in an empty folder; the lists, and the plane that places are on, are learnt from a sample of vectors.
    pub fn create(
        folder: &Path,
        settings: &Settings,
        sample: ArrayView2<'_, f32>,
        lists: usize,
    ) -> Result<Self, Error> {
        if sample.nrows() == 0 {
            return Err(Error::Cells(
                "there are no cells with a vector to build an index from".into(),
            ));
        }
        let centroids = if lists <= 1 {
            sample
                .mean_axis(Axis(0))
                .expect("there are rows")
                .insert_axis(Axis(0))
        } else {
            lists::learn(sample, lists, settings.seed)
        };
        Ok(Self {
            folder: folder.to_owned(),
            manifest: Manifest::new(settings, centroids.nrows()),
            centroids,
            plane: plane(sample)?,
            seed: settings.seed,
            vectors: Vec::new(),
            places: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Begins with the cells of an atlas, whose files are linked, or copied where links cannot be made.
    pub fn extend(folder: &Path, atlas: &Atlas, from: &Path, seed: Seed) -> Result<Self, Error> {
        let mut manifest = atlas.manifest.clone();
        for (number, shard) in manifest.shards.iter_mut().enumerate() {
            for (stored, name) in shard.files_mut().into_iter().zip(Shard::names(number)) {
                bring(&from.join(&stored.file), &folder.join(&name))?;
                stored.file = name;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            centroids: atlas.centroids().to_owned(),
            plane: atlas.plane()?,
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
        if width != self.manifest.width {
            return Err(Error::Cells(format!(
                "vectors of {width} numbers cannot be added to an index of {}: embed all cells with one model",
                self.manifest.width
            )));
        }
        let most = (SHARD / width.max(1)).max(1);
        for at in 0..n {
            self.vectors.extend(cells.vectors.row(at));
            match &cells.places {
                Some(places) => self.places.extend(places.row(at)),
                None => self.places.extend(self.place(cells.vectors.row(at))),
            }
            self.lines.push(cells.lines[at].clone());
            if self.lines.len() == most {
                self.write_shard()?;
            }
        }
        Ok(())
    }

    /// Says which file the cells came from.
    pub fn origin(&mut self, file: &str, cells: u64) {
        self.manifest.origins.push(Origin {
            file: file.to_owned(),
            cells,
        });
    }

    fn place(&self, vector: ndarray::ArrayView1<'_, f32>) -> [f32; 2] {
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

    /// Writes the cells at hand, list after list.
    fn write_shard(&mut self) -> Result<(), Error> {
        let (n, width) = (self.lines.len(), self.manifest.width);
        if n == 0 {
            return Ok(());
        }
        let vectors = Array2::from_shape_vec((n, width), std::mem::take(&mut self.vectors))
            .expect("whole rows");
        let list: Vec<usize> = match self.manifest.lists {
            1 => vec![0; n],
            _ => lists::nearest(self.centroids.view(), vectors.view(), 1)
                .into_iter()
                .map(|lists| lists[0])
                .collect(),
        };
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&at| list[at]);
        let starts =
            (0..=self.manifest.lists).map(|l| order.partition_point(|&at| list[at] < l) as u32);
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
        output::write_file(&self.folder.join(name), |file| {
            let mut numbers = numbers;
            numbers.try_for_each(|number| file.write_all(&number))
        })?;
        Stored::of(&self.folder, name)
    }

    fn store_lines<'a>(
        &self,
        name: &str,
        lines: impl Iterator<Item = &'a Vec<String>>,
    ) -> Result<Stored, Error> {
        output::write_file(&self.folder.join(name), |file| {
            let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(file);
            writer.write_field("cell")?;
            writer.write_record(&self.manifest.columns)?;
            for line in lines {
                writer.write_record(line)?;
            }
            writer.flush()
        })?;
        Stored::of(&self.folder, name)
    }

    /// Writes what is left, looks at the distances among all cells, and completes the atlas with its manifest.
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
        self.manifest.write(&self.folder)?;
        let found = calibrate(&Atlas::open(&self.folder, false)?, self.seed)?;
        (self.manifest.probes, self.manifest.recall) = (found.probes, found.recall);
        let distances = found.distances.into_iter().map(f32::to_le_bytes);
        self.manifest.distances = self.store("distances.f32", distances)?;
        self.manifest.write(&self.folder)?;
        Ok(self.manifest)
    }
}

/// Mean and first two principal components of vectors, [3, width]; zeros where there are fewer.
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

/// The same file under another name, without taking its space again where that can be. Nothing that is there is written to.
fn bring(source: &Path, target: &Path) -> Result<(), Error> {
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
        let part = from.fill_buf().map_err(&reading)?;
        if part.is_empty() {
            return to.flush().map_err(writing);
        }
        to.write_all(part).map_err(writing)?;
        let n = part.len();
        from.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_written_over_by_one_that_is_carried() {
        let folder = tempfile::tempdir().unwrap();
        let [source, target] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&source, "cells").unwrap();
        bring(&source, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"cells");
        // The target is the source itself by now.
        let error = bring(&source, &target).unwrap_err();
        assert!(matches!(error, Error::Output(_)), "{error}");
        assert_eq!(fs::read(&source).unwrap(), b"cells");
    }
}
