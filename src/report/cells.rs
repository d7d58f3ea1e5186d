//! Cells of a file for the report: 2-D coordinates and annotations of a sample.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Axis};

use crate::formats::h5ad::File;
use crate::formats::{Column, Error};
use crate::random::{self, Seed};

/// Maximum number of columns of obs that are read, and that are included.
const MOST_READ: usize = 200;
const MOST_INCLUDED: usize = 16;
/// Maximum number of categories of a column; cell identifiers have more.
const MOST_CATEGORIES: usize = 1_000;
/// Maximum number of distinct whole numbers of a column that groups cells, such as clusters.
const MOST_NUMBERED: usize = 60;
/// Iterations of orthogonal iteration, ample for a plot.
const ROUNDS: usize = 100;
/// Maximum number of columns of an embedding.
pub const WIDEST: usize = 4_096;

/// Values of a column.
#[derive(Debug, Clone)]
pub enum Values {
    /// Names, and the index of the name of each cell.
    Categories {
        names: Vec<String>,
        codes: Vec<Option<u32>>,
    },
    Numbers(Vec<Option<f64>>),
}

/// A column of obs, with an entry for every cell of the file.
#[derive(Debug, Clone)]
pub struct Annotation {
    pub name: String,
    pub values: Values,
}

impl Annotation {
    /// Names and codes, if it has categories.
    pub fn categories(&self) -> Option<(&[String], &[Option<u32>])> {
        match &self.values {
            Values::Categories { names, codes } => Some((names, codes)),
            Values::Numbers(_) => None,
        }
    }
}

/// Cells of one file.
#[derive(Debug, Clone)]
pub struct View {
    pub path: PathBuf,
    /// Index of the run that wrote the file.
    pub run: Option<usize>,
    pub n_cells: usize,
    /// Indices of the plotted cells, in the order of the file.
    pub sample: Vec<usize>,
    /// Coordinates of the plotted cells, and names of the axes.
    pub coordinates: Vec<[f64; 2]>,
    pub axes: [String; 2],
    pub annotations: Vec<Annotation>,
    /// Number of columns of obs in the file.
    pub n_columns: usize,
    /// Names of the plotted cells.
    pub names: Vec<String>,
    /// Index in `annotations` of the column that colors the cells and groups them for marker genes.
    pub main: Option<usize>,
}

/// Settings of the plotted cells.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Maximum number of cells.
    pub cells: usize,
    /// Column that colors cells; else the most informative one.
    pub color: Option<&'a str>,
    pub seed: u64,
}

impl View {
    /// Reads a file; none if it has no cell embedding or its rows are genes.
    pub fn read(path: &Path, run: Option<usize>, wanted: Wanted) -> Result<Option<Self>, Error> {
        let file = File::open(path)?;
        file.check_format()?;
        let Some(key) = embedding(&file)? else {
            return Ok(None);
        };
        let values = file.embedding(&key)?;
        let embedded: Vec<usize> = (0..file.n_cells())
            .filter(|&cell| values.row(cell).iter().all(|value| value.is_finite()))
            .collect();
        let mut sample = random::sample(
            &mut Seed(wanted.seed).stream("report cells", &[]),
            embedded.len(),
            wanted.cells,
        );
        sample.sort_unstable();
        let sample: Vec<usize> = sample.into_iter().map(|at| embedded[at]).collect();
        let Some((coordinates, axes)) = coordinates(&values.select(Axis(0), &sample), &key) else {
            return Ok(None);
        };
        drop(values);
        let annotations = annotations(&file, wanted.color)?;
        let names = file.cell_names()?;
        Ok(Some(Self {
            main: main(&annotations, wanted.color),
            n_columns: file.obs_columns()?.len(),
            names: sample.iter().map(|&cell| names[cell].clone()).collect(),
            path: path.to_owned(),
            run,
            n_cells: file.n_cells(),
            sample,
            coordinates,
            axes,
            annotations,
        }))
    }

    /// The column that colors the cells.
    pub fn main(&self) -> Option<&Annotation> {
        self.main.map(|at| &self.annotations[at])
    }

    /// Name of the file.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// Whether a file has a cell embedding.
pub fn has_embedding(path: &Path) -> Result<bool, Error> {
    Ok(embedding(&File::open(path)?)?.is_some())
}

/// The embedding to plot; none if the rows of the file are genes.
fn embedding(file: &File) -> Result<Option<String>, Error> {
    let relations = file.relations()?;
    let is_of_genes = relations
        .iter()
        .any(|name| name == "similarity" || super::attention::is_supported(name));
    if is_of_genes || file.n_cells() == 0 {
        return Ok(None);
    }
    Ok(best_embedding(&file.embeddings()?).cloned())
}

/// Prefers UMAP and t-SNE coordinates, and embeddings of scGPT.
fn best_embedding(names: &[String]) -> Option<&String> {
    let rank = |name: &&String| {
        let lower = name.to_lowercase();
        let is_scgpt = lower.contains("scgpt");
        let is_2d = ["umap", "tsne"].iter().any(|name| lower.contains(name));
        (is_scgpt && is_2d, is_scgpt, is_2d, lower.contains("pca"))
    };
    names.iter().rev().max_by_key(rank)
}

/// Two columns unchanged, or the first two principal components of more.
fn coordinates(values: &Array2<f32>, key: &str) -> Option<(Vec<[f64; 2]>, [String; 2])> {
    let values = values.mapv(f64::from);
    match values.ncols() {
        0 | 1 => None,
        2 => {
            let coordinates = values
                .rows()
                .into_iter()
                .map(|row| [row[0], row[1]])
                .collect();
            Some((coordinates, [1, 2].map(|axis| format!("{key} {axis}"))))
        }
        3..=WIDEST => Some((
            principal(&values),
            [1, 2].map(|axis| format!("{key}, principal component {axis}")),
        )),
        _ => None,
    }
}

/// The first two principal components, by orthogonal iteration on the covariance; the largest entry of each is positive.
fn principal(values: &Array2<f64>) -> Vec<[f64; 2]> {
    let Some(mean) = values.mean_axis(Axis(0)) else {
        return Vec::new();
    };
    let centered = values - &mean;
    let covariance = centered.t().dot(&centered);
    let width = values.ncols();
    let unit =
        |at: usize| Array1::from_shape_fn(width, |i| 1.0 / (1.0 + ((i + at * 7) % 13) as f64));
    let (mut first, mut second) = (unit(0), unit(1));
    for _ in 0..ROUNDS {
        first = normalized(covariance.dot(&first));
        second = covariance.dot(&second);
        second = normalized(&second - &(&first * first.dot(&second)));
    }
    let scores = [centered.dot(&first), centered.dot(&second)];
    (0..values.nrows())
        .map(|cell| [scores[0][cell], scores[1][cell]])
        .collect()
}

fn normalized(vector: Array1<f64>) -> Array1<f64> {
    let length = vector.dot(&vector).sqrt();
    let largest = vector.iter().copied().fold(0.0, |most: f64, value| {
        if value.abs() > most.abs() {
            value
        } else {
            most
        }
    });
    if length > 0.0 {
        vector / (length * largest.signum())
    } else {
        vector
    }
}

/// Informative columns, without cell identifiers: the requested one, then categories, then numbers.
fn annotations(file: &File, color: Option<&str>) -> Result<Vec<Annotation>, Error> {
    let columns = file.obs_columns()?;
    let mut wanted: Vec<&String> = columns.iter().take(MOST_READ).collect();
    wanted.extend(
        columns
            .iter()
            .skip(MOST_READ)
            .filter(|name| Some(name.as_str()) == color),
    );
    wanted.sort_by_key(|name| Some(name.as_str()) != color);
    let (mut found, mut numbers) = (Vec::new(), Vec::new());
    for name in wanted {
        // Columns of unsupported types are skipped.
        let Some(values) = file.obs(name).ok().and_then(informative) else {
            continue;
        };
        let is_requested = Some(name.as_str()) == color;
        let kept = match values {
            Values::Numbers(_) if !is_requested => &mut numbers,
            _ => &mut found,
        };
        if kept.len() < MOST_INCLUDED {
            kept.push(Annotation {
                name: name.clone(),
                values,
            });
        }
        if found.len() == MOST_INCLUDED {
            break;
        }
    }
    found.extend(numbers);
    found.truncate(MOST_INCLUDED);
    found.sort_by_key(|column| columns.iter().position(|name| *name == column.name));
    Ok(found)
}

fn informative(column: Column) -> Option<Values> {
    match column {
        Column::Number(numbers) => numbered(numbers),
        column => labeled(column.to_labels()),
    }
}

/// A few distinct whole numbers are categories, others are numbers.
fn numbered(numbers: Vec<Option<f64>>) -> Option<Values> {
    let finite: Vec<Option<f64>> = numbers
        .into_iter()
        .map(|number| number.filter(|value| value.is_finite()))
        .collect();
    let mut values: HashSet<u64> = HashSet::new();
    let are_few = finite.iter().flatten().all(|value| {
        values.insert(value.to_bits());
        value.fract() == 0.0 && values.len() <= MOST_NUMBERED
    });
    match values.len() {
        0 => None,
        2.. if are_few && values.len() * 2 <= finite.len() => {
            // Negative zero is zero.
            let label = |value: f64| format!("{:.0}", value + 0.0);
            labeled(finite.iter().map(|value| value.map(label)).collect())
        }
        _ => Some(Values::Numbers(finite)),
    }
}

/// None for cell identifiers.
fn labeled(labels: Vec<Option<String>>) -> Option<Values> {
    let (mut names, mut place): (Vec<String>, HashMap<String, u32>) = (Vec::new(), HashMap::new());
    let mut codes = Vec::with_capacity(labels.len());
    for label in labels {
        let code = label.map(|label| {
            *place.entry(label).or_insert_with_key(|label| {
                names.push(label.clone());
                names.len() as u32 - 1
            })
        });
        codes.push(code);
        if names.len() > MOST_CATEGORIES {
            return None;
        }
    }
    let is_identifier = names.len() > 20 && names.len() * 2 > codes.len();
    let values = in_order(names, codes);
    (!is_identifier && !matches!(&values, Values::Categories { names, .. } if names.is_empty()))
        .then_some(values)
}

/// Sorts categories by number if they are numbers, such as clusters, else by name.
fn in_order(names: Vec<String>, codes: Vec<Option<u32>>) -> Values {
    let mut order: Vec<usize> = (0..names.len()).collect();
    let number = |at: &usize| names[*at].parse::<u64>().unwrap_or(u64::MAX);
    order.sort_by(|a, b| {
        number(a)
            .cmp(&number(b))
            .then_with(|| names[*a].cmp(&names[*b]))
    });
    let mut place = vec![0; names.len()];
    order
        .iter()
        .enumerate()
        .for_each(|(new, &old)| place[old] = new as u32);
    Values::Categories {
        names: order.iter().map(|&at| names[at].clone()).collect(),
        codes: codes
            .into_iter()
            .map(|code| code.map(|code| place[code as usize]))
            .collect(),
    }
}

/// The requested column, else predicted labels, clusters, given cell types, or any column with a few categories.
fn main(annotations: &[Annotation], color: Option<&str>) -> Option<usize> {
    if let Some(requested) = annotations
        .iter()
        .position(|column| Some(column.name.as_str()) == color && column.categories().is_some())
    {
        return Some(requested);
    }
    let rank = |column: &Annotation| {
        let name = column.name.to_lowercase();
        let (names, _) = column.categories()?;
        let has_word = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let kind = if name == "scgpt_label" || name.ends_with("_label") {
            4
        } else if has_word(&["leiden", "louvain", "cluster"]) {
            3
        } else if has_word(&["celltype", "cell_type", "labels"]) {
            2
        } else {
            1
        };
        ((2..=60).contains(&names.len())).then_some(kind)
    };
    let ranked = annotations
        .iter()
        .enumerate()
        .filter_map(|(at, column)| Some((rank(column)?, std::cmp::Reverse(at))));
    ranked.max().map(|(_, at)| at.0)
}

/// Cells of each category of one column by those of another, [first, second].
pub fn crossed(rows: &Annotation, columns: &Annotation) -> Option<Vec<Vec<u64>>> {
    let ((row_names, row_codes), (column_names, column_codes)) =
        (rows.categories()?, columns.categories()?);
    let mut counts = vec![vec![0; column_names.len()]; row_names.len()];
    for (row, column) in row_codes.iter().zip(column_codes) {
        if let (Some(row), Some(column)) = (row, column) {
            counts[*row as usize][*column as usize] += 1;
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_clusters_group_cells() {
        let column = |numbers: Vec<f64>| Annotation {
            name: "leiden".into(),
            values: informative(Column::Number(numbers.into_iter().map(Some).collect())).unwrap(),
        };
        let clusters = column((0..40).map(|cell| f64::from(cell % 11)).collect());
        let (names, codes) = clusters.categories().unwrap();
        assert_eq!(
            (names.len(), names[2].as_str(), codes[12]),
            (11, "2", Some(1))
        );
        assert_eq!(main(&[clusters], Some("leiden")), Some(0));
        // Fractional numbers, counts that hardly repeat and a constant do not group cells.
        for numbers in [
            (0..40).map(|cell| f64::from(cell % 2) + 0.5).collect(),
            (0..40).map(|cell| f64::from(cell % 30)).collect(),
            vec![1.0; 40],
        ] {
            assert!(column(numbers).categories().is_none());
        }
    }
}
