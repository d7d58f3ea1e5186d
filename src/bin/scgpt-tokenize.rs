fn main() -> std::process::ExitCode {
    // Before there are threads, which would have pools of their own.
    scgpt_tools::allocation::reuse();
    scgpt_tools::cli::main::<scgpt_tools::programs::tokenize::Tokenize>()
}
