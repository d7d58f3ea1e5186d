//! Losses on cell embeddings: contrastive cell embedding (CCE), elastic cell similarity (ECS) and adversarial batch correction
//! (DAR).

use super::objective::Term;
use crate::model::{ClassDecoder, losses, reverse_gradient};
use tch::Tensor;

/// Weights of the losses between cells; losses of weight 0 are not computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingLosses {
    pub cce: f64,
    pub ecs: f64,
    /// Cosine similarity above which two cells count as similar (ECS).
    pub threshold: f64,
}

impl EmbeddingLosses {
    pub fn any(self) -> bool {
        self.cce > 0.0 || self.ecs > 0.0
    }

    /// The losses between cells from their embeddings `[cells, embsize]`; CCE needs a second set under different dropout.
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

/// Adversarial batch discriminator on cell embeddings `[cells, embsize]`, with gradient reversal (DAR).
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
