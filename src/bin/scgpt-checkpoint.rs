use scgpt_tools::programs::checkpoint::{Convert, Inspect};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Inspect or convert a checkpoint";
    cli::dispatch(
        "scgpt-checkpoint",
        about,
        &[entry::<Inspect>(), entry::<Convert>()],
    )
}
