//! The four naming schemes of the same tensors, converted to scheme A.
//!
//! Rows inside the fused attention matrix are ordered alike in all of them, so the mapping renames and moves nothing.
//! See docs/methods.md, "Naming schemes"; `load_pretrained` in `scgpt/utils/util.py`.

use std::fmt;

use serde::Serialize;

use super::tensor::StateDict;

const DATA_PARALLEL: &str = "module.";

/// How the attention tensors are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Attention {
    /// `self_attn.in_proj_weight`: torch's own module.
    A,
    /// `self_attn.Wqkv.weight`: flash attention 1, all released checkpoints.
    B,
    /// `self_attn._impl.Wqkv.weight`: the wrapper of package 0.2.5.
    C,
}

/// The naming scheme of a weights file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Layout {
    pub attention: Attention,
    /// Scheme D: every name starts with `module.`.
    pub data_parallel: bool,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self.attention {
            Attention::A => "A (plain torch, `self_attn.in_proj_weight`)",
            Attention::B => "B (flash attention, `self_attn.Wqkv.weight`)",
            Attention::C => "C (wrapped flash attention, `self_attn._impl.Wqkv.weight`)",
        })?;
        f.write_str(if self.data_parallel {
            " with D (`module.` before every name)"
        } else {
            ""
        })
    }
}

/// Why names could not be converted to scheme A.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "`{with}` has the prefix `module.` and `{without}` has not; a file of one model has it everywhere or nowhere"
    )]
    MixedPrefix { with: String, without: String },
    #[error(
        "`{first}` is named as in scheme {first_layout:?} and `{second}` as in scheme {second_layout:?}; the names of a model must follow one scheme"
    )]
    MixedAttention {
        first: String,
        first_layout: Attention,
        second: String,
        second_layout: Attention,
    },
    #[error("several tensors have the name `{0}` in naming scheme A")]
    Collision(String),
}

/// Renames every tensor to scheme A and returns the original scheme. Files without attention count as scheme A.
pub fn normalize(state: StateDict) -> Result<(StateDict, Layout), Error> {
    let data_parallel = has_prefix(&state)?;
    let attention = find_attention(&state)?.unwrap_or(Attention::A);
    let mut renamed = StateDict::with_capacity(state.len());
    for (name, tensor) in state {
        let name = to_plain(&name);
        if renamed.contains_key(&name) {
            return Err(Error::Collision(name));
        }
        renamed.insert(name, tensor);
    }
    Ok((
        renamed,
        Layout {
            attention,
            data_parallel,
        },
    ))
}

/// The name in the scheme of `attention` of a tensor named as in scheme A.
pub fn from_plain(name: &str, attention: Attention) -> String {
    match attention {
        Attention::A => name.to_owned(),
        Attention::B => name.replace(".self_attn.in_proj_", ".self_attn.Wqkv."),
        Attention::C => name
            .replace(".self_attn.in_proj_", ".self_attn._impl.Wqkv.")
            .replace(".self_attn.out_proj.", ".self_attn._impl.out_proj."),
    }
}

fn to_plain(name: &str) -> String {
    let name = name.strip_prefix(DATA_PARALLEL).unwrap_or(name);
    name.replace(".self_attn._impl.", ".self_attn.")
        .replace(".self_attn.Wqkv.", ".self_attn.in_proj_")
}

fn has_prefix(state: &StateDict) -> Result<bool, Error> {
    let with = state.keys().find(|name| name.starts_with(DATA_PARALLEL));
    let without = state.keys().find(|name| !name.starts_with(DATA_PARALLEL));
    match (with, without) {
        (Some(with), Some(without)) => Err(Error::MixedPrefix {
            with: with.clone(),
            without: without.clone(),
        }),
        (with, _) => Ok(with.is_some()),
    }
}

/// The scheme of one name; none for output projections, which are named alike in schemes A and B.
fn attention_of(name: &str) -> Option<Attention> {
    let (_, parameter) = name.split_once(".self_attn.")?;
    if parameter.starts_with("_impl.") {
        Some(Attention::C)
    } else if parameter.starts_with("Wqkv.") {
        Some(Attention::B)
    } else {
        parameter.starts_with("in_proj_").then_some(Attention::A)
    }
}

fn find_attention(state: &StateDict) -> Result<Option<Attention>, Error> {
    let mut found = state
        .keys()
        .filter_map(|name| Some((name, attention_of(name)?)));
    let Some((first, first_layout)) = found.next() else {
        return Ok(None);
    };
    match found.find(|&(_, layout)| layout != first_layout) {
        None => Ok(Some(first_layout)),
        Some((second, second_layout)) => Err(Error::MixedAttention {
            first: first.clone(),
            first_layout,
            second: second.clone(),
            second_layout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tensor::Tensor;

    const PLAIN: [&str; 4] = [
        "encoder.embedding.weight",
        "transformer_encoder.layers.0.self_attn.in_proj_weight",
        "transformer_encoder.layers.0.self_attn.in_proj_bias",
        "transformer_encoder.layers.0.self_attn.out_proj.weight",
    ];

    fn state(names: impl IntoIterator<Item = String>) -> StateDict {
        let numbered = names.into_iter().zip(0_u8..);
        numbered
            .map(|(name, i)| (name, Tensor::from_f32(vec![1], &[f32::from(i)]).unwrap()))
            .collect()
    }

    #[test]
    fn every_layout_maps_to_plain_and_back() {
        let plain = state(PLAIN.map(String::from));
        for attention in [Attention::A, Attention::B, Attention::C] {
            for data_parallel in [false, true] {
                let prefix = if data_parallel { DATA_PARALLEL } else { "" };
                let named =
                    state(PLAIN.map(|name| format!("{prefix}{}", from_plain(name, attention))));
                let (found, layout) = normalize(named).unwrap();
                assert_eq!(found, plain);
                assert_eq!(
                    layout,
                    Layout {
                        attention,
                        data_parallel
                    }
                );
            }
        }
        assert_eq!(
            from_plain(PLAIN[2], Attention::B),
            "transformer_encoder.layers.0.self_attn.Wqkv.bias"
        );
        assert_eq!(
            from_plain(PLAIN[3], Attention::C),
            "transformer_encoder.layers.0.self_attn._impl.out_proj.weight"
        );
    }

    #[test]
    fn mixed_names_are_rejected() {
        let names = |names: &[&str]| state(names.iter().map(ToString::to_string));
        let mixed = normalize(names(&["module.a", "b"])).unwrap_err();
        assert_eq!(
            mixed,
            Error::MixedPrefix {
                with: "module.a".into(),
                without: "b".into()
            }
        );
        let mixed = normalize(names(&[
            "l.0.self_attn.in_proj_weight",
            "l.1.self_attn.Wqkv.weight",
        ]))
        .unwrap_err();
        assert!(matches!(mixed, Error::MixedAttention { .. }));
        let colliding = names(&[
            "l.0.self_attn.out_proj.weight",
            "l.0.self_attn._impl.out_proj.weight",
        ]);
        assert_eq!(
            normalize(colliding).unwrap_err(),
            Error::Collision("l.0.self_attn.out_proj.weight".into())
        );
    }
}
