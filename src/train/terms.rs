//! Losses that several objectives have in common, as terms.

use super::objective::Term;
use crate::model::{ClassDecoder, losses, reverse_gradient};
use tch::Tensor;

/// Weights of the losses between cells; those of weight 0 are not computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    pub cce: f64,
    pub ecs: f64,
    /// Similarity from which cells count as similar (ECS).
    pub threshold: f64,
}

impl Between {
    pub fn any(self) -> bool {
        self.cce > 0.0 || self.ecs > 0.0
    }

    /// The losses between cells from their embeddings `[cells, width]`; contrast needs a second set under other dropout.
    pub fn terms(self, embeddings: &[Tensor]) -> Vec<Term> {
        let mut terms = Vec::new();
        if let [first, second] = embeddings {
            terms.push(Term {
                name: "cce",
                value: losses::contrast(first, second),
                weight: self.cce,
            });
        }
        if self.ecs > 0.0 {
            terms.push(Term {
                name: "ecs",
                value: losses::elastic_similarity(&embeddings[0], self.threshold),
                weight: self.ecs,
            });
        }
        terms
    }
}

/// Telling the batch from cell embeddings `[cells, width]`, whose gradient teaches the model to hide it (DAR).
pub fn adversary(
    discriminator: &ClassDecoder,
    cells: &Tensor,
    batches: &Tensor,
    (total, weight): (f64, f64),
) -> Term {
    let scores = discriminator.forward(&reverse_gradient(cells));
    Term {
        name: "dar",
        value: losses::cross_entropy(&scores, batches, None, 0.0) / total,
        weight,
    }
}
