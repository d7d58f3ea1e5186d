//! A training task, and the steps that all tasks share.

use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use tch::Device;

use super::network::{Description, Network, Shape};
use super::progress::{self, ProgressObserver};
use super::{fingerprint, network};
use crate::checkpoint::Checkpoint;
use crate::distributed::{Ranks, SingleProcess};
use crate::output::{self, WorkFolder};
use crate::random::Seed;
use crate::run_record::Run;
use crate::train::{self, Defaults, Examples, Fit, Objective, Outcome, Plan};
use crate::vocabulary::Vocabulary;

/// Further files of the directory of a model, by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// A training task: the options of a program, and what they mean for data, network, losses and outputs.
pub trait Task: Serialize + JsonSchema {
    /// Cells and their split.
    type Data;
    /// Makes examples of the data for the network.
    type Reader;
    /// Result of training, in addition to the weights.
    type Fitted;

    /// Directory of the model.
    fn output(&self) -> &Path;
    fn training(&self) -> &train::Options;
    fn seed(&self) -> u64;

    /// Reads the data and the checkpoint.
    ///
    /// # Errors
    /// Inputs that do not serve the task.
    fn read(&self, run: &mut Run) -> Result<Self::Data>;
    fn checkpoint(data: &Self::Data) -> Option<&Checkpoint>;
    fn vocabulary(data: &Self::Data) -> &Vocabulary;

    fn shape(&self, data: &Self::Data) -> Shape;
    /// Sets weights of the new network, before those of a checkpoint are loaded.
    fn initialize(&self, _data: &Self::Data, _network: &Network) {}
    /// Makes the reader, and sets weights that depend on data and checkpoint.
    ///
    /// # Errors
    /// Data that do not serve.
    fn prepare(&self, data: &Self::Data, network: &Network, run: &mut Run) -> Result<Self::Reader>;

    fn defaults(&self, data: &Self::Data, reader: &Self::Reader) -> Defaults;
    /// Trains with the losses and examples of the task.
    ///
    /// # Errors
    /// Divergence, an interrupt, and what cannot be written.
    fn fit(
        &self,
        trained: Trained<'_, Self>,
        fitting: Fitting<'_>,
        run: &mut Run,
    ) -> Result<Self::Fitted>
    where
        Self: Sized;
    /// Evaluates the trained model next to the baselines.
    ///
    /// # Errors
    /// An interrupt, and what cannot be computed.
    fn test(
        &self,
        trained: Trained<'_, Self>,
        fitted: Self::Fitted,
        work: &Path,
        run: &mut Run,
    ) -> Result<Files>
    where
        Self: Sized;

    /// Whether a directory holds the model of a run with this fingerprint.
    fn is_written(model: &Path, fingerprint: &str) -> bool;
    /// Keys of `args.json`: those of the checkpoint, and the settings of the task.
    ///
    /// # Errors
    /// Settings that are no JSON.
    fn arguments(
        &self,
        trained: Trained<'_, Self>,
        fingerprint: String,
    ) -> Result<Map<String, Value>>
    where
        Self: Sized;
}

/// A network in training, with its data and reader.
pub struct Trained<'a, T: Task> {
    pub data: &'a T::Data,
    pub reader: &'a T::Reader,
    pub network: &'a Network,
}

impl<T: Task> Clone for Trained<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Task> Copy for Trained<'_, T> {}

/// How a network is trained, apart from losses and examples.
pub struct Fitting<'a> {
    pub plan: Plan,
    pub seed: Seed,
    pub work: &'a Path,
    pub fingerprint: String,
    pub ranks: &'a dyn Ranks,
}

impl Fitting<'_> {
    /// Trains; afterwards the network has the best weights.
    ///
    /// # Errors
    /// Divergence, an interrupt, and what cannot be written.
    pub fn run<O: Objective>(
        self,
        network: &Network,
        (objective, examples): (&O, &dyn Examples<O::Example>),
        run: &mut Run,
    ) -> Result<Outcome> {
        let fit = Fit {
            plan: &self.plan,
            seed: self.seed,
            threads: run.threads(),
            device: network.device(),
            ranks: self.ranks,
            folder: self.work.to_owned(),
            fingerprint: self.fingerprint,
        };
        let mut observer = ProgressObserver::new(self.plan.epochs, examples.cells(), run);
        let mut store = network.store.share();
        let outcome = fit.run(objective, examples, &mut store, &mut observer)?;
        progress::report(&outcome, run)?;
        Ok(outcome)
    }
}

/// Trains the model of a task on one process, tests and writes it.
///
/// # Errors
/// Those of the task, and an output that exists.
pub fn run<T: Task>(task: &T, device: Device, run: &mut Run) -> Result<()> {
    distributed(task, device, &SingleProcess, run)
}

/// The same on several processes, of which the leading one writes.
///
/// # Errors
/// Those of the task, and an output that exists.
pub fn distributed<T: Task>(
    task: &T,
    device: Device,
    ranks: &dyn Ranks,
    run: &mut Run,
) -> Result<()> {
    run.seed(task.seed());
    let (output, resume) = (task.output(), task.training().resume);
    if ranks.leads() {
        if !resume {
            output::check_directory(output, output::Existing::Refuse)?;
        }
        run.record_at(output.join("run.json"));
    }
    let create = || WorkFolder::create(output, resume);
    let work = ranks.leads().then(create).transpose()?;
    let data = match run.stage("read_cells", |run| task.read(run)) {
        Ok(data) => data,
        Err(error) => {
            // Nothing is left of a run that never began.
            work.filter(|_| !resume)
                .into_iter()
                .for_each(WorkFolder::remove);
            return Err(error);
        }
    };
    if is_complete(task, output, run) {
        run.note(format!("`{}` is already complete", output.display()));
        work.into_iter().for_each(WorkFolder::remove);
        return Ok(());
    }
    output::check_directory(output, output::Existing::Refuse)?;
    let (network, reader) = run.stage("build_model", |run| build(task, &data, device, run))?;
    let trained = Trained {
        data: &data,
        reader: &reader,
        network: &network,
    };
    let folder = WorkFolder::path_of(output);
    let fitted = run.stage("train", |run| train(task, trained, (&folder, ranks), run))?;
    let Some(work) = work else { return Ok(()) };
    let files = run.stage("test", |run| task.test(trained, fitted, work.path(), run))?;
    run.stage("write", |run| {
        write(task, trained, (output, work.path(), files), run)
    })?;
    work.remove();
    run.output(output)?;
    Ok(())
}

/// Whether this very run was killed after its model was written.
pub fn is_complete<T: Task>(task: &T, model: &Path, run: &Run) -> bool {
    task.training().resume && T::is_written(model, &fingerprint(task, run))
}

/// The network with its initial weights, and the reader.
///
/// # Errors
/// Those of the task, and a checkpoint without backbone.
pub fn build<T: Task>(
    task: &T,
    data: &T::Data,
    device: Device,
    run: &mut Run,
) -> Result<(Network, T::Reader)> {
    let mut network = network::Network::new(task.shape(data), task.seed(), device);
    task.initialize(data, &network);
    if let Some(checkpoint) = T::checkpoint(data) {
        network.load(checkpoint, run)?;
    }
    let reader = task.prepare(data, &network, run)?;
    Ok((network, reader))
}

/// Trains the network of a task in a work directory.
///
/// # Errors
/// Those of the task.
pub fn train<T: Task>(
    task: &T,
    trained: Trained<'_, T>,
    (work, ranks): (&Path, &dyn Ranks),
    run: &mut Run,
) -> Result<T::Fitted> {
    let defaults = task.defaults(trained.data, trained.reader);
    let fitting = Fitting {
        plan: progress::resolve(task.training(), defaults, run),
        seed: Seed(task.seed()),
        work,
        // Minibatches are those of all processes together.
        fingerprint: match ranks.size() {
            1 => fingerprint(task, run),
            size => format!("{size} x {}", fingerprint(task, run)),
        },
        ranks,
    };
    task.fit(trained, fitting, run)
}

/// Writes the directory of a trained model.
///
/// # Errors
/// What cannot be written.
pub fn write<T: Task>(
    task: &T,
    trained: Trained<'_, T>,
    (output, work, files): (&Path, &Path, Files),
    run: &Run,
) -> Result<()> {
    let description = Description {
        vocabulary: T::vocabulary(trained.data),
        arguments: task.arguments(trained, fingerprint(task, run))?,
        files,
    };
    trained.network.write(output, work, description)
}
