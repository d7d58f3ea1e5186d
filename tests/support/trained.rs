//! Fine-tuning of a model small enough for a test.

use super::cells::Simulated;
use super::programs;
use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Size of the model, and training that suffices to distinguish the simulated cell types.
pub const SIZE: [&str; 8] = [
    "--n-layers",
    "1",
    "--embedding-dim",
    "16",
    "--n-heads",
    "2",
    "--ffn-dim",
    "16",
];
pub const TRAINING: [&str; 8] = [
    "--epochs",
    "24",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.003",
    "--dropout",
    "0",
];

/// `scgpt-finetune-annotation` from `input` to `output`, with default size and training.
pub fn finetune(input: &Path, output: &Path) -> Command {
    let mut command = programs::from_to("scgpt-finetune-annotation", input, output);
    command.args(["--labels", "cell_type"]);
    command
}

/// A model trained once for all tests, and the cells it was trained on.
pub struct Trained {
    pub cells: PathBuf,
    pub model: PathBuf,
    /// Standard error of the program.
    pub messages: String,
}

pub static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trained");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the directory of an earlier test run");
    }
    std::fs::create_dir_all(&folder).expect("a directory for the tests");
    let (cells, model) = (folder.join("cells.h5ad"), folder.join("model"));
    Simulated::SMALL.write(&cells);
    let messages = programs::succeed(finetune(&cells, &model).args(SIZE).args(TRAINING));
    Trained {
        cells,
        model,
        messages,
    }
});
