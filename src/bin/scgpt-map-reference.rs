use scgpt_tools::programs::map_reference::{Build, Query};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Name new cells after the reference cells that they lie near";
    let programs = [entry::<Build>(), entry::<Query>()];
    cli::dispatch("scgpt-map-reference", about, &programs)
}
