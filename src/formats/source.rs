//! Which matrix of a table is meant.

use std::fmt;
use std::str::FromStr;

/// Which matrix of a file: `X`, `raw` or `layers/NAME`, as AnnData names them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    #[default]
    X,
    /// The full matrix in `raw`, which has genes of its own.
    Raw,
    Layer(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X => f.write_str("X"),
            Self::Raw => f.write_str("raw"),
            Self::Layer(name) => write!(f, "layers/{name}"),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("layers/")) {
            ("X", _) => Ok(Self::X),
            ("raw" | "raw/X", _) => Ok(Self::Raw),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Layer(name.to_owned())),
            _ => Err(format!(
                "`{text}` is not a matrix of an AnnData file: expected `X`, `raw` or `layers/NAME`"
            )),
        }
    }
}
