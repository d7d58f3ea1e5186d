//! Learning rate schedules: pure functions of the position in a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Learning rate schedule.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Multiplied by --lr-decay after every epoch, as in fine-tuning with scGPT in Python.
    Decay,
    /// Rises linearly over the --warmup fraction of the steps, then falls to zero along half a cosine.
    #[default]
    Cosine,
    /// Constant learning rate.
    Constant,
}

/// Position in a run.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub epoch: u64,
    /// Steps done so far, and in the whole run.
    pub step: u64,
    pub steps: u64,
}

impl Schedule {
    /// The factor on the peak learning rate.
    pub fn factor(self, at: Position, decay: f64, warmup: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Decay => decay.powf(at.epoch as f64),
            Self::Cosine => cosine(
                at.step as f64,
                at.steps as f64,
                (warmup * at.steps as f64).round(),
            ),
        }
    }
}

/// Linear warm-up, then half a cosine (docs/methods.md, "Learning-rate schedule").
pub fn cosine(step: f64, steps: f64, warmup: f64) -> f64 {
    if step < warmup {
        return step / warmup;
    }
    let progress = ((step - warmup) / (steps - warmup).max(1.0)).min(1.0);
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_then_falls_to_zero() {
        let at = |step| {
            Schedule::Cosine.factor(
                Position {
                    epoch: 0,
                    step,
                    steps: 100,
                },
                1.0,
                0.1,
            )
        };
        assert_eq!((at(0), at(5), at(10)), (0.0, 0.5, 1.0));
        assert!((at(55) - 0.5).abs() < 1e-12 && at(100) < 1e-12);
    }

    #[test]
    fn decay_is_per_epoch() {
        let at = |epoch, step| {
            Schedule::Decay.factor(
                Position {
                    epoch,
                    step,
                    steps: 100,
                },
                0.9,
                0.0,
            )
        };
        assert_eq!(at(0, 50), 1.0);
        assert!((at(2, 7) - 0.81).abs() < 1e-12);
    }
}
