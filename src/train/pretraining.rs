//! Learning the language of cells: to tell expression values from others (reference sections 7 and 10.4; paper, Methods,
//! "Generative pretraining").

use super::objective::{At, Objective, Part, Pass, Term, Totals};
use crate::checkpoint::Architecture;
use crate::model::{Genes, Heads, Inputs, Model, Noise, SplitInputs, Store, Width, losses};
use crate::random::{self, Seed};
use crate::tokens::perception::{Perception, Shares};
use crate::tokens::{Tokens, masking};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// What a model in pre-training is told of a cell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The values of a part of the genes; it generates the others, from these and from the cell embedding.
    #[default]
    Both,
    /// The cell embedding only; it generates all values.
    Gen,
    /// All values but a masked part, which it tells; attention is free.
    Pcpt,
}

/// What is learnt, and how much each part counts.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Goals {
    /// What the model is told of a cell: both (the values of a part of the genes; it generates the others), gen (only an
    /// embedding of the cell) or pcpt (all values but a masked part, attention free).
    #[arg(long)]
    pub task: Task,
    /// Share of a cell's genes whose values are hidden: one of several with commas between them, or any within a range such as
    /// 0.15..0.40; drawn for every cell.
    #[arg(long, value_name = "SHARES")]
    pub mask_ratio: Shares,
    /// Weight of telling hidden values from the other genes (GEP).
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub gep_weight: f64,
    /// Weight of telling hidden values from the cell embedding alone (GEPC); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub gepc_weight: f64,
    /// Weight of telling them a second time with the cell embedding in the place of the CLS token (task both); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub prompt_weight: f64,
    /// Steps before the second time begins: a cell embedding must first mean something.
    #[arg(long)]
    pub prompt_after: u64,
    /// Weight of telling a cell from the others of its minibatch under other dropout (CCE, task pcpt; the reference uses 10); 0
    /// leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub cce_weight: f64,
    /// Weight of telling the cell type (needs --labels); 0 leaves it out.
    #[arg(long)]
    #[schemars(range(min = 0.0))]
    pub cls_weight: f64,
}

impl Default for Goals {
    fn default() -> Self {
        Self {
            task: Task::Both,
            mask_ratio: Shares::OneOf(vec![0.25, 0.5, 0.75]),
            gep_weight: 1.0,
            gepc_weight: 1.0,
            prompt_weight: 1.0,
            prompt_after: 1000,
            cce_weight: 0.0,
            cls_weight: 0.0,
        }
    }
}

impl Goals {
    /// The heads that they need.
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

/// Cells without labels, or with some, and what is learnt from them.
pub struct Pretraining<'a> {
    pub goals: &'a Goals,
    pub architecture: &'a Architecture,
    pub genes: Genes,
    pub heads: Heads,
    pub conditions: Option<&'a GeneConditions>,
    /// Most tokens of a cell, `<cls>` included.
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
    pub sentence: Tokens,
    pub class: Option<i64>,
    /// Vocabulary id of the gene that was perturbed.
    pub perturbed: Option<i64>,
}

/// A cell as the model meets it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Tokens with the values that the model is told.
    pub told: Tokens,
    /// Genes to generate the values of; none if hidden values are masked among the told ones.
    pub asked: Vec<i64>,
    /// True values: of the asked genes, or of all told ones.
    pub targets: Vec<f32>,
    /// 1 where a target counts, else 0.
    pub counted: Vec<f32>,
    /// Conditions of the told tokens, then of the asked ones.
    pub conditions: Vec<i64>,
    /// Class, or -100 for none.
    pub class: i64,
}

impl Pretraining<'_> {
    /// The example made of a cell in an epoch, or for validation: a function of the two and the seed alone.
    pub fn example(&self, cell: &Cell, epoch: Option<u64>) -> Example {
        let round = epoch.map_or(0, |epoch| epoch + 1);
        let mut stream = self.seed.stream("hidden genes", &[round, cell.id]);
        let share = self.goals.mask_ratio.draw(&mut stream);
        let permute = |n| random::permutation(&mut stream, n);
        let mut example = match self.goals.task {
            Task::Both => asked(Perception::cut(
                &cell.sentence,
                share,
                self.max_length,
                permute,
            )),
            Task::Gen => {
                let sample =
                    Perception::cut(&cell.sentence, 0.0, self.max_length, permute).perceived;
                let genes: Vec<usize> = (1..sample.len()).collect();
                asked(Perception {
                    perceived: sample.select(&[0]),
                    generated: sample.select(&genes),
                })
            }
            Task::Pcpt => {
                let sample =
                    Perception::cut(&cell.sentence, 0.0, self.max_length, permute).perceived;
                let hidden = (1..sample.len()).filter(|_| random::uniform(&mut stream) < share);
                masked(
                    sample,
                    &hidden.collect::<Vec<_>>(),
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
            .told
            .genes
            .iter()
            .chain(&example.asked)
            .map(condition)
            .collect()
    }
}

/// Some genes are told, the others asked for.
fn asked(cut: Perception) -> Example {
    Example {
        told: cut.perceived,
        counted: vec![1.0; cut.generated.len()],
        asked: cut.generated.genes,
        targets: cut.generated.values,
        ..Example::default()
    }
}

/// All genes are told, some with their values masked.
fn masked(sentence: Tokens, hidden: &[usize], mask_value: f32) -> Example {
    let targets = sentence.values.clone();
    let mut counted = vec![0.0; sentence.len()];
    hidden.iter().for_each(|&at| counted[at] = 1.0);
    let mut told = sentence;
    masking::apply(&mut told.values, hidden, mask_value);
    Example {
        told,
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
            asked: 0.0,
        }
    }

    fn forward(
        &self,
        model: &Model,
        shard: &[Example],
        At { totals, pass, .. }: At<'_>,
        noise: &mut Noise,
    ) -> Part {
        let batch = Batch::new(shard, self.device);
        let told = match self.goals.task {
            Task::Both => self.tell_both(model, &batch, (totals, pass), noise),
            Task::Gen => self.tell_generated(model, &batch, (totals, pass), noise),
            Task::Pcpt => self.tell_masked(model, &batch, (totals, pass), noise),
        };
        let Told {
            mut terms,
            cells,
            again,
        } = told;
        if let Some(classifier) = &model.classifier {
            let sum = losses::cross_entropy(&classifier.forward(&cells), &batch.classes, None, 0.0);
            terms.push(self.beside(
                "cls",
                sum / totals.class_weight.max(1.0),
                self.goals.cls_weight,
                pass,
            ));
        }
        Part {
            terms,
            embeddings: again.map_or_else(Vec::new, |again| vec![cells, again]),
            tallies: Vec::new(),
        }
    }

    fn couples(&self) -> bool {
        self.goals.cce_weight > 0.0
    }

    fn couple(&self, embeddings: &[Tensor]) -> Vec<Term> {
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

/// What a model told of some cells, and how well.
struct Told {
    terms: Vec<Term>,
    cells: Tensor,
    /// The cells embedded a second time, under other dropout.
    again: Option<Tensor>,
}

impl Pretraining<'_> {
    /// A term beside GEP, by which alone weights are chosen: in validation it does not count (reference section 7.4).
    fn beside(&self, name: &'static str, value: Tensor, weight: f64, pass: Pass) -> Term {
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

    /// Perceived and generated genes, and the generated ones a second time with the cell embedding told.
    fn tell_both(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Told {
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
        Told {
            terms,
            cells: first.cells,
            again: None,
        }
    }

    /// The whole cell is embedded, and its genes are generated from the embedding alone.
    fn tell_generated(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Told {
        let cells = model
            .encode(&batch.whole(self.device), Width::FirstToken, noise)
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
        Told {
            terms,
            cells,
            again: None,
        }
    }

    /// Masked genes among the others.
    fn tell_masked(
        &self,
        model: &Model,
        batch: &Batch,
        (totals, pass): (&Totals, Pass),
        noise: &mut Noise,
    ) -> Told {
        let inputs = batch.inputs(self.device);
        let out = model.encode(&inputs, Width::AllTokens, noise);
        let mut terms = vec![self.gep(model, batch, &out.hidden, totals)];
        terms.extend(self.gepc(
            model,
            batch,
            (&out.genes, &inputs.sequences.spread(&out.cells)),
            (totals, pass),
        ));
        let again = self
            .couples()
            .then(|| model.encode(&inputs, Width::FirstToken, noise).cells);
        Told {
            terms,
            cells: out.cells,
            again,
        }
    }

    /// Mean squared error of values told from contextualised tokens.
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

    /// The same of values told from gene vectors and the cell embedding.
    fn gepc(
        &self,
        model: &Model,
        batch: &Batch,
        (genes, cells): (&Tensor, &Tensor),
        (totals, pass): (&Totals, Pass),
    ) -> Option<Term> {
        let (told, _) = model.cell_expression.as_ref()?.forward(genes, cells);
        let sum = losses::squared_error(&told, &batch.targets, &batch.counted);
        Some(self.beside(
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

    /// Told tokens.
    fn inputs(&self, device: Device) -> Inputs {
        let cells = self.examples.iter();
        let tokens = cells
            .clone()
            .map(|e| (&e.told.genes[..], &e.told.values[..]));
        let conditions = cells.flat_map(|e| &e.conditions[..e.conditions.len().min(e.told.len())]);
        let conditions: Vec<i64> = conditions.copied().collect();
        Inputs {
            conditions: ids(conditions, device),
            ..Inputs::new(tokens, device)
        }
    }

    /// Told and asked genes with their true values.
    fn whole(&self, device: Device) -> Inputs {
        let whole = |e: &Example| Tokens {
            genes: [&e.told.genes[..], &e.asked].concat(),
            values: [&e.told.values[..], &e.targets].concat(),
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

    /// Told tokens of all cells, then asked ones.
    fn split_inputs(&self, device: Device) -> SplitInputs {
        let told = self
            .examples
            .iter()
            .map(|e| (&e.told.genes[..], &e.told.values[..]));
        let asked = self.examples.iter().map(|e| &e.asked[..]);
        let conditions = |told: bool| {
            self.examples.iter().flat_map(move |e| {
                let (of_told, of_asked) =
                    e.conditions.split_at(e.conditions.len().min(e.told.len()));
                if told { of_told } else { of_asked }
            })
        };
        let conditions = conditions(true).chain(conditions(false)).copied();
        SplitInputs {
            conditions: ids(conditions.collect(), device),
            ..SplitInputs::new(told, asked, device)
        }
    }
}

fn ids(ids: Vec<i64>, device: Device) -> Option<Tensor> {
    (!ids.is_empty()).then(|| Tensor::from_slice(&ids).to_device(device))
}
