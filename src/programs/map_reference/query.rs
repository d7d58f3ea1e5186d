//! `scgpt-map-reference query`: label transfer from the nearest reference cells.

use anyhow::Result;

use super::baseline::Baseline;
use super::embedded::Embedded;
use super::query_options::QueryOptions;
use super::reference::{Reference, map_cells};
use super::{Facts, INDEX, Program, SEARCH, TOPICS, results, scores, steps};
use crate::formats::h5ad;
use crate::run_record::Run;

/// The program.
pub struct Query;

impl Program for Query {
    const NAME: &'static str = "scgpt-map-reference query";
    const SUMMARY: &'static str = "Transfer labels from the nearest reference cells";
    const FACTS: Facts = Facts {
        topics: TOPICS,
        operations: &["operation_0226"],
        resources: SEARCH,
        contents: &[
            ("input", &["obsm/X_scGPT"]),
            ("index", INDEX),
            (
                "output",
                &[
                    "obs/mapped_label",
                    "obs/mapped_probability",
                    "obsm/X_mapped",
                ],
            ),
        ],
    };
    type Options = QueryOptions;

    fn check(options: &QueryOptions) -> Vec<String> {
        let needs_labels = [
            ("--metrics", options.metrics.is_some()),
            ("--baseline", !options.baseline.is_empty()),
        ];
        let unmet = needs_labels
            .iter()
            .filter(|(_, given)| *given && options.true_labels.is_none());
        let problem = |(flag, _): &(&str, bool)| {
            format!("`{flag}` needs `--true-labels`, the column of obs with the true labels")
        };
        unmet.map(problem).collect()
    }

    fn run(options: QueryOptions, run: &mut Run) -> Result<()> {
        run.record_at(steps::record_path(&options.output));
        run.input(&options.input)?;
        let cells = Embedded::open(&options.input, options.obsm_key.as_deref())?;
        let truth = options
            .true_labels
            .as_ref()
            .map(|column| cells.file.obs(column))
            .transpose()?;
        results::check_names(&options, &cells)?;
        let reference = run.stage("open_index", |run| Reference::open(&options, run))?;
        cells.require_width(reference.index.manifest.embedding_dim, "the index")?;
        let baseline = (!options.baseline.is_empty())
            .then(|| Baseline::open(&options, &reference, run))
            .transpose()?;
        let (mapped, probabilities) =
            run.stage("search", |_| map_cells(&options, &cells, &reference))?;
        results::report(&reference, &mapped, run);
        if let Some(truth) = truth {
            let truth = truth.to_labels();
            let mut methods = vec![("scGPT", mapped.iter().map(|p| p.label).collect())];
            if let Some(baseline) = baseline {
                let labels =
                    run.stage("baseline", |run| baseline.labels(&options, &reference, run))?;
                methods.push(("PCA", labels));
            }
            scores::score(&options, &reference.classes, &truth, &methods, run)?;
        }
        results::write_table(&options, &cells, &reference, &mapped, run)?;
        results::plot(&options, &reference, &mapped, run)?;
        let additions = results::additions(&options, &reference, &mapped, probabilities);
        run.stage("write", |_| {
            h5ad::write_copy(&options.input, &options.output, &additions)
        })?;
        run.output(&options.output)?;
        Ok(())
    }
}
