use scgpt_tools::programs::grn::{Attention, Difference, Enrich, Evaluate, Programs};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Gene programs and regulatory networks, held against what is known";
    let programs = [
        entry::<Programs>(),
        entry::<Attention>(),
        entry::<Difference>(),
        entry::<Enrich>(),
        entry::<Evaluate>(),
    ];
    cli::dispatch("scgpt-grn", about, &programs)
}
