//! Perturbation response prediction as a training task.

use std::path::Path;

use anyhow::Result;
use ndarray::Array2;
use serde_json::{Map, Value, json};
use tch::no_grad;

use super::data::Data;
use super::reader::Reader;
use super::{Options, evaluation};
use crate::cells::controls::Pairing;
use crate::checkpoint::Checkpoint;
use crate::file_format;
use crate::model::{Heads, Line, Store};
use crate::predict::perturbation::{Settings, TrainedCondition};
use crate::predict::settings::{self, TaskSettings};
use crate::programs::gene_vectors;
use crate::random::Seed;
use crate::run_record::Run;
use crate::split::perturbations::Part;
use crate::train::perturbation::Perturbation;
use crate::train::{self, Defaults, InMemory};
use crate::trainer::{Files, Fitting, Network, Shape, Task, Trained};
use crate::vocabulary::Vocabulary;

/// Training budget of a model from scratch: pseudobulks over all epochs, drawn anew in every epoch.
const TRAINING_BUDGET_MEANS: u64 = 4_000;
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;
/// Number of expression bins in the architecture; values are not binned here.
const BINS: usize = 51;

impl Task for Options {
    type Data = Data;
    type Reader = Reader;
    type Fitted = ();

    fn output(&self) -> &Path {
        &self.output
    }

    fn training(&self) -> &train::Options {
        &self.training
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn read(&self, run: &mut Run) -> Result<Data> {
        Data::read(self, run)
    }

    fn checkpoint(data: &Data) -> Option<&Checkpoint> {
        data.checkpoint.as_ref()
    }

    fn vocabulary(data: &Data) -> &Vocabulary {
        &data.vocabulary
    }

    fn shape(&self, data: &Data) -> Shape {
        let dropout = self.training.dropout.unwrap_or(DROPOUT);
        let architecture = match &data.checkpoint {
            Some(checkpoint) => checkpoint.architecture.clone(),
            None => self.size.architecture(dropout, BINS, self.max_length),
        };
        Shape::new(architecture, &data.vocabulary, heads(data))
    }

    fn initialize(&self, _: &Data, network: &Network) {
        if network.shape.heads.affine_expression.is_some() {
            start_unchanged(&network.store);
        }
    }

    fn prepare(&self, data: &Data, network: &Network, run: &mut Run) -> Result<Reader> {
        let reader = Reader::new(self, data)?;
        let genes = (&reader.profiles.ids[..], &network.store);
        initialize_embeddings(self, data, genes, run)?;
        Ok(reader)
    }

    fn defaults(&self, data: &Data, reader: &Reader) -> Defaults {
        let means = reader.parts(data).0.len() as u64;
        match data.checkpoint {
            Some(_) => Defaults {
                epochs: 15,
                learning_rate: 1e-4,
                dropout: DROPOUT,
            },
            None => Defaults {
                epochs: (TRAINING_BUDGET_MEANS / means.max(1)).clamp(2, 60),
                learning_rate: 3e-4,
                dropout: DROPOUT,
            },
        }
    }

    fn fit(&self, trained: Trained<'_, Self>, fitting: Fitting<'_>, run: &mut Run) -> Result<()> {
        let Trained {
            data,
            reader,
            network,
        } = trained;
        let (training, validation) = reader.parts(data);
        let objective = Perturbation {
            architecture: &network.shape.architecture,
            genes: network.shape.genes,
            heads: network.shape.heads,
            device: network.device(),
        };
        let examples = InMemory {
            example: |unit, epoch| reader.example(data, unit, epoch),
            groups: None,
            training,
            validation,
            seed: Seed(self.seed),
        };
        fitting.run(network, (&objective, &examples), run)?;
        Ok(())
    }

    fn test(
        &self,
        trained: Trained<'_, Self>,
        (): (),
        work: &Path,
        run: &mut Run,
    ) -> Result<Files> {
        evaluation::test(self, trained, (work, run))
    }

    fn is_written(model: &Path, fingerprint: &str) -> bool {
        settings::is_written::<Settings>(model, fingerprint)
    }

    fn arguments(
        &self,
        Trained { data, .. }: Trained<'_, Self>,
        fingerprint: String,
    ) -> Result<Map<String, Value>> {
        let known = data.conditions.iter().map(|condition| TrainedCondition {
            name: condition.perturbation.to_string(),
            part: split_name(condition.part).into(),
            cells: condition.cells.len(),
        });
        let settings = Settings {
            statement: file_format::MODEL.statement(),
            task: Settings::TASK.into(),
            genes: data.genes.clone(),
            conditions: known.collect(),
            raised: self.labels.activation,
            contrast: self.contrast,
            reads_means: self.control_matching == Pairing::Mean,
            seed: self.seed,
            fingerprint,
        };
        let checkpoint = data.checkpoint.as_ref();
        let mut arguments = checkpoint.map_or_else(Map::new, |c| c.arguments.clone());
        arguments.insert("pert_pad_id".into(), json!(0));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        Ok(arguments)
    }
}

/// Initializes embeddings of genes without checkpoint from the training cells.
fn initialize_embeddings(
    options: &Options,
    data: &Data,
    (ids, store): (&[i64], &Store),
    run: &mut Run,
) -> Result<()> {
    let seed = Seed(options.seed);
    let mut cells = data.cells_of(|part| part == Part::Training);
    cells.extend(&data.control_cells);
    cells.sort_unstable();
    let chosen = data.counts.select_cells(&gene_vectors::some(&cells, seed));
    let cells: Array2<f64> = chosen.to_dense().mapv(f64::from);
    let Some(checkpoint) = &data.checkpoint else {
        run.note("gene embeddings are initialized with principal components of the training cells");
        return gene_vectors::start_from_components(&cells, ids, store, seed);
    };
    let is_known = |at: &usize| checkpoint.vocabulary.id(&data.genes[*at]).is_some();
    let (known, new): (Vec<usize>, Vec<usize>) = (0..data.genes.len()).partition(is_known);
    gene_vectors::start_from_nearest(&cells, (&known, &new), ids, store)
}

fn split_name(part: Part) -> &'static str {
    match part {
        Part::Training => "training",
        Part::Validation => "validation",
        Part::Test(_) => "test",
        Part::Unused => "unused",
    }
}

/// A model for perturbation prediction keeps its heads, another model gets new ones.
fn heads(data: &Data) -> Heads {
    let stored = data.checkpoint.as_ref().map(|c| Heads::of(&c.heads));
    let stored = stored.unwrap_or(Heads::NONE);
    let is_old = stored.perturbation && stored.expression;
    Heads {
        perturbation: true,
        expression: is_old,
        affine_expression: (!is_old).then(Line::default),
        zero_probability: stored.perturbation && stored.zero_probability,
        plain_norm: stored.plain_norm,
        ..Heads::NONE
    }
}

/// Initializes new decoders to predict unchanged expression.
fn start_unchanged(store: &Store) {
    for (part, bias) in [("coeff", 1.0), ("bias", 0.0)] {
        for (kind, value) in [("weight", 0.0), ("bias", bias)] {
            let name = format!("decoder.{part}_decoder.fc.4.{kind}");
            let tensor = store.tensor(&name).expect("an affine decoder");
            no_grad(|| drop(tensor.shallow_clone().fill_(value)));
        }
    }
}
