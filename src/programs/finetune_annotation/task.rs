//! Cell type annotation as a training task.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::data::{self, Data};
use super::{Options, evaluation};
use crate::checkpoint::{Checkpoint, InputStyle};
use crate::expression::normalize::{Target, log1p, normalize_total};
use crate::file_format;
use crate::model::{Heads, Store};
use crate::predict::{self, annotation::Settings, settings, settings::TaskSettings};
use crate::programs::gene_vectors;
use crate::random::Seed;
use crate::run_record::Run;
use crate::tokens::{self, Tokenizer};
use crate::train::annotation::Annotation;
use crate::train::{self, Defaults, InMemory};
use crate::trainer::{Files, Fitting, Network, Shape, Task, Trained};
use crate::vocabulary::Vocabulary;

/// Training budget of a model from scratch: cells over all epochs.
const TRAINING_BUDGET_CELLS: u64 = 60_000;
/// Dropout of a model from scratch.
const DROPOUT: f64 = 0.1;

impl Task for Options {
    type Data = Data;
    type Reader = Tokenizer;
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
        let heads = self.weights.heads(data.class_names.len(), data.n_batches);
        let dropout = self.training.dropout.unwrap_or(DROPOUT);
        let Some(checkpoint) = &data.checkpoint else {
            let size = self
                .size
                .architecture(dropout, self.tokens.n_bins, self.tokens.max_length);
            return Shape::new(size, &data.vocabulary, heads);
        };
        Shape {
            architecture: checkpoint.architecture.clone(),
            genes: predict::genes(checkpoint),
            heads: Heads {
                plain_norm: checkpoint.heads.batch_norm,
                ..heads
            },
        }
    }

    fn prepare(&self, data: &Data, network: &Network, run: &mut Run) -> Result<Tokenizer> {
        if let Some(path) = &self.test_cells {
            run.stage("write_test_cells", |_| {
                data::write_test_cells(self, data, path)
            })?;
        }
        if data.checkpoint.is_none() {
            initialize_embeddings(data, &network.store, Seed(self.seed))?;
            run.note(
                "gene embeddings are initialized from principal components of the training cells",
            );
        }
        network.store.freeze(|name| self.freeze.applies(name));
        let style = network.shape.architecture.input_emb_style;
        Ok(new_tokenizer(self, data, style))
    }

    fn defaults(&self, data: &Data, _: &Tokenizer) -> Defaults {
        let cells = data.split.training.len() as u64;
        match &data.checkpoint {
            Some(checkpoint) => Defaults {
                epochs: 10,
                learning_rate: 1e-4,
                dropout: checkpoint.architecture.dropout,
            },
            None => Defaults {
                epochs: (TRAINING_BUDGET_CELLS / cells).clamp(8, 60),
                learning_rate: 1e-3,
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
        let class_weights = self.class_weights.then(|| balanced(data));
        let from_scratch = |value: f64| {
            if data.checkpoint.is_none() {
                value
            } else {
                0.0
            }
        };
        let objective = Annotation {
            cells: &data.counts,
            tokenizer: reader,
            classes: &data.classes,
            batches: data.batches.as_deref(),
            class_weights: class_weights.as_deref(),
            weights: &self.weights,
            gene_dropout: self.weights.gene_dropout.unwrap_or(from_scratch(0.5)),
            label_smoothing: self.weights.label_smoothing.unwrap_or(from_scratch(0.1)),
            architecture: &network.shape.architecture,
            genes: network.shape.genes,
            heads: network.shape.heads,
            seed: Seed(self.seed),
            device: network.device(),
        };
        let examples = InMemory {
            example: |cell, epoch| objective.example(cell, epoch),
            groups: None,
            training: data.split.training.clone(),
            validation: data.split.validation.clone(),
            seed: Seed(self.seed),
        };
        fitting.run(network, (&objective, &examples), run)?;
        Ok(())
    }

    fn test(&self, trained: Trained<'_, Self>, (): (), _: &Path, run: &mut Run) -> Result<Files> {
        evaluation::test(self, trained, run)
    }

    fn is_written(model: &Path, fingerprint: &str) -> bool {
        settings::is_written::<Settings>(model, fingerprint)
    }

    fn arguments(
        &self,
        Trained { data, reader, .. }: Trained<'_, Self>,
        fingerprint: String,
    ) -> Result<Map<String, Value>> {
        let settings = Settings {
            statement: file_format::MODEL.statement(),
            task: Settings::TASK.into(),
            classes: data.class_names.clone(),
            genes: data.genes.clone(),
            tokens: reader.settings().clone(),
            seed: self.seed,
            fingerprint,
        };
        let checkpoint = data.checkpoint.as_ref();
        let mut arguments = checkpoint.map_or_else(Map::new, |c| c.arguments.clone());
        arguments.insert("n_classes".into(), json!(data.class_names.len()));
        arguments.insert("scgpt_tools".into(), serde_json::to_value(&settings)?);
        Ok(arguments)
    }
}

/// Initializes the gene embeddings from the training cells.
fn initialize_embeddings(data: &Data, store: &Store, seed: Seed) -> Result<()> {
    let chosen = gene_vectors::some(&data.split.training, seed);
    let mut counts = data.counts.select_cells(&chosen);
    if data.is_linear {
        normalize_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    let id = |gene: &String| i64::from(data.vocabulary.id(gene).unwrap_or(0));
    let ids: Vec<i64> = data.genes.iter().map(id).collect();
    let cells = counts.to_dense().mapv(f64::from);
    gene_vectors::start_from_components(&cells, &ids, store, seed)
}

fn new_tokenizer(options: &Options, data: &Data, style: InputStyle) -> Tokenizer {
    // With value scaling, 0 would erase the embedding of `<cls>`.
    let cls_value = if style == InputStyle::Scaling {
        1.0
    } else {
        0.0
    };
    let settings = tokens::Settings {
        options: options.tokens.clone(),
        cls: data.vocabulary.cls().map(i64::from),
        cls_value,
        values: options.values(),
    };
    let ids = data
        .genes
        .iter()
        .filter_map(|gene| data.vocabulary.id(gene));
    Tokenizer::new(settings, ids.map(i64::from).collect(), Seed(options.seed))
}

/// Class weights that give every class the same total weight among the training cells.
fn balanced(data: &Data) -> Vec<f32> {
    let classes = data.classes_of(&data.split.training);
    let count = |class| classes.iter().filter(|&&c| c == class).count().max(1);
    let target = classes.len() as f32 / data.class_names.len() as f32;
    (0..data.class_names.len())
        .map(|class| target / count(class) as f32)
        .collect()
}
