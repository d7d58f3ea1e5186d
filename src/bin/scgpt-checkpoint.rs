use scgpt_tools::programs::checkpoint::{Convert, Inspect};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Say what a model is, or write it in another form";
    cli::dispatch(
        "scgpt-checkpoint",
        about,
        &[entry::<Inspect>(), entry::<Convert>()],
    )
}
