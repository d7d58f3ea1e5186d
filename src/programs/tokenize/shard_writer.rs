//! Writes tokens in row groups and shards. Their limits depend on the cells alone, not on blocks or threads.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Options;
use super::inputs::Inputs;
use super::piece::{GROUP_CELLS, Piece};
use super::scan::Scan;
use crate::corpus::{self, Composition, Group, Kind, Manifest, Schema, Shard, Summary};
use crate::failure::Failure;
use crate::formats::Column;
use crate::output::{self, WorkFolder};
use crate::run_record::Run;

const GROUP_TOKENS: usize = 1 << 22;
/// Mapping status of every gene name.
const GENES: &str = "genes.tsv";
/// State of a run after its last finished shard.
const STATE: &str = "progress.json";

/// The state of a run after a finished shard, from which it can be resumed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Options, inputs and version.
    identity: Value,
    shards: Vec<Summary>,
    composition: Composition,
    /// Next input and cell.
    next: (usize, usize),
}

/// Cells of a row group: a piece, and a cell of it.
type Plan = Vec<(Arc<Piece>, usize)>;

/// A corpus being written.
pub struct ShardWriter {
    /// Directory of the shards until all are finished.
    directory: WorkFolder,
    schema: Schema,
    shard_cells: u64,
    state: State,
    /// Cells of an incomplete row group, and the number of their tokens.
    waiting: (Plan, usize),
    shard: Option<Shard>,
    /// Cells of the shard, including those of the incomplete row group.
    in_shard: u64,
}

impl ShardWriter {
    pub fn start(options: &Options, scan: &Scan, inputs: &Inputs, run: &mut Run) -> Result<Self> {
        let directory = WorkFolder::create(&options.output, options.resume)?;
        let identity = identity(options, scan, inputs)?;
        let mut state = State {
            identity,
            ..State::default()
        };
        let path = directory.path().join(STATE);
        if options.resume && path.exists() {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("could not read `{}`", path.display()))?;
            let found: Result<State, _> = serde_json::from_str(&text);
            let same = found.ok().filter(|found| found.identity == state.identity);
            let Some(same) = same else {
                return Err(Failure::Input.error(format!(
                    "`{}` is from a run with other inputs, options or version: use the same ones, or start again without `--resume`",
                    directory.path().display()
                )));
            };
            run.note(format!("{} finished shards are kept", same.shards.len()));
            state = same;
        }
        // Unfinished files are from a run that was killed while writing.
        directory.keep_only(|name| {
            name == STATE || state.shards.iter().any(|shard| name == shard.file.as_str())
        })?;
        Ok(Self {
            directory,
            schema: scan.schema.clone(),
            shard_cells: options.shard_cells,
            state,
            waiting: (Vec::new(), 0),
            shard: None,
            in_shard: 0,
        })
    }

    /// Next input and cell.
    pub fn next(&self) -> (usize, usize) {
        self.state.next
    }

    /// Adds the next cells.
    pub fn add(&mut self, pieces: Vec<Piece>) -> Result<()> {
        let mut plans = Vec::new();
        for piece in pieces.into_iter().map(Arc::new) {
            for at in 0..piece.cells.len() {
                let tokens = piece.tokens.offsets[at + 1] - piece.tokens.offsets[at];
                self.waiting.0.push((Arc::clone(&piece), at));
                self.waiting.1 += tokens;
                self.in_shard += 1;
                let shard_is_full = self.in_shard == self.shard_cells;
                let group_is_full =
                    self.waiting.0.len() == GROUP_CELLS || self.waiting.1 >= GROUP_TOKENS;
                if shard_is_full || group_is_full {
                    plans.push((std::mem::take(&mut self.waiting).0, shard_is_full));
                }
                if shard_is_full {
                    self.in_shard = 0;
                }
            }
        }
        self.write(plans)
    }

    /// Encodes row groups in parallel and appends them in order; the flag marks the end of a shard.
    fn write(&mut self, plans: Vec<(Plan, bool)>) -> Result<()> {
        let mut first = self.n_cells();
        let numbered = plans.into_iter().map(|(plan, ends)| {
            let id = first;
            first += plan.len() as u64;
            (plan, id, ends)
        });
        let numbered: Vec<_> = numbered.collect();
        let schema = self.schema.clone();
        let encode = |(plan, id, _): &(Plan, u64, bool)| {
            corpus::encode(&group(plan, &schema), *id as i64, &schema)
        };
        // A few at a time: encoding takes several times the memory of the tokens.
        for some in numbered.chunks(2 * rayon::current_num_threads()) {
            let encoded: Vec<_> = some.par_iter().map(encode).collect();
            for ((plan, _, ends), encoded) in some.iter().zip(encoded) {
                self.append(plan, encoded?)?;
                if *ends {
                    self.end_shard()?;
                }
            }
        }
        Ok(())
    }

    /// Number of written cells.
    fn n_cells(&self) -> u64 {
        let finished: u64 = self.state.shards.iter().map(|shard| shard.cells).sum();
        finished + self.shard.as_ref().map_or(0, Shard::cells)
    }

    fn append(&mut self, plan: &Plan, encoded: corpus::Encoded) -> Result<()> {
        for (piece, at) in plan {
            let cell = piece.cells[*at];
            for (name, labels) in &piece.input.composition {
                let label = labels[cell].as_deref().unwrap_or("unknown");
                let counts = self
                    .state
                    .composition
                    .entry((*name).to_owned())
                    .or_default();
                *counts.entry(label.to_owned()).or_default() += 1;
            }
            self.state.next = (piece.input.number, cell + 1);
        }
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => {
                let name = corpus::shard_name(self.state.shards.len());
                let path = self.directory.path().join(name);
                self.shard.insert(Shard::create(&path, &self.schema)?)
            }
        };
        Ok(shard.append(encoded)?)
    }

    fn end_shard(&mut self) -> Result<()> {
        let Some(shard) = self.shard.take() else {
            return Ok(());
        };
        self.state.shards.push(shard.finish()?);
        Ok(output::write_file(
            &self.directory.path().join(STATE),
            |file| Ok(serde_json::to_writer(file, &self.state)?),
        )?)
    }

    /// Writes the remaining cells and completes the corpus.
    pub fn finish(mut self, options: &Options, scan: &Scan, run: &mut Run) -> Result<()> {
        let rest = std::mem::take(&mut self.waiting).0;
        if !rest.is_empty() {
            self.write(vec![(rest, false)])?;
        }
        self.end_shard()?;
        let State {
            shards,
            composition,
            ..
        } = std::mem::take(&mut self.state);
        let manifest = Manifest::new(&scan.written, shards, composition, parameters(options));
        if manifest.cells == 0 {
            return Err(Failure::Input.error(
                "no cell is left: none meets `--filter` and expresses at least `--min-genes` kept genes",
            ));
        }
        run.note(format!(
            "{} of {} cells and {} tokens in {} shards",
            manifest.cells,
            scan.n_cells,
            manifest.tokens,
            manifest.shards.len()
        ));
        run.metric("cells", manifest.cells);
        run.metric("tokens", manifest.tokens);
        run.metric("composition", &manifest.composition);
        let table = scan.gene_table();
        output::write_file(&self.directory.path().join(GENES), |file| {
            file.write_all(table.as_bytes())
        })?;
        manifest.write(self.directory.path(), &scan.written)?;
        let _ = fs::remove_file(self.directory.path().join(STATE));
        self.directory.become_output(&options.output)?;
        for shard in &manifest.shards {
            run.output_known(&options.output.join(&shard.file), &shard.sha256)?;
        }
        for name in [corpus::MANIFEST, corpus::VOCABULARY, GENES] {
            run.output(&options.output.join(name))?;
        }
        Ok(())
    }
}

/// The cells of a row group.
fn group(plan: &Plan, schema: &Schema) -> Group {
    let columns = schema.obs.iter().enumerate();
    Group {
        obs: columns
            .map(|(at, (_, kind))| annotation(plan, at, *kind))
            .collect(),
        ..tokens(plan)
    }
}

fn tokens(plan: &Plan) -> Group {
    let mut group = Group {
        offsets: vec![0],
        ..Group::default()
    };
    for (piece, at) in plan {
        let span = piece.tokens.offsets[*at]..piece.tokens.offsets[at + 1];
        group
            .genes
            .extend_from_slice(&piece.tokens.genes[span.clone()]);
        group.values.extend_from_slice(&piece.tokens.values[span]);
        group.offsets.push(group.genes.len());
    }
    group
}

fn annotation(plan: &Plan, column: usize, kind: Kind) -> Column {
    let entries = plan
        .iter()
        .map(|(piece, at)| (&piece.input.obs[column], piece.cells[*at]));
    match kind {
        Kind::Text => Column::Text(entries.map(|(column, cell)| column.label(cell)).collect()),
        Kind::Number => Column::Number(entries.map(|(column, cell)| column.number(cell)).collect()),
        Kind::Boolean => Column::Boolean(entries.map(|(column, cell)| column.flag(cell)).collect()),
    }
}

/// The options that determine the contents of the corpus.
fn parameters(options: &Options) -> Value {
    let mut parameters = serde_json::to_value(options).expect("options are JSON");
    if let Value::Object(map) = &mut parameters {
        for name in ["output", "memory", "resume", "input", "samples"] {
            map.remove(name);
        }
    }
    parameters
}

/// Identity of a run: runs with the same identity write the same corpus.
fn identity(options: &Options, scan: &Scan, inputs: &Inputs) -> Result<Value> {
    Ok(json!([
        env!("CARGO_PKG_VERSION"),
        parameters(options),
        inputs.fingerprint()?,
        scan.written.len(),
        // The effect of vocabulary, gene map and gene list, besides their file names.
        Sha256::digest(scan.gene_table()).to_vec()
    ]))
}
