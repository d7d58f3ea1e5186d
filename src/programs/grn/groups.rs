//! Groups of cells, such as conditions.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::failure::Failure;
use crate::programs::perturbation_data::some;
use crate::random::{self, Seed};

/// Names of the groups, sorted, and the group of each cell, if any.
#[derive(Debug, Clone)]
pub struct Groups {
    pub names: Vec<String>,
    pub of_cell: Vec<Option<u32>>,
}

impl Groups {
    /// The groups of a column's labels; without a column all cells are one group.
    pub fn new(labels: Option<&[Option<String>]>, n_cells: usize) -> Self {
        let Some(labels) = labels else {
            return Self {
                names: vec!["all".into()],
                of_cell: vec![Some(0); n_cells],
            };
        };
        let names: BTreeSet<&String> = labels.iter().flatten().collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let number = |label: &Option<String>| {
            let found = names.binary_search(label.as_ref()?);
            found.ok().map(|at| at as u32)
        };
        Self {
            of_cell: labels.iter().map(number).collect(),
            names,
        }
    }

    /// Only the groups with the given names, which must exist; all if none is given.
    pub fn only(self, wanted: &[String]) -> Result<Self> {
        for label in wanted {
            self.require(label, "--subset")?;
        }
        let is_wanted = |name: &String| wanted.is_empty() || wanted.contains(name);
        let mut names = Vec::new();
        let places: Vec<Option<u32>> = self
            .names
            .into_iter()
            .map(|name| {
                is_wanted(&name).then(|| {
                    names.push(name);
                    names.len() as u32 - 1
                })
            })
            .collect();
        let place = |group: Option<u32>| places[group? as usize];
        Ok(Self {
            of_cell: self.of_cell.into_iter().map(place).collect(),
            names,
        })
    }

    /// An error unless the group that the option names exists.
    pub fn require(&self, label: &str, option: &str) -> Result<()> {
        if self.names.iter().any(|name| name == label) {
            return Ok(());
        }
        Err(Failure::Input.error(format!(
            "no cell has the label `{label}` of `{option}`; found {}: check the spelling",
            some(&self.names)
        )))
    }

    /// Limits each group to `most` cells, sampled at random, independently of other groups; 0 keeps all.
    pub fn limit(&mut self, most: usize, seed: Seed) {
        if most == 0 {
            return;
        }
        for (group, name) in self.names.iter().enumerate() {
            let own: Vec<usize> = (0..self.of_cell.len())
                .filter(|&cell| self.of_cell[cell] == Some(group as u32))
                .collect();
            let mut stream = seed.stream(&format!("cells of the condition {name}"), &[]);
            let order = random::permutation(&mut stream, own.len());
            order
                .into_iter()
                .skip(most)
                .for_each(|at| self.of_cell[own[at]] = None);
        }
    }

    /// Number of cells of each group.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.names.len()];
        self.of_cell
            .iter()
            .flatten()
            .for_each(|&group| sizes[group as usize] += 1);
        sizes
    }
}
