fn main() -> std::process::ExitCode {
    scgpt_tools::allocation::reuse();
    scgpt_tools::cli::main::<scgpt_tools::programs::pretrain::Pretrain>()
}
