//! Every integration test, in one program, because each one links libtorch.

/// Which module may use which, and how long a function may be.
mod architecture;
/// Files made from the programs' definitions, against what is committed.
mod artefacts;
/// Programs as users run them.
mod cli;
/// Pipelines in real workflow engines.
mod engines;
/// Versions of the files that programs write for each other.
mod file_formats;
/// Model parts, losses, bins and tokens against numbers of the reference.
mod golden;
/// Help of all programs.
mod help;
/// Fixtures and numeric comparison.
mod support;
/// The words that texts use.
mod words;
