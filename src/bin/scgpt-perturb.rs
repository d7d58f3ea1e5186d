use scgpt_tools::programs::perturb::{InSilico, Map, Predict, Reverse};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "What perturbing genes does to expression, and what would lead to a state";
    let programs = [
        entry::<Predict>(),
        entry::<Map>(),
        entry::<Reverse>(),
        entry::<InSilico>(),
    ];
    cli::dispatch("scgpt-perturb", about, &programs)
}
