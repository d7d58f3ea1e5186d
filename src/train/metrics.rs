//! Training metrics: one JSON object per line, and the same as a TensorBoard event file.

use super::events::Events;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Names of the two files in the directory of a run.
pub const FILES: [&str; 2] = ["metrics.jsonl", "events.out.tfevents.scgpt"];

/// The files of a run.
#[derive(Debug)]
pub struct Metrics {
    lines: File,
    path: PathBuf,
    events: Events,
}

impl Metrics {
    /// Opens the files in a directory and truncates them to the state that the run resumes from.
    pub fn open(folder: &Path, kept: u64) -> Result<Self> {
        let [path, events] = FILES.map(|name| folder.join(name));
        let failed = || format!("could not write metrics to `{}`", path.display());
        let mut lines = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(failed)?;
        lines.set_len(kept).with_context(failed)?;
        let mut events = Events::create(&events)?;
        for line in BufReader::new(&lines).lines() {
            let line = line.with_context(failed)?;
            record_event(
                &mut events,
                &serde_json::from_str(&line).with_context(failed)?,
            )?;
        }
        lines.seek(SeekFrom::End(0)).with_context(failed)?;
        Ok(Self {
            lines,
            path,
            events,
        })
    }

    /// Bytes of JSON written so far.
    pub fn length(&mut self) -> Result<u64> {
        Ok(self.lines.stream_position()?)
    }

    pub fn write(&mut self, record: Map<String, Value>) -> Result<()> {
        let record = Value::Object(record);
        self.lines
            .write_all(format!("{record}\n").as_bytes())
            .with_context(|| format!("could not write to `{}`", self.path.display()))?;
        record_event(&mut self.events, &record)
    }
}

/// Writes the numbers of a record as scalars: those of an object under its name and theirs, such as `training/loss`.
fn record_event(events: &mut Events, record: &Value) -> Result<()> {
    let mut scalars = Vec::new();
    for (name, value) in record.as_object().into_iter().flatten() {
        match value {
            Value::Number(number) if name != "step" => {
                scalars.extend(number.as_f64().map(|number| (name.clone(), number)));
            }
            Value::Object(figures) => {
                scalars.extend(figures.iter().filter_map(|(figure, value)| {
                    Some((format!("{name}/{figure}"), value.as_f64()?))
                }))
            }
            _ => {}
        }
    }
    events.scalars(record["step"].as_u64().unwrap_or_default(), &scalars)
}
