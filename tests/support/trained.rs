//! Fine-tuning of a model so small that a test can wait for it.

use super::cells::Simulated;
use super::programs;
use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Size of the model, and a course of training that suffices to tell the simulated types apart.
pub const SIZE: [&str; 8] = [
    "--layers", "1", "--width", "16", "--heads", "2", "--hidden", "16",
];
pub const COURSE: [&str; 8] = [
    "--epochs",
    "24",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.003",
    "--dropout",
    "0",
];

/// `scgpt-finetune-annotation` from `input` to `output`, with nothing said of size or course.
pub fn finetune(input: &Path, output: &Path) -> Command {
    let mut command = programs::from_to("scgpt-finetune-annotation", input, output);
    command.args(["--labels", "cell_type"]);
    command
}

/// A model trained once for all tests, beside the cells it learnt from.
pub struct Trained {
    pub cells: PathBuf,
    pub model: PathBuf,
    /// What the program said.
    pub messages: String,
}

pub static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trained");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the folder of an earlier test run");
    }
    std::fs::create_dir_all(&folder).expect("a folder for the tests");
    let (cells, model) = (folder.join("cells.h5ad"), folder.join("model"));
    Simulated::SMALL.write(&cells);
    let messages = programs::succeed(finetune(&cells, &model).args(SIZE).args(COURSE));
    Trained {
        cells,
        model,
        messages,
    }
});
