//! Split of a cell into prompt genes and genes to generate in pre-training (docs/methods.md, "Perceived and generated
//! genes").

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Tokens;
use crate::random::{self, Stream};

/// A cell split into prompt and genes to generate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Perception {
    /// `<cls>` and the genes whose values are the prompt.
    pub perceived: Tokens,
    /// Genes whose values are to be generated, and those values.
    pub generated: Tokens,
}

impl Perception {
    /// Splits a sequence that begins with `<cls>`: a fraction of its genes is to be generated, and both parts are sampled down to
    /// `max_length` tokens in total. `permute` gives a random order of so many things.
    pub fn cut(
        sequence: &Tokens,
        fraction: f64,
        max_length: usize,
        mut permute: impl FnMut(usize) -> Vec<usize>,
    ) -> Self {
        let genes = sequence.len() - 1;
        let length = sequence.len().min(max_length);
        let wanted = ((length - 1) as f64 * fraction).floor() as usize;
        let order: Vec<usize> = permute(genes).into_iter().map(|gene| gene + 1).collect();
        let (generated, perceived) = order.split_at((genes as f64 * fraction).floor() as usize);
        let perceived = [&[0], perceived].concat();
        let perceived = sample(perceived, length - wanted, &mut permute);
        let generated = sample(generated.to_vec(), wanted, &mut permute);
        Self {
            perceived: sequence.select(&perceived),
            generated: sequence.select(&generated),
        }
    }
}

/// The first position and a random sample of the others, as the original implementation samples.
fn sample(
    positions: Vec<usize>,
    wanted: usize,
    permute: &mut impl FnMut(usize) -> Vec<usize>,
) -> Vec<usize> {
    if positions.len() <= wanted {
        return positions;
    }
    let Some(others) = wanted.checked_sub(1) else {
        return Vec::new();
    };
    let order = permute(positions.len() - 1);
    let kept = order.into_iter().take(others).map(|at| positions[at + 1]);
    std::iter::once(positions[0]).chain(kept).collect()
}

/// Fraction of a cell's genes that are masked: one of a list, or any within a range, drawn for every cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fractions {
    OneOf(Vec<f64>),
    Between(f64, f64),
}

const FRACTION: &str = "(0|0?[.][0-9]{1,6})";

impl Fractions {
    pub fn draw(&self, stream: &mut Stream) -> f64 {
        match self {
            Self::OneOf(fractions) => fractions[random::below(stream, fractions.len())],
            Self::Between(low, high) => low + (high - low) * random::uniform(stream),
        }
    }
}

impl FromStr for Fractions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "found `{text}`, expected fractions below 1 such as `0.25,0.5,0.75`, or a range such as `0.15..0.40`"
            )
        };
        let fraction = |part: &str| {
            let fraction: Option<f64> = part.trim().parse().ok();
            fraction
                .filter(|fraction| (0.0..1.0).contains(fraction))
                .ok_or_else(invalid)
        };
        match text.split_once("..") {
            Some((low, high)) => {
                let (low, high) = (fraction(low)?, fraction(high)?);
                if low <= high {
                    Ok(Self::Between(low, high))
                } else {
                    Err(invalid())
                }
            }
            None => Ok(Self::OneOf(
                text.split(',').map(fraction).collect::<Result<_, _>>()?,
            )),
        }
    }
}

impl fmt::Display for Fractions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between(low, high) => write!(f, "{low}..{high}"),
            Self::OneOf(fractions) => {
                let fractions: Vec<String> = fractions.iter().map(f64::to_string).collect();
                f.write_str(&fractions.join(","))
            }
        }
    }
}

impl TryFrom<String> for Fractions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Fractions> for String {
    fn from(fractions: Fractions) -> Self {
        fractions.to_string()
    }
}

impl JsonSchema for Fractions {
    fn schema_name() -> Cow<'static, str> {
        "Fractions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Fractions below 1, separated by commas, or a range with two dots.",
            "type": "string",
            "pattern": format!("^{FRACTION}((,{FRACTION})*|[.][.]{FRACTION})$"),
            "examples": ["0.25,0.5,0.75", "0.15..0.40"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn sequence(genes: i64) -> Tokens {
        Tokens {
            genes: (0..=genes).collect(),
            values: (0..=genes).map(|gene| gene as f32).collect(),
        }
    }

    #[test]
    fn every_gene_is_in_one_part_or_dropped_for_length() {
        for (genes, max_length, fraction) in [
            (9, 50, 0.25),
            (9, 5, 0.5),
            (0, 50, 0.5),
            (3, 50, 0.1),
            (200, 2, 0.75),
        ] {
            let mut stream = Seed(1).stream("test", &[genes as u64]);
            let cut = Perception::cut(&sequence(genes), fraction, max_length, |n| {
                random::permutation(&mut stream, n)
            });
            let length = (genes as usize + 1).min(max_length);
            assert_eq!(cut.perceived.genes[0], 0, "`<cls>` is always perceived");
            assert_eq!(
                cut.generated.len(),
                ((length - 1) as f64 * fraction) as usize
            );
            let mut all = [&cut.perceived.genes[..], &cut.generated.genes].concat();
            assert_eq!(all.len(), length);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), length, "no gene twice");
        }
    }

    #[test]
    fn shares_are_lists_or_ranges() {
        let mut stream = Seed(1).stream("test", &[]);
        let list: Fractions = "0.25,0.5,0.75".parse().unwrap();
        let range: Fractions = "0.15..0.40".parse().unwrap();
        let mut drawn = [0; 3];
        for _ in 0..300 {
            drawn[(list.draw(&mut stream) * 4.0) as usize - 1] += 1;
            assert!((0.15..0.40).contains(&range.draw(&mut stream)));
        }
        assert!(drawn.iter().all(|&n| n > 60), "{drawn:?}");
        assert_eq!(list.to_string(), "0.25,0.5,0.75");
        for wrong in ["", "1", "0.5..0.2", "-0.1", "a", "0.1..", "0.2,,0.3"] {
            assert!(
                wrong
                    .parse::<Fractions>()
                    .unwrap_err()
                    .contains("0.15..0.40"),
                "{wrong}"
            );
        }
    }
}
