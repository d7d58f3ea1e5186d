//! Log messages on standard error: text lines, or one JSON object on each line for workflow engines.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;

/// Log format.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Format {
    /// Text lines, with a progress bar on a terminal.
    #[default]
    Text,
    /// One JSON object per line: time, level, message, and figures of progress.
    Json,
}

/// Level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Error,
    Hint,
    Usage,
    Warning,
    Result,
    Note,
    Detail,
    Progress,
}

/// Global, because standard error is shared by the whole process.
static FORMAT: AtomicU8 = AtomicU8::new(Format::Text as u8);

/// Sets the log format.
pub fn set_format(format: Format) {
    FORMAT.store(format as u8, Ordering::Relaxed);
}

/// The current log format.
pub fn format() -> Format {
    match FORMAT.load(Ordering::Relaxed) {
        0 => Format::Text,
        _ => Format::Json,
    }
}

impl Level {
    /// The message in a format, without the end of the line; details are in JSON only.
    pub fn rendered(self, format: Format, message: &str, details: Map<String, Value>) -> String {
        if format == Format::Text {
            return format!("{}{message}", self.prefix());
        }
        let time = clock::timestamp(SystemTime::now());
        let head = [
            ("time".to_owned(), time.into()),
            ("level".to_owned(), json!(self)),
            ("message".to_owned(), message.into()),
        ];
        Value::Object(head.into_iter().chain(details).collect()).to_string()
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Error => "error: ",
            Self::Hint => "hint: ",
            Self::Warning => "warning: ",
            Self::Note => "note: ",
            Self::Usage | Self::Result | Self::Detail | Self::Progress => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_one_object() {
        let details = Map::from_iter([("done".to_owned(), 3.into())]);
        let line = Level::Warning.rendered(Format::Json, "a \"b\"\nc", details);
        assert_eq!(line.lines().count(), 1);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["level"], "warning");
        assert_eq!(object["message"], "a \"b\"\nc");
        assert_eq!(object["done"], 3);
        assert_eq!(
            object["time"].as_str().unwrap().len(),
            "2026-01-01T00:00:00Z".len()
        );
    }

    #[test]
    fn text_has_a_prefix_for_some_levels() {
        let text = |level: Level| level.rendered(Format::Text, "x", Map::new());
        assert_eq!(text(Level::Error), "error: x");
        assert_eq!(text(Level::Progress), "x");
    }
}
