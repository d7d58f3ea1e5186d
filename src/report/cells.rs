//! Cells of a file as the page shows them: a place in two dimensions and annotations, for a sample of them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Axis};

use crate::formats::h5ad::File;
use crate::formats::{Column, Error};
use crate::random::{self, Seed};

/// Columns of obs that are looked at, and those that are shown.
const MOST_READ: usize = 200;
const MOST_SHOWN: usize = 16;
/// Categories of a column that is shown; names of cells have more.
const MOST_CATEGORIES: usize = 1_000;
/// A column of whole numbers with up to so many values, such as clusters, groups cells.
const MOST_NUMBERED: usize = 60;
/// Rounds of orthogonal iteration, which are ample for a picture.
const ROUNDS: usize = 100;
/// Larger embeddings are not projected (columns).
pub const WIDEST: usize = 4_096;

/// What a column says of each cell.
#[derive(Debug, Clone)]
pub enum Values {
    /// Positions in the list of names.
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
    /// Index of the run that wrote it.
    pub run: Option<usize>,
    pub n_cells: usize,
    /// Cells shown, in the order of the file.
    pub sample: Vec<usize>,
    /// Where the shown cells are, and what the axes are.
    pub places: Vec<[f64; 2]>,
    pub axes: [String; 2],
    pub annotations: Vec<Annotation>,
    /// Columns of obs in the file.
    pub n_columns: usize,
    /// Names of the shown cells.
    pub names: Vec<String>,
    /// Position in `annotations` of what colours the cells and groups them for marker genes.
    pub main: Option<usize>,
}

/// What to show of a file.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Cells at most.
    pub cells: usize,
    /// Column that colours them; else the most telling one.
    pub colour: Option<&'a str>,
    pub seed: u64,
}

impl View {
    /// Reads a file; none if it has no embedding or its rows are genes.
    pub fn read(path: &Path, run: Option<usize>, wanted: Wanted) -> Result<Option<Self>, Error> {
        let file = File::open(path)?;
        let Some(key) = embedding(&file)? else {
            return Ok(None);
        };
        let values = file.embedding(&key)?;
        let placed: Vec<usize> = (0..file.n_cells())
            .filter(|&cell| values.row(cell).iter().all(|value| value.is_finite()))
            .collect();
        let mut sample = random::sample(
            &mut Seed(wanted.seed).stream("report cells", &[]),
            placed.len(),
            wanted.cells,
        );
        sample.sort_unstable();
        let sample: Vec<usize> = sample.into_iter().map(|at| placed[at]).collect();
        let Some((places, axes)) = place(&values.select(Axis(0), &sample), &key) else {
            return Ok(None);
        };
        drop(values);
        let annotations = annotations(&file, wanted.colour)?;
        let names = file.cell_names()?;
        Ok(Some(Self {
            main: main(&annotations, wanted.colour),
            n_columns: file.obs_columns()?.len(),
            names: sample.iter().map(|&cell| names[cell].clone()).collect(),
            path: path.to_owned(),
            run,
            n_cells: file.n_cells(),
            sample,
            places,
            axes,
            annotations,
        }))
    }

    /// The column that colours the cells.
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

/// Whether a file has cells with an embedding.
pub fn has_embedding(path: &Path) -> Result<bool, Error> {
    Ok(embedding(&File::open(path)?)?.is_some())
}

/// The embedding that shows the cells of a file; none if its rows are genes.
fn embedding(file: &File) -> Result<Option<String>, Error> {
    let relations = file.relations()?;
    let is_of_genes = relations
        .iter()
        .any(|name| name == "similarity" || super::attention::is_shown(name));
    if is_of_genes || file.n_cells() == 0 {
        return Ok(None);
    }
    Ok(best_embedding(&file.embeddings()?).cloned())
}

/// A layout before an embedding, the programs' own before others.
fn best_embedding(names: &[String]) -> Option<&String> {
    let rank = |name: &&String| {
        let lower = name.to_lowercase();
        let is_ours = lower.contains("scgpt");
        let is_layout = ["umap", "tsne"].iter().any(|layout| lower.contains(layout));
        (
            is_ours && is_layout,
            is_ours,
            is_layout,
            lower.contains("pca"),
        )
    };
    names.iter().rev().max_by_key(rank)
}

/// Two columns as they are, or the first two principal components of more.
fn place(values: &Array2<f32>, key: &str) -> Option<(Vec<[f64; 2]>, [String; 2])> {
    let values = values.mapv(f64::from);
    match values.ncols() {
        0 | 1 => None,
        2 => {
            let places = values
                .rows()
                .into_iter()
                .map(|row| [row[0], row[1]])
                .collect();
            Some((places, [1, 2].map(|axis| format!("{key} {axis}"))))
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
    let centred = values - &mean;
    let covariance = centred.t().dot(&centred);
    let width = values.ncols();
    let unit =
        |at: usize| Array1::from_shape_fn(width, |i| 1.0 / (1.0 + ((i + at * 7) % 13) as f64));
    let (mut first, mut second) = (unit(0), unit(1));
    for _ in 0..ROUNDS {
        first = normalised(covariance.dot(&first));
        second = covariance.dot(&second);
        second = normalised(&second - &(&first * first.dot(&second)));
    }
    let scores = [centred.dot(&first), centred.dot(&second)];
    (0..values.nrows())
        .map(|cell| [scores[0][cell], scores[1][cell]])
        .collect()
}

fn normalised(vector: Array1<f64>) -> Array1<f64> {
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

/// Columns that tell cells apart, but not each cell by itself: the one that was asked for, then categories, then numbers.
fn annotations(file: &File, colour: Option<&str>) -> Result<Vec<Annotation>, Error> {
    let columns = file.obs_columns()?;
    let mut wanted: Vec<&String> = columns.iter().take(MOST_READ).collect();
    wanted.extend(
        columns
            .iter()
            .skip(MOST_READ)
            .filter(|name| Some(name.as_str()) == colour),
    );
    wanted.sort_by_key(|name| Some(name.as_str()) != colour);
    let (mut found, mut numbers) = (Vec::new(), Vec::new());
    for name in wanted {
        // A column of a kind that is not known is no reason to show nothing.
        let Some(values) = file.obs(name).ok().and_then(telling) else {
            continue;
        };
        let is_asked = Some(name.as_str()) == colour;
        let kept = match values {
            Values::Numbers(_) if !is_asked => &mut numbers,
            _ => &mut found,
        };
        if kept.len() < MOST_SHOWN {
            kept.push(Annotation {
                name: name.clone(),
                values,
            });
        }
        if found.len() == MOST_SHOWN {
            break;
        }
    }
    found.extend(numbers);
    found.truncate(MOST_SHOWN);
    found.sort_by_key(|column| columns.iter().position(|name| *name == column.name));
    Ok(found)
}

fn telling(column: Column) -> Option<Values> {
    match column {
        Column::Number(numbers) => numbered(numbers),
        column => labelled(column.to_labels()),
    }
}

/// Whole numbers of a few values are categories, others are numbers.
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
            // Minus nought is nought.
            let label = |value: f64| format!("{:.0}", value + 0.0);
            labelled(finite.iter().map(|value| value.map(label)).collect())
        }
        _ => Some(Values::Numbers(finite)),
    }
}

/// None for names of cells.
fn labelled(labels: Vec<Option<String>>) -> Option<Values> {
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

/// Categories by number if all are numbers, as those of clusters, else by name.
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

/// The column asked for, else predicted labels, clusters, given types, or any with a few categories.
fn main(annotations: &[Annotation], colour: Option<&str>) -> Option<usize> {
    if let Some(asked) = annotations
        .iter()
        .position(|column| Some(column.name.as_str()) == colour && column.categories().is_some())
    {
        return Some(asked);
    }
    let rank = |column: &Annotation| {
        let name = column.name.to_lowercase();
        let (names, _) = column.categories()?;
        let of_a_kind = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let kind = if name == "scgpt_label" || name.ends_with("_label") {
            4
        } else if of_a_kind(&["leiden", "louvain", "cluster"]) {
            3
        } else if of_a_kind(&["celltype", "cell_type", "labels"]) {
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
    fn clusters_with_numbers_for_names_group_cells() {
        let column = |numbers: Vec<f64>| Annotation {
            name: "leiden".into(),
            values: telling(Column::Number(numbers.into_iter().map(Some).collect())).unwrap(),
        };
        let clusters = column((0..40).map(|cell| f64::from(cell % 11)).collect());
        let (names, codes) = clusters.categories().unwrap();
        assert_eq!(
            (names.len(), names[2].as_str(), codes[12]),
            (11, "2", Some(1))
        );
        assert_eq!(main(&[clusters], Some("leiden")), Some(0));
        // Depths, counts that hardly repeat and a constant are no groups.
        for numbers in [
            (0..40).map(|cell| f64::from(cell % 2) + 0.5).collect(),
            (0..40).map(|cell| f64::from(cell % 30)).collect(),
            vec![1.0; 40],
        ] {
            assert!(column(numbers).categories().is_none());
        }
    }
}
