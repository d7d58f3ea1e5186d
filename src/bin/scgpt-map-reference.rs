use scgpt_tools::programs::map_reference::{Build, Query};
use scgpt_tools::{cli, programs::entry};

fn main() -> std::process::ExitCode {
    let about = "Reference mapping and label transfer";
    let programs = [entry::<Build>(), entry::<Query>()];
    cli::dispatch("scgpt-map-reference", about, &programs)
}
