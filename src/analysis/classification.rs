//! Classification metrics of predicted against true classes (docs/methods.md, "Classification metrics").
//!
//! A prediction may be missing (the cell is `unassigned`). Such a cell counts as wrong: it lowers accuracy and the recall of its
//! class, but no class's precision. Accuracy among assigned cells and the unassigned fraction are reported too. Averages run over
//! the classes that occur in the truth or among the predictions; a ratio without cells (precision of a class never predicted,
//! recall of one without cells) is 0.

use serde::{Deserialize, Serialize};

/// Scores of one set of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub n_cells: u64,
    /// Fraction of all cells predicted right; unassigned cells are wrong.
    pub accuracy: f64,
    /// Fraction of assigned cells predicted right; 0 if none is assigned.
    pub accuracy_assigned: f64,
    /// Fraction of cells without a prediction.
    pub unassigned: f64,
    /// F1 of all cells pooled: equals accuracy if every cell is assigned.
    pub micro_f1: f64,
    /// Plain mean over classes that occur.
    #[serde(rename = "macro")]
    pub macro_average: Average,
    /// Mean over classes weighted by their true cells.
    #[serde(rename = "weighted")]
    pub weighted_average: Average,
    /// In the order of the class names.
    pub classes: Vec<Class>,
    /// True class by predicted class, with a last column for unassigned cells.
    pub confusion: Vec<Vec<u64>>,
}

/// Precision, recall and F1, averaged over classes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// Scores of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    pub name: String,
    /// Cells that truly belong to the class.
    pub n_true: u64,
    /// Cells predicted to belong to it.
    pub n_predicted: u64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// Why predictions cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{predicted} predictions for {cells} cells: there must be one per cell")]
    Lengths { predicted: usize, cells: usize },
    #[error("there are no cells to score")]
    NoCells,
    #[error(
        "cell {cell} has class {class} (both counted from 0), but only {classes} class names are given"
    )]
    UnknownClass {
        cell: usize,
        class: usize,
        classes: usize,
    },
}

/// Scores class indices against the truth; `None` is unassigned.
pub fn score(
    truth: &[usize],
    predicted: &[Option<usize>],
    names: &[String],
) -> Result<Scores, Error> {
    let confusion = confusion(truth, predicted, names.len())?;
    let n_cells = truth.len() as u64;
    let unassigned: u64 = confusion.iter().map(|row| row[names.len()]).sum();
    let right: u64 = (0..names.len()).map(|class| confusion[class][class]).sum();
    let classes: Vec<Class> = names
        .iter()
        .enumerate()
        .map(|(class, name)| score_class(&confusion, class, name))
        .collect();
    let occurs = |class: &&Class| class.n_true + class.n_predicted > 0;
    Ok(Scores {
        n_cells,
        accuracy: ratio(right, n_cells),
        accuracy_assigned: ratio(right, n_cells - unassigned),
        unassigned: ratio(unassigned, n_cells),
        micro_f1: ratio(2 * right, 2 * n_cells - unassigned),
        macro_average: average(classes.iter().filter(occurs), |_| 1.0),
        weighted_average: average(classes.iter().filter(occurs), |class| class.n_true as f64),
        classes,
        confusion,
    })
}

fn confusion(
    truth: &[usize],
    predicted: &[Option<usize>],
    classes: usize,
) -> Result<Vec<Vec<u64>>, Error> {
    if truth.len() != predicted.len() {
        return Err(Error::Lengths {
            predicted: predicted.len(),
            cells: truth.len(),
        });
    }
    if truth.is_empty() {
        return Err(Error::NoCells);
    }
    let mut confusion = vec![vec![0; classes + 1]; classes];
    for (cell, (&truth, &predicted)) in truth.iter().zip(predicted).enumerate() {
        if let Some(class) = [Some(truth), predicted]
            .into_iter()
            .flatten()
            .find(|&class| class >= classes)
        {
            return Err(Error::UnknownClass {
                cell,
                class,
                classes,
            });
        }
        confusion[truth][predicted.unwrap_or(classes)] += 1;
    }
    Ok(confusion)
}

fn score_class(confusion: &[Vec<u64>], class: usize, name: &str) -> Class {
    let right = confusion[class][class];
    let n_true = confusion[class].iter().sum();
    let n_predicted = confusion.iter().map(|row| row[class]).sum();
    Class {
        name: name.to_owned(),
        n_true,
        n_predicted,
        precision: ratio(right, n_predicted),
        recall: ratio(right, n_true),
        f1: ratio(2 * right, n_true + n_predicted),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn average<'a>(
    classes: impl Iterator<Item = &'a Class>,
    weight: impl Fn(&Class) -> f64,
) -> Average {
    let mut sums = Average::default();
    let mut total = 0.0;
    for class in classes {
        let weight = weight(class);
        sums.precision += weight * class.precision;
        sums.recall += weight * class.recall;
        sums.f1 += weight * class.f1;
        total += weight;
    }
    Average {
        precision: sums.precision / total,
        recall: sums.recall / total,
        f1: sums.f1 / total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|class| format!("T{class}")).collect()
    }

    #[test]
    fn golden_metrics_classification() {
        let golden = include_str!("../../tests/data/metrics/classification.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let classes = |name: &str| {
            golden[name]
                .as_array()
                .unwrap()
                .iter()
                .map(|class| class.as_u64().unwrap() as usize)
        };
        let predicted: Vec<_> = classes("pred").map(Some).collect();
        let scores = score(&classes("truth").collect::<Vec<_>>(), &predicted, &names(5)).unwrap();
        let actual = [
            ("accuracy", scores.accuracy),
            ("precision_macro", scores.macro_average.precision),
            ("recall_macro", scores.macro_average.recall),
            ("macro_f1", scores.macro_average.f1),
            ("micro_f1", scores.micro_f1),
        ];
        for (name, actual) in actual {
            // Rounding only.
            assert!(
                (actual - golden[name].as_f64().unwrap()).abs() < 1e-14,
                "{name}: {actual}"
            );
        }
    }

    #[test]
    fn unassigned_cells_are_wrong_but_in_no_class() {
        // Class 2 is absent; class 1 has one right, one unassigned and one wrong cell.
        let predicted = [Some(0), Some(1), None, Some(0)];
        let scores = score(&[0, 1, 1, 1], &predicted, &names(3)).unwrap();
        assert_eq!((scores.accuracy, scores.unassigned), (0.5, 0.25));
        assert_eq!(scores.accuracy_assigned, 2.0 / 3.0);
        assert_eq!(scores.micro_f1, 4.0 / 7.0);
        assert_eq!(scores.confusion, [[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]);
        assert_eq!(
            (
                scores.classes[1].precision,
                scores.classes[1].recall,
                scores.classes[1].f1
            ),
            (1.0, 1.0 / 3.0, 0.5)
        );
        assert_eq!(scores.macro_average.recall, (1.0 + 1.0 / 3.0) / 2.0);
        assert_eq!(scores.weighted_average.recall, 0.5);
    }

    #[test]
    fn nothing_assigned_is_zero_everywhere() {
        let scores = score(&[0, 1], &[None, None], &names(2)).unwrap();
        assert_eq!(
            (
                scores.accuracy,
                scores.accuracy_assigned,
                scores.unassigned,
                scores.micro_f1
            ),
            (0.0, 0.0, 1.0, 0.0)
        );
        assert_eq!(scores.macro_average, Average::default());
    }

    #[test]
    fn scores_survive_json() {
        let scores = score(&[0, 1, 1], &[Some(0), None, Some(1)], &names(2)).unwrap();
        let json = serde_json::to_string(&scores).unwrap();
        assert!(json.contains("\"macro\":"));
        assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), scores);
    }

    #[test]
    fn impossible_input_is_rejected() {
        assert_eq!(score(&[], &[], &[]), Err(Error::NoCells));
        assert_eq!(
            score(&[0], &[], &names(1)),
            Err(Error::Lengths {
                predicted: 0,
                cells: 1
            })
        );
        assert_eq!(
            score(&[0], &[Some(4)], &names(2)),
            Err(Error::UnknownClass {
                cell: 0,
                class: 4,
                classes: 2
            })
        );
        assert_eq!(
            score(&[2], &[None], &names(2)),
            Err(Error::UnknownClass {
                cell: 0,
                class: 2,
                classes: 2
            })
        );
    }
}
