//! What a training run minimises.

use crate::model::{Noise, Store};
use crate::ranks::Ranks;
use anyhow::Result;
use tch::Tensor;

/// A named part of the loss of a minibatch: a scalar, already averaged over the minibatch it belongs to, and its weight.
#[derive(Debug)]
pub struct Term {
    pub name: &'static str,
    pub value: Tensor,
    pub weight: f64,
}

/// What averages of a minibatch are taken over, known before any of it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    pub cells: f64,
    pub masked: f64,
    /// Sum of the class weights of the cells.
    pub class_weight: f64,
    /// Values that only the cell embedding is asked for.
    pub asked: f64,
}

impl Totals {
    /// Adds up the totals of all ranks.
    pub fn add_up(&mut self, ranks: &dyn Ranks) -> Result<()> {
        let mut numbers = [self.cells, self.masked, self.class_weight, self.asked];
        ranks.sum_f64(&mut numbers)?;
        [self.cells, self.masked, self.class_weight, self.asked] = numbers;
        Ok(())
    }
}

/// Where in a run a minibatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Training step, whose number seeds dropout.
    Training(u64),
    /// No dropout, no gradient.
    Evaluation,
}

/// What some cells of a minibatch are computed with.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub totals: &'a Totals,
    pub pass: Pass,
    /// What [`Objective::survey`] found in all cells of the minibatch; in training only.
    pub survey: Option<&'a Tensor>,
}

/// What the forward pass of some cells of a minibatch gives.
#[derive(Debug, Default)]
pub struct Part {
    pub terms: Vec<Term>,
    /// Cell embeddings `[cells, width]` for losses between cells; a set for every forward pass made.
    pub embeddings: Vec<Tensor>,
    /// Counts that are summed and divided by the number of cells, such as right answers.
    pub tallies: Vec<(&'static str, f64)>,
}

/// A loss on minibatches of examples.
///
/// A minibatch is computed in shards, on as many threads as there are. Losses of single cells go into [`Part::terms`]; losses
/// between the cells of a minibatch are computed by [`Objective::couple`] on the embeddings of all shards, and their gradient
/// goes back into each. So the size of a shard never changes what is learnt.
pub trait Objective: Sync {
    /// A training cell, ready for the model.
    type Example: Send + Sync + 'static;
    /// The model, whose weights live in a store.
    type Model: Send;

    /// Builds the model on a store.
    fn model(&self, store: &mut Store) -> Self::Model;

    /// The denominators of a minibatch.
    fn totals(&self, examples: &[Self::Example]) -> Totals;

    /// The losses of some cells of a minibatch with the given totals.
    fn forward(
        &self,
        model: &Self::Model,
        shard: &[Self::Example],
        at: At<'_>,
        noise: &mut Noise,
    ) -> Part;

    /// True if the forward pass of a cell needs something of all cells of its minibatch, as a norm over them does.
    fn surveys(&self) -> bool {
        false
    }

    /// What that is, of some of the cells: a tensor that is added up over all. It is asked for with the noise that the forward
    /// pass will have, and gradients flow back through it.
    fn survey(
        &self,
        _model: &Self::Model,
        _shard: &[Self::Example],
        _noise: &mut Noise,
    ) -> Option<Tensor> {
        None
    }

    /// Learns from what was found in a minibatch what no gradient teaches.
    fn absorb(&self, _model: &Self::Model, _survey: &Tensor) {}

    /// True if [`Objective::couple`] has something to say.
    fn couples(&self) -> bool {
        false
    }

    /// Losses between the cells of a minibatch, from its embeddings `[cells, width]`.
    fn couple(&self, _embeddings: &[Tensor]) -> Vec<Term> {
        Vec::new()
    }
}
