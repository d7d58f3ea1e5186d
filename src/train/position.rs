//! Position of a training run and its metrics so far.

use super::gradient::Figures;
use serde::{Deserialize, Serialize};

/// Position and metrics of a run; with the weights and the optimizer, its complete state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub epoch: u64,
    /// Minibatches done in this epoch.
    pub minibatch: u64,
    pub step: u64,
    pub best_loss: Option<f64>,
    pub best_epoch: u64,
    /// Step after which the best weights were found.
    pub best_step: u64,
    /// Step of the last validation.
    #[serde(default)]
    pub validated: u64,
    /// Over the cells of this epoch so far, and over those since the last line of metrics.
    pub epoch_sums: Sums,
    pub recent_sums: Sums,
    /// Checksum of the cells of this epoch so far.
    pub seen: u64,
    pub metrics_length: u64,
}

/// Sums of figures over cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Name, sum, and the cells it is over: some figures begin later than others.
    pub figures: Vec<(String, f64, u64)>,
    pub cells: u64,
}

impl Sums {
    /// Adds means over some cells.
    pub fn add(&mut self, figures: &Figures, cells: u64) {
        for (name, value) in figures {
            let value = value * cells as f64;
            match self.figures.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, over)) => (*sum, *over) = (*sum + value, *over + cells),
                None => self.figures.push(((*name).to_owned(), value, cells)),
            }
        }
        self.cells += cells;
    }

    pub fn averages(&self) -> Vec<(String, f64)> {
        let mean = |(name, sum, over): &(String, f64, u64)| (name.clone(), sum / *over as f64);
        self.figures.iter().map(mean).collect()
    }
}
