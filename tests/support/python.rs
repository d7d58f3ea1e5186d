//! The Python interpreter that reads written files, and where to find it.

use super::needs::skip;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with `anndata` and `safetensors`.
pub fn python() -> Option<PathBuf> {
    python_with("anndata, safetensors")
}

/// `ANNDATA_PYTHON`, or the environment that `make test` sets up, or `.venv`. The check is skipped where there is no such
/// interpreter or it lacks the packages.
pub fn python_with(packages: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("ANNDATA_PYTHON").map(PathBuf::from);
    let known = [".deps/python/bin/python", ".venv/bin/python"].map(|path| root.join(path));
    let found = given
        .or_else(|| known.into_iter().find(|path| path.exists()))
        .filter(|python| {
            let import = Command::new(python)
                .args(["-c", &format!("import {packages}")])
                .output();
            import.is_ok_and(|done| done.status.success())
        });
    if found.is_none() {
        skip(&format!(
            "no Python with {packages}; `make test` sets it up"
        ));
    }
    found
}

/// Runs a script of `tests/python` and fails with its output.
pub fn check(python: &Path, script: &str, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let done = Command::new(python)
        .arg(&script)
        .args(arguments)
        .output()
        .expect("Python starts");
    assert!(
        done.status.success(),
        "{}: {}{}",
        script.display(),
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
