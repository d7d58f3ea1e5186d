//! Training objectives: the losses that a run minimizes.

use crate::distributed::Ranks;
use crate::model::{Noise, Store};
use anyhow::Result;
use tch::Tensor;

/// A named part of the loss of a minibatch: a scalar, already averaged over the minibatch it belongs to, and its weight.
#[derive(Debug)]
pub struct Term {
    pub name: &'static str,
    pub value: Tensor,
    pub weight: f64,
}

/// Denominators of the averages over a minibatch, known before its forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    pub cells: f64,
    pub masked: f64,
    /// Sum of the class weights of the cells.
    pub class_weight: f64,
    /// Values that are predicted from the cell embedding only.
    pub queries: f64,
}

impl Totals {
    /// Adds up the totals of all ranks.
    pub fn add_up(&mut self, ranks: &dyn Ranks) -> Result<()> {
        let mut numbers = [self.cells, self.masked, self.class_weight, self.queries];
        ranks.sum_f64(&mut numbers)?;
        [self.cells, self.masked, self.class_weight, self.queries] = numbers;
        Ok(())
    }
}

/// Purpose of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Training step, whose number seeds dropout.
    Training(u64),
    /// No dropout, no gradient.
    Evaluation,
}

/// Context of the forward pass of some cells of a minibatch.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub totals: &'a Totals,
    pub pass: Pass,
    /// Sum of [`Objective::batch_statistics`] over all cells of the minibatch; in training only.
    pub batch_statistics: Option<&'a Tensor>,
}

/// Output of the forward pass of some cells of a minibatch.
#[derive(Debug, Default)]
pub struct ForwardOutput {
    pub terms: Vec<Term>,
    /// Cell embeddings `[cells, embsize]` for losses between cells; one set per forward pass.
    pub embeddings: Vec<Tensor>,
    /// Counts that are summed and divided by the number of cells, such as correct predictions.
    pub tallies: Vec<(&'static str, f64)>,
}

/// A loss on minibatches of examples.
///
/// A minibatch is computed in shards, on as many threads as there are. Losses of single cells go into [`ForwardOutput::terms`];
/// losses between the cells of a minibatch are computed by [`Objective::batch_loss`] on the embeddings of all shards, and their
/// gradient is passed back to each. So the size of a shard never changes the result.
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
    ) -> ForwardOutput;

    /// True if the forward pass of a cell needs statistics over all cells of its minibatch, as batch normalization does.
    fn has_batch_statistics(&self) -> bool {
        false
    }

    /// These statistics of some of the cells: a tensor that is summed over all cells. Computed with the noise of the forward
    /// pass; gradients flow back through it.
    fn batch_statistics(
        &self,
        _model: &Self::Model,
        _shard: &[Self::Example],
        _noise: &mut Noise,
    ) -> Option<Tensor> {
        None
    }

    /// Updates running statistics of the model from those of a minibatch.
    fn update_running_statistics(&self, _model: &Self::Model, _statistics: &Tensor) {}

    /// True if [`Objective::batch_loss`] has terms.
    fn has_batch_loss(&self) -> bool {
        false
    }

    /// Losses between the cells of a minibatch, from its embeddings `[cells, embsize]`.
    fn batch_loss(&self, _embeddings: &[Tensor]) -> Vec<Term> {
        Vec::new()
    }
}
