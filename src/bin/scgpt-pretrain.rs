fn main() -> std::process::ExitCode {
    scgpt_tools::malloc::reuse();
    scgpt_tools::cli::main::<scgpt_tools::programs::pretrain::Pretrain>()
}
