//! Condition tokens, the model's third input: a category of the gene, or that it was perturbed in this cell.

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use crate::vocabulary::Vocabulary;

/// Name of the condition of a gene that was perturbed in a cell.
pub const PERTURBED: &str = "perturbed";

/// Conditions by number; 0 is that of genes without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Names of the conditions 1, 2, ...
    pub names: IndexSet<String>,
    /// Category of genes by name: the number of its condition.
    pub of_genes: IndexMap<String, i64>,
}

impl Conditions {
    /// Takes categories of genes; a gene in several keeps the first. With `perturbed`, that is a condition too.
    pub fn new(categories: impl IntoIterator<Item = (String, String)>, perturbed: bool) -> Self {
        let mut names = IndexSet::new();
        if perturbed {
            names.insert(PERTURBED.to_owned());
        }
        let mut of_genes = IndexMap::new();
        for (gene, category) in categories {
            let number = names.insert_full(category).0 as i64 + 1;
            of_genes.entry(gene).or_insert(number);
        }
        Self { names, of_genes }
    }

    /// The condition of every gene of a vocabulary, by its id.
    pub fn by_id(&self, vocabulary: &Vocabulary) -> Vec<i64> {
        let condition = |token: &str| self.of_genes.get(token).copied().unwrap_or(0);
        vocabulary.tokens().map(condition).collect()
    }

    /// The number of the condition of perturbed genes.
    pub fn perturbed(&self) -> Option<i64> {
        self.names.get_index_of(PERTURBED).map(|at| at as i64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genes_keep_their_first_category() {
        let pairs = [("A", "x"), ("B", "y"), ("A", "y")].map(|(g, c)| (g.to_owned(), c.to_owned()));
        let conditions = Conditions::new(pairs, true);
        let vocabulary = Vocabulary::from_genes(["B", "C", "A"]).unwrap();
        assert_eq!(conditions.by_id(&vocabulary)[..3], [3, 0, 2]);
        assert_eq!(conditions.perturbed(), Some(1));
    }
}
