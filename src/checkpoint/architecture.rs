//! The size of the model and how it reads values, as `args.json` states it and the tensors confirm it.
//!
//! See docs/methods.md, "Checkpoint files".

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::heads::{count_indexed, rows_of, width_of};
use super::tensor::StateDict;

/// How expression values enter the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputStyle {
    /// Two dense layers on the value, added to the gene embedding.
    Continuous,
    /// A table with one row per bin, added to the gene embedding.
    Category,
    /// The gene embedding multiplied by the value.
    Scaling,
}

/// Settings of a model, in addition to its tensors. Fields are named as in the published `args.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Embedding dimension.
    pub embsize: usize,
    /// Attention heads; divides `embsize`.
    pub nheads: usize,
    /// Feed-forward dimension.
    pub d_hid: usize,
    /// Transformer layers.
    pub nlayers: usize,
    /// Dense layers of the class head, the output layer included.
    pub n_layers_cls: usize,
    /// Fraction of activations dropped in training.
    pub dropout: f64,
    pub pad_token: String,
    /// Value of padding tokens.
    pub pad_value: i64,
    /// Value of masked tokens.
    pub mask_value: i64,
    /// Expression bins, the bin of zero included.
    pub n_bins: usize,
    pub input_emb_style: InputStyle,
    /// Longest sequence, `<cls>` included.
    pub max_seq_len: usize,
}

/// Why the architecture cannot be inferred.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(
        "there are no tensors named `transformer_encoder.layers.*`; this is not a state dict of scGPT"
    )]
    NoLayers,
    #[error("`{0}` is not in `args.json` and cannot be inferred from the tensors; add it")]
    Missing(&'static str),
    #[error("`{key}` in `args.json` is {found}, expected {expected}")]
    Invalid {
        key: &'static str,
        found: Value,
        expected: &'static str,
    },
    #[error(
        "`{key}` is {stated} in `args.json` but {found} in the tensors; the two files belong to different models"
    )]
    Contradiction {
        key: &'static str,
        stated: String,
        found: String,
    },
    #[error("`embsize` {embsize} is not a multiple of `nheads` {nheads}")]
    Heads { embsize: usize, nheads: usize },
}

impl Architecture {
    /// Reads the architecture from `args.json` and a state dict in naming scheme A.
    ///
    /// Also returns a note on each value that was not in `args.json`. Fails when a value is malformed, contradicts
    /// the tensors, or is neither given nor derivable.
    pub fn read(
        arguments: &Map<String, Value>,
        state: &StateDict,
    ) -> Result<(Self, Vec<String>), Error> {
        let layers = count_indexed(state, "transformer_encoder.layers.");
        if layers == 0 {
            return Err(Error::NoLayers);
        }
        let mut reader = Reader {
            arguments,
            notes: Vec::new(),
        };
        let architecture = Self {
            embsize: reader.size("embsize", width_of(state, "encoder.embedding.weight"))?,
            nheads: reader.size("nheads", None)?,
            d_hid: reader.size(
                "d_hid",
                rows_of(state, "transformer_encoder.layers.0.linear1.weight"),
            )?,
            nlayers: reader.size("nlayers", Some(layers))?,
            n_layers_cls: reader.class_layers(state)?,
            dropout: reader.dropout()?,
            pad_token: reader.pad_token()?,
            pad_value: reader.integer("pad_value", -2)?,
            mask_value: reader.integer("mask_value", -1)?,
            n_bins: reader.size_or("n_bins", 51)?,
            input_emb_style: reader.input_style(state)?,
            max_seq_len: reader.size_or("max_seq_len", 1200)?,
        };
        let Self {
            embsize, nheads, ..
        } = architecture;
        if !embsize.is_multiple_of(nheads) {
            return Err(Error::Heads { embsize, nheads });
        }
        Ok((architecture, reader.notes))
    }

    /// Puts the architecture into the contents of an `args.json`, leaving other keys as they are.
    pub fn write_to(&self, arguments: &mut Map<String, Value>) {
        let Ok(Value::Object(own)) = serde_json::to_value(self) else {
            unreachable!("a struct of numbers and names is a JSON object");
        };
        for (key, value) in own {
            arguments.insert(key, value);
        }
    }
}

/// Looks values up and remembers which ones came from elsewhere.
struct Reader<'a> {
    arguments: &'a Map<String, Value>,
    notes: Vec<String>,
}

impl Reader<'_> {
    /// A value of `args.json`; null counts as absent.
    fn stated(&self, key: &str) -> Option<&Value> {
        self.arguments.get(key).filter(|value| !value.is_null())
    }

    fn stated_size(&self, key: &'static str) -> Result<Option<usize>, Error> {
        let Some(value) = self.stated(key) else {
            return Ok(None);
        };
        let size = value
            .as_u64()
            .and_then(|size| u32::try_from(size).ok())
            .filter(|&size| size > 0);
        match size {
            Some(size) => Ok(Some(size as usize)),
            None => Err(Error::Invalid {
                key,
                found: value.clone(),
                expected: "a positive integer",
            }),
        }
    }

    /// A size that the tensors show too, unless it is `nheads`.
    fn size(&mut self, key: &'static str, shown: Option<usize>) -> Result<usize, Error> {
        match (self.stated_size(key)?, shown) {
            (Some(stated), Some(found)) if stated != found => Err(Error::Contradiction {
                key,
                stated: stated.to_string(),
                found: found.to_string(),
            }),
            (Some(stated), _) => Ok(stated),
            (None, Some(found)) => {
                self.notes.push(format!(
                    "`{key}` {found} was taken from the shapes of the tensors"
                ));
                Ok(found)
            }
            (None, None) => Err(Error::Missing(key)),
        }
    }

    fn size_or(&mut self, key: &'static str, default: usize) -> Result<usize, Error> {
        let stated = self.stated_size(key)?;
        Ok(stated.unwrap_or_else(|| self.assume(key, default)))
    }

    fn assume<T: std::fmt::Display>(&mut self, key: &str, default: T) -> T {
        self.notes.push(format!(
            "`{key}` is not in `args.json`; the published value {default} is assumed"
        ));
        default
    }

    /// Recipes build the class head with three layers whatever `args.json` contains, so the tensors decide.
    fn class_layers(&mut self, state: &StateDict) -> Result<usize, Error> {
        let stated = self.stated_size("n_layers_cls")?;
        let has_head = state.contains_key("cls_decoder.out_layer.weight");
        let found = has_head.then(|| super::heads::hidden_blocks(state, "cls_decoder") + 1);
        match (stated, found) {
            (Some(stated), Some(found)) if stated != found => {
                self.notes.push(format!(
                    "the class head has {found} layers, not `n_layers_cls` {stated}"
                ));
                Ok(found)
            }
            (Some(stated), _) => Ok(stated),
            (None, Some(found)) => Ok(found),
            (None, None) => Ok(self.assume("n_layers_cls", 3)),
        }
    }

    fn dropout(&mut self) -> Result<f64, Error> {
        let Some(value) = self.stated("dropout") else {
            return Ok(self.assume("dropout", 0.2));
        };
        let invalid = || Error::Invalid {
            key: "dropout",
            found: value.clone(),
            expected: "a number from 0 to below 1",
        };
        value
            .as_f64()
            .filter(|rate| (0.0..1.0).contains(rate))
            .ok_or_else(invalid)
    }

    fn integer(&mut self, key: &'static str, default: i64) -> Result<i64, Error> {
        let Some(value) = self.stated(key) else {
            return Ok(self.assume(key, default));
        };
        let whole =
            |number: f64| (number.fract() == 0.0 && number.abs() < 1e9).then_some(number as i64);
        let invalid = || Error::Invalid {
            key,
            found: value.clone(),
            expected: "an integer",
        };
        value.as_f64().and_then(whole).ok_or_else(invalid)
    }

    fn pad_token(&mut self) -> Result<String, Error> {
        let Some(value) = self.stated("pad_token") else {
            return Ok(self.assume("pad_token", crate::vocabulary::PAD).to_owned());
        };
        let invalid = || Error::Invalid {
            key: "pad_token",
            found: value.clone(),
            expected: "a token name",
        };
        value.as_str().map(str::to_owned).ok_or_else(invalid)
    }

    fn input_style(&mut self, state: &StateDict) -> Result<InputStyle, Error> {
        const KEY: &str = "input_emb_style";
        let found = if state.contains_key("value_encoder.linear1.weight") {
            InputStyle::Continuous
        } else if state.contains_key("value_encoder.embedding.weight") {
            InputStyle::Category
        } else {
            InputStyle::Scaling
        };
        let Some(value) = self.stated(KEY) else {
            self.notes.push(format!(
                "`{KEY}` {found:?} was taken from the names of the tensors"
            ));
            return Ok(found);
        };
        let expected = "`continuous`, `category` or `scaling`";
        let stated: InputStyle =
            serde_json::from_value(value.clone()).map_err(|_| Error::Invalid {
                key: KEY,
                found: value.clone(),
                expected,
            })?;
        if stated == found {
            return Ok(found);
        }
        Err(Error::Contradiction {
            key: KEY,
            stated: format!("{stated:?}"),
            found: format!("{found:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tensor::Tensor;
    use serde_json::json;

    fn state() -> StateDict {
        let shapes: [(&str, &[usize]); 4] = [
            ("encoder.embedding.weight", &[9, 8]),
            ("transformer_encoder.layers.0.linear1.weight", &[6, 8]),
            ("transformer_encoder.layers.1.linear1.weight", &[6, 8]),
            ("value_encoder.linear1.weight", &[8, 1]),
        ];
        let zeros = |shape: &[usize]| {
            Tensor::from_f32(shape.to_vec(), &vec![0.0; shape.iter().product()]).unwrap()
        };
        shapes
            .iter()
            .map(|(name, shape)| (name.to_string(), zeros(shape)))
            .collect()
    }

    fn read(arguments: Value) -> Result<(Architecture, Vec<String>), Error> {
        Architecture::read(arguments.as_object().unwrap(), &state())
    }

    #[test]
    fn missing_sizes_come_from_the_tensors_and_are_reported() {
        let (architecture, notes) =
            read(json!({"nheads": 2, "pad_value": -2.0, "n_hvg": null})).unwrap();
        assert_eq!(
            (
                architecture.embsize,
                architecture.d_hid,
                architecture.nlayers
            ),
            (8, 6, 2)
        );
        assert_eq!(
            (architecture.pad_value, architecture.input_emb_style),
            (-2, InputStyle::Continuous)
        );
        assert_eq!(notes.len(), 10, "{notes:?}");
        assert_eq!(read(json!({})).unwrap_err(), Error::Missing("nheads"));
    }

    #[test]
    fn contradictions_and_nonsense_are_rejected() {
        let message = |arguments| read(arguments).unwrap_err().to_string();
        assert!(
            message(json!({"nheads": 2, "embsize": 16}))
                .contains("`embsize` is 16 in `args.json` but 8")
        );
        assert!(message(json!({"nheads": 3})).contains("not a multiple"));
        assert!(message(json!({"nheads": 0})).contains("expected a positive integer"));
        assert!(message(json!({"nheads": 2, "dropout": 1.0})).contains("`dropout`"));
        assert!(message(json!({"nheads": 2, "pad_value": 0.5})).contains("expected an integer"));
        assert!(message(json!({"nheads": 2, "input_emb_style": "category"})).contains("Category"));
        assert!(message(json!({"nheads": 2, "input_emb_style": "other"})).contains("`scaling`"));
    }

    #[test]
    fn writing_keeps_other_keys_and_their_order() {
        let (architecture, _) = read(json!({"nheads": 2})).unwrap();
        let mut arguments = json!({"lr": 1e-4, "nheads": 2, "save_dir": "x"})
            .as_object()
            .unwrap()
            .clone();
        architecture.write_to(&mut arguments);
        assert_eq!(
            arguments.keys().take(3).collect::<Vec<_>>(),
            ["lr", "nheads", "save_dir"]
        );
        assert_eq!(
            Architecture::read(&arguments, &state()).unwrap(),
            (architecture, vec![])
        );
    }
}
