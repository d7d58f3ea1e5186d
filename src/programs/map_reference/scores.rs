//! Evaluation of transferred labels against true labels.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::query_options::QueryOptions;
use crate::analysis::classification::{self, Scores};
use crate::failure::Failure;
use crate::programs::steps;
use crate::progress;
use crate::run_record::Run;

/// Scores of one method.
#[derive(Debug, Serialize)]
struct Scored {
    /// Over the cells whose true label is in the reference.
    #[serde(flatten)]
    known: Scores,
    /// Cells whose true label is not in the reference, and the fraction of them that stays unassigned, as is correct; none
    /// without such cells.
    new_cells: usize,
    new_unassigned: Option<f64>,
}

/// Labels of the cells of the input by each method.
type Methods = [(&'static str, Vec<Option<usize>>)];

/// Evaluates methods against true labels, prints and records the metrics and writes the table.
pub fn score(
    options: &QueryOptions,
    classes: &[String],
    truth: &[Option<String>],
    methods: &Methods,
    run: &mut Run,
) -> Result<()> {
    let known: Vec<Option<usize>> = truth
        .iter()
        .map(|label| classes.binary_search(label.as_ref()?).ok())
        .collect();
    if known.iter().all(Option::is_none) {
        let found: Vec<&str> = truth.iter().flatten().map(String::as_str).take(1).collect();
        return Err(Failure::Input.error(format!(
            "no true label (such as `{}`) is a label of the reference (such as `{}`): check `--true-labels` and `--label`",
            found.first().unwrap_or(&""),
            classes[0]
        )));
    }
    let mut table = String::from(
        "method\tcells\taccuracy\taccuracy_assigned\tprecision\trecall\tf1\tunassigned\tnew_cells\tnew_unassigned\n",
    );
    let mut metrics = Map::new();
    for (method, labels) in methods {
        let scored = of_method(classes, truth, &known, labels)?;
        let (known, average) = (&scored.known, &scored.known.macro_average);
        progress::result(&format!(
            "{method}: accuracy {:.4}, macro F1 {:.4} over {} cells whose true label is in the reference",
            known.accuracy, average.f1, known.n_cells
        ));
        table.push_str(&format!(
            "{method}\t{}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\t{}\t{}\n",
            known.n_cells,
            known.accuracy,
            known.accuracy_assigned,
            average.precision,
            average.recall,
            average.f1,
            known.unassigned,
            scored.new_cells,
            scored
                .new_unassigned
                .map_or(String::new(), |fraction| format!("{fraction:.4}"))
        ));
        metrics.insert((*method).to_owned(), serde_json::to_value(scored)?);
    }
    run.metric("scores", Value::Object(metrics));
    if let Some(path) = &options.metrics {
        steps::write_text(path, &table, run)?;
    }
    Ok(())
}

fn of_method(
    classes: &[String],
    truth: &[Option<String>],
    known: &[Option<usize>],
    labels: &[Option<usize>],
) -> Result<Scored> {
    let pairs = known.iter().zip(labels);
    let (right, given): (Vec<usize>, Vec<Option<usize>>) = pairs
        .filter_map(|(known, given)| Some(((*known)?, *given)))
        .unzip();
    let is_new = |((truth, known), _): &((&Option<String>, &Option<usize>), &Option<usize>)| {
        truth.is_some() && known.is_none()
    };
    let new: Vec<&Option<usize>> = truth
        .iter()
        .zip(known)
        .zip(labels)
        .filter(is_new)
        .map(|(_, given)| given)
        .collect();
    let unassigned = new.iter().filter(|given| given.is_none()).count();
    Ok(Scored {
        known: classification::score(&right, &given, classes)?,
        new_cells: new.len(),
        new_unassigned: (!new.is_empty()).then(|| unassigned as f64 / new.len() as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_new_types_are_right_if_unassigned_and_in_no_other_score() {
        let label = |text: &str| Some(text.to_owned());
        let classes = ["A".to_owned(), "B".to_owned()];
        let truth = [label("A"), label("B"), label("C"), label("C"), None];
        let known = [Some(0), Some(1), None, None, None];
        let given = [Some(0), None, None, Some(1), Some(0)];
        let scored = of_method(&classes, &truth, &known, &given).unwrap();
        assert_eq!((scored.known.n_cells, scored.known.accuracy), (2, 0.5));
        assert_eq!((scored.new_cells, scored.new_unassigned), (2, Some(0.5)));
        let scored = of_method(&classes, &truth[..2], &known[..2], &given[..2]).unwrap();
        assert_eq!((scored.new_cells, scored.new_unassigned), (0, None));
    }
}
