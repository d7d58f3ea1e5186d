//! Every integration test, in one program, because each one links libtorch.

/// Model parts, losses, bins and tokens against numbers of the reference.
mod golden;
/// Fixtures and numeric comparison.
mod support;
