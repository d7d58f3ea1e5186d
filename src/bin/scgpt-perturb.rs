use scgpt_tools::programs::perturb::{InSilico, Map, Predict, Reverse};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Perturbation prediction, reverse perturbation and in silico perturbation";
    let programs = [
        entry::<Predict>(),
        entry::<Map>(),
        entry::<Reverse>(),
        entry::<InSilico>(),
    ];
    cli::dispatch("scgpt-perturb", about, &programs)
}
