use scgpt_tools::programs::grn::{Attention, Difference, Enrich, Evaluate, Programs};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Infer gene programs and gene regulatory networks, and evaluate them";
    let programs = [
        entry::<Programs>(),
        entry::<Attention>(),
        entry::<Difference>(),
        entry::<Enrich>(),
        entry::<Evaluate>(),
    ];
    cli::dispatch("scgpt-grn", about, &programs)
}
