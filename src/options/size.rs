//! Amount of memory with an optional unit: `512M`, `1.5GiB`, `2000000`. Units are binary, as in workflow engines.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number of bytes, written as text in flags, parameter files and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Each is 1024 times the one before it, and the first is 1024 bytes.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];
/// Everything of this form fits into 64 bits.
const PATTERN: &str = "^([0-9]{1,19} ?[bB]?|[0-9]{1,6}([.][0-9]{1,9})? ?[kKmMgGtT]([iI]?[bB])?)$";
const EXAMPLES: [&str; 3] = ["512M", "1.5G", "2000000000"];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(Self).ok_or_else(|| {
            format!(
                "found `{text}`, expected a size such as `{}`",
                EXAMPLES.join("`, `")
            )
        })
    }
}

fn parse(text: &str) -> Option<u64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_uppercase();
    let Some(power) = UNITS.iter().position(|letter| unit.starts_with(*letter)) else {
        return ["", "B"]
            .contains(&unit.as_str())
            .then(|| number.parse().ok())?;
    };
    let is_known = ["", "B", "IB"].contains(&&unit[1..]);
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(power as i32 + 1);
    (is_known && bytes < u64::MAX as f64).then_some(bytes as u64)
}

impl fmt::Display for Size {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0, None);
        for larger in UNITS {
            if number == 0 || number % 1024 != 0 {
                break;
            }
            (number, unit) = (number / 1024, Some(larger));
        }
        write!(f, "{number}")?;
        unit.map_or(Ok(()), |unit| write!(f, "{unit}"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes, or a number with a binary unit: k, M, G or T.",
            "type": "string",
            "pattern": PATTERN,
            "examples": EXAMPLES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse().ok().map(|Size(bytes)| bytes)
    }

    #[test]
    fn any_text_is_a_size_or_rejected() {
        for text in ["1.5 GiB", "512m", "18446744073709551615"] {
            crate::fuzz_mutations::each(text.as_bytes(), |bytes| {
                let text = String::from_utf8_lossy(bytes);
                if let Ok(size) = text.parse::<Size>() {
                    assert!(bytes.iter().any(u8::is_ascii_digit), "`{text}` is {size}");
                }
            });
        }
    }

    #[test]
    fn units_are_binary_and_accepted_in_common_spellings() {
        for text in [
            "1G",
            "1g",
            "1GiB",
            "1gb",
            "1 GB",
            "1024M",
            "1048576k",
            "1073741824",
            "1073741824 B",
        ] {
            assert_eq!(bytes(text), Some(1 << 30), "{text}");
        }
        assert_eq!(bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(bytes("0.25k"), Some(256));
        assert_eq!(bytes("2T"), Some(2 << 40));
        assert_eq!(bytes("0"), Some(0));
    }

    #[test]
    fn invalid_sizes_are_rejected_with_examples() {
        for text in [
            "",
            "G",
            "1.5",
            "-1G",
            "1e9",
            "1..5G",
            "1 000M",
            "1GG",
            "1P",
            "1Gib/s",
            "all",
            "é",
            "1é",
            "99999999999999999999",
            "1G ",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("`512M`"),
                "{error}"
            );
        }
        assert_eq!(bytes(&format!("{}T", "9".repeat(400))), None);
    }

    #[test]
    fn sizes_round_trip_through_text() {
        let shown = ["1G", "1.5GiB", "2000000", "512m", "0"]
            .map(|text| Size(bytes(text).unwrap()).to_string());
        assert_eq!(shown, ["1G", "1536M", "2000000", "512M", "0"]);
        for size in [
            0,
            1,
            1023,
            1024,
            1 << 40,
            (1 << 50) + 1,
            9_999_999_999_999_999_999,
        ]
        .map(Size)
        {
            let json = serde_json::to_value(size).unwrap();
            assert_eq!(serde_json::from_value::<Size>(json).unwrap(), size);
        }
    }

    #[test]
    fn schema_and_parser_accept_the_same_sizes() {
        let schema = schemars::schema_for!(Size).to_value();
        let texts = [
            "1G",
            "1.5GiB",
            "9999999999999999999",
            "999999.999999999TiB",
            "0k",
            "1 GB",
            "1 b",
            "1b",
        ];
        for text in texts {
            assert!(jsonschema::is_valid(&schema, &text.into()), "{text}");
            let shown = Size(bytes(text).unwrap()).to_string();
            assert!(jsonschema::is_valid(&schema, &shown.into()), "{text}");
        }
        for text in [
            "",
            "G",
            "1.5",
            "1.5 B",
            "1e9",
            "1GG",
            "1P",
            "99999999999999999999",
            "-1",
        ] {
            assert!(!jsonschema::is_valid(&schema, &text.into()), "{text}");
        }
        assert!(!jsonschema::is_valid(&schema, &1_000_000.into()));
    }
}
