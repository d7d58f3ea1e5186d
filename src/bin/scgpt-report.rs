fn main() -> std::process::ExitCode {
    scgpt_tools::cli::main::<scgpt_tools::programs::report::Report>()
}
