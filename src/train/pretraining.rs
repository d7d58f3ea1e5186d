//! Generative pre-training objective: masked gene expression modeling (docs/methods.md, "Pre-training"; paper, Methods,
//! "Generative pretraining").

use super::objective::{At, ForwardOutput, Objective, Pass, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{Genes, Heads, Inputs, Model, Noise, OutputTokens, SplitInputs, Store, losses};
use crate::random::{self, Seed};
use crate::tokens::prompt_mask::{Fractions, Perception};
use crate::tokens::{Tokens, masking};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Pre-training task: model input and prediction targets.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Genes are generated from the values of the other genes and from the cell embedding.
    #[default]
    Both,
    /// All genes are generated from the cell embedding.
    Gen,
    /// Masked values are predicted from the other genes, with unrestricted attention.
    Pcpt,
}

/// Pre-training objectives and their weights.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Objectives {
    /// Pre-training task.
    #[arg(long)]
    pub task: Task,
    /// Fraction of the genes of a cell to mask, drawn for every cell: from a list such as 0.25,0.5,0.75, or from a range such as
    /// 0.15..0.40.
    #[arg(long, hide_short_help = true, value_name = "FRACTIONS")]
    pub mask_ratio: Fractions,
    /// Weight of gene expression prediction (GEP): masked values are predicted. Must be above 0.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gep_weight: f64,
    /// Weight of gene expression prediction from the cell embedding (GEPC, called MVC in scGPT in Python); 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub gepc_weight: f64,
    /// Weight of a second GEP pass with the cell embedding in place of the CLS token (--task both); 0 disables it.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub prompt_weight: f64,
    /// Number of training steps before the second pass starts, so that the cell embedding is informative.
    #[arg(long, hide_short_help = true)]
    pub prompt_after: u64,
    /// Weight of contrastive cell embedding (CCE): two dropout views of a cell are pulled together, other cells of the minibatch
    /// pushed apart; 0 disables it. scGPT in Python uses 10. Needs --task pcpt.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub cce_weight: f64,
    /// Weight of cell type classification (cross-entropy); 0 disables it. Needs --labels.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0))]
    pub cls_weight: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            task: Task::Both,
            mask_ratio: Fractions::OneOf(vec![0.25, 0.5, 0.75]),
            gep_weight: 1.0,
            gepc_weight: 1.0,
            prompt_weight: 1.0,
            prompt_after: 1000,
            cce_weight: 0.0,
            cls_weight: 0.0,
        }
    }
}

impl Objectives {
    /// The output heads that the objectives need.
    pub fn heads(&self, classes: usize) -> Heads {
        Heads {
            classes: (self.cls_weight > 0.0).then_some(classes),
            expression: true,
            cell_expression: self.gepc_weight > 0.0,
            generative: self.task != Task::Pcpt,
            ..Heads::default()
        }
    }
}

/// Conditions of genes by id, and that of a gene that was perturbed in its cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GeneConditions {
    pub by_id: Vec<i64>,
    pub perturbed: Option<i64>,
}

/// The pre-training objective; cells may have labels.
pub struct Pretraining<'a> {
    pub goals: &'a Objectives,
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub conditions: Option<&'a GeneConditions>,
    /// Maximum number of tokens of a cell, `<cls>` included.
    pub max_length: usize,
    pub seed: Seed,
    pub device: Device,
}

/// A cell whose values are binned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// Number among all cells.
    pub id: u64,
    /// All its tokens, `<cls>` first.
    pub tokens: Tokens,
    pub class: Option<i64>,
    /// Vocabulary id of the gene that was perturbed.
    pub perturbed: Option<i64>,
}

/// A training example: model input and prediction targets of a cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Tokens with the values that are the model input.
    pub input: Tokens,
    /// Genes to generate; empty if the values to predict are masked in the input.
    pub queries: Vec<i64>,
    /// True values: of the query genes, or of all input genes.
    pub targets: Vec<f32>,
    /// 1 where a target counts, else 0.
    pub counted: Vec<f32>,
    /// Conditions of the input tokens, then of the query genes.
    pub conditions: Vec<i64>,
    /// Class, or -100 for none.
    pub class: i64,
}

impl Pretraining<'_> {
    /// The example made of a cell in an epoch, or for validation: a function of the two and the seed alone.
    pub fn example(&self, cell: &Cell, epoch: Option<u64>) -> Example {
        let round = epoch.map_or(0, |epoch| epoch + 1);
        let mut stream = self.seed.stream("hidden genes", &[round, cell.id]);
        let ratio = self.goals.mask_ratio.draw(&mut stream);
        let permute = |n| random::permutation(&mut stream, n);
        let mut example = match self.goals.task {
            Task::Both => generated(Perception::cut(
                &cell.tokens,
                ratio,
                self.max_length,
                permute,
            )),
            Task::Gen => {
                let sample = Perception::cut(&cell.tokens, 0.0, self.max_length, permute).perceived;
                let genes: Vec<usize> = (1..sample.len()).collect();
                generated(Perception {
                    perceived: sample.select(&[0]),
                    generated: sample.select(&genes),
                })
            }
            Task::Pcpt => {
                let sample = Perception::cut(&cell.tokens, 0.0, self.max_length, permute).perceived;
                let chosen = (1..sample.len()).filter(|_| random::uniform(&mut stream) < ratio);
                masked(
                    sample,
                    &chosen.collect::<Vec<_>>(),
                    self.architecture.mask_value as f32,
                )
            }
        };
        example.class = cell.class.unwrap_or(-100);
        example.conditions = self.conditions_of(&example, cell.perturbed);
        example
    }

    fn conditions_of(&self, example: &Example, perturbed: Option<i64>) -> Vec<i64> {
        let Some(conditions) = self.conditions else {
            return Vec::new();
        };
        let condition = |gene: &i64| match conditions.perturbed {
            Some(condition) if perturbed == Some(*gene) => condition,
            _ => conditions.by_id[*gene as usize],
        };
        example
            .input
            .genes
            .iter()
            .chain(&example.queries)
            .map(condition)
            .collect()
    }
}

/// An example whose query genes are generated from the other genes.
fn generated(cut: Perception) -> Example {
    Example {
        input: cut.perceived,
        counted: vec![1.0; cut.generated.len()],
        queries: cut.generated.genes,
        targets: cut.generated.values,
        ..Example::default()
    }
}

/// An example with all genes in the input, values masked at the given positions.
fn masked(tokens: Tokens, positions: &[usize], mask_value: f32) -> Example {
    let targets = tokens.values.clone();
    let mut counted = vec![0.0; tokens.len()];
    positions.iter().for_each(|&at| counted[at] = 1.0);
    let mut input = tokens;
    masking::apply(&mut input.values, positions, mask_value);
    Example {
        input,
        targets,
        counted,
        ..Example::default()
    }
}

impl Objective for Pretraining<'_> {
    type Example = Example;
    type Model = Model;

    fn model(&self, store: &mut Store) -> Model {
        Model::new(store, self.architecture, self.genes, self.heads)
    }

    fn totals(&self, examples: &[Example]) -> Totals {
        let counted = examples.iter().flat_map(|example| &example.counted);
        Totals {
            cells: examples.len() as f64,
            masked: counted.map(|&c| f64::from(c)).sum(),
            class_weight: examples.iter().filter(|example| example.class >= 0).count() as f64,
            queries: 0.0,
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        At { totals, pass, .. }: At<'_>,
        noise: &mut Noise,
    ) -> ForwardOutput {
        let batch = Batch::new(shard, self.device);
        let predictions = match self.goals.task {
            Task::Both => self.predict_both(model, &batch, (totals, pass), noise),
            Task::Gen => self.predict_generated(model, &batch, (totals, pass), noise),
            Task::Pcpt => self.predict_masked(model, &batch, (totals, pass), noise),
        };
        let Predictions {
            mut terms,
            cells,
            again,
        } = predictions;
        if let Some(classifier) = &model.classifier {
            let sum = losses::cross_entropy(&classifier.forward(&cells), &batch.classes, None, 0.0);
            terms.push(self.auxiliary(
                "cls",
                sum / totals.class_weight.max(1.0),
                self.goals.cls_weight,
                pass,
            ));
        }
        ForwardOutput {
            terms,
            embeddings: again.map_or_else(Vec::new, |again| vec![cells, again]),
            tallies: Vec::new(),
        }
    }

    fn has_batch_loss(&self) -> bool {
        self.goals.cce_weight > 0.0
    }

    fn batch_loss(&self, embeddings: &[Tensor]) -> Vec<Term> {
        let [first, second] = embeddings else {
            return Vec::new();
        };
        let value = losses::contrast(first, second);
        vec![Term {
            name: "cce",
            value,
            weight: self.goals.cce_weight,
        }]
    }
}

/// Losses and cell embeddings of some cells.
struct Predictions {
    terms: Vec<Term>,
    cells: Tensor,
    /// The cells embedded a second time, under different dropout.
    again: Option<Tensor>,
}

impl Pretraining<'_> {
    /// An auxiliary loss term, not counted in validation: GEP alone selects the best weights (docs/methods.md, "Validation").
    fn auxiliary(&self, name: &'static str, value: Tensor, weight: f64, pass: Pass) -> Term {
        let weight = if pass == Pass::Evaluation {
            0.0
        } else {
            weight
        };
        Term {
            name,
            value,
            weight,
        }
    }

    /// Generates the query genes from the input genes, then a second time conditioned on the cell embedding.
    fn predict_both(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Predictions {
        let inputs = batch.split_inputs(self.device);
        let first = model.generate(&inputs, None, noise);
        let mut terms = vec![self.gep(model, batch, &first.hidden, totals)];
        terms.extend(self.gepc(
            model,
            batch,
            (&first.genes, &inputs.split.generated.spread(&first.cells)),
            (totals, pass),
        ));
        let is_due = matches!(pass, Pass::Training(step) if step >= self.goals.prompt_after);
        if is_due && self.goals.prompt_weight > 0.0 {
            let second = model.generate(&inputs, Some(&first.cells.detach()), noise);
            let Term { value, .. } = self.gep(model, batch, &second.hidden, totals);
            terms.push(Term {
                name: "gep_prompted",
                value,
                weight: self.goals.prompt_weight,
            });
        }
        Predictions {
            terms,
            cells: first.cells,
            again: None,
        }
    }

    /// Embeds the whole cell and generates its genes from the embedding alone.
    fn predict_generated(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Predictions {
        let cells = model
            .encode(&batch.whole(self.device), OutputTokens::First, noise)
            .cells;
        let inputs = batch.split_inputs(self.device);
        let out = model.generate(&inputs, Some(&cells), noise);
        let mut terms = vec![self.gep(model, batch, &out.hidden, totals)];
        terms.extend(self.gepc(
            model,
            batch,
            (&out.genes, &inputs.split.generated.spread(&cells)),
            (totals, pass),
        ));
        Predictions {
            terms,
            cells,
            again: None,
        }
    }

    /// Predicts masked values among the others.
    fn predict_masked(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Predictions {
        let inputs = batch.inputs(self.device);
        let out = model.encode(&inputs, OutputTokens::All, noise);
        let mut terms = vec![self.gep(model, batch, &out.hidden, totals)];
        terms.extend(self.gepc(
            model,
            batch,
            (&out.genes, &inputs.sequences.spread(&out.cells)),
            (totals, pass),
        ));
        let again = self
            .has_batch_loss()
            .then(|| model.encode(&inputs, OutputTokens::First, noise).cells);
        Predictions {
            terms,
            cells: out.cells,
            again,
        }
    }

    /// Mean squared error of values predicted from token outputs (GEP).
    fn gep(&self, model: &Model, batch: &Batch, hidden: &Tensor, totals: &Totals) -> Term {
        let decoder = model
            .expression
            .as_ref()
            .expect("pre-training has an expression head");
        let sum = losses::squared_error(&decoder.forward(hidden), &batch.targets, &batch.counted);
        Term {
            name: "gep",
            value: sum / totals.masked.max(1.0),
            weight: self.goals.gep_weight,
        }
    }

    /// Mean squared error of values predicted from gene embeddings and the cell embedding (GEPC).
    fn gepc(
        &self,
        model: &Model,
        batch: &Batch,
        (genes, cells): (&Tensor, &Tensor),
        (totals, pass): (&Totals, Pass),
    ) -> Option<Term> {
        let (predicted, _) = model.cell_expression.as_ref()?.forward(genes, cells);
        let sum = losses::squared_error(&predicted, &batch.targets, &batch.counted);
        Some(self.auxiliary(
            "gepc",
            sum / totals.masked.max(1.0),
            self.goals.gepc_weight,
            pass,
        ))
    }
}

/// Examples as tensors.
struct Batch<'e> {
    examples: &'e [Example],
    targets: Tensor,
    counted: Tensor,
    classes: Tensor,
}

impl<'e> Batch<'e> {
    fn new(examples: &'e [Example], device: Device) -> Self {
        let joined = |part: fn(&Example) -> &[f32]| {
            let all: Vec<f32> = examples.iter().flat_map(part).copied().collect();
            Tensor::from_slice(&all).to_device(device)
        };
        let classes: Vec<i64> = examples.iter().map(|example| example.class).collect();
        Self {
            examples,
            targets: joined(|example| &example.targets),
            counted: joined(|example| &example.counted),
            classes: Tensor::from_slice(&classes).to_device(device),
        }
    }

    /// Input tokens.
    fn inputs(&self, device: Device) -> Inputs {
        let cells = self.examples.iter();
        let tokens = cells
            .clone()
            .map(|e| (&e.input.genes[..], &e.input.values[..]));
        let conditions = cells.flat_map(|e| &e.conditions[..e.conditions.len().min(e.input.len())]);
        let conditions: Vec<i64> = conditions.copied().collect();
        Inputs {
            conditions: ids(conditions, device),
            ..Inputs::new(tokens, device)
        }
    }

    /// Input and query genes with their true values.
    fn whole(&self, device: Device) -> Inputs {
        let whole = |e: &Example| Tokens {
            genes: [&e.input.genes[..], &e.queries].concat(),
            values: [&e.input.values[..], &e.targets].concat(),
        };
        let cells: Vec<Tokens> = self.examples.iter().map(whole).collect();
        let conditions = self
            .examples
            .iter()
            .flat_map(|e| e.conditions.iter().copied());
        Inputs {
            conditions: ids(conditions.collect(), device),
            ..Inputs::new(
                cells.iter().map(|cell| (&cell.genes[..], &cell.values[..])),
                device,
            )
        }
    }

    /// Input tokens of all cells, then query genes.
    fn split_inputs(&self, device: Device) -> SplitInputs {
        let inputs = self
            .examples
            .iter()
            .map(|e| (&e.input.genes[..], &e.input.values[..]));
        let queries = self.examples.iter().map(|e| &e.queries[..]);
        let conditions = |is_input: bool| {
            self.examples.iter().flat_map(move |e| {
                let (of_input, of_queries) =
                    e.conditions.split_at(e.conditions.len().min(e.input.len()));
                if is_input { of_input } else { of_queries }
            })
        };
        let conditions = conditions(true).chain(conditions(false)).copied();
        SplitInputs {
            conditions: ids(conditions.collect(), device),
            ..SplitInputs::new(inputs, queries, device)
        }
    }
}

fn ids(ids: Vec<i64>, device: Device) -> Option<Tensor> {
    (!ids.is_empty()).then(|| Tensor::from_slice(&ids).to_device(device))
}
