//! Inspection of a checkpoint directory: contents, supported tasks, problems.
//!
//! Unlike opening, inspecting continues after a problem and reports it. Only unreadable weights are an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::architecture::Architecture;
use super::directory::{self, MODELS_VARIABLE, OWN_KEY};
use super::heads::{Heads, ModelClass, rows_of};
use super::layout::Layout;
use super::names;
use super::tensor::StateDict;
use super::weights::{Format, Weights};
use crate::vocabulary::{SPECIAL_TOKENS, Vocabulary};

mod text;

/// Differences that are listed, for each type; further ones are counted.
const LISTED: usize = 10;

/// Contents of a checkpoint directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub directory: PathBuf,
    pub weights_file: PathBuf,
    pub format: Format,
    pub naming: Layout,
    pub model_class: ModelClass,
    /// Tensors by element type.
    pub dtypes: BTreeMap<String, usize>,
    pub tensors: usize,
    /// Trained values: floating-point tensors without running statistics.
    pub parameters: usize,
    /// Absent if it cannot be inferred; `problems` then has the reason.
    pub architecture: Option<Architecture>,
    pub vocabulary: Option<VocabularyReport>,
    pub heads: Heads,
    pub uses: Vec<Use>,
    /// Values inferred or assumed, and what was ignored.
    pub notes: Vec<String>,
    pub problems: Vec<String>,
}

/// Size and special tokens of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VocabularyReport {
    /// Tokens in the file.
    pub tokens: usize,
    /// Special tokens in the file with their ids.
    pub specials: indexmap::IndexMap<String, u32>,
    /// Rows of the gene embedding.
    pub embedding_rows: Option<usize>,
}

/// A task that a checkpoint can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Embedding cells and mapping them to a reference.
    Embedding,
    /// Gene networks from gene embeddings or attention.
    GeneNetworks,
    /// Start of fine-tuning for any task.
    FineTuning,
    /// Cell type annotation without further training.
    Annotation,
    /// Classes are trained but their names are not in the directory.
    AnnotationWithoutNames,
    /// Predicting perturbed expression.
    Perturbation,
    /// Embedding cells free of the technical batches it was trained on.
    Integration,
    /// Embedding cells of several modalities.
    MultiOmicIntegration,
    /// Continuing the pre-training.
    Pretraining,
    /// Generating expression values.
    Generation,
}

/// Inspects a directory, or a model by name as [`Checkpoint::open`](super::Checkpoint::open) finds it.
///
/// Fails when there is no directory or its weights cannot be read; everything else is a problem in the report.
pub fn inspect(path_or_name: &Path) -> Result<Report, directory::Error> {
    let directory = directory::resolve(path_or_name, std::env::var_os(MODELS_VARIABLE).as_deref())?;
    let weights = Weights::read(&directory::find_weights(&directory)?)?;
    let mut findings = Findings::default();
    findings.notes.extend(
        weights
            .unwrapped
            .as_ref()
            .map(|key| format!("the state dict was under the key `{key}`")),
    );
    let arguments = findings
        .keep(directory::read_arguments(&directory))
        .unwrap_or_default();
    let listed = findings.keep(directory::read_vocabulary(&directory));
    let heads = Heads::find(&weights.state);
    let architecture = findings.architecture(&arguments, &weights.state, &heads);
    let vocabulary = listed.map(|listed| findings.vocabulary(listed, &weights.state));
    findings.values(&weights.state);
    let sound = findings.problems.is_empty();
    Ok(Report {
        directory,
        format: weights.format,
        naming: weights.layout,
        model_class: heads.model_class(),
        dtypes: dtypes(&weights.state),
        tensors: weights.state.len(),
        parameters: parameters(&weights.state),
        architecture,
        vocabulary,
        uses: if sound {
            uses(&heads, &arguments)
        } else {
            Vec::new()
        },
        heads,
        notes: findings.notes,
        problems: findings.problems,
        weights_file: weights.file,
    })
}

#[derive(Default)]
struct Findings {
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Findings {
    /// The value, or nothing and a problem.
    fn keep<T, E: std::error::Error>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(chain(&error));
                None
            }
        }
    }

    fn architecture(
        &mut self,
        arguments: &Map<String, Value>,
        state: &StateDict,
        heads: &Heads,
    ) -> Option<Architecture> {
        let (architecture, notes) = self.keep(Architecture::read(arguments, state))?;
        self.notes.extend(notes);
        let Some(rows) = rows_of(state, "encoder.embedding.weight") else {
            self.problems
                .push("`encoder.embedding.weight` is missing or not a matrix".into());
            return Some(architecture);
        };
        let expected = names::expected(&architecture, rows, heads);
        self.list(&names::shortcomings(state, &expected), |findings| {
            &mut findings.problems
        });
        self.list(&names::unexpected(state, &expected), |findings| {
            &mut findings.notes
        });
        Some(architecture)
    }

    fn list(&mut self, items: &[names::Difference], to: fn(&mut Self) -> &mut Vec<String>) {
        to(self).extend(items.iter().take(LISTED).map(ToString::to_string));
        if items.len() > LISTED {
            to(self).push(format!(
                "and {} more tensors like this",
                items.len() - LISTED
            ));
        }
    }

    fn vocabulary(&mut self, listed: Vocabulary, state: &StateDict) -> VocabularyReport {
        let special = |token: &str| Some((token.to_owned(), listed.id(token)?));
        let specials = SPECIAL_TOKENS.into_iter().filter_map(special).collect();
        let (tokens, embedding_rows) = (listed.len(), rows_of(state, "encoder.embedding.weight"));
        let complete = directory::complete_vocabulary(listed, &mut self.notes).len();
        match embedding_rows {
            Some(rows) if complete > rows => self.problems.push(format!(
                "the vocabulary has {complete} tokens but the gene embedding {rows} rows; they belong to different models"
            )),
            Some(rows) if complete < rows => {
                self.notes.push(format!("{} rows of the gene embedding have no token", rows - complete));
            }
            _ => {}
        }
        VocabularyReport {
            tokens,
            specials,
            embedding_rows,
        }
    }

    fn values(&mut self, state: &StateDict) {
        let broken: Vec<_> = state
            .iter()
            .filter(|(_, tensor)| !tensor.is_finite())
            .map(|(name, _)| name)
            .collect();
        let listed = broken.iter().take(LISTED);
        self.problems
            .extend(listed.map(|name| format!("`{name}` holds NaN or infinite values")));
        if broken.len() > LISTED {
            self.problems.push(format!(
                "and {} more tensors like this",
                broken.len() - LISTED
            ));
        }
    }
}

/// An error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(&format!(": {error}"));
        source = error.source();
    }
    line
}

fn dtypes(state: &StateDict) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for tensor in state.values() {
        *counts.entry(tensor.dtype().to_string()).or_insert(0) += 1;
    }
    counts
}

fn parameters(state: &StateDict) -> usize {
    let trained = |name: &str| !name.ends_with(".running_mean") && !name.ends_with(".running_var");
    let tensors = state
        .iter()
        .filter(|(name, tensor)| trained(name) && tensor.dtype().is_float());
    tensors.map(|(_, tensor)| tensor.numel()).sum()
}

fn uses(heads: &Heads, arguments: &Map<String, Value>) -> Vec<Use> {
    let mut uses = vec![Use::GeneNetworks, Use::FineTuning];
    match heads.model_class() {
        ModelClass::Generator => uses.push(Use::Perturbation),
        ModelClass::MultiOmic => uses.push(Use::MultiOmicIntegration),
        ModelClass::Pretraining => {
            uses.extend([Use::Embedding, Use::Pretraining]);
            uses.extend(heads.expression.then_some(Use::Generation));
        }
        ModelClass::Transformer => uses.push(Use::Embedding),
    }
    if heads.domain_norm.is_some() {
        uses.push(Use::Integration);
    }
    if heads.classes.is_some_and(|classes| classes.outputs > 1) {
        let named = arguments
            .get(OWN_KEY)
            .and_then(|own| own.get("classes"))
            .is_some_and(Value::is_array);
        uses.push(if named {
            Use::Annotation
        } else {
            Use::AnnotationWithoutNames
        });
    }
    uses
}
