fn main() -> std::process::ExitCode {
    // Before threads start, which would have their own pools.
    scgpt_tools::malloc::reuse();
    scgpt_tools::cli::main::<scgpt_tools::programs::tokenize::Tokenize>()
}
